//! What holds a workload, tried as it would try.

use std::collections::HashMap;
use std::os::unix::fs::symlink;

use sandbox::Kind;
use sandbox::spec::Access;
use tokio::io::AsyncReadExt;

use crate::world::{World, bind};

pub(crate) async fn two_instances_do_not_see_each_other_nor_the_host(world: &World) {
    let mut first = world.start(world.inside(&["serve", "8080", "first"])).await;
    let mut second = world.start(world.inside(&["serve", "8080", "second"])).await;
    for (instance, text) in [(&mut first, "first"), (&mut second, "second")] {
        instance.take_stdout().unwrap().read_exact(&mut [0; 10]).await.unwrap();
        let mut answer = String::new();
        instance.connect(8080).await.unwrap().read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, text);
    }
    // A third sees neither them nor a port of the host's, and only processes of its own.
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    for port in [8080, port] {
        let said = world.run(world.inside(&["ask", &format!("127.0.0.1:{port}")])).await;
        assert_eq!(said.out, "connection refused\n", "{}", said.err);
    }
    let processes = world.out("ls /proc | grep -c '^[0-9]'; touch /tmp/here; ls /tmp").await;
    assert!(matches!(processes.as_str(), "3\nhere\n" | "4\nhere\n"), "{processes}");
    assert_eq!(world.out("ls /tmp").await, "");
}

pub(crate) async fn the_host_s_files_are_out_of_reach(world: &World) {
    let home = world.base.to_str().unwrap();
    let script = format!(
        "for p in {home} /root /home /var /../..{home} /proc/1/root{home} /proc/self/root/../..{home}; \
         do [ -e $p ] && echo $p; done; grep haar /proc/self/mountinfo | grep -v ' /test '; ls /proc/self/fd | wc -l"
    );
    // The program of the test itself is mounted from wherever it was built. Descriptors: three, and the one that lists them.
    assert_eq!(world.out(&script).await, "4\n");
}

pub(crate) async fn forbidden_calls_are_refused(world: &World) {
    let said = world.run(world.inside(&["attempts"])).await;
    let got: HashMap<&str, i32> = said
        .out
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k, v.parse().unwrap()))
        .collect();
    assert_eq!(got.len(), 60, "{}{}", said.out, said.err);
    for (name, error) in got {
        let expected = match name {
            "clone3" | "future" => libc::ENOSYS,
            "route-socket" => 0,
            name if name.starts_with("init-") => libc::EACCES,
            "raise-priority" => libc::EACCES,
            _ => libc::EPERM,
        };
        assert_eq!(error, expected, "{name}");
    }
    let status = world.out("grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status").await;
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert!(status.contains("CapBnd:\t00000000800405fb"), "{status}");
}

pub(crate) async fn proc_and_sys_are_masked(world: &World) {
    // What can be written is told by its name, and what is hidden by how much it says; a kernel may lack some of it.
    let script = "for f in /proc/sys/kernel/panic /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger /sys/x \
                  /sys/fs/cgroup/x /sys/fs/cgroup/memory/x; do (echo 1 > $f) 2>/dev/null && echo $f; done; \
                  for f in kcore keys kmsg timer_list sched_debug interrupts; do \
                  [ -e /proc/$f ] && [ -n \"$(head -c 9 /proc/$f)\" ] && echo $f; done; \
                  ls /proc/scsi /proc/acpi /sys/firmware 2>/dev/null | grep -v :; cat /proc/self/cgroup";
    let said = world.run(world.shell(script)).await;
    // Of its control groups it sees only that it is at their top.
    let groups: Vec<&str> = said.out.lines().filter(|line| !line.is_empty()).collect();
    assert!(groups.iter().all(|line| line.ends_with(":/")), "{}{}", said.out, said.err);
}

pub(crate) async fn devices_are_the_harmless_ones(world: &World) {
    let names = world.out("ls /dev").await;
    let names: Vec<&str> = names.split_whitespace().collect();
    let expected = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(names.join(" "), expected);
    let script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
                  echo y > /dev/shm/f; cat /dev/shm/f; mkdir /dev/pts/x 2>/dev/null || echo no; echo z | cat /dev/stdin";
    assert_eq!(world.out(script).await, "3\n3\ny\nno\nz\n");
}

pub(crate) async fn a_linked_volume_target_stays_inside(world: &World) {
    let layer = world.directory("evil");
    let outside = world.directory("outside");
    let volume = world.directory("volume");
    std::fs::write(volume.join("secret"), "42").unwrap();
    // Links that lead out of the image: an absolute one, and one that climbs.
    let _ = symlink(&outside, layer.join("absolute"));
    let climb = format!("../../../../../../..{}", outside.display());
    let _ = symlink(climb, layer.join("climbing"));
    let inside = outside.to_str().unwrap();
    let mut spec = world.shell(&format!("cat /absolute/a/secret /climbing/b/secret; ls {inside}"));
    spec.layers.push(layer);
    spec.mounts.push(bind(&volume, "/absolute/a", Access::ReadOnly));
    spec.mounts.push(bind(&volume, "/climbing/b", Access::ReadOnly));
    let said = world.run(spec).await;
    assert_eq!(said.out, "4242a\nb\n", "{}", said.err);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

pub(crate) async fn an_image_cannot_move_proc(world: &World) {
    let layer = world.directory("moved");
    let _ = symlink("/tmp", layer.join("proc"));
    let mut spec = world.shell("true");
    spec.layers.push(layer);
    let error = world.sandbox.start(spec).await.err().unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("/proc"), "{error}");
}

pub(crate) async fn a_read_only_volume_cannot_be_written(world: &World) {
    let (fixed, free) = (world.directory("fixed"), world.directory("free"));
    let mut spec = world.shell(
        "touch /fixed/x 2>/dev/null || echo no; echo hi > /free/x; chown 5:6 /free/x && stat -c %u /free/x",
    );
    spec.mounts.push(bind(&fixed, "/fixed", Access::ReadOnly));
    spec.mounts.push(bind(&free, "/free", Access::ReadWrite));
    let said = world.run(spec).await;
    assert!(said.out.starts_with("no\n"), "{}{}", said.out, said.err);
    assert!(!fixed.join("x").exists());
    assert_eq!(std::fs::read_to_string(free.join("x")).unwrap(), "hi\n");
}

pub(crate) async fn the_first_process_cannot_be_touched(world: &World) {
    // Not by killing it, nor by pretending to be the terminal; and all that could be taken over of it is the right to
    // signal programs of other users.
    let script = "kill -9 1; kill -STOP 1; sleep 0.05; grep -E 'State|CapEff|Seccomp:' /proc/1/status";
    let out = world.out(script).await;
    assert!(!out.contains("T (stopped)") && out.contains("CapEff:\t0000000000000020"), "{out}");
    assert!(out.contains("Seccomp:\t2"), "{out}");
}
