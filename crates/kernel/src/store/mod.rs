//! Where state is kept: ordered keys, revisions, transactions, watches.
//!
//! The model is etcd's, so that the embedded engine and etcd are interchangeable: one revision counter for the
//! whole store, every write a transaction that either happens entirely or not at all, and a watch that replays
//! from any revision that has not been compacted. The limits are etcd's too, on every engine:
//! [`MAX_OPERATIONS`] a transaction, [`MAX_TRANSACTION`] bytes, [`MAX_VALUE`] bytes a value.

pub mod embedded;

use bytes::Bytes;

use crate::{BoxFuture, Error, Result};

pub use embedded::Embedded;

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

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition: the key was written last at this revision; 0: it does not exist.
    pub fn check(mut self, key: impl Into<Key>, revision: Revision) -> Self {
        self.checks.push(Check { key: key.into(), revision });
        self
    }

    /// Adds a write.
    pub fn put(mut self, key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        self.puts.push((key.into(), value.into()));
        self
    }

    /// Adds a removal.
    pub fn delete(mut self, key: impl Into<Key>) -> Self {
        self.deletes.push(key.into());
        self
    }

    /// Appends another transaction's conditions and changes to this one's, so that both happen or neither.
    pub fn and(mut self, other: Txn) -> Self {
        self.checks.extend(other.checks);
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
        self
    }

    /// The keys that are written or removed.
    pub fn changed_keys(&self) -> impl Iterator<Item = &str> {
        self.puts.iter().map(|(key, _)| key.as_str()).chain(self.deletes.iter().map(String::as_str))
    }

    /// Holds a transaction against the limits that every engine has.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for too many operations, too many bytes, a value that is too large, an empty key,
    /// or a key that is changed twice.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        let mut keys: Vec<&str> = self.changed_keys().collect();
        if keys.iter().copied().chain(self.checks.iter().map(|c| c.key.as_str())).any(str::is_empty) {
            return Err(Error::invalid("A key of a transaction is empty."));
        }
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::invalid(format!("A transaction changes the key '{}' twice.", pair[0]))),
            None => Ok(()),
        }
    }

    fn validate_sizes(&self) -> Result<()> {
        let operations = self.checks.len() + self.puts.len() + self.deletes.len();
        if operations > MAX_OPERATIONS {
            return Err(Error::invalid(format!(
                "A transaction has {operations} operations; at most {MAX_OPERATIONS} are allowed."
            )));
        }
        if let Some((key, value)) = self.puts.iter().find(|(_, value)| value.len() > MAX_VALUE) {
            return Err(Error::invalid(format!(
                "The value of '{key}' has {} bytes; at most {MAX_VALUE} are allowed.",
                value.len()
            )));
        }
        match self.bytes() {
            bytes if bytes > MAX_TRANSACTION => Err(Error::invalid(format!(
                "A transaction has {bytes} bytes; at most {MAX_TRANSACTION} are allowed."
            ))),
            _ => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let puts: usize = self.puts.iter().map(|(key, value)| key.len() + value.len()).sum();
        let deletes: usize = self.deletes.iter().map(String::len).sum();
        let checks: usize = self.checks.iter().map(|check| check.key.len()).sum();
        puts + deletes + checks
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, as this revision. A transaction that changes nothing makes no revision: it answers the
    /// one that the store has.
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
    /// Nothing else under the prefix has changed up to and including this revision. An engine sends this
    /// as it sees fit, at the latest when it has nothing more to report.
    Progress(Revision),
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
