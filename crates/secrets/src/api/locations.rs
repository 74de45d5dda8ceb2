//! `google.cloud.location.Locations`, as Secret Manager answers it: the regions that secrets can be in.
//!
//! The interface is common to all APIs, and this is the only one here that serves it; at the hosts of the others it says
//! that they do not.

use std::sync::Arc;

pub(super) use apis::google::cloud::location::locations::{GET_LOCATION, LIST_LOCATIONS};

use apis::google::cloud::location::{
    GetLocationRequest, ListLocationsRequest, ListLocationsResponse, Location,
};
use kernel::{
    Caller, Error, Result, names,
    paging::{Limits, Page},
};

use super::here;
use crate::{engine::Secrets, names::regions};

const PAGES: Limits = Limits { usual: 100, most: 1000 };

pub(super) async fn list(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: ListLocationsRequest,
) -> Result<ListLocationsResponse> {
    only_here(&caller)?;
    let Some([project]) = names::parse(&request.name, ["projects"]) else {
        return Err(malformed(&request.name));
    };
    let number = secrets.projects().find(project).await?.number;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&request.name])?;
    let rest = regions().filter(|region| *region > page.after()).take(page.size() + 1).collect();
    let (found, next_page_token) = page.cut(rest, |region| region);
    let locations = found.into_iter().map(|region| show(number, region)).collect();
    Ok(ListLocationsResponse { locations, next_page_token })
}

pub(super) async fn get(
    secrets: Arc<Secrets>,
    caller: Caller,
    request: GetLocationRequest,
) -> Result<Location> {
    only_here(&caller)?;
    let parts = names::parse(&request.name, ["projects", "locations"]);
    let Some([project, location]) = parts else { return Err(malformed(&request.name)) };
    let number = secrets.projects().find(project).await?.number;
    match regions().find(|region| *region == location) {
        Some(region) => Ok(show(number, region)),
        None => Err(Error::not_found(format!("Location [{location}] not found."))),
    }
}

fn only_here(caller: &Caller) -> Result<()> {
    match here::is_meant(caller) {
        true => Ok(()),
        false => Err(Error::unimplemented("Locations are not listed by this API.")),
    }
}

fn show(project_number: u64, region: &str) -> Location {
    Location {
        name: format!("projects/{project_number}/locations/{region}"),
        location_id: region.to_owned(),
        ..Location::default()
    }
}

fn malformed(name: &str) -> Error {
    Error::invalid(format!("Resource ID [{name}] is not in a valid format."))
}
