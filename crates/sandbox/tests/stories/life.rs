//! Starting, ending, output, signals, users.

use std::time::{Duration, Instant};

use sandbox::spec::InsideFile;
use sandbox::{Config, Ending, Host, Isolation, Kind, Level, Sandbox};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::world::{World, make_base, run_on, set_mode, spec_on};

pub(crate) async fn a_program_says_hello_on_both_outputs(world: &World) {
    let said = world.run(world.shell("cat && echo hello; echo oops >&2")).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("hello\n", "oops\n"));
    assert_eq!(said.exit.how, Ending::Code(0));
    assert!(!said.exit.oom);
}

pub(crate) async fn exit_codes_and_signals_are_told_apart(world: &World) {
    for code in [0, 1, 42, 255] {
        assert_eq!(world.run(world.shell(&format!("exit {code}"))).await.exit.how, Ending::Code(code));
    }
    assert_eq!(world.run(world.shell("kill -9 $$")).await.exit.how, Ending::Signal(9));
    assert_eq!(world.run(world.shell("kill -SEGV $$")).await.exit.how, Ending::Signal(11));
}

pub(crate) async fn a_program_that_cannot_run_says_why(world: &World) {
    let kind =
        async |argv: &[&str]| world.sandbox.start(world.spec(argv)).await.err().map(|error| error.kind);
    assert_eq!(kind(&["/none"]).await, Some(Kind::NotFound));
    assert_eq!(kind(&["no-such-program"]).await, Some(Kind::NotFound));
    assert_eq!(kind(&["/plain"]).await, Some(Kind::NotExecutable));
    assert_eq!(kind(&["/garbage"]).await, Some(Kind::WrongFormat));
    assert_eq!(kind(&[]).await, Some(Kind::Invalid));
    let mut spec = world.spec(&["true"]);
    spec.user = "nobody-here".into();
    let error = world.sandbox.start(spec).await.err();
    if let Some(error) = error {
        assert!(error.message.contains("no user \"nobody-here\""), "{error}");
    }
}

pub(crate) async fn a_polite_program_ends_by_itself_when_stopped(world: &World) {
    let mut instance =
        world.start(world.shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")).await;
    let mut out = instance.take_stdout().unwrap();
    out.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(instance.stop(Duration::from_secs(10)).await.how, Ending::Code(7));
}

pub(crate) async fn a_polite_program_need_not_be_root(world: &World) {
    let mut spec = world.shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
    spec.user = "web".into();
    let mut instance = world.start(spec).await;
    instance.take_stdout().unwrap().read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(instance.stop(Duration::from_secs(10)).await.how, Ending::Code(7));
}

pub(crate) async fn a_deaf_program_is_killed_when_the_grace_is_over(world: &World) {
    let mut instance =
        world.start(world.shell("trap '' TERM; echo ready; while :; do sleep 0.02; done")).await;
    instance.take_stdout().unwrap().read_exact(&mut [0; 6]).await.unwrap();
    let begin = Instant::now();
    assert_eq!(instance.stop(Duration::from_millis(200)).await.how, Ending::Signal(9));
    assert!(begin.elapsed() >= Duration::from_millis(200) && begin.elapsed() < Duration::from_secs(5));
}

pub(crate) async fn orphans_are_reaped(world: &World) {
    let script = "for i in 1 2 3 4 5; do (sleep 0.01 &); done; sleep 0.2; cat /proc/[0-9]*/stat";
    let out = world.out(script).await;
    assert!(out.contains("(sh) "), "{out}");
    assert!(!out.contains(" Z "), "{out}");
}

pub(crate) async fn environment_directory_and_host_name_are_as_asked(world: &World) {
    let mut spec = world.shell("echo $GREETING; pwd; cat /proc/sys/kernel/hostname; env | wc -l");
    spec.env.push(("GREETING".into(), "good day".into()));
    spec.cwd = "/made/for/it".into();
    spec.hostname = "haven".into();
    // Two variables were given; a shell adds PWD.
    assert_eq!(world.run(spec).await.out, "good day\n/made/for/it\nhaven\n3\n");
}

pub(crate) async fn users_are_those_of_the_image(world: &World) {
    for (user, ids) in
        [("", "0 0 0"), ("web", "33 34 34 110"), ("33:110", "33 110 110"), ("1234", "1234 0 0")]
    {
        let mut spec = world.shell("echo $(id -u) $(id -g) $(id -G)");
        spec.user = user.into();
        assert_eq!(world.run(spec).await.out.trim(), ids, "{user}");
    }
    // Root of the image owns the image's files, and nobody on the host is that root.
    assert_eq!(world.out("stat -c %u /etc/passwd /usr/bin/env").await, "0\n0\n");
    let instance = world.start(world.shell("sleep 60")).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", instance.pid())).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
    assert!(!uid.starts_with("0\t"), "{uid}");
}

pub(crate) async fn a_user_may_open_standard_output_by_name(world: &World) {
    let mut spec = world.shell("echo one > /dev/stdout; echo two > /proc/self/fd/2");
    spec.user = "web".into();
    let said = world.run(spec).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), ("one\n", "two\n"));
}

pub(crate) async fn files_are_put_in_place_of_what_the_image_has(world: &World) {
    let layer = world.directory("linked");
    std::fs::create_dir_all(layer.join("etc")).unwrap();
    let _ = std::os::unix::fs::symlink("/etc/passwd", layer.join("etc/resolv.conf"));
    let mut spec = world
        .shell("cat /etc/resolv.conf; stat -c '%a %F' /etc/resolv.conf /deep/down/key; head -c4 /etc/passwd");
    spec.layers.push(layer);
    let file = |path: &str, text: &str, mode| InsideFile { path: path.into(), bytes: text.into(), mode };
    spec.files =
        vec![file("/etc/resolv.conf", "nameserver x\n", 0o644), file("/deep/down/key", "secret", 0o400)];
    let out = world.run(spec).await.out;
    assert_eq!(out, "nameserver x\n644 regular file\n400 regular file\nroot");
}

pub(crate) async fn a_dropped_instance_ends(world: &World) {
    let instance = world.start(world.shell("sleep 60")).await;
    let path = format!("/proc/{}", instance.pid());
    assert!(std::path::Path::new(&path).exists());
    drop(instance);
    crate::traces::eventually("the dropped instance ends", || !std::path::Path::new(&path).exists()).await;
}

/// Another user's part in a story: one hello, by a sandbox and from a layer of its own. Words: data id.
pub(crate) fn say_hello_by(words: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    make_base(home.path());
    let config = Config {
        data_id: words[0].clone(),
        layers: home.path().into(),
        warm: 0,
        wiring: Default::default(),
        isolation: Isolation::Best,
    };
    runtime.block_on(async {
        let sandbox = Sandbox::open(config).unwrap();
        if sandbox.host().level == Level::Process {
            println!("skipped: {}", sandbox.host().sentence);
            return;
        }
        let script = "id -u; touch /tmp/mine && echo wrote; cat /proc/self/status | grep CapEff";
        let mut spec = spec_on(home.path(), &["sh", "-c", script]);
        spec.hostname = "small".into();
        let said = run_on(&sandbox, spec).await;
        let Host { level, redirection, .. } = sandbox.host();
        println!("{level:?}\n{}{}{redirection:?}", said.out, said.err);
    });
}

pub(crate) async fn without_walls_a_program_still_lives_and_dies_with_us(world: &World) {
    let layer = world.directory("plain");
    std::fs::write(
        layer.join("run"),
        "#!/bin/sh\necho $GREETING; trap 'exit 3' TERM; sleep 600 & echo $!; wait\n",
    )
    .unwrap();
    set_mode(&layer.join("run"), 0o755);
    let data_id = format!("{}-plain", world.data_id);
    let config = Config {
        data_id,
        layers: layer.clone(),
        warm: 1,
        wiring: Default::default(),
        isolation: Isolation::None,
    };
    let sandbox = Sandbox::open(config).unwrap();
    assert!(sandbox.host().sentence.starts_with("INSTANCES ARE NOT ISOLATED"));
    let mut spec = spec_on(&layer, &["run"]);
    spec.env = vec![("GREETING".into(), "hello".into()), ("PATH".into(), "/bin:/".into())];
    let mut instance = sandbox.start(spec.clone()).await.unwrap();
    let mut lines = tokio::io::BufReader::new(instance.take_stdout().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("hello"));
    let child = format!("/proc/{}", lines.next_line().await.unwrap().unwrap());
    assert!(std::path::Path::new(&child).exists());
    assert_eq!(instance.stop(Duration::from_secs(5)).await.how, Ending::Code(3));
    crate::traces::eventually("what it started ends too", || !std::path::Path::new(&child).exists()).await;
    spec.argv = vec!["sh".into()];
    assert_eq!(sandbox.start(spec).await.err().map(|error| error.kind), Some(Kind::NotFound));
}
