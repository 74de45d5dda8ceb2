//! The data directory: where it is, what lies in it, and who is running on it.

use std::{
    ffi::CStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::Write,
    net::SocketAddr,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::report::{Doing, Result, Trouble};

/// A data directory. It need not exist yet.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// What a running haar says of itself, in `run.json`. The file is readable by its owner only, because it holds
/// the key to the control interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    /// The process that serves.
    pub pid: i32,
    /// The process that restarts it, where there is one.
    pub supervisor: Option<i32>,
    /// The address of the port.
    pub listen: SocketAddr,
    /// The version that serves.
    pub version: String,
    /// The project that commands use when none is named.
    pub project: String,
    /// What the control interface asks for.
    pub control_key: String,
}

impl DataDir {
    /// The directory that was named, or the usual one.
    pub fn resolve(named: Option<PathBuf>) -> Result<Self> {
        let path = match named {
            Some(path) => path,
            None => usual()?,
        };
        std::path::absolute(&path).doing(format_args!("find {}", path.display())).map(DataDir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside it.
    pub fn join(&self, part: &str) -> PathBuf {
        self.0.join(part)
    }

    /// A short name for it, the same for every haar that is ever started on it: what control groups and the run
    /// directory carry, so that several haars run side by side.
    pub fn id(&self) -> String {
        let path = fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone());
        let digest = digest(&SHA256, path.as_os_str().as_bytes());
        digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Makes sure that what is there is haar's, or nothing, and closed to other users.
    ///
    /// # Errors
    /// When it holds something else: what a mistyped `--data` names shall not be closed, nor filled.
    pub fn tighten(&self) -> Result<()> {
        let shown = self.0.display();
        let mode = match fs::metadata(&self.0) {
            Ok(found) => found.mode(),
            Err(_) => return Ok(()),
        };
        if !self.is_ours()? {
            return Err(Trouble::new(format!("{shown} holds something else than haar's data"))
                .next("name a new or an empty directory with --data DIR"));
        }
        // PostgreSQL that haar installed for another user than its own is reached by that user's group.
        match mode & 0o067 {
            0 => Ok(()),
            _ => fs::set_permissions(&self.0, Permissions::from_mode(0o700))
                .doing(format_args!("close {shown} to other users")),
        }
    }

    /// Whether a haar was started on it. What was never started on may not be deleted: a directory that holds only
    /// somebody's `images` or `postgres` looks like what commands leave before the first start.
    pub fn was_started_on(&self) -> bool {
        STARTED.iter().any(|mark| self.join(mark).exists())
    }

    /// Whether all that is there is haar's: a haar was started on it, or it holds nothing but what commands leave before
    /// the first start. What is not may not be filled.
    ///
    /// # Errors
    /// When it cannot be read.
    fn is_ours(&self) -> Result<bool> {
        if self.was_started_on() {
            return Ok(true);
        }
        let mut entries = fs::read_dir(&self.0).doing(format_args!("read {}", self.0.display()))?.flatten();
        Ok(entries.all(|entry| EARLY.iter().any(|early| entry.file_name() == *early)))
    }

    /// Makes it, and a directory inside it, private to this user.
    pub fn make(&self, part: &str) -> Result<PathBuf> {
        let path = self.0.join(part);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .doing(format_args!("make {}", path.display()))?;
        Ok(path)
    }

    /// Replaces a small private file in one step, whatever happens to the machine.
    pub fn write(&self, part: &str, content: &[u8]) -> Result<PathBuf> {
        self.replace(part, |fresh| write_private(fresh, content)?.sync_all())
    }

    /// The same for what is true only while this process runs: nobody waits for a disk, and who finds half of it after
    /// the machine went down finds nothing.
    pub fn write_for_now(&self, part: &str, content: &[u8]) -> Result<PathBuf> {
        self.replace(part, |fresh| write_private(fresh, content).map(drop))
    }

    fn replace(&self, part: &str, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<PathBuf> {
        let path = self.0.join(part);
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .doing(format_args!("make {}", parent.display()))?;
        }
        let fresh = path.with_extension(format!("new{}", std::process::id()));
        write(&fresh)
            .and_then(|()| fs::rename(&fresh, &path))
            .doing(format_args!("write {}", path.display()))?;
        Ok(path)
    }

    /// The haar that runs on it now, if one does.
    pub fn running(&self) -> Option<Running> {
        self.described().filter(|running| is_haar(running.pid))
    }

    /// What the last haar on it said of itself, whether it still runs or not.
    pub fn described(&self) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.join("run.json")).ok()?).ok()
    }

    /// The haar that runs on it now, or what to do to have one.
    pub fn require_running(&self) -> Result<Running> {
        self.running().ok_or_else(|| {
            Trouble::new(format!("no haar is running on {}", self.0.display()))
                .next("start one with: haar up --detach")
        })
    }
}

fn usual() -> Result<PathBuf> {
    if geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/haar"));
    }
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    home("XDG_DATA_HOME")
        .or_else(|| Some(home("HOME")?.join(".local/share")))
        .map(|base| base.join("haar"))
        .ok_or_else(|| {
            Trouble::new("neither HOME nor XDG_DATA_HOME is set").next("name a directory with --data DIR")
        })
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<File> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    Ok(file)
}

/// What only a data directory has on which a haar was started.
const STARTED: [&str; 2] = ["FORMAT", "store.redb"];
/// What there is before that: by `haar images`, by `haar sql install`, and by a start that came to nothing.
const EARLY: [&str; 6] = ["images", "postgres", "haar.log", "ca", "LOCK", "FORMAT.new"];

/// What a haar calls its process.
pub const PROCESS_NAME: &CStr = c"haar";

/// Whether a process runs and is a haar: pids are used again, so the name is looked at too. One that has ended counts
/// no more, though its parent may not have looked at it yet.
pub fn is_haar(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    names_haar(&stat)
}

/// Reads `PID (NAME) STATE …` (proc_pid_stat(5)); the name may hold anything.
fn names_haar(stat: &str) -> bool {
    let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    name.is_some_and(|(name, rest)| {
        name.as_bytes() == PROCESS_NAME.to_bytes() && !rest.trim_start().starts_with(['Z', 'X'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_all_haars_is_haars() {
        let home = tempfile::tempdir().unwrap();
        let data = DataDir(home.path().to_owned());
        assert!(data.is_ours().unwrap(), "nothing is there yet");
        data.make("images").unwrap();
        data.make("postgres").unwrap();
        assert!(data.is_ours().unwrap() && data.tighten().is_ok(), "nothing was started yet");
        assert!(!data.was_started_on(), "it may be somebody's own");
        data.make("holidays").unwrap();
        assert!(!data.is_ours().unwrap() && data.tighten().is_err(), "somebody's pictures");
        data.write("FORMAT", b"1").unwrap();
        assert!(data.is_ours().unwrap() && data.was_started_on());
    }

    #[test]
    fn a_haar_is_known_by_its_name_while_it_runs() {
        assert!(names_haar("42 (haar) S 1 42 42 0"));
        assert!(!names_haar("42 (haar) Z 1 42 42 0"), "it has ended");
        assert!(!names_haar("42 (haar) x) S 1") && !names_haar("42 (cat) S 1") && !names_haar(""));
    }
}
