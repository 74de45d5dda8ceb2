//! A program's start and its end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::processes_named;

use super::{Clause, World, eventually, services};
use crate::run::{await_settled, ready};

const CLAUSES: &[Clause] = &[
    ("Deployment probe: an instance SHOULD be started although nobody asks for anything", |world| {
        world.serve("unasked", json!({}), json!({}));
        world.logged("unasked", "listening");
        world.delete("unasked");
        // Lifecycle: the container is sent a SIGTERM when it is killed.
        world.logged("unasked", "terminated: SIGTERM");
    }),
    (
        "Deployment probe: a revision whose container does not become ready SHOULD be marked as failed",
        |world| {
            let probe =
                json!({ "httpGet": { "path": "/health" }, "periodSeconds": 1, "failureThreshold": 2 });
            let service = world.deploy(
                "never",
                json!({ "startupProbe": probe, "env": [{ "name": "LATE", "value": "60" }] }),
                json!({}),
            );
            assert_eq!(ready(&service)["status"], "False", "{service:#}");
        },
    ),
    ("Lifecycle: failures of the program MUST be logged where its developer sees them", |world| {
        let broken = json!({ "command": ["python3", "-c", "raise SystemExit('there is no sea here')"] });
        let service = world.deploy("broken", broken, json!({}));
        assert_eq!(ready(&service)["status"], "False", "{service:#}");
        world.logged("broken", "there is no sea here");
    }),
    ("File descriptors: stdout and stderr SHOULD be collected", |world| {
        world.get(&world.plain, "/print");
        world.logged("plain", "to standard output");
        world.logged("plain", "to standard error");
    }),
    ("Meta requests: a probe of the program's passes before requests come", |world| {
        let probe = json!({ "httpGet": { "path": "/health" }, "periodSeconds": 1, "failureThreshold": 20 });
        let late = json!({ "startupProbe": probe, "env": [{ "name": "LATE", "value": "1.5" }] });
        let host = world.serve("late", late, json!({}));
        assert_eq!(world.get(&host, "/health").status, 200);
    }),
    ("Meta requests: a container that is no longer live is started anew", |world| {
        let probe = json!({ "httpGet": { "path": "/health" }, "periodSeconds": 1, "failureThreshold": 2 });
        let host = world.serve("living", json!({ "livenessProbe": probe }), json!({}));
        let before = started(world, &host);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(started(world, &host), before, "healthy ones are left alone");
        assert_eq!(world.get(&host, "/sick").status, 200);
        eventually("it is started anew", || begun(world, &host).is_some_and(|begun| begun != before));
        assert_eq!(world.get(&host, "/health").status, 200);
    }),
    (
        "Cloud Run: what is not ready is not ended, gets no requests while another gets them, and then again",
        |world| {
            let ready = json!({ "httpGet": { "path": "/ready" }, "periodSeconds": 1, "failureThreshold": 1 });
            let live = json!({ "httpGet": { "path": "/health" }, "periodSeconds": 1 });
            let host =
                world.serve("weary", json!({ "readinessProbe": ready, "livenessProbe": live }), json!({}));
            let before = started(world, &host);
            assert_eq!(world.get(&host, "/weary?6").status, 200);
            world.logged("weary", "READINESS HTTP probe failed 1 time consecutively");
            let said = |text: &str| world.haar.cli(&["logs", "weary"]).stdout.contains(text);
            for _ in 0..10 {
                let other = started(world, &host);
                assert!(other != before || said("READINESS HTTP probe succeeded"), "it is not ready");
            }
            world.logged("weary", "READINESS HTTP probe succeeded 2 times consecutively");
            eventually("it gets requests again", || begun(world, &host).is_some_and(|begun| begun == before));
            assert!(!said("terminated: SIGTERM"), "nothing was ended");
        },
    ),
    ("Cloud Run: what ends by itself is started anew, and what it wrote is gone", |world| {
        let host = world.serve("ending", json!({}), json!({}));
        let before = started(world, &host);
        assert_eq!(world.get(&host, "/keep").body, "absent");
        assert_eq!(world.get(&host, "/keep").body, "kept");
        let ended = world.get(&host, "/exit?3");
        assert_eq!(ended.status, 503, "{}", ended.body);
        eventually("it is started anew", || begun(world, &host).is_some_and(|begun| begun != before));
        assert_eq!(world.get(&host, "/keep").body, "absent");
    }),
    ("Cloud Run: files are memory, and memory has a limit that is named", |world| {
        let limits = json!({ "limits": { "memory": "128Mi" } });
        let host = world.serve("full", json!({ "resources": limits }), json!({}));
        let answer = world.get(&host, "/fill?200");
        assert!(answer.status >= 500, "{} {}", answer.status, answer.body);
        world.logged("full", "Memory limit of 128 MiB exceeded");
        eventually("it is started anew", || begun(world, &host).is_some());
    }),
];

fn begun(world: &World, host: &str) -> Option<String> {
    let told: Value = serde_json::from_str(&world.get(host, "/").body).ok()?;
    told["started"].as_str().map(str::to_owned)
}

fn started(world: &World, host: &str) -> String {
    begun(world, host).expect("it tells when it started")
}

#[test]
fn a_programs_start_and_end() {
    let Some(world) = World::new(&[]) else { return };
    let asked = a_stubborn_one_is_asked_to_end(&world);
    world.holds_to(CLAUSES);
    it_is_killed_after_a_grace(&world, asked);
}

/// What the stubborn one's command line has, on the machine: no other haar's.
fn mark(world: &World) -> String {
    format!("contract-stubborn-{}", world.haar.listen())
}

fn a_stubborn_one_is_asked_to_end(world: &World) -> Instant {
    let stubborn = json!({ "args": [], "command": ["python3", "main.py", mark(world)], "env": [{ "name": "STUBBORN", "value": "1" }] });
    world.serve("stubborn", stubborn, json!({}));
    assert_eq!(processes_named(&mark(world)).len(), 1);
    let asked = Instant::now();
    world.delete("stubborn");
    world.logged("stubborn", "terminated: SIGTERM");
    if asked.elapsed() < Duration::from_secs(5) {
        assert_eq!(processes_named(&mark(world)).len(), 1, "it has ten seconds");
    }
    asked
}

/// Lifecycle: a container that has not shut down after a defined grace period, ten seconds, is killed with SIGKILL.
fn it_is_killed_after_a_grace(world: &World, asked: Instant) {
    eventually("the stubborn one is gone", || processes_named(&mark(world)).is_empty());
    assert!(asked.elapsed() >= Duration::from_secs(9), "it had {:?} only", asked.elapsed());
}

#[test]
fn what_is_idle_is_asked_to_end_and_comes_back() {
    let Some(world) = World::new(&["--idle-after", "1"]) else { return };
    let before = started(&world, &world.plain);
    world.logged("plain", "terminated: SIGTERM");
    assert_ne!(started(&world, &world.plain), before);
    assert_eq!(ready(&await_settled(&world.haar, &services("plain")))["status"], "True");
}
