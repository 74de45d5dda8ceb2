//! What keeps a mirror up to date: one task that reads everything once and then follows a watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, task::AbortHandle};

use super::{Change, Named, OnChange, Record, Records, Versioned};
use crate::{
    Error, Result,
    store::{Entry, Event, Revision, Store, Watched},
};

/// How many entries are read first. Most mirrors hold fewer, and so few are read without a change of threads.
const FIRST: usize = 32;
/// How many entries are read at a time from then on.
const PAGE: usize = 1000;
/// How long to wait before reading again when the store did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// A feed that runs, and the revision that the mirror must have reached to be whole.
pub(super) struct Started {
    pub(super) task: AbortHandle,
    pub(super) applied: watch::Receiver<Revision>,
    pub(super) changed: watch::Receiver<Revision>,
    pub(super) revision: Revision,
}

/// Fills the records and starts the task that follows. Many records are read by a task of their own: at a start every
/// mirror is read, and what each decodes would else be decoded by one thread.
pub(super) async fn start<T: Record>(store: Arc<dyn Store>, records: Arc<Records<T>>) -> Result<Started> {
    let first = first_page(&*store, &records.prefix).await?;
    let is_more = first.0.len() == FIRST;
    let reading = {
        let (store, records) = (store.clone(), records.clone());
        async move { load_from(first, &*store, &records).await }
    };
    let read = if is_more { tokio::spawn(reading).await.map_err(Error::internal)? } else { reading.await };
    let Loaded { from, to, .. } = read?;
    let (applied, seen_applied) = watch::channel(from);
    let (changed, seen_changed) = watch::channel(from);
    let feed = Feed { store, records, applied, changed };
    let task = tokio::spawn(feed.run(from)).abort_handle();
    Ok(Started { task, applied: seen_applied, changed: seen_changed, revision: to })
}

/// What was found by reading everything. Pages are read one after the other: what changes meanwhile, from
/// `from` to `to`, is brought by the watch.
struct Loaded {
    from: Revision,
    to: Revision,
    /// Whether anything differs from what was held before.
    is_different: bool,
}

/// Entries, and the revision that they are of.
type Page = (Vec<Entry>, Revision);

async fn first_page(store: &dyn Store, prefix: &str) -> Result<Page> {
    store.range(prefix, "", FIRST).await
}

/// Reads everything under the prefix.
async fn load<T: Record>(store: &dyn Store, records: &Records<T>) -> Result<Loaded> {
    load_from(first_page(store, &records.prefix).await?, store, records).await
}

/// Reads on from the first page, page by page so that it is never in memory twice, and drops what is gone.
async fn load_from<T: Record>(first: Page, store: &dyn Store, records: &Records<T>) -> Result<Loaded> {
    let mut before = Before::of(records);
    let loaded = read(first, store, records, &mut before).await;
    // Also when it failed half-way: what is there is then gone through by the next attempt.
    if let Before::Nothing(fresh) = before {
        records.put_fresh(fresh);
    }
    loaded
}

/// What was there before everything was read.
enum Before<T> {
    /// Nothing; with what was read since.
    Nothing(Vec<Named<T>>),
    /// Records; with the names of those that were not read again yet.
    Some(BTreeSet<Arc<str>>),
}

impl<T: Record> Before<T> {
    fn of(records: &Records<T>) -> Self {
        let names: BTreeSet<Arc<str>> =
            records.in_order.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        if names.is_empty() { Before::Nothing(Vec::new()) } else { Before::Some(names) }
    }
}

/// A page is read while the one before it is decoded: a start waits for this.
async fn read<T: Record>(
    (mut page, from): Page,
    store: &dyn Store,
    records: &Records<T>,
    before: &mut Before<T>,
) -> Result<Loaded> {
    let mut loaded = Loaded { from, to: from, is_different: false };
    let mut limit = FIRST;
    loop {
        let after = (page.len() == limit).then(|| page.last().map(|entry| entry.key.clone())).flatten();
        let (next, is_different) =
            tokio::join!(page_after(store, &records.prefix, after.as_deref()), async {
                match before {
                    Before::Nothing(fresh) => records.take_fresh(page, fresh),
                    Before::Some(gone) => records.take(page, gone, after.is_none()),
                }
            });
        loaded.is_different |= is_different?;
        match next? {
            None => return Ok(loaded),
            Some((next, to)) => (page, loaded.to, limit) = (next, to, PAGE),
        }
    }
}

/// The page after a key, if there is one.
async fn page_after(store: &dyn Store, prefix: &str, after: Option<&str>) -> Result<Option<Page>> {
    match after {
        None => Ok(None),
        Some(after) => store.range(prefix, after, PAGE).await.map(Some),
    }
}

struct Feed<T> {
    store: Arc<dyn Store>,
    records: Arc<Records<T>>,
    applied: watch::Sender<Revision>,
    changed: watch::Sender<Revision>,
}

impl<T: Record> Feed<T> {
    async fn run(self, mut from: Revision) {
        while let Some(end) = self.follow(from).await {
            match end {
                End::Compacted => from = self.read_again().await,
                End::Failed => tokio::time::sleep(RETRY).await,
            }
            from = from.max(*self.applied.borrow());
        }
    }

    /// Follows the watch until it cannot; `None` when the store is closed.
    async fn follow(&self, from: Revision) -> Option<End> {
        let Ok(mut watch) = self.store.watch(&self.records.prefix, from).await else {
            return Some(End::Failed);
        };
        loop {
            match watch.next().await? {
                Watched::Events(events) => self.apply(&events),
                Watched::Progress(revision) => self.reached(revision),
                Watched::Compacted => return Some(End::Compacted),
            }
        }
    }

    /// Applies one transaction after the other.
    fn apply(&self, events: &[Event]) {
        for transaction in events.chunk_by(|a, b| a.revision == b.revision) {
            let Some(revision) = transaction.first().map(|event| event.revision) else { continue };
            let changes = self.records.apply(transaction);
            self.finish(&changes, revision);
        }
    }

    async fn read_again(&self) -> Revision {
        loop {
            match self.reload().await {
                Ok(revision) => return revision,
                Err(error) => tracing::error!("cannot read the store: {}", error.message()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn reload(&self) -> Result<Revision> {
        let loaded = load(&*self.store, &self.records).await?;
        if loaded.is_different {
            self.changed.send_replace(loaded.from);
        }
        self.reached(loaded.from);
        Ok(loaded.from)
    }

    fn finish(&self, changes: &[Change<T>], revision: Revision) {
        if !changes.is_empty() {
            self.records.report(changes);
            self.changed.send_replace(revision);
        }
        self.reached(revision);
    }

    fn reached(&self, revision: Revision) {
        self.applied.send_if_modified(|applied| std::mem::replace(applied, revision) != revision);
    }
}

/// A name, and the record that it has from now on.
type Update<T> = (Arc<str>, Option<Arc<Versioned<T>>>);

/// Why following stopped.
enum End {
    Compacted,
    Failed,
}

impl<T: Record> Records<T> {
    pub(super) fn new(prefix: String, on_change: OnChange<T>) -> Self {
        Records {
            prefix: prefix.into(),
            by_name: papaya::HashMap::new(),
            in_order: RwLock::new(BTreeMap::new()),
            on_change,
        }
    }

    fn report(&self, changes: &[Change<T>]) {
        if !changes.is_empty() {
            (self.on_change)(changes);
        }
    }

    /// Takes over a page, and with the last one drops what was on none. Says whether anything is different now.
    fn take(&self, page: Vec<Entry>, gone: &mut BTreeSet<Arc<str>>, is_last: bool) -> Result<bool> {
        let mut updates: Vec<Update<T>> = self.decode_page(page)?;
        for (name, _) in &updates {
            gone.remove(name);
        }
        if is_last {
            updates.extend(std::mem::take(gone).into_iter().map(|name| (name, None)));
        }
        self.by_name.pin().reserve(updates.len());
        let changes = self.update(updates);
        self.report(&changes);
        Ok(!changes.is_empty())
    }

    /// Reads a page while nothing else is there.
    fn take_fresh(&self, page: Vec<Entry>, fresh: &mut Vec<Named<T>>) -> Result<bool> {
        let mut changes = Vec::with_capacity(page.len());
        for entry in page {
            let (name, record) = self.decode_entry(entry)?;
            fresh.push((name.clone(), record.clone()));
            changes.push(Change { name, before: None, after: Some(record) });
        }
        self.report(&changes);
        Ok(!changes.is_empty())
    }

    /// Takes over all that was read. Page by page, one map would grow and hash every name anew a few times, and the
    /// other would look for each name's place among others that begin alike.
    fn put_fresh(&self, fresh: Vec<Named<T>>) {
        if fresh.is_empty() {
            return;
        }
        let mut in_order = self.in_order.write().unwrap_or_else(PoisonError::into_inner);
        let by_name = self.by_name.pin();
        by_name.reserve(fresh.len());
        for (name, record) in &fresh {
            by_name.insert(name.clone(), record.clone());
        }
        *in_order = fresh.into_iter().collect();
    }

    fn decode_page(&self, page: Vec<Entry>) -> Result<Vec<Update<T>>> {
        page.into_iter()
            .map(|entry| self.decode_entry(entry).map(|(name, record)| (name, Some(record))))
            .collect()
    }

    fn decode_entry(&self, entry: Entry) -> Result<Named<T>> {
        let name = entry.key.strip_prefix(&*self.prefix).unwrap_or(&entry.key);
        let record = decode(&entry.value, entry.revision, entry.created)
            .map_err(|e| Error::new(e.code(), format!("{} ({})", e.message(), entry.key)).because(e))?;
        Ok((name.into(), record))
    }

    /// Applies the events of one transaction.
    fn apply(&self, events: &[Event]) -> Vec<Change<T>> {
        let updates = events.iter().filter_map(|event| {
            let name = event.key.strip_prefix(&*self.prefix)?;
            let current = self.by_name.pin().get(name).cloned();
            // A record may have been read at a later revision than the watch has reached.
            if current.as_ref().is_some_and(|current| current.revision >= event.revision) {
                return None;
            }
            let created = current.map_or(event.revision, |current| current.created);
            match event.value.as_ref().map(|value| decode(value, event.revision, created)) {
                None => Some((name.into(), None)),
                Some(Ok(record)) => Some((name.into(), Some(record))),
                Some(Err(error)) => {
                    tracing::error!("{} is not taken over: {}", event.key, error.message());
                    None
                }
            }
        });
        self.update(updates.collect())
    }

    /// Changes the records, all of them before a listing sees any.
    fn update(&self, updates: Vec<Update<T>>) -> Vec<Change<T>> {
        let mut in_order = self.in_order.write().unwrap_or_else(PoisonError::into_inner);
        let by_name = self.by_name.pin();
        let mut changes = Vec::with_capacity(updates.len());
        for (name, after) in updates {
            let before = match &after {
                Some(record) => {
                    by_name.insert(name.clone(), record.clone());
                    in_order.insert(name.clone(), record.clone())
                }
                None => {
                    by_name.remove(&name);
                    in_order.remove(&name)
                }
            };
            if before.as_ref().map(|r| r.revision) != after.as_ref().map(|r| r.revision) {
                changes.push(Change { name, before, after });
            }
        }
        changes
    }
}

fn decode<T: Record>(value: &Bytes, revision: Revision, created: Revision) -> Result<Arc<Versioned<T>>> {
    Ok(Arc::new(Versioned { value: T::from_stored(value)?, revision, created }))
}
