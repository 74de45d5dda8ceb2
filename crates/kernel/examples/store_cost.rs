//! What the store costs here: `cargo run --release -p kernel --example store_cost [DIR]`.
//!
//! Prints durable commits a second, alone and with 64 writers, and what a read, a mirror and an opening take.
//! `DIR` should lie on the disk that matters; without it, a directory under the current one is used and removed.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use kernel::{
    mirror::{Mirror, Record},
    store::{Embedded, Store, Txn},
};

/// How many records the directory holds.
const RECORDS: usize = 10_000;
/// About what a resource takes.
const SIZE: usize = 400;

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(bytes = "bytes", tag = "1")]
    content: bytes::Bytes,
}

impl Record for Resource {
    const FORMAT: u8 = 1;
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("store_cost.tmp"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&dir))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn measure(dir: &Path) -> Outcome {
    println!("resident before anything                  {:>9} KiB", resident_kib());
    let started = Instant::now();
    let store = Arc::new(Embedded::open(dir)?);
    println!("opening a new directory                   {:>9.2} ms", millis(started.elapsed()));
    println!("resident with an empty store              {:>9} KiB", resident_kib());
    fill(&*store).await?;
    println!("resident after writing {RECORDS} records      {:>9} KiB", resident_kib());
    writes(store.clone()).await?;
    drop(store);
    reopened(dir).await
}

async fn fill(store: &dyn Store) -> Outcome {
    let names: Vec<String> = (0..RECORDS).map(name).collect();
    for block in names.chunks(100) {
        let txn = block.iter().fold(Txn::new(), |txn, name| txn.put(key(name), record().to_stored()));
        store.txn(txn).await?;
    }
    Ok(())
}

async fn writes(store: Arc<Embedded>) -> Outcome {
    println!("durable commits, alone                    {:>9.0} /s", rate(&store, 1, 2_000).await?);
    println!("durable commits, 64 writers               {:>9.0} /s", rate(&store, 64, 32_000).await?);
    Ok(())
}

async fn rate(
    store: &Arc<Embedded>,
    writers: usize,
    commits: usize,
) -> Result<f64, Box<dyn std::error::Error>> {
    let started = Instant::now();
    let tasks: Vec<_> =
        (0..writers).map(|writer| tokio::spawn(write(store.clone(), writer, commits / writers))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(commits as f64 / started.elapsed().as_secs_f64())
}

async fn write(store: Arc<Embedded>, writer: usize, count: usize) -> kernel::Result<()> {
    for number in 0..count {
        let name = name((writer * 157 + number) % RECORDS);
        store.txn(Txn::new().put(key(&name), record().to_stored())).await?;
    }
    Ok(())
}

async fn reopened(dir: &Path) -> Outcome {
    let started = Instant::now();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir)?);
    println!("opening with {RECORDS} records                {:>9.2} ms", millis(started.elapsed()));
    let started = Instant::now();
    let (all, _) = store.range("resources/", "", usize::MAX).await?;
    println!("reading them                              {:>9.2} ms", millis(started.elapsed()));
    drop(all);
    let started = Instant::now();
    drop(store.range("resources/", "", usize::MAX).await?);
    println!("reading them again                        {:>9.2} ms", millis(started.elapsed()));
    let started = Instant::now();
    let mirror = Mirror::<Resource>::open(store.clone(), "resources/").await?;
    println!("a mirror of them                          {:>9.2} ms", millis(started.elapsed()));
    println!("resident with store and mirror            {:>9} KiB", resident_kib());
    reads(&*store, &mirror).await?;
    let started = Instant::now();
    for number in 0..1000 {
        mirror.commit(Txn::new().put(mirror.key(&name(number)), record().to_stored())).await?;
    }
    println!("commit, seen by its mirror                {:>9.0} µs", micros(started.elapsed()) / 1e3);
    Ok(())
}

async fn reads(store: &dyn Store, mirror: &Mirror<Resource>) -> Outcome {
    let names: Vec<String> = (0..RECORDS).map(name).collect();
    let keys: Vec<String> = names.iter().map(|name| key(name)).collect();
    let started = Instant::now();
    for key in keys.iter().chain(&keys) {
        black_box(store.get(key).await?);
    }
    println!("store get                                 {:>9.2} µs", micros(started.elapsed()) / 2e4);
    let started = Instant::now();
    for name in names.iter().cycle().take(1_000_000) {
        black_box(mirror.get(name));
    }
    println!("mirror get, {RECORDS} in turn                  {:>9.1} ns", micros(started.elapsed()) / 1e3);
    let started = Instant::now();
    for _ in 0..1_000_000 {
        black_box(mirror.get(black_box(&names[77])));
    }
    println!("mirror get, the same                      {:>9.1} ns", micros(started.elapsed()) / 1e3);
    let started = Instant::now();
    for name in names.iter().take(1000) {
        black_box(mirror.range("", name, 100));
    }
    println!("mirror page of 100                        {:>9.2} µs", micros(started.elapsed()) / 1e3);
    Ok(())
}

fn name(number: usize) -> String {
    format!("projects/my-project/secrets/secret-{number:06}")
}

fn key(name: &str) -> String {
    format!("resources/{name}")
}

fn record() -> Resource {
    Resource { content: vec![7; SIZE].into() }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What the process occupies in memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
