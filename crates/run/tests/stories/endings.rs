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
