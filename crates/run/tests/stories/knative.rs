//! What `gcloud run` does.

use std::{sync::Arc, time::Instant};

use apis::google::discovery::run::v1::{self as knative, namespaces_revisions, namespaces_services};
use kernel::{Code, Result};

use crate::world::{BUNDLE, World};

/// A manifest of a service that runs one mode of the app.
pub(crate) fn manifest(name: &str, mode: &str) -> knative::Service {
    knative::Service {
        api_version: Some("serving.knative.dev/v1".into()),
        kind: Some("Service".into()),
        metadata: Some(knative::ObjectMeta { name: Some(name.into()), ..Default::default() }),
        spec: Some(knative::ServiceSpec {
            template: Some(knative::RevisionTemplate {
                spec: Some(knative::RevisionSpec {
                    containers: vec![knative::Container {
                        image: Some(format!("demo/{mode}:v1")),
                        ..Default::default()
                    }],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            traffic: Vec::new(),
        }),
        status: None,
    }
}

pub(crate) fn container(service: &mut knative::Service) -> &mut knative::Container {
    let template = service.spec.as_mut().unwrap().template.as_mut().unwrap();
    &mut template.spec.as_mut().unwrap().containers[0]
}

pub(crate) fn set_env(service: &mut knative::Service, name: &str, value: &str) {
    let variable =
        knative::EnvVar { name: Some(name.into()), value: Some(value.into()), ..Default::default() };
    container(service).env.push(variable);
}

pub(crate) fn set_secret(service: &mut knative::Service, name: &str, secret: &str, version: &str) {
    let reference = knative::SecretKeySelector {
        name: Some(secret.into()),
        key: Some(version.into()),
        ..Default::default()
    };
    container(service).env.push(knative::EnvVar {
        name: Some(name.into()),
        value_from: Some(knative::EnvVarSource { secret_key_ref: Some(reference), ..Default::default() }),
        ..Default::default()
    });
}

pub(crate) async fn create(world: &World, service: knative::Service) -> Result<knative::Service> {
    let request = knative::NamespacesServicesCreateRequest {
        parent: "namespaces/demo".into(),
        body: Some(service),
        ..Default::default()
    };
    world.call(namespaces_services::CREATE, request).await
}

pub(crate) async fn replace(world: &World, service: knative::Service) -> Result<knative::Service> {
    let name = service.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap();
    let request = knative::NamespacesServicesReplaceServiceRequest {
        name: format!("namespaces/demo/services/{name}"),
        body: Some(service),
        ..Default::default()
    };
    world.call(namespaces_services::REPLACE_SERVICE, request).await
}

pub(crate) async fn read(world: &World, name: &str) -> Result<knative::Service> {
    let name = format!("namespaces/demo/services/{name}");
    let request = knative::NamespacesServicesGetRequest { name };
    world.call(namespaces_services::GET, request).await
}

pub(crate) async fn delete(world: &World, name: &str) -> Result<knative::Status> {
    let name = format!("namespaces/demo/services/{name}");
    let request = knative::NamespacesServicesDeleteRequest { name, ..Default::default() };
    world.call(namespaces_services::DELETE, request).await
}

/// A condition of a service: its status and its message.
pub(crate) fn state(service: &knative::Service, kind: &str) -> (String, String) {
    let status = service.status.clone().unwrap_or_default();
    let found = status.conditions.into_iter().find(|c| c.r#type.as_deref() == Some(kind)).unwrap();
    (found.status.unwrap_or_default(), found.message.unwrap_or_default())
}

/// Polls as gcloud does, until the service is ready or has failed.
pub(crate) async fn settle(world: &World, name: &str) -> knative::Service {
    for _ in 0..4000 {
        let service = read(world, name).await.unwrap();
        if state(&service, "Ready").0 != "Unknown" {
            return service;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{name} does not settle");
}

pub(crate) async fn deploy(world: &World, service: knative::Service) -> knative::Service {
    let name = create(world, service).await.unwrap().metadata.unwrap().name.unwrap();
    settle(world, &name).await
}

pub(crate) fn latest(service: &knative::Service) -> String {
    service.status.clone().and_then(|status| status.latest_ready_revision_name).unwrap_or_default()
}

pub(crate) async fn a_service_is_deployed_called_left_alone_and_called_again(world: Arc<World>) {
    let mut tide = manifest("tide", "serve");
    set_env(&mut tide, "GREETING", "ahoy");
    set_secret(&mut tide, "LEVEL", "tide", "latest");
    let service = deploy(&world, tide).await;
    assert_eq!(state(&service, "Ready"), ("True".into(), String::new()));
    let url = service.status.as_ref().and_then(|status| status.url.clone()).unwrap();
    assert_eq!(url, "http://tide-7.us-central1.run.localhost:4560");
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    for (name, value) in [
        ("GREETING", "ahoy"),
        ("LEVEL", "high"),
        ("K_SERVICE", "tide"),
        ("PORT", "8080"),
        ("FROM_IMAGE", "yes"),
        ("K_REVISION", &latest(&service)),
    ] {
        assert_eq!(world.get("tide", &format!("/env/{name}")).await, (200, value.into()));
    }
    world.eventually("it scales to zero", || world.instances() == 0).await;
    let begin = Instant::now();
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    println!("    from nothing to an answer: {:?}", begin.elapsed());
    let lines = world.log.0.lock().unwrap().clone();
    assert!(
        lines
            .iter()
            .any(|(revision, _, line)| **revision == *latest(&service) && line == "listening on 8080")
    );
    delete(&world, "tide").await.unwrap();
    assert_eq!(world.get("tide", "/").await.0, 404);
    let error = read(&world, "tide").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(
        error.message(),
        "Resource 'tide' of kind 'SERVICE' in region 'us-central1' in project 'demo' does not exist."
    );
}

pub(crate) async fn the_inside_of_an_instance_is_cloud_run_s(world: Arc<World>) {
    let tide = deploy(&world, manifest("tide", "serve")).await;
    assert_eq!(state(&tide, "Ready").0, "True", "{}", state(&tide, "Ready").1);
    let ask = async |path: &str| world.get("tide", path).await.1;
    assert_eq!(ask("/ask/metadata.google.internal:80").await, "metadata of tide");
    assert_eq!(ask("/ask/run.googleapis.com:443").await, "https of tide");
    assert_eq!(ask("/ask/run.googleapis.com:80").await, "http of tide");
    assert_eq!(ask("/ask/tide-7.us-central1.run.localhost:4560").await, "local of tide");
    assert_eq!(ask("/names/secretmanager.googleapis.com").await, "199.36.153.8");
    assert_eq!(ask("/names/shop.example").await, "199.36.153.8", "a domain that is mapped");
    assert!(ask("/names/example.internal").await.starts_with("error"));
    for path in
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"]
    {
        assert_eq!(ask(&format!("/file{path}")).await, BUNDLE);
    }
    assert_eq!(ask("/file/etc/java/store").await, "java");
    assert_eq!(ask("/env/SSL_CERT_FILE").await, "/etc/ssl/certs/ca-certificates.crt");
    assert_eq!(ask("/env/FROM_HAAR").await, "yes");
    assert_eq!(ask("/file/proc/sys/kernel/hostname").await.trim(), "localhost");
}

pub(crate) async fn a_service_read_and_written_back_makes_no_revision(world: Arc<World>) {
    let service = deploy(&world, manifest("tide", "serve")).await;
    let mut again = service.clone();
    again.metadata.as_mut().unwrap().labels.insert("team".into(), "sea".into());
    replace(&world, again).await.unwrap();
    let after = settle(&world, "tide").await;
    assert_eq!(latest(&after), latest(&service));
    assert_eq!(after.metadata.unwrap().labels.get("team").map(String::as_str), Some("sea"));
    let version = service.metadata.as_ref().unwrap().resource_version.clone().unwrap();
    let stale = replace(&world, service).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let said =
        format!("Conflict for resource 'tide': version '{version}' was specified but current version is '");
    assert!(stale.message().starts_with(&said), "{stale:?}");
}

fn target(revision: &str, percent: i32, tag: &str) -> knative::TrafficTarget {
    knative::TrafficTarget {
        revision_name: Some(revision.into()),
        percent: Some(percent),
        tag: Some(tag.into()).filter(|tag: &String| !tag.is_empty()),
        ..Default::default()
    }
}

pub(crate) async fn traffic_goes_back_to_an_older_revision(world: Arc<World>) {
    let first = deploy(&world, manifest("tide", "serve")).await;
    let mut change = first.clone();
    container(&mut change).image = Some("demo/other:v1".into());
    replace(&world, change).await.unwrap();
    let second = settle(&world, "tide").await;
    assert_eq!(world.get("tide", "/").await, (200, "other".into()));
    let (old, new) = (latest(&first), latest(&second));
    let mut back = second.clone();
    back.spec.as_mut().unwrap().traffic = vec![target(&old, 100, ""), target(&new, 0, "next")];
    replace(&world, back).await.unwrap();
    let third = settle(&world, "tide").await;
    assert_eq!(latest(&third), new);
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    assert_eq!(world.get("next---tide", "/").await, (200, "other".into()));
    let mut wrong = third.clone();
    wrong.spec.as_mut().unwrap().traffic = vec![target("tide-00009-zzz", 100, "")];
    let error = replace(&world, wrong).await.unwrap_err();
    assert!(error.message().contains("Revision 'tide-00009-zzz' does not exist"), "{error:?}");
}

pub(crate) async fn revisions_that_nothing_needs_can_be_deleted(world: Arc<World>) {
    let first = deploy(&world, manifest("tide", "serve")).await;
    let mut change = first.clone();
    container(&mut change).image = Some("demo/other:v1".into());
    replace(&world, change).await.unwrap();
    let second = settle(&world, "tide").await;
    let delete = async |revision: &str| {
        let name = format!("namespaces/demo/revisions/{revision}");
        let request = knative::NamespacesRevisionsDeleteRequest { name, ..Default::default() };
        world.call(namespaces_revisions::DELETE, request).await
    };
    let refused = async |revision: &str, why: &str| {
        let error = delete(revision).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        let said = format!("Revision \"{revision}\" cannot be directly deleted because it is {why}.");
        assert_eq!(error.message(), said);
    };
    refused(&latest(&second), "actively serving").await;

    // The latest may have no traffic, and what has only a tag is reached.
    let mut back = second.clone();
    back.spec.as_mut().unwrap().traffic = vec![target(&latest(&first), 100, "")];
    replace(&world, back).await.unwrap();
    let back = settle(&world, "tide").await;
    refused(&latest(&second), "the latest revision of service \"tide\"").await;
    refused(&latest(&first), "actively serving").await;
    let mut tagged = back.clone();
    tagged.spec.as_mut().unwrap().traffic =
        vec![target(&latest(&second), 100, ""), target(&latest(&first), 0, "old")];
    replace(&world, tagged).await.unwrap();
    let tagged = settle(&world, "tide").await;
    refused(&latest(&first), "actively serving").await;
    let mut plain = tagged.clone();
    plain.spec.as_mut().unwrap().traffic = Vec::new();
    replace(&world, plain).await.unwrap();
    settle(&world, "tide").await;
    delete(&latest(&first)).await.unwrap();
    assert_eq!(delete(&latest(&first)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.get("tide", "/").await, (200, "other".into()));
}

pub(crate) async fn a_revision_is_found_by_its_name_alone(world: Arc<World>) {
    // One service's name begins with another's.
    let (short, long) = (
        deploy(&world, manifest("tide", "serve")).await,
        deploy(&world, manifest("tide-low", "serve")).await,
    );
    for service in [&short, &long] {
        let name = format!("namespaces/demo/revisions/{}", latest(service));
        let found = world
            .call(namespaces_revisions::GET, knative::NamespacesRevisionsGetRequest { name })
            .await
            .unwrap();
        assert_eq!(found.metadata.unwrap().name, Some(latest(service)));
        let digest = found.status.unwrap().image_digest.unwrap();
        assert!(digest.starts_with("demo/serve@sha256:"), "{digest}");
        let list = knative::NamespacesRevisionsListRequest {
            parent: "namespaces/demo".into(),
            label_selector: Some(format!(
                "serving.knative.dev/service={}",
                service.metadata.as_ref().unwrap().name.as_ref().unwrap()
            )),
            ..Default::default()
        };
        let listed = world.call(namespaces_revisions::LIST, list).await.unwrap().items;
        assert_eq!(listed.len(), 1);
    }
    for name in ["tide-00009-xyz", "tide", "-", "tide-"] {
        let name = format!("namespaces/demo/revisions/{name}");
        let asked = knative::NamespacesRevisionsGetRequest { name };
        assert_eq!(world.call(namespaces_revisions::GET, asked).await.unwrap_err().code(), Code::NotFound);
    }
}
