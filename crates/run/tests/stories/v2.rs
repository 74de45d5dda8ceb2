//! What client libraries and Terraform do.

use std::{sync::Arc, time::Duration};

use apis::google::{
    cloud::run::v2::{self, revisions, services},
    longrunning::{Operation, operation},
};
use kernel::{Code, Result};
use prost::Message;

use crate::world::World;

pub(crate) const PARENT: &str = "projects/demo/locations/us-central1";

pub(crate) fn service(mode: &str) -> v2::Service {
    v2::Service {
        template: Some(v2::RevisionTemplate {
            containers: vec![v2::Container { image: format!("demo/{mode}:v1"), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same with a startup probe that gives up after so many seconds.
pub(crate) fn impatient(mode: &str, seconds: i32) -> v2::Service {
    let mut service = service(mode);
    service.template.as_mut().unwrap().containers[0].startup_probe = Some(v2::Probe {
        timeout_seconds: 1,
        period_seconds: 1,
        failure_threshold: seconds,
        probe_type: Some(v2::probe::ProbeType::TcpSocket(v2::TcpSocketAction { port: 8080 })),
        ..Default::default()
    });
    service
}

pub(crate) async fn create(world: &World, name: &str, service: v2::Service) -> Result<Operation> {
    let request = v2::CreateServiceRequest {
        parent: PARENT.into(),
        service_id: name.into(),
        service: Some(service),
        ..Default::default()
    };
    world.call(services::CREATE_SERVICE, request).await
}

pub(crate) async fn update(world: &World, service: v2::Service, paths: &[&str]) -> Result<Operation> {
    let paths: Vec<String> = paths.iter().map(|path| path.to_string()).collect();
    let update_mask = (!paths.is_empty()).then_some(prost_types::FieldMask { paths });
    let request = v2::UpdateServiceRequest { service: Some(service), update_mask, ..Default::default() };
    world.call(services::UPDATE_SERVICE, request).await
}

pub(crate) async fn read(world: &World, name: &str) -> Result<v2::Service> {
    let name = format!("{PARENT}/services/{name}");
    world.call(services::GET_SERVICE, v2::GetServiceRequest { name }).await
}

pub(crate) async fn delete(world: &World, name: &str) -> Result<Operation> {
    let name = format!("{PARENT}/services/{name}");
    world.call(services::DELETE_SERVICE, v2::DeleteServiceRequest { name, ..Default::default() }).await
}

/// The service that an operation ends with, or the code and message of its failure.
pub(crate) async fn end(world: &World, operation: &Operation) -> Result<v2::Service, (i32, String)> {
    let operations = world.engine().operations;
    let ended = operations.wait(&operation.name, Duration::from_secs(30)).await.unwrap();
    match ended.result {
        Some(operation::Result::Response(any)) => Ok(v2::Service::decode(any.value.as_slice()).unwrap()),
        Some(operation::Result::Error(status)) => Err((status.code, status.message)),
        None => panic!("{} has not ended", operation.name),
    }
}

pub(crate) async fn services_come_and_go_by_operations(world: Arc<World>) {
    let operation = create(&world, "tide", service("serve")).await.unwrap();
    assert!(!operation.done);
    let made = end(&world, &operation).await.unwrap();
    assert_eq!(made.name, format!("{PARENT}/services/tide"));
    assert!(!made.reconciling);
    assert_eq!(made.terminal_condition.unwrap().state, v2::condition::State::ConditionSucceeded as i32);
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    let again = create(&world, "tide", service("serve")).await.unwrap_err();
    assert_eq!(again.code(), kernel::Code::AlreadyExists);
    let second = create(&world, "wave", service("other")).await.unwrap();
    end(&world, &second).await.unwrap();
    let request = v2::ListServicesRequest { parent: PARENT.into(), page_size: 1, ..Default::default() };
    let page = world.call(services::LIST_SERVICES, request.clone()).await.unwrap();
    assert_eq!(page.services.len(), 1);
    let request = v2::ListServicesRequest { page_token: page.next_page_token, ..request };
    let rest = world.call(services::LIST_SERVICES, request).await.unwrap();
    assert_eq!(rest.services[0].name, format!("{PARENT}/services/wave"));
    let gone = delete(&world, "tide").await.unwrap();
    assert!(gone.done && end(&world, &gone).await.unwrap().delete_time.is_some());
    assert_eq!(read(&world, "tide").await.unwrap_err().code(), kernel::Code::NotFound);
    assert_eq!(world.get("wave", "/").await, (200, "other".into()));
}

pub(crate) async fn a_mask_changes_what_it_names(world: Arc<World>) {
    let operation = create(&world, "tide", service("serve")).await.unwrap();
    let made = end(&world, &operation).await.unwrap();
    let mut patch = made.clone();
    patch.description = "not named by the mask".into();
    patch.labels.insert("team".into(), "sea".into());
    let operation = update(&world, patch.clone(), &["labels"]).await.unwrap();
    let changed = end(&world, &operation).await.unwrap();
    assert_eq!((changed.description.as_str(), changed.labels.len()), ("", 1));
    assert_eq!(changed.latest_ready_revision, made.latest_ready_revision);
    let mut patch = changed.clone();
    patch.template.as_mut().unwrap().containers[0].env.push(v2::EnvVar {
        name: "GREETING".into(),
        values: Some(v2::env_var::Values::Value("ahoy".into())),
    });
    patch.etag = made.etag;
    assert_eq!(update(&world, patch.clone(), &[]).await.unwrap_err().code(), kernel::Code::Aborted);
    patch.etag = changed.etag;
    let operation = update(&world, patch, &[]).await.unwrap();
    let newer = end(&world, &operation).await.unwrap();
    assert_ne!(newer.latest_ready_revision, made.latest_ready_revision);
    assert_eq!(world.get("tide", "/env/GREETING").await, (200, "ahoy".into()));
}

pub(crate) async fn revisions_are_deleted_by_operations(world: Arc<World>) {
    let first = end(&world, &create(&world, "tide", service("serve")).await.unwrap()).await.unwrap();
    let delete = async |name: &str, etag: &str| {
        let (name, etag) = (name.to_owned(), etag.to_owned());
        let request = v2::DeleteRevisionRequest { name, etag, ..Default::default() };
        world.call(revisions::DELETE_REVISION, request).await
    };
    let old = first.latest_ready_revision;
    let only = delete(&old, "").await.unwrap_err();
    assert_eq!(only.code(), Code::FailedPrecondition, "{only:?}");
    let mut next = service("other");
    next.name = format!("{PARENT}/services/tide");
    let second = end(&world, &update(&world, next, &["template"]).await.unwrap()).await.unwrap();
    assert_eq!((first.generation, second.generation, second.observed_generation), (1, 2, 2));

    let read =
        async || world.call(revisions::GET_REVISION, v2::GetRevisionRequest { name: old.clone() }).await;
    let stale = delete(&old, "\"00000000000001\"").await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let etag = read().await.unwrap().etag;
    let deleted = delete(&old, &etag).await.unwrap();
    assert!(deleted.done);
    assert_eq!(read().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(delete(&second.latest_ready_revision, "").await.unwrap_err().code(), Code::FailedPrecondition);
}

pub(crate) async fn an_old_etag_changes_nothing(world: Arc<World>) {
    let made = end(&world, &create(&world, "tide", service("serve")).await.unwrap()).await.unwrap();
    let mut labelled = made.clone();
    labelled.labels.insert("team".into(), "sea".into());
    labelled.etag.clear();
    // Two that change different fields at once, and say nothing of an etag, both get what they want.
    let mut described = made.clone();
    described.description = "by the sea".into();
    described.etag.clear();
    let (one, other) =
        tokio::join!(update(&world, labelled, &["labels"]), update(&world, described, &["description"]));
    one.unwrap();
    other.unwrap();
    let now = read(&world, "tide").await.unwrap();
    assert_eq!((now.description.as_str(), now.labels.len(), now.generation), ("by the sea", 1, 3));

    let name = made.name.clone();
    let request = v2::DeleteServiceRequest { name, etag: made.etag.clone(), ..Default::default() };
    assert_eq!(world.call(services::DELETE_SERVICE, request).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(read(&world, "tide").await.unwrap().uid, made.uid);
}
