//! The directory that builds have to themselves.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::disk;

/// The size above which what pip has fetched for a project is thrown away before more is fetched, in bytes.
const MAX_CACHE: u64 = 2 << 30;
/// After how long without a build what pip has fetched for a project is thrown away.
const MAX_AGE: Duration = Duration::from_hours(30 * 24);
/// How often, and after what pause, it is tried to remove what something may still be running in.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);
/// Where steps write, where that is put away at a start, and where pip's caches are.
const SCRATCH: &str = "scratch";
const LEFT: &str = "left-";
const PIP: &str = "pip";
/// What earlier versions called the cache, which was then all projects' own.
const OLD_PIP: &str = "pip-cache";

/// The directory.
pub(crate) struct Files {
    root: PathBuf,
    next: AtomicU64,
    /// The projects whose cache a build has now.
    lent: Mutex<BTreeSet<String>>,
}

impl Files {
    /// Opens it, and begins to remove what dead builds left in it.
    pub(crate) fn open(root: &Path) -> io::Result<Files> {
        for old in [SCRATCH, OLD_PIP].map(|old| root.join(old)) {
            if old.exists() {
                let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
                fs::rename(&old, root.join(format!("{LEFT}{}-{since}", std::process::id())))?;
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(SCRATCH))?;
        remove_left(root.to_owned());
        let next = AtomicU64::new(u64::from(std::process::id()) << 32);
        Ok(Files { root: root.to_owned(), next, lent: Mutex::default() })
    }

    /// An empty directory for what a step writes outside of what it is given.
    pub(crate) fn scratch(&self) -> io::Result<Scratch> {
        let path = self.root.join(SCRATCH).join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }

    /// Where pip keeps what it has fetched for a project, and for that one only: what a build puts there is installed by
    /// later ones. `None` while another build has it.
    pub(crate) fn pip_cache(&self, project: &str) -> Option<Cache<'_>> {
        let is_name = !project.is_empty() && !project.starts_with('.') && !project.contains(['/', '\0']);
        if !is_name || !self.lent().insert(project.to_owned()) {
            return None;
        }
        let path = self.root.join(PIP).join(project);
        Some(Cache { files: self, project: project.to_owned(), path })
    }

    fn lent(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a dead build left may be large, and may be other users' of its namespace, who cannot be told to remove it; it is
/// in nobody's way.
fn remove_left(root: PathBuf) {
    std::thread::spawn(move || {
        let entries = fs::read_dir(&root).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(LEFT)) {
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, "what an interrupted build left could not be removed");
            }
        }
    });
}

/// What pip has fetched for a project, for one build at a time: two would give it to their steps, and take it back, under
/// each other's hands.
pub(crate) struct Cache<'a> {
    files: &'a Files,
    project: String,
    path: PathBuf,
}

impl Cache<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cache<'_> {
    fn drop(&mut self) {
        self.files.lent().remove(&self.project);
    }
}

/// Makes a cache fit for a build: made where it is not there, emptied where it has grown too large, and those of other
/// projects thrown away that no build has had for long. Blocks; the cache must be ours.
pub(crate) fn trim_cache(cache: &Path) -> io::Result<()> {
    trim(cache, MAX_CACHE, MAX_AGE)
}

fn trim(cache: &Path, most: u64, age: Duration) -> io::Result<()> {
    if disk::size(cache) > most {
        fs::remove_dir_all(cache)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(cache)?;
    fs::File::open(cache)?.set_modified(SystemTime::now())?;
    let others = cache.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
    for other in others.filter(|other| other.path() != cache) {
        let modified = other.metadata().and_then(|found| found.modified());
        if modified.is_ok_and(|then| then.elapsed().is_ok_and(|since| since > age)) {
            // What a killed build left to users who are not haar's stays, and is no reason to go without a cache.
            if let Err(error) = fs::remove_dir_all(other.path()) {
                tracing::warn!(%error, cache = %other.path().display(), "an old cache cannot be removed");
            }
        }
    }
    Ok(())
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
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(remove(self.0.clone()))),
            Err(_) => drop(fs::remove_dir_all(&self.0)),
        }
    }
}

/// Removes a directory as soon as that is possible: what was killed in it may need a moment to end.
async fn remove(path: PathBuf) {
    in_time(&path, || async {
        let path = path.clone();
        tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await?
    })
    .await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_s_cache_is_its_own_and_one_build_s_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(root.path()).unwrap();
        let first = files.pip_cache("p1").unwrap();
        assert!(files.pip_cache("p1").is_none());
        assert_ne!(files.pip_cache("p2").unwrap().path(), first.path());
        drop(first);
        assert!(files.pip_cache("p1").is_some());
        for none in ["", "..", "../p1", "a/b"] {
            assert!(files.pip_cache(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_cache_has_a_size_and_an_age() {
        let root = tempfile::tempdir().unwrap();
        let [used, unused] = ["used", "unused"].map(|name| root.path().join(name));
        trim(&unused, 1 << 20, MAX_AGE).unwrap();
        trim(&used, 1 << 20, MAX_AGE).unwrap();
        fs::write(used.join("wheel"), vec![1; 100 << 10]).unwrap();
        trim(&used, 1 << 20, MAX_AGE).unwrap();
        assert!(used.join("wheel").exists() && unused.exists());
        let long_ago = SystemTime::now() - 2 * MAX_AGE;
        fs::File::open(&unused).unwrap().set_modified(long_ago).unwrap();
        trim(&used, 10 << 10, MAX_AGE).unwrap();
        assert!(used.exists() && !used.join("wheel").exists(), "it was too large");
        assert!(!unused.exists(), "nobody had it for long");
    }

    #[test]
    fn what_a_dead_build_left_goes_away() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("scratch/7/work")).unwrap();
        fs::create_dir_all(root.path().join("pip-cache/http/a")).unwrap();
        let files = Files::open(root.path()).unwrap();
        let scratch = files.scratch().unwrap();
        assert!(scratch.path().is_dir() && !root.path().join("scratch/7").exists());
        let left = || fs::read_dir(root.path()).unwrap().flatten().count();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while left() > 1 && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(left(), 1, "only the scratch directory is there");
    }
}
