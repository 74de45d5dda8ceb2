//! The second version: one directory with every controller.
//!
//! Its rule is that processes live in leaves only. So haar first moves itself into a leaf beside the directory of its
//! instances (the top of the hierarchy is exempt). Other processes in haar's own group are not ours to move: with them
//! there, controllers cannot be enabled, and the host counts as one without limits.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{
    Cgroup, Usage, directory, kill_listed, mount_lines, open_procs, read_keyed, read_number, remove_dir,
    write,
};
use crate::spec::Limits;

/// The leaf into which haar moves itself ends like this.
const SELF_SUFFIX: &str = ".self";
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Our directory below haar's own group.
pub(super) fn find(own: &str, mounts: &str, data_id: &str) -> io::Result<PathBuf> {
    let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
    let path =
        own.lines().find_map(|line| line.strip_prefix("0::")).ok_or_else(|| missing("no cgroup v2"))?;
    let mount = mount_lines(mounts)
        .find(|m| m.kind == "cgroup2")
        .ok_or_else(|| missing("cgroup v2 is not mounted"))?;
    Ok(directory(&mount, outer(path)).join(format!("haar-{data_id}")))
}

/// The group we were started in: the one around the leaf, if we have moved already.
fn outer(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((outer, leaf)) if leaf.starts_with("haar-") && leaf.ends_with(SELF_SUFFIX) => outer,
        _ => path,
    }
}

/// Enables the controllers for groups below `parent`, after moving this process out of their way.
pub(super) fn delegate(parent: &Path) -> io::Result<()> {
    let own = parent.parent().ok_or_else(|| io::Error::other("a group without a parent"))?;
    if !enabled(own)? {
        if own.join("cgroup.type").exists() {
            move_self(parent)?;
        }
        enable(own)?;
    }
    enable(parent)
}

fn enabled(directory: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
    Ok(CONTROLLERS.iter().all(|c| text.split_whitespace().any(|word| word == *c)))
}

fn enable(directory: &Path) -> io::Result<()> {
    let wanted: Vec<String> = CONTROLLERS.iter().map(|c| format!("+{c}")).collect();
    write(&directory.join("cgroup.subtree_control"), &wanted.join(" "))
}

fn move_self(parent: &Path) -> io::Result<()> {
    let mut leaf = parent.as_os_str().to_owned();
    leaf.push(SELF_SUFFIX);
    let leaf = PathBuf::from(leaf);
    fs::create_dir_all(&leaf)?;
    write(&leaf.join("cgroup.procs"), "0")
}

pub(super) struct Group {
    path: PathBuf,
}

impl Group {
    pub(super) fn new(path: PathBuf) -> Group {
        Group { path }
    }

    /// Writes a file that older kernels, or kernels built without swap, lack.
    fn write_if_there(&self, name: &str, value: &str) -> io::Result<()> {
        let path = self.path.join(name);
        if path.exists() { write(&path, value) } else { Ok(()) }
    }

    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        write(&self.path.join("memory.max"), &bytes.to_string())?;
        self.write_if_there("memory.swap.max", "0")?;
        // Out of memory ends the whole instance, as on Cloud Run, and not whichever process is largest.
        self.write_if_there("memory.oom.group", "1")
    }
}

impl Cgroup for Group {
    fn procs(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![open_procs(&self.path)?])
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_bytes {
            self.limit_memory(bytes)?;
        }
        if let Some(millis) = limits.cpu_millis {
            write(&self.path.join("cpu.max"), &format!("{} 100000", u64::from(millis) * 100))?;
        }
        if let Some(pids) = limits.pids {
            write(&self.path.join("pids.max"), &pids.to_string())?;
        }
        Ok(())
    }

    fn freeze(&self) -> io::Result<()> {
        write(&self.path.join("cgroup.freeze"), "1")
    }

    fn thaw(&self) -> io::Result<()> {
        write(&self.path.join("cgroup.freeze"), "0")
    }

    fn kill(&self) -> io::Result<()> {
        // Since Linux 5.14 the kernel does it in one step.
        let at_once = self.path.join("cgroup.kill");
        if at_once.exists() {
            return write(&at_once, "1");
        }
        let frozen = self.freeze();
        let killed = kill_listed(&self.path);
        self.thaw()?;
        frozen.and(killed)
    }

    fn stats(&self) -> io::Result<Usage> {
        Ok(Usage {
            cpu_micros: self.cpu_micros()?,
            memory_bytes: read_number(&self.path.join("memory.current"))?,
            peak_bytes: read_number(&self.path.join("memory.peak")).unwrap_or(0),
            oom_kills: read_keyed(&self.path.join("memory.events"), "oom_kill").unwrap_or(0),
        })
    }

    fn cpu_micros(&self) -> io::Result<u64> {
        read_keyed(&self.path.join("cpu.stat"), "usage_usec")
    }

    fn remove(&self) -> io::Result<()> {
        remove_dir(&self.path)
    }
}
