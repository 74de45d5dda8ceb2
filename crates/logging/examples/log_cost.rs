//! What logging costs: taking lines in, writing calls, and searching what is there.
//!
//! `cargo run --release -p logging --example log_cost [SECONDS]` writes for so many seconds (10 by default) into
//! a directory of its own, then searches it. Figures of CPU are of the whole process, in microseconds an entry.

#![allow(clippy::unwrap_used, reason = "an example may fail loudly")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apis::google::{
    api::MonitoredResource,
    logging::v2::{self as proto, log_entry::Payload, logging_service_v2 as rpc},
};
use kernel::{
    BoxFuture, Caller, Error, Method, Principal, Resource,
    call::RequestInfo,
    clock::Clock,
    ports::{Authority, LogSource, LogStream, Logs, Owner, Project, Projects},
};
use logging::{Logging, Options};
use prost::Message;

struct Anyone;

impl Authority for Anyone {
    fn allows(&self, _: &Principal, _: &str, _: &Resource, _: &RequestInfo) -> bool {
        true
    }
}

struct OneProject;

impl Projects for OneProject {
    fn resolve<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Project, Error>> {
        Box::pin(std::future::ready(Ok(Project { id: id.into(), number: 1 })))
    }

    fn known(&self, id: &str) -> Option<Project> {
        Some(Project { id: id.into(), number: 1 })
    }

    fn enabled(&self, _: &str, _: &str) -> bool {
        true
    }
}

fn source(service: &str) -> LogSource {
    LogSource {
        project: "my-project".into(),
        region: "us-central1".into(),
        owner: Owner::Revision { service: service.into(), revision: format!("{service}-00001-abc").into() },
        instance: "0087599d42a1c2f1".into(),
        container: "".into(),
    }
}

/// The CPU time of this process so far, in microseconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own: f64 = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default()
    });
    threads.sum::<f64>().max(own) / 1000.0
}

/// Resident memory in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() / 1024
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { cap_bytes: 8 << 30, reserve_bytes: 0, ..Options::default() };
    let open = || Logging::open_with(dir.path(), Clock::system(), Arc::new(OneProject), options).unwrap();
    let logging = open();
    println!("resident when empty: {} MiB", resident());
    runtime.block_on(calls(&logging));
    let lines = take_in(&logging, Duration::from_secs(seconds));
    let waited = Instant::now();
    drop(logging);
    println!("closed in {:.1} ms", waited.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let logging = open();
    println!("opened again in {:.1} ms; resident {} MiB", started.elapsed().as_secs_f64() * 1e3, resident());
    println!("{lines} entries, {} MiB on disk", logging.disk_bytes() >> 20);
    runtime.block_on(searches(&logging));
    println!("resident after searches: {} MiB", resident());
}

/// Lines of two services, nine in ten of them text, one in ten thousand of the rarer service's an error.
fn take_in(logging: &Logging, time: Duration) -> u64 {
    let (often, rare) = (source("often"), source("rare"));
    let (started, used) = (Instant::now(), cpu());
    let mut number = 0u64;
    while started.elapsed() < time {
        for _ in 0..2000 {
            let text = format!("GET /items/{number} answered in {} ms", number % 97);
            let json = || format!(r#"{{"severity":"INFO","message":"item","id":{number},"user":"ada"}}"#);
            match number % 10 {
                0 => logging.line(&often, LogStream::Stdout, &json()),
                1 if number % 10_000 == 1 => {
                    logging.line(
                        &rare,
                        LogStream::Stdout,
                        r#"{"severity":"ERROR","message":"broken","id":1}"#,
                    );
                }
                _ => logging.line(&often, LogStream::Stdout, &text),
            }
            number += 1;
        }
        // As fast as they are written, so that none is dropped.
        while logging.waiting_bytes() > 6 << 20 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let (elapsed, used) = (started.elapsed().as_secs_f64(), cpu() - used);
    let rate = number as f64 / elapsed;
    println!(
        "lines: {rate:.0}/s, {:.2} µs of CPU each ({:.0}/s a core)",
        used / number as f64,
        1e6 * number as f64 / used
    );
    number
}

fn caller() -> Caller {
    let time = std::time::SystemTime::now();
    let request =
        RequestInfo { time, peer: None, host: "logging.googleapis.com".into(), user_agent: "".into() };
    Caller::new(Principal::User("ada@example.com".into()), request, Arc::new(Anyone))
}

async fn call<S: Message + Default>(methods: &[Method], id: apis::MethodId, request: Vec<u8>) -> S {
    let method = methods.iter().find(|method| method.id == id).unwrap();
    S::decode(&*(method.handler)(caller(), request.into()).await.unwrap()).unwrap()
}

/// Calls of 1000 entries, one after the other.
async fn calls(logging: &Arc<Logging>) {
    let methods = logging::methods(logging.clone());
    let entries = (0..1000).map(|number| proto::LogEntry {
        severity: 200,
        payload: Some(Payload::TextPayload(format!("entry {number} of a client"))),
        ..proto::LogEntry::default()
    });
    let request = proto::WriteLogEntriesRequest {
        log_name: "projects/my-project/logs/client".into(),
        resource: Some(MonitoredResource { r#type: "global".into(), ..MonitoredResource::default() }),
        entries: entries.collect(),
        ..proto::WriteLogEntriesRequest::default()
    };
    let bytes = request.encode_to_vec();
    let (started, used, rounds) = (Instant::now(), cpu(), 200);
    for _ in 0..rounds {
        let _: proto::WriteLogEntriesResponse =
            call(&methods, rpc::WRITE_LOG_ENTRIES.id(), bytes.clone()).await;
    }
    let (elapsed, used, count) = (started.elapsed().as_secs_f64(), cpu() - used, f64::from(rounds) * 1e3);
    println!(
        "calls of 1000 entries: {:.0} entries/s durable, {:.2} µs of CPU each ({:.0}/s a core), {:.1} ms a call",
        count / elapsed,
        used / count,
        1e6 * count / used,
        elapsed * 1e3 / f64::from(rounds)
    );
}

async fn searches(logging: &Arc<Logging>) {
    let methods = logging::methods(logging.clone());
    let often = r#"resource.type="cloud_run_revision" AND resource.labels.service_name="often""#;
    let cases = [
        ("newest of a service", often.to_owned()),
        ("newest of a rare service", r#"resource.labels.service_name="rare""#.to_owned()),
        ("severity>=ERROR", "severity>=ERROR".to_owned()),
        ("severity that is nowhere", "severity>=CRITICAL".to_owned()),
        ("before there was anything", r#"timestamp<"2020-01-01T00:00:00Z""#.to_owned()),
        ("a JSON field, everywhere", "jsonPayload.id=77777777770".to_owned()),
        ("text that is nowhere", "textPayload:\"no such text\"".to_owned()),
        ("a word in any field, nowhere", "nosuchword".to_owned()),
        ("a regular expression, nowhere", "textPayload=~\"/items/[0-9]+x\"".to_owned()),
    ];
    for (name, filter) in cases {
        let request = proto::ListLogEntriesRequest {
            resource_names: vec!["projects/my-project".into()],
            filter,
            order_by: "timestamp desc".into(),
            ..proto::ListLogEntriesRequest::default()
        };
        let started = Instant::now();
        let found: proto::ListLogEntriesResponse =
            call(&methods, rpc::LIST_LOG_ENTRIES.id(), request.encode_to_vec()).await;
        let elapsed = started.elapsed().as_secs_f64() * 1e3;
        println!("search, {name}: {elapsed:.1} ms, {} entries", found.entries.len());
    }
}
