//! Listings of the Knative form by location (`/v1/projects/P/locations/L/services`), which the global host serves: what
//! `gcloud run services list` asks when it is told no region. Everything else gcloud asks of a region's own host.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, projects_locations_revisions, projects_locations_services,
};
use kernel::{Caller, Mount, Result};

use super::{
    knative::location,
    knative_list::{self, Asked},
    shared,
};
use crate::{Run, change::Place, record::Kind};

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount.unary(projects_locations_services::LIST, &[], list_services).unary(
        projects_locations_revisions::LIST,
        &[],
        list_revisions,
    )
}

async fn list_services(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsServicesListRequest,
) -> Result<knative::ListServicesResponse> {
    let place = place(&run, &caller, &request.parent, "run.services.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::services(&run, &place.prefix(), &Asked { limit, token, selector })
}

async fn list_revisions(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsRevisionsListRequest,
) -> Result<knative::ListRevisionsResponse> {
    let place = place(&run, &caller, &request.parent, "run.revisions.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::revisions(&run, &place, &Asked { limit, token, selector })
}

/// What a listing ranges over, for those who may see it: one region, or all of them for `-`.
async fn place(run: &Run, caller: &Caller, parent: &str, permission: &str) -> Result<Place> {
    let [project, region] = shared::location(parent)?;
    let place = run.place_of(Kind::Service, project, region, "").await?;
    caller.require(permission, &location(&place))?;
    Ok(place)
}
