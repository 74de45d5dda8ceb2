//! A folder's way to a build: packed here, unpacked there.
//!
//! Between the two is one uncompressed tar stream: [`SETTINGS`] first, then the folder's files below [`WORKSPACE`]. It is
//! a function of the settings and the files: sorted, without owners and times, so the same folder is the same stream
//! and a build of it is known by its hash. What comes in is not trusted: see `ImageMaker::unpack`.

mod ignore;

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use ignore::Rules;
use kernel::ports::ArchiveLimits;

use crate::{Failure, Settings};

/// The name of the first member.
pub const SETTINGS: &str = "haar-build.json";
/// The directory that the folder's files are in, in the stream and in the image.
pub const WORKSPACE: &str = "workspace";
/// The most that a folder may hold: 2 GiB and 200,000 files.
pub const LIMITS: ArchiveLimits = ArchiveLimits { bytes: 2 << 30, entries: 200_000 };
/// The longest settings, in bytes.
const MAX_SETTINGS: u64 = 256 << 10;
/// The longest ignore file, in bytes.
const MAX_RULES: u64 = 1 << 20;
/// How many ignored paths are told.
const TOLD: usize = 1000;
/// Of no time: mtimes would make every copy of a folder another one.
const TIME: u64 = 0;

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// How many files, directories and links.
    pub entries: usize,
    /// The bytes of the files.
    pub bytes: u64,
    /// What stayed behind, the first thousand, a directory as one: `venv/`.
    pub ignored: Vec<String>,
}

/// Writes a folder and settings as a build wants them. Stays behind: what the folder's rules say (see [`Rules`]), compiled
/// Python, virtual environments (they hold paths of this machine), and what is neither file, directory nor link.
///
/// # Errors
/// When a file cannot be read or changes while it is read, when the folder is larger than [`LIMITS`], and those of the
/// writer.
pub fn pack(directory: &Path, settings: &Settings, writer: impl Write) -> io::Result<Packed> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a folder", directory.display()),
        ));
    }
    let mut archive = tar::Builder::new(writer);
    let text = serde_json::to_vec(settings)?;
    archive.append_data(&mut header(tar::EntryType::Regular, 0o600, text.len() as u64), SETTINGS, &*text)?;
    archive.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), WORKSPACE, io::empty())?;
    let rules = Rules::of(
        |name| read_rules(&directory.join(name)),
        |name| directory.join(name).symlink_metadata().is_ok(),
    );
    let mut packer = Packer { root: directory, rules, archive, packed: Packed::default() };
    packer.enter(Path::new(""))?;
    packer.archive.into_inner()?.flush()?;
    Ok(packer.packed)
}

fn read_rules(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_RULES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

struct Packer<'a, W: Write> {
    root: &'a Path,
    rules: Rules,
    archive: tar::Builder<W>,
    packed: Packed,
}

impl<W: Write> Packer<'_, W> {
    fn enter(&mut self, directory: &Path) -> io::Result<()> {
        let whole = self.root.join(directory);
        let mut names: Vec<_> = fs::read_dir(&whole)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>())
            .map_err(|error| about(&whole, error))?;
        names.sort();
        for name in names {
            let path = directory.join(&name);
            let metadata =
                fs::symlink_metadata(self.root.join(&path)).map_err(|error| about(&path, error))?;
            if self.stays(&path, &metadata) {
                self.ignore(&path, &metadata);
                continue;
            }
            self.add(&path, &metadata).map_err(|error| about(&path, error))?;
            if metadata.is_dir() {
                self.enter(&path)?;
            }
        }
        Ok(())
    }

    fn stays(&self, path: &Path, metadata: &Metadata) -> bool {
        let kind = metadata.file_type();
        let is_made = metadata.is_dir()
            && (path.ends_with("__pycache__") || self.root.join(path).join("pyvenv.cfg").is_file());
        let is_other = !(kind.is_file() || kind.is_dir() || kind.is_symlink());
        is_made || is_other || self.rules.ignores(&path.to_string_lossy(), metadata.is_dir())
    }

    fn ignore(&mut self, path: &Path, metadata: &Metadata) {
        if self.packed.ignored.len() < TOLD {
            let end = if metadata.is_dir() { "/" } else { "" };
            self.packed.ignored.push(format!("{}{end}", path.display()));
        }
    }

    fn add(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let (from, to) = (self.root.join(path), Path::new(WORKSPACE).join(path));
        self.count(metadata)?;
        if metadata.is_symlink() {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            return self.archive.append_link(&mut header, to, fs::read_link(from)?);
        }
        if metadata.is_dir() {
            return self.archive.append_data(
                &mut header(tar::EntryType::Directory, 0o755, 0),
                to,
                io::empty(),
            );
        }
        let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        let mut content = Exactly { inner: File::open(from)?, left: metadata.len() };
        self.archive.append_data(&mut header(tar::EntryType::Regular, mode, metadata.len()), to, &mut content)
    }

    fn count(&mut self, metadata: &Metadata) -> io::Result<()> {
        self.packed.entries += 1;
        self.packed.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        let too_large = |what: &str| {
            let advice = "name what need not be deployed in a .gcloudignore file";
            Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the folder has more than {what}; {advice}"),
            ))
        };
        // Headers count too where it comes in; they are no more than this.
        if self.packed.bytes + 1536 * self.packed.entries as u64 + (1 << 20) > LIMITS.bytes {
            return too_large("2 GiB");
        }
        if self.packed.entries + 2 > LIMITS.entries { too_large("200,000 files") } else { Ok(()) }
    }
}

/// Gives as many bytes as the header says, or fails: a file may be written to while it is read.
struct Exactly {
    inner: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it changed while it was read; try again",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn about(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => error,
        // What the writer says is about the writer.
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => error,
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(size);
    header
}

/// Reads the settings off the beginning of a stream, which is left where the folder begins.
pub(crate) fn take_settings(stream: &mut impl Read) -> Result<Settings, Failure> {
    let bad = |what: &str| Failure::new(format!("what came is not a packed folder: {what}"));
    let mut block = tar::Header::new_gnu();
    stream.read_exact(block.as_mut_bytes()).map_err(|_| bad("it ends early"))?;
    let size = block.entry_size().map_err(|_| bad("its beginning is no archive"))?;
    let is_settings = block.path_bytes().as_ref() == SETTINGS.as_bytes();
    if !is_settings || size > MAX_SETTINGS {
        return Err(bad(&format!("it does not begin with {SETTINGS}")));
    }
    let mut text = vec![0; size.next_multiple_of(512) as usize];
    stream.read_exact(&mut text).map_err(|_| bad("it ends early"))?;
    text.truncate(size as usize);
    serde_json::from_slice(&text).map_err(|error| bad(&format!("{SETTINGS}: {error}")))
}

/// The folder, in the directory that the stream was unpacked into.
pub(crate) fn workspace(unpacked: &Path) -> PathBuf {
    unpacked.join(WORKSPACE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(directory: &Path) -> (Packed, Vec<u8>) {
        let mut stream = Vec::new();
        let packed = pack(directory, &Settings::default(), &mut stream).unwrap();
        (packed, stream)
    }

    fn names(stream: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(stream);
        let entries =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        entries.collect()
    }

    #[test]
    fn a_folder_is_the_same_stream_however_it_was_made() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (root, files) in [(&one, ["a.py", "b.py"]), (&two, ["b.py", "a.py"])] {
            for file in files {
                fs::write(root.path().join(file), file).unwrap();
            }
        }
        assert_eq!(packed(one.path()), packed(two.path()));
    }

    #[test]
    fn what_need_not_go_stays_and_is_told() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["app/__pycache__", ".venv/lib", "logs"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in
            ["app/main.py", "app/__pycache__/main.pyc", ".venv/pyvenv.cfg", "logs/today", ".gitignore"]
        {
            fs::write(root.path().join(file), "/logs\n").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        let (packed, stream) = packed(root.path());
        assert_eq!(packed.ignored, [".gitignore", ".venv/", "app/__pycache__/", "logs/"]);
        let expected = [SETTINGS, "workspace", "workspace/app", "workspace/app/main.py", "workspace/link"];
        assert_eq!(
            names(&stream).iter().map(|name| name.trim_end_matches('/')).collect::<Vec<_>>(),
            expected
        );
        assert_eq!((packed.entries, packed.bytes), (3, 6));
    }

    #[test]
    fn settings_come_first_and_are_taken_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("main.py"), "").unwrap();
        let settings = Settings { start: Some("python3 main.py".into()), ..Settings::default() };
        let mut stream = Vec::new();
        pack(root.path(), &settings, &mut stream).unwrap();
        let mut rest = &*stream;
        assert_eq!(take_settings(&mut rest).unwrap(), settings);
        assert_eq!(names(rest).len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            let _ = take_settings(&mut &*bytes);
        }
    }
}
