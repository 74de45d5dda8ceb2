//! Service Usage.

use apis::google::{
    api::serviceusage::v1::{self as proto, State, service_usage as rpc},
    longrunning::{Operation, operation},
};
use kernel::{Code, ports::Projects as _};
use projects::Mode;
use prost::Message;

use crate::world::*;

const RUN: &str = "projects/my-project/services/run.googleapis.com";

async fn state(world: &World, name: &str) -> kernel::Result<State> {
    Ok(world.call(rpc::GET_SERVICE, proto::GetServiceRequest { name: name.into() }).await?.state())
}

fn answer<T: Message + Default>(operation: &Operation) -> T {
    assert!(operation.done);
    let Some(operation::Result::Response(any)) = &operation.result else { panic!("{operation:?}") };
    T::decode(&any.value[..]).unwrap()
}

#[tokio::test]
async fn every_service_is_enabled_until_it_is_disabled() {
    let world = World::new(Mode::Open).await;
    let service = world.call(rpc::GET_SERVICE, proto::GetServiceRequest { name: RUN.into() }).await.unwrap();
    assert_eq!(service.state(), State::Enabled);
    assert_eq!(service.config.unwrap().title, "Cloud Run Admin API");
    assert!(service.parent.strip_prefix("projects/").unwrap().parse::<u64>().is_ok(), "{}", service.parent);
    assert!(world.projects.enabled("my-project", "run.googleapis.com"));

    let disable = proto::DisableServiceRequest { name: RUN.into(), ..Default::default() };
    let disabled = world.call(rpc::DISABLE_SERVICE, disable).await.unwrap();
    let after: proto::DisableServiceResponse = answer(&disabled);
    assert_eq!(after.service.unwrap().state(), State::Disabled);
    assert!(!world.projects.enabled("my-project", "run.googleapis.com"));
    assert!(world.projects.enabled("another-project", "run.googleapis.com"));

    let world = world.reopen(Mode::Open).await;
    assert_eq!(state(&world, RUN).await.unwrap(), State::Disabled, "it stays so");
    let enable = || world.call(rpc::ENABLE_SERVICE, proto::EnableServiceRequest { name: RUN.into() });
    let enabled = enable().await.unwrap();
    assert_ne!(enabled.name, "operations/noop.DONE_OPERATION");
    let after: proto::EnableServiceResponse = answer(&enabled);
    assert_eq!(after.service.unwrap().state(), State::Enabled);
    assert_eq!(enable().await.unwrap().name, "operations/noop.DONE_OPERATION");
}

#[tokio::test]
async fn what_enables_services_cannot_lock_itself_out() {
    let world = World::new(Mode::Open).await;
    let name = "projects/my-project/services/serviceusage.googleapis.com".to_owned();
    let disable = proto::DisableServiceRequest { name, ..Default::default() };
    world.call(rpc::DISABLE_SERVICE, disable).await.unwrap();
    assert!(world.projects.enabled("my-project", "serviceusage.googleapis.com"));
}

#[tokio::test]
async fn services_are_listed_by_state_and_page_by_page() {
    let world = World::new(Mode::Open).await;
    let disable = proto::DisableServiceRequest { name: RUN.into(), ..Default::default() };
    world.call(rpc::DISABLE_SERVICE, disable).await.unwrap();
    let list = |filter: &str, page_size, page_token: &str| {
        let (filter, page_token) = (filter.to_owned(), page_token.to_owned());
        let parent = "projects/my-project".to_owned();
        world.call(rpc::LIST_SERVICES, proto::ListServicesRequest { parent, page_size, page_token, filter })
    };
    let all = list("", 200, "").await.unwrap().services.len();
    assert_eq!(list("state:ENABLED", 200, "").await.unwrap().services.len(), all - 1);
    let disabled = list("state:DISABLED", 200, "").await.unwrap().services;
    assert_eq!(disabled.len(), 1);
    assert_eq!(refusal(list("state:BOTH", 0, "").await).0, Code::InvalidArgument);

    let (mut token, mut seen) = (String::new(), 0);
    loop {
        let page = list("state:ENABLED", 7, &token).await.unwrap();
        seen += page.services.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, all - 1);
}

#[tokio::test]
async fn several_services_are_enabled_or_none() {
    let world = World::new(Mode::Open).await;
    let enable = |ids: &[&str]| {
        let service_ids = ids.iter().map(|id| id.to_string()).collect();
        let request = proto::BatchEnableServicesRequest { parent: "projects/my-project".into(), service_ids };
        world.call(rpc::BATCH_ENABLE_SERVICES, request)
    };
    let both = enable(&["run.googleapis.com", "secretmanager.googleapis.com"]).await.unwrap();
    assert_eq!(answer::<proto::BatchEnableServicesResponse>(&both).services.len(), 2);
    let (code, message) = refusal(enable(&["run.googleapis.com", "nothing.googleapis.com"]).await);
    assert_eq!(code, Code::PermissionDenied);
    assert_eq!(message, "Not found or permission denied for service(s): nothing.googleapis.com.");
    assert_eq!(refusal(enable(&[]).await).0, Code::InvalidArgument);
    assert_eq!(refusal(enable(&["run.googleapis.com"; 21]).await).0, Code::InvalidArgument);

    let names = vec![RUN.to_owned()];
    let get = proto::BatchGetServicesRequest { parent: "projects/my-project".into(), names: names.clone() };
    assert_eq!(world.call(rpc::BATCH_GET_SERVICES, get).await.unwrap().services.len(), 1);
    let get = proto::BatchGetServicesRequest { parent: "projects/another-project".into(), names };
    assert_eq!(refusal(world.call(rpc::BATCH_GET_SERVICES, get).await).0, Code::InvalidArgument);
}
