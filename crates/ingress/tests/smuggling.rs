//! Requests of HTTP/1 that mean two things, or nothing. Each is refused with a status that says why, its connection is
//! closed, the instance sees nothing of it, and the neighbours on other connections see no difference. Where the
//! standard lets a server choose, both readings lead to one and the same request at the instance.
//!
//! The numbers are sections of RFC 9112 where none else is named.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{front::Limits, harness::*, memory};

/// What an attacker would like the instance to read as a request of its own.
const EVIL: &str = "GET /evil HTTP/1.1\r\nhost: x\r\n\r\n";

/// A world with an instance that reads strictly and notes what it reads, and a client who has done nothing wrong.
pub(crate) struct Lab {
    pub(crate) world: World,
    seen: Arc<Mutex<Vec<String>>>,
    neighbour: TcpStream,
}

impl Lab {
    pub(crate) async fn new() -> Lab {
        Self::with(Limits::default(), quick()).await
    }

    pub(crate) async fn with(limits: Limits, config: ingress::Config) -> Lab {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let world = World::behind(limits, strict(seen.clone()), config, revision(), service()).await;
        let neighbour = TcpStream::connect(world.address).await.unwrap();
        Lab { world, seen, neighbour }
    }

    /// The paths that the instance was asked for since the last time.
    pub(crate) fn paths(&self) -> Vec<String> {
        let heads = std::mem::take(&mut *self.seen.lock().unwrap());
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    /// Sends bytes and returns all that comes back until the other side ends the connection.
    pub(crate) async fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.world.address).await.unwrap();
        // The other side may refuse before it has read everything, and its reset may overtake its answer's end.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open: {}", excerpt(bytes));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// These bytes get this status and nothing more.
    async fn refuses(&mut self, status: u16, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let answer = self.talk(bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", excerpt(bytes));
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{}: {answer}", excerpt(bytes));
        assert_eq!(self.paths(), [""; 0], "the instance saw {}", excerpt(bytes));
        self.neighbour_is_well().await;
    }

    /// These bytes are exactly these requests, and then the connection ends.
    async fn passes(&mut self, paths: &[&str], bytes: impl AsRef<[u8]>) {
        let answer = self.talk(bytes.as_ref()).await;
        let answers = answer.matches("HTTP/1.1 200").count();
        assert_eq!(answers, paths.len(), "{}: {answer}", excerpt(bytes.as_ref()));
        assert_eq!(self.paths(), paths, "{}", excerpt(bytes.as_ref()));
        self.neighbour_is_well().await;
    }

    pub(crate) async fn neighbour_is_well(&mut self) {
        let request = format!("GET /neighbour HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        self.neighbour.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(self.neighbour.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert_eq!(self.paths(), ["/neighbour"]);
    }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug().to_string()
}

/// Reads requests to their last byte, notes their heads and answers `ok`.
fn strict(seen: Arc<Mutex<Vec<String>>>) -> Program {
    Arc::new(move |mut stream, _| {
        let seen = seen.clone();
        Box::pin(async move {
            let mut bytes = Vec::new();
            loop {
                while let Some((head, length)) = memory::request(&bytes) {
                    seen.lock().unwrap().push(head);
                    bytes.drain(..length);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
                if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                    return;
                }
            }
        })
    })
}

/// A POST with these further header lines and this body.
fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{lines}\r\n{body}")
}

fn get_line(line: &str) -> String {
    format!("{line}\r\nhost: {HOST}\r\n\r\n")
}

/// A last request on a connection.
fn last() -> String {
    format!("GET /last HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")
}

#[test]
fn a_length_beside_chunks_does_not_count_and_ends_the_connection_6_1() {
    test(async {
        let mut lab = Lab::new().await;
        // CL.TE: who believes the length reads `EVIL` as a body, who believes the chunks as a request.
        let body = format!("0\r\n\r\n{EVIL}");
        let length = body.len();
        for lines in [
            format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
            format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        ] {
            lab.passes(&["/"], post(&lines, &body)).await;
        }
        // TE.CL: the chunk holds what the length leaves over.
        let chunk = format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len());
        lab.passes(&["/"], post("content-length: 4\r\ntransfer-encoding: chunked\r\n", &chunk) + &last())
            .await;
    });
}

#[test]
fn only_one_plain_chunked_is_understood_6_1() {
    test(async {
        let mut lab = Lab::new().await;
        let body = format!("0\r\n\r\n{EVIL}");
        for coding in [
            "xchunked",
            "chunked, identity",
            "identity",
            "x, identity",
            "\"chunked\"",
            "chunked;q=1",
            "chunked, x",
            "",
            ",",
            "chun ked",
            "\u{b}chunked",
            "chunked\u{b}",
            "chunked x",
            "gzip\r\ntransfer-encoding: identity",
        ] {
            lab.refuses(400, post(&format!("transfer-encoding: {coding}\r\n"), &body)).await;
        }
        // The framing is known, what is in it is not: 501, as 6.1 has it.
        for coding in ["gzip, chunked", "x\r\ntransfer-encoding: chunked", "identity, chunked"] {
            lab.refuses(501, post(&format!("transfer-encoding: {coding}\r\n"), &body)).await;
        }
        // Chunks in chunks (7.1).
        for coding in ["chunked, chunked", "chunked\r\nTransfer-Encoding: chunked", "chunked,"] {
            let status = lab.talk(post(&format!("transfer-encoding: {coding}\r\n"), &body).as_bytes()).await;
            assert!(status.starts_with("HTTP/1.1 400 "), "{coding}: {status}");
            assert_eq!(lab.paths(), [""; 0]);
        }
        // HTTP/1.0 has no transfer codings.
        let old = format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        lab.refuses(400, old).await;
    });
}

#[test]
fn a_hidden_transfer_encoding_is_no_header_at_all_5_1() {
    test(async {
        let mut lab = Lab::new().await;
        let body = format!("0\r\n\r\n{EVIL}");
        for line in [
            "transfer-encoding : chunked",
            "transfer-encoding\t: chunked",
            "transfer-encoding\u{0}: chunked",
            " transfer-encoding: chunked",
            "\ttransfer-encoding: chunked",
            "transfer\u{b}encoding: chunked",
            "x: y\rtransfer-encoding: chunked",
            "transfer-encoding\r: chunked",
            ": chunked",
            "transfer-encoding",
            "x: y\u{0}transfer-encoding: chunked",
            "transfer-encoding\n : chunked",
            "\u{7f}transfer-encoding: chunked",
        ] {
            lab.refuses(400, post(&format!("{line}\r\n"), &body)).await;
        }
        // Another name, and so another header: the body is empty, and what follows is refused for itself.
        let other = post("transfer_encoding: chunked\r\n", "") + &last();
        lab.passes(&["/", "/last"], other).await;
        let tabs = post("transfer-encoding:\t chunked \t\r\n", "0\r\n\r\n") + &last();
        lab.passes(&["/", "/last"], tabs).await;
    });
}

#[test]
fn a_length_is_one_number_in_digits_6_3() {
    test(async {
        let mut lab = Lab::new().await;
        for lengths in [
            "5\r\ncontent-length: 6",
            "5, 6",
            "5,",
            "+5",
            "-5",
            "- 5",
            "0x5",
            "5.0",
            "5 5",
            "",
            " ",
            "5;",
            "five",
            "\"5\"",
            "99999999999999999999",
            "1e1",
            "\u{b}5",
            "5\u{0}",
            "\u{665}",
            "5\r\ncontent-length: -5",
        ] {
            lab.refuses(400, post(&format!("content-length: {lengths}\r\n"), &format!("12345{EVIL}"))).await;
        }
        // The largest number there is has a meaning of its own in hyper, which answers as to a head that is too large.
        lab.refuses(431, post("content-length: 18446744073709551615\r\n", EVIL)).await;
        // The same number twice is that number (RFC 9110, 8.6), and white space around it is none of it (5.5).
        for lengths in ["5\r\nContent-Length: 5", "\t5 ", "005"] {
            let request = post(&format!("content-length: {lengths}\r\n"), "12345");
            lab.passes(&["/", "/last"], request + &last()).await;
        }
    });
}

#[test]
fn lines_are_not_folded_5_2() {
    test(async {
        let mut lab = Lab::new().await;
        for lines in [
            "x: y\r\n transfer-encoding: chunked\r\n",
            "x: y\r\n\tfolded\r\n",
            "transfer-encoding:\r\n chunked\r\n",
            "content-length: 1\r\n 0\r\n",
            " x: y\r\n",
        ] {
            lab.refuses(400, post(lines, EVIL)).await;
        }
    });
}

#[test]
fn lines_end_in_one_way_inside_of_a_head_2_2() {
    test(async {
        let mut lab = Lab::new().await;
        // A bare CR is no end and no space.
        for head in [
            format!("GET / HTTP/1.1\rhost: {HOST}\r\n\r\n"),
            format!("GET /\rx HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\rx: y\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nx: a\rb\r\nhost: {HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nx: a\0b\r\nhost: {HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nx\0: b\r\nhost: {HOST}\r\n\r\n"),
            format!("GET /\0 HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\rGET /evil HTTP/1.1\r\n\r\n"),
        ] {
            lab.refuses(400, head).await;
        }
        // A bare LF may be read as an end of a line: the instance then sees it as one, written properly.
        let bare = format!("GET /bare HTTP/1.1\nhost: {HOST}\nx: y\n\n{}", last());
        lab.passes(&["/bare", "/last"], bare).await;
        // Empty lines may come before a request.
        lab.passes(&["/last"], format!("\r\n\r\n{}", last())).await;
    });
}

#[test]
fn chunks_are_exact_7_1() {
    test(async {
        let mut lab = Lab::new().await;
        for chunks in [
            "x\r\n",
            "-1\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "0x1\r\nx\r\n0\r\n\r\n",
            "\r\n",
            " 1\r\nx\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "1\r\nxy\r\n0\r\n\r\n",
            "2\r\nx\r\n0\r\n\r\n",
            "1\r\nx0\r\n\r\n",
            "1\nx\n0\n\n",
            "1\r\nx\n0\r\n\r\n",
            "1;a\nb\r\nx\r\n0\r\n\r\n",
            "1\rx\r\n0\r\n\r\n",
            "1_0\r\n",
            "1 1\r\nx\r\n0\r\n\r\n",
            ";\r\n",
            "0;\n\r\n",
        ] {
            let request = post("transfer-encoding: chunked\r\n", chunks) + EVIL + &last();
            let answer = lab.talk(request.as_bytes()).await;
            // The instance may have begun to read it; it sees no end of this request, and no other.
            assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
            assert_eq!(lab.paths(), [""; 0], "{chunks:?}");
            lab.neighbour_is_well().await;
        }
        for chunks in
            ["1;a=b\r\nx\r\n0\r\n\r\n", "0001\r\nx\r\n000\r\n\r\n", "A\r\n0123456789\r\n0;last\r\n\r\n"]
        {
            let request = post("transfer-encoding: chunked\r\n", chunks);
            lab.passes(&["/", "/last"], request + &last()).await;
        }
        // Extensions without end are an attack (7.1.1).
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(1 << 20));
        lab.refuses(400, post("transfer-encoding: chunked\r\n", &long)).await;
    });
}

#[test]
fn trailers_cannot_say_what_a_head_says_rfc_9110_6_5_1() {
    test(async {
        let mut lab = Lab::new().await;
        let trailers = "0\r\nx-sum: 1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nhost: evil\r\n\
                        authorization: Bearer x\r\nx-forwarded-for: 1.2.3.4\r\n\r\n";
        let request =
            post("transfer-encoding: chunked\r\ntrailer: x-sum\r\n", &format!("1\r\nx\r\n{trailers}"));
        // The instance of this world panics at trailers that frame or route.
        lab.passes(&["/", "/last"], request + &last()).await;
        for bad in
            ["0\r\nx y: z\r\n\r\n", "0\r\n folded: x\r\n\r\n", "0\r\nno colon\r\n\r\n", "0\r\nx: \0\r\n\r\n"]
        {
            lab.refuses(400, post("transfer-encoding: chunked\r\n", bad)).await;
        }
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(100_000));
        lab.refuses(400, post("transfer-encoding: chunked\r\n", &many)).await;
    });
}

#[test]
fn a_request_line_has_three_parts_3() {
    test(async {
        let mut lab = Lab::new().await;
        for line in [
            "GET /a b HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "GET /",
            "GET / HTTP/1.1 x",
            "G(T / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/11",
            "GET / HTTP/0.9",
            "GET \u{1}/ HTTP/1.1",
            "GET  HTTP/1.1",
            "{} / HTTP/1.1",
        ] {
            lab.refuses(400, get_line(line)).await;
        }
        for line in ["GET * HTTP/1.1", "GET app:80 HTTP/1.1", "CONNECT app:80 HTTP/1.1", "CONNECT / HTTP/1.1"]
        {
            lab.refuses(400, get_line(line)).await;
        }
        // The limit of a head comes before that of a target (RFC 9110, 15.5.15 would have 414).
        lab.refuses(431, get_line(&format!("GET /{} HTTP/1.1", "x".repeat(66_000)))).await;
    });
}

#[test]
fn one_host_is_named_and_the_target_s_counts_3_2() {
    test(async {
        let mut lab = Lab::new().await;
        for head in [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nhost: {HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nHost: other\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}/x\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: a@{HOST}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}, other\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST} other\r\n\r\n"),
            format!("GET http://{HOST}/ HTTP/1.1\r\n\r\n"),
            format!("GET http://{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\nhost: {HOST}\r\n\r\n"),
            format!("GET http://a@{HOST}/ HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
        ] {
            lab.refuses(400, head).await;
        }
        // What the target says counts, and only that goes on (3.2.2).
        let absolute = format!("GET http://{HOST}/abs HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n");
        lab.passes(&["/abs"], absolute).await;
    });
}

#[test]
fn an_upgrade_carries_no_second_request_rfc_9110_7_8() {
    test(async {
        let mut lab = Lab::new().await;
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
        // A body beside an upgrade: the instance, which does not upgrade, would read it as a request.
        let length = EVIL.len();
        let line = format!("GET /up HTTP/1.1\r\nhost: {HOST}\r\n{upgrade}");
        lab.passes(&["/up", "/last"], format!("{line}content-length: {length}\r\n\r\n{EVIL}{}", last()))
            .await;
        let chunk = format!("{length:x}\r\n{EVIL}\r\n0\r\n\r\n");
        lab.passes(&["/up", "/last"], format!("{line}transfer-encoding: chunked\r\n\r\n{chunk}{}", last()))
            .await;
        // What the client sends before the switch waits for it; without a switch it is the next request.
        lab.passes(&["/up", "/last"], format!("{line}\r\n{}", last())).await;
        // HTTP/2 is not switched to in the middle (RFC 9113, 3.1): the request is answered as what it is.
        let settings =
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
        let h2c = format!("GET /h2c HTTP/1.1\r\nhost: {HOST}\r\n{settings}\r\n{}", last());
        lab.passes(&["/h2c", "/last"], h2c).await;
    });
}

#[test]
fn heads_have_limits_5_4_and_rfc_6585_5() {
    test(async {
        let mut lab = Lab::new().await;
        let get = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n");
        lab.refuses(431, format!("{get}x: {}\r\n\r\n", "y".repeat(1 << 20))).await;
        lab.refuses(431, format!("{get}{}: y\r\n\r\n", "x".repeat(70_000))).await;
        lab.refuses(431, format!("{get}{}\r\n", "a: b\r\n".repeat(101))).await;
        lab.refuses(431, format!("{get}{}\r\n", "a: b\r\n".repeat(100_000))).await;
        // Below the limits all is well.
        let large = format!("{get}x: {}\r\nconnection: close\r\n\r\n", "y".repeat(60_000));
        lab.passes(&["/"], large).await;
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_9_3_2() {
    test(async {
        let mut lab = Lab::new().await;
        let mut all = String::new();
        for number in 0..20 {
            all += &format!("GET /{number} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
            all += &format!("POST /{number}p HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1\r\n\r\nx");
        }
        let paths: Vec<_> = (0..20).flat_map(|n| [format!("/{n}"), format!("/{n}p")]).collect();
        let mut paths: Vec<_> = paths.iter().map(String::as_str).collect();
        paths.push("/last");
        lab.passes(&paths, all + &last()).await;
        // A bad one ends it: those before are answered, those after are not looked at.
        let spoiled = get_line("GET /good HTTP/1.1") + &get_line("GET /b ad HTTP/1.1") + EVIL;
        let answer = lab.talk(spoiled.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("okHTTP/1.1 400 "), "{answer}");
        assert_eq!(lab.paths(), ["/good"]);
        // Nothing is read after `close` (9.6).
        lab.passes(&["/last"], last() + EVIL).await;
    });
}

#[test]
fn a_body_that_ends_early_is_no_body_8() {
    test(async {
        let mut lab = Lab::new().await;
        for cut in [
            post("content-length: 10\r\n", "12345"),
            post("transfer-encoding: chunked\r\n", "5\r\n123"),
            post("transfer-encoding: chunked\r\n", "5\r\n12345\r\n"),
            post("transfer-encoding: chunked\r\n", "0\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n"),
            "GE".to_owned(),
        ] {
            let mut stream = TcpStream::connect(lab.world.address).await.unwrap();
            stream.write_all(cut.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(!answer.contains(" 200 "), "{cut:?}: {answer}");
            assert_eq!(lab.paths(), [""; 0], "{cut:?}");
            lab.neighbour_is_well().await;
        }
    });
}
