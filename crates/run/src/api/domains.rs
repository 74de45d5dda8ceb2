//! Domain mappings (`domains.cloudrun.com/v1`), which `gcloud beta run domain-mappings` speaks, and the domains that may
//! be mapped: below the root of the domain name system, which is all of them.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, namespaces_authorizeddomains, namespaces_domainmappings, projects_authorizeddomains,
};
use kernel::{Caller, Error, Mount, Resource, Result, mirror::Versioned, names};

use super::{
    jobs_knative_write,
    knative::{is_dry, listed, namespace, new_place, parts},
    knative_list::{self, Asked},
    knative_write::{condition, text, time, version},
    shared::gone,
};
use crate::{
    Run,
    domains::{DomainMapping, records},
    engine::RUN,
    record::{Condition, Kind, State},
};

const GROUP: &str = "domains.cloudrun.com";
const API_VERSION: &str = "domains.cloudrun.com/v1";

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(namespaces_domainmappings::CREATE, &[], create)
        .unary(namespaces_domainmappings::GET, &[], get)
        .unary(namespaces_domainmappings::LIST, &[], list)
        .unary(namespaces_domainmappings::DELETE, &[], delete)
        .unary(namespaces_authorizeddomains::LIST, &[], authorized_in_namespace)
        .unary(projects_authorizeddomains::LIST, &[], authorized)
}

async fn create(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesDomainmappingsCreateRequest,
) -> Result<knative::DomainMapping> {
    let body = request.body.unwrap_or_default();
    let place = new_place(&run, &caller, Kind::Service, &request.parent, "").await?;
    caller.require("run.domainmappings.create", &Resource::new(RUN, place.location()))?;
    let (metadata, spec) = (body.metadata.clone().unwrap_or_default(), body.spec.clone().unwrap_or_default());
    let asked = DomainMapping {
        project: place.project,
        region: place.region,
        domain: metadata.name.unwrap_or_default(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        service: spec.route_name.unwrap_or_default(),
        forced: spec.force_override.unwrap_or(false),
        certificate_mode: spec.certificate_mode.unwrap_or_default(),
        ..DomainMapping::default()
    };
    if is_dry(&request.dry_run) {
        run.check_domain(&asked)?;
        return Ok(body);
    }
    let held = run.map_domain(&caller, asked).await?;
    Ok(shown(&run, &held))
}

async fn get(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesDomainmappingsGetRequest,
) -> Result<knative::DomainMapping> {
    let name = named(&run, &caller, &request.name, "run.domainmappings.get").await?;
    Ok(shown(&run, &*run.domains.get(&name)?))
}

async fn delete(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesDomainmappingsDeleteRequest,
) -> Result<knative::Status> {
    let name = named(&run, &caller, &request.name, "run.domainmappings.delete").await?;
    let held = match is_dry(&request.dry_run) {
        true => run.domains.get(&name)?,
        false => run.unmap_domain(&name).await?,
    };
    Ok(gone(GROUP, "domainmappings", &held.value.domain, &held.value.uid))
}

async fn list(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesDomainmappingsListRequest,
) -> Result<knative::ListDomainMappingsResponse> {
    let place = listed(&run, &caller, Kind::Service, &request.parent, "run.domainmappings.list").await?;
    let prefix = match place.region.as_str() {
        "-" => format!("projects/{}/locations/", place.project),
        _ => format!("{}/domainmappings/", place.location()),
    };
    let asked = Asked { limit: request.limit, token: request.r#continue, selector: request.label_selector };
    let (page, selector) = (asked.page(&prefix)?, asked.selector()?);
    let (found, next) = run.domains.list(&prefix, &page, |_, held| selector.takes(&held.value.labels));
    Ok(knative::ListDomainMappingsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("DomainMappingList".into()),
        items: found.iter().map(|(_, held)| shown(&run, held)).collect(),
        metadata: Some(knative_list::metadata(next)),
        unreachable: Vec::new(),
    })
}

async fn authorized(
    run: Arc<Run>,
    caller: Caller,
    request: knative::ProjectsAuthorizeddomainsListRequest,
) -> Result<knative::ListAuthorizedDomainsResponse> {
    let [project] = names::parse(&request.parent, ["projects"])
        .ok_or_else(|| Error::invalid("Invalid resource name."))?;
    every_domain(&run, &caller, project).await
}

async fn authorized_in_namespace(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesAuthorizeddomainsListRequest,
) -> Result<knative::ListAuthorizedDomainsResponse> {
    every_domain(&run, &caller, namespace(&request.parent)?).await
}

async fn every_domain(
    run: &Run,
    caller: &Caller,
    project: &str,
) -> Result<knative::ListAuthorizedDomainsResponse> {
    let project = run.ports.projects.resolve(project).await?;
    caller.require("run.domainmappings.list", &Resource::project(&project.id))?;
    let name = Some(format!("projects/{}/authorizeddomains/.", project.id));
    let root = knative::AuthorizedDomain { id: Some(".".into()), name };
    Ok(knative::ListAuthorizedDomainsResponse { domains: vec![root], next_page_token: None })
}

/// The resource name of what `namespaces/P/domainmappings/D` names, if the caller has this permission on it.
async fn named(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<String> {
    let (place, domain) = parts(run, caller, name, "domainmappings").await?;
    let name = format!("{}/domainmappings/{domain}", place.location());
    caller.require(permission, &Resource::new(RUN, name.clone()))?;
    Ok(name)
}

/// A mapping with what has become of it.
fn shown(run: &Run, held: &Versioned<DomainMapping>) -> knative::DomainMapping {
    let mapping = &held.value;
    let mut labels = mapping.labels.clone();
    labels.insert("cloud.googleapis.com/location".into(), mapping.region.clone());
    let mut annotations = mapping.annotations.clone();
    annotations.insert("serving.knative.dev/creator".into(), mapping.creator.clone());
    annotations.insert("serving.knative.dev/lastModifier".into(), mapping.creator.clone());
    let metadata = jobs_knative_write::metadata(run, &mapping.project, "domainmappings", &mapping.domain);
    let number = metadata.namespace.clone().unwrap_or_default();
    knative::DomainMapping {
        api_version: Some(API_VERSION.into()),
        kind: Some("DomainMapping".into()),
        metadata: Some(knative::ObjectMeta {
            self_link: Some(format!(
                "/apis/{API_VERSION}/namespaces/{number}/domainmappings/{}",
                mapping.domain
            )),
            uid: text(&mapping.uid),
            resource_version: Some(version(held.revision)),
            generation: Some(1),
            creation_timestamp: time(&mapping.created),
            labels,
            annotations,
            ..metadata
        }),
        spec: Some(knative::DomainMappingSpec {
            route_name: text(&mapping.service),
            force_override: mapping.forced.then_some(true),
            certificate_mode: text(&mapping.certificate_mode),
        }),
        status: Some(status(&run.mapped(mapping), mapping)),
    }
}

/// A domain that leads somewhere has its certificate and its way; nothing is known of one that does not.
fn status(ready: &Condition, mapping: &DomainMapping) -> knative::DomainMappingStatus {
    let leads = ready.state() != State::False;
    let follows = match ready.state() {
        State::True => ready.clone(),
        _ => Condition { state: State::Unknown.into(), since: ready.since, ..Condition::default() },
    };
    let record = |(name, kind, data): (&str, &str, String)| knative::ResourceRecord {
        name: text(name),
        r#type: text(kind),
        rrdata: Some(data),
    };
    let resource_records = records(&mapping.domain).into_iter().filter(|_| leads).map(record).collect();
    knative::DomainMappingStatus {
        observed_generation: Some(1),
        conditions: [("Ready", ready), ("CertificateProvisioned", &follows), ("DomainRoutable", &follows)]
            .map(|(kind, state)| condition(kind, &Some(state.clone())))
            .to_vec(),
        mapped_route_name: text(&mapping.service).filter(|_| leads),
        resource_records,
        url: leads.then(|| format!("https://{}", mapping.domain)),
    }
}
