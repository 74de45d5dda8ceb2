//! What a careless or hostile client sends: always a precise refusal, never an effect.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, run, skipped};

/// One raw HTTP/1.1 exchange with the port; the status and the body.
fn raw(haar: &Haar, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(haar.listen()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

fn post(haar: &Haar, path: &str, authorization: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: secretmanager.googleapis.com\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    raw(haar, &head, body)
}

fn owner(haar: &Haar) -> String {
    let token = haar.exec(&["sh", "-c", "cat \"$GOOGLE_APPLICATION_CREDENTIALS\""]).succeeds().stdout;
    let file: Value = serde_json::from_str(&token).expect("a credentials file");
    let form = format!(
        "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
        file["client_id"].as_str().expect("client id"),
        file["client_secret"].as_str().expect("client secret"),
        file["refresh_token"].as_str().expect("refresh token")
    );
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: oauth2.googleapis.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        form.len()
    );
    let (status, body) = raw(haar, &head, form.as_bytes());
    assert_eq!(status, 200, "{body}");
    let start = body.find('{').expect("JSON");
    let end = body.rfind('}').expect("JSON");
    let token: Value = serde_json::from_str(&body[start..=end]).expect("a token");
    format!("Authorization: Bearer {}\r\n", token["access_token"].as_str().expect("access token"))
}

#[test]
fn bad_json_is_refused_as_google_refuses_it() {
    let haar = Haar::start();
    let authorization = owner(&haar);
    let path = format!("/v1/projects/{PROJECT}/secrets?secretId=tide");

    let deep = [b"{\"labels\":".repeat(10_000), b"}".repeat(10_000)].concat();
    for (name, body) in [
        ("10,000 levels", deep),
        ("not JSON", b"{replication: auto".to_vec()),
        ("bad UTF-8", b"{\"labels\": {\"a\": \"\xff\xfe\"}}".to_vec()),
        ("a wrong type", b"{\"replication\": 7}".to_vec()),
        ("trailing garbage", b"{}{}".to_vec()),
    ] {
        let (status, answer) = post(&haar, &path, &authorization, &body);
        assert_eq!(status, 400, "{name}: {answer}");
        assert!(answer.contains("INVALID_ARGUMENT"), "{name}: {answer}");
    }

    let huge = vec![b' '; 64 << 20];
    let (status, _) = post(&haar, &path, &authorization, &huge);
    assert!(matches!(status, 400 | 413), "a huge body: {status}");

    assert_eq!(
        haar.api("GET", &format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"), None),
        json!({})
    );
}

#[test]
fn every_bad_field_is_named_at_once() {
    let haar = Haar::start();
    let url = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets?secretId=tide");
    let body = json!({ "replication": { "automatic": {}, "moon": 1 }, "tides": true, "labels": 3 });
    let error = &haar.api("POST", &url, Some(&body))["error"];
    assert_eq!(error["code"], 400);
    assert_eq!(error["status"], "INVALID_ARGUMENT");
    let message = error["message"].as_str().expect("a message");
    for field in ["moon", "tides", "labels"] {
        assert!(message.contains(field), "{field} is not named: {message}");
    }
    let violations = error["details"][0]["fieldViolations"].as_array().expect("field violations");
    assert_eq!(violations.len(), 3, "{violations:?}");
}

#[test]
fn credentials_are_looked_at_before_anything_else() {
    let haar = Haar::start();
    let path = format!("/v1/projects/{PROJECT}/secrets?secretId=tide");
    for (name, authorization) in [
        ("none", ""),
        ("garbage", "Authorization: Bearer garbage\r\n"),
        ("unsigned", "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImEifQ.\r\n"),
        ("basic", "Authorization: Basic YTpi\r\n"),
    ] {
        let (status, answer) = post(&haar, &path, authorization, b"{}");
        assert_eq!(status, 401, "{name}: {answer}");
        assert!(answer.contains("UNAUTHENTICATED"), "{name}: {answer}");
    }
}

#[test]
fn emulator_clients_without_credentials_are_the_owner_unless_denied() {
    let call = |haar: &Haar| {
        let head = format!(
            "GET /v1/projects/{PROJECT}/secrets HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            haar.listen()
        );
        raw(haar, &head, b"").0
    };
    assert_eq!(call(&Haar::start()), 200);
    assert_eq!(call(&Haar::start_with(&["--anonymous", "deny"])), 401);
}

/// Holds a service's own port against the suite that servers of HTTP/2 are measured with.
pub(crate) fn h2spec_finds_nothing_wrong_with(door: &str) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients/go/h2spec");
    if !program.exists() {
        return skipped("h2spec");
    }
    let mut failures = h2spec(&program, door);
    // A stream that was answered already is not looked at closely any more, and on a busy machine the suite may be late.
    for _ in 0..2 {
        if !failures.contains("-> The endpoint MUST treat this as a stream error of type STREAM_CLOSED") {
            break;
        }
        failures = h2spec(&program, door);
    }
    let failed: Vec<_> = failures.lines().filter(|line| line.contains('×')).map(str::trim).collect();
    // What begins neither as HTTP/2 nor as TLS is HTTP/1 here, and is told so in its words, which h2spec reads as a frame.
    assert_eq!(failed, ["× 2: Sends invalid connection preface"], "{failures}");
    assert!(failures.contains("0 skipped"), "{failures}");
}

/// What h2spec has to complain of.
fn h2spec(program: &Path, door: &str) -> String {
    let (address, port) = door.rsplit_once(':').expect("an address");
    let mut command = Command::new(program);
    command.args(["--strict", "--timeout", "2", "--host", address, "--port", port]);
    let ran = run(command);
    ran.stdout.rsplit_once("Failures:").map_or(ran.stdout.clone(), |(_, failures)| failures.to_owned())
}
