//! Instances that share a network, as the containers of one pod do.

use std::time::Duration;

use sandbox::spec::Limits;
use tokio::io::AsyncReadExt;

use crate::world::{World, run_beside};

pub(crate) async fn a_sidecar_is_reached_on_the_loopback(world: &World) {
    let mut server = world.start(world.inside(&["serve", "5432", "rows"])).await;
    server.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
    let said = run_beside(&world.sandbox, &server, world.inside(&["ask", "127.0.0.1:5432"])).await;
    assert_eq!(said.out, "rows\n", "{}", said.err);
    // And the other way round.
    let sidecar = world.inside(&["serve", "9090", "metrics"]);
    let mut sidecar = world.sandbox.start_beside(&server, sidecar).await.unwrap();
    sidecar.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
    let mut answer = String::new();
    server.connect(9090).await.unwrap().read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "metrics");
    // It is nobody else's.
    assert_eq!(world.out("/test inside ask 127.0.0.1:9090").await, "connection refused\n");
}

pub(crate) async fn a_sidecar_has_all_else_for_itself(world: &World) {
    let main = world.start(world.shell("echo mine > /tmp/file; sleep 60")).await;
    let mut spec =
        world.shell("hostname; cat /tmp/file 2>/dev/null || echo none; ls /proc | grep -c '^[0-9]'");
    spec.hostname = "sidecar".into();
    let said = run_beside(&world.sandbox, &main, spec).await;
    assert_eq!(said.out, "sidecar\nnone\n4\n", "{}", said.err);
    assert_eq!(main.stop(Duration::ZERO).await.how, sandbox::Ending::Signal(9));
}

pub(crate) async fn each_ends_by_itself(world: &World) {
    let main = world.start(world.shell("sleep 60")).await;
    let sidecar = world.sandbox.start_beside(&main, world.shell("sleep 60")).await.unwrap();
    let failed = world.sandbox.start_beside(&main, world.spec(&["/none"])).await;
    assert_eq!(failed.err().unwrap().kind, sandbox::Kind::NotFound);
    main.stop(Duration::ZERO).await;
    assert!(std::path::Path::new(&format!("/proc/{}", sidecar.pid())).exists());
    assert!(world.sandbox.start_beside(&main, world.shell("true")).await.is_err());
    // The network is still there for the one that is left.
    let said = run_beside(&world.sandbox, &sidecar, world.inside(&["ask", "127.0.0.1:1"])).await;
    assert_eq!(said.out, "connection refused\n");
    let pid = sidecar.pid();
    drop(sidecar);
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    crate::traces::eventually("a sidecar ends with its handle", gone).await;
}

pub(crate) async fn a_sidecar_has_its_own_limit(world: &World) {
    let main = world.start(world.shell("sleep 60")).await;
    let mut spec = world.inside(&["eat", "268435456"]);
    spec.limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let said = run_beside(&world.sandbox, &main, spec).await;
    assert!(said.exit.oom, "{:?}", said.exit);
    assert!(std::path::Path::new(&format!("/proc/{}", main.pid())).exists());
}
