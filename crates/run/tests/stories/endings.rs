//! Overtaken, deleted, restarted: and nothing is left.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kernel::Code;

use crate::{v2, world::World};

pub(crate) async fn a_later_change_overtakes_an_earlier_one(world: Arc<World>) {
    let first = v2::create(&world, "tide", v2::service("deaf")).await.unwrap();
    world.eventually("the first is tried", || world.instances() == 1).await;
    let mut better = v2::service("serve");
    better.name = format!("{}/services/tide", v2::PARENT);
    let second = v2::update(&world, better, &[]).await.unwrap();
    let (code, message) = v2::end(&world, &first).await.unwrap_err();
    assert_eq!(code, Code::Aborted as i32, "{message}");
    v2::end(&world, &second).await.unwrap();
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    world.eventually("what was overtaken is gone", || world.instances() <= 1).await;
}

pub(crate) async fn a_deletion_waits_for_nobody(world: Arc<World>) {
    let made = v2::create(&world, "tide", v2::service("deaf")).await.unwrap();
    world.eventually("it is tried", || world.instances() == 1).await;
    let begin = Instant::now();
    v2::delete(&world, "tide").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5));
    let (code, _) = v2::end(&world, &made).await.unwrap_err();
    assert_eq!(code, Code::NotFound as i32);
    // A new one of this name has nothing to do with it.
    let made = v2::create(&world, "tide", v2::service("serve")).await.unwrap();
    assert_eq!(v2::end(&world, &made).await.unwrap().generation, 1);
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    world.eventually("only the new one runs", || world.instances() <= 1).await;
}

pub(crate) async fn requests_under_way_are_finished_before_a_deletion_ends_them(world: Arc<World>) {
    let made = v2::create(&world, "tide", v2::service("serve")).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    let caller = world.clone();
    let under_way = tokio::spawn(async move { caller.get("tide", "/wait/").await });
    let is_waiting = || world.log.0.lock().unwrap().iter().any(|(_, _, line)| line == "waiting");
    world.eventually("the request is under way", is_waiting).await;
    v2::delete(&world, "tide").await.unwrap();
    assert_eq!(world.get("tide", "/").await.0, 404);
    assert_eq!(under_way.await.unwrap(), (200, "waited".into()));
}

pub(crate) async fn instances_are_kept_when_asked_for(world: Arc<World>) {
    let mut service = v2::service("serve");
    service.template.as_mut().unwrap().scaling =
        Some(apis::google::cloud::run::v2::RevisionScaling { min_instance_count: 2, ..Default::default() });
    let made = v2::create(&world, "tide", service).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    world.eventually("as many as asked for", || world.instances() == 2).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(world.instances(), 2);
    v2::delete(&world, "tide").await.unwrap();
    world.eventually("none", || world.engine().run.status().is_empty()).await;
}

pub(crate) async fn an_instance_that_is_not_well_is_replaced(world: Arc<World>) {
    use apis::google::cloud::run::v2::{HttpGetAction, Probe, RevisionScaling, probe::ProbeType};
    let mut service = v2::service("serve");
    let template = service.template.as_mut().unwrap();
    template.scaling = Some(RevisionScaling { min_instance_count: 1, ..Default::default() });
    template.containers[0].liveness_probe = Some(Probe {
        period_seconds: 1,
        failure_threshold: 1,
        probe_type: Some(ProbeType::HttpGet(HttpGetAction { path: "/health".into(), ..Default::default() })),
        ..Default::default()
    });
    let made = v2::create(&world, "tide", service).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    assert_eq!(world.get("tide", "/health").await.0, 200);
    world.get("tide", "/sick").await;
    assert_eq!(world.get("tide", "/health").await.0, 500);
    let told = "LIVENESS HTTP probe failed 1 time consecutively for container \"tide-1\" on port 8080.";
    let is_told = || world.log.0.lock().unwrap().iter().any(|(_, _, line)| line.starts_with(told));
    world.eventually("it is found out", is_told).await;
    world.eventually("it is gone", || world.instances() == 0).await;
    assert_eq!(world.get("tide", "/health").await.0, 200);
}

pub(crate) async fn plain_processes_serve_too(_: Arc<World>) {
    let world = World::open_with(sandbox::Isolation::None).await.unwrap();
    let made = v2::create(&world, "tide", v2::service("serve")).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    assert_ne!(world.get("tide", "/env/PORT").await.1, "8080");
    let bundle = world.get("tide", "/env/SSL_CERT_FILE").await.1;
    assert_eq!(std::fs::read_to_string(bundle).unwrap(), crate::world::BUNDLE);
    let java = world.get("tide", "/env/JAVA_TOOL_OPTIONS").await.1;
    assert_eq!(std::fs::read(java.strip_prefix("-Dstore=").unwrap()).unwrap(), b"java");
    let metadata = world.get("tide", "/env/GCE_METADATA_HOST").await.1;
    assert_eq!(world.get("tide", &format!("/ask/{metadata}")).await.1, "metadata of tide");
    world.end().await.unwrap();
}

pub(crate) async fn services_come_back_after_a_restart(world: Arc<World>) {
    let tide = v2::create(&world, "tide", v2::service("serve")).await.unwrap();
    v2::end(&world, &tide).await.unwrap();
    let wave = v2::create(&world, "wave", v2::impatient("deaf", 2)).await.unwrap();
    world.eventually("the second is tried", || world.instances() >= 1).await;
    world.restart().await;
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    let unready = v2::read(&world, "wave").await.unwrap();
    assert!(unready.reconciling, "a restart says nothing about a revision");
    let (code, message) = v2::end(&world, &wave).await.unwrap_err();
    assert_eq!(code, Code::FailedPrecondition as i32, "{message}");
    assert!(message.contains("nothing accepted a connection"), "{message}");
}
