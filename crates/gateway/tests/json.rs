//! Calls in JSON.

use std::io::Write;

use crate::{
    client::{get, raw, read_all, secure, tunnel},
    world::World,
};

const HOST: &str = "Host: secretmanager.googleapis.com";
const OWNER: &str = "Authorization: Bearer owner";
const READER: &str = "Authorization: Bearer reader";
const PATH: &str = "/v1/projects/my-project/secrets/s/versions/1:access";

#[tokio::test]
async fn a_call_is_answered() {
    let world = World::new();
    let answer = get(world.address(), PATH, &[HOST, OWNER]).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json; charset=UTF-8\r\n"), "{answer}");
    assert!(answer.contains("\"name\": \"projects/my-project/secrets/s/versions/1\""), "{answer}");
}

#[tokio::test]
async fn the_same_over_tls_through_the_proxy() {
    let world = World::new();
    let host = "secretmanager.googleapis.com";
    let stream = tunnel(world.address(), &format!("{host}:443")).await.unwrap();
    let mut stream = secure(stream, &world.ca, host, &["http/1.1"]).await.unwrap();
    let request = format!("GET {PATH} HTTP/1.1\r\n{HOST}\r\n{READER}\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    assert!(read_all(stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn errors_have_googles_shape() {
    let world = World::new();
    let refused = raw(
        world.address(),
        format!("POST /v1/projects/123/secrets?secretId=s HTTP/1.1\r\n{HOST}\r\n{READER}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes(),
    )
    .await;
    assert!(refused.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{refused}");
    assert!(
        refused.contains("\"status\": \"PERMISSION_DENIED\"") && refused.contains("IAM_PERMISSION_DENIED"),
        "{refused}"
    );
    let unknown = get(world.address(), "/v1/nothing", &[HOST, OWNER]).await;
    assert!(unknown.starts_with("HTTP/1.1 404 Not Found\r\n"), "{unknown}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::with(|builder| builder.limits(gateway::Limits { body: 1000, ..Default::default() }));
    let body = "x".repeat(2000);
    let answer = raw(
        world.address(),
        format!("POST /v1/projects/123/secrets?secretId=s HTTP/1.1\r\n{HOST}\r\n{OWNER}\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n{body}").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("Request payload size exceeds the limit: 1000 bytes."), "{answer}");
}

#[tokio::test]
async fn a_panic_is_internal() {
    let world = World::new();
    let answer =
        get(world.address(), "/v1/projects/my-project/secrets/panics/versions/1:access", &[HOST, OWNER])
            .await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("\"INTERNAL\""), "{answer}");
}

#[tokio::test]
async fn a_body_may_be_compressed_but_not_without_bounds() {
    let world = World::new();
    let post = async |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        let body = encoder.finish().unwrap();
        let head = format!(
            "POST /v1/projects/123/secrets?secretId=s HTTP/1.1\r\n{HOST}\r\n{OWNER}\r\nConnection: close\r\n\
             Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw(world.address(), &[head.as_bytes(), &body].concat()).await
    };
    let answer = post(b"{\"labels\": {\"a\": \"b\"}}").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let bomb = post(&vec![b' '; 64 << 20]).await;
    assert!(bomb.starts_with("HTTP/1.1 400 ") && bomb.contains("exceeds the limit"), "{bomb}");
}
