//! The engine that needs nothing besides a directory: one file, one process, one writer.
//!
//! Reads go straight to redb, which never makes a reader wait. Writes go to one thread of their own, so that
//! no async worker ever waits for a disk: it takes everything that is waiting, applies it to one redb
//! transaction, makes that durable with one commit, and answers everybody. Each transaction's conditions are
//! looked at in order and each gets a revision of its own; one that conflicts leaves no trace and does not
//! disturb its neighbours.
//!
//! Watches are served from the newest transactions, which are kept in memory, and from a table of events when
//! they have fallen behind or resume from an older revision; so a slow watch costs no memory. The table keeps
//! [`Options::keep_revisions`] and [`Options::keep_bytes`]; what is older is compacted.
//!
//! When a write fails, the file is opened anew, which brings back the last durable state: reads go on, and so
//! do writes once there is room. Below [`Options::reserve_bytes`] of free disk, writes are refused before they
//! do harm.
//!
//! Left out: encryption (secrets are sealed before they come here), compression, and reads at an old revision.

mod database;
mod directory;
mod file;
mod history;
mod watch;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, backends::FileBackend};
use tokio::sync::{mpsc, oneshot, watch as channel};

use self::{database::Tables, directory::Directory, history::Recent, watch::EmbeddedWatch, writer::Job};
use crate::{
    BoxFuture, Error, Result,
    store::{Entry, Outcome, Revision, Store, Txn, Watch},
};

/// How many transactions may wait for the writer before callers wait to hand theirs over.
const QUEUE: usize = 1024;
/// Ranges up to this many entries are read where they are asked for, larger ones on a blocking thread.
const INLINE_RANGE: usize = 32;

/// What can be chosen about an embedded store.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many bytes redb may keep in memory.
    pub cache_bytes: usize,
    /// How many revisions a watch can go back.
    pub keep_revisions: u64,
    /// How many bytes of events are kept at most.
    pub keep_bytes: u64,
    /// Below this many bytes of free disk, nothing is written.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { cache_bytes: 4 << 20, keep_revisions: 10_000, keep_bytes: 16 << 20, reserve_bytes: 1 << 30 }
    }
}

/// An open directory. Closed when dropped: what was handed over before is still written.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Job>>,
    head: channel::Receiver<Revision>,
    writer: Option<JoinHandle<()>>,
}

/// What readers, watches and the writer have in common.
struct Shared {
    directory: Directory,
    options: Options,
    /// Taken for writing only when the file is opened anew or closed.
    database: RwLock<Option<Database>>,
    /// Set while `database` is held, and never reset.
    is_closed: AtomicBool,
    recent: Recent,
    open_file: OpenFile,
}

/// Opens the file; tests bring one that fails.
type OpenFile = fn(&Directory, &Builder) -> Result<Database>;

impl Embedded {
    /// Opens a directory, which is made if it is missing.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when another process has it open, or a newer haar wrote it; `UNAVAILABLE` when
    /// the disk fails.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Options::default())
    }

    /// Opens a directory with other options than the usual ones.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with(dir: &Path, options: Options) -> Result<Self> {
        Self::open_on(dir, options, open_file)
    }

    fn open_on(dir: &Path, options: Options, open_file: OpenFile) -> Result<Self> {
        let directory = Directory::open(dir)?;
        let shared = Arc::new(Shared {
            directory,
            options,
            database: RwLock::new(None),
            is_closed: AtomicBool::new(false),
            recent: Recent::default(),
            open_file,
        });
        let revision = shared.reopen()?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (publish, head) = channel::channel(revision);
        let writer = writer::start(shared.clone(), jobs, publish)?;
        Ok(Embedded { shared, queue: Some(queue), head, writer: Some(writer) })
    }

    /// Closes the file for good, whoever still holds the store: what is asked of it from then on fails. A file that was
    /// closed needs no repair and one sync less when it is next opened; one that was not is as safe.
    pub fn close(&self) {
        self.shared.close();
    }
}

fn open_file(directory: &Directory, builder: &Builder) -> Result<Database> {
    let file = FileBackend::new(directory.store_file()?).map_err(|e| broken(directory, e))?;
    let (file, _opening) = file::File::new(file);
    builder.create_with_backend(file).map_err(|e| broken(directory, e))
}

impl Shared {
    /// Opens the file, for the first time or anew, and says at which revision it is.
    fn reopen(&self) -> Result<Revision> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Relaxed) {
            return Err(closed());
        }
        drop(database.take());
        let mut builder = Database::builder();
        builder.set_cache_size(self.options.cache_bytes);
        let opened = (self.open_file)(&self.directory, &builder)?;
        let revision = database::prepare(&opened).map_err(|e| broken(&self.directory, e))?;
        *database = Some(opened);
        Ok(revision)
    }

    /// Closes the file for good.
    fn close(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Relaxed);
        *database = None;
    }

    /// Runs a read on the last durable state.
    fn read<R>(&self, read: impl FnOnce(&ReadTransaction) -> Result<R, redb::Error>) -> Result<R> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(closed)?;
        let run = || read(&database.begin_read()?);
        run().map_err(|e| broken(&self.directory, e))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.directory).finish()
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>> {
        // A point read takes about as long as handing it to another thread would.
        Box::pin(std::future::ready(self.shared.read(|txn| Tables::get(txn, key))))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Vec<Entry>, Revision)>> {
        if limit <= INLINE_RANGE {
            return Box::pin(std::future::ready(
                self.shared.read(|txn| Tables::range(txn, prefix, after, limit)),
            ));
        }
        let (shared, prefix, after) = (self.shared.clone(), prefix.to_owned(), after.to_owned());
        let read = move || shared.read(|txn| Tables::range(txn, &prefix, &after, limit));
        Box::pin(async move {
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(closed().because(e)))
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(async move {
            txn.validate()?;
            let (answer, answered) = oneshot::channel();
            let queue = self.queue.as_ref().ok_or_else(closed)?;
            queue.send(Job { txn, answer }).await.map_err(|_| closed())?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>> {
        let watch = EmbeddedWatch::new(self.shared.clone(), prefix.to_owned(), after, self.head.clone());
        Box::pin(std::future::ready(Ok(Box::new(watch) as Box<dyn Watch>)))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // It ends with the queue; a panic in it has been reported already.
            let _ = writer.join();
        }
    }
}

fn closed() -> Error {
    Error::unavailable("The store is closed.")
}

/// What a caller is told when the engine or the disk fails.
fn broken(directory: &Directory, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let dir = directory.path().display();
    match &error {
        redb::Error::Io(io) if is_full(io) => full(directory).because(error),
        redb::Error::DatabaseAlreadyOpen => {
            Error::precondition(format!("data directory {dir} is in use by another process")).because(error)
        }
        _ => Error::unavailable(format!("The store in {dir} cannot be used: {error}")).because(error),
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn full(directory: &Directory) -> Error {
    let dir = directory.path().display();
    Error::exhausted(format!(
        "The disk that holds {dir} is full: nothing can be written until there is room."
    ))
}

#[cfg(test)]
mod tests;
