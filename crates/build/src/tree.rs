//! A folder that somebody else filled, read without being led out of it.
//!
//! Whatever its links say, the kernel resolves every path with the folder as its root.

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};

/// The largest file that is read to find out what an app is, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The most names of a directory that are looked at.
const MAX_NAMES: usize = 10_000;

/// An app's folder.
pub(crate) struct Tree(OwnedFd);

impl Tree {
    pub(crate) fn open(root: &Path) -> std::io::Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Tree(rustix::fs::openat(CWD, root, flags, Mode::empty())?))
    }

    /// A text file, if it is there and of a sane size.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= MAX_FILE).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.kind(path) == Some(FileType::RegularFile)
    }

    pub(crate) fn is_directory(&self, path: &str) -> bool {
        self.kind(path) == Some(FileType::Directory)
    }

    /// The names in a directory, in order.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let opened = self.open_at(directory, OFlags::RDONLY | OFlags::DIRECTORY);
        let Some(entries) = opened.and_then(|opened| Dir::read_from(opened).ok()) else { return Vec::new() };
        let names = entries
            .take(MAX_NAMES)
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        names.sort();
        names
    }

    fn kind(&self, path: &str) -> Option<FileType> {
        let found = rustix::fs::fstat(self.open_at(path, OFlags::PATH)?).ok()?;
        Some(FileType::from_raw_mode(found.st_mode))
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }
}
