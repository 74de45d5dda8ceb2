//! The second form (`google.cloud.run.v2`), which client libraries and Terraform speak.
//!
//! A change answers with an operation, which ends when the service is as it was asked for or has failed.

use std::sync::Arc;

use apis::{
    google::{
        cloud::run::v2::{self, revisions, services},
        longrunning::Operation,
    },
    schema::Message,
};
use kernel::{
    Caller, Code, Error, Mount, Resource, Result,
    collection::Held,
    grant, mask, names,
    operations::{Plan, to_any},
    paging::{Limits, Page},
};

use super::{v2_read, v2_write};
use crate::{Run, change::Place, engine::RUN, record::Service};

/// What operations of Cloud Run are resumed by.
const KIND: &str = "run.service";
/// How often a change of some fields is merged anew with a service that changed meanwhile.
const MERGES: u32 = 8;
/// Sizes of a page.
const PAGE: Limits = Limits { usual: 100, most: 500 };

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(
            services::CREATE_SERVICE,
            const { &[grant("run.services.create", "{parent}")] },
            create_service,
        )
        .unary(services::GET_SERVICE, const { &[grant("run.services.get", "{name}")] }, get_service)
        .unary(services::LIST_SERVICES, const { &[grant("run.services.list", "{parent}")] }, list_services)
        .unary(
            services::UPDATE_SERVICE,
            const { &[grant("run.services.update", "{service.name}")] },
            update_service,
        )
        .unary(services::DELETE_SERVICE, const { &[grant("run.services.delete", "{name}")] }, delete_service)
        .unary(revisions::GET_REVISION, const { &[grant("run.revisions.get", "{name}")] }, get_revision)
        .unary(
            revisions::LIST_REVISIONS,
            const { &[grant("run.revisions.list", "{parent}")] },
            list_revisions,
        )
        .unary(
            revisions::DELETE_REVISION,
            const { &[grant("run.revisions.delete", "{name}")] },
            delete_revision,
        )
}

async fn create_service(
    run: Arc<Run>,
    caller: Caller,
    request: v2::CreateServiceRequest,
) -> Result<Operation> {
    let [project, region] = parent(&request.parent)?;
    let place = run.place_of(project, region, &request.service_id).await?;
    let asked = request.service.unwrap_or_default();
    let desired = v2_read::desired(&asked)?;
    if request.validate_only {
        run.try_out(&caller, &place, desired)?;
        return run.validated(&place, &asked).await;
    }
    let held = run.create(&caller, &place, desired).await?;
    run.operation(&held).await
}

async fn update_service(
    run: Arc<Run>,
    caller: Caller,
    request: v2::UpdateServiceRequest,
) -> Result<Operation> {
    let is_merged = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
    let has_etag = request.service.as_ref().is_some_and(|service| !service.etag.is_empty());
    for _ in 0..MERGES {
        match try_update(&run, &caller, request.clone()).await {
            // What was merged with has changed since; without an etag of the client's that is no concern of its.
            Err(error) if is_merged && !has_etag && error.code() == Code::Aborted => {}
            outcome => return outcome,
        }
    }
    try_update(&run, &caller, request).await
}

/// Updates a service that nobody else changes meanwhile.
async fn try_update(run: &Arc<Run>, caller: &Caller, request: v2::UpdateServiceRequest) -> Result<Operation> {
    let mut patch = request.service.unwrap_or_default();
    let place = run.place(&patch.name).await?;
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let current = run.services.find(&place.resource_name());
    if let (Some(current), true, false) = (&current, patch.etag.is_empty(), paths.is_empty()) {
        patch.etag = current.etag();
    }
    let asked = match (&current, paths.is_empty()) {
        (Some(current), false) => merge(&v2_write::service(run, current), &patch, &paths)?,
        _ => patch.clone(),
    };
    let desired = v2_read::desired(&asked)?;
    if request.validate_only {
        run.try_out(caller, &place, desired)?;
        return run.validated(&place, &asked).await;
    }
    let creates = current.is_none() && request.allow_missing;
    if creates {
        let location = format!("projects/{}/locations/{}", place.project, place.region);
        caller.require("run.services.create", &Resource::new(RUN, location))?;
    }
    let held = match creates {
        true => run.create(caller, &place, desired).await?,
        false => run.replace(caller, &place, &patch.etag, desired).await?,
    };
    run.operation(&held).await
}

async fn delete_service(run: Arc<Run>, _: Caller, request: v2::DeleteServiceRequest) -> Result<Operation> {
    let place = run.place(&request.name).await?;
    if request.validate_only {
        let held = run.services.get(&place.resource_name())?;
        return run.validated(&place, &v2_write::service(&run, &held)).await;
    }
    let held = run.delete(&place, &request.etag).await?;
    let mut deleted = v2_write::service(&run, &held);
    deleted.delete_time = Some(run.ports.clock.timestamp());
    run.validated(&place, &deleted).await
}

async fn get_service(run: Arc<Run>, _: Caller, request: v2::GetServiceRequest) -> Result<v2::Service> {
    let place = run.place(&request.name).await?;
    Ok(v2_write::service(&run, &*run.services.get(&place.resource_name())?))
}

async fn list_services(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListServicesRequest,
) -> Result<v2::ListServicesResponse> {
    let [project, region] = parent(&request.parent)?;
    let project = run.ports.projects.resolve(project).await?;
    let prefix = match region {
        "-" => format!("projects/{}/locations/", project.id),
        region => format!("projects/{}/locations/{region}/services/", project.id),
    };
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) = run.services.list(&prefix, &page, |_, _| true);
    let services = found.iter().map(|(_, held)| v2_write::service(&run, held)).collect();
    Ok(v2::ListServicesResponse { services, next_page_token, unreachable: Vec::new() })
}

async fn get_revision(run: Arc<Run>, _: Caller, request: v2::GetRevisionRequest) -> Result<v2::Revision> {
    let (_, name) = run.revision_named(&request.name).await?;
    Ok(v2_write::revision(&*run.revisions.get(&name)?))
}

async fn list_revisions(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListRevisionsRequest,
) -> Result<v2::ListRevisionsResponse> {
    let place = run.place(&request.parent).await?;
    let is_any = place.name == "-";
    let prefix = match is_any {
        true => format!("projects/{}/locations/{}/services/", place.project, place.region),
        false => format!("{}/revisions/", place.resource_name()),
    };
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) = run.revisions.list(&prefix, &page, |_, _| true);
    let revisions = found.iter().map(|(_, held)| v2_write::revision(held)).collect();
    Ok(v2::ListRevisionsResponse { revisions, next_page_token })
}

async fn delete_revision(run: Arc<Run>, _: Caller, request: v2::DeleteRevisionRequest) -> Result<Operation> {
    let (place, name) = run.revision_named(&request.name).await?;
    let revision = run.revisions.get(&name)?;
    let deleted = v2_write::revision(&revision);
    if !request.validate_only {
        run.delete_revision(&revision.value, &request.etag).await?;
    }
    let any = to_any("google.cloud.run.v2.Revision", &deleted);
    run.operations.finished(plan(&place).metadata(any.clone()), any).await
}

impl Run {
    /// The operation that ends when a change is true.
    async fn operation(self: &Arc<Self>, held: &Held<Service>) -> Result<Operation> {
        let service = &held.value;
        let place = Place {
            project: service.project.clone(),
            region: service.region.clone(),
            name: service.name.clone(),
        };
        let metadata = to_any("google.cloud.run.v2.Service", &v2_write::service(self, held));
        let memo = format!("{}\n{}", service.resource_name(), service.generation);
        let (run, name, generation) = (self.clone(), service.resource_name(), service.generation);
        let work = move |_| async move { run.finished_service(&name, generation).await };
        self.operations.start(plan(&place).metadata(metadata).memo(memo), work).await
    }

    async fn finished_service(&self, name: &str, generation: i64) -> Result<prost_types::Any> {
        self.settled(name, generation).await?;
        let held = self.services.get(name)?;
        Ok(to_any("google.cloud.run.v2.Service", &v2_write::service(self, &held)))
    }

    /// An operation that is done: nothing has to be brought about.
    async fn validated(&self, place: &Place, service: &v2::Service) -> Result<Operation> {
        let any = to_any("google.cloud.run.v2.Service", service);
        self.operations.finished(plan(place).metadata(any.clone()), any).await
    }

    /// Goes on with the operations that a restart interrupted.
    pub(crate) fn resume_operations(self: &Arc<Self>) {
        for left in self.operations.unfinished(KIND) {
            let memo = String::from_utf8_lossy(&left.memo).into_owned();
            let Some((name, generation)) = memo.split_once('\n') else { continue };
            let (run, name, generation) = (self.clone(), name.to_owned(), generation.parse().unwrap_or(0));
            let work = move |_| async move { run.finished_service(&name, generation).await };
            if let Err(error) = self.operations.resume(&left.name, work) {
                tracing::warn!("{} is not resumed: {error:?}", left.name);
            }
        }
    }

    async fn revision_named(&self, name: &str) -> Result<(Place, String)> {
        let [project, region, service, revision] =
            names::parse(name, ["projects", "locations", "services", "revisions"])
                .ok_or_else(|| Error::invalid(format!("'{name}' is not a revision's name.")))?;
        let place = self.place_of(project, region, service).await?;
        let name = format!("{}/revisions/{revision}", place.resource_name());
        Ok((place, name))
    }
}

fn plan(place: &Place) -> Plan {
    Plan::new(format!("projects/{}/locations/{}", place.project, place.region), KIND)
}

fn parent(parent: &str) -> Result<[&str; 2]> {
    names::parse(parent, ["projects", "locations"]).ok_or_else(|| {
        Error::invalid(format!("'{parent}' is not a location: use projects/PROJECT/locations/REGION."))
    })
}

/// The current state with the masked fields of a patch.
fn merge(current: &v2::Service, patch: &v2::Service, paths: &[String]) -> Result<v2::Service> {
    let message = Message::by_name("google.cloud.run.v2.Service")
        .ok_or_else(|| Error::internal("the interface tables lack Cloud Run"))?;
    mask::merge(message, current, patch, paths)
}
