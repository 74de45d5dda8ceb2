//! The user that servers run as.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use kernel::{Error, Result};
use tokio::process::Command;

/// Who PostgreSQL runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// As haar itself, who has no rights to drop.
    Ourselves,
    /// As a user without rights, because haar is root.
    User {
        /// The user's number.
        uid: u32,
        /// The number of its group.
        gid: u32,
    },
}

impl RunAs {
    /// Looks at who we are: root runs PostgreSQL as `postgres`, or else as `nobody`.
    pub(crate) fn settle() -> RunAs {
        if !rustix::process::geteuid().is_root() {
            return RunAs::Ourselves;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].iter().find_map(|name| entry(&users, name));
        let (uid, gid) = found.unwrap_or((65_534, 65_534));
        RunAs::User { uid, gid }
    }

    /// Makes a command run as this user.
    pub(crate) fn apply(self, command: &mut Command) {
        if let RunAs::User { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
    }

    /// Gives a path to this user, with this mode.
    pub(crate) fn give(self, path: &Path, mode: u32) -> Result<()> {
        if let RunAs::User { uid, gid } = self {
            chown(path, Some(uid), Some(gid)).map_err(|error| trouble(path, error))?;
        }
        set_mode(path, mode)
    }

    /// Lets this user pass through a directory of ours, and nobody else: by its group.
    pub(crate) fn let_through(self, path: &Path) -> Result<()> {
        match self {
            RunAs::Ourselves => Ok(()),
            RunAs::User { gid, .. } => {
                chown(path, None, Some(gid)).map_err(|error| trouble(path, error))?;
                set_mode(path, 0o710)
            }
        }
    }

    /// Makes sure that this user can enter the directory of PostgreSQL's programs.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`, naming the directory that is closed.
    pub(crate) fn check_reaches(self, bin: &Path) -> Result<()> {
        match self.closed_at(bin) {
            None => Ok(()),
            Some(closed) => Err(Error::precondition(format!(
                "PostgreSQL is in {}, and runs as a user without rights, who cannot enter {}: have PostgreSQL \
                 elsewhere, or let others pass through (chmod o+x).",
                bin.display(),
                closed.display()
            ))),
        }
    }

    /// The first directory on the way to this one that this user cannot pass through.
    fn closed_at(self, path: &Path) -> Option<&Path> {
        let RunAs::User { uid, gid } = self else { return None };
        path.ancestors().filter(|above| !above.as_os_str().is_empty()).find(|above| {
            let Ok(found) = fs::metadata(above) else { return false };
            let bit = match () {
                () if found.uid() == uid => 0o100,
                () if found.gid() == gid => 0o010,
                () => 0o001,
            };
            found.mode() & bit == 0
        })
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| trouble(path, error))
}

/// A trouble with a file, told to the person at the machine.
pub(crate) fn trouble(path: &Path, error: std::io::Error) -> Error {
    Error::precondition(format!("{}: {error}", path.display())).because(error)
}

/// The numbers of a user and its group in `/etc/passwd`. Root's are never given.
fn entry(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (uid != 0).then_some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var:/bin/bash\nbad:x:y\n";
        assert_eq!(entry(users, "postgres"), Some((101, 104)));
        assert_eq!((entry(users, "root"), entry(users, "bad"), entry(users, "none")), (None, None, None));
    }
}
