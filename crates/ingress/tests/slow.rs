//! Clients that take their time: with heads, with bodies, with the next request, with saying goodbye. Each has a limit
//! to itself, and nobody else waits for them.

use std::time::Duration;

use ingress::RevisionSpec;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    front::{End, Limits},
    harness::*,
    raw::read_head,
};

const BRIEF: Duration = Duration::from_millis(300);

fn hasty() -> Limits {
    Limits { head: BRIEF, ..Limits::default() }
}

async fn hasty_world(timeout: Duration) -> World {
    World::behind(hasty(), echo(), quick(), RevisionSpec { timeout, ..revision() }, service()).await
}

/// Sends a byte now and then until the other side has had enough; what that said.
async fn drip(world: &World, first: &str, drop: &'static [u8]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(drop).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
    dripping.abort();
    assert!(ended.is_ok(), "it goes on and on");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_head_that_comes_in_drops_is_not_waited_for_rfc_9110_15_5_9() {
    test(async {
        let world = hasty_world(PATIENCE).await;
        for (first, drop) in [
            ("GET / HT", &b"T"[..]),
            ("GET / HTTP/1.1\r\n", b"x: y\r\n"),
            ("POST / HTTP/1.1\r\nhost: x\r\n", b"x"),
            ("\r\n", b"\r\n"),
        ] {
            let answer = drip(&world, first, drop).await;
            assert!(["", "HTTP/1.1 408"].contains(&answer.get(..12).unwrap_or_default()), "{answer}");
        }
        assert_eq!(world.fleet.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert_eq!(world.get("/").await.0, 200);
    });
}

#[test]
fn many_slow_heads_are_in_nobody_s_way() {
    test(async {
        let world = World::new(echo()).await;
        let mut slow = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
            slow.push(stream);
        }
        for _ in 0..20 {
            assert_eq!(world.get("/").await.0, 200);
        }
        assert_eq!(world.fleet.started.load(std::sync::atomic::Ordering::SeqCst), 1, "they hold no instance");
    });
}

#[test]
fn a_body_that_comes_in_drops_has_the_request_s_time_and_no_more() {
    test(async {
        for (framing, drop) in
            [("content-length: 100000", &b"x"[..]), ("transfer-encoding: chunked", b"1\r\nx\r\n")]
        {
            // The instance answers only once it has all.
            let program = server(|request, _| async move {
                let body = http_body_util::BodyExt::collect(request.into_body()).await;
                http::Response::new(full(body.map(|body| body.to_bytes()).unwrap_or_default()))
            });
            let spec = RevisionSpec { timeout: BRIEF, ..revision() };
            let world = World::behind(hasty(), program, quick(), spec, service()).await;
            let head = format!("POST /slow HTTP/1.1\r\nhost: {HOST}\r\n{framing}\r\n\r\n");
            let answer = drip(&world, &head, drop).await;
            assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
            world.log.line("/slow 504").await;
            until(|| (world.counters().running == 0).then_some(())).await;
        }
    });
}

#[test]
fn an_idle_connection_is_closed_in_silence_rfc_9112_9_5() {
    test(async {
        let world = hasty_world(PATIENCE).await;
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.unwrap().starts_with("HTTP/1.1 200 "));
        let mut more = String::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut more)).await;
        assert!(ended.is_ok(), "an idle connection stays open");
        assert!(["", "HTTP/1.1 408"].contains(&more.get(..12).unwrap_or_default()), "{more}");
    });
}

#[test]
fn a_client_that_has_gone_while_it_waited_is_not_answered() {
    test(async {
        for spec in [revision(), h2c(revision())] {
            let world = World::with(server(|_, _| std::future::pending()), quick(), spec, service()).await;
            for request in [
                format!("GET /gone HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
                format!("POST /gone HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\nok"),
            ] {
                let mut stream = TcpStream::connect(world.address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                until(|| (world.counters().running == 1).then_some(())).await;
                drop(stream);
                until(|| (world.counters().running == 0).then_some(())).await;
                world.log.line("/gone 499").await;
            }
        }
    });
}

#[test]
fn a_client_that_has_said_all_and_waits_is_answered_where_that_is_wished() {
    test(async {
        let limits = Limits { end: End::Waits, ..Limits::default() };
        let world = World::behind(limits, echo(), quick(), revision(), service()).await;
        let request = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\nok");
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
    });
}

#[test]
fn a_client_that_ends_in_a_reset_leaves_nothing_behind() {
    test(async {
        let world = World::new(echo()).await;
        for _ in 0..50 {
            let mut stream = TcpStream::connect(world.address).await.unwrap();
            let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000000\r\n\r\nsome");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.set_zero_linger().unwrap();
        }
        until(|| (world.counters().running == 0 && world.counters().waiting == 0).then_some(())).await;
        assert_eq!(world.get("/").await.0, 200);
    });
}
