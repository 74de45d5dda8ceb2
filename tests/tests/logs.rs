//! Cloud Logging: what services and clients write, found with gcloud, Python's library and `haar logs`.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Duration,
};

use serde_json::json;
use tests::{Haar, PROJECT, client_program, have, instances_run, python, skipped};

use crate::run::{REGION, await_settled, manifest, ready};

const DEPLOY: &str = "run deploy hello --image us-docker.pkg.dev/cloudrun/container/hello --region us-central1 --allow-unauthenticated";

#[test]
fn what_a_service_writes_is_found() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !haar.status()["level"].as_str().is_some_and(|level| level.starts_with("Instances have namespaces")) {
        return skipped("what instances need");
    }
    haar.gcloud(DEPLOY).succeeds();
    let host =
        haar.status()["services"][0]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
    assert!(tests::fetch(&haar, &host, "/").contains("It is running"));

    let query = |filter: &str, format: &str| {
        haar.exec(&["gcloud", "logging", "read", filter, &format!("--format={format}")])
    };
    let said = query(
        "resource.type=cloud_run_revision AND resource.labels.service_name=hello",
        "value(textPayload)",
    );
    assert!(said.succeeds().stdout.contains("listening on port 8080"));
    let asked = query(
        "httpRequest.status=200 AND resource.labels.service_name=\"hello\"",
        "value(httpRequest.requestUrl)",
    );
    assert!(asked.succeeds().stdout.contains(&host));
    assert_eq!(query("severity>=ERROR", "value(textPayload)").succeeds().stdout.trim(), "");
    query("severity>=(", "json").fails_saying("Unparseable filter");

    let shown = haar.cli(&["logs", "hello"]).succeeds().stdout;
    assert!(shown.contains("listening on port 8080") && shown.contains("GET"), "{shown}");
    following(&haar, &host);
}

/// What comes after `haar logs --follow` has begun is shown as well, and nothing twice.
fn following(haar: &Haar, host: &str) {
    let mut command = haar.command(&["logs", "hello", "--follow", "--lines", "1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("haar runs");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let (sender, shown) = mpsc::channel();
    std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
    let next = || shown.recv_timeout(Duration::from_secs(60)).expect("a line");
    next();
    for asked in ["/first-asked", "/then-asked"] {
        assert!(tests::fetch(haar, host, asked).contains("It is running"));
        // The instance may say something of its own in between.
        let line = std::iter::repeat_with(next).find(|line| line.contains("-asked")).expect("endless");
        assert!(line.contains(asked), "{line}");
    }
    child.kill().expect("it still follows");
    child.wait().expect("it ends");
    assert!(shown.iter().all(|line| !line.contains("-asked")), "each is shown once");
}

#[test]
fn pythons_library_writes_and_finds() {
    let Some(python) = python() else { return skipped("Python's google-cloud-logging") };
    let haar = Haar::start();
    let ran = haar.exec(&[&python.to_string_lossy(), &client_program("python/logs.py")]).succeeds();
    assert_eq!(ran.stdout.lines().last(), Some("all as on Google"), "{ran:?}");
}

/// Says goodbye when it is told to end, and serves until then.
const POLITE: &str = "trap 'echo last words; exit 0' TERM; /bin/busybox httpd -f -p $PORT -h / & wait";

#[test]
fn what_is_said_while_haar_ends_is_found() {
    let mut haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let container =
        json!({ "image": tests::busybox_image(&haar), "command": ["/bin/busybox", "sh", "-c", POLITE] });
    let collection =
        format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services");
    haar.api("POST", &collection, Some(&manifest("polite", &container)));
    let served = await_settled(&haar, &format!("{collection}/polite"));
    assert_eq!(ready(&served)["status"], "True", "{served:#}");
    haar.cli(&["down"]).succeeds();

    let log = |kind: &str| {
        let files = std::fs::read_dir(haar.data().join("logs")).expect("the log").flatten();
        files.filter(|file| file.path().extension().is_some_and(|found| found == kind)).count()
    };
    assert_eq!((log("seg"), log("idx")), (1, 1), "the end of the log need not be read again");
    haar.up(&[]);
    let shown = haar.cli(&["logs", "polite"]).succeeds().stdout;
    assert!(shown.contains("last words"), "{shown}");
}
