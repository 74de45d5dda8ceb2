//! Bytes that are not as they should be, from clients and from instances.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::harness::*;

/// A program that reads a request's head and answers with these bytes, on and on.
pub(crate) fn script(answer: &str) -> Program {
    let answer: Arc<str> = answer.into();
    Arc::new(move |mut stream, _| {
        let answer = answer.clone();
        Box::pin(async move {
            while read_head(&mut stream).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    })
}

/// Reads up to the empty line; `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Sends bytes and returns what comes back: until the end of the connection, or shortly after a head has come.
async fn say(world: &World, bytes: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    // The other side may refuse before it has read everything.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    loop {
        let answered = answer.windows(4).any(|four| four == b"\r\n\r\n");
        let patience = if answered { Duration::from_millis(30) } else { PATIENCE };
        match tokio::time::timeout(patience, stream.read_buf(&mut answer)).await {
            Ok(Ok(1..)) => {}
            _ => return String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

#[test]
fn an_instance_that_answers_nonsense_gives_503_and_no_second_meaning() {
    test(async {
        for nonsense in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            let world = World::new(script(nonsense)).await;
            let (status, _, text) = world.get("/").await;
            assert_eq!((status, text.as_str()), (503, "Service Unavailable"), "{nonsense}");
            world.log.line("connection to the instance had an error").await;
        }
    });
}

#[test]
fn an_instance_that_hangs_up_gives_503_or_an_unfinished_answer() {
    test(async {
        let world = World::new(Arc::new(|mut stream: TcpStream, _| {
            Box::pin(async move {
                let head = read_head(&mut stream).await.unwrap();
                if head.starts_with("GET /half") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
                }
            })
        }))
        .await;
        assert_eq!(world.get("/").await.0, 503);
        let answer = say(&world, &format!("GET /half HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abc"), "{answer}");
    });
}

#[test]
fn interim_answers_are_passed_over_and_old_servers_understood() {
    test(async {
        for (answer, text) in [
            (
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "ok",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n", "ok"),
        ] {
            let world = World::new(script(answer)).await;
            for _ in 0..2 {
                let (status, _, body) = world.get("/").await;
                assert_eq!((status, body.as_str()), (200, text));
            }
            assert_eq!(world.fleet.connections.load(SeqCst), 1);
        }
        let world = World::new(Arc::new(|mut stream: TcpStream, _| {
            Box::pin(async move {
                read_head(&mut stream).await.unwrap();
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await.unwrap();
            })
        }))
        .await;
        assert_eq!(world.get("/").await.2, "until the end");
    });
}

#[test]
fn what_follows_an_answer_unasked_is_not_the_next_answer() {
    test(async {
        let world = World::new(script(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ))
        .await;
        for _ in 0..5 {
            assert_eq!(world.get("/").await.2, "ok");
        }
        assert_eq!(world.fleet.connections.load(SeqCst), 5);
    });
}

#[test]
fn a_client_cannot_smuggle_a_second_request() {
    test(async {
        let (heads, mut seen) = mpsc::unbounded_channel();
        let world = World::new(Arc::new(move |mut stream: TcpStream, _| {
            let heads = heads.clone();
            Box::pin(async move {
                if let Some(head) = read_head(&mut stream).await {
                    heads.send(head.to_ascii_lowercase()).unwrap();
                    // Bodies are left unread: what follows the head must not look like a request.
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                        .await
                        .unwrap();
                }
            })
        }))
        .await;
        let smuggled = "GET /evil HTTP/1.1\r\nhost: x\r\n\r\n";
        let line = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
        for refused in [
            format!("{line}content-length: 5\r\ncontent-length: 6\r\n\r\n12345{smuggled}"),
            format!("{line}content-length: +5\r\n\r\n12345{smuggled}"),
            format!("{line}content-length: 5, 6\r\n\r\n12345{smuggled}"),
            format!("{line}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"),
            format!("{line}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
            format!("{line}transfer-encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
            format!("{line} transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
            format!("{line}x: y\r\n folded: chunked\r\n\r\n{smuggled}"),
            format!("{line}host: other\r\n\r\n"),
            format!("POST / HTTP/1.1\r\n\r\n{smuggled}"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{}\r\n", "a: b\r\n".repeat(1000)),
            format!("GET /a b HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            format!("CONNECT {HOST}:80 HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
        ] {
            let answer = say(&world, &refused).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "431", ""].contains(&status), "{}: {answer}", &refused[..refused.len().min(200)]);
            assert!(seen.try_recv().is_err(), "an instance saw {}", &refused[..refused.len().min(200)]);
        }
        // A length beside chunks: the chunks count, and only they go on.
        let both =
            format!("{line}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        assert!(say(&world, &both).await.starts_with("HTTP/1.1 200"), "chunks win");
        let head = seen.recv().await.unwrap();
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{head}"
        );
        assert!(seen.try_recv().is_err());
    });
}

#[test]
fn a_request_is_repeated_only_when_that_is_safe() {
    test(async {
        // Each connection answers one request and silently ends with the second.
        let served = Arc::new(AtomicUsize::new(0));
        let counter = served.clone();
        let world = World::new(Arc::new(move |mut stream: TcpStream, _| {
            let counter = counter.clone();
            Box::pin(async move {
                read_head(&mut stream).await.unwrap();
                counter.fetch_add(1, SeqCst);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                let _ = read_head(&mut stream).await;
                counter.fetch_add(100, SeqCst);
            })
        }))
        .await;
        assert_eq!(world.get("/").await.0, 200);
        assert_eq!(world.get("/").await.0, 200, "a GET is sent again on a new connection");
        assert_eq!(served.load(SeqCst), 102);
        let post = http::Request::post("/").header("host", HOST).body(full("x")).unwrap();
        assert_eq!(world.send(post).await.0, 503, "a POST may have been executed");
        assert_eq!(served.load(SeqCst), 202);
    });
}
