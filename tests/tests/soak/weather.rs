//! What happens to the traffic: deploys, splits, tags, and kills.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{PROJECT, await_another, kill};

use super::{
    Dice, Soak,
    ledger::{Disruption, What},
};
use crate::run::{REGION, await_settled, ready};

pub(super) const SERVICE: &str = "soak";
/// What the command line of an instance's program has, on the machine.
const MARK: &str = "soak-instance-of-";

/// How often what was killed is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What the service shall be like.
struct Wanted {
    generation: u64,
    traffic: Value,
}

pub(super) fn blow_until(soak: &Soak, end: Instant, mut dice: Dice) {
    let mut wanted = Wanted { generation: 0, traffic: latest() };
    put(soak, &wanted);
    await_settled(&soak.haar, &url());
    let mut next_kill = Duration::from_secs(8);
    while Instant::now() < end {
        match dice.roll(10) {
            0..3 => deploy(soak, &mut wanted),
            3..6 => split(soak, &mut wanted, &mut dice),
            6 => tag(soak, &mut wanted, &mut dice),
            7 => wanted = with_traffic(soak, wanted, latest()),
            _ if soak.now() > next_kill => {
                kill_haar(soak);
                next_kill = soak.now() + Duration::from_secs(6 + dice.roll(8));
            }
            _ => kill_an_instance(soak, &mut dice),
        }
        dice.pause(200, 1500);
    }
    // All that was asked for comes to be, whatever came between.
    wanted.generation += 1;
    let wanted = with_traffic(soak, wanted, latest());
    let service = await_settled(&soak.haar, &url());
    assert_eq!(ready(&service)["status"], "True", "{service:#}");
    let latest = &service["status"]["latestReadyRevisionName"];
    assert_eq!(service["status"]["traffic"][0]["revisionName"], *latest, "{service:#}");
    let made = &service["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(made[0]["value"], wanted.generation.to_string());
}

fn url() -> String {
    format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/{SERVICE}")
}

fn latest() -> Value {
    json!([{ "latestRevision": true, "percent": 100 }])
}

fn deploy(soak: &Soak, wanted: &mut Wanted) {
    wanted.generation += 1;
    put(soak, wanted);
}

fn with_traffic(soak: &Soak, wanted: Wanted, traffic: Value) -> Wanted {
    let wanted = Wanted { traffic, ..wanted };
    put(soak, &wanted);
    wanted
}

fn put(soak: &Soak, wanted: &Wanted) {
    let container = json!({
        "image": soak.image,
        "command": ["python3", "main.py", format!("{MARK}{}", soak.host)],
        "env": [{ "name": "GENERATION", "value": wanted.generation.to_string() }],
    });
    let body = json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": { "name": SERVICE, "annotations": { "run.googleapis.com/invoker-iam-disabled": "true" } },
        "spec": {
            "template": { "spec": { "containers": [container], "containerConcurrency": 4 } },
            "traffic": wanted.traffic,
        },
    });
    let answer = soak.haar.api("PUT", &url(), Some(&body));
    assert!(answer["error"].is_null(), "{answer:#}");
}

/// The revisions that can serve, the newest first.
fn revisions(soak: &Soak) -> Vec<String> {
    let all = url().replace("/services/soak", "/revisions?labelSelector=serving.knative.dev/service%3Dsoak");
    let all = soak.haar.api("GET", &all, None);
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let is_ready = |revision: &&Value| {
        let conditions = revision["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    };
    let names = items.iter().filter(is_ready).filter_map(|revision| revision["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

fn two(soak: &Soak, dice: &mut Dice) -> Option<(String, String)> {
    let names = revisions(soak);
    let [first, others @ ..] = &names[..] else { return None };
    let other = others.get(dice.roll(3) as usize)?;
    Some((first.clone(), other.clone()))
}

fn split(soak: &Soak, wanted: &mut Wanted, dice: &mut Dice) {
    let Some((first, second)) = two(soak, dice) else { return };
    let share = 1 + dice.roll(99);
    wanted.traffic = json!([
        { "revisionName": first, "percent": share },
        { "revisionName": second, "percent": 100 - share },
    ]);
    put(soak, wanted);
}

fn tag(soak: &Soak, wanted: &mut Wanted, dice: &mut Dice) {
    let Some((_, tagged)) = two(soak, dice) else { return };
    let mut traffic = wanted.traffic.as_array().expect("a list").clone();
    traffic.retain(|target| target["tag"].is_null());
    traffic.push(json!({ "revisionName": tagged, "tag": format!("t{}", dice.roll(3)) }));
    wanted.traffic = traffic.into();
    put(soak, wanted);
}

fn kill_an_instance(soak: &Soak, dice: &mut Dice) {
    let mark = format!("{MARK}{}", soak.host);
    let programs = programs(&mark);
    if programs.is_empty() {
        return;
    }
    let program = programs[dice.roll(programs.len() as u64) as usize];
    soak.dying.lock().expect("no client panicked").push((program, soak.now()));
    let killed = Command::new("kill").args(["-9", &program.to_string()]).output();
    assert!(killed.is_ok(), "kill runs");
}

/// Notes when what was killed has died. One that is frozen between requests dies when the next one thaws it: control
/// groups of version 1 keep the signal until then.
pub(super) fn note_deaths(soak: &Soak) {
    while !soak.is_over() {
        std::thread::sleep(LOOK);
        let mut dying = soak.dying.lock().expect("no client panicked");
        dying.retain_mut(|(program, seen)| {
            let now = soak.now();
            if is_alive(*program) {
                *seen = now;
                return true;
            }
            note(soak, Disruption { what: What::Instance, from: *seen, to: now });
            false
        });
    }
}

/// One that has died has no command line, reaped or not.
fn is_alive(program: u32) -> bool {
    fs::read(format!("/proc/{program}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The processes that have this on their command lines and are no more than that.
fn programs(mark: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"python3\0") && String::from_utf8_lossy(&line).contains(mark)
    })
    .collect()
}

fn kill_haar(soak: &Soak) {
    let pid = soak.haar.pid();
    let from = soak.now();
    kill(pid);
    await_another(&soak.haar, pid);
    note(soak, Disruption { what: What::Haar, from, to: soak.now() });
}

fn note(soak: &Soak, disruption: Disruption) {
    soak.disruptions.lock().expect("no client panicked").push(disruption);
}
