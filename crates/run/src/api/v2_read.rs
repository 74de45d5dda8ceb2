//! From v2 to our records.

use apis::google::cloud::run::v2::{self, env_var::Values, probe::ProbeType, volume::VolumeType};
use kernel::{Error, Result};

use super::{
    authorization,
    shared::{count, negative},
    unserved,
};
use crate::{
    change::{Desired, NewRevision},
    record::{
        CloudSql, Container, EnvSource, EnvVar, GrpcProbe, HttpProbe, Memory, Mount, Probe, ProbeKind,
        Scaling, SecretFile, SecretFiles, SecretVersion, TcpProbe, Template, Traffic, Volume, VolumeKind,
    },
    words,
};

/// What a service message asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read; limits are checked by the engine.
pub(super) fn desired(service: &v2::Service) -> Result<Desired> {
    unserved::in_service(service)?;
    let mut service = service.clone();
    authorization::keep(service.binary_authorization.take(), &mut service.annotations)?;
    Ok(Desired {
        labels: service.labels,
        annotations: service.annotations,
        description: service.description,
        ingress: service.ingress,
        invoker_iam_disabled: service.invoker_iam_disabled,
        default_uri_disabled: service.default_uri_disabled,
        custom_audiences: service.custom_audiences,
        template: template(service.template.unwrap_or_default())?,
        traffic: service.traffic.into_iter().map(traffic).collect::<Result<_>>()?,
        scaling: service
            .scaling
            .map(service_scaling)
            .transpose()?
            .filter(|scaling| *scaling != Scaling::default()),
        client: service.client,
        client_version: service.client_version,
        launch_stage: service.launch_stage,
        revision: NewRevision::IfChanged,
    })
}

pub(super) fn template(template: v2::RevisionTemplate) -> Result<Template> {
    unserved::in_template(&template)?;
    let seconds = template.timeout.map_or(0, |timeout| timeout.seconds);
    Ok(Template {
        revision: template.revision,
        labels: template.labels,
        annotations: template.annotations,
        scaling: template.scaling.map(revision_scaling).transpose()?,
        timeout_seconds: u32::try_from(seconds).map_err(|_| negative("template.timeout"))?,
        service_account: template.service_account,
        containers: template
            .containers
            .into_iter()
            .enumerate()
            .map(|(index, one)| {
                words::at_most_one_port(&format!("template.containers[{index}].ports"), one.ports.len())?;
                container(one)
            })
            .collect::<Result<_>>()?,
        concurrency: count(
            "template.max_instance_request_concurrency",
            template.max_instance_request_concurrency,
        )?,
        session_affinity: template.session_affinity,
        execution_environment: template.execution_environment,
        volumes: template.volumes.into_iter().map(volume).collect::<Result<_>>()?,
        edition: 0,
    })
}

fn container(container: v2::Container) -> Result<Container> {
    let resources = container.resources;
    let limit = |name: &str| {
        resources.as_ref().and_then(|resources| resources.limits.get(name)).cloned().unwrap_or_default()
    };
    let port = container.ports.first().cloned().unwrap_or_default();
    Ok(Container {
        cpu: limit("cpu"),
        memory: limit("memory"),
        // Without a word on resources CPU is there during requests only.
        cpu_idle: resources.as_ref().is_none_or(|resources| resources.cpu_idle),
        startup_cpu_boost: resources.as_ref().is_some_and(|resources| resources.startup_cpu_boost),
        name: container.name,
        image: container.image,
        command: container.command,
        args: container.args,
        env: container.env.into_iter().map(env).collect(),
        port: count("ports.container_port", port.container_port)?,
        port_name: port.name,
        startup_probe: container.startup_probe.map(probe).transpose()?,
        liveness_probe: container.liveness_probe.map(probe).transpose()?,
        readiness_probe: container.readiness_probe.map(probe).transpose()?,
        working_dir: container.working_dir,
        depends_on: container.depends_on,
        mounts: container.volume_mounts.into_iter().map(mount).collect::<Result<_>>()?,
    })
}

/// Leaves what v2 has no words for as it is: after how many successes a readiness probe has succeeded.
pub(super) fn keep_unsaid(asked: &mut Template, current: &Template) {
    for container in &mut asked.containers {
        let same = match current.containers.as_slice() {
            [only] if container.name.is_empty() => Some(only),
            all => all.iter().find(|one| one.name == container.name),
        };
        let before = same.and_then(|same| same.readiness_probe.as_ref());
        if let (Some(probe), Some(before)) = (&mut container.readiness_probe, before) {
            probe.success_threshold = before.success_threshold;
        }
    }
}

fn env(variable: v2::EnvVar) -> EnvVar {
    let source = match variable.values {
        None => EnvSource::Value(String::new()),
        Some(Values::Value(value)) => EnvSource::Value(value),
        Some(Values::ValueSource(source)) => {
            let secret = source.secret_key_ref.unwrap_or_default();
            let version = if secret.version.is_empty() { "latest".into() } else { secret.version };
            EnvSource::Secret(SecretVersion { secret: secret.secret, version })
        }
    };
    EnvVar { name: variable.name, source: Some(source) }
}

fn probe(probe: v2::Probe) -> Result<Probe> {
    Ok(Probe {
        initial_delay: count("initial_delay_seconds", probe.initial_delay_seconds)?,
        timeout: count("timeout_seconds", probe.timeout_seconds)?,
        period: count("period_seconds", probe.period_seconds)?,
        failure_threshold: count("failure_threshold", probe.failure_threshold)?,
        kind: probe.probe_type.map(probe_kind).transpose()?,
        // v2 has no word for it.
        success_threshold: 0,
    })
}

fn probe_kind(kind: ProbeType) -> Result<ProbeKind> {
    Ok(match kind {
        ProbeType::HttpGet(http) => ProbeKind::Http(HttpProbe {
            path: http.path,
            port: count("http_get.port", http.port)?,
            headers: http.http_headers.into_iter().map(|header| (header.name, header.value)).collect(),
        }),
        ProbeType::TcpSocket(tcp) => ProbeKind::Tcp(TcpProbe { port: count("tcp_socket.port", tcp.port)? }),
        ProbeType::Grpc(grpc) => {
            ProbeKind::Grpc(GrpcProbe { port: count("grpc.port", grpc.port)?, service: grpc.service })
        }
    })
}

fn volume(volume: v2::Volume) -> Result<Volume> {
    let kind = match volume.volume_type {
        Some(VolumeType::CloudSqlInstance(sql)) => {
            Some(VolumeKind::CloudSql(CloudSql { instances: sql.instances }))
        }
        Some(VolumeType::EmptyDir(memory)) => {
            Some(VolumeKind::Memory(Memory { size_limit: memory.size_limit }))
        }
        Some(VolumeType::Secret(secret)) => Some(VolumeKind::Secret(SecretFiles {
            secret: secret.secret,
            items: secret.items.into_iter().map(secret_file).collect::<Result<_>>()?,
            default_mode: count("default_mode", secret.default_mode)?,
        })),
        Some(VolumeType::Nfs(_)) => return Err(words::volume_not_served(&volume.name, "NFS")),
        Some(VolumeType::Gcs(_)) => return Err(words::volume_not_served(&volume.name, "Cloud Storage")),
        None => None,
    };
    Ok(Volume { name: volume.name, kind })
}

fn secret_file(item: v2::VersionToPath) -> Result<SecretFile> {
    Ok(SecretFile { path: item.path, version: item.version, mode: count("items.mode", item.mode)? })
}

fn mount(mount: v2::VolumeMount) -> Result<Mount> {
    match mount.sub_path.is_empty() {
        true => Ok(Mount { volume: mount.name, path: mount.mount_path }),
        false => Err(words::no_sub_paths(&mount.name)),
    }
}

pub(super) fn traffic(target: v2::TrafficTarget) -> Result<Traffic> {
    let is_latest = target.r#type() != v2::TrafficTargetAllocationType::Revision;
    if is_latest != target.revision.is_empty() {
        return Err(Error::bad_field(
            "traffic",
            "A traffic target names either a revision or the latest one.",
        ));
    }
    // Clients give the name alone or in full.
    let revision = target.revision.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Traffic {
        revision,
        percent: count("traffic.percent", target.percent)?,
        tag: target.tag,
        latest: false,
    })
}

fn revision_scaling(scaling: v2::RevisionScaling) -> Result<Scaling> {
    Ok(Scaling {
        min: some(count("scaling.min_instance_count", scaling.min_instance_count)?),
        max: some(count("scaling.max_instance_count", scaling.max_instance_count)?),
        manual: None,
    })
}

fn service_scaling(scaling: v2::ServiceScaling) -> Result<Scaling> {
    // A change of the mode alone leaves the number as it was.
    let is_automatic = scaling.scaling_mode() == v2::service_scaling::ScalingMode::Automatic;
    Ok(Scaling {
        min: some(count("scaling.min_instance_count", scaling.min_instance_count)?),
        max: some(count("scaling.max_instance_count", scaling.max_instance_count)?),
        manual: scaling
            .manual_instance_count
            .filter(|_| !is_automatic)
            .map(|manual| count("scaling.manual_instance_count", manual))
            .transpose()?,
    })
}

fn some(count: u32) -> Option<u32> {
    Some(count).filter(|count| *count != 0)
}

#[cfg(test)]
mod tests {
    use v2::service_scaling::ScalingMode;

    use super::*;

    #[test]
    fn who_goes_back_to_automatic_scaling_need_not_take_the_number_away() {
        let of = |mode: ScalingMode| v2::ServiceScaling {
            manual_instance_count: Some(3),
            scaling_mode: mode.into(),
            ..Default::default()
        };
        assert_eq!(service_scaling(of(ScalingMode::Manual)).unwrap().manual, Some(3));
        assert_eq!(service_scaling(of(ScalingMode::Unspecified)).unwrap().manual, Some(3));
        assert_eq!(service_scaling(of(ScalingMode::Automatic)).unwrap().manual, None);
    }
}
