//! What an instance's root is furnished with, built before it is known whose root it will be.
//!
//! Everything here is the same for all instances and takes some forty system calls: `/dev`, a masked `/proc`, `/sys`.
//! It is done while the init waits, below a tmpfs that covers the host's `/proc` (a path that is always there and never
//! holds a layer) in this process's private mounts, and kept as detached trees, to be attached in one call each.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};

use crate::error::{Result, Step};
use crate::sys::{self, MountChange};
use crate::wire::SetGroups;

/// Where the staging tmpfs is.
const STAGE: &str = "/proc";
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// What of `/proc` and `/sys` tells about, or reaches, the host.
const HIDDEN: [&str; 14] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/kmsg",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel/debug",
];
/// What of `/proc` is for reading only.
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
/// The most a program may put into `/dev/shm`; the instance's memory limit holds besides.
const SHM_OPTIONS: &std::ffi::CStr = c"size=1g,mode=1777";

/// The trees, detached.
pub(super) struct Furniture {
    pub(super) dev: OwnedFd,
    pub(super) proc: OwnedFd,
    pub(super) sys: Option<OwnedFd>,
}

/// Makes the staging area, furnishes it, and leaves the process in it.
pub(super) fn furnish(groups: SetGroups) -> Result<Furniture> {
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .step("private mounts")?;
    // Before the stage covers the host's: the kernel gives a new one only to who can see one.
    let proc = new_filesystem("proc").step("a /proc of the new process namespace")?;
    let sys = new_filesystem("sysfs").ok();
    mount("tmpfs", STAGE, c"size=1m,mode=755").step("staging area")?;
    rustix::process::chdir(STAGE).step("staging area")?;
    for name in ["proc", "dev", "sys", "none", "layers", "up", "root"] {
        fs::create_dir(name).step("staging area")?;
    }
    attach(&proc, "proc").step("/proc")?;
    drop(proc);
    // The kernel's tree is given to who owns the network that it shows.
    let sys =
        sys.map_or_else(|| mount("tmpfs", "sys", c"size=64k,mode=755"), |sys| attach(&sys, "sys")).is_ok();
    if sys {
        show_groups();
    }
    hide()?;
    make_dev(groups)?;
    Ok(Furniture {
        dev: clone("dev").step("/dev")?,
        proc: clone("proc").step("/proc")?,
        sys: if sys { Some(read_only_clone("sys").step("/sys")?) } else { None },
    })
}

/// Mounts a new filesystem without set-uid programs or devices.
pub(super) fn mount(kind: &str, target: &str, options: &std::ffi::CStr) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount(kind, target, kind, flags, Some(options))?)
}

fn new_filesystem(kind: &str) -> io::Result<OwnedFd> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What /proc/mounts calls its device; programs that look for the kernel's trees expect their own names.
    rustix::mount::fsconfig_set_string(&context, "source", kind)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Attaches a detached tree. A link at the target is followed, in whatever is the root now.
pub(super) fn attach(tree: impl AsFd, target: impl AsRef<Path>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(rustix::mount::move_mount(tree, "", CWD, target.as_ref(), flags)?)
}

/// A detached copy of what is mounted below a path.
pub(super) fn clone(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path.as_ref(), flags)?)
}

fn read_only_clone(path: &str) -> io::Result<OwnedFd> {
    let tree = clone(path)?;
    let change = MountChange { set: libc::MOUNT_ATTR_RDONLY, recursive: true, ..MountChange::default() };
    sys::mount_setattr(tree.as_fd(), change)?;
    Ok(tree)
}

/// Mounts the instance's own control groups where runtimes look for their limits. A kernel that refuses costs them
/// only this knowledge.
fn show_groups() {
    let root = Path::new("sys/fs/cgroup");
    // There already in the kernel's tree.
    let _ = fs::create_dir_all(root);
    if mount("cgroup2", "sys/fs/cgroup", c"").is_ok() && root.join("memory.max").exists() {
        return;
    }
    let _ = rustix::mount::unmount(root, rustix::mount::UnmountFlags::DETACH);
    if mount("tmpfs", "sys/fs/cgroup", c"size=16k,mode=755").is_err() {
        return;
    }
    for (name, options) in [
        ("memory", c"memory"),
        ("cpu", c"cpu"),
        ("cpuacct", c"cpuacct"),
        ("cpuset", c"cpuset"),
        ("pids", c"pids"),
    ] {
        let path = root.join(name);
        let _ = fs::create_dir(&path);
        let _ = rustix::mount::mount("cgroup", &path, "cgroup", MountFlags::NOSUID, Some(options));
    }
}

/// Covers what is not for instances: files by `/dev/null`, directories by an empty one that cannot be written.
fn hide() -> Result<()> {
    for path in READ_ONLY {
        if Path::new(path).exists() {
            attach(read_only_clone(path).step(path)?, path).step(path)?;
        }
    }
    mount("tmpfs", "none", c"size=4k,mode=555").step("an empty directory")?;
    for path in HIDDEN {
        let Ok(found) = fs::metadata(path) else { continue };
        let cover = if found.is_dir() { read_only_clone("none") } else { clone("/dev/null") };
        cover.and_then(|cover| attach(cover, path)).step(path)?;
    }
    Ok(())
}

fn make_dev(groups: SetGroups) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", "dev", "tmpfs", flags, Some(c"size=64k,mode=755")).step("/dev")?;
    for name in DEVICES {
        let target = Path::new("dev").join(name);
        fs::File::create(&target).step("/dev")?;
        clone(Path::new("/dev").join(name)).and_then(|node| attach(node, &target)).step(target.display())?;
    }
    for (to, name) in LINKS {
        std::os::unix::fs::symlink(to, Path::new("dev").join(name)).step("/dev")?;
    }
    fs::create_dir("dev/pts").step("/dev/pts")?;
    fs::create_dir("dev/shm").step("/dev/shm")?;
    // All instances share the host's number of terminals.
    let terminals = match groups {
        SetGroups::Allowed => c"newinstance,ptmxmode=0666,mode=0620,max=64,gid=5",
        SetGroups::Denied => c"newinstance,ptmxmode=0666,mode=0620,max=64",
    };
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("devpts", "dev/pts", "devpts", flags, Some(terminals)).step("/dev/pts")?;
    mount("tmpfs", "dev/shm", SHM_OPTIONS).step("/dev/shm")
}
