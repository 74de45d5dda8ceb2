//! From a container to what the runtime starts: its image found, its variables put together, its secrets read.
//!
//! A service's instance and a job's task are made alike: what differs (whose they are, which variables the platform
//! sets) is in the [`Order`].

use std::sync::Arc;

use ingress::RevisionId;
use kernel::{
    Principal,
    ports::{HostMount, Image, LogSource, Owner, SecretPayload},
};

use crate::{
    Run,
    engine::Ports,
    reconcile::Failure,
    record::{Container, EnvSource, Kind, Revision, SecretVersion, Template, Volume},
    rules,
    runtime::{Beside, Held, Mount, MountKind, Plan, Secretive},
    volumes::{Sharing, Volumes, Whose},
    words,
};

/// Where programs are looked for when an image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Why something cannot start whose image is not there.
pub(crate) const IMAGE_MISSING: &str = "ContainerMissing";
/// Why something cannot start that may not read its secrets.
pub(crate) const SECRETS_REFUSED: &str = "SecretsAccessCheckFailed";

/// The code of an operation that fails for this reason.
pub(crate) fn code_of(reason: &str) -> kernel::Code {
    if reason == IMAGE_MISSING { kernel::Code::NotFound } else { kernel::Code::FailedPrecondition }
}

/// A container that is to be started, and whose it is.
pub(crate) struct Order<'a> {
    /// Project, region and all that its log is found by.
    pub(crate) source: LogSource,
    /// The account it runs as.
    pub(crate) service_account: &'a str,
    /// The container as it was asked for.
    pub(crate) container: &'a Container,
    /// The digest of its image; none: whatever the reference means now.
    pub(crate) digest: Option<&'a str>,
    /// What it can mount.
    pub(crate) volumes: &'a [Volume],
    /// Where it listens; 0: nowhere.
    pub(crate) port: u16,
    /// What the platform sets, over the image's and the container's own.
    pub(crate) variables: Vec<(&'static str, String)>,
}

/// The name of a revision for the ingress.
pub(crate) fn revision_id(revision: &Revision) -> RevisionId {
    RevisionId::new(revision.resource_name())
}

/// One container of an instance that is to be started.
pub(crate) struct Part {
    /// As it was asked for.
    pub(crate) container: Container,
    /// Whether requests go to it.
    pub(crate) takes_requests: bool,
    /// What the runtime is told.
    pub(crate) plan: Plan,
}

/// Everything needed to start an instance of a revision: its containers, each after those that it depends on.
///
/// # Errors
/// An image is gone, a secret may no longer be read.
pub(crate) async fn make(run: &Run, revision: &Revision) -> Result<Vec<Part>, Failure> {
    let template = revision.template.clone().unwrap_or_default();
    let digests: Vec<Option<&str>> = digests(revision).take(template.containers.len()).collect();
    let order = rules::ordered(&template.containers)
        .filter(|order| !order.is_empty())
        .ok_or_else(|| Failure::new("Internal", "the revision has no container"))?;
    let source = source(revision)?;
    let volumes = open_volumes(run, &source, &template.service_account, &template).await?;
    let mut parts = Vec::new();
    for index in order {
        let container = &template.containers[index];
        let takes_requests = rules::ingress_container(&template) == Some(container);
        let port = if takes_requests { rules::port(container) } else { 0 };
        let order = Order {
            source: LogSource { container: container.name.as_str().into(), ..source.clone() },
            service_account: &template.service_account,
            container,
            digest: digests[index],
            volumes: &template.volumes,
            port,
            variables: variables(revision, port),
        };
        let plan = with_volumes(run, order, volumes.clone()).await?;
        parts.push(Part { container: container.clone(), takes_requests, plan });
    }
    Ok(parts)
}

/// What the platform sets; the port only where requests go
/// (<https://cloud.google.com/run/docs/container-contract#env-vars>).
fn variables(revision: &Revision, port: u16) -> Vec<(&'static str, String)> {
    if revision.kind() == Kind::WorkerPool {
        return vec![
            ("CLOUD_RUN_WORKER_POOL", revision.service.clone()),
            ("CLOUD_RUN_WORKER_POOL_REVISION", revision.name.clone()),
        ];
    }
    let mut all = vec![
        ("K_SERVICE", revision.service.clone()),
        ("K_REVISION", revision.name.clone()),
        ("K_CONFIGURATION", revision.service.clone()),
    ];
    if port != 0 {
        all.push(("PORT", port.to_string()));
    }
    all
}

/// The volumes of all containers of an instance.
async fn open_volumes(
    run: &Run,
    source: &LogSource,
    account: &str,
    template: &Template,
) -> Result<Arc<Volumes>, Failure> {
    let memory = template.containers.iter().map(|container| rules::memory(&container.memory)).sum();
    let sharing = if template.containers.len() > 1 { Sharing::Several } else { Sharing::One };
    let whose = Whose { ports: run.ports.clone(), source: source.clone(), account: account.into() };
    let opened = Volumes::open(&whose, &template.volumes, memory, sharing).await;
    opened.map_err(|error| Failure::new("Internal", words::no_volumes(&error)))
}

/// The digests of a revision's images, as long as there are containers.
fn digests(revision: &Revision) -> impl Iterator<Item = Option<&str>> {
    revision.image_digests.iter().map(|digest| Some(digest.as_str())).chain(std::iter::repeat(None))
}

/// A new instance of a revision, for its log.
fn source(revision: &Revision) -> Result<LogSource, Failure> {
    let instance = rules::instance_id().map_err(|error| Failure::new("Internal", error.message()))?;
    Ok(LogSource {
        project: revision.project.as_str().into(),
        region: revision.region.as_str().into(),
        owner: match revision.kind() {
            Kind::Service => Owner::Revision {
                service: revision.service.as_str().into(),
                revision: revision.name.as_str().into(),
            },
            Kind::WorkerPool => Owner::Worker {
                pool: revision.service.as_str().into(),
                revision: revision.name.as_str().into(),
            },
        },
        instance: instance.into(),
        container: "".into(),
    })
}

/// Everything needed to start one container.
///
/// # Errors
/// The image is gone or has no program, a secret may not be read.
pub(crate) async fn one(run: &Run, order: Order<'_>) -> Result<Plan, Failure> {
    let alone = Template {
        containers: vec![order.container.clone()],
        volumes: order.volumes.to_vec(),
        ..Template::default()
    };
    let volumes = open_volumes(run, &order.source, order.service_account, &alone).await?;
    with_volumes(run, order, volumes).await
}

async fn with_volumes(run: &Run, order: Order<'_>, volumes: Arc<Volumes>) -> Result<Plan, Failure> {
    let container = order.container;
    let image = pinned_image(run, container, order.digest).await?;
    let argv = argv(container, &image).map_err(|why| Failure::new(IMAGE_MISSING, why))?;
    let env = environment(run, &order, &image).await?;
    let mounts = image.mounts.into_iter().map(from_image).chain(volumes.mounts(&container.mounts));
    Ok(Plan {
        project_number: run.ports.projects.known(&order.source.project).map_or(0, |project| project.number),
        service_account: order.service_account.into(),
        argv,
        env: Secretive(env),
        cwd: if container.working_dir.is_empty() { image.working_dir } else { container.working_dir.clone() },
        user: image.user,
        layers: image.layers,
        mounts: mounts.collect(),
        held: Held(Some(volumes)),
        beside: Beside::default(),
        remarks: image.remarks,
        memory: rules::memory(&container.memory),
        cpu: rules::cpu(&container.cpu),
        boost: boost(container),
        port: order.port,
        source: order.source,
    })
}

/// What CPU a container has while it starts and for a while after, in thousandths of a vCPU: twice what it has else, at
/// least two and at most eight (<https://cloud.google.com/run/docs/configuring/services/cpu#startup-boost>).
pub(crate) fn boost(container: &Container) -> u32 {
    let cpu = rules::cpu(&container.cpu);
    match container.startup_cpu_boost {
        true => (cpu * 2).clamp(2000, 8000).max(cpu),
        false => cpu,
    }
}

fn from_image(mount: HostMount) -> Mount {
    Mount { target: mount.target, what: MountKind::Host(mount.source) }
}

/// The image that was found when the digest was, whatever its tag means by now.
async fn pinned_image(run: &Run, container: &Container, digest: Option<&str>) -> Result<Image, Failure> {
    let repository = container.image.split('@').next().unwrap_or_default();
    let reference = match digest {
        Some(digest) => format!("{}@{digest}", untagged(repository)),
        None => container.image.clone(),
    };
    let found = run.ports.images.resolve(&reference).await;
    found.map_err(|error| Failure::new(IMAGE_MISSING, error.message()))
}

/// An image's name without its tag.
pub(crate) fn untagged(image: &str) -> &str {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// As Kubernetes and Cloud Run put it together: `command` replaces the entrypoint and drops the image's command;
/// `args` replace the command.
fn argv(container: &Container, image: &Image) -> Result<Vec<String>, String> {
    let (entrypoint, command) = match (container.command.is_empty(), container.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.command),
        (true, false) => (&image.entrypoint, &container.args),
        (false, _) => (&container.command, &container.args),
    };
    let argv: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if argv.is_empty() {
        Err("the image has neither an entrypoint nor a command, and none was given".into())
    } else {
        Ok(argv)
    }
}

/// The image's variables, then the container's, then the platform's: later ones win.
async fn environment(run: &Run, order: &Order<'_>, image: &Image) -> Result<Vec<(String, String)>, Failure> {
    let mut all = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOME".to_owned(), "/root".to_owned())];
    for (name, value) in image.env.iter().filter_map(|pair| pair.split_once('=')) {
        set(&mut all, name, value.to_owned());
    }
    for variable in &order.container.env {
        let value = match &variable.source {
            Some(EnvSource::Value(value)) => value.clone(),
            Some(EnvSource::Secret(wanted)) => {
                text(&read_secret(run, &order.source.project, order.service_account, wanted).await?)?
            }
            None => String::new(),
        };
        set(&mut all, &variable.name, value);
    }
    for (name, value) in &order.variables {
        set(&mut all, name, value.clone());
    }
    Ok(all)
}

fn set(all: &mut Vec<(String, String)>, name: &str, value: String) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some(known) => known.1 = value,
        None => all.push((name.to_owned(), value)),
    }
}

/// A secret as the value of a variable.
///
/// # Errors
/// When it is not text.
pub(crate) fn text(payload: &SecretPayload) -> Result<String, Failure> {
    String::from_utf8(payload.data.to_vec()).map_err(|_| {
        let message = format!("Secret {} is not text, and so cannot be a variable", payload.version);
        Failure::new(SECRETS_REFUSED, message)
    })
}

/// A secret, read as the account that something runs as.
///
/// # Errors
/// In Cloud Run's words: not there, or not allowed.
pub(crate) async fn read_secret(
    run: &Run,
    project: &str,
    account: &str,
    wanted: &SecretVersion,
) -> Result<SecretPayload, Failure> {
    payload(&run.ports, project, account, wanted).await
}

/// [`read_secret`], without the rest of Cloud Run.
pub(crate) async fn payload(
    ports: &Ports,
    project: &str,
    account: &str,
    wanted: &SecretVersion,
) -> Result<SecretPayload, Failure> {
    let secret = match wanted.secret.starts_with("projects/") {
        true => wanted.secret.clone(),
        false => format!("projects/{project}/secrets/{}", wanted.secret),
    };
    let name = format!("{secret}/versions/{}", wanted.version);
    let caller = ports.caller(Principal::ServiceAccount(account.into()));
    ports.secrets.access(&caller, &name).await.map_err(|error| {
        let message = match error.code() {
            kernel::Code::PermissionDenied => words::secret_denied(&name, account),
            kernel::Code::NotFound => words::secret_missing(&name),
            _ => error.message().to_owned(),
        };
        Failure::new(SECRETS_REFUSED, message)
    })
}
