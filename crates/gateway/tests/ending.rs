//! How a gateway closes.

use std::time::{Duration, Instant};

use apis::google::cloud::secretmanager::v1::AccessSecretVersionRequest;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    client::{Channel, get, read_all, tunnel},
    world::{ACCESS, World, soon},
};

#[tokio::test]
async fn idle_connections_end_at_once_and_nobody_new_is_served() {
    let world = World::new();
    let mut idle = TcpStream::connect(world.address()).await.unwrap();
    idle.write_all(b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    idle.readable().await.unwrap();
    let began = Instant::now();
    soon(world.gateway.close(Duration::from_secs(15))).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(read_all(idle).await.starts_with("HTTP/1.1 404 "));
    assert!(TcpStream::connect(world.address()).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let world = World::new();
    let mut channel = Channel::plain(world.address()).await;
    let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _tunnel = tunnel(world.address(), &there.local_addr().unwrap().to_string()).await.unwrap();
    let call = tokio::spawn(async move {
        let request =
            AccessSecretVersionRequest { name: "projects/my-project/secrets/waits/versions/1".into() };
        channel.call(ACCESS, &[], &request).await
    });
    // The call is known to have begun once the connection has answered another.
    get(world.address(), "/v1/x", &["Host: localhost"]).await;
    soon(world.gateway.close(Duration::from_millis(200))).await;
    assert!(soon(call).await.is_err(), "a call that never ends was answered");
}
