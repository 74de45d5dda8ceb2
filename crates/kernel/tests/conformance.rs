//! What every engine does. Each function gets a store and keeps to keys of its own.

use std::sync::Arc;

use bytes::Bytes;
use kernel::{
    Code,
    store::{Entry, Event, MAX_OPERATIONS, MAX_VALUE, Outcome, Revision, Store, Txn, Watch, Watched},
};

use crate::{new_store, run};

#[test]
fn the_embedded_engine_conforms() {
    run(async {
        let (_dir, store) = new_store();
        everything(store).await;
    });
}

/// The whole suite, for an engine.
pub(crate) async fn everything(store: Arc<dyn Store>) {
    let store = &*store;
    a_value_is_read_as_it_was_written(store).await;
    each_transaction_is_one_revision(store).await;
    a_conflict_names_the_check_and_changes_nothing(store).await;
    a_transaction_is_all_or_nothing(store).await;
    what_changes_nothing_makes_no_revision(store).await;
    ranges_are_ordered_and_continue(store).await;
    limits_are_told(store).await;
    a_watch_replays_and_goes_on(store).await;
    a_watch_reports_deletions(store).await;
    a_watch_sees_only_its_prefix_and_hears_of_progress(store).await;
    a_transaction_is_never_split(store).await;
}

pub(crate) async fn commit(store: &dyn Store, txn: Txn) -> Revision {
    match store.txn(txn).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(index) => panic!("conflict at check {index}"),
    }
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    commit(store, Txn::new().put(key, value.to_owned())).await
}

/// The next events, skipping news of progress.
pub(crate) async fn events(watch: &mut dyn Watch) -> Vec<Event> {
    loop {
        match watch.next().await.expect("the store is open") {
            Watched::Events(events) => return events,
            Watched::Progress(_) => {}
            Watched::Compacted => panic!("compacted"),
        }
    }
}

/// As many events as these.
async fn some_events(watch: &mut dyn Watch, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(events(watch).await);
    }
    seen
}

fn event(revision: Revision, key: &str, value: Option<&'static str>) -> Event {
    Event { revision, key: key.into(), value: value.map(Bytes::from) }
}

async fn a_value_is_read_as_it_was_written(store: &dyn Store) {
    assert_eq!(store.get("read/a").await.unwrap(), None);
    let first = put(store, "read/a", "one").await;
    let second = put(store, "read/a", "two").await;
    let entry = Entry { key: "read/a".into(), value: "two".into(), revision: second, created: first };
    assert_eq!(store.get("read/a").await.unwrap(), Some(entry));
    commit(store, Txn::new().put("read/empty", "").put("read/large", vec![7; MAX_VALUE])).await;
    assert!(store.get("read/empty").await.unwrap().unwrap().value.is_empty());
    assert_eq!(store.get("read/large").await.unwrap().unwrap().value.len(), MAX_VALUE);
    commit(store, Txn::new().delete("read/a")).await;
    assert_eq!(store.get("read/a").await.unwrap(), None);
    let again = put(store, "read/a", "three").await;
    assert_eq!(store.get("read/a").await.unwrap().unwrap().created, again, "made anew");
}

async fn each_transaction_is_one_revision(store: &dyn Store) {
    let before = put(store, "count/a", "").await;
    let after = commit(store, Txn::new().put("count/b", "").put("count/c", "").delete("count/a")).await;
    assert_eq!(after, before + 1);
    assert_eq!(store.get("count/b").await.unwrap().unwrap().revision, after);
    assert_eq!(store.get("count/c").await.unwrap().unwrap().revision, after);
}

async fn a_conflict_names_the_check_and_changes_nothing(store: &dyn Store) {
    let revision = put(store, "check/a", "one").await;
    let txn = Txn::new().check("check/b", 0).check("check/a", revision - 1).put("check/b", "x");
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Conflict(1));
    assert_eq!(store.get("check/b").await.unwrap(), None);
    let txn = Txn::new().check("check/a", 0).put("check/a", "x");
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Conflict(0), "it exists");
    let txn = Txn::new().check("check/b", 0).check("check/a", revision).put("check/b", "x");
    assert_eq!(store.txn(txn).await.unwrap(), Outcome::Committed(revision + 1), "conflicts make no revision");
}

async fn a_transaction_is_all_or_nothing(store: &dyn Store) {
    let revision = commit(store, Txn::new().put("all/a", "1").put("all/b", "1")).await;
    let swap = Txn::new().check("all/a", revision).delete("all/a").put("all/b", "2").put("all/c", "2");
    commit(store, swap.clone()).await;
    assert_eq!(store.txn(swap).await.unwrap(), Outcome::Conflict(0));
    let (found, _) = store.range("all/", "", 10).await.unwrap();
    let found: Vec<_> = found.iter().map(|entry| (entry.key.as_str(), &entry.value[..])).collect();
    assert_eq!(found, [("all/b", &b"2"[..]), ("all/c", b"2")]);
}

async fn what_changes_nothing_makes_no_revision(store: &dyn Store) {
    let revision = put(store, "nothing/a", "").await;
    assert_eq!(commit(store, Txn::new()).await, revision);
    assert_eq!(commit(store, Txn::new().delete("nothing/b")).await, revision);
    assert_eq!(commit(store, Txn::new().check("nothing/a", revision)).await, revision);
    assert_eq!(put(store, "nothing/a", "").await, revision + 1, "the same value is a write all the same");
}

async fn ranges_are_ordered_and_continue(store: &dyn Store) {
    for key in ["range/b", "range/a", "range/a/x", "range/é", "rangf", "range"] {
        put(store, key, key).await;
    }
    let keys = async |after: &str, limit| {
        let (found, _) = store.range("range/", after, limit).await.unwrap();
        found.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("", 10).await, ["range/a", "range/a/x", "range/b", "range/é"]);
    assert_eq!(keys("", 1000).await.len(), 4);
    assert_eq!(keys("", 2).await, ["range/a", "range/a/x"]);
    assert_eq!(keys("range/a/x", 2).await, ["range/b", "range/é"]);
    assert_eq!(keys("range/a/a", 1).await, ["range/a/x"], "a position need not exist");
    assert_eq!(keys("aaa", 1).await, ["range/a"], "a position before the prefix");
    assert!(keys("zzz", 10).await.is_empty(), "a position after it");
    let last = put(store, "elsewhere", "").await;
    assert_eq!(store.range("range/", "", 0).await.unwrap(), (Vec::new(), last));
}

async fn limits_are_told(store: &dyn Store) {
    let refused = async |txn: Txn, words: &str| {
        let error = store.txn(txn).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(words), "{error}");
    };
    let many = |count| (0..count).fold(Txn::new(), |txn, i| txn.put(format!("limit/{i}"), "v"));
    refused(many(MAX_OPERATIONS + 1), "129 operations; at most 128").await;
    commit(store, many(MAX_OPERATIONS)).await;
    refused(Txn::new().put("limit/l", vec![0; MAX_VALUE + 1]), "1048577 bytes; at most 1048576").await;
    let two = Txn::new().put("limit/x", vec![0; MAX_VALUE]).put("limit/y", vec![0; MAX_VALUE]);
    refused(two, "at most 1572864").await;
    refused(Txn::new().put("", "v"), "empty").await;
    refused(Txn::new().check("", 0), "empty").await;
    refused(Txn::new().put("limit/1", "v").delete("limit/1"), "'limit/1' twice").await;
    assert_eq!(store.get("limit/x").await.unwrap(), None);
}

async fn a_watch_replays_and_goes_on(store: &dyn Store) {
    let start = put(store, "watch/a", "1").await;
    put(store, "watch/a", "2").await;
    put(store, "watch/b", "3").await;
    let mut watch = store.watch("watch/", start).await.unwrap();
    let replayed = some_events(&mut *watch, 2).await;
    assert_eq!(replayed, [event(start + 1, "watch/a", Some("2")), event(start + 2, "watch/b", Some("3"))]);
    put(store, "watch/c", "4").await;
    assert_eq!(events(&mut *watch).await, [event(start + 3, "watch/c", Some("4"))]);
}

async fn a_watch_reports_deletions(store: &dyn Store) {
    let start = commit(store, Txn::new().put("gone/a", "1").put("gone/b", "1")).await;
    let mut watch = store.watch("gone/", start).await.unwrap();
    commit(store, Txn::new().delete("gone/a").delete("gone/none")).await;
    assert_eq!(events(&mut *watch).await, [event(start + 1, "gone/a", None)]);
}

async fn a_watch_sees_only_its_prefix_and_hears_of_progress(store: &dyn Store) {
    let start = put(store, "mine/a", "1").await;
    let mut watch = store.watch("mine/", start).await.unwrap();
    let other = put(store, "other/a", "1").await;
    loop {
        match watch.next().await {
            Some(Watched::Progress(revision)) if revision >= other => break,
            Some(Watched::Progress(_)) => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
    let revision = commit(store, Txn::new().put("other/b", "2").put("mine/b", "2").put("mine", "2")).await;
    assert_eq!(events(&mut *watch).await, [event(revision, "mine/b", Some("2"))]);
}

async fn a_transaction_is_never_split(store: &dyn Store) {
    let start = put(store, "whole/start", "").await;
    let mut watch = store.watch("whole/", start).await.unwrap();
    for round in 0..20 {
        let keys = (0..10).map(|i| format!("whole/{i}"));
        commit(store, keys.fold(Txn::new(), |txn, key| txn.put(key, round.to_string()))).await;
    }
    let mut seen = 0;
    while seen < 200 {
        let batch = events(&mut *watch).await;
        assert_eq!(batch.len() % 10, 0);
        assert!(batch.chunks(10).all(|txn| txn.iter().all(|event| event.revision == txn[0].revision)));
        seen += batch.len();
    }
}
