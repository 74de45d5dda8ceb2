//! What has changed, transaction by transaction: the record that watches are replayed from.
//!
//! One record a transaction, keyed by its revision, so that a reader can never see a part of one. Revisions
//! follow each other without gaps; the first and the last record therefore say how many there are, and a
//! running total in each says how many bytes lie between, so opening a store reads two records and nothing
//! else. The newest transactions are also kept in memory, in [`Recent`], which serves every watch that keeps
//! up.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, BufMut, Bytes};

use crate::store::{Event, Revision};

/// The changes of one transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: Revision,
    /// Each key with its new value; `None` for a key that was deleted.
    pub(super) keys: Vec<(String, Option<Bytes>)>,
}

impl Change {
    /// The events of the keys under a prefix.
    pub(super) fn events<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Event> + 'a {
        let ours = self.keys.iter().filter(move |(key, _)| key.starts_with(prefix));
        ours.map(|(key, value)| Event { revision: self.revision, key: key.clone(), value: value.clone() })
    }

    /// How much room it takes, about.
    pub(super) fn size(&self) -> usize {
        self.keys.iter().map(|(key, value)| 64 + key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
    }

    /// The record, and the running total of all records so far: `before` and its own length.
    pub(super) fn encode(&self, before: u64) -> (Vec<u8>, u64) {
        let mut record = Vec::with_capacity(8 + self.size());
        record.put_u64_le(0);
        for (key, value) in &self.keys {
            put_bytes(&mut record, key.as_bytes());
            match value {
                Some(value) => {
                    record.put_u8(1);
                    put_bytes(&mut record, value);
                }
                None => record.put_u8(0),
            }
        }
        let total = before + record.len() as u64;
        record[..8].copy_from_slice(&total.to_le_bytes());
        (record, total)
    }

    /// Reads a record back. `None` for one that is damaged.
    pub(super) fn decode(revision: Revision, record: &[u8]) -> Option<Self> {
        let mut rest = record.get(8..)?;
        let mut keys = Vec::new();
        while rest.has_remaining() {
            let key = String::from_utf8(take_bytes(&mut rest)?.to_vec()).ok()?;
            let value = match rest.try_get_u8().ok()? {
                0 => None,
                _ => Some(Bytes::copy_from_slice(take_bytes(&mut rest)?)),
            };
            keys.push((key, value));
        }
        Some(Change { revision, keys })
    }
}

/// The running total in a record.
pub(super) fn running_total(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |total| u64::from_le_bytes(*total))
}

fn put_bytes(record: &mut Vec<u8>, bytes: &[u8]) {
    record.put_u32_le(bytes.len() as u32);
    record.put_slice(bytes);
}

fn take_bytes<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let length = rest.try_get_u32_le().ok()? as usize;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// The most transactions kept in memory.
const RECENT_COUNT: usize = 256;
/// The most bytes of them.
const RECENT_BYTES: usize = 1 << 20;

/// The newest transactions.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

impl Recent {
    /// Adds transactions that are durable now, and forgets the oldest ones.
    pub(super) fn extend(&self, changes: impl IntoIterator<Item = Arc<Change>>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            ring.bytes += change.size();
            ring.changes.push_back(change);
        }
        while ring.changes.len() > RECENT_COUNT || ring.bytes > RECENT_BYTES {
            let Some(oldest) = ring.changes.pop_front() else { break };
            ring.bytes -= oldest.size();
        }
    }

    /// Forgets all of them, when it is no longer certain what is durable.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Ring::default();
    }

    /// Everything after a revision, or `None` when that is no longer in memory.
    pub(super) fn after(&self, revision: Revision) -> Option<Vec<Arc<Change>>> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.changes.front()?.revision;
        if revision + 1 < first {
            return None;
        }
        Some(ring.changes.iter().skip((revision + 1 - first) as usize).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_survive_the_trip(keys in prop::collection::vec(("[a-z/]{0,20}", prop::option::of(prop::collection::vec(any::<u8>(), 0..40))), 0..6), before in 0u64..1 << 40) {
            let keys = keys.into_iter().map(|(key, value)| (key, value.map(Bytes::from))).collect();
            let change = Change { revision: 7, keys };
            let (record, total) = change.encode(before);
            prop_assert_eq!(running_total(&record), total);
            prop_assert_eq!(total, before + record.len() as u64);
            prop_assert_eq!(Change::decode(7, &record), Some(change));
        }

        #[test]
        fn damaged_records_are_noticed_and_never_a_panic(record in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Change::decode(1, &record);
        }
    }

    #[test]
    fn recent_changes_are_found_by_revision_and_bounded() {
        let recent = Recent::default();
        assert!(recent.after(0).is_none());
        recent.extend((1..=300).map(|revision| Arc::new(Change { revision, keys: Vec::new() })));
        assert!(recent.after(10).is_none(), "long gone");
        assert_eq!(recent.after(298).unwrap().iter().map(|c| c.revision).collect::<Vec<_>>(), [299, 300]);
        assert!(recent.after(300).unwrap().is_empty());
        let large = Bytes::from(vec![0; 600_000]);
        recent
            .extend((301..=303).map(|revision| {
                Arc::new(Change { revision, keys: vec![("k".into(), Some(large.clone()))] })
            }));
        assert!(recent.after(301).is_none());
        assert_eq!(recent.after(302).unwrap().len(), 1);
    }
}
