//! What survives: kills, restarts, second processes, full groups.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use kernel::{
    Code,
    store::{Embedded, Outcome, Store, Txn, Watched, embedded::Options},
};

use crate::{
    conformance::{commit, put},
    new_dir, new_store, open, options, run,
};

/// Where a child of the kill test keeps its store.
const CHILD: &str = "KERNEL_TEST_STORE";
/// How many children are killed.
const ROUNDS: u64 = 20;

/// Not a test when run by itself: the child of the kill test. It writes without end, and says each key once it
/// was told that the key is safe.
#[test]
fn writing_child() {
    let Some(dir) = env::var_os(CHILD).map(PathBuf::from) else { return };
    run(async {
        let store = open(&dir);
        let writers: Vec<_> =
            (0..4).map(|writer| tokio::spawn(write_without_end(store.clone(), writer))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write_without_end(store: Arc<dyn Store>, writer: usize) {
    let pid = std::process::id();
    for number in 0.. {
        let key = format!("{pid}/{writer}/{number}");
        commit(&*store, Txn::new().put(&*key, vec![b'v'; number % 3000]).put(format!("twin/{key}"), ""))
            .await;
        let mut out = std::io::stdout().lock();
        if writeln!(out, "safe {key}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn start_child(dir: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "durability::writing_child", "--nocapture"]).env(CHILD, dir);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut safe = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = start_child(dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("safe ").map(|(_, key)| key.to_owned()));
        safe.extend(said.next());
        std::thread::sleep(Duration::from_micros(round * 7919 % 60_000));
        child.kill().unwrap();
        safe.extend(said);
        child.wait().unwrap();
    }
    assert!(safe.len() > ROUNDS as usize, "{} keys", safe.len());
    run(async {
        let store = open(dir.path());
        for key in &safe {
            assert!(store.get(key).await.unwrap().is_some(), "{key} was lost");
        }
        let (twins, _) = store.range("twin/", "", usize::MAX).await.unwrap();
        let (all, _) = store.range("", "", usize::MAX).await.unwrap();
        assert_eq!(all.len(), 2 * twins.len(), "no transaction is there by half");
    });
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = new_dir();
    let mut child = start_child(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("safe ")));
    let refusal = Embedded::open(dir.path()).unwrap_err();
    let expected = format!("data directory {} is in use by haar (pid {})", dir.path().display(), child.id());
    assert_eq!((refusal.code(), refusal.message()), (Code::FailedPrecondition, &*expected));
    child.kill().unwrap();
    child.wait().unwrap();
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = new_dir();
    drop(open(dir.path()));
    std::fs::write(dir.path().join("FORMAT"), "version 9\noldest-reader 8\n").unwrap();
    let refusal = Embedded::open(dir.path()).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("written by a newer haar (format 9"), "{refusal}");
    std::fs::write(dir.path().join("FORMAT"), "version 9\noldest-reader 1\n").unwrap();
    drop(open(dir.path()));
    let format = std::fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    assert!(format.starts_with("version 9\n"), "not taken back: {format}");
}

#[test]
fn only_the_owner_can_look_inside() {
    use std::os::unix::fs::PermissionsExt;
    let parent = new_dir();
    let dir = parent.path().join("state");
    let _store = open(&dir);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn revisions_and_watches_go_on_after_a_restart() {
    run(async {
        let (dir, store) = new_store();
        let first = put(&*store, "k/1", "a").await;
        let second = put(&*store, "k/2", "b").await;
        drop(store);
        let store = open(dir.path());
        assert_eq!(put(&*store, "k/3", "c").await, second + 1);
        let mut watch = store.watch("k/", first).await.unwrap();
        let mut keys = Vec::new();
        while keys.len() < 2 {
            keys.extend(crate::conformance::events(&mut *watch).await.into_iter().map(|event| event.key));
        }
        assert_eq!(keys, ["k/2", "k/3"]);
    });
}

#[test]
fn sixty_four_writers_share_commits_and_none_is_forgotten() {
    run(async {
        let (_dir, store) = new_store();
        let writers: Vec<_> = (0..64).map(|_| tokio::spawn(increment(store.clone(), 10))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let counter = store.get("counter").await.unwrap().unwrap();
        assert_eq!(&counter.value[..], b"640");
        assert_eq!(counter.revision, 640, "conflicts made no revisions");
    });
}

/// Counts up, each step only if nobody else came in between.
async fn increment(store: Arc<dyn Store>, times: usize) {
    for _ in 0..times {
        loop {
            let current = store.get("counter").await.unwrap();
            let (value, revision) = current.map_or((0, 0), |entry| {
                (std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), entry.revision)
            });
            let txn = Txn::new().check("counter", revision).put("counter", (value + 1).to_string());
            if let Outcome::Committed(_) = store.txn(txn).await.unwrap() {
                break;
            }
        }
    }
}

#[test]
fn old_events_are_compacted_by_count_and_by_size() {
    let by_count = Options { keep_revisions: 80, ..options() };
    let by_size = Options { keep_bytes: 80_000, ..options() };
    for options in [by_count, by_size] {
        run(async {
            let dir = new_dir();
            let store = Embedded::open_with(dir.path(), options).unwrap();
            for number in 0..600 {
                let txn = Txn::new().put(format!("k/{}", number % 5), vec![0; 900]);
                commit(&store, txn).await;
            }
            let mut old = store.watch("k/", 100).await.unwrap();
            assert_eq!(old.next().await, Some(Watched::Compacted));
            let mut young = store.watch("k/", 530).await.unwrap();
            let seen = crate::conformance::events(&mut *young).await;
            assert_eq!(seen[0].revision, 531);
        });
    }
}

#[test]
fn a_slow_watch_misses_nothing() {
    run(async {
        let (_dir, store) = new_store();
        let mut watch = store.watch("k/", 0).await.unwrap();
        for number in 0..400u64 {
            commit(&*store, Txn::new().put(format!("k/{number}"), vec![0; 5000])).await;
        }
        let mut revisions = Vec::new();
        while revisions.len() < 400 {
            revisions.extend(
                crate::conformance::events(&mut *watch).await.into_iter().map(|event| event.revision),
            );
        }
        assert_eq!(revisions, (1..=400).collect::<Vec<_>>());
    });
}

#[test]
fn watches_end_when_the_store_closes() {
    run(async {
        let (_dir, store) = new_store();
        let mut watch = store.watch("", 0).await.unwrap();
        put(&*store, "a", "").await;
        drop(store);
        let end = async { while watch.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), end).await.unwrap();
    });
}

#[test]
fn without_room_writes_are_refused_and_reads_go_on() {
    run(async {
        let dir = new_dir();
        let store = open(dir.path());
        put(&*store, "a", "1").await;
        drop(store);
        let options = Options { reserve_bytes: u64::MAX, ..options() };
        let store = Embedded::open_with(dir.path(), options).unwrap();
        let started = Instant::now();
        let refusal = store.txn(Txn::new().put("a", "2")).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains("is full"), "{refusal}");
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(&store.get("a").await.unwrap().unwrap().value[..], b"1");
    });
}
