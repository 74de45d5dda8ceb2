use super::*;

const V1_MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 /job /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
const V1_OWN: &str = "4:memory:/a/b\n3:cpu,cpuacct:/a\n2:pids:/\n5:freezer:/job/c\n0::/\n";

#[test]
fn version_1_is_found_below_our_own_group_in_every_hierarchy() {
    let (parents, hybrid) = v1::find(V1_OWN, V1_MOUNTS, "d1").expect("found");
    assert!(hybrid);
    let paths: Vec<_> = parents.iter().map(|(_, path)| path.to_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/sys/fs/cgroup/memory/a/b/haar-d1",
            "/sys/fs/cgroup/cpu,cpuacct/a/haar-d1",
            "/sys/fs/cgroup/cpu,cpuacct/a/haar-d1",
            "/sys/fs/cgroup/pids/haar-d1",
            "/sys/fs/cgroup/freezer/c/haar-d1",
        ]
    );
}

#[test]
fn version_2_is_found_from_inside_the_leaf_too() {
    let mounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    assert!(v1::find("0::/u/h.scope\n", mounts, "d1").is_none());
    for own in ["0::/u/h.scope\n", "0::/u/h.scope/haar-d1.self\n"] {
        assert_eq!(v2::find(own, mounts, "d1").unwrap(), Path::new("/sys/fs/cgroup/u/h.scope/haar-d1"));
    }
}

/// A directory that looks like a version 2 group, as far as plain files can.
fn fake_group(path: &Path) {
    fs::create_dir_all(path).unwrap();
    for (name, value) in [
        ("cgroup.subtree_control", ""),
        ("cgroup.type", "domain"),
        ("cgroup.procs", ""),
        ("cgroup.freeze", "0"),
        ("cgroup.kill", ""),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("memory.oom.group", "0"),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.events", "low 0\noom 1\noom_kill 2\noom_group_kill 1\n"),
        ("cpu.max", "max 100000"),
        ("cpu.stat", "usage_usec 77\nuser_usec 70\n"),
        ("pids.max", "max"),
    ] {
        fs::write(path.join(name), value).unwrap();
    }
}

#[test]
fn version_2_moves_haar_into_a_leaf_and_then_enables_controllers() {
    let tree = tempfile::tempdir().unwrap();
    let parent = tree.path().join("haar-d1");
    fake_group(tree.path());
    fake_group(&parent);
    fake_group(&tree.path().join("haar-d1.self"));
    v2::delegate(&parent).unwrap();
    let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
    assert_eq!(read("haar-d1.self/cgroup.procs"), "0");
    assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
    assert_eq!(read("haar-d1/cgroup.subtree_control"), "+memory +cpu +pids");
}

#[test]
fn version_2_limits_freezes_kills_and_counts() {
    let tree = tempfile::tempdir().unwrap();
    fake_group(tree.path());
    let group = v2::Group::new(tree.path().into());
    let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
    group.limit(&Limits { memory_bytes: Some(1 << 20), cpu_millis: Some(1500), pids: Some(9) }).unwrap();
    // Plain files keep what a shorter text does not cover.
    assert!(read("memory.max").starts_with("1048576"));
    assert!(read("memory.swap.max").starts_with('0'));
    assert_eq!(read("memory.oom.group"), "1");
    assert!(read("cpu.max").starts_with("150000 100000"));
    assert!(read("pids.max").starts_with('9'));
    group.freeze().unwrap();
    assert_eq!(read("cgroup.freeze"), "1");
    group.thaw().unwrap();
    assert_eq!(read("cgroup.freeze"), "0");
    group.kill().unwrap();
    assert_eq!(read("cgroup.kill"), "1");
    let usage = Usage { cpu_micros: 77, memory_bytes: 4096, peak_bytes: 8192, oom_kills: 2 };
    assert_eq!(group.stats().unwrap(), usage);
}
