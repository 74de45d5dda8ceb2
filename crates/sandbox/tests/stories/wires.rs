//! Sockets in and out.

use std::time::{Duration, Instant};

use sandbox::Listener;
use sandbox::spec::{Access, Listen, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, bind, set_mode};

pub(crate) async fn a_server_inside_is_reached(world: &World) {
    let mut instance = world.start(world.inside(&["serve", "80", "low port"])).await;
    instance.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
    let mut answer = String::new();
    instance.connect(80).await.unwrap().read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "low port");
    let refused = instance.connect(81).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    instance.stop(Duration::ZERO).await;
    assert!(instance.connect(80).await.is_err());
}

pub(crate) async fn many_connections_outlast_a_batch(world: &World) {
    let mut instance = world.start(world.inside(&["serve", "8080", "x"])).await;
    instance.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
    let begin = Instant::now();
    const COUNT: u32 = 300;
    for _ in 0..COUNT {
        instance.connect(8080).await.unwrap().read_exact(&mut [0]).await.unwrap();
    }
    println!("    a connection with its answer: {:?}", begin.elapsed() / COUNT);
    let held: Vec<_> = futures_all((0..100).map(|_| instance.connect(8080))).await;
    assert!(held.iter().all(Result::is_ok));
}

async fn futures_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    for future in &mut all {
        done.push(future.await);
    }
    done
}

pub(crate) async fn programs_inside_reach_our_listeners(world: &World) {
    let listen = |addr: &str, protocol| Listen { addr: addr.parse().unwrap(), protocol };
    let mut spec = world.shell("/test inside ask 169.254.169.254:80; /test inside ask-udp 169.254.169.254:53; /test inside ask 199.36.153.8:443");
    spec.listen = vec![
        listen("169.254.169.254:80", Protocol::Tcp),
        listen("169.254.169.254:53", Protocol::Udp),
        listen("199.36.153.8:443", Protocol::Tcp),
        listen("[fd20:ce::254]:80", Protocol::Tcp),
    ];
    let mut instance = world.start(spec).await;
    let mut listeners = instance.take_listeners().into_iter().map(|(_, listener)| listener);
    for text in ["metadata", "name", "apis"] {
        match listeners.next().unwrap() {
            Listener::Tcp(listener) => {
                listener.accept().await.unwrap().0.write_all(text.as_bytes()).await.unwrap()
            }
            Listener::Udp(socket) => {
                let (_, from) = socket.recv_from(&mut [0; 64]).await.unwrap();
                socket.send_to(text.as_bytes(), from).await.unwrap();
            }
        }
    }
    let mut out = String::new();
    instance.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "metadata\nname\napis\n");
}

pub(crate) async fn a_socket_of_the_host_is_reached_through_a_volume(world: &World) {
    // In memory, where older kernels cannot translate owners; they are not needed to connect.
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let listener = tokio::net::UnixListener::bind(home.path().join("sql")).unwrap();
    set_mode(&home.path().join("sql"), 0o666);
    set_mode(home.path(), 0o755);
    let mut spec = world.inside(&["ask-unix", "/cloudsql/p:r:i/sql"]);
    spec.mounts.push(bind(home.path(), "/cloudsql/p:r:i", Access::ReadOnly));
    let instance = world.run(spec);
    let serve = async { listener.accept().await.unwrap().0.write_all(b"rows").await.unwrap() };
    let (said, ()) = tokio::join!(instance, serve);
    assert_eq!(said.out, "rows\n", "{}", said.err);
}
