//! Where state is kept: ordered keys, revisions, transactions, watches.
//!
//! The model is etcd's, so that the embedded engine and etcd are interchangeable: one revision counter for the
//! whole store, every write a transaction that either happens entirely or not at all, and a watch that replays
//! from any revision that has not been compacted. The limits are etcd's too, on every engine:
//! [`MAX_OPERATIONS`] a transaction, [`MAX_TRANSACTION`] bytes, [`MAX_VALUE`] bytes a value.

use bytes::Bytes;

use crate::{BoxFuture, Result};

/// A key: a path such as `secrets/p/s`. Ordered by its bytes.
pub type Key = String;

/// When something was written: the store's counter, one step a transaction. 0 is before everything.
pub type Revision = u64;

/// The most puts, deletes and checks in one transaction.
pub const MAX_OPERATIONS: usize = 128;
/// The most bytes in one transaction, keys and values together.
pub const MAX_TRANSACTION: usize = 1_572_864;
/// The most bytes in one value.
pub const MAX_VALUE: usize = 1 << 20;

/// A stored value and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Bytes,
    /// The revision that wrote it last.
    pub revision: Revision,
    /// The revision that created it.
    pub created: Revision,
}

/// A condition of a transaction: the key must have been written last at exactly this revision; 0 means that
/// it must not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: Key,
    /// The revision it must have.
    pub revision: Revision,
}

/// A set of changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub checks: Vec<Check>,
    /// What is written.
    pub puts: Vec<(Key, Bytes)>,
    /// What is removed; keys that do not exist are no error.
    pub deletes: Vec<Key>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, as this revision.
    Committed(Revision),
    /// The check with this index did not hold; nothing was changed.
    Conflict(usize),
}

/// A change that a watch reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision that made it.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// The new value; `None` when the key was deleted.
    pub value: Option<Bytes>,
}

/// What a watch gives next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The changes of one or more transactions, in order, never a part of one.
    Events(Vec<Event>),
    /// The revision asked for is no longer kept: read everything again and watch from there.
    Compacted,
}

/// A running watch.
pub trait Watch: Send {
    /// Waits for the next changes. `None` when the store is closed.
    fn next(&mut self) -> BoxFuture<'_, Option<Watched>>;
}

/// An engine.
pub trait Store: Send + Sync + 'static {
    /// The value under a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>>>;
    /// Up to `limit` entries whose keys start with `prefix` and come after `after` (empty: from the start), in
    /// order, with the store's revision at that moment.
    fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<(Vec<Entry>, Revision)>>;
    /// Carries out a transaction. When this returns `Committed`, it survives a crash.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome>>;
    /// Watches the keys under a prefix for changes after a revision.
    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Box<dyn Watch>>>;
}
