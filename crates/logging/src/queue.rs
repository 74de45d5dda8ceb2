//! What waits to be written: lines and requests, which never wait for room, and jobs, whose callers wait.

use std::{
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kernel::{
    Result,
    ports::{LONGEST_LINE, LogSource, LogStream},
};
use tokio::sync::oneshot::Sender;

use crate::{
    record::{Moment, Pending},
    request::RequestEntry,
    tails::Tails,
};

/// The most revisions of which dropped lines are counted apart.
const DROPPED_SOURCES: usize = 64;

/// Something a caller waits for.
pub(crate) enum Job {
    /// Write these, and sync.
    Write(Vec<Pending>, Sender<Result<()>>),
    /// Make everything taken in before readable.
    Flush(Sender<Result<()>>),
    /// Delete what a log has.
    Delete {
        /// The log's name.
        log: String,
        /// Up to when.
        until: i64,
        /// Who waits.
        done: Sender<Result<()>>,
    },
}

/// A line that waits.
pub(crate) struct Line {
    pub(crate) source: LogSource,
    pub(crate) stream: LogStream,
    pub(crate) received: i64,
    text: Range<usize>,
}

/// A request that waits, encoded.
pub(crate) struct Request {
    /// Which of the batch's sources it is of.
    source: usize,
    pub(crate) moment: Moment,
    own: Range<usize>,
}

/// Requests that wait. They come in runs of one instance's, whose source is kept once.
#[derive(Default)]
pub(crate) struct Requests {
    sources: Vec<LogSource>,
    list: Vec<Request>,
    encoded: Vec<u8>,
}

impl Requests {
    /// All of them, by runs of one source.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&LogSource, &[Request])> {
        let runs = self.list.chunk_by(|a, b| a.source == b.source);
        runs.filter_map(|run| Some((self.sources.get(run.first()?.source)?, run)))
    }

    /// The fields of an entry that are its own.
    pub(crate) fn own(&self, request: &Request) -> &[u8] {
        self.encoded.get(request.own.clone()).unwrap_or_default()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, source: &LogSource, entry: &RequestEntry<'_>, insert_id: &str, received: i64) {
        if self.sources.last() != Some(source) {
            self.sources.push(source.clone());
        }
        let start = self.encoded.len();
        entry.encode(source, insert_id, &mut self.encoded);
        let moment = Moment { severity: entry.severity(), time: entry.nanos(received), received };
        let own = start..self.encoded.len();
        self.list.push(Request { source: self.sources.len() - 1, moment, own });
    }

    fn bytes(&self) -> usize {
        self.encoded.len()
            + self.list.len() * size_of::<Request>()
            + self.sources.len() * size_of::<LogSource>()
    }

    /// Empties them, keeping a little memory for the next time.
    fn clear(&mut self) {
        self.sources.clear();
        self.sources.shrink_to(16);
        self.list.clear();
        self.list.shrink_to(64);
        self.encoded.clear();
        self.encoded.shrink_to(16 << 10);
    }
}

/// What is handed to the writer at once.
#[derive(Default)]
pub(crate) struct Batch {
    text: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) requests: Requests,
    pub(crate) jobs: Vec<Job>,
    /// How many lines and requests were dropped, by where they came from.
    pub(crate) dropped: Dropped,
}

/// How many entries are missing from the log, by where they came from.
#[derive(Default)]
pub(crate) struct Dropped(Vec<(LogSource, u64)>);

impl Dropped {
    /// Counts so many more. When too many sources are counted, a few are counted with another.
    pub(crate) fn add(&mut self, source: &LogSource, count: u64) {
        let known = self.0.iter().position(|(known, _)| known == source);
        match known.or_else(|| (self.0.len() >= DROPPED_SOURCES).then_some(0)) {
            Some(at) => self.0[at].1 += count,
            None => self.0.push((source.clone(), count)),
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The counts, which then begin anew.
    pub(crate) fn take(&mut self) -> Vec<(LogSource, u64)> {
        std::mem::take(&mut self.0)
    }
}

impl Batch {
    /// The text of one of the lines.
    pub(crate) fn text(&self, line: &Line) -> &str {
        self.text.get(line.text.clone()).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.requests.is_empty() && self.jobs.is_empty() && self.dropped.is_empty()
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line>() + self.requests.bytes()
    }

    /// Empties it, keeping a little memory for the next time.
    fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(16 << 10);
        self.lines.clear();
        self.lines.shrink_to(64);
        self.requests.clear();
        self.jobs = Vec::new();
        self.dropped = Dropped::default();
    }
}

/// The queue.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    most: usize,
    gather: Duration,
}

#[derive(Default)]
struct State {
    batch: Batch,
    tails: Tails,
    writer: Writer,
    closed: bool,
}

/// What the writer is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    /// It writes, or gathers lines: no line needs to wake it.
    #[default]
    Busy,
    /// It sleeps until there is something.
    Idle,
}

impl Queue {
    /// A queue for so many bytes, which are taken together every so often.
    pub(crate) fn new(most: usize, gather: Duration) -> Self {
        Queue { state: Mutex::default(), wake: Condvar::new(), most, gather }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a line that arrived now.
    pub(crate) fn line(&self, source: &LogSource, stream: LogStream, line: &str, now: i64) {
        let line = &line[..line.floor_char_boundary(LONGEST_LINE)];
        let state = &mut *self.lock();
        state.tails.push(source, line);
        if state.batch.bytes() + line.len() > self.most {
            state.batch.dropped.add(source, 1);
        } else {
            let start = state.batch.text.len();
            state.batch.text.push_str(line);
            let text = start..state.batch.text.len();
            state.batch.lines.push(Line { source: source.clone(), stream, received: now, text });
        }
        self.wake_idle(state);
    }

    /// Takes in a request that ended now.
    pub(crate) fn request(&self, source: &LogSource, entry: &RequestEntry<'_>, insert_id: &str, now: i64) {
        let state = &mut *self.lock();
        if state.batch.bytes() > self.most {
            state.batch.dropped.add(source, 1);
        } else {
            state.batch.requests.push(source, entry, insert_id, now);
        }
        self.wake_idle(state);
    }

    /// Wakes the writer if it sleeps, or gathers while room gets scarce.
    fn wake_idle(&self, state: &mut State) {
        if state.writer == Writer::Idle || state.batch.bytes() > self.most / 2 {
            state.writer = Writer::Busy;
            self.wake.notify_one();
        }
    }

    /// Takes in a job. After the queue was closed it is dropped, and its caller told so.
    pub(crate) fn job(&self, job: Job) {
        let mut state = self.lock();
        if !state.closed {
            state.batch.jobs.push(job);
            self.wake.notify_one();
        }
    }

    /// The last lines of a revision, the oldest first.
    pub(crate) fn tail(&self, source: &LogSource, lines: usize) -> Vec<String> {
        self.lock().tails.last(source, lines)
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().batch.bytes()
    }

    /// Ends the queue: what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Swaps what waits for an empty batch, waiting until there is something or it is time to sync; `false`
    /// when the queue is closed and empty.
    pub(crate) fn take(&self, batch: &mut Batch, sync_at: Option<Instant>) -> bool {
        batch.clear();
        let mut state = self.lock();
        while state.batch.is_empty() && !state.closed {
            let left = sync_at.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return true;
            }
            state.writer = Writer::Idle;
            state = self.sleep(state, left);
        }
        state.writer = Writer::Busy;
        state = self.gather(state);
        std::mem::swap(&mut state.batch, batch);
        !(batch.is_empty() && state.closed)
    }

    /// Lets lines gather for a moment, unless somebody waits.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let until = Instant::now() + self.gather;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let scarce = state.batch.bytes() > self.most / 2;
            if left.is_zero() || scarce || state.closed || !state.batch.jobs.is_empty() {
                return state;
            }
            state = self.sleep(state, Some(left));
        }
    }

    fn sleep<'a>(&'a self, state: MutexGuard<'a, State>, most: Option<Duration>) -> MutexGuard<'a, State> {
        match most {
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(most) => self.wake.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}
