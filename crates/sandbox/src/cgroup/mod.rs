//! Control groups behind one small trait: limit, freeze, kill, stats.
//!
//! An instance's groups lie below the group that haar itself is in, so that a limit put on haar holds for what it
//! starts, in a directory that carries the data directory's id, so that haars side by side never meet and the
//! leftovers of a dead one are found by name. A group is made before it is known who will use it: joining one waits
//! for an RCU grace period of the kernel (milliseconds), setting its limits does not.
//!
//! Declined: systemd's D-Bus interface (a delegated slice is a directory like any other), and the controllers for
//! devices and block I/O (no device can be opened that was not put there; disks are limited by space).

mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::spec::Limits;

/// What an instance has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// Memory now, in bytes, files in memory included.
    pub memory_bytes: u64,
    /// The most memory at any time, in bytes. 0 where the kernel does not say.
    pub peak_bytes: u64,
    /// How many processes were killed because memory ran out.
    pub oom_kills: u64,
}

/// The group of one instance, in whatever hierarchies the host has.
pub(crate) trait Cgroup: Send + Sync {
    /// The files to which a process writes `0` to join. Opened by us: the right to join goes with the descriptor.
    fn procs(&self) -> io::Result<Vec<OwnedFd>>;
    /// Sets the limits.
    fn limit(&self, limits: &Limits) -> io::Result<()>;
    /// Stops every process where it stands.
    fn freeze(&self) -> io::Result<()>;
    /// Lets them go on.
    fn thaw(&self) -> io::Result<()>;
    /// Kills every process, frozen or not.
    fn kill(&self) -> io::Result<()>;
    /// What has been used.
    fn stats(&self) -> io::Result<Usage>;
    /// Processor time that has been used, in microseconds: one small file is read.
    fn cpu_micros(&self) -> io::Result<u64>;
    /// Removes the group; fails while processes are in it.
    fn remove(&self) -> io::Result<()>;
}

/// Which versions of control groups a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cgroups {
    /// The first only.
    V1,
    /// The first for what we use, the second beside it.
    Hybrid,
    /// The second.
    V2,
}

/// Where groups are made on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Groups {
    /// One directory in each hierarchy.
    V1 { parents: Vec<(v1::Controller, PathBuf)>, hybrid: bool },
    /// One directory.
    V2 { parent: PathBuf },
}

impl Groups {
    /// Finds this process's own groups and makes the directory of `data_id` in them.
    pub(crate) fn find(data_id: &str) -> io::Result<Groups> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let groups = match v1::find(&own, &mounts, data_id) {
            Some((parents, hybrid)) => Groups::V1 { parents, hybrid },
            None => Groups::V2 { parent: v2::find(&own, &mounts, data_id)? },
        };
        groups.make_parents()?;
        if let Groups::V2 { parent } = &groups {
            // A dead haar may have left the directory, but not us in our leaf.
            v2::delegate(parent)?;
        }
        Ok(groups)
    }

    /// What kind of host this is.
    pub(crate) fn kind(&self) -> Cgroups {
        match self {
            Groups::V1 { hybrid: false, .. } => Cgroups::V1,
            Groups::V1 { hybrid: true, .. } => Cgroups::Hybrid,
            Groups::V2 { .. } => Cgroups::V2,
        }
    }

    /// A haar that ends may take our directories away while they are empty.
    fn make_parents(&self) -> io::Result<()> {
        for parent in self.parents().into_iter().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent)?;
            if let Groups::V2 { parent } = self {
                v2::delegate(parent)?;
            }
        }
        Ok(())
    }

    fn parents(&self) -> Vec<&Path> {
        match self {
            // Hosts often mount cpu and cpuacct as one hierarchy, which then comes twice in a row.
            Groups::V1 { parents, .. } => {
                let mut paths: Vec<&Path> = parents.iter().map(|(_, path)| path.as_path()).collect();
                paths.dedup();
                paths
            }
            Groups::V2 { parent } => vec![parent],
        }
    }

    /// Makes a group.
    pub(crate) fn make(&self, name: &str) -> io::Result<Box<dyn Cgroup>> {
        self.make_parents()?;
        for parent in self.parents() {
            fs::create_dir(parent.join(name))?;
        }
        Ok(self.open(name))
    }

    fn open(&self, name: &str) -> Box<dyn Cgroup> {
        match self {
            Groups::V1 { parents, .. } => Box::new(v1::Group::new(parents, name)),
            Groups::V2 { parent } => Box::new(v2::Group::new(parent.join(name))),
        }
    }

    /// Kills and removes every group whose name begins with `prefix`, and the directory if nothing else is in it.
    /// What cannot be removed within two seconds is left for the next time.
    pub(crate) fn clear(&self, prefix: &str) -> io::Result<usize> {
        let mut names = self.names();
        names.retain(|name| name.starts_with(prefix));
        let groups: Vec<_> = names.iter().map(|name| self.open(name)).collect();
        for group in &groups {
            // A group that is only half there was being made or removed when its haar died.
            let _ = group.kill();
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        for group in &groups {
            remove_by(group.as_ref(), deadline)?;
        }
        self.leave();
        Ok(groups.len())
    }

    /// Removes the directories themselves, unless something is in them. They are made again when they are needed.
    pub(crate) fn leave(&self) {
        for parent in self.parents() {
            let _ = fs::remove_dir(parent);
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.parents().into_iter().flat_map(subdirectories).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Removes a group, waiting for the kernel to let go of its last process.
pub(crate) fn remove_by(group: &dyn Cgroup, deadline: Instant) -> io::Result<()> {
    loop {
        match group.remove() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

fn subdirectories(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// One line of `/proc/self/mountinfo`, as far as it matters here.
struct MountLine<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn mount_lines(text: &str) -> impl Iterator<Item = MountLine<'_>> {
    text.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let mut tail = tail.split(' ');
        Some(MountLine { root: head.next()?, point: head.next()?, kind: tail.next()?, options: tail.nth(1)? })
    })
}

/// The directory of group `path` below a mount that shows the hierarchy from `mount.root` on.
fn directory(mount: &MountLine<'_>, path: &str) -> PathBuf {
    let below = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(path);
    Path::new(mount.point).join(below.trim_start_matches('/'))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn read_number(path: &Path) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

/// The number behind `key` in a file of `key value` lines.
fn read_keyed(path: &Path, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).ok_or_else(|| io::Error::other(format!("no {key}")))
}

fn open_procs(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))?.into())
}

/// Sends SIGKILL to every process listed in a group.
fn kill_listed(path: &Path) -> io::Result<()> {
    for line in fs::read_to_string(path.join("cgroup.procs"))?.lines() {
        if let Some(pid) = line.parse().ok().and_then(rustix::process::Pid::from_raw) {
            // One that has ended meanwhile is no failure.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    Ok(())
}

/// Removes a directory that may already be gone.
fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests;
