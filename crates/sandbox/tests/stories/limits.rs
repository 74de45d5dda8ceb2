//! Memory, processes, freezing, usage.

use std::time::Duration;

use sandbox::Ending;
use sandbox::spec::{Limits, Mount, MountKind};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::world::World;

fn memory(mib: u64) -> Limits {
    Limits { memory_bytes: Some(mib << 20), cpu_millis: None, pids: Some(64) }
}

pub(crate) async fn too_much_memory_is_told_as_such(world: &World) {
    let mut spec = world.inside(&["eat", "33554432"]);
    spec.limits = memory(64);
    let said = world.run(spec.clone()).await;
    assert_eq!((said.out.as_str(), said.exit.oom), ("ate 32\n", false));
    spec.limits = memory(16);
    let said = world.run(spec).await;
    assert_eq!(said.exit.how, Ending::Signal(9));
    assert!(said.exit.oom);
}

pub(crate) async fn files_in_memory_count(world: &World) {
    let mut spec = world.shell("head -c 30000000 /dev/zero > /tmp/big && echo wrote");
    spec.limits = memory(20);
    let said = world.run(spec.clone()).await;
    assert!(!said.out.contains("wrote"), "the root is limited by memory");
    spec.limits = memory(200);
    spec.mounts.push(Mount { target: "/tmp".into(), what: MountKind::Tmpfs { bytes: 1 << 20 } });
    let said = world.run(spec).await;
    assert!(said.err.contains("No space left"), "{}", said.err);
}

pub(crate) async fn a_fork_bomb_fizzles_out(world: &World) {
    let mut spec = world.inside(&["bomb"]);
    spec.limits = Limits { pids: Some(20), ..Limits::default() };
    let out = world.run(spec).await.out;
    let count: usize = out.split(' ').next().unwrap().parse().unwrap();
    // Besides the init and the bomb itself.
    assert!((15..=18).contains(&count), "{out}");
}

pub(crate) async fn a_frozen_instance_stands_still(world: &World) {
    let mut instance = world.start(world.shell("while :; do echo x; sleep 0.01; done")).await;
    let mut out = instance.take_stdout().unwrap();
    out.read_exact(&mut [0; 8]).await.unwrap();
    instance.freeze().await.unwrap();
    // What was in the pipe, and then no more.
    let mut rest = vec![0; 4096];
    while let Ok(read) = tokio::time::timeout(Duration::from_millis(60), out.read(&mut rest)).await {
        read.unwrap();
    }
    instance.thaw().unwrap();
    out.read_exact(&mut [0; 8]).await.unwrap();
    instance.freeze().await.unwrap();
    assert_eq!(instance.stop(Duration::from_secs(5)).await.how, Ending::Signal(15));
}

pub(crate) async fn usage_is_counted(world: &World) {
    let mut spec = world.shell(
        "/test inside eat 20000000; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 60",
    );
    spec.limits = memory(100);
    let mut instance = world.start(spec).await;
    instance.take_stdout().unwrap().read_exact(&mut [0; 12]).await.unwrap();
    let usage = instance.usage().unwrap();
    assert!(usage.cpu_micros > 1000, "{usage:?}");
    assert!(usage.peak_bytes > 20_000_000 && usage.memory_bytes < usage.peak_bytes, "{usage:?}");
    assert_eq!(usage.oom_kills, 0);
}

pub(crate) async fn limits_change_while_it_runs(world: &World) {
    let script = "echo ready; while :; do /usr/bin/true && echo fine || echo no more; sleep 0.01; done";
    let mut instance = world.start(world.shell(script)).await;
    let mut lines = tokio::io::BufReader::new(instance.take_stdout().unwrap()).lines();
    for expected in ["ready", "fine"] {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
    }
    // The init and the shell, and none besides.
    instance.limit(&Limits { pids: Some(2), cpu_millis: Some(500), memory_bytes: None }).unwrap();
    let mut errors = tokio::io::BufReader::new(instance.take_stderr().unwrap()).lines();
    let error = errors.next_line().await.unwrap().unwrap();
    assert!(error.contains("fork"), "{error}");
}
