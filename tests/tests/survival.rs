//! `kill -9` at any moment: what was acknowledged is there afterwards.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tests::{Haar, PROJECT, kill_and_await};

#[test]
fn nothing_acknowledged_is_lost_when_haar_is_killed_while_written_to() {
    let haar = Haar::start();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (haar, acknowledged, stop) = (&haar, acknowledged.clone(), stop.clone());
            scope.spawn(move || write_until(haar, writer, &acknowledged, &stop));
        }
        for round in 0..6 {
            std::thread::sleep(Duration::from_millis(150 + 37 * round));
            kill_and_await(&haar);
        }
        stop.store(true, Ordering::Relaxed);
    });

    let acknowledged = acknowledged.lock().expect("the writers are done").clone();
    assert!(acknowledged.len() > 20, "only {} writes were tried", acknowledged.len());
    let present: BTreeSet<String> = list(&haar);
    let lost: Vec<_> = acknowledged.difference(&present).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged secrets are gone: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

#[test]
fn a_connection_made_while_haar_is_down_is_answered_when_it_is_back() {
    let haar = Haar::start();
    kill_and_await(&haar);
    // The supervisor holds the socket: this call waits in the backlog instead of being refused.
    assert_eq!(
        haar.api("GET", &format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"), None),
        json!({})
    );
}

fn write_until(haar: &Haar, writer: u32, acknowledged: &Mutex<BTreeSet<String>>, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{number}");
        let url = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets?secretId={name}");
        let ran = haar.cli(&["api", "POST", &url, "-d", r#"{"replication":{"automatic":{}}}"#]);
        if ran.code == 0 {
            acknowledged.lock().expect("no writer panicked").insert(name);
        }
    }
}

fn list(haar: &Haar) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut token = String::new();
    loop {
        let url = format!(
            "secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets?pageSize=100&pageToken={token}"
        );
        let page = haar.api("GET", &url, None);
        for secret in page["secrets"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let name = secret["name"].as_str().expect("a name");
            names.insert(name.rsplit('/').next().expect("an id").to_owned());
        }
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return names,
        }
    }
}
