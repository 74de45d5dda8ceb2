//! What survives kills, torn files and caps.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use apis::google::logging::v2::{self as proto, logging_service_v2 as rpc};
use kernel::{
    clock::Clock,
    ports::{LogStream, Logs},
};
use logging::Options;

use crate::world::{World, listing, options, said, source, text};

/// Where a child of the kill test keeps its entries.
const CHILD: &str = "LOGGING_TEST_DIR";
/// How many children are killed.
const ROUNDS: u64 = 12;

/// Not a test when run by itself: the child of the kill test. It writes without end, and says each entry once it
/// was told that the entry is safe.
#[tokio::test(flavor = "multi_thread")]
async fn writing_child() {
    let Some(dir) = env::var_os(CHILD).map(PathBuf::from) else { return };
    let world = World::at(&dir, Clock::system(), options());
    let pid = std::process::id();
    for number in 0.. {
        world.logging.line(&source("shop-1"), LogStream::Stdout, "between");
        let texts: Vec<_> = (0..5).map(|part| format!("{pid}-{number}-{part}")).collect();
        world.write(texts.iter().map(|text| said(text)).collect()).await.unwrap();
        let mut out = std::io::stdout().lock();
        if writeln!(out, "safe {}", texts.join(" ")).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn start_child(dir: &Path) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "durability::writing_child", "--nocapture"]).env(CHILD, dir);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Every text there is, page by page.
async fn everything(world: &World) -> BTreeSet<String> {
    let (mut seen, mut token) = (BTreeSet::new(), String::new());
    loop {
        let request = proto::ListLogEntriesRequest {
            page_size: 1000,
            page_token: token,
            order_by: "timestamp desc".into(),
            ..listing("")
        };
        let page = world.list(request).await;
        seen.extend(page.entries.iter().map(text));
        token = page.next_page_token;
        if token.is_empty() {
            return seen;
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut safe = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = start_child(dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split_once("safe ").map(|(_, texts)| texts.to_owned()));
        safe.extend(said.next());
        std::thread::sleep(Duration::from_micros(round * 7919 % 40_000));
        child.kill().unwrap();
        safe.extend(said);
        child.wait().unwrap();
        let world = World::at(dir.path(), Clock::system(), options());
        let there = everything(&world).await;
        for text in safe.iter().flat_map(|texts| texts.split(' ')) {
            assert!(there.contains(text), "{text} was lost");
        }
    }
}

#[tokio::test]
async fn a_segment_goes_on_after_each_restart() {
    let mut world = World::new();
    for round in 0..5 {
        world.write(vec![said(&format!("round {round}"))]).await.unwrap();
        world.advance(1);
        let (dir, clock) = world.close();
        assert_eq!((files(dir.path(), "seg"), files(dir.path(), "idx")), (1, 1));
        world = World::open(dir, clock, options());
    }
    assert_eq!(everything(&world).await.len(), 5);
}

/// The newest file of records.
fn last_segment(world_dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(world_dir.join("logs")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().unwrap()
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_written_over() {
    let world = World::new();
    world.write(vec![said("one"), said("two"), said("three")]).await.unwrap();
    let (dir, clock) = world.close();
    let segment = last_segment(dir.path());
    let whole = std::fs::read(&segment).unwrap();
    let mut dir = Some((dir, clock));
    for torn in [whole[..whole.len() - 1].to_vec(), [&whole[..whole.len() - 3], &[0; 90]].concat()] {
        let (folder, clock) = dir.take().unwrap();
        std::fs::write(&segment, &torn).unwrap();
        let world = World::open(folder, clock, options());
        assert_eq!(world.texts("").await, ["one", "two"]);
        world.advance(1);
        world.write(vec![said("four")]).await.unwrap();
        assert_eq!(world.texts("").await, ["one", "two", "four"]);
        dir = Some(world.close());
    }
}

/// A log of several segments, the numbers of whose lines go up.
async fn several_segments(options: Options, lines: usize) -> World {
    let world = World::with(options);
    for start in (0..lines).step_by(500) {
        let entries =
            (start..lines.min(start + 500)).map(|number| said(&format!("{number:06} {}", "x".repeat(200))));
        world.write(entries.collect()).await.unwrap();
    }
    world
}

fn files(dir: &Path, extension: &str) -> usize {
    let files = std::fs::read_dir(dir.join("logs")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
}

#[tokio::test]
async fn the_cap_holds_and_the_oldest_go_first() {
    let cap = 1 << 20;
    let world = several_segments(Options { cap_bytes: cap, ..options() }, 10_000).await;
    assert!(world.logging.disk_bytes() <= cap, "{}", world.logging.disk_bytes());
    assert!(world.logging.disk_bytes() > cap / 2);
    let there = everything(&world).await;
    let first: usize = there.first().unwrap()[..6].parse().unwrap();
    assert!(first > 0 && there.len() == 10_000 - first, "{first} is the first of {}", there.len());
}

#[tokio::test]
async fn full_segments_are_found_again_with_and_without_their_indexes() {
    let world = several_segments(Options { cap_bytes: 4 << 20, ..options() }, 3_000).await;
    let (dir, clock) = world.close();
    let indexes = files(dir.path(), "idx");
    assert!(indexes >= 3, "{indexes} indexes");
    for (number, index) in std::fs::read_dir(dir.path().join("logs")).unwrap().enumerate() {
        let path = index.unwrap().path();
        match (path.extension().is_some_and(|extension| extension == "idx"), number % 3) {
            (true, 0) => std::fs::remove_file(path).unwrap(),
            (true, 1) => std::fs::write(path, b"damaged").unwrap(),
            _ => {}
        }
    }
    std::fs::write(dir.path().join("logs/0000000000000001.idx.new"), b"half").unwrap();
    let world = World::open(dir, clock, Options { cap_bytes: 4 << 20, ..options() });
    assert_eq!(everything(&world).await.len(), 3_000);
    assert_eq!((files(world.path(), "idx"), files(world.path(), "new")), (indexes, 0));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_lets_reads_go_on() {
    let world = World::new();
    world.write(vec![said("before")]).await.unwrap();
    let (dir, clock) = world.close();
    let world = World::open(dir, clock, Options { reserve_bytes: u64::MAX, ..options() });
    let request = proto::WriteLogEntriesRequest {
        log_name: crate::world::LOG.into(),
        resource: Some(crate::world::global()),
        entries: vec![said("after")],
        ..proto::WriteLogEntriesRequest::default()
    };
    let (code, message) = crate::world::refusal(world.call(rpc::WRITE_LOG_ENTRIES, request).await);
    assert!(code == kernel::Code::ResourceExhausted && message.contains("is full"), "{message}");
    world.logging.line(&source("shop-1"), LogStream::Stdout, "lost");
    assert_eq!(world.texts("").await, ["before"]);
}

#[tokio::test]
async fn only_the_owner_can_look_inside() {
    use std::os::unix::fs::PermissionsExt;
    let world = several_segments(Options { cap_bytes: 4 << 20, ..options() }, 1_000).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = world.path().join("logs");
    assert_eq!(mode(&dir), 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
