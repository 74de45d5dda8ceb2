//! Worker pools in the Knative form (`run.googleapis.com/v1`), which `gcloud run worker-pools list`, `describe` and
//! `replace` speak; what changes one by flags is v2.

use std::sync::Arc;

use apis::google::discovery::run::v1::{self as knative, namespaces_workerpools};
use kernel::{Caller, Mount, Result};

use super::{
    jobs_knative_write::API_VERSION,
    knative::{is_dry, listed, location, new_place, parts},
    knative_list::{self, Asked},
    shared::gone,
    workers_form as form,
};
use crate::{Run, change::Place, record::Kind};

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(namespaces_workerpools::CREATE, &[], create)
        .unary(namespaces_workerpools::GET, &[], get)
        .unary(namespaces_workerpools::LIST, &[], list)
        .unary(namespaces_workerpools::REPLACE_WORKER_POOL, &[], replace)
        .unary(namespaces_workerpools::DELETE, &[], delete)
}

async fn create(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesWorkerpoolsCreateRequest,
) -> Result<knative::WorkerPool> {
    let body = request.body.unwrap_or_default();
    let name = body.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
    let place = new_place(&run, &caller, Kind::WorkerPool, &request.parent, &name).await?;
    caller.require("run.workerpools.create", &location(&place))?;
    let desired = form::desired(&body)?;
    if is_dry(&request.dry_run) {
        return run.try_out(&caller, &place, desired).map(|()| body);
    }
    let held = run.create(&caller, &place, desired).await?;
    Ok(form::pool(&run, &held))
}

async fn replace(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesWorkerpoolsReplaceWorkerPoolRequest,
) -> Result<knative::WorkerPool> {
    let place = named(&run, &caller, &request.name, "run.workerpools.update").await?;
    let body = request.body.unwrap_or_default();
    let desired = form::desired(&body)?;
    if is_dry(&request.dry_run) {
        return run.try_out(&caller, &place, desired).map(|()| body);
    }
    let etag = body.metadata.and_then(|metadata| metadata.resource_version).unwrap_or_default();
    let held = run.replace(&caller, &place, &etag, desired).await?;
    Ok(form::pool(&run, &held))
}

async fn get(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesWorkerpoolsGetRequest,
) -> Result<knative::WorkerPool> {
    let place = named(&run, &caller, &request.name, "run.workerpools.get").await?;
    Ok(form::pool(&run, &*run.services.get(&place.resource_name())?))
}

async fn delete(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesWorkerpoolsDeleteRequest,
) -> Result<knative::Status> {
    let place = named(&run, &caller, &request.name, "run.workerpools.delete").await?;
    let held = run.services.get(&place.resource_name())?;
    if !is_dry(&request.dry_run) {
        run.delete(&place, "").await?;
    }
    Ok(gone("run.googleapis.com", "workerpools", &place.name, &held.value.uid))
}

async fn list(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesWorkerpoolsListRequest,
) -> Result<knative::ListWorkerPoolsResponse> {
    let place = listed(&run, &caller, Kind::WorkerPool, &request.parent, "run.workerpools.list").await?;
    let asked = Asked { limit: request.limit, token: request.r#continue, selector: request.label_selector };
    let prefix = place.prefix();
    let (page, selector) = (asked.page(&prefix)?, asked.selector()?);
    let (found, next) = run.services.list(&prefix, &page, |_, held| {
        held.value.kind() == Kind::WorkerPool && selector.takes(&held.value.labels)
    });
    Ok(knative::ListWorkerPoolsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("WorkerPoolList".into()),
        items: found.iter().map(|(_, held)| form::pool(&run, held)).collect(),
        metadata: Some(knative_list::metadata(next)),
        unreachable: Vec::new(),
    })
}

/// The pool that `namespaces/P/workerpools/W` names, if the caller has this permission on it.
async fn named(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<Place> {
    let (place, name) = parts(run, caller, name, "workerpools").await?;
    let place = Place { kind: Kind::WorkerPool, name, ..place };
    caller.require(permission, &place.resource())?;
    Ok(place)
}
