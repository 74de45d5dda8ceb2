//! The first version: a hierarchy for each controller, and a directory in each of them for an instance.
//!
//! Hybrid hosts mount the second version beside it, without these controllers; they are served from here too.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    Cgroup, Usage, directory, kill_listed, mount_lines, open_procs, read_keyed, read_number, remove_dir,
    write,
};
use crate::spec::Limits;

/// A controller we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    CpuAccount,
    Pids,
    Freezer,
}

const CONTROLLERS: [(Controller, &str); 5] = [
    (Controller::Memory, "memory"),
    (Controller::Cpu, "cpu"),
    (Controller::CpuAccount, "cpuacct"),
    (Controller::Pids, "pids"),
    (Controller::Freezer, "freezer"),
];

/// How long all processes may take to stop.
const FREEZE_TIME: Duration = Duration::from_millis(500);

/// Our directories in every hierarchy, and whether version 2 is mounted beside them; `None` unless memory is
/// controlled by version 1.
pub(super) fn find(own: &str, mounts: &str, data_id: &str) -> Option<(Vec<(Controller, PathBuf)>, bool)> {
    let mut parents: Vec<(Controller, PathBuf)> = Vec::new();
    for (controller, name) in CONTROLLERS {
        let path = own_path(own, name)?;
        let has = |options: &str| options.split(',').any(|o| o == name);
        let mount = mount_lines(mounts).find(|m| m.kind == "cgroup" && has(m.options))?;
        let parent = directory(&mount, path).join(format!("haar-{data_id}"));
        parents.push((controller, parent));
    }
    let hybrid = mount_lines(mounts).any(|m| m.kind == "cgroup2");
    Some((parents, hybrid))
}

/// Our group in the hierarchy of a controller: lines are `id:controllers:path`.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let names = parts.next()?;
        let path = parts.next()?;
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

pub(super) struct Group {
    directories: Vec<(Controller, PathBuf)>,
}

impl Group {
    pub(super) fn new(parents: &[(Controller, PathBuf)], name: &str) -> Group {
        Group { directories: parents.iter().map(|(c, path)| (*c, path.join(name))).collect() }
    }

    fn file(&self, controller: Controller, name: &str) -> PathBuf {
        let directory = self.directories.iter().find(|(c, _)| *c == controller);
        directory.map_or_else(PathBuf::new, |(_, path)| path.join(name))
    }

    fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.directories.iter().map(|(_, path)| path.as_path()).collect();
        paths.dedup();
        paths
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes.to_string();
        write(&self.file(Controller::Memory, "memory.limit_in_bytes"), &bytes)?;
        // Memory and swap together; the file is absent where the kernel does not account for swap.
        self.write_if_there("memory.memsw.limit_in_bytes", &bytes)?;
        // What waits in TCP's buffers is not counted otherwise, and all instances share what the machine has for it.
        self.write_if_there("memory.kmem.tcp.limit_in_bytes", &bytes)
    }

    fn write_if_there(&self, name: &str, value: &str) -> io::Result<()> {
        let path = self.file(Controller::Memory, name);
        if path.exists() { write(&path, value) } else { Ok(()) }
    }

    fn set_state(&self, state: &str) -> io::Result<()> {
        write(&self.file(Controller::Freezer, "freezer.state"), state)
    }
}

impl Cgroup for Group {
    fn procs(&self) -> io::Result<Vec<OwnedFd>> {
        self.paths().into_iter().map(open_procs).collect()
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_bytes {
            self.limit_memory(bytes)?;
        }
        if let Some(millis) = limits.cpu_millis {
            // Thousandths of a processor, in microseconds of each period of 100,000.
            write(&self.file(Controller::Cpu, "cpu.cfs_quota_us"), &(u64::from(millis) * 100).to_string())?;
        }
        if let Some(pids) = limits.pids {
            write(&self.file(Controller::Pids, "pids.max"), &pids.to_string())?;
        }
        Ok(())
    }

    /// Done when every process has stopped, or somebody has thawed them meanwhile.
    fn freeze(&self) -> io::Result<()> {
        self.set_state("FROZEN")?;
        let state = self.file(Controller::Freezer, "freezer.state");
        let deadline = Instant::now() + FREEZE_TIME;
        while std::fs::read_to_string(&state)?.trim() == "FREEZING" {
            if Instant::now() > deadline {
                self.thaw()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "processes do not stop"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn thaw(&self) -> io::Result<()> {
        self.set_state("THAWED")
    }

    fn kill(&self) -> io::Result<()> {
        // Stopped first, so that none forks away between the reading and the killing; a frozen process dies thawed.
        let frozen = self.set_state("FROZEN");
        let killed = kill_listed(&self.file(Controller::Freezer, ""));
        self.thaw()?;
        frozen.and(killed)
    }

    fn stats(&self) -> io::Result<Usage> {
        Ok(Usage {
            cpu_micros: self.cpu_micros()?,
            memory_bytes: read_number(&self.file(Controller::Memory, "memory.usage_in_bytes"))?,
            peak_bytes: read_number(&self.file(Controller::Memory, "memory.max_usage_in_bytes")).unwrap_or(0),
            // The line is there since Linux 4.13.
            oom_kills: read_keyed(&self.file(Controller::Memory, "memory.oom_control"), "oom_kill")
                .unwrap_or(0),
        })
    }

    fn cpu_micros(&self) -> io::Result<u64> {
        Ok(read_number(&self.file(Controller::CpuAccount, "cpuacct.usage"))? / 1000)
    }

    fn remove(&self) -> io::Result<()> {
        self.paths().into_iter().try_for_each(remove_dir)
    }
}
