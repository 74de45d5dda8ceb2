//! Listings of the Knative form by location (`/v1/projects/P/locations/L/services`), which the global host serves: what
//! `gcloud run services list` asks when it is told no region. Everything else gcloud asks of a region's own host.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, projects_locations_revisions, projects_locations_services,
};
use kernel::{Caller, Error, Mount, Resource, Result, names};

use super::knative_list::{self, Asked};
use crate::{Run, engine::RUN};

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
    let prefix = prefix(&run, &caller, &request.parent, "run.services.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::services(&run, &prefix, &Asked { limit, token, selector })
}

async fn list_revisions(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsLocationsRevisionsListRequest,
) -> Result<knative::ListRevisionsResponse> {
    let prefix = prefix(&run, &caller, &request.parent, "run.revisions.list").await?;
    let (limit, token, selector) = (request.limit, request.r#continue, request.label_selector);
    knative_list::revisions(&run, &prefix, &Asked { limit, token, selector })
}

/// What a listing ranges over, for those who may see it: one region, or all of them for `-`.
async fn prefix(run: &Run, caller: &Caller, parent: &str, permission: &str) -> Result<String> {
    let [project, region] = names::parse(parent, ["projects", "locations"]).ok_or_else(|| {
        Error::invalid(format!("'{parent}' is not a location: use projects/PROJECT/locations/REGION."))
    })?;
    let project = run.place_of(project, region, "").await?.project;
    let location = Resource::new(RUN, format!("projects/{project}/locations/{region}"));
    caller.require(permission, &location)?;
    Ok(match region {
        "-" => format!("projects/{project}/locations/"),
        region => format!("projects/{project}/locations/{region}/services/"),
    })
}
