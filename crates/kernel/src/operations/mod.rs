//! Long-running operations that survive a restart.
//!
//! An operation is stored before its work begins, so whoever was given its name will always learn how it ended.
//! After a restart, unfinished operations are offered to their product by kind, to be resumed from the memo that
//! was stored with them; what nobody resumes fails with a clear error.
//!
//! ```
//! # use kernel::{operations::{Operations, Plan, to_any}, Result};
//! # async fn example(operations: Operations, metadata: prost_types::Any) -> Result<()> {
//! let plan = Plan::new("projects/p/locations/l", "run.deploy").metadata(metadata).memo("what to resume from");
//! let operation = operations.start(plan, |progress| async move {
//!     // ... work; `progress.metadata(...)` tells how far it is ...
//!     Ok(to_any("google.protobuf.Empty", &()))
//! }).await?;
//! // At the start of the program, by each product that can resume:
//! for left in operations.unfinished("run.deploy") {
//!     operations.resume(&left.name, |_| async { Ok(to_any("google.protobuf.Empty", &())) })?;
//! }
//! // and then, once, for the rest:
//! operations.fail_unfinished().await?;
//! # Ok(()) }
//! ```
//!
//! Left out: cancelling, which no product here offers, as theirs at Google do not
//! (<https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.operations>), and operations that other
//! processes work on.

mod stored;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apis::google::{longrunning::Operation, rpc::Status};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use tokio::time::Instant;

use self::stored::{Failure, Stored, ended_at, is_done, to_operation, unended};
use crate::{
    Code, Error, Result,
    clock::Clock,
    collection::{Collection, Held, Wording},
    paging::Page,
    store::{Store, Txn},
};

/// How many finished operations are kept: the oldest go first.
const KEEP: usize = 5_000;
/// How long finished operations are kept, in seconds: 30 days.
const KEEP_SECONDS: i64 = 30 * 24 * 3600;
/// How long to wait before the end of an operation is stored again, when the store refused it.
const RETRY: Duration = Duration::from_secs(1);

/// What an operation starts with.
#[derive(Clone, Debug)]
pub struct Plan {
    parent: String,
    kind: &'static str,
    metadata: Option<Any>,
    memo: Bytes,
    also: Txn,
}

impl Plan {
    /// An operation under a parent such as `projects/p/locations/l` (empty for names like `operations/x`). The
    /// kind says which product resumes it.
    pub fn new(parent: impl Into<String>, kind: &'static str) -> Self {
        Plan { parent: parent.into(), kind, metadata: None, memo: Bytes::new(), also: Txn::new() }
    }

    /// The metadata that callers see.
    pub fn metadata(self, metadata: Any) -> Self {
        Plan { metadata: Some(metadata), ..self }
    }

    /// What the product needs to resume; callers never see it.
    pub fn memo(self, memo: impl Into<Bytes>) -> Self {
        Plan { memo: memo.into(), ..self }
    }

    /// Changes that happen together with the start, in one commit.
    pub fn with(self, also: Txn) -> Self {
        Plan { also, ..self }
    }

    fn name(&self) -> Result<String> {
        let separator = if self.parent.is_empty() { "" } else { "/" };
        Ok(format!("{}{separator}operations/{}", self.parent, new_id()?))
    }

    fn stored(self, clock: &Clock) -> (Stored, Txn) {
        let stored = Stored {
            kind: self.kind.into(),
            metadata: self.metadata,
            memo: self.memo,
            started: Some(clock.timestamp()),
            ..Default::default()
        };
        (stored, self.also)
    }
}

/// An operation that was under way when the program ended.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Its name.
    pub name: String,
    /// The metadata as it was last.
    pub metadata: Option<Any>,
    /// What was given to [`Plan::memo`].
    pub memo: Bytes,
}

/// What the work tells while it runs.
#[derive(Clone, Debug)]
pub struct Progress {
    operations: Operations,
    name: String,
}

impl Progress {
    /// The operation's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Replaces the metadata that callers see.
    ///
    /// # Errors
    /// `NOT_FOUND` when the operation has been deleted, and those of the store.
    pub async fn metadata(&self, metadata: Any) -> Result<()> {
        let records = &self.operations.0.records;
        records
            .update(&self.name, "", |stored| unended(stored, |s| s.metadata = Some(metadata.clone())))
            .await?;
        Ok(())
    }
}

/// The operations of all products. Cheap to clone.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    records: Collection<Stored>,
    clock: Clock,
    /// The operations that are worked on.
    running: Mutex<HashSet<String>>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operations").field(self.0.records.mirror()).finish()
    }
}

impl Operations {
    /// Opens the operations in a store, and forgets those that ended long ago.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Arc<dyn Store>, clock: Clock) -> Result<Self> {
        let records = Collection::open(store, "operations/", wording()).await?;
        let operations = Operations(Arc::new(Inner { records, clock, running: Mutex::default() }));
        operations.sweep().await?;
        Ok(operations)
    }

    /// Stores an operation and starts its work. The work's response is an [`Any`], see [`to_any`].
    ///
    /// # Errors
    /// Those of the store; `ABORTED` when a condition in [`Plan::with`] does not hold. Then nothing was started.
    pub async fn start<F, R>(&self, plan: Plan, work: F) -> Result<Operation>
    where
        F: FnOnce(Progress) -> R,
        R: Future<Output = Result<Any>> + Send + 'static,
    {
        let name = plan.name()?;
        let (stored, also) = plan.stored(&self.0.clock);
        self.claim(&name);
        match self.0.records.create_with(&name, stored, also).await {
            Ok(held) => {
                self.run(&name, work);
                Ok(to_operation(&name, &held))
            }
            Err(error) => {
                self.running().remove(&name);
                Err(error)
            }
        }
    }

    /// Stores an operation that is done already.
    ///
    /// # Errors
    /// As [`Operations::start`].
    pub async fn finished(&self, plan: Plan, response: Any) -> Result<Operation> {
        let name = plan.name()?;
        let (mut stored, also) = plan.stored(&self.0.clock);
        (stored.ended, stored.response) = (stored.started, Some(response));
        let held = self.0.records.create_with(&name, stored, also).await?;
        Ok(to_operation(&name, &held))
    }

    /// The operation with this name.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get(&self, name: &str) -> Result<Operation> {
        Ok(to_operation(name, &*self.0.records.get(name)?))
    }

    /// A page of the wanted operations of a parent, and the token of the next page.
    pub fn list(
        &self,
        parent: &str,
        page: &Page,
        is_wanted: impl Fn(&Operation) -> bool,
    ) -> (Vec<Operation>, String) {
        let separator = if parent.is_empty() { "" } else { "/" };
        let prefix = format!("{parent}{separator}operations/");
        let (found, next) =
            self.0.records.list(&prefix, page, |name, stored| is_wanted(&to_operation(name, stored)));
        (found.iter().map(|(name, stored)| to_operation(name, stored)).collect(), next)
    }

    /// Waits until the operation is done, and gives it; after the timeout, as it is then.
    ///
    /// # Errors
    /// `NOT_FOUND`, also when it is deleted meanwhile.
    pub async fn wait(&self, name: &str, timeout: Duration) -> Result<Operation> {
        let deadline = Instant::now() + timeout;
        let mut changes = self.0.records.mirror().changes();
        loop {
            changes.borrow_and_update();
            let operation = self.get(name)?;
            if operation.done
                || !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(())))
            {
                return Ok(operation);
            }
        }
    }

    /// Forgets an operation. Its work goes on if it is not done.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.0.records.delete(name, "").await.map(drop)
    }

    /// The operations of a kind that nothing works on: those that a restart has interrupted.
    pub fn unfinished(&self, kind: &str) -> Vec<Unfinished> {
        let left = self.interrupted(|stored| stored.kind == kind);
        let unfinished = left.into_iter().map(|(name, stored)| Unfinished {
            name: name.to_string(),
            metadata: stored.metadata.clone(),
            memo: stored.memo.clone(),
        });
        unfinished.collect()
    }

    /// Goes on with an interrupted operation.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` when it is done or being worked on.
    pub fn resume<F, R>(&self, name: &str, work: F) -> Result<()>
    where
        F: FnOnce(Progress) -> R,
        R: Future<Output = Result<Any>> + Send + 'static,
    {
        if is_done(&*self.0.records.get(name)?) || self.running().contains(name) {
            return Err(Error::precondition(format!("Operation [{name}] is not interrupted.")));
        }
        self.claim(name);
        self.run(name, work);
        Ok(())
    }

    /// Fails every interrupted operation that nobody has resumed, and says how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fail_unfinished(&self) -> Result<usize> {
        let left = self.interrupted(|_| true);
        for (name, _) in &left {
            let failure = Error::aborted("The operation was interrupted by a restart of the server.");
            self.store_end(name, &Err(failure)).await?;
        }
        Ok(left.len())
    }

    fn interrupted(&self, is_wanted: impl Fn(&Stored) -> bool) -> Vec<(Arc<str>, Held<Stored>)> {
        let running = self.running();
        let is_left =
            |name: &str, stored: &Stored| !is_done(stored) && !running.contains(name) && is_wanted(stored);
        self.0.records.mirror().scan("", "", usize::MAX, |name, stored| is_left(name, stored))
    }

    /// Marks an operation as worked on.
    fn claim(&self, name: &str) {
        self.running().insert(name.to_owned());
    }

    fn run<F, R>(&self, name: &str, work: F)
    where
        F: FnOnce(Progress) -> R,
        R: Future<Output = Result<Any>> + Send + 'static,
    {
        let work = work(Progress { operations: self.clone(), name: name.to_owned() });
        let (operations, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let end = ended(work).await;
            operations.finish(&name, end).await;
            operations.running().remove(&name);
        });
    }

    /// Stores how an operation ended, as often as it takes.
    async fn finish(&self, name: &str, end: Result<Any>) {
        while let Err(error) = self.store_end(name, &end).await {
            tracing::warn!("the end of {name} is not stored yet: {}", error.message());
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn store_end(&self, name: &str, end: &Result<Any>) -> Result<()> {
        let change = |stored: &mut Stored| unended(stored, |stored| self.end(stored, end));
        match self.0.records.update(name, "", change).await {
            Err(error) if !matches!(error.code(), Code::NotFound | Code::FailedPrecondition) => Err(error),
            // It was deleted, or has ended otherwise.
            _ => Ok(()),
        }
    }

    fn end(&self, stored: &mut Stored, end: &Result<Any>) {
        stored.ended = Some(self.0.clock.timestamp());
        // What is not needed any more may be large.
        stored.memo = Bytes::new();
        match end {
            Ok(response) => stored.response = Some(response.clone()),
            Err(error) => {
                let Status { code, message, details } = error.to_status();
                stored.failure = Some(Failure { code, message, details });
            }
        }
    }

    /// Forgets finished operations that are old or too many.
    async fn sweep(&self) -> Result<()> {
        let mut ended = self.0.records.mirror().scan("", "", usize::MAX, |_, stored| is_done(stored));
        ended.sort_by_key(|(_, stored)| std::cmp::Reverse(ended_at(stored)));
        let oldest = self.0.clock.timestamp().seconds - KEEP_SECONDS;
        let young = ended.iter().take(KEEP).take_while(|(_, stored)| ended_at(stored) >= oldest).count();
        for block in ended[young..].chunks(crate::store::MAX_OPERATIONS) {
            let txn = block.iter().fold(Txn::new(), |txn, (name, _)| txn.delete(self.0.records.key(name)));
            self.0.records.mirror().commit(txn).await?;
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs work in a task of its own, so that a panic in it is an end like any other.
async fn ended(work: impl Future<Output = Result<Any>> + Send + 'static) -> Result<Any> {
    match tokio::spawn(work).await {
        Ok(end) => end,
        Err(error) => {
            Err(Error::new(Code::Internal, "The operation failed because of an internal error.")
                .because(error))
        }
    }
}

/// Packs a message, such as an operation's response.
pub fn to_any(full_name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{full_name}"), value: message.encode_to_vec() }
}

fn wording() -> Wording {
    Wording::of("Operation")
}

/// A random id in the form of a UUID, version 4.
fn new_id() -> Result<String> {
    let mut bytes = [0; 16];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| Error::new(Code::Internal, "No randomness to be had."))?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{number:032x}");
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
