//! Attacks that need a prepared image, a neighbour or an appetite; see `walls.rs` for the walls themselves.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use sandbox::Ending;
use sandbox::spec::{Access, Limits, Mount, MountKind};

use crate::harm::CONNECTIONS;
use crate::world::{Said, World, bind, set_mode};

fn memory(mib: u64) -> Limits {
    Limits { memory_bytes: Some(mib << 20), cpu_millis: None, pids: Some(64) }
}

/// A node of `/dev/zero`, which it would harm nobody to open.
fn make_node(path: &Path) {
    let _ = std::fs::remove_file(path);
    mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 5))
        .unwrap();
}

pub(crate) async fn device_nodes_of_images_and_volumes_are_dead(world: &World) {
    let (layer, fixed, free) =
        (world.directory("nodes"), world.directory("fixed-nodes"), world.directory("free-nodes"));
    for directory in [&layer, &fixed, &free] {
        make_node(&directory.join("node"));
    }
    let mut spec = world.shell("for node in /node /fixed/node /free/node; do head -c 1 $node; done");
    spec.layers.push(layer);
    spec.mounts.push(bind(&fixed, "/fixed", Access::ReadOnly));
    spec.mounts.push(bind(&free, "/free", Access::ReadWrite));
    let said = world.run(spec).await;
    assert_eq!(said.out, "");
    assert_eq!(said.err.matches("Permission denied").count(), 3, "{}", said.err);
}

pub(crate) async fn a_set_uid_program_gains_nothing(world: &World) {
    let (layer, volume) = (world.directory("set-uid"), world.directory("set-uid-volume"));
    for directory in [&layer, &volume] {
        std::fs::copy("/usr/bin/id", directory.join("rise")).unwrap();
        set_mode(&directory.join("rise"), 0o6755);
    }
    let mut spec = world.shell(
        "/rise -u; /volume/rise -u; /rise -g; cp /usr/bin/id /tmp/own; chmod 6755 /tmp/own; /tmp/own -u",
    );
    spec.layers.push(layer);
    spec.mounts.push(bind(&volume, "/volume", Access::ReadWrite));
    spec.user = "web".into();
    assert_eq!(world.run(spec).await.out, "33\n33\n34\n33\n");
}

pub(crate) async fn links_lead_nowhere(world: &World) {
    let (fixed, free) = (world.directory("to-link"), world.directory("links"));
    std::fs::write(fixed.join("secret"), "42").unwrap();
    let outside = world.directory("beyond");
    std::fs::write(outside.join("file"), "host's").unwrap();
    let beyond = outside.join("file").display().to_string();
    // Made by an instance that could write, and by one that hopes to be followed.
    let script = format!(
        "ln /fixed/secret /free/hard || echo no; ln -s {beyond} /free/soft; ln -s ../../../../../../..{beyond} /free/climb; \
         cat /free/soft /free/climb; echo gone > /free/soft; cat /proc/self/root{beyond}"
    );
    let mut spec = world.shell(&script);
    spec.mounts.push(bind(&fixed, "/fixed", Access::ReadOnly));
    spec.mounts.push(bind(&free, "/free", Access::ReadWrite));
    let said = world.run(spec).await;
    assert_eq!(said.out, "no\n", "{}", said.err);
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "host's");
    assert!(std::fs::symlink_metadata(free.join("hard")).is_err());
}

pub(crate) async fn processes_of_the_host_get_no_signal(world: &World) {
    // A neighbour, this program and the host's first process, by the numbers that they have outside.
    let neighbour = world.start(world.shell("sleep 60")).await;
    let (near, me) = (neighbour.pid(), std::process::id());
    let script = format!(
        "for pid in {near} {me}; do [ -e /proc/$pid ] && echo sees $pid; kill -9 $pid && echo killed $pid; done; \
         sleep 60 & kill -9 -1; echo still here"
    );
    let said = world.run(world.shell(&script)).await;
    assert_eq!(said.out, "still here\n", "{}", said.err);
    assert!(Path::new(&format!("/proc/{near}")).exists());
}

pub(crate) async fn abstract_sockets_of_the_host_are_not_there(world: &World) {
    let name = format!("haar-story-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let said = world.run(world.inside(&["ask-abstract", &name])).await;
    assert_eq!(said.out, "connection refused\n", "{}", said.err);
    assert!(listener.accept().is_err(), "nobody came");
}

pub(crate) async fn nothing_of_the_kernel_can_be_written(world: &World) {
    // What leads out of other containers: programs that the kernel runs, and switches of the machine.
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hotplug \
                  /proc/sys/kernel/randomize_va_space /proc/sys/vm/overcommit_memory /proc/sys/vm/drop_caches \
                  /proc/sys/fs/binfmt_misc/register /proc/sys/net/ipv4/ip_forward /proc/irq/default_smp_affinity \
                  /proc/sysrq-trigger /proc/self/uid_map /proc/1/oom_score_adj /sys/kernel/uevent_helper \
                  /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state /sys/fs/cgroup/cgroup.procs \
                  /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/memory/memory.limit_in_bytes \
                  /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max; \
                  do (echo 1 > $f) 2>/dev/null && echo $f; done; \
                  find /proc/sys /proc/irq /proc/bus /sys -type f -writable 2>/dev/null; \
                  mkdir /sys/fs/cgroup/new /sys/fs/cgroup/memory/new 2>/dev/null && echo made";
    assert_eq!(world.out(script).await, "");
}

pub(crate) async fn calls_by_other_numbers_are_refused(world: &World) {
    let said = world.run(world.inside(&["other-calls"])).await;
    if cfg!(target_arch = "x86_64") {
        assert_eq!(said.out, format!("x32=-1 {}\n", libc::ENOSYS), "{}", said.err);
        assert_eq!(said.exit.how, Ending::Signal(libc::SIGSYS));
    }
}

pub(crate) async fn everything_in_memory_counts_together(world: &World) {
    // No part is more than the limit; all of them are.
    let script = "head -c 12000000 /dev/zero > /tmp/a; head -c 12000000 /dev/zero > /dev/shm/b; \
                  head -c 12000000 /dev/zero > /volume/c; echo wrote; /test inside eat 12582912";
    let mut spec = world.shell(script);
    spec.mounts.push(Mount { target: "/volume".into(), what: MountKind::Tmpfs { bytes: 16 << 20 } });
    spec.limits = memory(64);
    let said = world.run(spec.clone()).await;
    assert_eq!(said.out, "wrote\nate 12\n", "{}", said.err);
    spec.limits = memory(40);
    let said = world.run(spec).await;
    assert!(!said.out.contains("ate"), "{}", said.out);
    assert_ne!(said.exit.how, Ending::Code(0));
}

pub(crate) async fn files_without_content_count(world: &World) {
    for directory in ["/tmp", "/dev/shm"] {
        let mut spec = world.inside(&["fill-files", directory]);
        spec.limits = memory(24);
        let said = world.run(spec).await;
        let full = said.out.lines().any(|line| line.starts_with("full at"));
        assert!(full || said.exit.oom, "{directory}: {}{:?}", said.err, said.exit);
    }
}

fn count(said: &Said) -> usize {
    let words: Vec<&str> = said.out.split_whitespace().collect();
    words.first().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{}{}", said.out, said.err))
}

pub(crate) async fn what_the_machine_shares_is_not_one_instance_s(world: &World) {
    // Descriptors, watches and terminals have limits that all of a machine's programs share.
    for (what, most) in [("files", 65_536), ("watches", 32), ("terminals", 64)] {
        let count = count(&world.run(world.inside(&["hoard", what])).await);
        assert!((16..=most).contains(&count), "{what}: {count}");
    }
}

pub(crate) async fn what_waits_in_sockets_counts(world: &World) {
    let mut spec = world.inside(&["fill-sockets"]);
    spec.limits = memory(32);
    let said = world.run(spec).await;
    if !said.exit.oom {
        // The kernel gives every connection its first 64 KiB, whatever the limit says.
        let most = 32 + CONNECTIONS / 16 + 16;
        let mib = count(&said);
        assert!(mib <= most, "{mib} MiB wait in sockets of an instance with 32 MiB");
    }
}
