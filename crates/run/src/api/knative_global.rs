//! The Knative form by location (`/v1/projects/P/locations/L/services`), which the global host serves: what
//! `gcloud run services list` asks when it is told no region.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, projects_locations_revisions, projects_locations_services,
};
use kernel::{
    Caller, Error, Mount, Resource, Result, grant, names,
    paging::{Limits, Page},
};

use super::{knative_read, knative_write};
use crate::{Run, engine::RUN};

/// Sizes of a page of services or revisions.
const PAGE: Limits = Limits { usual: 100, most: 500 };

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(projects_locations_services::LIST, &[], list_services)
        .unary(
            projects_locations_services::GET,
            const { &[grant("run.services.get", "{name}")] },
            get_service,
        )
        .unary(
            projects_locations_services::CREATE,
            const { &[grant("run.services.create", "{parent}")] },
            create_service,
        )
        .unary(
            projects_locations_services::REPLACE_SERVICE,
            const { &[grant("run.services.update", "{name}")] },
            replace_service,
        )
        .unary(projects_locations_revisions::LIST, &[], list_revisions)
}

async fn list_services(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesListRequest,
) -> Result<knative::ListServicesResponse> {
    let prefix = prefix(&run, &caller, &request.parent, "run.services.list").await?;
    let token = request.r#continue.unwrap_or_default();
    let page = Page::new(PAGE, request.limit.unwrap_or(0), &token, &[&prefix])?;
    let (found, next) = run.services.list(&prefix, &page, |_, _| true);
    Ok(knative::ListServicesResponse {
        api_version: Some("serving.knative.dev/v1".into()),
        kind: Some("ServiceList".into()),
        items: found.iter().map(|(_, held)| knative_write::service(&run, held)).collect(),
        metadata: Some(list_meta(next)),
        unreachable: Vec::new(),
    })
}

async fn list_revisions(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsRevisionsListRequest,
) -> Result<knative::ListRevisionsResponse> {
    let prefix = prefix(&run, &caller, &request.parent, "run.revisions.list").await?;
    let token = request.r#continue.unwrap_or_default();
    let page = Page::new(PAGE, request.limit.unwrap_or(0), &token, &[&prefix])?;
    let (found, next) = run.revisions.list(&prefix, &page, |_, _| true);
    Ok(knative::ListRevisionsResponse {
        api_version: Some("serving.knative.dev/v1".into()),
        kind: Some("RevisionList".into()),
        items: found.iter().map(|(_, held)| knative_write::revision(&run, held)).collect(),
        metadata: Some(list_meta(next)),
        unreachable: Vec::new(),
    })
}

async fn get_service(
    run: Arc<Run>,
    _: Caller,
    request: knative::ProjectsLocationsServicesGetRequest,
) -> Result<knative::Service> {
    let place = run.place(&request.name).await?;
    let held = run.services.get(&place.resource_name())?;
    Ok(knative_write::service(&run, &held))
}

async fn create_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesCreateRequest,
) -> Result<knative::Service> {
    let (project, region) = parent(&request.parent)?;
    let body = request.body.unwrap_or_default();
    let name = body.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
    let place = run.place_of(project, region, &name).await?;
    let held = run.create(&caller, &place, knative_read::desired(&body)?).await?;
    Ok(knative_write::service(&run, &held))
}

async fn replace_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesReplaceServiceRequest,
) -> Result<knative::Service> {
    let place = run.place(&request.name).await?;
    let body = request.body.unwrap_or_default();
    let desired = knative_read::desired(&body)?;
    let etag = body.metadata.and_then(|metadata| metadata.resource_version).unwrap_or_default();
    let held = run.replace(&caller, &place, &etag, desired).await?;
    Ok(knative_write::service(&run, &held))
}

/// What a listing ranges over: one region, or all of them for `-`.
async fn prefix(run: &Run, caller: &Caller, parent_name: &str, permission: &str) -> Result<String> {
    let (project, region) = parent(parent_name)?;
    let project = run.ports.projects.resolve(project).await?;
    caller.require(permission, &Resource::new(RUN, format!("projects/{}/locations/{region}", project.id)))?;
    Ok(match region {
        "-" => format!("projects/{}/locations/", project.id),
        region => format!("projects/{}/locations/{region}/services/", project.id),
    })
}

fn parent(parent: &str) -> Result<(&str, &str)> {
    let parsed = names::parse(parent, ["projects", "locations"]).map(|[project, region]| (project, region));
    parsed.ok_or_else(|| {
        Error::invalid(format!("'{parent}' is not a location: use projects/PROJECT/locations/REGION."))
    })
}

fn list_meta(next: String) -> knative::ListMeta {
    knative::ListMeta { r#continue: Some(next).filter(|next| !next.is_empty()), ..Default::default() }
}
