//! Random transactions, beside a map in memory that does what the store should.

use std::collections::BTreeMap;

use bytes::Bytes;
use kernel::store::{Entry, Event, Outcome, Revision, Store, Txn, Watched};
use proptest::prelude::*;

use crate::{conformance::events, new_store, open, run};

#[derive(Default)]
struct Model {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
    events: Vec<Event>,
}

impl Model {
    fn txn(&mut self, txn: &Txn) -> Outcome {
        let revision = |key: &String| self.entries.get(key).map_or(0, |entry| entry.revision);
        if let Some(index) = txn.checks.iter().position(|check| revision(&check.key) != check.revision) {
            return Outcome::Conflict(index);
        }
        let next = self.revision + 1;
        for (key, value) in &txn.puts {
            let created = self.entries.get(key).map_or(next, |entry| entry.created);
            let entry = Entry { key: key.clone(), value: value.clone(), revision: next, created };
            self.entries.insert(key.clone(), entry);
            self.events.push(Event { revision: next, key: key.clone(), value: Some(value.clone()) });
        }
        for key in &txn.deletes {
            if self.entries.remove(key).is_some() {
                self.events.push(Event { revision: next, key: key.clone(), value: None });
            }
        }
        if self.events.last().is_some_and(|event| event.revision == next) {
            self.revision = next;
        }
        Outcome::Committed(self.revision)
    }

    fn range(&self, prefix: &str, after: &str, limit: usize) -> Vec<Entry> {
        let ours =
            self.entries.values().filter(|entry| entry.key.starts_with(prefix) && entry.key.as_str() > after);
        ours.take(limit).cloned().collect()
    }
}

/// A transaction over few keys, with checks that hold about as often as not.
fn transaction() -> impl Strategy<Value = Txn> {
    let key = || prop::sample::select(vec!["a", "a/b", "a/c", "b", "b/a", "c"]);
    let checks = prop::collection::vec((key(), prop_oneof![Just(0u64), 0u64..12]), 0..2);
    let changes = prop::collection::btree_map(
        key(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        0..5,
    );
    (checks, changes).prop_map(|(checks, changes)| {
        let txn = checks.into_iter().fold(Txn::new(), |txn, (key, revision)| txn.check(key, revision));
        changes.into_iter().fold(txn, |txn, (key, value)| match value {
            Some(value) => txn.put(key, Bytes::from(value)),
            None => txn.delete(key),
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_does(txns in prop::collection::vec(transaction(), 1..40), reopen_at in 0usize..40) {
        run(async {
            let (dir, mut store) = new_store();
            let mut model = Model::default();
            for (step, txn) in txns.into_iter().enumerate() {
                if step == reopen_at {
                    drop(store);
                    store = open(dir.path());
                }
                let expected = model.txn(&txn);
                prop_assert_eq!(store.txn(txn).await.unwrap(), expected);
            }
            compare(&*store, &model).await
        })?;
    }
}

async fn compare(store: &dyn Store, model: &Model) -> Result<(), TestCaseError> {
    for (prefix, after, limit) in [("", "", 100), ("a", "a", 1), ("a/", "", 1), ("b", "a", 2), ("c", "c", 3)]
    {
        let (found, revision) = store.range(prefix, after, limit).await.unwrap();
        prop_assert_eq!(found, model.range(prefix, after, limit));
        prop_assert_eq!(revision, model.revision);
    }
    for from in 0..model.revision {
        let expected: Vec<&Event> = model.events.iter().filter(|event| event.revision > from).collect();
        let mut watch = store.watch("", from).await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.extend(events(&mut *watch).await);
        }
        prop_assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    }
    let mut ahead = store.watch("", model.revision).await.unwrap();
    let silence = tokio::time::timeout(std::time::Duration::from_millis(5), ahead.next()).await;
    prop_assert!(matches!(silence, Err(_) | Ok(Some(Watched::Progress(_)))));
    Ok(())
}
