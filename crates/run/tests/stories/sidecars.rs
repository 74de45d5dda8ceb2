//! Several containers as one instance.

use std::sync::Arc;

use apis::google::cloud::run::v2::{self, env_var::Values, probe::ProbeType, volume::VolumeType};
use kernel::Code;

use crate::{knative, v2 as second, world::World};

const NEEDS: &str = "run.googleapis.com/container-dependencies";

/// A container that serves on port 9000 of its instance's loopback.
fn side(name: &str) -> v2::Container {
    let port = v2::EnvVar { name: "SIDE_PORT".into(), values: Some(Values::Value("9000".into())) };
    let asked = ProbeType::TcpSocket(v2::TcpSocketAction { port: 9000 });
    let probe = v2::Probe {
        period_seconds: 1,
        failure_threshold: 5,
        probe_type: Some(asked),
        ..v2::Probe::default()
    };
    v2::Container {
        name: name.into(),
        image: "demo/other:v1".into(),
        env: vec![port],
        startup_probe: Some(probe),
        ..Default::default()
    }
}

/// A service whose container with the port needs another, with memory that both mount.
fn pair() -> v2::Service {
    let mut service = second::service("serve");
    let template = service.template.as_mut().unwrap();
    let memory = v2::EmptyDirVolumeSource { medium: 1, ..Default::default() };
    template.volumes =
        vec![v2::Volume { name: "shared".into(), volume_type: Some(VolumeType::EmptyDir(memory)) }];
    let mount = |path: &str| v2::VolumeMount {
        name: "shared".into(),
        mount_path: path.into(),
        ..v2::VolumeMount::default()
    };
    let main = &mut template.containers[0];
    main.ports = vec![v2::ContainerPort { container_port: 8080, ..Default::default() }];
    main.depends_on = vec!["side".into()];
    main.volume_mounts = vec![mount("/here")];
    let mut side = side("side");
    side.volume_mounts = vec![mount("/there")];
    template.containers.push(side);
    service
}

pub(crate) async fn containers_share_a_network_and_volumes_and_end_together(world: Arc<World>) {
    let operation = second::create(&world, "tide", pair()).await.unwrap();
    let made = second::end(&world, &operation).await.unwrap();
    let containers = made.template.unwrap().containers;
    assert_eq!(containers.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["tide-1", "side"]);
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()));
    assert_eq!(world.get("tide", "/via/9000/").await.1, "other");
    world
        .eventually("both have written, each in its name", || {
            let wrote = world.log.1.lock().unwrap();
            wrote.iter().map(|name| &**name).eq(["side", "tide-1"])
        })
        .await;
    assert_eq!(world.get("tide", "/via/9000/env/PORT").await.1, "", "requests go elsewhere");
    assert_eq!(world.get("tide", "/via/9000/env/K_SERVICE").await.1, "tide");
    assert_eq!(world.get("tide", "/write/here/note").await.1, "written");
    assert_eq!(world.get("tide", "/via/9000/file/there/note").await.1, "written");

    let seen = knative::settle(&world, "tide").await;
    let metadata = seen.spec.clone().unwrap().template.unwrap().metadata.unwrap();
    assert_eq!(metadata.annotations[NEEDS], r#"{"tide-1":["side"]}"#);
    knative::replace(&world, seen.clone()).await.unwrap();
    let same = knative::settle(&world, "tide").await;
    assert_eq!(knative::latest(&same), knative::latest(&seen), "written back, it makes no revision");

    world.get("tide", "/via/9000/quit/").await;
    let ended = || {
        let lines = world.log.0.lock().unwrap();
        lines.iter().any(|(_, _, line)| line.contains("Container called exit(7)."))
    };
    world.eventually("the instance ends with its container", ended).await;
    assert_eq!(world.get("tide", "/").await, (200, "serve".into()), "and another takes its place");
    assert!(world.get("tide", "/file/here/note").await.1.starts_with("error"), "with memory of its own");
}

pub(crate) async fn containers_that_cannot_be_together_are_refused(world: Arc<World>) {
    let refuse = async |spoil: fn(&mut Vec<v2::Container>), part: &str| {
        let mut service = pair();
        spoil(&mut service.template.as_mut().unwrap().containers);
        let error = second::create(&world, "tide", service).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{part}");
        assert!(error.message().contains(part), "{part} in {}", error.message());
    };
    let exactly_one = "Revision template should contain exactly one container with an exposed port.";
    refuse(|all| all[0].ports.clear(), exactly_one).await;
    refuse(|all| all[1].ports = all[0].ports.clone(), exactly_one).await;
    let no_probe = "containers[0].depends_on: Dependent container 'side' must have startup probe specified";
    refuse(|all| all[1].startup_probe = None, no_probe).await;
    refuse(|all| all[0].depends_on = vec!["gone".into()], "Container 'gone' does not exist.").await;
    refuse(|all| all[1].depends_on = vec!["tide-1".into()], "in a circle").await;
    let renamed = |all: &mut Vec<v2::Container>| {
        (all[0].depends_on, all[1].name) = (Vec::new(), "Side".into());
    };
    refuse(renamed, "Invalid container name 'Side'. Must conform to RFC 1123").await;
    refuse(|all| all[0].name = "side".into(), "Container names must be unique").await;

    let mut broken = pair();
    broken.template.as_mut().unwrap().containers[1].image = "demo/exit:v1".into();
    let operation = second::create(&world, "broken", broken).await.unwrap();
    let (_, message) = second::end(&world, &operation).await.unwrap_err();
    assert!(message.contains("container 'side' failed the configured startup probe checks"), "{message}");
    assert!(message.contains("Container called exit(3)."), "{message}");
}
