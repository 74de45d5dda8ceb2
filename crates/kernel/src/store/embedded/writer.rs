//! The thread that writes: takes what is waiting, commits it together, answers everybody.

use std::{
    sync::{Arc, PoisonError},
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Shared, broken, closed, database, full, history::Change};
use crate::{
    Error, Result,
    store::{Outcome, Revision, Txn},
};

/// The most transactions that share a commit.
const GROUP_COUNT: usize = 512;
/// The longest that a group waits for latecomers.
const PATIENCE: Duration = Duration::from_micros(250);
/// A group waits for latecomers this part of what its commit will take.
const PATIENCE_PART: u32 = 8;

/// A transaction and who waits for it.
pub(super) struct Job {
    pub(super) txn: Txn,
    pub(super) answer: oneshot::Sender<Result<Outcome>>,
}

/// Starts the thread. It ends when the queue is closed and empty, and closes the file then.
pub(super) fn start(
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    head: watch::Sender<Revision>,
) -> Result<JoinHandle<()>> {
    let writer = Writer { shared, jobs, head, is_troubled: false, last: Pace::default() };
    Builder::new()
        .name("store".into())
        .stack_size(512 << 10)
        .spawn(move || writer.run())
        .map_err(|e| Error::unavailable(format!("cannot start a thread: {e}")).because(e))
}

struct Writer {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    head: watch::Sender<Revision>,
    /// Whether the last group failed: trouble is logged when it starts, not for every write.
    is_troubled: bool,
    last: Pace,
}

/// How the last group went.
#[derive(Default)]
struct Pace {
    count: usize,
    took: Duration,
}

impl Writer {
    fn run(mut self) {
        let mut group = Vec::new();
        while self.jobs.blocking_recv_many(&mut group, GROUP_COUNT) > 0 {
            self.gather(&mut group);
            let started = Instant::now();
            let (txns, answers): (Vec<Txn>, Vec<_>) =
                group.drain(..).map(|job| (job.txn, job.answer)).unzip();
            self.carry_out(&txns, answers);
            self.last = Pace { count: txns.len(), took: started.elapsed() };
        }
        self.shared.close();
    }

    /// Waits a moment for those who were in the last group and have just been answered: without this the first
    /// of them would be written alone, and the others would wait for it.
    fn gather(&mut self, group: &mut Vec<Job>) {
        let patience = (self.last.took / PATIENCE_PART).min(PATIENCE);
        let deadline = Instant::now() + patience;
        while group.len() < self.last.count {
            match self.jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) if Instant::now() < deadline => thread::yield_now(),
                Err(_) => break,
            }
        }
    }

    fn carry_out(&mut self, txns: &[Txn], answers: Vec<oneshot::Sender<Result<Outcome>>>) {
        if let Err(error) = self.check_room() {
            return self.refuse(answers, &error);
        }
        match self.commit(txns) {
            Ok(outcomes) => self.answer(answers, outcomes),
            Err(error) => {
                self.recover();
                self.refuse(answers, &error);
            }
        }
    }

    fn commit(&self, txns: &[Txn]) -> Result<Vec<Outcome>> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(closed)?;
        let (outcomes, changes) = database::commit(database, &self.shared.options, |group| {
            txns.iter().map(|txn| group.apply(txn)).collect()
        })
        .map_err(|e| broken(&self.shared.directory, e))?;
        self.publish(changes);
        Ok(outcomes)
    }

    fn check_room(&self) -> Result<()> {
        match self.shared.directory.free_bytes() {
            Ok(free) if free < self.shared.options.reserve_bytes => Err(full(&self.shared.directory)),
            _ => Ok(()),
        }
    }

    /// Tells the watches, before the writers: who asks after a write finds it.
    fn publish(&self, changes: Vec<Change>) {
        if let Some(last) = changes.last() {
            let revision = last.revision;
            self.shared.recent.extend(changes.into_iter().map(Arc::new));
            self.head.send_replace(revision);
        }
    }

    fn answer(&mut self, answers: Vec<oneshot::Sender<Result<Outcome>>>, outcomes: Vec<Outcome>) {
        if std::mem::take(&mut self.is_troubled) {
            tracing::info!("the store can be written again");
        }
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may have gone; the write has happened all the same.
            let _ = answer.send(Ok(outcome));
        }
    }

    /// Answers everybody with the error.
    fn refuse(&mut self, answers: Vec<oneshot::Sender<Result<Outcome>>>, error: &Error) {
        if !std::mem::replace(&mut self.is_troubled, true) {
            tracing::error!("{}", error.message());
        }
        for answer in answers {
            let _ = answer.send(Err(Error::new(error.code(), error.message())));
        }
    }

    /// A failed commit leaves redb refusing everything, and may have reached the disk or not: the file says.
    fn recover(&self) {
        self.shared.recent.clear();
        match self.shared.reopen() {
            Ok(revision) => {
                self.head.send_replace(revision);
            }
            Err(error) => tracing::error!("{}", error.message()),
        }
    }
}
