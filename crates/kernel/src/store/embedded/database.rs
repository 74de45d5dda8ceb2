//! The two tables, and what is read from and written to them.

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{
    Options,
    history::{self, Change},
};
use crate::store::{Entry, Outcome, Revision, Txn};

/// Key → revision, revision that created it, value.
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// Revision → changes.
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// The revision and the creation revision in front of every value.
const HEADER: usize = 16;

type Result<T> = std::result::Result<T, redb::Error>;

/// Makes the tables in a new file, and says at which revision the file is.
pub(super) fn prepare(database: &Database) -> Result<Revision> {
    if let Some(revision) = revision(database)? {
        return Ok(revision);
    }
    let txn = begin(database)?;
    txn.open_table(ENTRIES)?;
    txn.open_table(EVENTS)?;
    txn.commit()?;
    Ok(0)
}

/// The revision of a file that has tables.
fn revision(database: &Database) -> Result<Option<Revision>> {
    let txn = database.begin_read()?;
    match txn.open_table(EVENTS) {
        Ok(events) => Ok(Some(last(&events)?.0)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The newest record's revision and running total.
fn last(events: &impl ReadableTable<u64, &'static [u8]>) -> Result<(Revision, u64)> {
    Ok(events
        .last()?
        .map_or((0, 0), |(revision, record)| (revision.value(), history::running_total(record.value()))))
}

/// Starts a write that, once committed, survives anything and needs no repair afterwards.
fn begin(database: &Database) -> Result<WriteTransaction> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    Ok(txn)
}

/// Reads.
pub(super) struct Tables;

impl Tables {
    pub(super) fn get(txn: &ReadTransaction, key: &str) -> Result<Option<Entry>> {
        let value = txn.open_table(ENTRIES)?.get(key)?;
        Ok(value.map(|stored| entry(key, stored.value())))
    }

    pub(super) fn range(
        txn: &ReadTransaction,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<Entry>, Revision)> {
        let mut found = Vec::new();
        for stored in txn.open_table(ENTRIES)?.range(prefix.max(after)..)? {
            let (key, value) = stored?;
            let key = key.value();
            if found.len() == limit || !key.starts_with(prefix) {
                break;
            }
            if key != after {
                found.push(entry(key, value.value()));
            }
        }
        Ok((found, last(&txn.open_table(EVENTS)?)?.0))
    }

    /// The changes after a revision, as many as fit in `bytes` but at least one; `None` when they are not
    /// kept any more.
    pub(super) fn changes(
        txn: &ReadTransaction,
        after: Revision,
        bytes: usize,
    ) -> Result<Option<Vec<Change>>> {
        let mut changes: Vec<Change> = Vec::new();
        let mut size = 0;
        for record in txn.open_table(EVENTS)?.range(after + 1..)? {
            let (revision, record) = record?;
            let revision = revision.value();
            if revision != after + 1 + changes.len() as u64 {
                return Ok(None);
            }
            let change = Change::decode(revision, record.value()).ok_or_else(|| {
                redb::Error::Corrupted(format!("the events of revision {revision} are damaged"))
            })?;
            size += change.size();
            changes.push(change);
            if size >= bytes {
                break;
            }
        }
        Ok(Some(changes))
    }
}

fn entry(key: &str, stored: &[u8]) -> Entry {
    let value = Bytes::copy_from_slice(stored.get(HEADER..).unwrap_or_default());
    Entry { key: key.to_owned(), value, revision: number(stored, 0), created: number(stored, 8) }
}

fn number(stored: &[u8], at: usize) -> u64 {
    stored.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A group of transactions on its way to the disk.
pub(super) struct Group<'txn> {
    entries: Table<'txn, &'static str, &'static [u8]>,
    events: Table<'txn, u64, &'static [u8]>,
    revision: Revision,
    total: u64,
    /// What the group has changed so far.
    changes: Vec<Change>,
}

/// Applies a group with `fill`, and makes it durable. Gives what `fill` gave, and what has changed.
pub(super) fn commit<R>(
    database: &Database,
    options: &Options,
    fill: impl FnOnce(&mut Group<'_>) -> Result<R>,
) -> Result<(R, Vec<Change>)> {
    let txn = begin(database)?;
    let (filled, changes) = {
        let mut group = Group::begin(&txn)?;
        let filled = fill(&mut group)?;
        group.compact(options)?;
        (filled, group.changes)
    };
    if changes.is_empty() {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok((filled, changes))
}

impl<'txn> Group<'txn> {
    fn begin(txn: &'txn WriteTransaction) -> Result<Self> {
        let (entries, events) = (txn.open_table(ENTRIES)?, txn.open_table(EVENTS)?);
        let (revision, total) = last(&events)?;
        Ok(Group { entries, events, revision, total, changes: Vec::new() })
    }

    /// Carries out one transaction as the next revision, or not at all.
    pub(super) fn apply(&mut self, txn: &Txn) -> Result<Outcome> {
        if let Some(conflict) = self.conflict(txn)? {
            return Ok(Outcome::Conflict(conflict));
        }
        let revision = self.revision + 1;
        let mut keys = Vec::with_capacity(txn.puts.len() + txn.deletes.len());
        for (key, value) in &txn.puts {
            self.put(key, value, revision)?;
            keys.push((key.clone(), Some(value.clone())));
        }
        for key in &txn.deletes {
            if self.entries.remove(key.as_str())?.is_some() {
                keys.push((key.clone(), None));
            }
        }
        if !keys.is_empty() {
            self.record(Change { revision, keys })?;
        }
        Ok(Outcome::Committed(self.revision))
    }

    fn conflict(&self, txn: &Txn) -> Result<Option<usize>> {
        for (index, check) in txn.checks.iter().enumerate() {
            let stored = self.entries.get(check.key.as_str())?;
            if stored.map_or(0, |stored| number(stored.value(), 0)) != check.revision {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn put(&mut self, key: &str, value: &[u8], revision: Revision) -> Result<()> {
        let created = self.entries.get(key)?.map_or(revision, |stored| number(stored.value(), 8));
        let mut stored = self.entries.insert_reserve(key, HEADER + value.len())?;
        let stored = stored.as_mut();
        stored[..8].copy_from_slice(&revision.to_le_bytes());
        stored[8..HEADER].copy_from_slice(&created.to_le_bytes());
        stored[HEADER..].copy_from_slice(value);
        Ok(())
    }

    fn record(&mut self, change: Change) -> Result<()> {
        let (record, total) = change.encode(self.total);
        self.events.insert(change.revision, record.as_slice())?;
        (self.revision, self.total) = (change.revision, total);
        self.changes.push(change);
        Ok(())
    }

    /// Forgets the oldest events once there are an eighth too many, so that few commits pay for it. The last
    /// record always stays: it holds the revision of the store.
    fn compact(&mut self, options: &Options) -> Result<()> {
        let Some((first, base)) = self.first()? else { return Ok(()) };
        let count = self.revision - first + 1;
        let too_many = count > options.keep_revisions + options.keep_revisions / 8;
        let too_large = self.total - base > options.keep_bytes + options.keep_bytes / 8;
        if !too_many && !too_large {
            return Ok(());
        }
        let keep_from = self.revision + 1 - count.min(options.keep_revisions.max(1));
        while let Some((first, total)) = self.first()? {
            let is_wanted = first >= keep_from && self.total - total <= options.keep_bytes;
            if is_wanted || first == self.revision {
                break;
            }
            self.events.pop_first()?;
        }
        Ok(())
    }

    /// The oldest record's revision and running total.
    fn first(&self) -> Result<Option<(Revision, u64)>> {
        Ok(self
            .events
            .first()?
            .map(|(revision, record)| (revision.value(), history::running_total(record.value()))))
    }
}
