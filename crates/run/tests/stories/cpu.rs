//! What CPU instances have: none between requests, more while they start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apis::google::cloud::run::v2::{self, env_var::Values, probe::ProbeType};

use crate::{v2 as second, world::World};

/// A service of one instance, whose program says all the time that it runs.
fn ticking(cpu_idle: bool) -> v2::Service {
    let mut service = second::service("tick");
    let template = service.template.as_mut().unwrap();
    template.scaling = Some(v2::RevisionScaling { min_instance_count: 1, ..Default::default() });
    template.containers[0].resources = Some(v2::ResourceRequirements { cpu_idle, ..Default::default() });
    service
}

/// A container that says so too.
fn ticking_beside() -> v2::Container {
    let port = v2::EnvVar { name: "SIDE_PORT".into(), values: Some(Values::Value("9000".into())) };
    let asked = ProbeType::TcpSocket(v2::TcpSocketAction { port: 9000 });
    v2::Container {
        name: "side".into(),
        image: "demo/tick:v1".into(),
        env: vec![port],
        startup_probe: Some(v2::Probe { probe_type: Some(asked), ..Default::default() }),
        resources: Some(v2::ResourceRequirements { cpu_idle: true, ..Default::default() }),
        ..Default::default()
    }
}

async fn deploy(world: &World, service: v2::Service) {
    let made = second::create(world, "tide", service).await.unwrap();
    second::end(world, &made).await.unwrap();
}

fn ticks(world: &World) -> usize {
    world.log.0.lock().unwrap().iter().filter(|(_, _, line)| line == "tick").count()
}

/// Waits until nothing ticks any more.
async fn stands_still(world: &World) {
    for _ in 0..60 {
        let before = ticks(world);
        tokio::time::sleep(Duration::from_millis(300)).await;
        if ticks(world) == before {
            return;
        }
    }
    panic!("it still ticks");
}

async fn goes_on(world: &World) {
    let before = ticks(world);
    world.eventually("it ticks", || ticks(world) > before + 2).await;
}

pub(crate) async fn an_instance_without_requests_stands_still(world: Arc<World>) {
    let mut service = ticking(true);
    let containers = &mut service.template.as_mut().unwrap().containers;
    containers[0].ports = vec![v2::ContainerPort { container_port: 8080, ..Default::default() }];
    containers.push(ticking_beside());
    deploy(&world, service).await;
    stands_still(&world).await;
    let before = ticks(&world);
    assert_eq!(world.get("tide", "/").await, (200, "tick".into()));
    assert_eq!(world.get("tide", "/via/9000/").await, (200, "tick".into()), "its sidecar too");
    world.eventually("it has its CPU again", || ticks(&world) > before).await;
    stands_still(&world).await;
    second::delete(&world, "tide").await.unwrap();
    world.eventually("it ends", || world.instances() == 0).await;
    let lines = world.log.0.lock().unwrap();
    let killed = lines.iter().find(|(_, _, line)| line.contains("signal 9"));
    assert!(killed.is_none(), "it heard that it was to end: {killed:?}");
}

pub(crate) async fn an_instance_that_waits_for_its_first_request_stands_still(world: Arc<World>) {
    world.engine().run.keep_idle(Duration::from_secs(60));
    let mut service = ticking(true);
    service.template.as_mut().unwrap().scaling = None;
    deploy(&world, service).await;
    stands_still(&world).await;
    let before = ticks(&world);
    assert_eq!(world.get("tide", "/").await, (200, "tick".into()));
    world.eventually("it has its CPU again", || ticks(&world) > before).await;
    assert_eq!(world.instances(), 1, "it is the one that waited");
}

pub(crate) async fn an_instance_whose_cpu_is_always_there_goes_on(world: Arc<World>) {
    deploy(&world, ticking(false)).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        goes_on(&world).await;
    }
}

pub(crate) async fn a_start_is_given_more_cpu(world: Arc<World>) {
    for (boost, millis) in [(false, "100000"), (true, "200000")] {
        let name = if boost { "spring" } else { "neap" };
        let mut service = second::service("serve");
        service.template.as_mut().unwrap().containers[0].resources = Some(v2::ResourceRequirements {
            limits: BTreeMap::from([("cpu".into(), "1".into()), ("memory".into(), "512Mi".into())]),
            cpu_idle: true,
            startup_cpu_boost: boost,
        });
        let made = second::create(&world, name, service).await.unwrap();
        second::end(&world, &made).await.unwrap();
        let (_, v1) = world.get(name, "/file/sys/fs/cgroup/cpu/cpu.cfs_quota_us").await;
        let (_, v2) = world.get(name, "/file/sys/fs/cgroup/cpu.max").await;
        let quota = if v1.starts_with("error") { v2 } else { v1 };
        assert_eq!(quota.split_whitespace().next(), Some(millis), "{quota}");
    }
}
