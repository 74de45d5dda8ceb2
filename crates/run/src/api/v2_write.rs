//! From our records to v2.

use apis::google::cloud::run::v2::{self, condition, env_var::Values, probe::ProbeType, volume::VolumeType};
use kernel::mirror::Versioned;
use prost_types::Duration;

use super::{authorization, shared::shown_stage};
use crate::{
    Run,
    plan::untagged,
    record::{
        Condition, Container, EnvSource, EnvVar, Kind, Probe, ProbeKind, Revision, Scaling, SecretFile,
        Service, State, Template, Traffic, Volume, VolumeKind,
    },
};

pub(super) fn service(run: &Run, held: &Versioned<Service>) -> v2::Service {
    let mut service = held.value.clone();
    let binary_authorization = authorization::shown(&mut service.annotations);
    let revision = |name: &str| match name {
        "" => String::new(),
        name => format!("{}/revisions/{name}", service.resource_name()),
    };
    let (url, settled) = (run.url(&service), service.observed_generation == service.generation);
    v2::Service {
        name: service.resource_name(),
        latest_ready_revision: revision(&service.latest_ready),
        latest_created_revision: revision(&service.latest_created),
        traffic: asked_traffic(&service),
        traffic_statuses: service.serving.iter().map(|target| serving(run, &service, target)).collect(),
        terminal_condition: Some(condition("Ready", &service.ready)),
        conditions: vec![
            condition("RoutesReady", &service.routes_ready),
            condition("ConfigurationsReady", &service.configurations_ready),
        ],
        binary_authorization,
        description: service.description,
        uid: service.uid,
        generation: service.generation,
        labels: service.labels,
        annotations: service.annotations,
        create_time: service.created,
        update_time: service.updated,
        creator: service.creator,
        last_modifier: service.last_modifier,
        client: service.client,
        client_version: service.client_version,
        ingress: service.ingress.max(1),
        launch_stage: shown_stage(service.launch_stage),
        template: service.template.as_ref().map(template),
        scaling: service.scaling.map(service_scaling),
        invoker_iam_disabled: service.invoker_iam_disabled,
        default_uri_disabled: service.default_uri_disabled,
        custom_audiences: service.custom_audiences,
        urls: vec![url.clone()],
        observed_generation: service.observed_generation,
        uri: url,
        reconciling: !settled,
        etag: held.etag(),
        ..Default::default()
    }
}

pub(super) fn revision(held: &Versioned<Revision>) -> v2::Revision {
    let revision = held.value.clone();
    let mut frozen = template(&revision.template.clone().unwrap_or_default());
    if revision.kind() == Kind::WorkerPool {
        (frozen.scaling, frozen.timeout) = (None, None);
    }
    let mut containers = frozen.containers;
    for (container, digest) in containers.iter_mut().zip(&revision.image_digests) {
        if !container.image.contains('@') {
            container.image = format!("{}@{digest}", untagged(&container.image));
        }
    }
    v2::Revision {
        name: revision.resource_name(),
        uid: revision.uid,
        generation: 1,
        labels: frozen.labels,
        annotations: frozen.annotations,
        create_time: revision.created,
        update_time: revision.updated,
        launch_stage: shown_stage(0),
        service: revision.service,
        scaling: frozen.scaling,
        max_instance_request_concurrency: frozen.max_instance_request_concurrency,
        timeout: frozen.timeout,
        service_account: frozen.service_account,
        containers,
        volumes: frozen.volumes,
        execution_environment: frozen.execution_environment,
        reconciling: revision.ready.as_ref().is_none_or(|ready| ready.state() == State::Unknown),
        conditions: ["Ready", "ContainerHealthy", "ResourcesAvailable"]
            .map(|kind| condition(kind, &revision.ready))
            .to_vec(),
        observed_generation: 1,
        session_affinity: frozen.session_affinity,
        creator: revision.creator,
        etag: held.etag(),
        ..Default::default()
    }
}

pub(super) fn template(template: &Template) -> v2::RevisionTemplate {
    v2::RevisionTemplate {
        revision: template.revision.clone(),
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
        scaling: Some(revision_scaling(&template.scaling.unwrap_or_default())),
        timeout: Some(Duration { seconds: template.timeout_seconds.into(), nanos: 0 }),
        service_account: template.service_account.clone(),
        containers: template.containers.iter().map(container).collect(),
        volumes: template.volumes.iter().map(volume).collect(),
        execution_environment: template.execution_environment,
        max_instance_request_concurrency: template.concurrency as i32,
        session_affinity: template.session_affinity,
        ..Default::default()
    }
}

fn container(container: &Container) -> v2::Container {
    v2::Container {
        name: container.name.clone(),
        image: container.image.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        env: container.env.iter().map(env).collect(),
        resources: Some(v2::ResourceRequirements {
            limits: [
                ("cpu".to_owned(), container.cpu.clone()),
                ("memory".to_owned(), container.memory.clone()),
            ]
            .into(),
            cpu_idle: container.cpu_idle,
            startup_cpu_boost: container.startup_cpu_boost,
        }),
        ports: match container.port {
            0 => Vec::new(),
            port => {
                vec![v2::ContainerPort { name: container.port_name.clone(), container_port: port as i32 }]
            }
        },
        volume_mounts: container
            .mounts
            .iter()
            .map(|mount| v2::VolumeMount {
                name: mount.volume.clone(),
                mount_path: mount.path.clone(),
                ..Default::default()
            })
            .collect(),
        working_dir: container.working_dir.clone(),
        liveness_probe: container.liveness_probe.as_ref().map(probe),
        readiness_probe: container.readiness_probe.as_ref().map(probe),
        startup_probe: match (&container.startup_probe, container.port) {
            (Some(asked), _) => Some(probe(asked)),
            (None, 0) => None,
            (None, port) => Some(default_probe(port)),
        },
        depends_on: container.depends_on.clone(),
        ..Default::default()
    }
}

/// The startup probe that Cloud Run shows for containers without one.
fn default_probe(port: u32) -> v2::Probe {
    v2::Probe {
        initial_delay_seconds: 0,
        timeout_seconds: 240,
        period_seconds: 240,
        failure_threshold: 1,
        probe_type: Some(ProbeType::TcpSocket(v2::TcpSocketAction { port: port as i32 })),
    }
}

fn env(variable: &EnvVar) -> v2::EnvVar {
    let values = match &variable.source {
        Some(EnvSource::Value(value)) => Values::Value(value.clone()),
        Some(EnvSource::Secret(secret)) => Values::ValueSource(v2::EnvVarSource {
            secret_key_ref: Some(v2::SecretKeySelector {
                secret: secret.secret.clone(),
                version: secret.version.clone(),
            }),
        }),
        None => Values::Value(String::new()),
    };
    v2::EnvVar { name: variable.name.clone(), values: Some(values) }
}

fn probe(probe: &Probe) -> v2::Probe {
    v2::Probe {
        initial_delay_seconds: probe.initial_delay as i32,
        timeout_seconds: probe.timeout as i32,
        period_seconds: probe.period as i32,
        failure_threshold: probe.failure_threshold as i32,
        probe_type: probe.kind.as_ref().map(|kind| match kind {
            ProbeKind::Http(http) => ProbeType::HttpGet(v2::HttpGetAction {
                path: http.path.clone(),
                http_headers: http
                    .headers
                    .iter()
                    .map(|(name, value)| v2::HttpHeader { name: name.clone(), value: value.clone() })
                    .collect(),
                port: http.port as i32,
            }),
            ProbeKind::Tcp(tcp) => ProbeType::TcpSocket(v2::TcpSocketAction { port: tcp.port as i32 }),
            ProbeKind::Grpc(grpc) => {
                ProbeType::Grpc(v2::GrpcAction { port: grpc.port as i32, service: grpc.service.clone() })
            }
        }),
    }
}

fn volume(volume: &Volume) -> v2::Volume {
    let kind = volume.kind.as_ref().map(|kind| match kind {
        VolumeKind::CloudSql(sql) => {
            VolumeType::CloudSqlInstance(v2::CloudSqlInstance { instances: sql.instances.clone() })
        }
        VolumeKind::Memory(memory) => VolumeType::EmptyDir(v2::EmptyDirVolumeSource {
            medium: 1,
            size_limit: memory.size_limit.clone(),
        }),
        VolumeKind::Secret(secret) => VolumeType::Secret(v2::SecretVolumeSource {
            secret: secret.secret.clone(),
            items: secret.items.iter().map(secret_file).collect(),
            default_mode: secret.default_mode as i32,
        }),
    });
    v2::Volume { name: volume.name.clone(), volume_type: kind }
}

fn secret_file(file: &SecretFile) -> v2::VersionToPath {
    v2::VersionToPath { path: file.path.clone(), version: file.version.clone(), mode: file.mode as i32 }
}

pub(super) fn asked_traffic(service: &Service) -> Vec<v2::TrafficTarget> {
    let latest = v2::TrafficTargetAllocationType::Latest;
    if service.traffic.is_empty() {
        return vec![v2::TrafficTarget { r#type: latest.into(), percent: 100, ..Default::default() }];
    }
    let target = |target: &Traffic| v2::TrafficTarget {
        r#type: kind(target.revision.is_empty()),
        revision: target.revision.clone(),
        percent: target.percent as i32,
        tag: target.tag.clone(),
    };
    service.traffic.iter().map(target).collect()
}

fn serving(run: &Run, service: &Service, target: &Traffic) -> v2::TrafficTargetStatus {
    v2::TrafficTargetStatus {
        r#type: kind(target.latest),
        revision: target.revision.clone(),
        percent: target.percent as i32,
        tag: target.tag.clone(),
        uri: if target.tag.is_empty() { String::new() } else { run.tag_url(service, &target.tag) },
    }
}

fn kind(is_latest: bool) -> i32 {
    match is_latest {
        true => v2::TrafficTargetAllocationType::Latest.into(),
        false => v2::TrafficTargetAllocationType::Revision.into(),
    }
}

fn revision_scaling(scaling: &Scaling) -> v2::RevisionScaling {
    v2::RevisionScaling {
        min_instance_count: scaling.min.unwrap_or(0) as i32,
        max_instance_count: scaling.max.unwrap_or(crate::rules::DEFAULT_MAX_INSTANCES) as i32,
    }
}

fn service_scaling(scaling: Scaling) -> v2::ServiceScaling {
    v2::ServiceScaling {
        min_instance_count: scaling.min.unwrap_or(0) as i32,
        max_instance_count: scaling.max.unwrap_or(0) as i32,
        manual_instance_count: scaling.manual.map(|manual| manual as i32),
        scaling_mode: scaling.manual.map_or(0, |_| v2::service_scaling::ScalingMode::Manual.into()),
    }
}

pub(super) fn condition(kind: &str, state: &Option<Condition>) -> v2::Condition {
    shown(kind, state, condition::State::ConditionReconciling, reason)
}

/// A condition as v2 shows it, with the word for one that is not known yet and what reasons are called.
pub(super) fn shown(
    kind: &str,
    state: &Option<Condition>,
    unknown: condition::State,
    reason: fn(&str) -> Option<condition::Reasons>,
) -> v2::Condition {
    let state = state.clone().unwrap_or_default();
    v2::Condition {
        r#type: kind.into(),
        state: match state.state() {
            State::True => condition::State::ConditionSucceeded,
            State::False => condition::State::ConditionFailed,
            State::Unknown => unknown,
        }
        .into(),
        severity: if state.state() == State::False { condition::Severity::Error.into() } else { 0 },
        reasons: reason(&state.reason),
        message: state.message,
        last_transition_time: state.since,
    }
}

fn reason(word: &str) -> Option<condition::Reasons> {
    use condition::{CommonReason as Common, Reasons, RevisionReason};
    Some(match word {
        "" => return None,
        "RevisionFailed" => Reasons::Reason(Common::RevisionFailed.into()),
        "ContainerMissing" => Reasons::Reason(Common::ContainerMissing.into()),
        "SecretsAccessCheckFailed" => Reasons::Reason(Common::SecretsAccessCheckFailed.into()),
        "HealthCheckContainerError" => {
            Reasons::RevisionReason(RevisionReason::HealthCheckContainerError.into())
        }
        _ => Reasons::Reason(Common::Internal.into()),
    })
}
