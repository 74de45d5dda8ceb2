//! Volumes: what an instance finds at the paths where its containers mount them.
//!
//! The sockets of databases and the files of secrets are in directories of this machine, made when the instance
//! starts, mounted for reading only, and removed when it has ended. What is in them changes while it runs: one task
//! for each volume sees to that. Files in memory are the sandbox's own affair. Declined: buckets and NFS, which are
//! refused when they are asked for.

mod databases;
mod secrets;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use kernel::ports::LogSource;
pub(crate) use secrets::versions;
use tokio::task::AbortHandle;

use crate::{
    engine::Ports,
    record::{self, Volume, VolumeKind},
    rules,
    runtime::{Mount, MountKind},
};

/// The path of Cloud SQL's sockets, and of nothing else.
pub(crate) const CLOUD_SQL: &str = "/cloudsql";
/// Where Linux has files in memory that everybody may use.
const SHARED_MEMORY: &str = "/dev/shm";

/// Whose volumes they are.
#[derive(Clone)]
pub(crate) struct Whose {
    /// What is asked of others for them.
    pub(crate) ports: Ports,
    /// For the instance's log.
    pub(crate) source: LogSource,
    /// The account that may read secrets and connect to databases, or not.
    pub(crate) account: Arc<str>,
}

/// How many containers may mount them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One.
    One,
    /// More.
    Several,
}

/// The volumes of one instance: there until this is dropped.
pub(crate) struct Volumes {
    /// By the name of the volume.
    what: Vec<(String, MountKind)>,
    tasks: Vec<AbortHandle>,
    homes: Vec<PathBuf>,
}

impl Volumes {
    /// Makes them. `memory` is what all containers of the instance have together, in bytes; memory that several of them
    /// mount has no other limit than theirs.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub(crate) async fn open(
        whose: &Whose,
        volumes: &[Volume],
        memory: u64,
        sharing: Sharing,
    ) -> io::Result<Arc<Volumes>> {
        let mut open = Volumes { what: Vec::new(), tasks: Vec::new(), homes: Vec::new() };
        for volume in volumes {
            let what = match &volume.kind {
                Some(VolumeKind::CloudSql(sql)) => {
                    let home = open.home(&whose.ports.run_directory)?;
                    open.tasks.push(databases::open(whose.clone(), &home, &sql.instances)?);
                    MountKind::Host(home)
                }
                Some(VolumeKind::Secret(secret)) => {
                    let home = open.home_in_memory(&whose.ports.run_directory)?;
                    open.tasks.push(secrets::open(whose.clone(), &home, secret).await?);
                    MountKind::Host(home)
                }
                Some(VolumeKind::Memory(_)) if sharing == Sharing::Several => {
                    let home = open.home_in_memory(&whose.ports.run_directory)?;
                    set_mode(&home, 0o1777)?;
                    MountKind::Shared(home)
                }
                Some(VolumeKind::Memory(asked)) => MountKind::Memory { bytes: size(asked, memory) },
                None => continue,
            };
            open.what.push((volume.name.clone(), what));
        }
        Ok(Arc::new(open))
    }

    /// What a container mounts of them, in its order.
    pub(crate) fn mounts(&self, asked: &[record::Mount]) -> Vec<Mount> {
        let find = |asked: &record::Mount| {
            let (_, what) = self.what.iter().find(|(name, _)| *name == asked.volume)?;
            Some(Mount { target: asked.path.clone(), what: what.clone() })
        };
        asked.iter().filter_map(find).collect()
    }

    /// A new directory, which is removed with these volumes.
    fn home(&mut self, parent: &Path) -> io::Result<PathBuf> {
        let id = rules::instance_id().map_err(|error| io::Error::other(error.message().to_owned()))?;
        let home = parent.join(&id[..16]);
        make_directory(&home, 0o755)?;
        self.homes.push(home.clone());
        Ok(home)
    }

    /// The same in memory.
    fn home_in_memory(&mut self, run_directory: &Path) -> io::Result<PathBuf> {
        match self.home(&memory_directory(run_directory)?) {
            // Whose volumes were the last there has removed it in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.home(&memory_directory(run_directory)?)
            }
            made => made,
        }
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        for home in &self.homes {
            // Whatever stays is swept at the next start.
            let _ = fs::remove_dir_all(home);
            // What is not empty stays.
            let shared = home.parent().filter(|parent| parent.parent() == Some(Path::new(SHARED_MEMORY)));
            let _ = shared.map(fs::remove_dir);
        }
    }
}

/// Makes the directories that volumes are in, without what a dead haar left there. No instance runs yet.
///
/// # Errors
/// When that is not allowed.
pub(crate) fn sweep(run_directory: &Path) -> io::Result<()> {
    remove(run_directory)?;
    DirBuilder::new().recursive(true).mode(0o700).create(run_directory)?;
    match memory_directory(run_directory)? {
        memory if memory == run_directory => Ok(()),
        memory => remove(&memory),
    }
}

/// Removes what a dead haar left in directories of volumes. Nobody may be running on them.
///
/// # Errors
/// When something in them cannot be removed.
pub fn forget(run_directory: &Path) -> io::Result<()> {
    let shared = in_shared_memory(run_directory);
    match fs::symlink_metadata(&shared) {
        Ok(found) if found.uid() == rustix::process::geteuid().as_raw() => remove(&shared)?,
        _ => {}
    }
    remove(run_directory)
}

/// Where a run directory's volumes in memory are, unless that is somebody else's. Named so that any haar on the same
/// directory, and no other, finds and sweeps what a killed one has left.
fn in_shared_memory(run_directory: &Path) -> PathBuf {
    let digest = digest(&SHA256, run_directory.as_os_str().as_encoded_bytes());
    Path::new(SHARED_MEMORY).join(format!("haar-{}", rules::hex(&digest.as_ref()[..16])))
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A directory in memory that is ours alone: payloads of secrets are not to reach a disk. Where the machine has no such
/// place, it is the run directory, which nobody else can read either.
fn memory_directory(run_directory: &Path) -> io::Result<PathBuf> {
    if is_memory(run_directory) || !is_memory(Path::new(SHARED_MEMORY)) {
        return Ok(run_directory.to_owned());
    }
    let us = fs::metadata(run_directory)?.uid();
    let shared = in_shared_memory(run_directory);
    match DirBuilder::new().mode(0o700).create(&shared) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Anybody may make directories there: one that somebody else has made before us is not ours.
    let found = fs::symlink_metadata(&shared)?;
    let ours = found.is_dir() && found.uid() == us && found.mode() & 0o077 == 0;
    Ok(if ours { shared } else { run_directory.to_owned() })
}

fn is_memory(path: &Path) -> bool {
    /// What the kernel calls tmpfs (`linux/magic.h`).
    const TMPFS: u32 = 0x0102_1994;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u32 == TMPFS)
}

/// The mode is set by hand: the umask is the user's.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// How much a volume in memory takes: unless said otherwise, half of what the containers have
/// (<https://cloud.google.com/run/docs/configuring/services/in-memory-volume-mounts>).
fn size(asked: &record::Memory, memory: u64) -> u64 {
    match asked.size_limit.is_empty() {
        true => memory / 2,
        false => rules::memory(&asked.size_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_haar_left_is_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("volumes");
        sweep(&run).unwrap();
        let memory = memory_directory(&run).unwrap();
        for directory in [&run, &memory] {
            fs::create_dir_all(directory.join("0123")).unwrap();
            fs::write(directory.join("0123/secret"), "42").unwrap();
        }
        forget(&run).unwrap();
        assert!(!run.exists() && !memory.exists());
        forget(&run).unwrap();
    }

    #[test]
    fn every_run_directory_has_a_place_of_its_own() {
        let place = |path: &str| in_shared_memory(Path::new(path));
        assert_eq!(place("/a/b-c"), place("/a/b-c"));
        assert_ne!(place("/a/b-c"), place("/a-b/c"));
        assert!(place(&"/long".repeat(100)).file_name().unwrap().len() < 255);
    }

    #[test]
    fn without_a_run_directory_there_is_no_memory() {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("gone");
        assert!(memory_directory(&run).is_err());
        assert!(!in_shared_memory(&run).exists());
    }
}
