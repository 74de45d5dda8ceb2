//! What cannot serve, and what is refused.

use std::sync::Arc;

use apis::google::{cloud::run::v2, discovery::run::v1};
use kernel::Code;

use crate::{knative, v2 as second, world::World};

/// The message with which a deploy fails.
async fn failure(world: &World, name: &str, service: v2::Service) -> (i32, String) {
    let operation = second::create(world, name, service).await.unwrap();
    let failed = second::end(world, &operation).await.unwrap_err();
    let conditions = second::read(world, name).await.unwrap();
    let terminal = conditions.terminal_condition.unwrap();
    assert_eq!(terminal.state, v2::condition::State::ConditionFailed as i32);
    assert_eq!(terminal.message, failed.1);
    assert_eq!(world.get(name, "/").await.0, 404, "{name} is not routed");
    failed
}

pub(crate) async fn what_does_not_start_says_why(world: Arc<World>) {
    let (code, message) = failure(&world, "absent", second::service("absent")).await;
    assert_eq!(code, Code::NotFound as i32);
    assert!(
        message.contains("is not ready and cannot serve traffic. Image 'demo/absent:v1' not found."),
        "{message}"
    );

    let (code, message) = failure(&world, "armed", second::service("armed")).await;
    assert_eq!(code, Code::FailedPrecondition as i32);
    let expected = "Cloud Run does not support image 'demo/armed:v1': the image is built for arm64, but this machine \
                    runs amd64.";
    assert!(message.contains(expected), "{message}");

    let (code, message) = failure(&world, "exits", second::service("exit")).await;
    assert_eq!(code, Code::FailedPrecondition as i32);
    for part in [
        "failed to start and listen on the port defined provided by the PORT=8080 environment variable",
        "Container called exit(3).",
        "reading the tide tables",
        "no tide tables in here",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // One that sleeps, and one that listens where nobody from outside comes.
    for (name, mode) in [("deaf", "deaf"), ("shy", "shy")] {
        let (_, message) = failure(&world, name, second::impatient(mode, 1)).await;
        assert!(message.contains("nothing accepted a connection on port 8080"), "{message}");
    }
    let mut locked = second::service("serve");
    locked.template.as_mut().unwrap().containers[0].env.push(v2::EnvVar {
        name: "KEY".into(),
        values: Some(v2::env_var::Values::ValueSource(v2::EnvVarSource {
            secret_key_ref: Some(v2::SecretKeySelector { secret: "locked".into(), version: "1".into() }),
        })),
    });
    let (_, message) = failure(&world, "locked", locked).await;
    let expected = "Permission denied on secret: projects/demo/secrets/locked/versions/1 for Revision service account \
                    7-compute@developer.gserviceaccount.com.";
    assert!(message.contains(expected), "{message}");
    world.eventually("what failed is gone", || world.instances() == 0).await;
}

pub(crate) async fn what_cannot_be_is_refused_at_once(world: Arc<World>) {
    let refuse = async |spoil: fn(&mut v2::Service), part: &str| {
        let mut service = second::service("serve");
        spoil(&mut service);
        let error = second::create(&world, "tide", service).await.unwrap_err();
        assert!(error.message().contains(part), "{error:?}");
        error.code()
    };
    let latest = v2::TrafficTargetAllocationType::Latest as i32;
    let half = move |service: &mut v2::Service| {
        service.traffic = vec![v2::TrafficTarget { r#type: latest, percent: 50, ..Default::default() }]
    };
    let mut service = second::service("serve");
    half(&mut service);
    let error = second::create(&world, "tide", service).await.unwrap_err();
    assert!(error.message().contains("must sum to 100"), "{error:?}");
    let stray = |service: &mut v2::Service| {
        service.traffic = vec![v2::TrafficTarget {
            r#type: v2::TrafficTargetAllocationType::Revision as i32,
            revision: "tide-nowhere".into(),
            percent: 100,
            ..Default::default()
        }]
    };
    let code = refuse(stray, "Revision 'tide-nowhere' does not exist or is deleted.").await;
    assert_eq!(code, Code::FailedPrecondition);
    refuse(|service| service.template.as_mut().unwrap().containers.clear(), "exactly 1 container").await;
    world.others.denied.lock().unwrap().insert("iam.serviceaccounts.actAs");
    assert_eq!(refuse(|_| (), "iam.serviceaccounts.actAs").await, Code::PermissionDenied);
    world.others.denied.lock().unwrap().clear();
    assert!(second::read(&world, "tide").await.is_err());

    let named = |mode: &str| {
        let mut service = second::service(mode);
        service.name = format!("{}/services/tide", second::PARENT);
        service.template.as_mut().unwrap().revision = "tide-first".into();
        service
    };
    let operation = second::create(&world, "tide", named("serve")).await.unwrap();
    second::end(&world, &operation).await.unwrap();
    let error = second::update(&world, named("other"), &[]).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert_eq!(error.message(), "Revision named 'tide-first' with different configuration already exists.");
}

pub(crate) async fn what_served_before_goes_on_serving(world: Arc<World>) {
    let good = knative::deploy(&world, knative::manifest("tide", "serve")).await;
    let mut bad = good.clone();
    knative::container(&mut bad).image = Some("demo/exit:v1".into());
    knative::replace(&world, bad).await.unwrap();
    let failed = knative::settle(&world, "tide").await;
    assert_eq!(knative::state(&failed, "Ready").0, "False");
    assert_eq!(knative::state(&failed, "ConfigurationsReady").0, "False");
    assert_eq!(knative::state(&failed, "RoutesReady").0, "True");
    assert_eq!(knative::latest(&failed), knative::latest(&good));
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    let mut mended = failed.clone();
    knative::container(&mut mended).image = Some("demo/other:v1".into());
    knative::replace(&world, mended).await.unwrap();
    let mended = knative::settle(&world, "tide").await;
    assert_eq!(knative::state(&mended, "Ready").0, "True");
    assert_eq!(world.get("tide", "/").await, (200, "other".into()));
}

pub(crate) async fn too_much_memory_is_said(world: Arc<World>) {
    let mut small = knative::manifest("tide", "serve");
    let limits = [("memory".to_owned(), "128Mi".to_owned())].into();
    knative::container(&mut small).resources =
        Some(v1::ResourceRequirements { limits, ..Default::default() });
    let service = knative::deploy(&world, small).await;
    assert_eq!(knative::state(&service, "Ready").0, "True");
    let (status, _) = world.get("tide", "/eat/").await;
    assert!((500..600).contains(&status), "{status}");
    let said = "Memory limit of 128 MiB exceeded with 128 MiB used. Consider increasing the memory limit, see \
                https://cloud.google.com/run/docs/configuring/memory-limits";
    world
        .eventually("the log says so", || world.log.0.lock().unwrap().iter().any(|(_, _, line)| line == said))
        .await;
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()), "another instance takes its place");
}
