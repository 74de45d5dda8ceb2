//! The forward proxy.

use std::{net::SocketAddr, sync::Arc};

use gateway::{Body, Hosts, Instance, Listener, Site, Upstream, text};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use kernel::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    client::{get, raw, read_all, tunnel},
    world::{World, soon},
};

/// A server that reads a line and gives it back with a mark, then ends.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&[b"heard: ", &all[..]].concat()).await.unwrap();
            });
        }
    });
    address
}

/// A server that answers every HTTP request with what it was sent.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n",
                    head.len()
                );
                stream.write_all(&[answer.as_bytes(), &head].concat()).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test]
async fn other_hosts_get_their_bytes_unread_and_each_side_may_end_first() {
    let world = World::new();
    let there = echo().await;
    let mut stream = tunnel(world.address(), &there.to_string()).await.unwrap();
    stream.write_all(b"\x16\x03 anything at all").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(stream).await, "heard: \x16\x03 anything at all");
}

#[tokio::test]
async fn plain_requests_are_forwarded_without_what_is_for_the_proxy() {
    let world = World::new();
    let there = mirror().await;
    let answer = get(
        world.address(),
        &format!("http://{there}/path?q=1"),
        &[
            "Host: wrong.example",
            "Proxy-Authorization: Basic x",
            "X-Private: 1",
            "X-Kept: 2",
            "Connection: x-private",
        ],
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let heard = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(heard.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("host: {there}\r\n")) && heard.contains("x-kept: 2"), "{heard}");
    assert!(!heard.contains("x-private") && !heard.contains("proxy-authorization"), "{heard}");
    assert!(!answer.contains("x-hop: 1"), "{answer}");
}

#[tokio::test]
async fn the_machines_own_proxy_is_used_with_its_credentials() {
    let there = mirror().await;
    let upstream = Upstream::from_variables(|name| {
        ["https_proxy", "http_proxy"].contains(&name).then(|| format!("http://user:pass@{there}"))
    })
    .unwrap();
    let world = World::with(|builder| builder.upstream(upstream));
    let mut stream = tunnel(world.address(), "far.example:443").await.unwrap();
    stream.shutdown().await.unwrap();
    // The mirror's answer to CONNECT was a 200; what followed it is the tunnel's first bytes.
    let heard = read_all(stream).await;
    assert!(heard.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{heard}");
    let answer = get(world.address(), "http://far.example/x", &["Host: far.example"]).await;
    assert!(answer.contains("GET http://far.example/x HTTP/1.1\r\n"), "{answer}");
    // This machine itself is reached without it.
    let near = echo().await;
    let mut stream = tunnel(world.address(), &near.to_string()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(stream).await, "heard: ");
}

#[tokio::test]
async fn a_gateway_is_never_its_own_proxy() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream =
        Upstream::from_variables(|name| (name == "http_proxy").then(|| format!("http://{free}"))).unwrap();
    let world = World::with(|builder| builder.upstream(upstream));
    let Ok(socket) = std::net::TcpListener::bind(free) else {
        return println!("skipped: the port was taken");
    };
    let _door = world.gateway.open(Listener::machine(socket)).unwrap();
    let answer = soon(get(free, "http://no-such-host.invalid/", &["Host: x"])).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("no-such-host.invalid"), "{answer}");
}

#[tokio::test]
async fn the_hosts_own_metadata_server_is_never_reached() {
    let world = World::new();
    for place in [
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "[::ffff:169.254.169.254]:80",
        "2852039166:80",
        "instance-data:80",
    ] {
        let refusal = tunnel(world.address(), place).await.unwrap_err();
        assert!(refusal.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{place}: {refusal}");
    }
    let refusal = get(world.address(), "http://169.254.169.254/latest/meta-data/", &["Host: x"]).await;
    assert!(refusal.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{refusal}");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_a_bad_gateway_with_the_reason() {
    let world = World::new();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refusal = tunnel(world.address(), &closed.to_string()).await.unwrap_err();
    assert!(refusal.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && refusal.contains("refused"), "{refusal}");
    for bad in [
        "CONNECT / HTTP/1.1\r\n\r\n",
        "CONNECT a:b:c HTTP/1.1\r\n\r\n",
        "GET ftp://a.example/ HTTP/1.1\r\n\r\n",
    ] {
        let refusal = raw(
            world.address(),
            bad.replace("\r\n\r\n", "\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(refusal.starts_with("HTTP/1.1 400 "), "{bad}: {refusal}");
    }
}

#[tokio::test]
async fn a_proxied_connection_asks_for_no_other() {
    let world = World::new();
    let mut stream = tunnel(world.address(), "run.googleapis.com:80").await.unwrap();
    stream.write_all(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(read_all(stream).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
}

/// Says who asked it.
struct Mirror;

impl Site for Mirror {
    fn serve(
        &self,
        request: Request<Incoming>,
        _: SocketAddr,
        tls: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        if request.uri().path() == "/panic" {
            panic!("as it was told to");
        }
        let instance = request.extensions().get::<Instance>().map(|instance| instance.0.to_string());
        let says = format!("{} tls={tls} instance={instance:?}", request.uri().path());
        Box::pin(std::future::ready(text(StatusCode::OK, says)))
    }
}

fn with_site() -> World {
    World::with(|builder| builder.site(Hosts::exact("metadata.google.internal"), "/", Arc::new(Mirror)))
}

#[tokio::test]
async fn sites_answer_for_their_hosts_directly_and_through_the_proxy() {
    let world = with_site();
    let direct = get(world.address(), "/a", &["Host: metadata.google.internal"]).await;
    assert!(direct.ends_with("/a tls=false instance=None"), "{direct}");
    let absolute = get(world.address(), "http://metadata.google.internal/b", &["Host: other"]).await;
    assert!(absolute.ends_with("/b tls=false instance=None"), "{absolute}");
    let panicked = get(world.address(), "/panic", &["Host: metadata.google.internal"]).await;
    assert!(panicked.starts_with("HTTP/1.1 500 "), "{panicked}");
}

#[tokio::test]
async fn behind_a_published_door_there_is_its_site_and_nothing_else() {
    let world = World::new();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let door = world.gateway.open(Listener::published(socket, Arc::new(Mirror))).unwrap();
    for host in ["localhost:8080", "secretmanager.googleapis.com", "other"] {
        let site = get(door.address(), "/v1/projects/my-project/secrets", &[&format!("Host: {host}")]).await;
        assert!(site.ends_with("/v1/projects/my-project/secrets tls=false instance=None"), "{site}");
    }
    let absolute = get(door.address(), "http://elsewhere.example/b", &["Host: other"]).await;
    assert!(absolute.ends_with("/b tls=false instance=None"), "{absolute}");
}

#[tokio::test]
async fn a_workload_is_known_by_its_door_and_gets_no_proxy_and_no_owner() {
    let world = with_site();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let door = world.gateway.open(Listener::workload(socket, Instance("hello-1".into()))).unwrap();
    let site = get(door.address(), "/", &["Host: metadata.google.internal"]).await;
    assert!(site.ends_with("instance=Some(\"hello-1\")"), "{site}");
    let refusal = tunnel(door.address(), "127.0.0.1:1").await.unwrap_err();
    assert!(refusal.starts_with("HTTP/1.1 403 "), "{refusal}");
    let call =
        get(door.address(), "/v1/projects/my-project/secrets/s/versions/1:access", &["Host: localhost"])
            .await;
    assert!(call.starts_with("HTTP/1.1 401 "), "{call}");
    drop(door);
    soon(async { while get(world.address(), "/", &["Host: metadata.google.internal"]).await.is_empty() {} })
        .await;
}
