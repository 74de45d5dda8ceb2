//! Services under names of people's own.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{self as second, services},
    discovery::run::v1::{self as knative, namespaces_domainmappings, projects_authorizeddomains},
};
use kernel::{Code, Result};

use crate::{
    v2::{PARENT, create, end, service},
    world::World,
};

fn asked(domain: &str, service: &str) -> knative::DomainMapping {
    knative::DomainMapping {
        metadata: Some(knative::ObjectMeta { name: Some(domain.into()), ..Default::default() }),
        spec: Some(knative::DomainMappingSpec { route_name: Some(service.into()), ..Default::default() }),
        ..Default::default()
    }
}

async fn map_in(
    world: &World,
    project: &str,
    mapping: knative::DomainMapping,
) -> Result<knative::DomainMapping> {
    let request = knative::NamespacesDomainmappingsCreateRequest {
        parent: format!("namespaces/{project}"),
        body: Some(mapping),
        ..Default::default()
    };
    world.call(namespaces_domainmappings::CREATE, request).await
}

async fn read(world: &World, domain: &str) -> knative::DomainMapping {
    let name = format!("namespaces/demo/domainmappings/{domain}");
    let request = knative::NamespacesDomainmappingsGetRequest { name };
    world.call(namespaces_domainmappings::GET, request).await.unwrap()
}

async fn unmap(world: &World, domain: &str) -> Result<knative::Status> {
    let name = format!("namespaces/demo/domainmappings/{domain}");
    let request = knative::NamespacesDomainmappingsDeleteRequest { name, ..Default::default() };
    world.call(namespaces_domainmappings::DELETE, request).await
}

/// Whether it is ready, and why it is not.
fn ready(mapping: &knative::DomainMapping) -> (String, String) {
    let conditions = mapping.status.clone().unwrap().conditions;
    let ready = conditions.into_iter().find(|one| one.r#type.as_deref() == Some("Ready")).unwrap();
    (ready.status.unwrap_or_default(), ready.reason.unwrap_or_default())
}

fn said(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

async fn deployed(world: &World, name: &str, mode: &str) {
    let operation = create(world, name, service(mode)).await.unwrap();
    end(world, &operation).await.unwrap();
}

pub(crate) async fn a_domain_leads_to_its_service(world: Arc<World>) {
    let made = map_in(&world, "demo", asked("www.example.com", "tide")).await.unwrap();
    assert_eq!(ready(&made), said("False", "RouteMissing"));
    assert!(made.status.unwrap().resource_records.is_empty());
    assert_eq!(world.get_host("www.example.com", "/").await.0, 404);

    deployed(&world, "tide", "serve").await;
    let mapping = read(&world, "www.example.com").await;
    assert_eq!(ready(&mapping), said("True", ""));
    let status = mapping.status.unwrap();
    let record = &status.resource_records[0];
    assert_eq!((record.name.as_deref(), record.r#type.as_deref()), (Some("www"), Some("CNAME")));
    assert_eq!((status.conditions.len(), status.mapped_route_name.as_deref()), (3, Some("tide")));
    for host in ["www.example.com", "WWW.Example.com:4560"] {
        assert_eq!(world.get_host(host, "/").await, (200, "serve".into()), "{host}");
    }
    assert!(world.engine().run.is_mapped("www.example.com"));
    assert!(!world.engine().run.is_mapped("example.com"));

    world.restart().await;
    assert_eq!(world.get_host("www.example.com", "/").await, (200, "serve".into()), "after a restart");
    let request =
        second::DeleteServiceRequest { name: format!("{PARENT}/services/tide"), ..Default::default() };
    world.call(services::DELETE_SERVICE, request).await.unwrap();
    assert_eq!(world.get_host("www.example.com", "/").await.0, 404);
    assert_eq!(ready(&read(&world, "www.example.com").await), said("False", "RouteMissing"));
    unmap(&world, "www.example.com").await.unwrap();
    assert_eq!(unmap(&world, "www.example.com").await.unwrap_err().code(), Code::NotFound);
}

pub(crate) async fn a_domain_is_held_by_one(world: Arc<World>) {
    deployed(&world, "tide", "serve").await;
    deployed(&world, "wave", "other").await;
    let domain = "shop.example";
    let elsewhere = map_in(&world, "other", asked(domain, "far")).await.unwrap();
    assert_eq!(ready(&elsewhere), said("False", "RouteMissing"));
    map_in(&world, "demo", asked(domain, "tide")).await.unwrap();
    assert_eq!(ready(&read(&world, domain).await), said("False", "MappingAlreadyExists"));
    assert_eq!(world.get_host(domain, "/").await.0, 404, "another project has it");

    for (mapping, code) in
        [(asked(domain, "wave"), Code::AlreadyExists), (asked("No.Example", "wave"), Code::InvalidArgument)]
    {
        let request = knative::NamespacesDomainmappingsCreateRequest {
            parent: "namespaces/demo".into(),
            body: Some(mapping),
            dry_run: Some("all".into()),
        };
        let refused = world.call(namespaces_domainmappings::CREATE, request).await.unwrap_err();
        assert_eq!(refused.code(), code, "a dry run finds out: {refused:?}");
    }
    let twice = map_in(&world, "demo", asked(domain, "wave")).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists, "{twice:?}");
    unmap(&world, domain).await.unwrap();
    let mut forced = asked(domain, "wave");
    forced.spec.as_mut().unwrap().force_override = Some(true);
    map_in(&world, "demo", forced).await.unwrap();
    assert_eq!(ready(&read(&world, domain).await), said("True", ""));
    assert_eq!(world.get_host(domain, "/").await, (200, "other".into()));
    unmap(&world, domain).await.unwrap();
    assert_eq!(world.get_host(domain, "/").await.0, 404);

    for domain in ["storage.googleapis.com", "tide.run.app", "localhost", "No.Example"] {
        let error = map_in(&world, "demo", asked(domain, "tide")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{domain}");
    }
    let request = knative::ProjectsAuthorizeddomainsListRequest {
        parent: "projects/demo".into(),
        ..Default::default()
    };
    let every = world.call(projects_authorizeddomains::LIST, request).await.unwrap().domains;
    assert_eq!(every[0].id.as_deref(), Some("."), "every domain is below the root");
}
