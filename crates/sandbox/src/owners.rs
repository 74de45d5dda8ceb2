//! Whose a directory is: given, with all in it, to a user of the inside, and taken back.
//!
//! No link is followed, so only what lies below the directory changes hands, whatever an instance has put there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::thread::Uid;

/// Gives a directory and everything in it to `uid` as this process's namespace numbers it.
pub(crate) fn give(directory: impl AsFd, uid: u32) -> io::Result<()> {
    let opened = open(directory, c".")?;
    rustix::fs::fchown(&opened, Some(Uid::from_raw(uid)), None)?;
    give_content(&opened, uid)
}

fn give_content(directory: &OwnedFd, uid: u32) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let owner = Some(Uid::from_raw(uid));
        rustix::fs::chownat(directory, name, owner, None, AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.file_type() == FileType::Directory {
            give_content(&open(directory, name)?, uid)?;
        }
    }
    Ok(())
}

fn open(at: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}
