//! A directory becomes a layer: what it holds is brought into one form, and hashed as the archive that it would be.
//!
//! A layer that was made here is kept unpacked only. Its archive is a function of its files (sorted, one owner, one
//! time), so its digest is had by hashing that archive while it is written to nowhere, and the archive itself can be
//! written again, byte for byte, when somebody wants it ([`write_archive`]). That saves a build the disk's time
//! for every byte twice. Files' times are the buildpacks' 1980-01-01, so the same content is the same layer; compiled
//! Python in it must not be checked by time.
//!
//! What fills such a directory is a build, which is not trusted with more than its own files: links stay links, what is
//! neither file, directory nor link is dropped, and so are set-user-id bits and attributes that mean something to
//! overlayfs. Declined: hard links (each name becomes a file of its own) and access control lists.

use std::{
    ffi::CString,
    fs::{self, DirEntry, File, Metadata},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use sha2::{Digest, Sha256};

use crate::{
    Doing, Error, Result,
    blobs::{Hashing, digest_of},
    layer::Rights,
};

/// The time of every file in a layer that is made here: what buildpacks use, and what `zip` can still say.
const TIME: i64 = 315_532_801;
/// The most files of a layer, as for layers from outside.
const MAX_ENTRIES: usize = 2_000_000;
/// How many files are synced one by one; above that the whole file system is.
const FEW: usize = 48;

/// What became of a directory.
pub(crate) struct Sealed {
    /// The digest of its archive.
    pub(crate) digest: String,
    /// The size of its archive, in bytes.
    pub(crate) size: u64,
}

/// Brings everything below a directory into one form, hashes it, and makes it last.
pub(crate) fn seal(root: &Path, owner: u32, rights: Rights) -> Result<Sealed> {
    let entries = settle(root, owner, rights)?;
    let mut hashing = Hashing { inner: Counting(0), sha: Sha256::new() };
    write_entries(root, &entries, owner, &mut hashing)?;
    let sealed = Sealed { size: hashing.inner.0, digest: digest_of(hashing.sha) };
    fix_times(root, &entries)?;
    sync(root, &entries)?;
    Ok(sealed)
}

/// Writes the archive of a layer that was made here.
pub(crate) fn write_archive(root: &Path, owner: u32, into: impl Write) -> Result<()> {
    let entries = Walk::below(root, |_, _| Ok(Fate::Kept))?;
    write_entries(root, &entries, owner, into)
}

/// A file, directory or link, by its path below the root.
struct Entry {
    path: PathBuf,
    metadata: Metadata,
}

impl Entry {
    fn is_whiteout(&self) -> bool {
        self.metadata.file_type().is_char_device() && self.metadata.rdev() == 0
    }
}

#[derive(PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
}

/// Everything below a directory, in the order of an archive.
struct Walk<'a, F> {
    root: &'a Path,
    found: Vec<Entry>,
    each: F,
}

impl<'a, F: FnMut(&Path, &Metadata) -> Result<Fate>> Walk<'a, F> {
    fn below(root: &'a Path, each: F) -> Result<Vec<Entry>> {
        let mut walk = Walk { root, found: Vec::new(), each };
        walk.enter(Path::new(""))?;
        Ok(walk.found)
    }

    /// Depth is bounded by the length of paths, which the kernel bounds.
    fn enter(&mut self, directory: &Path) -> Result<()> {
        let doing = || format!("read {}", directory.display());
        let mut entries: Vec<DirEntry> = fs::read_dir(self.root.join(directory))
            .and_then(Iterator::collect)
            .doing(format_args!("{}", doing()))?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let path = directory.join(entry.file_name());
            let whole = self.root.join(&path);
            let metadata = fs::symlink_metadata(&whole).doing(format_args!("{}", doing()))?;
            if (self.each)(&whole, &metadata)? == Fate::Dropped {
                continue;
            }
            if self.found.len() == MAX_ENTRIES {
                return Err(Error::TooLarge("a layer with more than 2,000,000 files"));
            }
            let metadata = fs::symlink_metadata(&whole).doing(format_args!("look at {}", path.display()))?;
            let is_directory = metadata.is_dir();
            self.found.push(Entry { path: path.clone(), metadata });
            if is_directory {
                self.enter(&path)?;
            }
        }
        Ok(())
    }
}

/// Gives everything one owner and plain modes, and drops what a layer does not hold.
fn settle(root: &Path, owner: u32, rights: Rights) -> Result<Vec<Entry>> {
    Walk::below(root, |path, metadata| {
        let kind = metadata.file_type();
        let is_whiteout = kind.is_char_device() && metadata.rdev() == 0;
        if !kind.is_file() && !kind.is_dir() && !kind.is_symlink() && !is_whiteout {
            fs::remove_file(path).doing(format_args!("drop {}", path.display()))?;
            return Ok(Fate::Dropped);
        }
        if rights == Rights::Root && (metadata.uid() != owner || metadata.gid() != owner) {
            lchown(path, Some(owner), Some(owner)).doing(format_args!("give away {}", path.display()))?;
        }
        if kind.is_file() || kind.is_dir() {
            let mode = plain_mode(metadata);
            if metadata.mode() & 0o7777 != mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))
                    .doing(format_args!("set the mode of {}", path.display()))?;
            }
            drop_attributes(path)?;
        }
        Ok(Fate::Kept)
    })
}

/// Readable by everybody, for an instance may run as any user; a directory that is everybody's to write stays so.
fn plain_mode(metadata: &Metadata) -> u32 {
    let mode = metadata.mode() & 0o7777;
    match metadata.is_dir() {
        true if mode & 0o1002 == 0o1002 => 0o1777,
        true => (mode & 0o777) | 0o755,
        false if mode & 0o111 != 0 => (mode & 0o777) | 0o755,
        false => (mode & 0o777) | 0o644,
    }
}

/// Attributes of users could tell overlayfs to hide or replace what lies below.
fn drop_attributes(path: &Path) -> Result<()> {
    let mut names = [0; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        // A file system without attributes.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error).doing(format_args!("look at {}", path.display())),
    };
    let all = names.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    for name in all.filter(|name| name.starts_with(b"user.")) {
        let Ok(name) = CString::new(name) else { continue };
        rustix::fs::lremovexattr(path, name.as_c_str())
            .doing(format_args!("drop an attribute of {}", path.display()))?;
    }
    Ok(())
}

fn write_entries(root: &Path, entries: &[Entry], owner: u32, into: impl Write) -> Result<()> {
    let mut archive = tar::Builder::new(into);
    for entry in entries {
        append(&mut archive, root, entry, owner)
            .doing(format_args!("read {}", root.join(&entry.path).display()))?;
    }
    archive.finish().doing("finish a layer")
}

fn append(archive: &mut tar::Builder<impl Write>, root: &Path, entry: &Entry, owner: u32) -> io::Result<()> {
    let whole = root.join(&entry.path);
    let mut header = tar::Header::new_gnu();
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(TIME as u64);
    header.set_mode(entry.metadata.mode() & 0o7777);
    header.set_size(0);
    if entry.is_whiteout() {
        header.set_entry_type(tar::EntryType::Regular);
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(entry.path.file_name().unwrap_or_default());
        return archive.append_data(&mut header, entry.path.with_file_name(name), io::empty());
    }
    if entry.metadata.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        return archive.append_link(&mut header, &entry.path, fs::read_link(whole)?);
    }
    if entry.metadata.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return archive.append_data(&mut header, &entry.path, io::empty());
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(entry.metadata.len());
    archive.append_data(&mut header, &entry.path, File::open(whole)?)
}

fn fix_times(root: &Path, entries: &[Entry]) -> Result<()> {
    let time = Timespec { tv_sec: TIME, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in entries {
        let path = root.join(&entry.path);
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .doing(format_args!("set the time of {}", path.display()))?;
    }
    Ok(())
}

/// Makes the content last. For a few files that is quicker one by one than with all that the machine has to write.
fn sync(root: &Path, entries: &[Entry]) -> Result<()> {
    if entries.len() > FEW {
        let root = File::open(root).doing("sync a layer")?;
        return rustix::fs::syncfs(root).doing("sync a layer");
    }
    let kept = entries.iter().filter(|entry| entry.metadata.is_file() || entry.metadata.is_dir());
    let all = kept.map(|entry| root.join(&entry.path)).chain([root.to_owned()]);
    all.into_iter().try_for_each(|path| {
        File::open(&path).and_then(|file| file.sync_all()).doing(format_args!("sync {}", path.display()))
    })
}

/// Counts what is written to it.
struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::write(root.join("b/c/file"), "x").unwrap();
        fs::write(root.join("a"), "y").unwrap();
        std::os::unix::fs::symlink("/usr/bin/../lib", root.join("b/link")).unwrap();
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4700)).unwrap();
    }

    #[test]
    fn the_same_content_is_the_same_layer_and_its_archive_can_be_written_again() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tree(one.path());
        std::thread::sleep(std::time::Duration::from_millis(20));
        tree(two.path());
        let socket = std::os::unix::net::UnixListener::bind(two.path().join("socket")).unwrap();
        let rights = Rights::of_this_process();
        let (first, second) = (seal(one.path(), 0, rights).unwrap(), seal(two.path(), 0, rights).unwrap());
        drop(socket);
        assert_eq!((&first.digest, first.size), (&second.digest, second.size));
        assert!(!two.path().join("socket").exists(), "sockets are no content");
        assert_eq!(fs::metadata(one.path().join("a")).unwrap().mode() & 0o7777, 0o755, "no set-user-id");
        let mut archive = Vec::new();
        write_archive(one.path(), 0, &mut archive).unwrap();
        assert_eq!(archive.len() as u64, first.size);
        assert_eq!(digest_of(Sha256::new_with_prefix(&archive)), first.digest);
    }

    #[test]
    fn attributes_that_overlayfs_reads_are_dropped() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let directory = root.path().join("etc");
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::lsetxattr(&directory, "user.overlay.opaque", b"y", flags).is_err() {
            return;
        }
        seal(root.path(), 0, Rights::of_this_process()).unwrap();
        let mut names = [0; 256];
        assert_eq!(rustix::fs::llistxattr(&directory, &mut names[..]).unwrap(), 0);
    }
}
