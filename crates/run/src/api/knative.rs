//! The Knative form (`serving.knative.dev/v1`), which `gcloud run` speaks.
//!
//! Its names hold no region: the host does (`us-central1-run.googleapis.com`). Permissions are therefore asked here
//! and not beside the method, once the resource's whole name is known.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, namespaces_revisions, namespaces_services, projects_locations,
};
use kernel::{Caller, Error, Mount, Resource, Result, collection::Held, names, regions::REGIONS};

use super::{
    knative_list::{self, Asked},
    knative_read, knative_write,
    shared::gone,
};
use crate::{
    Run,
    change::Place,
    engine::RUN,
    record::{Kind, Revision},
};

/// The group that services and revisions are of.
const GROUP: &str = "serving.knative.dev";

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(namespaces_services::CREATE, &[], create_service)
        .unary(namespaces_services::GET, &[], get_service)
        .unary(namespaces_services::LIST, &[], list_services)
        .unary(namespaces_services::REPLACE_SERVICE, &[], replace_service)
        .unary(namespaces_services::DELETE, &[], delete_service)
        .unary(namespaces_revisions::GET, &[], get_revision)
        .unary(namespaces_revisions::LIST, &[], list_revisions)
        .unary(namespaces_revisions::DELETE, &[], delete_revision)
        .unary(projects_locations::LIST, &[], list_locations)
}

async fn create_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesServicesCreateRequest,
) -> Result<knative::Service> {
    let body = request.body.unwrap_or_default();
    let name = body.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
    let place = new_place(&run, &caller, Kind::Service, &request.parent, &name).await?;
    caller.require("run.services.create", &location(&place))?;
    let desired = knative_read::desired(&body)?;
    if is_dry(&request.dry_run) {
        return run.try_out(&caller, &place, desired).map(|()| body);
    }
    let held = run.create(&caller, &place, desired).await?;
    Ok(knative_write::service(&run, &held))
}

async fn replace_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesServicesReplaceServiceRequest,
) -> Result<knative::Service> {
    let place = named(&run, &caller, &request.name, "run.services.update").await?;
    let body = request.body.unwrap_or_default();
    let desired = knative_read::desired(&body)?;
    if is_dry(&request.dry_run) {
        return run.try_out(&caller, &place, desired).map(|()| body);
    }
    let etag = body.metadata.and_then(|metadata| metadata.resource_version).unwrap_or_default();
    let held = run.replace(&caller, &place, &etag, desired).await?;
    Ok(knative_write::service(&run, &held))
}

async fn get_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesServicesGetRequest,
) -> Result<knative::Service> {
    let place = named(&run, &caller, &request.name, "run.services.get").await?;
    Ok(knative_write::service(&run, &*run.services.get(&place.resource_name())?))
}

async fn delete_service(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesServicesDeleteRequest,
) -> Result<knative::Status> {
    let place = named(&run, &caller, &request.name, "run.services.delete").await?;
    let held = run.services.get(&place.resource_name())?;
    if !is_dry(&request.dry_run) {
        run.delete(&place, "").await?;
    }
    Ok(gone(GROUP, "services", &place.name, &held.value.uid))
}

async fn list_services(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesServicesListRequest,
) -> Result<knative::ListServicesResponse> {
    let place = listed(&run, &caller, Kind::Service, &request.parent, "run.services.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::services(&run, &place.prefix(), &Asked { limit, token, selector })
}

async fn get_revision(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesRevisionsGetRequest,
) -> Result<knative::Revision> {
    let held = revision(&run, &caller, &request.name, "run.revisions.get").await?;
    Ok(knative_write::revision(&run, &held))
}

async fn delete_revision(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesRevisionsDeleteRequest,
) -> Result<knative::Status> {
    let held = revision(&run, &caller, &request.name, "run.revisions.delete").await?;
    let revision = &held.value;
    if !is_dry(&request.dry_run) {
        run.delete_revision(revision, "").await?;
    }
    Ok(gone(GROUP, "revisions", &revision.name, &revision.uid))
}

/// The revision that `namespaces/P/revisions/N` names, if the caller has this permission on it.
async fn revision(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<Held<Revision>> {
    let (place, id) = parts(run, caller, name, "revisions").await?;
    let found = run.revision_in(&place.project, &place.region, &id);
    let resource = match &found {
        Some(held) => held.value.resource_name(),
        None => format!("{}/services/-/revisions/{id}", place.location()),
    };
    caller.require(permission, &Resource::new(RUN, resource))?;
    found.ok_or_else(|| Error::not_found(format!("Revision '{id}' was not found.")))
}

async fn list_revisions(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesRevisionsListRequest,
) -> Result<knative::ListRevisionsResponse> {
    let place = listed(&run, &caller, Kind::Service, &request.parent, "run.revisions.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::revisions(&run, &place, &Asked { limit, token, selector })
}

async fn list_locations(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsListRequest,
) -> Result<knative::ListLocationsResponse> {
    let [project] =
        names::parse(&request.name, ["projects"]).ok_or_else(|| Error::invalid("Invalid resource name."))?;
    let project = run.ports.projects.resolve(project).await?;
    caller.require("run.locations.list", &Resource::project(&project.id))?;
    let locations = REGIONS.into_iter().map(|region| knative::Location {
        name: Some(format!("projects/{}/locations/{region}", project.id)),
        location_id: Some(region.into()),
        display_name: Some(region.into()),
        ..Default::default()
    });
    Ok(knative::ListLocationsResponse { locations: locations.collect(), next_page_token: None })
}

/// The region in the host of a regional endpoint.
pub(super) fn region(caller: &Caller) -> Result<String> {
    let host = &caller.request().host;
    host.strip_suffix("-run.googleapis.com").map(str::to_owned).ok_or_else(|| {
        Error::invalid("This method is served by regional endpoints only, such as https://us-central1-run.googleapis.com.")
    })
}

/// `P` of `namespaces/P`.
pub(super) fn namespace(parent: &str) -> Result<&str> {
    names::parse(parent, ["namespaces"])
        .map(|[project]| project)
        .ok_or_else(|| Error::invalid(format!("'{parent}' is not a namespace: use namespaces/PROJECT.")))
}

/// The place of something that is to be, in a namespace on a regional host.
pub(super) async fn new_place(
    run: &Run,
    caller: &Caller,
    kind: Kind,
    parent: &str,
    name: &str,
) -> Result<Place> {
    run.place_of(kind, namespace(parent)?, &region(caller)?, name).await
}

/// The service that `namespaces/P/services/S` names, if the caller has this permission on it.
async fn named(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<Place> {
    let (place, name) = parts(run, caller, name, "services").await?;
    let place = Place { name, ..place };
    caller.require(permission, &place.resource())?;
    Ok(place)
}

/// Where `namespaces/P/KIND/N` is on a regional host, without a name, and N.
pub(super) async fn parts(run: &Run, caller: &Caller, name: &str, kind: &str) -> Result<(Place, String)> {
    let [project, id] = names::parse(name, ["namespaces", kind]).ok_or_else(|| {
        Error::invalid(format!("'{name}' is not a name: use namespaces/PROJECT/{kind}/NAME."))
    })?;
    Ok((run.place_of(Kind::Service, project, &region(caller)?, "").await?, id.to_owned()))
}

/// What a listing ranges over, for those who may see it: one region, or all of them on the global host.
pub(super) async fn listed(
    run: &Run,
    caller: &Caller,
    kind: Kind,
    parent: &str,
    permission: &str,
) -> Result<Place> {
    let region = region(caller).unwrap_or_else(|_| "-".into());
    let place = run.place_of(kind, namespace(parent)?, &region, "").await?;
    caller.require(permission, &location(&place))?;
    Ok(place)
}

pub(super) fn location(place: &Place) -> Resource {
    Resource::new(RUN, place.location())
}

pub(super) fn is_dry(dry_run: &Option<String>) -> bool {
    dry_run.as_deref() == Some("all")
}
