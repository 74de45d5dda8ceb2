//! `haar exec --capture`: programs that heed no proxy, in a network where every name leads to haar.

use tests::{Haar, client_program, have, python, run, skipped, skipped_for};

/// Google's discovery document: asked of haar by name, over TLS, without credentials.
const DISCOVERY: &str = "https://accounts.google.com/.well-known/openid-configuration";
const ISSUER: &str = r#""issuer": "https://accounts.google.com""#;
/// Without these, nobody can say that the proxy was used after all.
const NO_PROXIES: [&str; 3] = ["env", "--unset=https_proxy", "--unset=HTTPS_PROXY"];

/// A haar, if this machine lets commands have networks of their own.
fn haar() -> Option<Haar> {
    let haar = Haar::start();
    let tried = haar.cli(&["exec", "--capture", "--", "true"]);
    if tried.code != 0 && tried.stderr.contains("this machine lets no command have") {
        skipped_for(&tried.stderr);
        return None;
    }
    tried.succeeds();
    Some(haar)
}

fn captured(haar: &Haar, command: &[&str]) -> String {
    let line = [&["exec", "--capture", "--"], &NO_PROXIES[..], command].concat();
    haar.cli(&line).succeeds().stdout
}

#[test]
fn wget_trusts_what_answers() {
    let Some(haar) = haar().filter(|_| have("wget")) else { return };
    let said = captured(&haar, &["wget", "-q", "-O-", DISCOVERY]);
    assert!(said.contains(ISSUER), "{said}");
}

#[test]
fn node_fetches() {
    let Some(haar) = haar().filter(|_| have("node")) else { return };
    let script = format!("fetch('{DISCOVERY}').then(answer => answer.text()).then(console.log)");
    let said = captured(&haar, &["node", "-e", &script]);
    assert!(said.contains(ISSUER), "{said}");
}

#[test]
fn aiohttp_asks() {
    let Some(python) = python() else { return skipped("Python's Google libraries") };
    let Some(haar) = haar() else { return };
    let said = captured(&haar, &[&python.to_string_lossy(), &client_program("python/aio.py"), DISCOVERY]);
    assert!(said.contains(ISSUER), "{said}");
}

#[test]
fn a_captured_command_ends_and_stays_who_it_is() {
    let Some(haar) = haar() else { return };
    let shell = |script: &str| haar.cli(&["exec", "--capture", "--", "sh", "-c", script]);
    assert_eq!(shell("exit 7").code, 7);
    assert_eq!(shell("kill -TERM $$").code, 128 + 15, "as shells tell it");
    let mut outside = std::process::Command::new("id");
    outside.arg("-u");
    assert_eq!(shell("id -u").succeeds().stdout, run(outside).stdout);
    haar.cli(&["exec", "--capture", "--", "no-such-command"]).fails_saying("there is no command");
}

#[test]
fn its_localhost_is_its_own_but_for_haar() {
    let Some(haar) = haar().filter(|_| have("curl")) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let elsewhere = format!("http://{}/", listener.local_addr().expect("an address"));
    let ask = |url: &str| {
        let line = ["exec", "--capture", "--", "curl", "-sS", "--noproxy", "*", "--max-time", "20", url];
        haar.cli(&line)
    };
    assert_eq!(ask(&elsewhere).code, 7, "curl's word for a refused connection");
    let said = ask(&format!("http://{}/", haar.listen())).succeeds();
    assert!(!said.stdout.is_empty(), "haar's port is there too");
}
