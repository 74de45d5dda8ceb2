//! What reaches the program, and what becomes of its answers.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Clause, World};

const CLAUSES: &[Clause] = &[
    ("Headers: Host MUST be set", |world| {
        assert_eq!(received(world, "")("host").join("|"), world.plain);
    }),
    ("Headers: Forwarded MUST be set, as RFC 7239 has it", forwarded),
    ("Headers: X-Forwarded-For and X-Forwarded-Proto SHOULD be set", |world| {
        let received = received(world, "");
        let [addresses] = &received("x-forwarded-for")[..] else { panic!("not one header") };
        assert!(addresses.split(',').all(|address| address.trim().parse::<IpAddr>().is_ok()), "{addresses}");
        assert_eq!(received("x-forwarded-proto"), ["http"]);
    }),
    ("Headers: inbound headers SHOULD keep their values", |world| {
        let received =
            received(world, "X-Tide: high\r\nX-Tide: low\r\nAccept-Language: gd, en;q=0.5\r\nX-Empty:\r\n");
        assert_eq!(received("x-tide"), ["high", "low"]);
        assert_eq!(received("accept-language"), ["gd, en;q=0.5"]);
        assert_eq!(received("x-empty"), [""]);
    }),
    ("Headers: trace headers SHOULD be set, and go on what came", traced),
    ("Headers: what the client says of its way is kept, and the platform's word is the last", |world| {
        let received = received(world, "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
        let addresses = received("x-forwarded-for").join(", ");
        assert!(addresses.starts_with("192.0.2.7, ") && addresses.ends_with("127.0.0.1"), "{addresses}");
        assert_eq!(received("x-forwarded-proto"), ["http"]);
    }),
    ("Headers: those of one hop go no further", |world| {
        let received = received(world, "TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\n");
        for hop in ["keep-alive", "proxy-connection"] {
            assert_eq!(received(hop), Vec::<String>::new(), "{hop}");
        }
    }),
    ("Protocols and ports: HTTP/1.1 by default, and for a port named http1", |world| {
        assert_eq!(protocol(world, &world.plain), "HTTP/1.1");
        let host =
            world.serve("one", json!({ "ports": [{ "name": "http1", "containerPort": 8080 }] }), json!({}));
        assert_eq!(protocol(world, &host), "HTTP/1.1");
    }),
    ("Protocols and ports: HTTP/2 with prior knowledge for a port named h2c", |world| {
        let host =
            world.serve("two", json!({ "ports": [{ "name": "h2c", "containerPort": 8080 }] }), json!({}));
        assert_eq!(protocol(world, &host), "HTTP/2.0");
    }),
    ("Cloud Run: a response that sets a cookie is private", |world| {
        let answer = world.get(&world.plain, "/cookie");
        assert_eq!(
            (answer.header("set-cookie"), answer.header("cache-control")),
            (Some("a=b"), Some("private"))
        );
        assert_eq!(
            world.get(&world.plain, "/").header("cache-control"),
            None,
            "others are as the program made them"
        );
    }),
    ("Cloud Run: a request that takes longer than its time ends with 504", |world| {
        let host = world.serve("slow", json!({}), json!({ "timeoutSeconds": 1 }));
        assert_eq!(world.get(&host, "/sleep?0.1").status, 200);
        let late = world.get(&host, "/sleep?30");
        assert_eq!((late.status, late.body.trim_end()), (504, "upstream request timeout"));
    }),
];

/// What the program received for a header, by its name.
fn received(world: &World, headers: &str) -> impl Fn(&str) -> Vec<String> {
    let answer = world.ask(&world.plain, "/?a=b%20c", headers);
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(told["request"]["path"], "/?a=b%20c");
    let pairs: Vec<(String, String)> =
        serde_json::from_value::<Vec<Vec<String>>>(told["request"]["headers"].clone())
            .expect("names and values")
            .into_iter()
            .map(|pair| {
                (
                    pair[0].to_ascii_lowercase().trim_end_matches(':').to_owned(),
                    pair.get(1).cloned().unwrap_or_default(),
                )
            })
            .collect();
    move |name| pairs.iter().filter(|(one, _)| one == name).map(|(_, value)| value.clone()).collect()
}

/// RFC 7239, section 4: elements between commas, of pairs between semicolons.
fn forwarded(world: &World) {
    let said = received(world, "Forwarded: for=192.0.2.43\r\n")("forwarded").join(", ");
    assert!(said.starts_with("for=192.0.2.43"), "{said}");
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    for pair in said.split([',', ';']) {
        let (name, value) = pair.trim().split_once('=').unwrap_or_else(|| panic!("not a pair: {pair}"));
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        assert!(["for", "by", "proto", "host"].contains(&name), "{name}");
        assert!(is_token(value) || quoted.is_some_and(|value| !value.contains('"')), "{value}");
    }
    assert!(said.contains("proto=http"), "{said}");
}

fn traced(world: &World) {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let one = |headers: &str, name: &str| received(world, headers)(name).join("|");
    let is_parent = |text: &str| {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        lengths == [2, 32, 16, 2] && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    assert!(is_parent(&one("", "traceparent")), "{}", one("", "traceparent"));
    let came = format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n");
    let went = one(&came, "traceparent");
    assert!(is_parent(&went) && went.contains(TRACE), "{went}");
    assert!(one(&came, "x-cloud-trace-context").starts_with(TRACE));
}

fn protocol(world: &World, host: &str) -> String {
    let told: Value = serde_json::from_str(&world.get(host, "/").body).expect("JSON");
    told["request"]["protocol"].as_str().expect("a protocol").to_owned()
}

#[test]
fn what_reaches_a_program() {
    let Some(world) = World::new(&[]) else { return };
    world.holds_to(CLAUSES);
}
