//! What a step of a build fills of the disk, and when that is too much.
//!
//! Steps write to directories on this machine's disk, where layers are made of them without a copy. A limit on the size
//! of files would stop nobody from writing many, and a file system for each step would need root and the copy. So it is
//! looked at what lies there while a step goes on, and whoever has filled too much is ended; what can be written between
//! two looks comes on top. What a step hides from us (in files that it has deleted and holds open, or in directories
//! that only it can read, where instances have user numbers of their own) is found out by what is left of the disk.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, statvfs};

/// The most that a step may have on the disk, in bytes: what it was given included.
pub(crate) const MOST: u64 = 16 << 30;
/// What of the disk a step leaves alone, in bytes.
pub(crate) const RESERVE: u64 = 1 << 30;
/// The most files and directories; the disk's own table of them is finite too.
const MOST_FILES: u64 = 2_000_000;
/// How often it is looked, at most.
const PAUSE: Duration = Duration::from_millis(500);
/// How many times as long as a look nobody looks.
const REST: u32 = 9;
/// How deep it is looked: what lies deeper is not counted.
const DEPTH: u32 = 200;

/// Why a step is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// It has filled more than it may; how many bytes those are.
    Share(u64),
    /// It has made more files than it may.
    Files,
    /// There is hardly anything left of the disk.
    Disk,
}

/// Returns once these directories hold more than they may, or the disk is nearly full.
pub(crate) async fn filled(places: Vec<PathBuf>, most: u64) -> Full {
    loop {
        let begun = Instant::now();
        let looked_at = places.clone();
        if let Ok(Some(full)) = tokio::task::spawn_blocking(move || look(&looked_at, most)).await {
            return full;
        }
        tokio::time::sleep(PAUSE.max(begun.elapsed() * REST)).await;
    }
}

fn look(places: &[PathBuf], most: u64) -> Option<Full> {
    let mut tally = Tally::default();
    places.iter().for_each(|place| tally.add(place));
    let is_disk_full = || places.first().is_some_and(|place| left(place).is_ok_and(|left| left < RESERVE));
    match tally {
        Tally { bytes, .. } if bytes > most => Some(Full::Share(most)),
        Tally { files, .. } if files > MOST_FILES => Some(Full::Files),
        _ => is_disk_full().then_some(Full::Disk),
    }
}

/// What is left of the disk that a path is on, in bytes.
pub(crate) fn left(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What a directory takes of the disk, in bytes.
pub(crate) fn size(directory: &Path) -> u64 {
    let mut tally = Tally::default();
    tally.add(directory);
    tally.bytes
}

/// What was found. Links are not followed, whoever puts them there while it is looked.
#[derive(Default)]
struct Tally {
    bytes: u64,
    files: u64,
}

impl Tally {
    fn add(&mut self, directory: &Path) {
        if let Some(opened) = open(CWD, directory) {
            self.walk(&opened, DEPTH);
        }
    }

    fn walk(&mut self, directory: &OwnedFd, depth: u32) {
        for entry in Dir::read_from(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(found) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.files += 1;
            self.bytes += u64::try_from(found.st_blocks).unwrap_or_default() * 512;
            if depth > 0
                && FileType::from_raw_mode(found.st_mode) == FileType::Directory
                && let Some(inner) = open(directory, name)
            {
                self.walk(&inner, depth - 1);
            }
        }
    }
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_lies_in_a_directory_is_counted_and_links_are_not_followed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("large"), vec![1; 1 << 20]).unwrap();
        fs::create_dir_all(one.path().join("a/b")).unwrap();
        fs::write(one.path().join("a/b/file"), vec![1; 100 << 10]).unwrap();
        symlink(other.path(), one.path().join("a/elsewhere")).unwrap();
        fs::File::create(one.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
        let found = size(one.path());
        assert!((100 << 10..500 << 10).contains(&found), "{found}");
        let places = [one.path().to_owned(), other.path().to_owned()];
        assert_eq!(look(&places[..1], 1 << 20), None);
        assert_eq!(look(&places, 1 << 20), Some(Full::Share(1 << 20)));
        assert_eq!(size(&one.path().join("nothing")), 0);
    }

    #[tokio::test]
    async fn it_is_told_when_too_much_is_there() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let writing = tokio::spawn(async move { tokio::fs::write(path, vec![1; 2 << 20]).await });
        assert_eq!(filled(vec![place.path().to_owned()], 1 << 20).await, Full::Share(1 << 20));
        writing.await.unwrap().unwrap();
    }
}
