//! The thread that writes: what waits becomes entries, which are written together and synced once.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kernel::{
    Error, Result,
    ports::{LogSource, LogStream},
};

use tokio::sync::oneshot::Sender;

use crate::{
    disk::Log,
    engine::Shared,
    lines::{self, Origin, Streams},
    queue::{Batch, Dropped, Job},
    record::Pending,
};

/// How often the room on the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the writer. It ends when the queue is closed and empty.
pub(crate) fn spawn(shared: Arc<Shared>, log: Log, dir: PathBuf) -> io::Result<JoinHandle<()>> {
    let mut writer = Writer {
        shared,
        log,
        dir,
        streams: Streams::default(),
        looked: None,
        sync_at: None,
        lost: Dropped::default(),
    };
    std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.run())
}

struct Writer {
    shared: Arc<Shared>,
    log: Log,
    dir: PathBuf,
    streams: Streams,
    /// When the disk was looked at, and whether it had room.
    looked: Option<(Instant, Room)>,
    sync_at: Option<Instant>,
    /// Lines that could not be written, to be told of when something can.
    lost: Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Full,
}

impl Writer {
    fn run(&mut self) {
        let mut batch = Batch::default();
        while self.shared.queue.take(&mut batch, self.sync_at) {
            self.round(&mut batch);
            if self.sync_at.is_some_and(|at| at <= Instant::now()) {
                self.sync_late();
            }
        }
        self.sync_late();
        if let Err(error) = self.log.close() {
            tracing::warn!("the log's index could not be written: {error}");
        }
    }

    /// Writes a batch, and tells those who wait.
    fn round(&mut self, batch: &mut Batch) {
        let jobs = std::mem::take(&mut batch.jobs);
        if let Err(failure) = self.workloads(batch).and_then(|()| Ok(self.log.write()?)) {
            tracing::warn!("entries of workloads could not be written: {failure:?}");
            self.lose(batch);
        }
        self.clients(jobs);
        self.sync_at = match self.log.is_dirty() {
            true => self.sync_at.or_else(|| Some(Instant::now() + self.shared.options.sync)),
            false => None,
        };
    }

    /// Does what callers wait for. All of their entries are synced together, and safe or refused together.
    fn clients(&mut self, jobs: Vec<Job>) {
        let (mut writers, mut others) = (Vec::new(), Vec::new());
        let mut written = Ok(());
        for job in jobs {
            match job {
                Job::Write(entries, done) => {
                    written = written.and_then(|()| self.put_all(&entries));
                    writers.push(done);
                }
                other => others.push(other),
            }
        }
        if !writers.is_empty() {
            let safe = written.and_then(|()| Ok(self.log.write().and_then(|()| self.log.sync())?));
            self.tell(writers, safe);
        }
        // By now everything that came before them is there to be read.
        for job in others {
            match job {
                Job::Delete { log, until, done } => {
                    let deleted = self.shared.disk.delete(&log, until).map_err(Error::internal);
                    drop(done.send(deleted));
                }
                Job::Flush(done) | Job::Write(_, done) => drop(done.send(Ok(()))),
            }
        }
    }

    /// Answers those whose entries were written together. Whoever has gone away needs no answer.
    fn tell(&self, writers: Vec<Sender<Result<()>>>, safe: Result<(), Failure>) {
        let safe = safe.map_err(|failure| failure.tell(&self.dir));
        if let Err(error) = &safe {
            tracing::warn!("entries could not be written: {error:?}");
        }
        for done in writers {
            let answer = match &safe {
                Ok(()) => Ok(()),
                Err(error) => Err(Error::new(error.code(), error.message())),
            };
            drop(done.send(answer));
        }
    }

    fn sync_late(&mut self) {
        self.sync_at = None;
        if let Err(error) = self.log.sync() {
            tracing::warn!("entries could not be synced: {error}");
        }
    }

    /// Makes entries of what workloads wrote.
    fn workloads(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if batch.lines.is_empty() && batch.requests.is_empty() && batch.dropped.is_empty() {
            return Ok(());
        }
        self.room()?;
        let shared = self.shared.clone();
        for line in &batch.lines {
            let stream = self.streams.of(&line.source, Origin::Output(line.stream));
            let text = batch.text(line);
            let entry =
                lines::entry(stream, line.stream, text, line.received, || shared.ids.next(line.received));
            self.log.put(&entry)?;
        }
        for (source, run) in batch.requests.runs() {
            let stream = self.streams.of(source, Origin::Requests);
            for request in run {
                self.log.put_encoded(&stream, request.moment, batch.requests.own(request))?;
            }
        }
        let mut dropped = self.lost.take();
        dropped.extend(batch.dropped.take());
        for (source, count) in dropped {
            self.put_dropped(&source, count)?;
        }
        Ok(())
    }

    /// Tells in the log how much of it is missing.
    fn put_dropped(&mut self, source: &LogSource, count: u64) -> io::Result<()> {
        let stream = self.streams.of(source, Origin::Output(LogStream::System));
        let now = self.shared.now();
        let text =
            format!("{count} log entries were dropped because they came faster than they could be written.");
        self.log.put(&lines::warning(stream, text, now, self.shared.ids.next(now)))
    }

    /// Counts the lines of a batch that could not be written.
    fn lose(&mut self, batch: &mut Batch) {
        let lines = batch.lines.iter().map(|line| (&line.source, 1));
        let requests = batch.requests.runs().map(|(source, run)| (source, run.len() as u64));
        for (source, count) in lines.chain(requests) {
            self.lost.add(source, count);
        }
        for (source, count) in batch.dropped.take() {
            self.lost.add(&source, count);
        }
    }

    fn put_all(&mut self, entries: &[Pending]) -> Result<(), Failure> {
        self.room()?;
        for entry in entries {
            self.log.put(entry)?;
        }
        Ok(())
    }

    /// Whether the disk has room, as of a second ago.
    fn room(&mut self) -> Result<(), Failure> {
        let fresh = self.looked.filter(|(at, _)| at.elapsed() < LOOK);
        let room = match fresh {
            Some((_, room)) => room,
            None => {
                let stat = rustix::fs::statvfs(&self.dir).map_err(io::Error::from)?;
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let room = if free < self.shared.options.reserve_bytes { Room::Full } else { Room::Enough };
                self.looked = Some((Instant::now(), room));
                room
            }
        };
        if room == Room::Enough { Ok(()) } else { Err(Failure::Full) }
    }
}

/// Why entries were not written.
#[derive(Debug)]
enum Failure {
    Full,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::Full,
            _ => Failure::Io(error),
        }
    }
}

impl Failure {
    fn tell(self, dir: &std::path::Path) -> Error {
        match self {
            Failure::Io(error) => Error::internal(error),
            Failure::Full => Error::exhausted(format!(
                "The disk that holds {} is full: nothing can be written until there is room.",
                dir.display()
            )),
        }
    }
}
