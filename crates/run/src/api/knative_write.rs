//! From our records to the Knative form.

use std::collections::BTreeMap;

use apis::google::discovery::run::v1 as knative;
use kernel::mirror::Versioned;

use super::shared::stage_name;
use crate::{
    Run,
    plan::untagged,
    reconcile::Failure,
    record::{
        Condition, Container, EnvSource, Ingress, Kind, Probe, ProbeKind, Revision, Scaling, SecretFile,
        Service, State, Template, Traffic, Volume, VolumeKind,
    },
    rules::CLOUD_SQL_VOLUME,
};

type Map = BTreeMap<String, String>;

const API_VERSION: &str = "serving.knative.dev/v1";

pub(super) fn service(run: &Run, held: &Versioned<Service>) -> knative::Service {
    let service = &held.value;
    knative::Service {
        api_version: Some(API_VERSION.into()),
        kind: Some("Service".into()),
        metadata: Some(metadata(run, held)),
        spec: Some(knative::ServiceSpec {
            template: service.template.as_ref().map(template),
            traffic: asked_traffic(service),
        }),
        status: Some(status(run, service)),
    }
}

fn metadata(run: &Run, held: &Versioned<Service>) -> knative::ObjectMeta {
    let service = &held.value;
    let number = namespace(run, &service.project);
    let mut labels = service.labels.clone();
    labels.insert("cloud.googleapis.com/location".into(), service.region.clone());
    knative::ObjectMeta {
        name: Some(service.name.clone()),
        self_link: Some(format!("/apis/{API_VERSION}/namespaces/{number}/services/{}", service.name)),
        namespace: Some(number),
        uid: Some(service.uid.clone()),
        resource_version: Some(version(held.revision)),
        generation: Some(service.generation as i32),
        creation_timestamp: time(&service.created),
        labels,
        annotations: service_annotations(run, service),
        ..Default::default()
    }
}

fn service_annotations(run: &Run, service: &Service) -> Map {
    let mut all = service.annotations.clone();
    let mut set = |key: &str, value: String| {
        if !value.is_empty() {
            all.insert(key.to_owned(), value);
        }
    };
    set("serving.knative.dev/creator", service.creator.clone());
    set("serving.knative.dev/lastModifier", service.last_modifier.clone());
    set("run.googleapis.com/client-name", service.client.clone());
    set("run.googleapis.com/client-version", service.client_version.clone());
    set("run.googleapis.com/description", service.description.clone());
    set("run.googleapis.com/ingress", ingress(service.ingress()).into());
    set("run.googleapis.com/ingress-status", ingress(service.ingress()).into());
    set("run.googleapis.com/operation-id", service.operation.clone());
    set("run.googleapis.com/urls", serde_json::json!([run.url(service)]).to_string());
    set("run.googleapis.com/invoker-iam-disabled", when(service.invoker_iam_disabled));
    set("run.googleapis.com/default-url-disabled", when(service.default_uri_disabled));
    if !service.custom_audiences.is_empty() {
        set("run.googleapis.com/custom-audiences", serde_json::json!(service.custom_audiences).to_string());
    }
    let scaling = service.scaling.unwrap_or_default();
    set("run.googleapis.com/minScale", number(scaling.min));
    set("run.googleapis.com/maxScale", number(scaling.max));
    set("run.googleapis.com/manualInstanceCount", number(scaling.manual));
    set("run.googleapis.com/scalingMode", scaling.manual.map(|_| "manual".into()).unwrap_or_default());
    set("run.googleapis.com/launch-stage", stage_name(service.launch_stage).into());
    all
}

fn status(run: &Run, service: &Service) -> knative::ServiceStatus {
    let url = run.url(service);
    knative::ServiceStatus {
        observed_generation: Some(service.generation as i32),
        conditions: [
            ("Ready", &service.ready),
            ("ConfigurationsReady", &service.configurations_ready),
            ("RoutesReady", &service.routes_ready),
        ]
        .into_iter()
        .map(|(kind, state)| condition(kind, state))
        .collect(),
        latest_created_revision_name: text(&service.latest_created),
        latest_ready_revision_name: text(&service.latest_ready),
        traffic: service.serving.iter().map(|target| serving_target(run, service, target)).collect(),
        address: Some(knative::Addressable { url: Some(url.clone()) }),
        url: Some(url),
    }
}

pub(super) fn revision(run: &Run, held: &Versioned<Revision>) -> knative::Revision {
    let revision = &held.value;
    let frozen = revision.template.clone().unwrap_or_default();
    let template = template(&frozen);
    let number = namespace(run, &revision.project);
    let mut annotations = template.metadata.map(|metadata| metadata.annotations).unwrap_or_default();
    annotations.insert("serving.knative.dev/creator".into(), revision.creator.clone());
    let (owner_version, owner_kind) = match revision.kind() {
        Kind::Service => (API_VERSION, "Configuration"),
        Kind::WorkerPool => (super::jobs_knative_write::API_VERSION, "WorkerPool"),
    };
    knative::Revision {
        api_version: Some(API_VERSION.into()),
        kind: Some("Revision".into()),
        metadata: Some(knative::ObjectMeta {
            name: Some(revision.name.clone()),
            self_link: Some(format!("/apis/{API_VERSION}/namespaces/{number}/revisions/{}", revision.name)),
            namespace: Some(number),
            uid: Some(revision.uid.clone()),
            resource_version: Some(version(held.revision)),
            generation: Some(1),
            creation_timestamp: time(&revision.created),
            labels: revision_labels(revision),
            annotations,
            owner_references: vec![knative::OwnerReference {
                api_version: Some(owner_version.into()),
                kind: Some(owner_kind.into()),
                name: Some(revision.service.clone()),
                uid: Some(revision.service_uid.clone()),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }],
            ..Default::default()
        }),
        spec: template.spec,
        status: Some(revision_status(run, revision)),
    }
}

fn revision_status(run: &Run, revision: &Revision) -> knative::RevisionStatus {
    let containers =
        revision.template.as_ref().map(|template| template.containers.as_slice()).unwrap_or_default();
    // Of the container that requests go to.
    let main = containers.iter().position(|container| container.port != 0).unwrap_or(0);
    let image = containers.get(main).map_or("", |container| container.image.as_str());
    let repository = image.split('@').next().unwrap_or_default();
    let digest = revision.image_digests.get(main).map(|digest| format!("{}@{digest}", untagged(repository)));
    let states =
        ["Ready", "ContainerHealthy", "ResourcesAvailable"].map(|kind| (kind, revision.ready.clone()));
    let active = [("Active", Some(active(run, revision)))];
    knative::RevisionStatus {
        observed_generation: Some(1),
        conditions: states.iter().chain(&active).map(|(kind, state)| condition(kind, state)).collect(),
        image_digest: digest,
        service_name: Some(revision.service.clone()).filter(|_| revision.kind() == Kind::Service),
        ..Default::default()
    }
}

/// Whether requests come to a revision, or instances are kept of it.
fn active(run: &Run, revision: &Revision) -> Condition {
    let service = run.services.find(&revision.parent());
    let serves =
        service.is_some_and(|held| held.serving.iter().any(|target| target.revision == revision.name));
    let since = revision.updated;
    match serves {
        true => Condition { state: State::True.into(), since, ..Condition::default() },
        false => Condition { since, ..Failure::new("Retired", "").into_condition() },
    }
}

/// The labels that gcloud selects revisions by.
pub(super) fn revision_labels(revision: &Revision) -> Map {
    let mut labels = revision.template.as_ref().map(|template| template.labels.clone()).unwrap_or_default();
    labels.insert("cloud.googleapis.com/location".into(), revision.region.clone());
    if revision.kind() == Kind::WorkerPool {
        labels.insert(super::knative_list::POOL_LABEL.into(), revision.service.clone());
        return labels;
    }
    labels.insert("serving.knative.dev/service".into(), revision.service.clone());
    labels.insert("serving.knative.dev/configuration".into(), revision.service.clone());
    labels.insert(
        "serving.knative.dev/configurationGeneration".into(),
        revision.service_generation.to_string(),
    );
    labels.insert("serving.knative.dev/serviceUid".into(), revision.service_uid.clone());
    labels
}

pub(super) fn template(template: &Template) -> knative::RevisionTemplate {
    let first = template.containers.first();
    knative::RevisionTemplate {
        metadata: Some(knative::ObjectMeta {
            name: text(&template.revision),
            labels: template.labels.clone(),
            annotations: template_annotations(template, first),
            ..Default::default()
        }),
        spec: Some(knative::RevisionSpec {
            container_concurrency: count(template.concurrency),
            timeout_seconds: count(template.timeout_seconds),
            service_account_name: text(&template.service_account),
            containers: template.containers.iter().map(container).collect(),
            volumes: template.volumes.iter().filter_map(volume).collect(),
            ..Default::default()
        }),
    }
}

fn template_annotations(template: &Template, first: Option<&Container>) -> Map {
    let mut all = template.annotations.clone();
    let mut set = |key: &str, value: String| {
        if !value.is_empty() {
            all.insert(key.to_owned(), value);
        }
    };
    let Scaling { min, max, .. } = template.scaling.unwrap_or_default();
    set("autoscaling.knative.dev/minScale", number(min));
    set("autoscaling.knative.dev/maxScale", number(max));
    set("run.googleapis.com/sessionAffinity", when(template.session_affinity));
    set("run.googleapis.com/startup-cpu-boost", when(first.is_some_and(|first| first.startup_cpu_boost)));
    if first.is_some_and(|first| !first.cpu_idle) {
        set("run.googleapis.com/cpu-throttling", "false".into());
    }
    set(
        "run.googleapis.com/execution-environment",
        match template.execution_environment {
            1 => "gen1",
            2 => "gen2",
            _ => "",
        }
        .into(),
    );
    let needs: BTreeMap<&str, &[String]> = template
        .containers
        .iter()
        .filter(|container| !container.depends_on.is_empty())
        .map(|container| (&*container.name, &*container.depends_on))
        .collect();
    if !needs.is_empty() {
        set(super::knative_read::NEEDS, serde_json::json!(needs).to_string());
    }
    for volume in &template.volumes {
        if let Some(VolumeKind::CloudSql(sql)) = &volume.kind {
            set("run.googleapis.com/cloudsql-instances", sql.instances.join(","));
        }
    }
    all
}

/// A volume; databases are an annotation in this form.
fn volume(volume: &Volume) -> Option<knative::Volume> {
    let mut written = knative::Volume { name: Some(volume.name.clone()), ..Default::default() };
    match &volume.kind {
        Some(VolumeKind::Memory(memory)) => {
            written.empty_dir = Some(knative::EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: text(&memory.size_limit),
            });
        }
        Some(VolumeKind::Secret(secret)) => {
            written.secret = Some(knative::SecretVolumeSource {
                secret_name: Some(secret.secret.clone()),
                items: secret.items.iter().map(secret_file).collect(),
                default_mode: count(secret.default_mode),
                ..Default::default()
            });
        }
        Some(VolumeKind::CloudSql(_)) => return None,
        None => {}
    }
    Some(written)
}

fn secret_file(file: &SecretFile) -> knative::KeyToPath {
    knative::KeyToPath {
        key: Some(file.version.clone()),
        path: Some(file.path.clone()),
        mode: count(file.mode),
    }
}

/// A number that is not shown when there is none.
fn count(count: u32) -> Option<i32> {
    Some(count as i32).filter(|count| *count != 0)
}

fn container(container: &Container) -> knative::Container {
    knative::Container {
        name: text(&container.name),
        image: Some(container.image.clone()),
        command: container.command.clone(),
        args: container.args.clone(),
        env: container.env.iter().map(env).collect(),
        ports: match container.port {
            0 => Vec::new(),
            port => vec![knative::ContainerPort {
                name: text(&container.port_name),
                container_port: Some(port as i32),
                protocol: None,
            }],
        },
        resources: Some(knative::ResourceRequirements {
            limits: [
                ("cpu".to_owned(), container.cpu.clone()),
                ("memory".to_owned(), container.memory.clone()),
            ]
            .into(),
            requests: Map::new(),
        }),
        startup_probe: match (&container.startup_probe, container.port) {
            (Some(asked), _) => Some(probe(asked)),
            (None, 0) => None,
            (None, _) => Some(default_probe(container)),
        },
        liveness_probe: container.liveness_probe.as_ref().map(probe),
        readiness_probe: container.readiness_probe.as_ref().map(probe),
        working_dir: text(&container.working_dir),
        volume_mounts: container
            .mounts
            .iter()
            .filter(|mount| mount.volume != CLOUD_SQL_VOLUME)
            .map(|mount| knative::VolumeMount {
                name: Some(mount.volume.clone()),
                mount_path: Some(mount.path.clone()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// The startup probe that Cloud Run shows for containers without one.
fn default_probe(container: &Container) -> knative::Probe {
    knative::Probe {
        timeout_seconds: Some(240),
        period_seconds: Some(240),
        failure_threshold: Some(1),
        tcp_socket: Some(knative::TcpSocketAction { port: Some(container.port as i32), host: None }),
        ..Default::default()
    }
}

fn env(variable: &crate::record::EnvVar) -> knative::EnvVar {
    let (value, from) = match &variable.source {
        Some(EnvSource::Value(value)) => (Some(value.clone()), None),
        Some(EnvSource::Secret(secret)) => {
            let reference = knative::SecretKeySelector {
                name: Some(secret.secret.clone()),
                key: Some(secret.version.clone()),
                ..Default::default()
            };
            (None, Some(knative::EnvVarSource { secret_key_ref: Some(reference), ..Default::default() }))
        }
        None => (None, None),
    };
    knative::EnvVar { name: Some(variable.name.clone()), value, value_from: from }
}

fn probe(probe: &Probe) -> knative::Probe {
    let mut written = knative::Probe {
        initial_delay_seconds: Some(probe.initial_delay as i32).filter(|delay| *delay != 0),
        timeout_seconds: Some(probe.timeout as i32),
        period_seconds: Some(probe.period as i32),
        failure_threshold: Some(probe.failure_threshold as i32),
        success_threshold: count(probe.success_threshold),
        ..Default::default()
    };
    match &probe.kind {
        Some(ProbeKind::Http(http)) => {
            let headers = http.headers.iter().map(|(name, value)| knative::HttpHeader {
                name: Some(name.clone()),
                value: Some(value.clone()),
            });
            written.http_get = Some(knative::HttpGetAction {
                path: text(&http.path),
                port: count(http.port),
                http_headers: headers.collect(),
                ..Default::default()
            });
        }
        Some(ProbeKind::Tcp(tcp)) => {
            written.tcp_socket = Some(knative::TcpSocketAction { port: count(tcp.port), host: None })
        }
        Some(ProbeKind::Grpc(grpc)) => {
            written.grpc = Some(knative::GrpcAction { port: count(grpc.port), service: text(&grpc.service) })
        }
        None => {}
    }
    written
}

pub(super) fn asked_traffic(service: &Service) -> Vec<knative::TrafficTarget> {
    if service.traffic.is_empty() {
        return vec![knative::TrafficTarget {
            latest_revision: Some(true),
            percent: Some(100),
            ..Default::default()
        }];
    }
    let target = |target: &Traffic| knative::TrafficTarget {
        latest_revision: target.revision.is_empty().then_some(true),
        revision_name: text(&target.revision),
        percent: count(target.percent),
        tag: text(&target.tag),
        ..Default::default()
    };
    service.traffic.iter().map(target).collect()
}

fn serving_target(run: &Run, service: &Service, target: &Traffic) -> knative::TrafficTarget {
    knative::TrafficTarget {
        latest_revision: target.latest.then_some(true),
        revision_name: text(&target.revision),
        percent: count(target.percent),
        tag: text(&target.tag),
        url: (!target.tag.is_empty()).then(|| run.tag_url(service, &target.tag)),
        configuration_name: None,
    }
}

pub(super) fn condition(kind: &str, state: &Option<Condition>) -> knative::GoogleCloudRunV1Condition {
    let state = state.clone().unwrap_or_default();
    knative::GoogleCloudRunV1Condition {
        r#type: Some(kind.into()),
        status: Some(
            match state.state() {
                State::True => "True",
                State::False => "False",
                State::Unknown => "Unknown",
            }
            .into(),
        ),
        reason: text(&state.reason),
        message: text(&state.message),
        last_transition_time: time(&state.since),
        severity: None,
    }
}

fn ingress(ingress: Ingress) -> &'static str {
    match ingress {
        Ingress::Unspecified | Ingress::All => "all",
        Ingress::Internal => "internal",
        Ingress::InternalAndLoadBalancer => "internal-and-cloud-load-balancing",
    }
}

/// The namespace of an object is the project's number.
pub(super) fn namespace(run: &Run, project: &str) -> String {
    run.ports.projects.known(project).map_or_else(|| project.to_owned(), |project| project.number.to_string())
}

pub(super) fn version(revision: u64) -> String {
    kernel::etag::quoted(revision).trim_matches('"').to_owned()
}

pub(super) fn time(time: &Option<prost_types::Timestamp>) -> Option<String> {
    time.as_ref().map(ToString::to_string)
}

pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn when(holds: bool) -> String {
    if holds { "true".into() } else { String::new() }
}

fn number(number: Option<u32>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
