//! The run directory: a short path for sockets, gone when the machine restarts.
//!
//! A Unix socket's path has at most 107 bytes, and a data directory may be anywhere; so sockets lie in `/run/haar/ID`
//! (root) or `$XDG_RUNTIME_DIR/haar/ID`, or where that cannot be, in a directory of this user's in `/tmp`. Those of
//! PostgreSQL and the ones that instances find lie side by side on one filesystem, because the second are links to
//! the first.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;

use crate::{
    data::DataDir,
    report::{Doing, Result},
};

/// Where the volumes of instances are in it.
pub const VOLUMES: &str = "volumes";
/// What is left of 107 bytes for the run directory: sockets are at most `/sql/` and 16 digits below it.
const LONGEST: usize = 70;

/// Makes the run directory of a data directory.
pub fn make(data: &DataDir) -> Result<PathBuf> {
    let id = data.id();
    let mut made = Err(io::Error::other("no place is short enough"));
    for base in places() {
        made = own(&base).and_then(|()| own(&base.join(&id))).map(|()| base.join(&id));
        if made.is_ok() {
            break;
        }
    }
    made.doing("make a directory for sockets")
}

/// Removes what a haar that was killed has left of it. Nobody may be running.
pub fn remove(data: &DataDir) {
    for own in places().into_iter().map(|base| base.join(data.id())) {
        let _ = run::forget_volumes(&own.join(VOLUMES));
        let _ = fs::remove_dir_all(own);
    }
}

/// Where it may be, the best place first.
fn places() -> Vec<PathBuf> {
    let user = geteuid();
    let usual = match user.is_root() {
        true => Some(PathBuf::from("/run")),
        false => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()),
    };
    let last = PathBuf::from(format!("/tmp/haar-{}", user.as_raw()));
    let is_short = |path: &PathBuf| path.as_os_str().len() + "/0123456789abcdef".len() <= LONGEST;
    usual.map(|usual| usual.join("haar")).into_iter().chain([last]).filter(is_short).collect()
}

/// A directory of ours. PostgreSQL's user, who is another one when haar is root, may pass through it.
fn own(path: &Path) -> io::Result<()> {
    let mode = if geteuid().is_root() { 0o711 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In /tmp anybody may have made it, or a link in its place.
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to somebody else", path.display())));
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_ours_alone_is_left() {
        let base = std::env::temp_dir().join(format!("haar-run-{}", std::process::id()));
        own(&base).unwrap();
        own(&base).unwrap();
        std::os::unix::fs::symlink(&base, base.join("link")).unwrap();
        assert!(own(&base.join("link")).is_err());
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn every_place_leaves_room_for_sockets() {
        for place in places() {
            let socket = place.join("0123456789abcdef/sql/0123456789abcdef/.s.PGSQL.5432");
            assert!(socket.as_os_str().len() <= 107, "{}", socket.display());
        }
    }
}
