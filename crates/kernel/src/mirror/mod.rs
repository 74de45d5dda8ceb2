//! Everything under a prefix of the store, decoded and in memory, always up to date.
//!
//! What a request needs on its way (tokens, policies, routes, secrets) is read from here and never from the
//! engine. A mirror is fed by a watch, so it also sees what another part of the program wrote, and a write made
//! through [`Mirror::commit`] returns when the mirror itself has it.
//!
//! ```
//! # use std::sync::Arc;
//! # use kernel::{mirror::{Mirror, Record}, store::{Embedded, Store, Txn}};
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Note { #[prost(string, tag = "1")] text: String }
//! impl Record for Note { const FORMAT: u8 = 1; }
//!
//! # async fn example(store: Arc<dyn Store>) -> kernel::Result<()> {
//! let notes = Mirror::<Note>::open(store, "notes/").await?;
//! let txn = Txn::new().check(notes.key("a"), 0).put(notes.key("a"), Note { text: "hi".into() }.to_stored());
//! notes.commit(txn).await?;
//! assert_eq!(notes.get("a").unwrap().value.text, "hi");
//! # Ok(()) }
//! ```
//!
//! # How it is kept
//! Point reads go to a lock-free hash map (`papaya`): no read ever waits, and a write replaces one slot however
//! many records there are. A snapshot behind one pointer would be either copied for every write, or a persistent
//! tree whose lookups compare a dozen long keys with a common beginning (two to three times a hash lookup).
//! Listing goes to an ordered map behind a lock that is written only when a record changes; both maps share their
//! records. A listing therefore never sees a part of a transaction, while two point reads may fall on either
//! side of one. What must see several records at one moment builds its own snapshot from the
//! [changes](Mirror::open_with), which arrive transaction by transaction.
//!
//! Left out: secondary indexes (build them from the changes) and records that do not fit in memory.

mod feed;

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, Deref},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::sync::watch;

use crate::{
    Code, Error, Result,
    store::{Key, Outcome, Revision, Store, Txn},
};

/// A message of ours that is stored: one byte that says its format, then protobuf.
///
/// A field may be added without a new format only if an older program may erase it: unknown fields do not
/// survive a rewrite.
pub trait Record: Message + Default + Clone + PartialEq + 'static {
    /// The format that is written, from 1 on.
    const FORMAT: u8;

    /// Reads a format older than [`Record::FORMAT`]. `None` when there never was such a format.
    fn upgrade(format: u8, bytes: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
        let _ = (format, bytes);
        None
    }

    /// The stored form.
    fn to_stored(&self) -> Bytes {
        let mut stored = BytesMut::with_capacity(1 + self.encoded_len());
        stored.put_u8(Self::FORMAT);
        // It only fails for want of room, and this buffer grows.
        let _ = self.encode(&mut stored);
        stored.freeze()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// `INTERNAL` for a format that is not known (a newer haar wrote it) and for damage.
    fn from_stored(stored: &[u8]) -> Result<Self> {
        let decoded = match stored.split_first() {
            Some((&format, bytes)) if format == Self::FORMAT => Some(Self::decode(bytes)),
            Some((&format, bytes)) if format < Self::FORMAT => Self::upgrade(format, bytes),
            _ => None,
        };
        match decoded {
            Some(Ok(record)) => Ok(record),
            Some(Err(error)) => Err(Error::new(Code::Internal, "A stored record is damaged.").because(error)),
            None => {
                Err(Error::new(Code::Internal, "A stored record has a format that this version cannot read."))
            }
        }
    }
}

/// A record with the revisions that wrote it. Reads as the record itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The revision that wrote it last.
    pub revision: Revision,
    /// The revision that created it.
    pub created: Revision,
}

impl<T> Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A record with its name.
pub type Named<T> = (Arc<str>, Arc<Versioned<T>>);

/// A record that appeared, changed or went away.
#[derive(Clone, Debug)]
pub struct Change<T> {
    /// Its name: the key without the mirror's prefix.
    pub name: Arc<str>,
    /// What was there before.
    pub before: Option<Arc<Versioned<T>>>,
    /// What is there now.
    pub after: Option<Arc<Versioned<T>>>,
}

/// Called with every change, before any write that made it returns.
type OnChange<T> = Box<dyn Fn(&[Change<T>]) + Send + Sync>;

/// Does once, while the process has a single thread, what the first mirror would do otherwise.
///
/// The maps register with the kernel (`membarrier`), which costs nothing in a process with one thread, and with
/// several waits for every processor of the machine to pass a scheduling point: 3 to 15 ms. So `main` calls this
/// before it starts a runtime. Calling it later, or never, is right too, only slower.
pub fn prepare() {
    drop(papaya::HashMap::<(), ()>::new());
}

/// The records under a prefix. Names are keys without the prefix. Cheap to clone; the last one dropped ends the
/// watch.
pub struct Mirror<T: Record> {
    records: Arc<Records<T>>,
    store: Arc<dyn Store>,
    /// Everything up to here is in the mirror.
    applied: watch::Receiver<Revision>,
    /// The last revision that changed something here.
    changed: watch::Receiver<Revision>,
    feed: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a mirror holds.
struct Records<T> {
    prefix: Box<str>,
    by_name: papaya::HashMap<Arc<str>, Arc<Versioned<T>>>,
    in_order: RwLock<BTreeMap<Arc<str>, Arc<Versioned<T>>>>,
    on_change: OnChange<T>,
}

impl<T: Record> Mirror<T> {
    /// Reads everything under a prefix, and follows it from then on.
    ///
    /// # Errors
    /// Those of the store, and `INTERNAL` for a record that cannot be read.
    pub async fn open(store: Arc<dyn Store>, prefix: impl Into<String>) -> Result<Self> {
        Self::open_with(store, prefix, |_| ()).await
    }

    /// The same, and calls back with each transaction's changes, in order, from the feeding task; the records
    /// that are there already come first, with nothing before them. A write through [`Mirror::commit`] returns
    /// after the call, so what is built in it is as current as the mirror. The callback must be quick and must
    /// not block.
    ///
    /// # Errors
    /// As [`Mirror::open`].
    pub async fn open_with(
        store: Arc<dyn Store>,
        prefix: impl Into<String>,
        on_change: impl Fn(&[Change<T>]) + Send + Sync + 'static,
    ) -> Result<Self> {
        let records = Arc::new(Records::new(prefix.into(), Box::new(on_change)));
        let started = feed::start(store.clone(), records.clone()).await?;
        let (applied, changed) = (started.applied, started.changed);
        let mirror = Mirror { records, store, applied, changed, feed: Arc::new(AbortOnDrop(started.task)) };
        mirror.wait_for(started.revision).await?;
        Ok(mirror)
    }

    /// The key of a name.
    pub fn key(&self, name: &str) -> Key {
        [&self.records.prefix, name].concat()
    }

    /// The store that is mirrored.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The record with this name.
    pub fn get(&self, name: &str) -> Option<Arc<Versioned<T>>> {
        self.records.by_name.pin().get(name).cloned()
    }

    /// Up to `limit` records, in order, whose names start with `prefix` and come after `after` (empty: from the
    /// start).
    pub fn range(&self, prefix: &str, after: &str, limit: usize) -> Vec<Named<T>> {
        self.scan(prefix, after, limit, |_, _| true)
    }

    /// The same, of those that are wanted.
    pub fn scan(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
        mut is_wanted: impl FnMut(&str, &Versioned<T>) -> bool,
    ) -> Vec<Named<T>> {
        let in_order = self.records.in_order.read().unwrap_or_else(PoisonError::into_inner);
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        // An empty position means the start, and no name is empty.
        let from_start = in_order.range::<str, _>((start, Bound::Unbounded));
        from_start
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, record)| is_wanted(name, record))
            .take(limit)
            .map(|(name, record)| (name.clone(), record.clone()))
            .collect()
    }

    /// All records, in order.
    pub fn list(&self) -> Vec<Named<T>> {
        self.range("", "", usize::MAX)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.in_order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revision up to which the mirror has everything.
    pub fn revision(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Waits until everything up to a revision is in the mirror.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the store is closed.
    pub async fn wait_for(&self, revision: Revision) -> Result<()> {
        match self.applied.clone().wait_for(|applied| *applied >= revision).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::unavailable("The store is closed.")),
        }
    }

    /// Waits until the mirror has everything that the store has now.
    ///
    /// # Errors
    /// Those of [`Store::range`]; `UNAVAILABLE` when the store is closed.
    pub async fn catch_up(&self) -> Result<()> {
        let (_, revision) = self.store.range(&self.records.prefix, "", 0).await?;
        self.wait_for(revision).await
    }

    /// Follows the changes here: its value is the last revision that changed something under the prefix.
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.changed.clone()
    }

    /// Carries out a transaction, over any keys, and returns when this mirror has it; after a conflict, when it
    /// has what it conflicted with.
    ///
    /// # Errors
    /// Those of [`Store::txn`].
    pub async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let outcome = self.store.txn(txn).await?;
        match outcome {
            Outcome::Committed(revision) => self.wait_for(revision).await?,
            Outcome::Conflict(_) => self.catch_up().await?,
        }
        Ok(outcome)
    }
}

impl<T: Record> Clone for Mirror<T> {
    fn clone(&self) -> Self {
        Mirror {
            records: self.records.clone(),
            store: self.store.clone(),
            applied: self.applied.clone(),
            changed: self.changed.clone(),
            feed: self.feed.clone(),
        }
    }
}

impl<T: Record> fmt::Debug for Mirror<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("prefix", &self.records.prefix)
            .field("revision", &self.revision())
            .finish()
    }
}
