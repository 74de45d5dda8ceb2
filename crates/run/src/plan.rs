//! From a revision to what the runtime starts: images found, variables put together, secrets read.

use ingress::RevisionId;
use kernel::{
    Principal,
    ports::{Image, LogSource},
};

use crate::{
    Run,
    record::{Container, EnvSource, Revision, SecretVersion},
    rules,
    runtime::{Plan, Secretive},
    words,
};

/// Where programs are looked for when an image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of a revision for the ingress.
pub(crate) fn revision_id(revision: &Revision) -> RevisionId {
    RevisionId::new(revision.resource_name())
}

/// Everything needed to start an instance of a revision.
///
/// # Errors
/// A sentence: the image is gone, a secret may no longer be read.
pub(crate) async fn make(run: &Run, revision: &Revision) -> Result<Plan, String> {
    let template = revision.template.clone().unwrap_or_default();
    let container = rules::ingress_container(&template).ok_or("the revision has no container")?;
    let image = pinned_image(run, revision, container).await?;
    let port = rules::port(container);
    let source = LogSource {
        project: revision.project.as_str().into(),
        region: revision.region.as_str().into(),
        service: revision.service.as_str().into(),
        revision: revision.name.as_str().into(),
        instance: rules::instance_id().map_err(|error| error.message().to_owned())?.into(),
    };
    Ok(Plan {
        project_number: run.ports.projects.known(&revision.project).map_or(0, |project| project.number),
        service_account: template.service_account.as_str().into(),
        argv: argv(container, &image)?,
        env: Secretive(environment(run, revision, container, &image, port).await?),
        cwd: if container.working_dir.is_empty() { image.working_dir } else { container.working_dir.clone() },
        user: image.user,
        layers: image.layers,
        memory: rules::memory(&container.memory),
        cpu: rules::cpu(&container.cpu),
        port,
        source,
    })
}

/// The image that was found when the revision was made, whatever its tag means by now.
async fn pinned_image(run: &Run, revision: &Revision, container: &Container) -> Result<Image, String> {
    let repository = container.image.split('@').next().unwrap_or_default();
    let untagged = match repository.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => repository,
    };
    let reference = match revision.image_digests.first() {
        Some(digest) => format!("{untagged}@{digest}"),
        None => container.image.clone(),
    };
    run.ports.images.resolve(&reference).await.map_err(|error| error.message().to_owned())
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

/// The image's variables, then the platform's, then the service's: later ones win.
async fn environment(
    run: &Run,
    revision: &Revision,
    container: &Container,
    image: &Image,
    port: u16,
) -> Result<Vec<(String, String)>, String> {
    let mut all = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOME".to_owned(), "/root".to_owned())];
    for (name, value) in image.env.iter().filter_map(|pair| pair.split_once('=')) {
        set(&mut all, name, value.to_owned());
    }
    for variable in &container.env {
        let value = match &variable.source {
            Some(EnvSource::Value(value)) => value.clone(),
            Some(EnvSource::Secret(wanted)) => read_secret(run, revision, wanted).await?,
            None => String::new(),
        };
        set(&mut all, &variable.name, value);
    }
    for (name, value) in [
        ("PORT", port.to_string()),
        ("K_SERVICE", revision.service.clone()),
        ("K_REVISION", revision.name.clone()),
        ("K_CONFIGURATION", revision.service.clone()),
    ] {
        set(&mut all, name, value);
    }
    Ok(all)
}

fn set(all: &mut Vec<(String, String)>, name: &str, value: String) {
    match all.iter_mut().find(|(known, _)| known == name) {
        Some(known) => known.1 = value,
        None => all.push((name.to_owned(), value)),
    }
}

/// A secret's value, read as the revision's account.
///
/// # Errors
/// In Cloud Run's words: not there, or not allowed.
pub(crate) async fn read_secret(
    run: &Run,
    revision: &Revision,
    wanted: &SecretVersion,
) -> Result<String, String> {
    let account =
        revision.template.as_ref().map(|template| template.service_account.clone()).unwrap_or_default();
    let secret = match wanted.secret.starts_with("projects/") {
        true => wanted.secret.clone(),
        false => format!("projects/{}/secrets/{}", revision.project, wanted.secret),
    };
    let name = format!("{secret}/versions/{}", wanted.version);
    let caller = run.caller(Principal::ServiceAccount(account.as_str().into()));
    let payload = run.ports.secrets.access(&caller, &name).await.map_err(|error| match error.code() {
        kernel::Code::PermissionDenied => words::secret_denied(&name, &account),
        kernel::Code::NotFound => words::secret_missing(&name),
        _ => error.message().to_owned(),
    })?;
    String::from_utf8(payload.data.to_vec())
        .map_err(|_| format!("Secret {name} is not text, and so cannot be a variable"))
}
