//! What travels between clients and instances: connections, streams, trailers, upgrades, headers.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::harness::*;

#[test]
fn a_connection_to_an_instance_is_used_again() {
    test(async {
        let world = World::new(who()).await;
        let mut client = world.http1().await;
        for _ in 0..20 {
            let response = client.send_request(get("/").body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "app-1/0");
        }
        assert_eq!(world.fleet.connections.load(SeqCst), 1);
        assert_eq!(world.counters().requests[2], 20);
    });
}

#[test]
fn a_connection_that_the_instance_closed_is_not_used_again() {
    test(async {
        let closing = server(|_, _| async {
            Response::builder().header("connection", "close").body(full("x")).unwrap()
        });
        let world = World::new(closing).await;
        for _ in 0..5 {
            assert_eq!(world.get("/").await.0, 200);
        }
        assert_eq!(world.fleet.connections.load(SeqCst), 5);
    });
}

#[test]
fn the_request_keeps_its_headers_and_gets_ours() {
    test(async {
        let world = World::new(server(|request, _| async move {
            let mut text = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            Response::new(full(text))
        }))
        .await;
        let request = get("/a/b?c=d%20e")
            .header("connection", "keep-alive, x-hop, authorization")
            .header("x-hop", "1")
            .header("keep-alive", "5")
            .header("te", "gzip")
            .header("authorization", "Bearer mine")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-proto", "https")
            .header("x-google-secret", "1")
            .header("x-mine", "kept")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let (status, headers, text) = world.send(request.body(empty()).unwrap()).await;
        assert_eq!(status, 200);
        assert!(text.starts_with("GET /a/b?c=d%20e\n"), "{text}");
        for line in [
            &format!("host: {HOST}"),
            "authorization: Bearer mine",
            "x-forwarded-for: 10.0.0.1, 127.0.0.1",
            "x-forwarded-proto: http",
            "forwarded: for=\"127.0.0.1\";proto=http",
            "x-mine: kept",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        for gone in ["x-hop", "keep-alive", "\nte:", "x-google-secret", "b7ad6b7169203331"] {
            assert!(!text.contains(gone), "{gone} is in\n{text}");
        }
        assert!(text.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{text}");
        assert!(
            headers["x-cloud-trace-context"]
                .to_str()
                .unwrap()
                .starts_with("0af7651916cd43dd8448eb211c80319c/")
        );
        assert_eq!(headers["server"], "Google Frontend");
    });
}

#[test]
fn who_sets_a_cookie_is_kept_by_nobody_and_no_less_than_was_asked() {
    test(async {
        let program = server(|request, _| async move {
            let asked = request.uri().query().unwrap_or_default().to_owned();
            let answer = Response::builder().header("set-cookie", "tide=high");
            match asked.is_empty() {
                true => answer.body(full("")).unwrap(),
                false => answer.header("cache-control", asked).body(full("")).unwrap(),
            }
        });
        let world = World::new(program).await;
        for (asked, kept) in [
            ("", "private"),
            ("public", "private"),
            ("no-store", "no-store"),
            ("No-Store", "No-Store"),
            ("private,max-age=60", "private,max-age=60"),
        ] {
            let (_, headers, _) = world.get(&format!("/?{asked}")).await;
            assert_eq!(headers["cache-control"], kept, "{asked}");
        }
    });
}

#[test]
fn bodies_stream_in_both_directions_at_once() {
    test(async {
        let world = World::new(echo()).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let (sender, body) = feed();
            let request = Request::post(format!("http://{HOST}/")).header("host", HOST).body(body).unwrap();
            let answer = if version == Version::HTTP_2 {
                tokio::spawn(world.http2().await.send_request(request))
            } else {
                tokio::spawn(world.http1().await.send_request(request))
            };
            sender.send(Frame::data("0".into())).unwrap();
            let mut response = answer.await.unwrap().unwrap().into_body();
            for turn in 0..5 {
                // Each part arrives before the next is sent.
                let part = response.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(part, turn.to_string());
                sender.send(Frame::data((turn + 1).to_string().into())).unwrap();
            }
            drop(sender);
            assert_eq!(response.collect().await.unwrap().to_bytes(), "5");
        }
    });
}

#[test]
fn large_bodies_arrive_whole() {
    test(async {
        let world = World::new(echo()).await;
        let body: Bytes = (0..5_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        for request in [full(body.clone()), {
            let (sender, fed) = feed();
            body.chunks(70_001).for_each(|part| sender.send(Frame::data(body.slice_ref(part))).unwrap());
            fed
        }] {
            let request = Request::post("/").header("host", HOST).body(request).unwrap();
            let response = world.http1().await.send_request(request).await.unwrap();
            assert!(response.into_body().collect().await.unwrap().to_bytes() == body);
        }
        let line = world.log.line("POST").await;
        assert!(line.starts_with(&format!("POST http://{HOST}/ 200 5000000 5000000 app-1")), "{line}");
    });
}

#[test]
fn a_slow_client_slows_the_instance() {
    test(async {
        let (sent, mut progress) = mpsc::unbounded_channel();
        let world = World::new(server(move |_, _| {
            let (sender, body) = bounded(sent.clone());
            tokio::spawn(sender);
            async move { Response::new(body) }
        }))
        .await;
        let mut client = tokio::net::TcpStream::connect(world.address).await.unwrap();
        client.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        // The client reads nothing: what the instance can send is what fits into buffers on the way.
        let mut parts = 0;
        while let Ok(Some(())) = tokio::time::timeout(Duration::from_millis(500), progress.recv()).await {
            parts += 1;
        }
        assert!(parts < 64, "{parts} MiB went nowhere");
    });
}

/// A body of 256 MiB in parts of 1 MiB, and the task that sends it and tells of each part.
fn bounded(progress: mpsc::UnboundedSender<()>) -> (impl Future<Output = ()> + Send, AnyBody) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(1);
    let task = async move {
        for _ in 0..256 {
            if sender.send(Frame::data(vec![b'x'; 1 << 20].into())).await.is_err() {
                return;
            }
            let _ = progress.send(());
        }
    };
    (task, Parts(receiver).boxed_unsync())
}

struct Parts(mpsc::Receiver<Frame<Bytes>>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = ingress::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, ingress::BoxError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

#[test]
fn trailers_of_a_grpc_call_arrive_over_h2c() {
    test(async {
        let program = server(|request, _| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            let body = request.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-end"], "client");
            let (sender, answer) = feed();
            sender.send(Frame::data(body.to_bytes())).unwrap();
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            sender.send(Frame::trailers(trailers)).unwrap();
            Response::builder().header("content-type", "application/grpc").body(answer).unwrap()
        });
        let world = World::with(program, quick(), h2c(revision()), service()).await;
        let mut client = world.http2().await;
        for _ in 0..3 {
            let (sender, body) = feed();
            sender.send(Frame::data("message".into())).unwrap();
            let end = HeaderMap::from_iter([("x-end".parse().unwrap(), "client".parse().unwrap())]);
            sender.send(Frame::trailers(end)).unwrap();
            drop(sender);
            let request = Request::post(format!("http://{HOST}/pkg.Service/Call")).header("te", "trailers");
            let response = client.send_request(request.body(body).unwrap()).await.unwrap();
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), "message");
        }
        assert_eq!(world.fleet.connections.load(SeqCst), 1, "the calls share a connection");
        let line = world.log.line("/pkg.Service/Call").await;
        assert!(line.contains(" 200 7 7 app-1 cold"), "{line}");
    });
}

#[test]
fn trailers_of_a_response_say_nothing_of_its_head() {
    test(async {
        let program = server(|_, _| async move {
            let (sender, answer) = feed();
            let trailers = [("grpc-status", "0"), ("set-cookie", "a=b"), ("content-type", "text/html")];
            let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            sender.send(Frame::trailers(HeaderMap::from_iter(trailers))).unwrap();
            Response::new(answer)
        });
        let world = World::with(program, quick(), h2c(revision()), service()).await;
        let request = Request::get(format!("http://{HOST}/")).body(empty()).unwrap();
        let response = world.http2().await.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        let kept: Vec<_> = body.trailers().unwrap().keys().map(|name| name.as_str()).collect();
        assert_eq!(kept, ["grpc-status"]);
    });
}

#[test]
fn trailers_of_an_http1_instance_reach_an_http2_client() {
    test(async {
        let world = World::new(crate::raw::script(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
        ))
        .await;
        let request = Request::get(format!("http://{HOST}/")).body(empty()).unwrap();
        let response = world.http2().await.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-sum"], "6");
        assert_eq!(body.to_bytes(), "abc");
    });
}

#[test]
fn a_websocket_carries_bytes_both_ways_until_the_client_leaves() {
    test(async {
        let world = World::new(server(|mut request, _| async move {
            assert_eq!(request.headers()["upgrade"], "websocket");
            assert_eq!(request.headers()["sec-websocket-key"], "k");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                io.write_all(b"hello").await.unwrap();
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = io.read(&mut buffer).await {
                    io.write_all(&buffer[..length]).await.unwrap();
                }
            });
            let answer =
                Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "upgrade");
            answer.header("upgrade", "websocket").header("sec-websocket-accept", "a").body(empty()).unwrap()
        }))
        .await;
        let request = get("/chat").header("connection", "Upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-key", "k").body(empty()).unwrap();
        let mut response = world.http1().await.send_request(request).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "a");
        let mut io = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        let mut buffer = [0; 5];
        io.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");
        for text in [b"first", b"other"] {
            io.write_all(text).await.unwrap();
            io.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, text);
        }
        assert_eq!(world.counters().running, 1, "a WebSocket holds its place");
        drop(io);
        let line = world.log.line("/chat").await;
        assert!(line.starts_with(&format!("GET http://{HOST}/chat 101 10 15")), "{line}");
        assert_eq!(world.counters().running, 0);
    });
}

#[test]
fn an_upgrade_to_anything_else_is_not_passed_on() {
    test(async {
        let world = World::new(server(|request, _| async move {
            Response::new(full(format!("{:?}", request.headers().get("upgrade"))))
        }))
        .await;
        let request = get("/").header("connection", "Upgrade, HTTP2-Settings").header("upgrade", "h2c");
        let (_, _, text) = world.send(request.header("http2-settings", "x").body(empty()).unwrap()).await;
        assert_eq!(text, "None");
    });
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    test(async {
        for spec in [revision(), h2c(revision())] {
            let (arrived, mut seen) = mpsc::unbounded_channel();
            let world = World::with(
                server(move |mut request, _| {
                    let arrived = arrived.clone();
                    async move {
                        arrived.send("in").unwrap();
                        // The body never ends; its failure is how the instance learns of it.
                        while let Some(Ok(_)) = request.body_mut().frame().await {}
                        arrived.send("out").unwrap();
                        Response::new(empty())
                    }
                }),
                quick(),
                spec,
                service(),
            )
            .await;
            let (_sender, body) = feed();
            let request = Request::post("/gone").header("host", HOST).body(body).unwrap();
            let mut client = world.http1().await;
            let call = tokio::spawn(async move { client.send_request(request).await.map(|_| ()) });
            assert_eq!(seen.recv().await, Some("in"));
            call.abort();
            assert_eq!(seen.recv().await, Some("out"));
            let line = world.log.line("/gone").await;
            assert!(line.contains(" 499 "), "{line}");
            assert_eq!(world.counters().running, 0);
        }
    });
}

#[test]
fn head_and_bodiless_answers_keep_their_headers() {
    test(async {
        let world = World::new(server(|request, _| async move {
            match request.uri().path() {
                "/304" => Response::builder().status(304).header("etag", "\"e\"").body(empty()).unwrap(),
                "/204" => Response::builder().status(204).body(empty()).unwrap(),
                _ => {
                    Response::builder().header("content-length", "1234").body(full(vec![b'x'; 1234])).unwrap()
                }
            }
        }))
        .await;
        let mut client = world.http1().await;
        for _ in 0..3 {
            let head = Request::head("/").header("host", HOST).body(empty()).unwrap();
            let response = client.send_request(head).await.unwrap();
            assert_eq!(response.headers()["content-length"], "1234");
            for (path, status) in [("/304", 304), ("/204", 204)] {
                let response = client.send_request(get(path).body(empty()).unwrap()).await.unwrap();
                assert_eq!(response.status(), status);
                assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
            }
        }
        assert_eq!(world.fleet.connections.load(SeqCst), 1);
    });
}
