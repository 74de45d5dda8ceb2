//! The directory that builds have to themselves.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The size above which what pip has fetched is thrown away before more is fetched, in bytes.
const MAX_CACHE: u64 = 2 << 30;
/// How often, and after what pause, it is tried to remove what something may still be running in.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// The directory.
pub(crate) struct Files {
    root: PathBuf,
    next: AtomicU64,
}

impl Files {
    /// Opens it, and removes what dead builds left in it.
    pub(crate) fn open(root: &Path) -> io::Result<Files> {
        let scratch = root.join("scratch");
        if let Err(error) = fs::remove_dir_all(&scratch)
            && error.kind() != io::ErrorKind::NotFound
        {
            // What a user's build left may be other users' of its namespace; it is in nobody's way.
            tracing::warn!(%error, "what an interrupted build left could not be removed");
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&scratch)?;
        Ok(Files { root: root.to_owned(), next: AtomicU64::new(u64::from(std::process::id()) << 32) })
    }

    /// An empty directory for what a step writes outside of what it is given.
    pub(crate) fn scratch(&self) -> io::Result<Scratch> {
        let path = self.root.join("scratch").join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    /// Where pip keeps what it has fetched.
    pub(crate) fn pip_cache(&self) -> PathBuf {
        self.root.join("pip-cache")
    }

    /// Empties that directory if it has grown too large.
    pub(crate) fn trim_pip_cache(&self) {
        if size(&self.pip_cache()) > MAX_CACHE {
            let _ = fs::remove_dir_all(self.pip_cache());
        }
    }
}

/// A directory that is removed when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(remove(self.0.clone()));
        }
    }
}

/// Removes a directory as soon as that is possible: what was killed in it may need a moment to end.
async fn remove(path: PathBuf) {
    in_time(&path, || async { fs::remove_dir_all(&path) }).await;
}

/// Tries for a while to remove a directory.
pub(crate) async fn in_time<F>(path: &Path, mut attempt: impl FnMut() -> F)
where
    F: Future<Output = io::Result<()>>,
{
    for _ in 0..TRIES {
        match attempt().await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => tokio::time::sleep(PAUSE).await,
            _ => return,
        }
    }
    tracing::warn!("{} could not be removed", path.display());
}

fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
