//! Secrets as files: each version that a volume names is a file of its own, in memory.
//!
//! Cloud Run reads a secret whenever its file is read; here it is read when the instance starts and again within a
//! second, so a new version is seen that late, and what may not be read any more is gone that late. Whoever has a file
//! open goes on reading what it was.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use kernel::ports::{LogStream, SecretPayload};
use tokio::{task::AbortHandle, time::sleep};

use super::{Whose, make_directory, set_mode};
use crate::{
    plan,
    record::{SecretFile, SecretFiles, SecretVersion},
    words,
};

/// How often secrets are read again.
const AGAIN: Duration = Duration::from_secs(1);
/// Who may read files unless said otherwise: everybody.
const MODE: u32 = 0o444;

/// Writes the files into a directory and keeps them right until the task is ended.
pub(super) async fn open(whose: Whose, home: &Path, asked: &SecretFiles) -> io::Result<AbortHandle> {
    let mut files: Vec<_> = items(asked).into_iter().map(|item| Kept::new(home, asked, item)).collect();
    for file in &mut files {
        file.look(&whose).await?;
    }
    let watch = async move {
        loop {
            sleep(AGAIN).await;
            for file in &mut files {
                if let Err(error) = file.look(&whose).await {
                    tracing::warn!("{} cannot be written: {error}", file.path.display());
                }
            }
        }
    };
    Ok(tokio::spawn(watch).abort_handle())
}

/// The versions that a volume shows; all of them are checked before a revision serves.
pub(crate) fn versions(asked: &SecretFiles) -> impl Iterator<Item = SecretVersion> {
    let secret = asked.secret.clone();
    items(asked).into_iter().map(move |item| SecretVersion { secret: secret.clone(), version: item.version })
}

/// The files that a volume has. One that names none has the latest version in a file named like the secret.
fn items(asked: &SecretFiles) -> Vec<SecretFile> {
    if !asked.items.is_empty() {
        return asked.items.clone();
    }
    let name = asked.secret.rsplit('/').next().unwrap_or_default().to_owned();
    vec![SecretFile { path: name, version: "latest".into(), mode: 0 }]
}

/// One file.
struct Kept {
    wanted: SecretVersion,
    home: PathBuf,
    path: PathBuf,
    mode: u32,
    now: Now,
}

/// What it holds.
enum Now {
    Nothing,
    /// The version by its full name; a version never changes.
    Version(String),
    /// Nothing, for this reason.
    Refused(String),
}

impl Kept {
    fn new(home: &Path, asked: &SecretFiles, item: SecretFile) -> Kept {
        let mode = [item.mode, asked.default_mode].into_iter().find(|mode| *mode != 0).unwrap_or(MODE);
        let wanted = SecretVersion { secret: asked.secret.clone(), version: item.version };
        Kept { wanted, home: home.to_owned(), path: plain(&item.path), mode: mode & 0o777, now: Now::Nothing }
    }

    /// Reads the secret and writes what is new. What cannot be read is no longer there, and the log says why.
    async fn look(&mut self, whose: &Whose) -> io::Result<()> {
        let project = &whose.source.project;
        match plan::payload(&whose.ports, project, &whose.account, &self.wanted).await {
            Ok(payload) if matches!(&self.now, Now::Version(known) if *known == payload.version) => {}
            Ok(payload) => {
                self.write(&payload)?;
                self.now = Now::Version(payload.version);
            }
            Err(failure) if matches!(&self.now, Now::Refused(known) if *known == failure.message) => {}
            Err(failure) => {
                let _ = fs::remove_file(self.home.join(&self.path));
                whose.ports.logs.line(&whose.source, LogStream::System, &words::error(&failure.message));
                self.now = Now::Refused(failure.message);
            }
        }
        Ok(())
    }

    /// Writes the file beside its place, then puts it there at once.
    fn write(&self, payload: &SecretPayload) -> io::Result<()> {
        let path = self.home.join(&self.path);
        self.make_parents()?;
        let new = path.with_added_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&payload.data)?;
        set_mode(&new, self.mode)?;
        fs::rename(&new, &path)
    }

    fn make_parents(&self) -> io::Result<()> {
        let mut directory = self.home.clone();
        for part in self.path.parent().into_iter().flat_map(Path::components) {
            directory.push(part);
            if !directory.exists() {
                make_directory(&directory, 0o755)?;
            }
        }
        Ok(())
    }
}

/// A path that stays below where it begins; checked before it was stored.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}
