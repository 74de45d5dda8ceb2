//! `google.api.serviceusage.v1.ServiceUsage`: which services a project may call.

use std::sync::Arc;

use apis::google::{
    api::serviceusage::v1::{self as proto, Service, ServiceConfig, State, service_usage as rpc},
    longrunning::{Operation, operation},
};
use kernel::{
    Caller, Error, Method, Mount, Result,
    error::Detail,
    grant,
    operations::to_any,
    paging::{Limits, Page},
    services::{self, ALL},
};
use prost::Message;

use super::project_in;
use crate::{
    engine::Projects,
    record::{ProjectRecord, Switch},
};

const LIMITS: Limits = Limits { usual: 50, most: 200 };
/// The most services that one call may enable.
const MAX_ENABLED: usize = 20;
/// The most services that one call may ask for.
const MAX_ASKED: usize = 30;

pub(super) fn methods(projects: Arc<Projects>) -> Vec<Method> {
    Mount::new(projects)
        .unary(rpc::GET_SERVICE, const { &[grant("serviceusage.services.get", "{name}")] }, get)
        .unary(rpc::LIST_SERVICES, const { &[grant("serviceusage.services.list", "{parent}")] }, list)
        .unary(
            rpc::BATCH_GET_SERVICES,
            const { &[grant("serviceusage.services.get", "{parent}")] },
            batch_get,
        )
        .unary(rpc::ENABLE_SERVICE, const { &[grant("serviceusage.services.enable", "{name}")] }, enable)
        .unary(rpc::DISABLE_SERVICE, const { &[grant("serviceusage.services.disable", "{name}")] }, disable)
        .unary(
            rpc::BATCH_ENABLE_SERVICES,
            const { &[grant("serviceusage.services.enable", "{parent}")] },
            batch_enable,
        )
        .done()
}

async fn get(projects: Arc<Projects>, _: Caller, request: proto::GetServiceRequest) -> Result<Service> {
    let (project, service) = service_in(&request.name)?;
    let project = projects.find(project).await?;
    Ok(show(&project, &service))
}

async fn list(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::ListServicesRequest,
) -> Result<proto::ListServicesResponse> {
    let wanted = filter(&request.filter)?;
    let project = projects.find(project_in(&request.parent)?).await?;
    let page =
        Page::new(LIMITS, request.page_size, &request.page_token, &[&request.parent, &request.filter])?;
    let rest = ALL.iter().filter(|service| service.name > page.after());
    let found = rest.map(|service| (service.name, show(&project, service)));
    let found = found.filter(|(_, service)| wanted.is_none_or(|state| service.state() == state));
    let (found, next_page_token) = page.cut(found.take(page.size() + 1).collect(), |(name, _)| name);
    let services = found.into_iter().map(|(_, service)| service).collect();
    Ok(proto::ListServicesResponse { services, next_page_token })
}

async fn batch_get(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::BatchGetServicesRequest,
) -> Result<proto::BatchGetServicesResponse> {
    if request.names.is_empty() || request.names.len() > MAX_ASKED {
        return Err(Error::bad_field("names", format!("Ask for 1 to {MAX_ASKED} services.")));
    }
    let parent = project_in(&request.parent)?;
    let project = projects.find(parent).await?;
    let one = |name: &String| {
        let (named, service) = service_in(name)?;
        match named == parent || named == project.id || named == project.number.to_string() {
            true => Ok(show(&project, &service)),
            false => {
                Err(Error::bad_field("names", format!("Service [{name}] is not in [{}].", request.parent)))
            }
        }
    };
    Ok(proto::BatchGetServicesResponse { services: request.names.iter().map(one).collect::<Result<_>>()? })
}

async fn enable(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::EnableServiceRequest,
) -> Result<Operation> {
    let (project, service) = service_in(&request.name)?;
    let (project, changed) = projects.switch(project, &[service.name], Switch::On).await?;
    let answer = proto::EnableServiceResponse { service: Some(show(&project, &service)) };
    Ok(done(&project, &[service], changed, "EnableServiceResponse", &answer))
}

async fn disable(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::DisableServiceRequest,
) -> Result<Operation> {
    let (project, service) = service_in(&request.name)?;
    let (project, changed) = projects.switch(project, &[service.name], Switch::Off).await?;
    let answer = proto::DisableServiceResponse { service: Some(show(&project, &service)) };
    Ok(done(&project, &[service], changed, "DisableServiceResponse", &answer))
}

async fn batch_enable(
    projects: Arc<Projects>,
    _: Caller,
    request: proto::BatchEnableServicesRequest,
) -> Result<Operation> {
    let parent = project_in(&request.parent)?;
    if request.service_ids.is_empty() || request.service_ids.len() > MAX_ENABLED {
        return Err(Error::bad_field("service_ids", format!("Enable 1 to {MAX_ENABLED} services at once.")));
    }
    let services = known(&request.service_ids)?;
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let (project, changed) = projects.switch(parent, &names, Switch::On).await?;
    let answer = proto::BatchEnableServicesResponse {
        services: services.iter().map(|service| show(&project, service)).collect(),
        failures: Vec::new(),
    };
    Ok(done(&project, &services, changed, "BatchEnableServicesResponse", &answer))
}

/// An operation that is done as it is answered; by the name that Google uses where there was nothing to do.
fn done(
    project: &ProjectRecord,
    services: &[services::Service],
    changed: bool,
    kind: &str,
    answer: &impl Message,
) -> Operation {
    let name = match changed {
        true => format!("operations/acat.p2-{}-{:x}", project.number, project.update_time),
        false => "operations/noop.DONE_OPERATION".to_owned(),
    };
    let resource_names = services.iter().map(|s| format!("services/{}/{}", project.number, s.name)).collect();
    let metadata = proto::OperationMetadata { resource_names };
    Operation {
        name,
        metadata: Some(to_any("google.api.serviceusage.v1.OperationMetadata", &metadata)),
        done: true,
        result: Some(operation::Result::Response(to_any(
            &format!("google.api.serviceusage.v1.{kind}"),
            answer,
        ))),
    }
}

fn show(project: &ProjectRecord, service: &services::Service) -> Service {
    let disabled = project.disabled.iter().any(|name| name == service.name);
    let parent = format!("projects/{}", project.number);
    Service {
        name: format!("{parent}/services/{}", service.name),
        parent,
        config: Some(ServiceConfig {
            name: service.name.into(),
            title: service.title.into(),
            ..ServiceConfig::default()
        }),
        state: if disabled { State::Disabled } else { State::Enabled }.into(),
    }
}

fn filter(text: &str) -> Result<Option<State>> {
    match text.replace(' ', "").as_str() {
        "" => Ok(None),
        "state:ENABLED" => Ok(Some(State::Enabled)),
        "state:DISABLED" => Ok(Some(State::Disabled)),
        _ => Err(Error::bad_field("filter", "The filter must be state:ENABLED or state:DISABLED.")),
    }
}

/// The project and the service in `projects/P/services/S`.
fn service_in(name: &str) -> Result<(&str, services::Service)> {
    match kernel::names::parse(name, ["projects", "services"]) {
        Some([project, service]) => Ok((project, known(&[service])?.remove(0))),
        None => Err(Error::bad_field(
            "name",
            format!("Resource name [{name}] is not of the form projects/*/services/*."),
        )),
    }
}

/// The services of these names.
///
/// # Errors
/// `PERMISSION_DENIED`, as Google answers, naming those that there are not.
fn known<S: AsRef<str>>(names: &[S]) -> Result<Vec<services::Service>> {
    let missing: Vec<&str> =
        names.iter().map(AsRef::as_ref).filter(|name| services::find(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(names.iter().filter_map(|name| services::find(name.as_ref())).collect());
    }
    let missing = missing.join(", ");
    Err(Error::denied(format!("Not found or permission denied for service(s): {missing}.")).with(
        Detail::Info {
            reason: "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED",
            domain: "serviceusage.googleapis.com",
            metadata: vec![("services", missing)],
        },
    ))
}
