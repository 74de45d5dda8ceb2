//! The engine: a queue, the thread that writes it to disk, and searches over what is there.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, UNIX_EPOCH},
};

use apis::google::logging::v2::LogEntry;
use kernel::{
    Error, Result,
    clock::Clock,
    ports::{LogSource, LogStream, Project, Projects},
};

use crate::{
    disk::Disk,
    queue::{Job, Queue},
    record::{self, Pending},
    request::RequestEntry,
    search::{self, Page, Query},
    writer,
};

/// How entries are kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most bytes that all entries may take on disk; at least 256 KiB. The oldest go first.
    pub cap_bytes: u64,
    /// With fewer free bytes on the disk than this, entries are refused and reads go on.
    pub reserve_bytes: u64,
    /// The most bytes of lines that may wait to be written. More are dropped and counted.
    pub queue_bytes: usize,
    /// How long lines may wait to be written together.
    pub gather: Duration,
    /// How long what was written may stay unsynced.
    pub sync: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cap_bytes: 1 << 30,
            reserve_bytes: 1 << 30,
            queue_bytes: 8 << 20,
            gather: Duration::from_millis(50),
            sync: Duration::from_secs(1),
        }
    }
}

/// Cloud Logging. When the last handle is dropped, what waits is written and synced.
pub struct Logging {
    shared: Arc<Shared>,
    projects: Arc<dyn Projects>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine and its writer share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<Disk>,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) options: Options,
}

impl Shared {
    /// The time now, in nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        let since = self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl Logging {
    /// Opens the entries in a directory, making it if it is not there.
    ///
    /// # Errors
    /// `INTERNAL` for a directory that cannot be read or written.
    pub fn open(dir: &Path, clock: Clock, projects: Arc<dyn Projects>) -> Result<Arc<Logging>> {
        Logging::open_with(dir, clock, projects, Options::default())
    }

    /// The same, with settings.
    ///
    /// # Errors
    /// As [`Logging::open`].
    pub fn open_with(
        dir: &Path,
        clock: Clock,
        projects: Arc<dyn Projects>,
        options: Options,
    ) -> Result<Arc<Logging>> {
        let (disk, log) = Disk::open(dir, &options).map_err(Error::internal)?;
        let queue = Queue::new(options.queue_bytes, options.gather);
        let shared = Arc::new(Shared { disk, queue, clock, ids: Ids::new(), options });
        let writer = writer::spawn(shared.clone(), log, dir.to_owned()).map_err(Error::internal)?;
        Ok(Arc::new(Logging { shared, projects, writer: Mutex::new(Some(writer)) }))
    }

    /// Takes in one request for the request log, and of whom it was asked; the instance is empty when none answered.
    /// Never waits.
    pub fn request(&self, source: &LogSource, entry: &RequestEntry<'_>) {
        let now = self.shared.now();
        self.shared.queue.request(source, entry, self.shared.ids.take(now).as_str(), now);
    }

    /// Takes in an entry that names its log and resource, such as one of the audit log. Never waits; the entry is safe
    /// soon after.
    pub fn entry(&self, entry: LogEntry) {
        let entry = LogEntry { insert_id: self.insert_id(), ..entry };
        let pending = record::split(entry, self.now());
        let (done, _) = tokio::sync::oneshot::channel();
        self.shared.queue.job(Job::Write(vec![pending], done));
    }

    /// Writes what waits, and leaves the log so that its end need not be read when it is opened again. What comes
    /// later is dropped. Takes as long as the disk.
    pub fn close(&self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the log's writer failed");
        }
    }

    /// How many bytes the entries take on disk, but for their indexes (less than a hundredth).
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk.bytes()
    }

    /// How many bytes wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.shared.queue.bytes()
    }

    /// The project with this id or number.
    pub(crate) async fn project(&self, id_or_number: &str) -> Result<Project> {
        match self.projects.known(id_or_number) {
            Some(project) => Ok(project),
            None => self.projects.resolve(id_or_number).await,
        }
    }

    /// The time now, in nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.shared.now()
    }

    /// A new id for an entry, higher than every one before.
    pub(crate) fn insert_id(&self) -> String {
        self.shared.ids.next(self.now())
    }

    /// Writes entries, and returns when they are safe.
    pub(crate) async fn write(&self, entries: Vec<Pending>) -> Result<()> {
        self.job(|done| Job::Write(entries, done)).await
    }

    /// Deletes what a log has, and what arrives later for the time until now.
    pub(crate) async fn delete(&self, log: String) -> Result<()> {
        if !self.logs(log.clone()).await?.contains(&log) {
            return Err(Error::not_found(format!("Log {log} does not exist")));
        }
        let until = self.now();
        self.job(|done| Job::Delete { log, until, done }).await
    }

    /// The names of the logs that have entries and begin like this, in order.
    pub(crate) async fn logs(&self, prefix: String) -> Result<Vec<String>> {
        self.job(Job::Flush).await?;
        let disk = self.shared.disk.clone();
        blocking(move || search::logs(&disk, &prefix)).await
    }

    /// The entries that a query asks for, what was taken in before the call included.
    pub(crate) async fn search(&self, query: Query) -> Result<Page> {
        self.job(Job::Flush).await?;
        let disk = self.shared.disk.clone();
        blocking(move || search::entries(&disk, &query)).await
    }

    async fn job(&self, job: impl FnOnce(tokio::sync::oneshot::Sender<Result<()>>) -> Job) -> Result<()> {
        let (done, answer) = tokio::sync::oneshot::channel();
        self.shared.queue.job(job(done));
        answer.await.unwrap_or_else(|_| Err(Error::unavailable("The log is closing.")))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?.map_err(Error::internal)
}

impl kernel::ports::Logs for Logging {
    fn line(&self, source: &LogSource, stream: LogStream, line: &str) {
        self.shared.queue.line(source, stream, line, self.shared.now());
    }

    fn tail(&self, source: &LogSource, lines: usize) -> Vec<String> {
        self.shared.queue.tail(source, lines)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ids that go up: entries of one moment are shown in the order of their ids. Those of two runs of this program
/// differ even where the clock was set back in between.
pub(crate) struct Ids {
    last: AtomicU64,
    run: [u8; RUN],
}

impl Ids {
    fn new() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let run = RandomState::new().build_hasher().finish();
        Ids { last: AtomicU64::new(0), run: base36::<RUN>(run) }
    }

    /// The next id, at this moment in nanoseconds.
    pub(crate) fn next(&self, now: i64) -> String {
        self.take(now).as_str().to_owned()
    }

    /// The same, without an allocation.
    pub(crate) fn take(&self, now: i64) -> Id {
        let now = u64::try_from(now).unwrap_or_default();
        let after = |last: u64| now.max(last.wrapping_add(1));
        let step = |last| Some(after(last));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let mut id = [0; MOMENT + RUN];
        id[..MOMENT].copy_from_slice(&base36::<MOMENT>(after(last.unwrap_or_else(|last| last))));
        id[MOMENT..].copy_from_slice(&self.run);
        Id(id)
    }
}

/// How many digits of an id tell the moment, and how many the run of this program.
const MOMENT: usize = 13;
const RUN: usize = 4;

/// An id: 17 digits and letters.
pub(crate) struct Id([u8; MOMENT + RUN]);

impl Id {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        // They are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The last digits of a number.
fn base36<const N: usize>(mut number: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    digits
}
