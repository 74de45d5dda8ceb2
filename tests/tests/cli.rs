//! The commands of `haar` itself.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
};

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
fn haar_alone_says_what_it_can_do() {
    let haar = Haar::start();
    haar.cli(&[]).fails_saying("Usage: haar");
    let told = haar.cli(&["help"]).succeeds().stdout;
    assert!(told.contains("haar up --detach"), "where to begin: {told}");
}

#[test]
fn every_help_fits_a_terminal_of_80_columns() {
    let haar = Haar::start();
    let help = |words: &[&str]| {
        let ran =
            haar.command(&[&["help"], words].concat()).env("COLUMNS", "80").output().expect("haar help");
        assert!(ran.status.success(), "{words:?}");
        String::from_utf8(ran.stdout).expect("text")
    };
    let commands = |told: &str| -> Vec<String> {
        let list =
            told.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let mut all = vec![(String::new(), help(&[]))];
    for command in commands(&all[0].1) {
        let told = help(&[&command]);
        for inner in commands(&told).iter().filter(|inner| *inner != "help") {
            all.push((format!("{command} {inner}"), help(&[&command, inner])));
        }
        all.push((command, told));
    }
    assert!(all.len() > 20, "{:?}", all.iter().map(|(command, _)| command).collect::<Vec<_>>());
    for (command, told) in all {
        for line in told.lines() {
            assert!(line.chars().count() <= 80, "haar help {command}: {line}");
        }
    }
}

#[test]
fn what_is_typed_wrong_is_said_before_anything_starts() {
    let haar = Haar::start();
    haar.cli(&["rollout", "tide"]).fails_saying("--source");
    haar.cli(&["exec", "--as", "ada", "--", "true"]).fails_saying("ada@example.com");
    haar.cli(&["iam", "why", "ada", "a.b.c", "secrets/s"]).fails_saying("ada@example.com");
    haar.cli(&["iam", "why", "ada@example.com", "read", "secrets/s"]).fails_saying("haar api --list");
    haar.cli(&["deploy", "nowhere"]).fails_saying("name the folder that holds the app");
    haar.cli(&["images", "pull", "registry.invalid/a/b:v1"]).fails_saying("haar images import");
    haar.cli(&["down"]).succeeds();
    haar.cli(&["up", "--listen", ":0", "--postgres-dir", "/nowhere"]).fails_saying("/usr/lib/postgresql");
    haar.cli(&["status"]).fails_saying("no haar is running");
}

#[test]
fn a_data_directory_is_closed_to_others_and_never_somebody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let mut haar = Haar::start();
    haar.cli(&["down"]).succeeds();
    std::fs::set_permissions(haar.data(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    haar.up(&[]);
    assert_eq!(haar.data().metadata().expect("it is there").permissions().mode() & 0o777, 0o700);

    let stranger = tempfile::tempdir().expect("a directory");
    std::fs::write(stranger.path().join("thesis.txt"), "precious").expect("a file");
    let path = stranger.path().to_string_lossy().into_owned();
    haar.cli(&["--data", &path, "up", "--listen", ":0"]).fails_saying("holds something else");
}

#[test]
fn what_cannot_change_is_not_tried_again() {
    let haar = Haar::start();
    haar.cli(&["down"]).succeeds();
    std::fs::write(haar.data().join("FORMAT"), "version 999\noldest-reader 999\n").expect("a file");
    std::fs::remove_file(haar.data().join("haar.log")).expect("a log");
    haar.cli(&["up", "--detach", "--listen", ":0"]).fails_saying("newer haar");
    let log = std::fs::read_to_string(haar.data().join("haar.log")).expect("a log");
    assert_eq!(log.matches("haar:").count(), 1, "{log}");
}

/// The plain port without credentials, as a user of this machine.
fn nobody_asks(haar: &Haar, user: &str) -> tests::Ran {
    let url = format!("http://{}/v1/projects/{PROJECT}/secrets", haar.listen());
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", user, "--clear-groups", "curl", "-sS", "--noproxy", "*", &url]);
    command.args(["-H", "Host: localhost"]).current_dir("/");
    tests::run(command)
}

#[test]
fn another_user_of_the_machine_is_not_the_owner() {
    if !tests::have("setpriv") || !tests::have("curl") {
        return;
    }
    let haar = Haar::start();
    let mine = nobody_asks(&haar, "0");
    if mine.code != 0 {
        return tests::skipped("root");
    }
    assert_eq!(mine.stdout.trim(), "{}");
    let theirs = nobody_asks(&haar, "65534").stdout;
    assert!(theirs.contains("UNAUTHENTICATED") && theirs.contains("from user 65534"), "{theirs}");
}

#[test]
fn another_machine_is_nobody_without_credentials() {
    let Some(address) = address_of_this_machine() else { return tests::skipped("a network") };
    let mut haar = Haar::start();
    haar.cli(&["down"]).succeeds();
    let up = haar.cli(&["up", "--detach", "--listen", "0.0.0.0:0"]).succeeds();
    assert!(up.stderr.contains("other machines"), "no warning: {up:?}");
    let listen = haar.status()["listen"].as_str().expect("an address").to_owned();
    let port = listen.rsplit(':').next().expect("a port");
    let answer = |address: &str| {
        let mut stream = TcpStream::connect(format!("{address}:{port}")).expect("a connection");
        let host = "Host: localhost\r\nConnection: close";
        write!(stream, "GET /v1/projects/{PROJECT}/secrets HTTP/1.1\r\n{host}\r\n\r\n").expect("a request");
        std::io::read_to_string(stream).expect("an answer")
    };
    assert!(answer("127.0.0.1").starts_with("HTTP/1.1 200"), "{}", answer("127.0.0.1"));
    assert!(answer(&address).starts_with("HTTP/1.1 401"), "{}", answer(&address));
    haar.cli(&["down"]).succeeds();
    haar.up(&[]);
}

/// An address that other machines would use; nothing is sent to find it.
fn address_of_this_machine() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string())
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
    let account = haar.exec_as("ada@example.com", &["sh", "-c", "echo $CLOUDSDK_CORE_ACCOUNT"]).succeeds();
    assert_eq!(account.stdout.trim(), "ada@example.com", "gcloud says who it is");
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
