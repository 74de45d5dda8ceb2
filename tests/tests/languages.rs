//! Google's libraries in five languages, with no option at all: the same 25 calls, as the owner and as an account that
//! may do nothing, must end the same in each, to the details of the errors.
//!
//! `clients/calls.json` has the calls, `clients/owner.txt` and `clients/stranger.txt` how they end. A language that is
//! absent is skipped by name; `scripts/test-clients` brings the libraries.
//!
//! And a service's life through the libraries of Cloud Run: made, changed, split and deleted, as `clients/deployment.txt`
//! tells it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, client_program, instances_run, python, skipped, skipped_for};

#[test]
fn python_agrees() {
    let Some(python) = python() else { return skipped("Python's Google libraries") };
    let program = [python.to_string_lossy().into_owned(), client_program("python/script.py")];
    agrees("python", &["grpc", "rest"], &program);
}

#[test]
fn node_agrees() {
    let Some(modules) = brought("node/node_modules") else { return skipped("Node's Google libraries") };
    let modules = format!("NODE_PATH={}", modules.to_string_lossy());
    let program = ["env".to_owned(), modules, "node".to_owned(), client_program("node/script.js")];
    agrees("node", &["grpc"], &program);
    // Over REST the libraries ask Node's own client, which looks at proxy variables since 22.21.
    match node_heeds_proxies() {
        true => agrees("node", &["rest"], &program),
        false if can_capture() => agrees_by(&["--capture"], "node, captured,", &["rest"], &program),
        false => skipped_for(
            "Node's libraries over REST: this Node heeds no proxy, and nothing can be captured here",
        ),
    }
}

#[test]
fn go_agrees() {
    let Some(program) = brought("go/script") else { return skipped("Go's Google libraries") };
    agrees("go", &["grpc", "rest"], &[program.to_string_lossy().into_owned()]);
}

#[test]
fn java_agrees() {
    let (Some(jars), Some(classes)) = (brought("java/jars"), brought("java/classes")) else {
        return skipped("Java's Google libraries");
    };
    let path = format!("{}:{}/*", classes.to_string_lossy(), jars.to_string_lossy());
    agrees("java", &["grpc", "rest"], &["java", "-cp", &path, "Script"].map(str::to_owned));
}

#[test]
fn rust_agrees() {
    let Some(program) = brought("rust/debug/script") else {
        return skipped_for(
            "Rust's Google libraries are not built: HAAR_CLIENTS=all scripts/test-clients builds them",
        );
    };
    agrees("rust", &["rest"], &[program.to_string_lossy().into_owned()]);
}

/// The programs of `deployment` on one haar, one after another, each in a language and over a transport.
#[test]
fn every_language_deploys_splits_and_deletes_a_service() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    for language in ["python", "node", "go", "java"] {
        let Some(program) = deployment(language) else {
            skipped(format!("{language}'s library for Cloud Run"));
            continue;
        };
        for transport in ["grpc", "rest"] {
            let captured = language == "node" && transport == "rest" && !node_heeds_proxies();
            if captured && !can_capture() {
                skipped_for("Node's library for Cloud Run over REST: this Node heeds no proxy");
                continue;
            }
            let options: &[&str] = if captured { &["--capture"] } else { &[] };
            let ran = haar.cli(&[&["exec"], options, &["--"], &borrowed(&program), &[transport]].concat());
            ends_as("deployment.txt", &ran, &format!("{language} over {transport}"));
        }
    }
}

/// What runs the program of a language that takes a service through its life.
fn deployment(language: &str) -> Option<Vec<String>> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    Some(match language {
        "python" => vec![text(python()?), client_program("python/deployment.py")],
        "node" => {
            let modules = brought("node/node_modules/@google-cloud/run")?.join("../..");
            let modules = format!("NODE_PATH={}", text(modules));
            vec!["env".into(), modules, "node".into(), client_program("node/deployment.js")]
        }
        "go" => vec![text(brought("go/deployment")?)],
        _ => {
            let (jars, class) = (brought("java/jars")?, brought("java/classes/Deployment.class")?);
            let path = format!("{}:{}/*", text(class.parent()?.to_owned()), text(jars));
            vec!["java".into(), "-cp".into(), path, "Deployment".into()]
        }
    })
}

#[test]
fn the_script_goes_through_four_services() {
    let table: Value = serde_json::from_str(&text("calls.json")).expect("a table in JSON");
    let calls: Vec<&str> =
        table["calls"].as_array().expect("calls").iter().filter_map(|call| call["call"].as_str()).collect();
    assert_eq!(calls.len(), 25);
    for service in ["secrets.", "accounts.", "credentials.", "projects."] {
        assert!(calls.iter().any(|call| call.starts_with(service)), "{service}");
    }
    for expected in ["owner.txt", "stranger.txt"] {
        let expected = text(expected);
        let made = expected.lines().filter_map(|line| line.split(" | ").nth(1));
        assert!(made.eq(calls.iter().copied()), "the lines are not those of the calls:\n{expected}");
    }
}

fn agrees(language: &str, transports: &[&str], program: &[String]) {
    agrees_by(&[], language, transports, program);
}

/// Runs the script as the owner, then as a stranger to what the owner has made; by `haar exec` with these options.
fn agrees_by(options: &[&str], language: &str, transports: &[&str], program: &[String]) {
    for transport in transports {
        let haar = Haar::start();
        let table = client_program("calls.json");
        let line = |member: &str| {
            let arguments = [*transport, &table, member].map(str::to_owned);
            program.iter().cloned().chain(arguments).collect::<Vec<_>>()
        };
        let exec = |more: &[&str], line: Vec<String>| {
            haar.cli(&[&["exec"], options, more, &["--"], &borrowed(&line)].concat())
        };
        let ran = exec(&[], line(&format!("user:{}", owner(&haar))));
        ends_as("owner.txt", &ran, &format!("{language} over {transport}"));

        let account = json!({"accountId": "stranger"});
        let url = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
        haar.api("POST", &url, Some(&account));
        let stranger = format!("stranger@{PROJECT}.iam.gserviceaccount.com");
        let ran = exec(&["--as", &stranger], line(&format!("serviceAccount:{stranger}")));
        ends_as("stranger.txt", &ran, &format!("{language} over {transport}, as a stranger"));
    }
}

#[track_caller]
fn ends_as(expected: &str, ran: &Ran, who: &str) {
    assert_eq!(ran.code, 0, "{who}: {}\n{}", ran.stdout, ran.stderr);
    let expected = text(expected);
    for (said, right) in ran.stdout.lines().zip(expected.lines()) {
        assert_eq!(said, right, "{who}");
    }
    assert_eq!(ran.stdout.lines().count(), expected.lines().count(), "{who}");
}

/// The address of whom `haar exec` acts as: the file of its credentials is named for it.
fn owner(haar: &Haar) -> String {
    let ran = haar.cli(&["env", "--json"]).succeeds();
    let environment: Value = serde_json::from_str(&ran.stdout).expect("an environment in JSON");
    let file = environment["GOOGLE_APPLICATION_CREDENTIALS"].as_str().expect("a file of credentials");
    Path::new(file).file_stem().expect("a name").to_string_lossy().into_owned()
}

/// What `scripts/test-clients` has brought, if it has.
fn brought(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("target/clients").join(path);
    path.exists().then_some(path)
}

/// Whether this machine lets a command have a network of its own.
fn can_capture() -> bool {
    Haar::start().cli(&["exec", "--capture", "--", "true"]).code == 0
}

fn node_heeds_proxies() -> bool {
    let said = std::process::Command::new("node").arg("--version").output().map(Ran::from);
    let version = said.map(|ran| ran.stdout).unwrap_or_default();
    let mut numbers = version.trim().trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (22, 21)
}

fn borrowed(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(client_program(name)).expect("a file of the tests")
}
