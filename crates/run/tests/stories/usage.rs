//! What instances have used, and that none of it is lost.

use std::{collections::BTreeMap, sync::Arc};

use apis::google::cloud::run::v2;
use run::Usage;

use crate::{v2 as second, world::World};

/// A service with so many instances, which have their CPU always, or while they have requests.
fn service(instances: i32, cpu_idle: bool) -> v2::Service {
    let mut service = second::service("serve");
    let template = service.template.as_mut().unwrap();
    template.revision = "tide-ebb".into();
    template.scaling = Some(v2::RevisionScaling { min_instance_count: instances, ..Default::default() });
    template.containers[0].resources = Some(v2::ResourceRequirements {
        limits: BTreeMap::from([("cpu".into(), "1".into()), ("memory".into(), "512Mi".into())]),
        cpu_idle,
        ..Default::default()
    });
    service
}

async fn deploy(world: &World, service: v2::Service) {
    let made = second::create(world, "tide", service).await.unwrap();
    second::end(world, &made).await.unwrap();
}

fn usage(world: &World) -> Vec<Usage> {
    world.engine().run.usage()
}

pub(crate) async fn what_is_still_at_work_is_counted(world: Arc<World>) {
    deploy(&world, service(0, true)).await;
    let before = usage(&world)[0].clone();
    let caller = world.clone();
    let under_way = tokio::spawn(async move { caller.get("tide", "/wait/").await });
    world.eventually("the request is counted while it goes on", || usage(&world)[0].requests == 1).await;
    under_way.await.unwrap();
    let after = usage(&world)[0].clone();
    assert!(after.requests == 1 && after.instance_seconds > before.instance_seconds, "{before:?} {after:?}");
}

pub(crate) async fn what_was_used_outlives_haar(world: Arc<World>) {
    deploy(&world, service(3, false)).await;
    world.eventually("all of them run", || world.instances() == 3).await;
    assert_eq!(world.get("tide", "/").await.0, 200);
    second::delete(&world, "tide").await.unwrap();
    world.restart().await;
    let used = usage(&world)[0].clone();
    assert_eq!((used.requests, used.instances, used.instance_seconds), (1, 3, 180.0), "a minute each");
}

pub(crate) async fn another_service_of_the_same_name_has_its_own_usage(world: Arc<World>) {
    for cpu_idle in [true, false] {
        deploy(&world, service(0, cpu_idle)).await;
        assert_eq!(world.get("tide", "/").await.0, 200);
        world.eventually("it has answered", || usage(&world).iter().all(|one| one.requests == 1)).await;
        second::delete(&world, "tide").await.unwrap();
    }
    let both = usage(&world);
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(both[0].revision, both[1].revision);
    assert_ne!(both[0].billing, both[1].billing);
}
