//! Which ids outside stand for an instance's ids inside.
//!
//! As root, an instance's root is nobody: its 65,536 ids are a range of its own, high above those that hosts give out,
//! and its layers, volumes and scratch directory are shown to it through mounts that translate owners (Linux 5.19 for
//! layers), so the files of an image stay root's on disk, are shared by all instances, and are root's inside. That is
//! both safer than a root without some capabilities and no slower: the mapping costs three small writes, made before
//! the instance is asked for. Where the kernel or the filesystem cannot translate, ids are mapped to themselves, and
//! the namespace still takes every capability over the host away.
//!
//! Without root, the user is root inside, and has further ids where `/etc/subuid` gives it some.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::process::{getgid, getuid};

use crate::sys::{self, MountChange};
use crate::wire::SetGroups;

/// How many ids an instance has.
const IDS: u32 = 65_536;
/// The first range lies above what distributions, systemd and container engines give out.
const FIRST: u32 = 1_900_000_000;
/// How many ranges there are before they are used again: below the highest that a signed number holds.
const RANGES: u32 = 3_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A way to map ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// A range for each instance, with translating mounts.
    Range,
    /// Ids as they are outside, as many as there are.
    Same { count: u32 },
    /// The user's own id for root, and its subordinate ids for others.
    Subordinate { uids: (u32, u32), gids: (u32, u32) },
    /// The user's own id for root, and nobody else.
    Single,
}

/// How a user of the inside comes to own a file of haar's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Giving {
    /// The file's owner on disk has the number that the inside shows.
    ByNumber,
    /// Only the root of such a namespace may change owners.
    ByKeeper,
    /// There is but one user, who is haar's outside.
    None,
}

/// What an instance's ids have become.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) groups: SetGroups,
    /// How to show it files, if they need translating.
    pub(crate) translation: Option<Translation>,
}

/// A user namespace, and who its root is outside.
#[derive(Debug)]
pub(crate) struct Translation {
    namespace: OwnedFd,
    pub(crate) root: u32,
}

impl Mapping {
    /// What may work for this user, the best first.
    pub(crate) fn candidates() -> Vec<Mapping> {
        if getuid().is_root() {
            return vec![Mapping::Range, Mapping::Same { count: IDS }, Mapping::Single];
        }
        let name = std::env::var("USER").unwrap_or_default();
        let subordinate =
            |file: &str, id: u32| subordinate(&std::fs::read_to_string(file).unwrap_or_default(), &name, id);
        let uids = subordinate("/etc/subuid", getuid().as_raw());
        let gids = subordinate("/etc/subgid", getgid().as_raw());
        let both = uids.zip(gids).map(|(uids, gids)| Mapping::Subordinate { uids, gids });
        both.into_iter().chain([Mapping::Single]).collect()
    }

    /// How a user of the inside comes to own a file of haar's.
    pub(crate) fn giving(&self) -> Giving {
        match self {
            Mapping::Range | Mapping::Same { .. } => Giving::ByNumber,
            Mapping::Subordinate { .. } => Giving::ByKeeper,
            Mapping::Single => Giving::None,
        }
    }

    /// Maps the ids of the process whose `/proc` directory is given.
    pub(crate) fn apply(&self, process: &OwnedFd) -> io::Result<Mapped> {
        let own = |groups| Ok(Mapped { groups, translation: None });
        match self {
            Mapping::Range => {
                // Begun at another place by each process, so that haars side by side seldom share one.
                let number =
                    NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
                let root = FIRST + number % RANGES * IDS;
                write_maps(process, &format!("0 {root} {IDS}"), &format!("0 {root} {IDS}"))?;
                let namespace = open(process, "ns/user", OFlags::RDONLY)?;
                Ok(Mapped { groups: SetGroups::Allowed, translation: Some(Translation { namespace, root }) })
            }
            Mapping::Same { count } => {
                write_maps(process, &format!("0 0 {count}"), &format!("0 0 {count}"))?;
                own(SetGroups::Allowed)
            }
            Mapping::Subordinate { uids, gids } => {
                let pid = process_id(process)?;
                run_tool("newuidmap", &pid, getuid().as_raw(), *uids)?;
                run_tool("newgidmap", &pid, getgid().as_raw(), *gids)?;
                own(SetGroups::Allowed)
            }
            Mapping::Single => {
                // Else a process could leave groups that bar it from files.
                write(process, "setgroups", "deny")?;
                let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
                write_maps(process, &format!("0 {uid} 1"), &format!("0 {gid} 1"))?;
                own(SetGroups::Denied)
            }
        }
    }
}

impl Translation {
    /// A detached mount of a path, showing root's files as the instance's root's.
    pub(crate) fn show(&self, path: &Path) -> io::Result<OwnedFd> {
        let tree = detached(path)?;
        let change = MountChange { idmap: Some(self.namespace.as_fd()), ..MountChange::default() };
        sys::mount_setattr(tree.as_fd(), change)?;
        Ok(tree)
    }

    /// Whether files in `directory` can be shown.
    pub(crate) fn try_show(&self, directory: &Path) -> io::Result<()> {
        self.show(directory).map(drop)
    }
}

/// A detached mount of what is at a path, without what is mounted below it.
pub(crate) fn detached(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags).map_err(|error| {
        io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display()))
    })
}

fn open(process: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(process, name, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn write(process: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
    rustix::io::write(&open(process, name, OFlags::WRONLY)?, text.as_bytes())?;
    Ok(())
}

fn write_maps(process: &OwnedFd, uids: &str, gids: &str) -> io::Result<()> {
    write(process, "gid_map", gids)?;
    write(process, "uid_map", uids)
}

/// The number of a process by its directory.
fn process_id(process: &OwnedFd) -> io::Result<String> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", process.as_raw_fd()))?;
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| io::Error::other("a process without a number"))
}

fn run_tool(tool: &str, pid: &str, own: u32, (first, count): (u32, u32)) -> io::Result<()> {
    let numbers = [0, own, 1, 1, first, count].map(|n| n.to_string());
    let mut command = Command::new(tool);
    let status = command.arg(pid).args(numbers).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{tool} failed"))) }
}

/// The range that a file such as `/etc/subuid` gives a user, by name or number, at most what an instance has use for.
fn subordinate(text: &str, name: &str, id: u32) -> Option<(u32, u32)> {
    let id = id.to_string();
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let user = parts.next()?;
        let range = (parts.next()?.parse().ok()?, parts.next()?.trim().parse::<u32>().ok()?.min(IDS - 1));
        (!user.is_empty() && (user == name || user == id)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_found_by_name_or_number() {
        let text = "alice:100000:65536\n# a comment\n1001:200000:1000\n";
        assert_eq!(subordinate(text, "alice", 1000), Some((100_000, 65_535)));
        assert_eq!(subordinate(text, "bob", 1001), Some((200_000, 1000)));
        assert_eq!(subordinate(text, "", 1002), None);
    }

    #[test]
    fn ranges_stay_below_what_a_signed_number_holds() {
        assert!(u64::from(FIRST) + u64::from(RANGES) * u64::from(IDS) < (1 << 31));
    }
}
