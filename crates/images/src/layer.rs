//! Unpacking one layer into a directory of its own.
//!
//! File names in a layer are the image author's. Every one is resolved by the kernel with
//! `RESOLVE_IN_ROOT`, so that neither `..` nor a symbolic link planted by an earlier entry can lead out of the
//! layer's directory; the same rule a container itself lives by. Deletions (`.wh.NAME`) and opaque directories
//! (`.wh..wh..opq`) become what overlayfs understands. Device nodes are left out: instances get their own.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use crate::{
    Doing, Error, Result,
    blobs::{Hashing, digest_of},
};

/// The most bytes a layer may unpack to: 32 GiB, the disk of the largest Cloud Run instance.
const MAX_UNPACKED: u64 = 32 << 30;
/// The most entries in a layer.
const MAX_ENTRIES: usize = 2_000_000;
/// The longest path of an entry, Linux's own limit.
const MAX_PATH: usize = 4096;

/// The most that an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, unpacked, with all headers.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: usize,
}

/// How much this process may do to files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Owners can be set, and whiteouts are device nodes.
    Root,
    /// Files are the user's own, and whiteouts are attributes.
    User,
}

impl Rights {
    pub(crate) fn of_this_process() -> Self {
        if rustix::process::geteuid().is_root() { Rights::Root } else { Rights::User }
    }
}

/// Unpacks a layer, compressed or not, into an existing empty directory; gives the digest of the archive within,
/// which is the layer's diff id.
pub(crate) fn unpack(blob: impl Read, into: &Path, rights: Rights) -> Result<String> {
    unpack_within(blob, into, rights, Limits { bytes: MAX_UNPACKED, entries: MAX_ENTRIES })
}

/// The same, for what has to be smaller than a layer.
pub(crate) fn unpack_within(blob: impl Read, into: &Path, rights: Rights, limits: Limits) -> Result<String> {
    let plain = decompress(blob)?;
    let mut hashing = Hashing { inner: plain.take(limits.bytes), sha: Sha256::new() };
    let root = open_root(into)?;
    let mut target = Target { root, rights, room: limits.bytes, directories: Vec::new() };
    let mut archive = Archive::new(&mut hashing);
    for (number, entry) in archive.entries().doing("read a layer")?.enumerate() {
        if number == limits.entries {
            return Err(Error::TooLarge("more files than may come in one archive"));
        }
        target.add(entry.doing("read a layer")?)?;
    }
    target.finish()?;
    io::copy(&mut hashing, &mut io::sink()).doing("read a layer")?;
    if hashing.inner.limit() == 0 {
        return Err(Error::TooLarge("more bytes than may come in one archive"));
    }
    Ok(digest_of(hashing.sha))
}

/// Looks at the first bytes: gzip, zstd or a plain archive, whatever the media type says.
fn decompress<'a>(mut blob: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match blob.read(&mut magic[have..]).doing("read a layer")? {
            0 => break,
            read => have += read,
        }
    }
    let whole = io::Cursor::new(magic[..have].to_vec()).chain(blob);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole).doing("read a layer")?),
        _ => Box::new(whole),
    })
}

fn open_root(directory: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(format_args!("open {}", directory.display()))
}

struct Target {
    root: OwnedFd,
    rights: Rights,
    /// How many bytes files may still have: those of a sparse file are more than an archive holds of it.
    room: u64,
    /// Directories whose modes and times are set last: a read-only directory must first be filled.
    directories: Vec<(PathBuf, Mode, i64)>,
}

impl Target {
    fn add(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        let raw = entry.path_bytes();
        let path = inside(Path::new(std::ffi::OsStr::from_bytes(&raw)))?;
        let Some(name) = path.file_name() else { return Ok(()) };
        let name = name.as_bytes().to_vec();
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        if name == b".wh..wh..opq" {
            return self.make_opaque(&path);
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&parent, Path::new(std::ffi::OsStr::from_bytes(hidden)));
        }
        self.place(&mut entry, &path, &parent, Path::new(std::ffi::OsStr::from_bytes(&name)))
    }

    fn place(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        path: &Path,
        parent: &OwnedFd,
        name: &Path,
    ) -> Result<()> {
        let header = entry.header().clone();
        let mode = Mode::from_raw_mode(header.mode().unwrap_or(0o644) & 0o7777);
        let mtime = header.mtime().unwrap_or(0).min(i64::MAX as u64) as i64;
        match header.entry_type() {
            EntryType::Directory => {
                make_directory(parent, name)?;
                self.own(parent, name, &header)?;
                self.directories.push((path.to_owned(), mode, mtime));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.room -= write_file(entry, parent, name, self.room)?;
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                replace(parent, name)?;
                rustix::fs::symlinkat(&target, parent, name)
                    .doing(format_args!("link {}", path.display()))?;
                return self.own(parent, name, &header);
            }
            EntryType::Link => return self.hard_link(entry, path, parent, name),
            EntryType::Fifo => {
                replace(parent, name)?;
                rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)
                    .doing(format_args!("make {}", path.display()))?;
            }
            // Device nodes are refused to instances anyway; pax and GNU extensions are handled by the reader.
            _ => return Ok(()),
        }
        self.own(parent, name, &header)?;
        rustix::fs::chmodat(parent, name, self.allowed(mode), AtFlags::empty())
            .doing(format_args!("set the mode of {}", path.display()))?;
        set_time(parent, name, mtime)
    }

    /// Without root a file with set-user-id would belong to the user who unpacks it.
    fn allowed(&self, mode: Mode) -> Mode {
        match self.rights {
            Rights::Root => mode,
            Rights::User => mode & !(Mode::SUID | Mode::SGID),
        }
    }

    fn own(&self, parent: &OwnedFd, name: &Path, header: &tar::Header) -> Result<()> {
        if self.rights == Rights::User {
            return Ok(());
        }
        let id = |value: io::Result<u64>| {
            value.ok().and_then(|value| u32::try_from(value).ok()).filter(|id| *id != u32::MAX).unwrap_or(0)
        };
        let (uid, gid) = (Uid::from_raw(id(header.uid())), Gid::from_raw(id(header.gid())));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .doing(format_args!("set the owner of {}", name.display()))
    }

    fn hard_link(
        &self,
        entry: &Entry<'_, impl Read>,
        path: &Path,
        parent: &OwnedFd,
        name: &Path,
    ) -> Result<()> {
        let target = inside(&link_target(entry)?)?;
        let from = self.existing(target.parent().unwrap_or(Path::new("")))?;
        let file = target
            .file_name()
            .ok_or_else(|| Error::Malformed(format!("{} is linked to nothing", path.display())))?;
        replace(parent, name)?;
        rustix::fs::linkat(&from, Path::new(file), parent, name, AtFlags::empty()).doing(format_args!(
            "link {} to {}",
            path.display(),
            target.display()
        ))
    }

    fn whiteout(&self, parent: &OwnedFd, hidden: &Path) -> Result<()> {
        if hidden.as_os_str().is_empty() || hidden == Path::new(".") || hidden == Path::new("..") {
            return Err(Error::Malformed("a whiteout without a name".into()));
        }
        replace(parent, hidden)?;
        match self.rights {
            Rights::Root => rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0),
            Rights::User => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                rustix::fs::openat(parent, hidden, flags, Mode::RUSR).and_then(|file| {
                    rustix::fs::fsetxattr(&file, "user.overlay.whiteout", b"", XattrFlags::empty())
                })
            }
        }
        .doing(format_args!("hide {}", hidden.display()))
    }

    fn make_opaque(&self, path: &Path) -> Result<()> {
        let directory = self.openable(path.parent().unwrap_or(Path::new("")))?;
        rustix::fs::fsetxattr(&directory, "user.overlay.opaque", b"y", XattrFlags::empty())
            .doing("mark a directory as replaced")
    }

    /// Opens a directory inside the layer, making what is missing of it.
    fn directory(&self, path: &Path) -> Result<OwnedFd> {
        match self.existing(path) {
            Err(Error::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or_else(|| Error::Malformed("an entry without a name".into()))?;
        make_directory(&parent, Path::new(name))?;
        self.existing(path)
    }

    fn existing(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn openable(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .doing(format_args!("open {} in the layer", path.display()))
    }

    fn finish(self) -> Result<()> {
        for (path, mode, mtime) in self.directories.iter().rev() {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let parent = self.existing(parent)?;
            // A later entry may have replaced the directory by something else, which has its own mode.
            let stat = rustix::fs::statat(&parent, Path::new(name), AtFlags::SYMLINK_NOFOLLOW);
            if !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                continue;
            }
            rustix::fs::chmodat(&parent, Path::new(name), self.allowed(*mode), AtFlags::empty())
                .doing("set a directory's mode")?;
            set_time(&parent, Path::new(name), *mtime)?;
        }
        Ok(())
    }
}

/// The path of an entry relative to the layer's root; `..` is refused rather than guessed at.
fn inside(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().len() > MAX_PATH || path.as_os_str().as_bytes().contains(&0) {
        return Err(Error::Malformed("a path that no file system takes".into()));
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(Error::Malformed(format!("the path {} leads out of the layer", path.display()))),
        }
    }
    Ok(clean)
}

fn link_target(entry: &Entry<'_, impl Read>) -> Result<PathBuf> {
    let target = entry.link_name_bytes().ok_or_else(|| Error::Malformed("a link to nowhere".into()))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&target)))
}

fn make_directory(parent: &OwnedFd, name: &Path) -> Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let stat =
                rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing("look at a directory")?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Ok(());
            }
            replace(parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).doing("make a directory")
        }
        Err(error) => Err(error).doing(format_args!("make the directory {}", name.display())),
    }
}

/// Removes what an entry is about to replace. A directory that is not empty stays, and the entry fails.
fn replace(parent: &OwnedFd, name: &Path) -> Result<()> {
    let removed = match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR),
        other => other,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).doing(format_args!("replace {}", name.display())),
    }
}

/// Writes a file of at most `room` bytes; gives its size.
fn write_file(entry: &mut Entry<'_, impl Read>, parent: &OwnedFd, name: &Path, room: u64) -> Result<u64> {
    replace(parent, name)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        .doing(format_args!("make {}", name.display()))?
        .into();
    let mut content = entry.take(room.saturating_add(1));
    let size = io::copy(&mut content, &mut file).doing(format_args!("write {}", name.display()))?;
    if size > room { Err(Error::TooLarge("more bytes than may come in one archive")) } else { Ok(size) }
}

fn set_time(parent: &OwnedFd, name: &Path, seconds: i64) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    rustix::fs::utimensat(
        parent.as_fd(),
        name,
        &Timestamps { last_access: time, last_modification: time },
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .doing(format_args!("set the time of {}", name.display()))
}
