//! Sizes and times.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use ingress::{Config, RevisionSpec};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::harness::*;

fn small() -> Config {
    Config { max_request: 1000, max_response: 1000, ..quick() }
}

#[test]
fn http1_requests_have_a_limit_and_http2_requests_do_not() {
    test(async {
        for spec in [revision(), h2c(revision())] {
            let world = World::with(echo(), small(), spec, service()).await;
            let announced = Request::post("/").header("host", HOST).body(full(vec![b'x'; 1001])).unwrap();
            let (status, _, page) = world.send(announced).await;
            assert_eq!(status, 413);
            assert!(page.contains("Your client issued a request that was too large."), "{page}");
            let (sender, body) = feed();
            (0..2).for_each(|_| sender.send(Frame::data(vec![b'x'; 600].into())).unwrap());
            let streamed = Request::post("/").header("host", HOST).body(body).unwrap();
            if let Ok(response) = world.http1().await.send_request(streamed).await {
                // The echo may have begun before the limit was reached: then it breaks off.
                let begun = response.status() == 200;
                assert!(if begun {
                    response.into_body().collect().await.is_err()
                } else {
                    response.status() == 413
                });
            }
            let big = Request::post(format!("http://{HOST}/")).body(full(vec![b'x'; 5000])).unwrap();
            let response = world.http2().await.send_request(big).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 5000);
        }
    });
}

#[test]
fn announced_responses_have_a_limit_over_http1_and_streams_do_not() {
    test(async {
        let program = server(|request, _| async move {
            if request.uri().path() == "/stream" {
                let (sender, body) = feed();
                sender.send(Frame::data(vec![b'x'; 5000].into())).unwrap();
                return Response::new(body);
            }
            Response::new(full(vec![b'x'; 5000]))
        });
        let world = World::with(program, small(), revision(), service()).await;
        assert_eq!(world.get("/").await.0, 500);
        world.log.line("Response size was too large.").await;
        assert_eq!(world.get("/stream").await.2.len(), 5000);
        let request = Request::get(format!("http://{HOST}/")).body(empty()).unwrap();
        assert_eq!(world.http2().await.send_request(request).await.unwrap().status(), 200);
    });
}

#[test]
fn a_request_that_takes_too_long_ends_with_504() {
    test(async {
        for base in [revision(), h2c(revision())] {
            let spec = RevisionSpec { timeout: Duration::from_millis(150), ..base };
            let program = server(|request, _| async move {
                let (sender, body) = feed();
                if request.uri().path() == "/stream" {
                    sender.send(Frame::data("begun".into())).unwrap();
                    tokio::spawn(async move { sender.closed().await });
                    return Response::new(body);
                }
                std::future::pending().await
            });
            let world = World::with(program, quick(), spec, service()).await;
            let (status, _, text) = world.get("/").await;
            assert_eq!((status, text.as_str()), (504, "upstream request timeout"));
            let response =
                world.http1().await.send_request(get("/stream").body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.into_body().collect().await.is_err(), "a stream is cut off");
            let line = world.log.line("/stream").await;
            assert!(line.contains(" 504 ") && line.contains("maximum request timeout"), "{line}");
            until(|| (world.counters().running == 0).then_some(())).await;
        }
    });
}

#[test]
fn an_earlier_request_s_alarm_does_not_end_a_later_one() {
    test(async {
        let program = server(|request, _| async move {
            let wait = request.uri().path().trim_start_matches('/').parse().unwrap();
            tokio::time::sleep(Duration::from_millis(wait)).await;
            Response::new(full("done"))
        });
        let spec = RevisionSpec { timeout: Duration::from_millis(400), ..revision() };
        let world = World::with(program, quick(), spec, service()).await;
        let mut client = world.http1().await;
        for _ in 0..5 {
            // Together these take longer than the timeout, on one connection; each alone does not.
            let response = client.send_request(get("/150").body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
        }
        assert_eq!(client.send_request(get("/5000").body(empty()).unwrap()).await.unwrap().status(), 504);
    });
}

#[test]
fn an_early_answer_does_not_wait_for_the_request_to_end() {
    test(async {
        let world = World::new(Arc::new(|mut stream: TcpStream, _| {
            Box::pin(async move {
                stream.read_u8().await.unwrap();
                let answer =
                    b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
                // It stays open for a while so that the answer is not lost in a reset.
                tokio::time::sleep(Duration::from_millis(500)).await;
            })
        }))
        .await;
        let (_sender, body) = feed();
        let request = Request::post("/").header("host", HOST).body(body).unwrap();
        let response = world.http1().await.send_request(request).await.unwrap();
        assert_eq!(response.status(), 422);
    });
}
