//! Waiting for an instance, and why a request may be refused one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    RevisionSpec,
    revision::{Revision, Slot},
};

/// Why a request does not get to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All instances there may be are busy, and so is the queue (429).
    NoInstance,
    /// Instances repeatedly did not start (503).
    NotStarting,
    /// The revision is gone (503).
    Removed,
    /// The request's own time was over first (504).
    Timeout,
}

/// What a waiting request is sent in the end.
pub(crate) type Grant = Result<Slot, Refusal>;

/// A waiting request, as the revision sees it.
pub(crate) struct Waiter {
    pub(crate) id: u64,
    pub(crate) grant: oneshot::Sender<Grant>,
}

impl Waiter {
    pub(crate) fn new(id: u64, revision: Arc<Revision>) -> (Waiter, Ticket) {
        let (grant, granted) = oneshot::channel();
        (Waiter { id, grant }, Ticket { id, revision, granted })
    }
}

/// A waiting request, as it sees itself. Dropped, it leaves the queue.
pub(crate) struct Ticket {
    id: u64,
    revision: Arc<Revision>,
    granted: oneshot::Receiver<Grant>,
}

impl Ticket {
    /// Waits for a place: until `deadline` (the request's own), and no longer than the queue's limit unless an
    /// instance is being started.
    pub(crate) async fn wait(mut self, spec: &RevisionSpec, deadline: Instant) -> Grant {
        let begun = Instant::now();
        loop {
            let limit = begun + self.limit(spec);
            let now = Instant::now();
            if now >= deadline {
                return Err(Refusal::Timeout);
            }
            if now >= limit && !self.is_hopeful() {
                return Err(Refusal::NoInstance);
            }
            // While a start is under way the limit may have passed: look again soon.
            let until = limit.max(now + Duration::from_millis(250)).min(deadline);
            match tokio::time::timeout_at(until.into(), &mut self.granted).await {
                Ok(Ok(grant)) => return grant,
                Ok(Err(_)) => return Err(Refusal::Removed),
                Err(_) => {}
            }
        }
    }

    /// Cloud Run documents 3.5 times the average start-up time or 10 s, whichever is greater.
    fn limit(&self, spec: &RevisionSpec) -> Duration {
        let average = self.revision.lock().start_takes;
        spec.queue.wait.max(average.mul_f64(3.5))
    }

    fn is_hopeful(&self) -> bool {
        self.revision.lock().starting > 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.revision.abandon(self.id);
    }
}
