//! HTTP/2 frame by frame: what breaks RFC 9113 ends a stream or a connection with the error that the standard names, and
//! nothing of it reaches an instance. The numbers are that standard's sections.
//!
//! Frames are read by the library `h2`; what these tests hold is that it stands there with the limits that we set, and
//! that what it lets through is one plain request at the instance. In places it says `PROTOCOL_ERROR` where the standard
//! has a closer word, and ends a connection where ending the stream would do (which 5.4.2 allows): both count.

use tokio::io::AsyncWriteExt;

use crate::{
    front::Limits,
    harness::{HOST, World, quick, revision, server, service, test, until},
    smuggling::Lab,
    wire::*,
};

/// Each of these, sent on a new connection, ends it with this error.
async fn ends_connection(lab: &mut Lab, code: u32, cases: &[(&str, Vec<u8>)]) {
    for (name, bytes) in cases {
        let mut wire = Wire::open(&lab.world).await;
        wire.send(bytes).await;
        let verdict = wire.verdict(u32::MAX).await;
        assert!([Verdict::Goaway(code), Verdict::Goaway(PROTOCOL)].contains(&verdict), "{name}: {verdict:?}");
        wire.ends().await;
        assert_eq!(lab.paths(), [""; 0], "{name}");
        lab.neighbour_is_well().await;
    }
}

/// Each of these ends the stream 1 with this error, and a request on stream 3 of that connection is answered, unless
/// the connection was ended as well.
async fn ends_stream(lab: &mut Lab, code: u32, cases: &[(&str, Vec<u8>)]) {
    for (name, bytes) in cases {
        let mut wire = Wire::open(&lab.world).await;
        wire.send(bytes).await;
        let verdict = wire.verdict(1).await;
        if verdict != Verdict::Goaway(PROTOCOL) {
            assert_eq!(verdict, Verdict::Reset(code), "{name}");
            wire.send(&head(3, &get("/after"))).await;
            assert_eq!(wire.verdict(3).await, Verdict::Answer(200), "{name}");
            assert_eq!(lab.paths(), ["/after"], "{name}");
        }
        assert_eq!(lab.paths(), [""; 0], "{name}");
        lab.neighbour_is_well().await;
    }
}

/// A request that is still being sent, so that its stream is open.
fn opened() -> Vec<u8> {
    open(1, &fields("POST", "/", &[]))
}

#[test]
fn a_frame_has_the_size_of_its_kind_4_2() {
    test(async {
        let mut lab = Lab::new().await;
        let cases = [
            ("SETTINGS of 5 bytes, 6.5", frame(SETTINGS, 0, 0, &[0; 5])),
            ("an acknowledgement with something in it, 6.5", frame(SETTINGS, ACK, 0, &[0; 6])),
            ("PING of 7 bytes, 6.7", frame(PING, 0, 0, &[0; 7])),
            ("WINDOW_UPDATE of 3 bytes, 6.9", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
            ("RST_STREAM of 5 bytes, 6.4", [opened(), frame(RST_STREAM, 0, 1, &[0; 5])].concat()),
            ("DATA larger than agreed", [opened(), frame(DATA, 0, 1, &[0; 16_385])].concat()),
            ("HEADERS larger than agreed", frame(HEADERS, END_HEADERS, 1, &[0; 16_385])),
        ];
        ends_connection(&mut lab, FRAME_SIZE, &cases).await;
    });
}

#[test]
fn streams_are_numbered_upwards_by_their_client_5_1_1() {
    test(async {
        let mut lab = Lab::new().await;
        let update = 1u32.to_be_bytes();
        let cases = [
            ("an even number", head(2, &get("/"))),
            ("DATA on 0, 6.1", frame(DATA, 0, 0, b"x")),
            ("HEADERS on 0, 6.2", head(0, &get("/"))),
            ("PRIORITY on 0, 6.3", frame(PRIORITY, 0, 0, &[0; 5])),
            ("RST_STREAM on 0, 6.4", frame(RST_STREAM, 0, 0, &[0; 4])),
            ("SETTINGS on 1, 6.5", frame(SETTINGS, 0, 1, b"")),
            ("PING on 1, 6.7", frame(PING, 0, 1, &[0; 8])),
            ("GOAWAY on 1, 6.8", frame(GOAWAY, 0, 1, &[0; 8])),
            ("CONTINUATION on 0, 6.10", frame(CONTINUATION, END_HEADERS, 0, b"")),
            (
                "PUSH_PROMISE from a client, 8.4",
                [opened(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
            ),
            ("DATA on an idle stream, 5.1", frame(DATA, 0, 1, b"x")),
            ("RST_STREAM on an idle stream, 5.1", frame(RST_STREAM, 0, 1, &[0; 4])),
            ("WINDOW_UPDATE on an idle stream, 5.1", frame(WINDOW_UPDATE, 0, 1, &update)),
        ];
        ends_connection(&mut lab, PROTOCOL, &cases).await;
        // A number that was passed over is a closed stream.
        let mut wire = Wire::open(&lab.world).await;
        wire.send(&[head(5, &get("/five")), head(3, &get("/three"))].concat()).await;
        while let Some((kind, _, _, payload)) = wire.next().await {
            assert!(kind != GOAWAY || [PROTOCOL as u8, STREAM_CLOSED as u8].contains(&payload[7]));
        }
        assert!(!lab.paths().contains(&"/three".to_owned()));
    });
}

#[test]
fn settings_have_bounds_6_5_2() {
    test(async {
        let mut lab = Lab::new().await;
        let setting = |id: u16, value: u32| {
            frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        };
        let cases = [
            ("push, neither on nor off", setting(2, 2)),
            ("frames smaller than the smallest", setting(5, 16_383)),
            ("frames larger than the largest", setting(5, 1 << 24)),
        ];
        ends_connection(&mut lab, PROTOCOL, &cases).await;
        ends_connection(&mut lab, FLOW_CONTROL, &[("a window too large", setting(4, 1 << 31))]).await;
        // What is not known is passed over.
        let mut wire = Wire::open(&lab.world).await;
        wire.send(
            &[setting(0xff, u32::MAX), frame(0xee, 0xff, 7, b"extension"), head(1, &get("/ok"))].concat(),
        )
        .await;
        assert_eq!(wire.verdict(1).await, Verdict::Answer(200));
        assert_eq!(lab.paths(), ["/ok"]);
    });
}

#[test]
fn windows_cannot_grow_for_ever_6_9() {
    test(async {
        let mut lab = Lab::new().await;
        let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
        ends_connection(&mut lab, PROTOCOL, &[("by nothing", update(0, 0))]).await;
        let twice = [update(0, 0x7fff_ffff), update(0, 0x7fff_ffff)].concat();
        ends_connection(&mut lab, FLOW_CONTROL, &[("the connection's", twice)]).await;
        let twice = [opened(), update(1, 0x7fff_ffff), update(1, 0x7fff_ffff)].concat();
        ends_stream(&mut lab, FLOW_CONTROL, &[("a stream's", twice)]).await;
        ends_stream(&mut lab, PROTOCOL, &[("a stream's, by nothing", [opened(), update(1, 0)].concat())])
            .await;
    });
}

#[test]
fn nobody_sends_more_than_the_window_6_9_1() {
    test(async {
        // The instance reads nothing, so that nothing is added to the window of 1 MiB.
        let program = server(|request, _| async {
            let _held = request;
            std::future::pending().await
        });
        let world = World::new(program).await;
        let mut wire = Wire::open(&world).await;
        wire.send(&opened()).await;
        let verdict = wire.flood(1, frame(DATA, 0, 1, &[0; 16 << 10])).await;
        let ended = [Verdict::Reset(FLOW_CONTROL), Verdict::Goaway(FLOW_CONTROL), Verdict::Closed];
        assert!(ended.contains(&verdict), "{verdict:?}");
        until(|| (world.counters().running == 0).then_some(())).await;
        assert!(world.counters().request_bytes < 8 << 20);
    });
}

#[test]
fn a_head_in_many_frames_has_an_end_6_10_and_10_5_1() {
    test(async {
        let mut lab = Lab::new().await;
        let start = frame(HEADERS, END_STREAM, 1, &get("/"));
        let between = [start.clone(), frame(PING, 0, 0, &[0; 8])].concat();
        let other = [start.clone(), frame(CONTINUATION, END_HEADERS, 3, b"")].concat();
        let alone = frame(CONTINUATION, END_HEADERS, 1, &get("/"));
        let cases = [("a frame in between", between), ("another stream's", other), ("of nothing", alone)];
        ends_connection(&mut lab, PROTOCOL, &cases).await;
        // Without an end: small ones, empty ones and large ones.
        for part in [&b""[..], &block(&[("x", "y")]), &block(&[("x", &"y".repeat(16_000))])] {
            let mut wire = Wire::open(&lab.world).await;
            wire.send(&start).await;
            let verdict = wire.flood(1, frame(CONTINUATION, 0, 1, part).repeat(1000)).await;
            let ended =
                [Verdict::Answer(431), Verdict::Goaway(CALM), Verdict::Goaway(PROTOCOL), Verdict::Closed];
            assert!(ended.contains(&verdict), "{verdict:?}");
            assert_eq!(lab.paths(), [""; 0]);
            lab.neighbour_is_well().await;
        }
    });
}

#[test]
fn streams_that_are_opened_only_to_be_reset_end_the_connection_10_5() {
    test(async {
        let mut lab = Lab::new().await;
        let mut wire = Wire::open(&lab.world).await;
        let mut flood = Vec::new();
        for stream in (1..4000).step_by(2) {
            flood.extend(head(stream, &get("/reset")));
            flood.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        wire.send(&flood).await;
        let verdict = wire.verdict(u32::MAX).await;
        assert!([Verdict::Goaway(CALM), Verdict::Closed].contains(&verdict), "{verdict:?}");
        let seen = lab.paths().len();
        assert!(seen < 2000, "the instance saw all {seen} of them");
        until(|| (lab.world.counters().running == 0 && lab.world.counters().waiting == 0).then_some(()))
            .await;
        lab.paths();
        lab.neighbour_is_well().await;
    });
}

#[test]
fn a_head_has_a_limit_and_only_its_stream_is_refused_10_5_1() {
    test(async {
        let lab = Lab::new().await;
        let value = "y".repeat(4000);
        let many: Vec<_> = (0..20).map(|_| ("x", value.as_str())).collect();
        let large = fields("GET", "/large", &many);
        let mut parts = large.chunks(16_000).peekable();
        let mut bytes = frame(HEADERS, END_STREAM, 1, parts.next().unwrap());
        while let Some(part) = parts.next() {
            bytes.extend(frame(CONTINUATION, if parts.peek().is_none() { END_HEADERS } else { 0 }, 1, part));
        }
        let mut wire = Wire::open(&lab.world).await;
        wire.send(&bytes).await;
        assert_eq!(wire.verdict(1).await, Verdict::Answer(431));
        wire.send(&head(3, &get("/small"))).await;
        assert_eq!(wire.verdict(3).await, Verdict::Answer(200));
        assert_eq!(lab.paths(), ["/small"]);
    });
}

#[test]
fn a_block_that_cannot_be_read_ends_the_connection_4_3() {
    test(async {
        let mut lab = Lab::new().await;
        let cases = [
            ("an index that is not there, RFC 7541 2.3.3", head(1, &[0xff, 0xff, 0x01])),
            ("the index 0, 6.1", head(1, &[0x80])),
            ("a string that goes on, 5.2", head(1, &[0x00, 0x05, b'x'])),
            ("a table larger than agreed, 6.3", head(1, &[0x3f, 0xff, 0xff, 0x7f])),
            ("Huffman's end inside of a string, 5.2", head(1, &[0x00, 0x84, 0xff, 0xff, 0xff, 0xfc, 0x00])),
        ];
        ends_connection(&mut lab, COMPRESSION, &cases).await;
        let padded = frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0x82]);
        ends_connection(&mut lab, PROTOCOL, &[("more padding than frame, 6.2", padded)]).await;
        let padded = [opened(), frame(DATA, PADDED, 1, &[200, 1])].concat();
        ends_connection(&mut lab, PROTOCOL, &[("more padding than frame, 6.1", padded)]).await;
    });
}

#[test]
fn a_stream_does_not_wait_for_itself_5_3_1_of_rfc_7540() {
    test(async {
        let mut lab = Lab::new().await;
        let itself = [1u32.to_be_bytes().as_slice(), &[16]].concat();
        let in_head = frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, &[&itself[..], &get("/")].concat());
        for bytes in [frame(PRIORITY, 0, 1, &itself), in_head] {
            let mut wire = Wire::open(&lab.world).await;
            wire.send(&bytes).await;
            let verdict = wire.verdict(1).await;
            assert!([Verdict::Goaway(PROTOCOL), Verdict::Reset(PROTOCOL)].contains(&verdict), "{verdict:?}");
            assert_eq!(lab.paths(), [""; 0]);
            lab.neighbour_is_well().await;
        }
    });
}

#[test]
fn what_comes_after_the_end_of_a_stream_is_refused_5_1() {
    test(async {
        let mut lab = Lab::new().await;
        let mut wire = Wire::open(&lab.world).await;
        wire.send(&head(1, &get("/one"))).await;
        assert_eq!(wire.verdict(1).await, Verdict::Answer(200));
        wire.send(&frame(DATA, END_STREAM, 1, b"GET /evil HTTP/1.1\r\n\r\n")).await;
        let verdict = wire.verdict(1).await;
        let closed =
            [Verdict::Reset(STREAM_CLOSED), Verdict::Goaway(STREAM_CLOSED), Verdict::Goaway(PROTOCOL)];
        assert!(closed.contains(&verdict), "{verdict:?}");
        assert_eq!(lab.paths(), ["/one"]);
        lab.neighbour_is_well().await;
    });
}

#[test]
fn a_client_that_goes_away_gets_what_it_asked_for_6_8() {
    test(async {
        let mut lab = Lab::new().await;
        let mut wire = Wire::open(&lab.world).await;
        wire.send(&[head(1, &get("/one")), frame(GOAWAY, 0, 0, &[0; 8])].concat()).await;
        assert_eq!(wire.verdict(1).await, Verdict::Answer(200));
        wire.ends().await;
        assert_eq!(lab.paths(), ["/one"]);
        lab.neighbour_is_well().await;
    });
}

#[test]
fn more_streams_than_agreed_are_refused_5_1_2() {
    test(async {
        let held = server(|_, _| std::future::pending());
        let limits = Limits { streams: 5, ..Limits::default() };
        let world = World::behind(limits, held, quick(), revision(), service()).await;
        let mut wire = Wire::open(&world).await;
        // The limit holds once it is known.
        while let Some((kind, flags, ..)) = wire.next().await {
            if (kind, flags) == (SETTINGS, 0) {
                break;
            }
        }
        wire.send(&frame(SETTINGS, ACK, 0, b"")).await;
        let all: Vec<_> = (0..6).flat_map(|number| head(number * 2 + 1, &get("/"))).collect();
        wire.send(&all).await;
        assert_eq!(wire.verdict(11).await, Verdict::Reset(REFUSED));
        until(|| (world.counters().running == 5).then_some(())).await;
    });
}

#[test]
fn a_malformed_request_ends_its_stream_8_1_1() {
    test(async {
        let mut lab = Lab::new().await;
        let with = |name: &'static str, value: &str| head(1, &fields("GET", "/", &[(name, value)]));
        let only = |fields: &[(&str, &str)]| head(1, &block(fields));
        let (method, scheme, path, host) =
            ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", HOST));
        let cases = [
            ("an upper case name, 8.2.1", with("X-Upper", "y")),
            ("a name with a colon", with("x:y", "z")),
            ("a name with a space", with("x y", "z")),
            ("a name with a line's end", with("x\r\ny", "z")),
            ("an empty name", with("", "z")),
            ("a value with a line's end", with("x", "y\r\ntransfer-encoding: chunked")),
            ("a value with a bare LF", with("x", "y\nz")),
            ("a value with a NUL", with("x", "y\0z")),
            ("transfer-encoding, 8.2.2", with("transfer-encoding", "chunked")),
            ("connection", with("connection", "close")),
            ("upgrade", with("upgrade", "websocket")),
            ("keep-alive", with("keep-alive", "1")),
            ("proxy-connection", with("proxy-connection", "close")),
            ("te other than trailers", with("te", "gzip")),
            ("an unknown pseudo-field, 8.3", with(":evil", "x")),
            ("one of a response", with(":status", "200")),
            ("two methods", only(&[method, method, scheme, path, host])),
            ("two paths", only(&[method, scheme, path, path, host])),
            ("two schemes", only(&[method, scheme, scheme, path, host])),
            ("two authorities", only(&[method, scheme, path, host, host])),
            ("no method, 8.3.1", only(&[scheme, path, host])),
            ("no scheme", only(&[method, path, host])),
            ("no path", only(&[method, scheme, host])),
            ("an empty path", only(&[method, scheme, (":path", ""), host])),
            ("a pseudo-field after others", only(&[method, scheme, ("x", "y"), path, host])),
            ("a length and no body, 8.1.1", with("content-length", "5")),
        ];
        ends_stream(&mut lab, PROTOCOL, &cases).await;
        let post = |length: &str| open(1, &fields("POST", "/", &[("content-length", length)]));
        let evil = b"GET /evil HTTP/1.1\r\nhost: x\r\n\r\n";
        let cases = [
            ("more body than said", [post("3"), frame(DATA, END_STREAM, 1, evil)].concat()),
            ("less body than said", [post("300"), frame(DATA, END_STREAM, 1, evil)].concat()),
        ];
        ends_stream(&mut lab, PROTOCOL, &cases).await;
    });
}

#[test]
fn what_http1_would_read_differently_stays_out_8_3_1() {
    test(async {
        let mut lab = Lab::new().await;
        let line = |method: &str, path: &str, authority: &str, more: &[(&str, &str)]| {
            let line = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)];
            head(1, &block(&[&line[..], more].concat()))
        };
        for (name, bytes) in [
            ("a path with a second line", line("GET", "/ HTTP/1.1\r\nhost: x\r\n\r\nGET /evil", HOST, &[])),
            ("a path with a space", line("GET", "/a b", HOST, &[])),
            ("a path with a tab", line("GET", "/a\tb", HOST, &[])),
            ("a path without a slash", line("GET", "evil", HOST, &[])),
            ("a method with a space", line("GET /evil HTTP/1.1\r\n", "/", HOST, &[])),
            ("an asterisk for GET", line("GET", "*", HOST, &[])),
            ("an authority with a line's end", line("GET", "/", "x\r\ny: z", &[])),
            ("an authority with a space", line("GET", "/", &format!("{HOST} x"), &[])),
            ("an authority with a user", line("GET", "/", &format!("me@{HOST}"), &[])),
            ("two hosts", line("GET", "/", HOST, &[("host", "other")])),
            ("two hosts, again", line("GET", "/", HOST, &[("host", HOST), ("host", HOST)])),
            ("a length in signs", line("GET", "/", HOST, &[("content-length", "+0")])),
            ("two lengths", line("GET", "/", HOST, &[("content-length", "0"), ("content-length", "1")])),
            ("CONNECT, 8.5", line("CONNECT", "/", HOST, &[])),
            ("CONNECT to somewhere", head(1, &block(&[(":method", "CONNECT"), (":authority", HOST)]))),
            ("a protocol, RFC 8441", line("CONNECT", "/", HOST, &[(":protocol", "websocket")])),
        ] {
            let mut wire = Wire::open(&lab.world).await;
            wire.send(&bytes).await;
            let verdict = wire.verdict(1).await;
            let refused = [Verdict::Answer(400), Verdict::Reset(PROTOCOL), Verdict::Goaway(PROTOCOL)];
            assert!(refused.contains(&verdict), "{name}: {verdict:?}");
            assert_eq!(lab.paths(), [""; 0], "{name}");
            lab.neighbour_is_well().await;
        }
    });
}

#[test]
fn floods_of_small_frames_are_in_nobody_s_way_10_5() {
    test(async {
        let mut lab = Lab::new().await;
        let setting = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]);
        let empty = frame(DATA, 0, 1, b"");
        for (first, small) in [(vec![], frame(PING, 0, 0, &[7; 8])), (vec![], setting), (opened(), empty)] {
            let mut wire = Wire::open(&lab.world).await;
            wire.send(&first).await;
            // Nothing is read: answers that nobody takes are not made without end.
            let flood = small.repeat(1000);
            let writing = async {
                for _ in 0..200 {
                    if wire.writer.write_all(&flood).await.is_err() {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), writing).await;
            lab.neighbour_is_well().await;
        }
    });
}
