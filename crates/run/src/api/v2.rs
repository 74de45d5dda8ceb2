//! The second form (`google.cloud.run.v2`), which client libraries and Terraform speak: services, and the revisions of
//! services and of worker pools.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{self, revisions, services},
    longrunning::Operation,
};
use kernel::{
    Caller, Error, Mount, Result, grant,
    mirror::Versioned,
    names,
    operations::to_any,
    paging::{Limits, Page},
};
use prost_types::Timestamp;

use super::{
    shared::location,
    v2_change::{self, Absent, Asked, Form, Purpose, plan},
    v2_read, v2_write,
};
use crate::{
    Run,
    change::{Desired, NewRevision, Place},
    record::{Kind, Service},
};

/// Sizes of a page.
pub(super) const PAGE: Limits = Limits { usual: 100, most: 500 };

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
    let [project, region] = location(&request.parent)?;
    let place = run.place_of(Kind::Service, project, region, &request.service_id).await?;
    let asked = request.service.unwrap_or_default();
    v2_change::create(&run, &caller, &place, asked, Purpose::of(request.validate_only)).await
}

async fn update_service(
    run: Arc<Run>,
    caller: Caller,
    request: v2::UpdateServiceRequest,
) -> Result<Operation> {
    let asked = Asked {
        mask: request.update_mask,
        purpose: Purpose::of(request.validate_only),
        absent: Absent::of(request.allow_missing),
        revision: NewRevision::IfChanged,
    };
    v2_change::update(&run, &caller, request.service.unwrap_or_default(), &asked).await
}

async fn delete_service(run: Arc<Run>, _: Caller, request: v2::DeleteServiceRequest) -> Result<Operation> {
    let purpose = Purpose::of(request.validate_only);
    v2_change::delete::<v2::Service>(&run, &request.name, &request.etag, purpose).await
}

impl Form for v2::Service {
    const KIND: Kind = Kind::Service;
    const NAME: &'static str = "google.cloud.run.v2.Service";

    fn of(run: &Run, held: &Versioned<Service>) -> Self {
        v2_write::service(run, held)
    }

    fn desired(&self) -> Result<Desired> {
        v2_read::desired(self)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn etag(&mut self) -> &mut String {
        &mut self.etag
    }

    fn set_deleted(&mut self, at: Timestamp) {
        self.delete_time = Some(at);
    }
}

async fn get_service(run: Arc<Run>, _: Caller, request: v2::GetServiceRequest) -> Result<v2::Service> {
    let place = run.place(Kind::Service, &request.name).await?;
    Ok(v2_write::service(&run, &*run.services.get(&place.resource_name())?))
}

async fn list_services(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListServicesRequest,
) -> Result<v2::ListServicesResponse> {
    let prefix = run.listed(Kind::Service, &request.parent).await?;
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) =
        run.services.list(&prefix, &page, |_, held| held.value.kind() == Kind::Service);
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
    let place = run.revisions_under(&request.parent).await?;
    let prefix = match (place.region.as_str(), place.name.as_str()) {
        ("-", _) | (_, "-") => place.prefix(),
        _ => format!("{}/revisions/", place.resource_name()),
    };
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix, &place.name])?;
    let (found, next_page_token) = run.revisions.list(&prefix, &page, |_, held| {
        held.value.kind() == place.kind && (place.name == "-" || held.value.service == place.name)
    });
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
    /// Whose revisions are listed; `-` stands for all services, or worker pools, and for all locations.
    async fn revisions_under(&self, parent: &str) -> Result<Place> {
        let (kind, [project, region, name]) = parsed(parent, "")?;
        self.place_of(kind, project, region, name).await
    }

    async fn revision_named(&self, name: &str) -> Result<(Place, String)> {
        let (parent, id) = name
            .rsplit_once("/revisions/")
            .filter(|(_, id)| !id.is_empty() && !id.contains('/'))
            .ok_or_else(|| not_a_revision(name))?;
        let (kind, [project, region, whose]) = parsed(parent, name)?;
        let place = self.place_of(kind, project, region, whose).await?;
        let name = format!("{}/revisions/{id}", place.resource_name());
        Ok((place, name))
    }
}

/// Whose name this is: a service's or a worker pool's.
fn parsed<'a>(parent: &'a str, name: &str) -> Result<(Kind, [&'a str; 3])> {
    let read = |kind: Kind| {
        names::parse(parent, ["projects", "locations", kind.collection()]).map(|parts| (kind, parts))
    };
    let found = read(Kind::Service).or_else(|| read(Kind::WorkerPool));
    found.ok_or_else(|| match name {
        "" => Error::invalid(format!("'{parent}' is neither a service's name nor a worker pool's.")),
        name => not_a_revision(name),
    })
}

fn not_a_revision(name: &str) -> Error {
    Error::invalid(format!("'{name}' is not a revision's name."))
}
