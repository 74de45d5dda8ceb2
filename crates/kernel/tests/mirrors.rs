//! Mirrors and collections over a real store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use kernel::{
    Code,
    collection::{Collection, Wording},
    mirror::{Mirror, Record},
    paging::{Limits, Page},
    store::{Embedded, Outcome, Store, Txn, embedded::Options},
};

use crate::{conformance::commit, new_dir, new_store, options, run};

#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "2")]
    count: u64,
}

impl Record for Note {
    const FORMAT: u8 = 2;

    fn upgrade(format: u8, bytes: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        (format == 1).then_some(Ok(Note { text, count: 0 }))
    }
}

fn note(text: &str) -> Note {
    Note { text: text.into(), count: 0 }
}

#[test]
fn a_write_is_seen_when_it_returns() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Mirror::<Note>::open(store, "notes/").await.unwrap();
        for round in 0..50 {
            let txn = Txn::new().put(notes.key("a"), note(&round.to_string()).to_stored());
            let Outcome::Committed(revision) = notes.commit(txn).await.unwrap() else { panic!() };
            let held = notes.get("a").unwrap();
            assert_eq!((held.text.clone(), held.revision, held.created), (round.to_string(), revision, 1));
        }
        notes.commit(Txn::new().delete(notes.key("a"))).await.unwrap();
        assert!(notes.get("a").is_none() && notes.is_empty());
        // A write elsewhere does not make this mirror wait for something that never comes.
        notes.commit(Txn::new().put("other/a", "x")).await.unwrap();
    });
}

#[test]
fn a_conflict_is_seen_when_it_returns() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Mirror::<Note>::open(store.clone(), "notes/").await.unwrap();
        for round in 0..200 {
            let key = notes.key(&round.to_string());
            // Written beside the mirror, which hears of it a moment later.
            commit(&*store, Txn::new().put(&*key, note("first").to_stored())).await;
            let late = notes.commit(Txn::new().check(&*key, 0).put(&*key, note("late").to_stored())).await;
            assert_eq!(late.unwrap(), Outcome::Conflict(0));
            assert_eq!(notes.get(&round.to_string()).unwrap().text, "first");
        }
    });
}

#[test]
fn what_is_there_is_read_at_the_start_page_by_page() {
    run(async {
        let (_dir, store) = new_store();
        for block in 0..25 {
            let keys = (0..100).map(|i| format!("notes/{block:02}/{i:02}"));
            commit(&*store, keys.fold(Txn::new(), |txn, key| txn.put(&*key, note(&key).to_stored()))).await;
        }
        let notes = Mirror::<Note>::open(store, "notes/").await.unwrap();
        assert_eq!(notes.len(), 2500);
        assert_eq!(notes.get("13/37").unwrap().text, "notes/13/37");
        let names = |prefix, after, limit| {
            notes
                .range(prefix, after, limit)
                .into_iter()
                .map(|(name, _)| name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("", "", 2), ["00/00", "00/01"]);
        assert_eq!(names("24/", "", 1), ["24/00"]);
        assert_eq!(names("24/", "24/97", 9), ["24/98", "24/99"]);
        assert_eq!(names("03/", "99", 9), [""; 0]);
    });
}

#[test]
fn older_formats_are_read_and_newer_ones_refused() {
    run(async {
        let (_dir, store) = new_store();
        commit(&*store, Txn::new().put("notes/old", &b"\x01words"[..])).await;
        let notes = Mirror::<Note>::open(store.clone(), "notes/").await.unwrap();
        assert_eq!(notes.get("old").unwrap().text, "words");
        commit(&*store, Txn::new().put("notes/new", &b"\x03\x08\x01"[..])).await;
        let refusal = Mirror::<Note>::open(store, "notes/").await.unwrap_err();
        assert!(refusal.message().contains("format that this version cannot read. (notes/new)"), "{refusal}");
    });
}

#[test]
fn changes_arrive_transaction_by_transaction_before_the_write_returns() {
    run(async {
        let (_dir, store) = new_store();
        commit(&*store, Txn::new().put("notes/0", note("0").to_stored())).await;
        let sums = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = sums.clone();
        let notes = Mirror::<Note>::open_with(store, "notes/", move |changes| {
            let mut sums = seen.lock().unwrap();
            for change in changes {
                match &change.after {
                    Some(after) => sums.insert(change.name.to_string(), after.text.clone()),
                    None => sums.remove(&*change.name),
                };
            }
        })
        .await
        .unwrap();
        assert_eq!(sums.lock().unwrap().len(), 1, "what was there comes first");
        let mut changes = notes.changes();
        changes.mark_unchanged();
        let txn = Txn::new().put("notes/1", note("1").to_stored()).put("notes/2", note("2").to_stored());
        notes.commit(txn.delete("notes/0")).await.unwrap();
        assert_eq!(sums.lock().unwrap().keys().cloned().collect::<Vec<_>>(), ["1", "2"]);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        notes.commit(Txn::new().put("elsewhere", "x")).await.unwrap();
        assert!(!changes.has_changed().unwrap(), "not our business");
    });
}

#[test]
fn a_mirror_that_was_left_behind_reads_everything_again() {
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    single.block_on(async {
        let dir = new_dir();
        let options = Options { keep_revisions: 10, ..options() };
        let store: Arc<dyn Store> = Arc::new(Embedded::open_with(dir.path(), options).unwrap());
        commit(&*store, Txn::new().put("notes/gone", note("x").to_stored())).await;
        let notes = Mirror::<Note>::open(store.clone(), "notes/").await.unwrap();
        commit(&*store, Txn::new().delete("notes/gone")).await;
        // Large values push the changes out of memory, and the feed cannot run while this thread blocks.
        let rounds: Vec<_> = (0..40).map(|i| Txn::new().put("big", vec![i; 400_000])).collect();
        let writer = store.clone();
        let blocked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                for txn in rounds {
                    writer.txn(txn).await.unwrap();
                }
            });
        });
        blocked.join().unwrap();
        notes.commit(Txn::new().put("notes/last", note("y").to_stored())).await.unwrap();
        assert!(notes.get("gone").is_none());
        assert_eq!(notes.get("last").unwrap().text, "y");
        assert_eq!(notes.len(), 1);
    });
}

const LIMITS: Limits = Limits { usual: 25, most: 100 };

#[test]
fn a_resource_lives_and_dies() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Collection::<Note>::open(store, "notes/", Wording::of("Note")).await.unwrap();
        let made = notes.create("projects/p/notes/a", note("1")).await.unwrap();
        assert_eq!(notes.get("projects/p/notes/a").unwrap(), made);

        let again = notes.create("projects/p/notes/a", note("2")).await.unwrap_err();
        assert_eq!(
            (again.code(), again.message()),
            (Code::AlreadyExists, "Note [projects/p/notes/a] already exists.")
        );

        let changed = notes
            .update("projects/p/notes/a", &made.etag(), |note| {
                note.count = 7;
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!((changed.count, changed.created), (7, made.revision));
        let stale = notes.update("projects/p/notes/a", &made.etag(), |_| Ok(())).await.unwrap_err();
        assert_eq!(stale.code(), Code::Aborted);
        let stale = notes.delete("projects/p/notes/a", &made.etag()).await.unwrap_err();
        assert_eq!(stale.code(), Code::Aborted);
        let refused =
            notes.update("projects/p/notes/a", "", |_| Err(kernel::Error::precondition("no"))).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);

        assert_eq!(notes.delete("projects/p/notes/a", "").await.unwrap(), changed);
        let gone = notes.get("projects/p/notes/a").unwrap_err();
        assert_eq!((gone.code(), gone.message()), (Code::NotFound, "Note [projects/p/notes/a] not found."));
        assert_eq!(notes.delete("projects/p/notes/a", "").await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn concurrent_changes_are_all_kept() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Collection::<Note>::open(store, "notes/", Wording::of("Note")).await.unwrap();
        notes.create("a", note("")).await.unwrap();
        let change = |notes: Collection<Note>| async move {
            for _ in 0..10 {
                notes
                    .update("a", "", |note| {
                        note.count += 1;
                        Ok(())
                    })
                    .await
                    .unwrap();
            }
        };
        let changes: Vec<_> = (0..8).map(|_| tokio::spawn(change(notes.clone()))).collect();
        for change in changes {
            change.await.unwrap();
        }
        assert_eq!(notes.get("a").unwrap().count, 80);
    });
}

#[test]
fn what_comes_along_happens_too_or_nothing_does() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Collection::<Note>::open(store.clone(), "notes/", Wording::of("Note")).await.unwrap();
        notes.create_with("a", note("1"), Txn::new().put("policies/a", "p")).await.unwrap();
        assert!(store.get("policies/a").await.unwrap().is_some());
        let refused = notes.create_with("b", note("1"), Txn::new().check("policies/a", 0)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        assert!(notes.find("b").is_none());
        notes.delete_with("a", "", |_| Ok(Txn::new().delete("policies/a"))).await.unwrap();
        assert!(store.get("policies/a").await.unwrap().is_none());
    });
}

#[test]
fn a_listing_has_pages() {
    run(async {
        let (_dir, store) = new_store();
        let notes = Collection::<Note>::open(store, "notes/", Wording::of("Note")).await.unwrap();
        for name in ["p/notes/a", "p/notes/b", "p/notes/c", "p/notes/d", "q/notes/a"] {
            notes.create(name, note(name)).await.unwrap();
        }
        let list = |token: &str| {
            let page = Page::new(LIMITS, 2, token, &["p"]).unwrap();
            let (found, next) = notes.list("p/notes/", &page, |name, _| name != "p/notes/b");
            (found.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), next)
        };
        let (first, next) = list("");
        assert_eq!(first, ["p/notes/a", "p/notes/c"]);
        let (second, end) = list(&next);
        assert_eq!((second, end), (vec!["p/notes/d".to_owned()], String::new()));
    });
}
