//! Garbage, floods, slow and half-open connections: each is turned away, and the next client is served.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gateway::{Body, Hosts, Limits, Site};
use http::{Request, Response};
use hyper::body::Incoming;
use kernel::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    client::{get, raw, read_all},
    world::{World, soon},
};

const CALL: &str = "/v1/projects/my-project/secrets/s/versions/1:access";

async fn still_serves(world: &World) {
    let answer = get(world.address(), CALL, &["Host: localhost"]).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

fn impatient() -> World {
    let short = Duration::from_millis(100);
    World::with(|builder| builder.limits(Limits { hello: short, head: short, ..Default::default() }))
}

#[tokio::test]
async fn garbage_is_closed_without_an_answer() {
    let world = World::new();
    for garbage in
        [&b"\x00\x01\x02"[..], b"\x05\x01\x00", b"\xff\xff\xff\xff", b"\x16\x01", b" GET / HTTP/1.1\r\n\r\n"]
    {
        assert_eq!(raw(world.address(), garbage).await, "", "{garbage:?}");
    }
    for bad in [&b"GET\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"] {
        let answer = raw(world.address(), bad).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer:?}");
    }
    // A record that begins like TLS and is none ends in an alert or nothing, but ends.
    raw(world.address(), b"\x16\x03\x01\x00\x05hello world and more").await;
    still_serves(&world).await;
}

#[tokio::test]
async fn a_preface_followed_by_garbage_ends() {
    let world = World::new();
    raw(world.address(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        .await;
    still_serves(&world).await;
}

#[tokio::test]
async fn who_says_nothing_or_too_slowly_is_closed() {
    let world = impatient();
    for beginning in
        [&b""[..], b"PRI * HTTP", b"\x16", b"\x16\x03\x01\x01\x00\x01", b"GET / HTTP/1.1\r\nHost: loc"]
    {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        read_all(stream).await;
    }
    // One byte at a time buys no time.
    let began = Instant::now();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    while stream.write_all(b"x").await.is_ok() && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    still_serves(&world).await;
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let world = World::new();
    let many: String = (0..5000).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = raw(world.address(), format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = "x".repeat(1 << 20);
    let answer = raw(world.address(), format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    still_serves(&world).await;
}

#[tokio::test]
async fn a_half_closed_connection_gets_its_answer() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(format!("GET {CALL} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_all(stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Never answers, and tells when it is given up.
struct Waiting(mpsc::UnboundedSender<&'static str>);

struct Told(mpsc::UnboundedSender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("given up");
    }
}

impl Site for Waiting {
    fn serve(&self, _: Request<Incoming>, _: SocketAddr, _: bool) -> BoxFuture<'static, Response<Body>> {
        self.0.send("asked").unwrap();
        let told = Told(self.0.clone());
        Box::pin(async {
            let _told = told;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_request_at_a_site_is_given_up_when_its_client_has_gone() {
    let (sender, mut said) = mpsc::unbounded_channel();
    let site = Arc::new(Waiting(sender));
    let world = World::with(|builder| builder.site(Hosts::exact("app.run.localhost"), "/", site));
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.run.localhost\r\n\r\n").await.unwrap();
    assert_eq!(soon(said.recv()).await, Some("asked"));
    drop(stream);
    assert_eq!(soon(said.recv()).await, Some("given up"));
}

#[tokio::test]
async fn a_body_that_ends_early_ends_the_call() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let head = "POST /v1/projects/123/secrets?secretId=s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_all(stream).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    still_serves(&world).await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    for stream in (1u32..40_000).step_by(2) {
        let id = stream.to_be_bytes();
        // HEADERS with `:method: GET`, `:scheme: http`, `:path: /` from the static table, then RST_STREAM.
        flood.extend_from_slice(&[0, 0, 3, 1, 5, id[0], id[1], id[2], id[3], 0x82, 0x86, 0x84]);
        flood.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
    }
    // The server stops listening before all of it is sent, or ends with GOAWAY.
    let _ = stream.write_all(&flood).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    still_serves(&world).await;
}

#[tokio::test]
async fn beyond_the_most_connections_others_wait_their_turn() {
    let world = World::with(|builder| builder.limits(Limits { connections: 2, ..Default::default() }));
    let first = TcpStream::connect(world.address()).await.unwrap();
    let second = TcpStream::connect(world.address()).await.unwrap();
    let waiting = get(world.address(), CALL, &["Host: localhost"]);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    drop((first, second));
    assert!(soon(waiting).await.starts_with("HTTP/1.1 200 OK\r\n"));
}
