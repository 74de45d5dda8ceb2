//! The commands of `haar` itself.

use std::{net::TcpListener, path::Path};

use serde_json::json;
use tests::{Haar, PROJECT};

#[test]
fn up_down_and_status_tell_what_runs() {
    let haar = Haar::start();
    let status = haar.status();
    assert_eq!(status["project"], PROJECT);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["services"], json!([]));
    assert!(!status["level"].as_str().expect("a level").is_empty());
    assert!(haar.cli(&["status"]).succeeds().stdout.contains(haar.listen()));

    let pid = haar.pid();
    haar.cli(&["down"]).succeeds();
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it still runs");
    haar.cli(&["status"]).fails_saying("no haar is running").fails_saying("haar up --detach");
}

#[test]
fn a_second_haar_on_the_same_data_is_refused() {
    let haar = Haar::start();
    let pid = haar.pid().to_string();
    haar.cli(&["up", "--listen", ":0"]).fails_saying(&pid);
    haar.cli(&["up", "--detach", "--listen", ":0"]).fails_saying("runs on");
}

#[test]
fn a_taken_port_names_its_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    let haar = Haar::start();
    haar.cli(&["down"]).succeeds();
    haar.cli(&["up", "--listen", &address])
        .fails_saying("is taken by")
        .fails_saying(&format!("pid {}", std::process::id()))
        .fails_saying("--listen");
}

#[test]
fn reset_forgets_everything_but_never_under_a_running_haar() {
    let haar = Haar::start();
    haar.cli(&["reset", "--yes"]).fails_saying("haar down");
    haar.cli(&["down"]).succeeds();
    haar.cli(&["reset"]).fails_saying("nothing was deleted");
    haar.cli(&["reset", "--yes"]).succeeds();
    assert!(!haar.data().exists());
}

#[test]
fn reset_deletes_nothing_that_is_not_haars() {
    let stranger = tempfile::tempdir().expect("a directory");
    std::fs::write(stranger.path().join("thesis.txt"), "precious").expect("a file");
    let haar = Haar::start();
    let path = stranger.path().to_string_lossy().into_owned();
    haar.cli(&["--data", &path, "reset", "--yes"]).fails_saying("not a data directory");
    assert!(stranger.path().join("thesis.txt").exists());
}

#[test]
fn api_calls_any_google_host_and_fails_when_the_call_fails() {
    let haar = Haar::start();
    let secrets = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    haar.cli(&[
        "api",
        "POST",
        &format!("{secrets}?secretId=tide"),
        "-d",
        r#"{"replication":{"automatic":{}}}"#,
    ])
    .succeeds();
    let listed = haar.api("GET", &secrets, None);
    assert_eq!(listed["totalSize"], 1);
    haar.cli(&["api", "GET", &format!("{secrets}/ebb")]).fails_saying("NOT_FOUND");
    haar.cli(&["api", "GET", "nowhere"]).fails_saying("names no host");
}

#[test]
fn exec_hands_on_exit_code_and_environment() {
    let haar = Haar::start();
    assert_eq!(haar.exec(&["sh", "-c", "exit 7"]).code, 7);
    let printed = haar.exec(&["sh", "-c", "echo $GOOGLE_CLOUD_PROJECT $https_proxy"]).succeeds().stdout;
    assert_eq!(printed.trim(), format!("{PROJECT} http://{}", haar.listen()));
    haar.exec(&["no-such-program"]).fails_saying("there is no command 'no-such-program'");
}

#[test]
fn the_bundle_holds_our_authority_and_what_was_trusted_before() {
    let haar = Haar::start();
    let own = haar.data().join("company-ca.pem");
    std::fs::write(&own, "-----BEGIN CERTIFICATE-----\nY29tcGFueQ==\n-----END CERTIFICATE-----\n")
        .expect("a file");
    let mut command = haar.command(&["exec", "--", "sh", "-c", "cat \"$SSL_CERT_FILE\""]);
    command.env("SSL_CERT_FILE", &own);
    let bundle = tests::run(command).succeeds().stdout;
    assert!(bundle.contains("Y29tcGFueQ=="), "the company's authority is gone");
    assert!(bundle.matches("BEGIN CERTIFICATE").count() >= 2, "our authority is missing");
}

#[test]
fn everything_private_is_private() {
    use std::os::unix::fs::MetadataExt;
    let haar = Haar::start();
    haar.exec(&["true"]).succeeds();
    assert_eq!(haar.data().metadata().expect("the data directory").mode() & 0o777, 0o700);
    let mut waiting = vec![haar.data()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let meta = entry.metadata().expect("metadata");
            if meta.is_dir() {
                waiting.push(entry.path());
            } else {
                assert_eq!(
                    meta.mode() & 0o077 & !0o044,
                    0,
                    "{} can be written by others",
                    entry.path().display()
                );
            }
        }
    }
}
