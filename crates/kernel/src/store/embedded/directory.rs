//! The directory of an embedded store: one process at a time, one format.
//!
//! `LOCK` is held (`flock`) for as long as the store is open and says which process holds it; the kernel lets
//! go of it when that process ends, however it ends, so a lock is never stale. `FORMAT` says which version of
//! the layout is in the directory and which is the oldest program that can read it. Both are checked before
//! anything else is touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

/// The layout that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
/// The oldest program that can read what this one writes.
const OLDEST_READER: u32 = 1;

/// How long a lock may stay with a process that is gone: one that it had just forked holds it until it executes its
/// own program.
const LINGERS: Duration = Duration::from_millis(100);

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes the directory where it is missing, locks it, and checks or writes its format.
    pub(super) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("create", path, e))?;
        let lock = lock(path)?;
        check_format(path)?;
        Ok(Directory { path: path.to_owned(), lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file of the store itself, made with mode 0600 and a durable directory entry.
    pub(super) fn store_file(&self) -> Result<File> {
        let path = self.path.join("store.redb");
        let is_new = !path.exists();
        let file = private_file(&path).map_err(|e| failed("open", &path, e))?;
        if is_new {
            sync_directory(&self.path)?;
        }
        Ok(file)
    }

    /// How many bytes an ordinary process may still write to the disk.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being forked has it open too.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("LOCK");
    let mut file = private_file(&path).map_err(|e| failed("open", &path, e))?;
    let deadline = Instant::now() + LINGERS;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() > deadline {
            return Err(in_use(dir, &mut file));
        }
        thread::sleep(LINGERS / 20);
    }
    write_pid(&mut file).map_err(|e| failed("write", &path, e))?;
    Ok(file)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn in_use(dir: &Path, lock: &mut File) -> Error {
    let mut pid = String::new();
    let holder = match lock.take(32).read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("haar (pid {})", pid.trim()),
        _ => "another haar".to_owned(),
    };
    Error::precondition(format!("data directory {} is in use by {holder}", dir.display()))
}

fn check_format(dir: &Path) -> Result<()> {
    match fs::read_to_string(dir.join("FORMAT")) {
        Ok(text) => accept_format(dir, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => start_format(dir),
        Err(error) => Err(failed("read", &dir.join("FORMAT"), error)),
    }
}

fn start_format(dir: &Path) -> Result<()> {
    if dir.join("store.redb").exists() {
        return Err(damaged(dir, "it holds a store but no FORMAT file"));
    }
    let text = format!("version {VERSION}\noldest-reader {OLDEST_READER}\n");
    let scratch = dir.join("FORMAT.new");
    write_durably(&scratch, &text).map_err(|e| failed("write", &scratch, e))?;
    fs::rename(&scratch, dir.join("FORMAT")).map_err(|e| failed("write", &dir.join("FORMAT"), e))?;
    sync_directory(dir)
}

fn accept_format(dir: &Path, text: &str) -> Result<()> {
    let (Some(version), Some(oldest)) = (field(text, "version"), field(text, "oldest-reader")) else {
        return Err(damaged(dir, "its FORMAT file cannot be read"));
    };
    if oldest > VERSION {
        return Err(Error::precondition(format!(
            "data directory {} was written by a newer haar (format {version}, readable from format {oldest} on; \
             this one reads up to {VERSION}): use that haar, or another directory",
            dir.display()
        )));
    }
    Ok(())
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn damaged(dir: &Path, how: &str) -> Error {
    Error::precondition(format!("data directory {} is damaged: {how}", dir.display()))
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private_file(path)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_directory(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("sync", dir, e))
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::unavailable(format!("cannot {what} {}: {error}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let refusal = Directory::open(dir.path()).unwrap_err();
        let expected =
            format!("data directory {} is in use by haar (pid {})", dir.path().display(), std::process::id());
        assert_eq!(refusal.message(), expected);
        drop(first);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn formats_are_told_apart() {
        let dir = Path::new("/d");
        assert!(accept_format(dir, "version 1\noldest-reader 1\n").is_ok());
        assert!(
            accept_format(dir, "version 7\noldest-reader 1\n").is_ok(),
            "a newer one that we can still read"
        );
        let newer = accept_format(dir, "version 7\noldest-reader 5\n").unwrap_err();
        assert!(newer.message().contains("newer haar (format 7, readable from format 5 on"), "{newer}");
        assert!(accept_format(dir, "scribbles").unwrap_err().message().contains("damaged"));
    }
}
