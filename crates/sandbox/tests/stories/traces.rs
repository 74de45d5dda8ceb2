//! What is left behind: nothing.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::spec::Writable;
use sandbox::{Config, Isolation, Sandbox};

use crate::world::{World, spec_on};

pub(crate) async fn eventually(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every directory of a control group whose name says it is ours.
fn groups(data_id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy() == format!("haar-{data_id}") {
                    found.extend(
                        std::fs::read_dir(entry.path())
                            .unwrap()
                            .flatten()
                            .map(|e| e.path())
                            .filter(|p| p.is_dir()),
                    );
                } else {
                    left.push(entry.path());
                }
            }
        }
    }
    found
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

pub(crate) async fn a_scratch_directory_is_empty_afterwards(world: &World) {
    let scratch = world.directory("scratch");
    let before = mounts();
    let mut spec =
        world.shell("mkdir -p /a/b; echo x > /a/b/c; chown 12:13 /a; rm /etc/passwd; mkdir -m 0 /closed");
    spec.writable = Writable::Disk;
    spec.scratch = scratch.clone();
    let said = world.run(spec).await;
    assert_eq!(said.err, "");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
    assert_eq!(mounts(), before);
    assert!(world.base.join("etc/passwd").exists());
}

/// A haar with one instance, until it is killed. Words: data id, base, scratch.
pub(crate) fn be_a_parent(words: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config {
            data_id: words[0].clone(),
            layers: words[1].clone().into(),
            warm: 1,
            isolation: Isolation::Best,
            wiring: Default::default(),
        };
        let sandbox = Sandbox::open(config).unwrap();
        sandbox.prepare().await.unwrap();
        let mut spec = spec_on(words[1].as_ref(), &["sh", "-c", "echo x > /file; sleep 600"]);
        spec.writable = Writable::Disk;
        spec.scratch = words[2].clone().into();
        let instance = sandbox.start(spec).await.unwrap();
        // Frozen, it could not even be killed if nobody thawed it.
        let _ = instance.freeze().await;
        println!("{}", instance.pid());
        std::future::pending::<()>().await;
    });
}

pub(crate) async fn nothing_outlives_a_killed_haar(world: &World) {
    let scratch = world.directory("orphaned");
    let data_id = format!("{}-child", world.data_id);
    let mut haar = Command::new(std::env::current_exe().unwrap())
        .args(["parent", &data_id])
        .args([&world.base, &scratch])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(haar.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let process = Path::new("/proc").join(line.trim());
    assert!(process.exists());
    haar.kill().unwrap();
    haar.wait().unwrap();
    eventually("the instance ends", || !process.exists()).await;
    eventually("the scratch directory is emptied", || std::fs::read_dir(&scratch).unwrap().count() == 0)
        .await;
    eventually("its control groups go", || groups(&data_id).is_empty()).await;
    assert_eq!(sandbox::sweep(&data_id).unwrap(), 0);
}

pub(crate) async fn a_failed_start_leaves_nothing(world: &World) {
    let before = groups(&world.data_id).len();
    let scratch = world.directory("failed");
    for _ in 0..3 {
        let mut spec = world.spec(&["/none"]);
        spec.writable = Writable::Disk;
        spec.scratch = scratch.clone();
        world.sandbox.start(spec).await.err().unwrap();
    }
    // Those that wait for the next start may be there, for each hierarchy.
    eventually("failed starts leave no groups", || groups(&world.data_id).len() <= before.max(5)).await;
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

pub(crate) async fn probing_leaves_the_caller_as_it_was(world: &World) {
    let state = || {
        let names = ["user", "net", "mnt", "pid", "uts", "ipc", "cgroup"];
        let spaces: Vec<_> =
            names.iter().map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap()).collect();
        (spaces, mounts())
    };
    let before = state();
    let data_id = format!("{}-probe", world.data_id);
    let host = sandbox::host::probe(&data_id, &world.base).unwrap();
    assert!(!Path::new(&format!("/sys/fs/cgroup/pids/haar-{data_id}")).exists());
    assert_eq!(host.level, world.sandbox.host().level);
    assert!(host.sentence.ends_with('.'));
    assert_eq!(state(), before);
}

pub(crate) async fn it_works_without_root_too(world: &World) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["hello", &format!("{}-user", world.data_id)])
        .uid(54_321)
        .gid(54_321)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    if out.starts_with("skipped") || !output.status.success() && output.stderr.is_empty() {
        println!("    {out}");
        return;
    }
    assert!(out.starts_with("UserNamespaces"), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("\n0\nwrote\nCapEff:\t00000000800405fb"), "{out}");
    assert!(out.ends_with(&format!("{:?}\n", world.sandbox.host().redirection)), "{out}");
}

pub(crate) async fn a_killed_helper_is_replaced(world: &World) {
    let before = world.start(world.shell("sleep 60")).await;
    let me = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "haar-zygote" {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    // One may have been prepared before; the next cannot have been.
    for _ in 0..3 {
        assert_eq!(world.out("echo on").await, "on\n");
    }
    // What ran, ran on.
    assert!(Path::new(&format!("/proc/{}", before.pid())).exists());
    assert_eq!(before.stop(Duration::ZERO).await.how, sandbox::Ending::Signal(9));
}
