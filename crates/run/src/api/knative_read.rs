//! From the Knative form to ours.
//!
//! What is a field in v2 is often an annotation here. Annotations that the platform understands become fields; all
//! others are kept as they came.

use std::collections::BTreeMap;

use apis::google::discovery::run::v1 as knative;
use kernel::{Error, Result};

use super::{
    authorization,
    shared::{self, launch_stage},
    unserved,
};
use crate::{
    change::{Desired, NewRevision},
    record::{
        CloudSql, Container, EnvSource, EnvVar, GrpcProbe, HttpProbe, Ingress, Memory, Mount, Probe,
        ProbeKind, Scaling, SecretFile, SecretFiles, SecretVersion, TcpProbe, Template, Traffic, Volume,
        VolumeKind,
    },
    rules, words,
};

type Map = BTreeMap<String, String>;

/// Annotations that only the system writes: what a client sends back of them is dropped.
pub(super) const OURS: [&str; 6] = [
    "serving.knative.dev/creator",
    "serving.knative.dev/lastModifier",
    "run.googleapis.com/operation-id",
    "run.googleapis.com/ingress-status",
    "run.googleapis.com/urls",
    "run.googleapis.com/observed-generation",
];

/// Which containers start after which others, as JSON.
pub(super) const NEEDS: &str = "run.googleapis.com/container-dependencies";

/// What a manifest asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read; limits are checked by the engine.
pub(super) fn desired(service: &knative::Service) -> Result<Desired> {
    let metadata = service.metadata.clone().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    unserved::in_manifest(&metadata.annotations)?;
    authorization::check(&metadata.annotations)?;
    let mut annotations = metadata.annotations;
    annotations.retain(|key, _| !OURS.contains(&key.as_str()));
    let mut labels = metadata.labels;
    labels.remove("cloud.googleapis.com/location");
    let mut take = |key: &str| annotations.remove(&format!("run.googleapis.com/{key}"));
    let desired = Desired {
        description: take("description").unwrap_or_default(),
        ingress: ingress(take("ingress").as_deref())?.into(),
        invoker_iam_disabled: flag("run.googleapis.com/invoker-iam-disabled", take("invoker-iam-disabled"))?
            .unwrap_or(false),
        default_uri_disabled: flag("run.googleapis.com/default-url-disabled", take("default-url-disabled"))?
            .unwrap_or(false),
        custom_audiences: audiences(take("custom-audiences").as_deref())?,
        scaling: service_scaling(&mut take)?,
        client: take("client-name").unwrap_or_default(),
        client_version: take("client-version").unwrap_or_default(),
        launch_stage: launch_stage(take("launch-stage").as_deref()),
        template: template(spec.template.unwrap_or_default())?,
        traffic: spec.traffic.into_iter().map(traffic).collect::<Result<_>>()?,
        labels,
        annotations,
        revision: NewRevision::IfChanged,
    };
    Ok(desired)
}

pub(super) fn template(template: knative::RevisionTemplate) -> Result<Template> {
    let metadata = template.metadata.unwrap_or_default();
    let spec = template.spec.unwrap_or_default();
    unserved::in_manifests_template(&metadata.annotations, &spec)?;
    let mut annotations = metadata.annotations;
    let secrets = secret_aliases(annotations.get("run.googleapis.com/secrets").map_or("", String::as_str));
    let throttled =
        flag("run.googleapis.com/cpu-throttling", annotations.remove("run.googleapis.com/cpu-throttling"))?;
    let boost = flag(
        "run.googleapis.com/startup-cpu-boost",
        annotations.remove("run.googleapis.com/startup-cpu-boost"),
    )?;
    let scaling = revision_scaling(&mut annotations)?;
    let cloud_sql = annotations.remove("run.googleapis.com/cloudsql-instances");
    let affinity =
        flag("run.googleapis.com/sessionAffinity", annotations.remove("run.googleapis.com/sessionAffinity"))?;
    let environment = annotations.remove("run.googleapis.com/execution-environment");
    let needs = needs(annotations.remove(NEEDS).as_deref())?;
    let containers = spec.containers.into_iter().enumerate().map(|(index, container)| {
        refuse_foreign(index, &container)?;
        let mut container = read_container(container, &secrets)?;
        container.cpu_idle = throttled.unwrap_or(true);
        container.startup_cpu_boost = boost.unwrap_or(false);
        container.depends_on = needs.get(&container.name).cloned().unwrap_or_default();
        Ok(container)
    });
    Ok(Template {
        revision: metadata.name.unwrap_or_default(),
        labels: metadata.labels,
        scaling,
        timeout_seconds: positive("timeoutSeconds", spec.timeout_seconds)?,
        service_account: spec.service_account_name.unwrap_or_default(),
        containers: containers.collect::<Result<_>>()?,
        concurrency: positive("containerConcurrency", spec.container_concurrency)?,
        session_affinity: affinity.unwrap_or(false),
        execution_environment: match environment.as_deref() {
            Some("gen1") => 1,
            Some("gen2") => 2,
            _ => 0,
        },
        volumes: volumes(spec.volumes, &secrets, cloud_sql.as_deref())?,
        annotations,
        edition: 0,
    })
}

/// Which containers start after which others.
fn needs(text: Option<&str>) -> Result<BTreeMap<String, Vec<String>>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text).map_err(|_| {
        Error::bad_field(
            format!("spec.template.metadata.annotations[{NEEDS}]"),
            "must be a JSON object of container names, each with an array of the names it depends on",
        )
    })
}

/// Refuses what containers of Kubernetes have and those of Cloud Run have not: dropped, nobody would know.
fn refuse_foreign(index: usize, container: &knative::Container) -> Result<()> {
    let at = |field: &str| format!("spec.template.spec.containers[{index}].{field}");
    let foreign = [
        ("env_from", !container.env_from.is_empty()),
        ("security_context", container.security_context.is_some()),
    ];
    match foreign.iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(Error::bad_field(at(field), format!("{}: is not supported.", at(field)))),
        None => words::at_most_one_port(&at("ports"), container.ports.len()),
    }
}

fn read_container(container: knative::Container, secrets: &Map) -> Result<Container> {
    let mut limits = container.resources.unwrap_or_default().limits;
    let port = container.ports.first().cloned().unwrap_or_default();
    Ok(Container {
        name: container.name.unwrap_or_default(),
        image: container.image.unwrap_or_default(),
        command: container.command,
        args: container.args,
        env: container.env.into_iter().map(|variable| env(variable, secrets)).collect::<Result<_>>()?,
        cpu: limits.remove("cpu").unwrap_or_default(),
        memory: limits.remove("memory").unwrap_or_default(),
        port: positive("containerPort", port.container_port)?,
        port_name: port.name.unwrap_or_default(),
        startup_probe: container.startup_probe.map(probe).transpose()?,
        liveness_probe: container.liveness_probe.map(probe).transpose()?,
        readiness_probe: container.readiness_probe.map(probe).transpose()?,
        working_dir: container.working_dir.unwrap_or_default(),
        mounts: container.volume_mounts.into_iter().map(mount).collect::<Result<_>>()?,
        ..Container::default()
    })
}

fn env(variable: knative::EnvVar, secrets: &Map) -> Result<EnvVar> {
    let name = variable.name.unwrap_or_default();
    let Some(from) = variable.value_from else {
        return Ok(EnvVar { name, source: Some(EnvSource::Value(variable.value.unwrap_or_default())) });
    };
    let reference = from.secret_key_ref.ok_or_else(|| {
        Error::invalid(format!("The variable {name} takes its value from something that is not a secret."))
    })?;
    let secret = reference.name.unwrap_or_default();
    let secret = secrets.get(&secret).cloned().unwrap_or(secret);
    let version = reference.key.filter(|key| !key.is_empty()).unwrap_or_else(|| "latest".into());
    Ok(EnvVar { name, source: Some(EnvSource::Secret(SecretVersion { secret, version })) })
}

fn probe(probe: knative::Probe) -> Result<Probe> {
    let kind = match (probe.http_get, probe.tcp_socket, probe.grpc) {
        (Some(http), None, None) => Some(ProbeKind::Http(HttpProbe {
            path: http.path.unwrap_or_default(),
            port: positive("port", http.port)?,
            headers: http
                .http_headers
                .into_iter()
                .map(|h| (h.name.unwrap_or_default(), h.value.unwrap_or_default()))
                .collect(),
        })),
        (None, Some(tcp), None) => Some(ProbeKind::Tcp(TcpProbe { port: positive("port", tcp.port)? })),
        (None, None, Some(grpc)) => Some(ProbeKind::Grpc(GrpcProbe {
            port: positive("port", grpc.port)?,
            service: grpc.service.unwrap_or_default(),
        })),
        _ => None,
    };
    Ok(Probe {
        initial_delay: positive("initialDelaySeconds", probe.initial_delay_seconds)?,
        timeout: positive("timeoutSeconds", probe.timeout_seconds)?,
        period: positive("periodSeconds", probe.period_seconds)?,
        failure_threshold: positive("failureThreshold", probe.failure_threshold)?,
        kind,
        success_threshold: positive("successThreshold", probe.success_threshold)?,
    })
}

fn mount(mount: knative::VolumeMount) -> Result<Mount> {
    let volume = mount.name.unwrap_or_default();
    match mount.sub_path.is_none_or(|path| path.is_empty()) {
        true => Ok(Mount { volume, path: mount.mount_path.unwrap_or_default() }),
        false => Err(words::no_sub_paths(&volume)),
    }
}

fn volumes(volumes: Vec<knative::Volume>, secrets: &Map, cloud_sql: Option<&str>) -> Result<Vec<Volume>> {
    let read: Result<Vec<_>> = volumes.into_iter().map(|one| volume(one, secrets)).collect();
    let mut read = read?;
    if let Some(instances) = cloud_sql.filter(|instances| !instances.is_empty()) {
        let instances = instances.split(',').map(|instance| instance.trim().to_owned()).collect();
        read.push(Volume {
            name: rules::CLOUD_SQL_VOLUME.into(),
            kind: Some(VolumeKind::CloudSql(CloudSql { instances })),
        });
    }
    Ok(read)
}

fn volume(volume: knative::Volume, secrets: &Map) -> Result<Volume> {
    let name = volume.name.unwrap_or_default();
    let kind = match (volume.empty_dir, volume.secret) {
        (Some(memory), None) => {
            Some(VolumeKind::Memory(Memory { size_limit: memory.size_limit.unwrap_or_default() }))
        }
        (None, Some(secret)) => Some(VolumeKind::Secret(secret_files(secret, secrets)?)),
        (Some(_), Some(_)) => None,
        (None, None) if volume.nfs.is_some() => return Err(words::volume_not_served(&name, "NFS")),
        (None, None) if volume.csi.is_some() => {
            return Err(words::volume_not_served(&name, "Cloud Storage"));
        }
        (None, None) if volume.config_map.is_some() => {
            return Err(words::volume_not_served(&name, "ConfigMap"));
        }
        (None, None) => None,
    };
    Ok(Volume { name, kind })
}

fn secret_files(secret: knative::SecretVolumeSource, secrets: &Map) -> Result<SecretFiles> {
    let name = secret.secret_name.unwrap_or_default();
    let item = |item: knative::KeyToPath| {
        Ok(SecretFile {
            path: item.path.unwrap_or_default(),
            version: item.key.unwrap_or_default(),
            mode: positive("mode", item.mode)?,
        })
    };
    Ok(SecretFiles {
        secret: secrets.get(&name).cloned().unwrap_or(name),
        items: secret.items.into_iter().map(item).collect::<Result<_>>()?,
        default_mode: positive("defaultMode", secret.default_mode)?,
    })
}

pub(super) fn traffic(target: knative::TrafficTarget) -> Result<Traffic> {
    let latest = target.latest_revision.unwrap_or(false);
    let revision = target.revision_name.unwrap_or_default();
    if latest && !revision.is_empty() {
        return Err(Error::bad_field(
            "spec.traffic",
            "A traffic target names either a revision or the latest one.",
        ));
    }
    Ok(Traffic {
        revision,
        percent: positive("percent", target.percent)?,
        tag: target.tag.unwrap_or_default(),
        latest: false,
    })
}

fn ingress(text: Option<&str>) -> Result<Ingress> {
    match text {
        None | Some("") => Ok(Ingress::Unspecified),
        Some("all") => Ok(Ingress::All),
        Some("internal") => Ok(Ingress::Internal),
        Some("internal-and-cloud-load-balancing") => Ok(Ingress::InternalAndLoadBalancer),
        Some(other) => Err(Error::bad_field(
            "metadata.annotations[run.googleapis.com/ingress]",
            format!("'{other}' is not one of all, internal, internal-and-cloud-load-balancing"),
        )),
    }
}

fn audiences(text: Option<&str>) -> Result<Vec<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let field = "metadata.annotations[run.googleapis.com/custom-audiences]";
    serde_json::from_str(text).map_err(|_| Error::bad_field(field, "must be a JSON array of strings"))
}

fn service_scaling(take: &mut impl FnMut(&str) -> Option<String>) -> Result<Option<Scaling>> {
    // Which mode it is, the number of instances says.
    take("scalingMode");
    let scaling = Scaling {
        min: count("run.googleapis.com/minScale", take("minScale"))?,
        max: count("run.googleapis.com/maxScale", take("maxScale"))?,
        manual: count("run.googleapis.com/manualInstanceCount", take("manualInstanceCount"))?,
    };
    Ok(Some(scaling).filter(|scaling| *scaling != Scaling::default()))
}

fn revision_scaling(annotations: &mut Map) -> Result<Option<Scaling>> {
    let (min, max) = ("autoscaling.knative.dev/minScale", "autoscaling.knative.dev/maxScale");
    let scaling = Scaling {
        min: count(min, annotations.remove(min))?,
        max: count(max, annotations.remove(max))?,
        manual: None,
    };
    Ok(Some(scaling).filter(|scaling| *scaling != Scaling::default()))
}

/// `alias:projects/P/secrets/S`, joined by commas.
fn secret_aliases(text: &str) -> Map {
    text.split(',')
        .filter_map(|pair| pair.trim().split_once(':'))
        .map(|(alias, secret)| (alias.to_owned(), secret.to_owned()))
        .collect()
}

pub(super) fn count(key: &str, text: Option<String>) -> Result<Option<u32>> {
    let read = |text: String| {
        text.parse().map_err(|_| {
            Error::bad_field(format!("metadata.annotations[{key}]"), format!("'{text}' is not a number"))
        })
    };
    text.map(read).transpose()
}

fn flag(key: &str, text: Option<String>) -> Result<Option<bool>> {
    let read = |text: String| match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::bad_field(
            format!("metadata.annotations[{key}]"),
            format!("'{text}' is neither true nor false"),
        )),
    };
    text.map(read).transpose()
}

pub(super) fn positive(field: &str, value: Option<i32>) -> Result<u32> {
    shared::count(field, value.unwrap_or(0))
}
