//! Long-running operations, restarts included.

use std::time::Duration;

use apis::google::longrunning::operation::Result as Ended;
use kernel::{
    Code, Error,
    clock::Clock,
    operations::{Operations, Plan, to_any},
    paging::{Limits, Page},
    store::Txn,
};
use prost_types::Any;

use crate::{new_store, open, run};

const PARENT: &str = "projects/p/locations/l";
const LONG: Duration = Duration::from_secs(10);

fn text(text: &str) -> Any {
    to_any("google.protobuf.StringValue", &text.to_owned())
}

async fn operations() -> (tempfile::TempDir, Operations) {
    let (dir, store) = new_store();
    (dir, Operations::open(store, Clock::system()).await.unwrap())
}

fn error_of(operation: &apis::google::longrunning::Operation) -> (i32, &str) {
    match &operation.result {
        Some(Ended::Error(status)) => (status.code, &status.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operation_runs_tells_and_ends() {
    run(async {
        let (_dir, operations) = operations().await;
        let (go, wait) = tokio::sync::oneshot::channel();
        let started = operations
            .start(Plan::new(PARENT, "test").metadata(text("0 %")), |progress| async move {
                progress.metadata(text("50 %")).await?;
                wait.await.unwrap();
                Ok(text("made"))
            })
            .await
            .unwrap();
        assert!(started.name.starts_with("projects/p/locations/l/operations/") && !started.done);
        assert_eq!(started.metadata, Some(text("0 %")));
        let early = operations.wait(&started.name, Duration::from_millis(20)).await.unwrap();
        assert!(!early.done, "the timeout gives it as it is");
        go.send(()).unwrap();
        let ended = operations.wait(&started.name, LONG).await.unwrap();
        assert_eq!(
            (ended.done, ended.metadata, ended.result),
            (true, Some(text("50 %")), Some(Ended::Response(text("made"))))
        );
        operations.delete(&started.name).await.unwrap();
        assert_eq!(operations.get(&started.name).unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn errors_and_panics_are_ends() {
    run(async {
        let (_dir, operations) = operations().await;
        let plan = || Plan::new(PARENT, "test");
        let failed =
            operations.start(plan(), |_| async { Err(Error::precondition("no image")) }).await.unwrap();
        let failed = operations.wait(&failed.name, LONG).await.unwrap();
        assert_eq!(error_of(&failed), (Code::FailedPrecondition as i32, "no image"));
        let panicked = operations.start(plan(), |_| async { panic!("a fault") }).await.unwrap();
        let panicked = operations.wait(&panicked.name, LONG).await.unwrap();
        assert_eq!(error_of(&panicked).0, Code::Internal as i32);
        let done = operations.finished(plan(), text("at once")).await.unwrap();
        assert_eq!(operations.get(&done.name).unwrap().result, Some(Ended::Response(text("at once"))));
    });
}

#[test]
fn a_start_happens_with_its_changes_or_not_at_all() {
    run(async {
        let (_dir, store) = new_store();
        let operations = Operations::open(store.clone(), Clock::system()).await.unwrap();
        let plan = |also| Plan::new(PARENT, "test").with(also);
        let work = |_| async { Ok(text("")) };
        operations.start(plan(Txn::new().put("thing", "1")), work).await.unwrap();
        assert!(store.get("thing").await.unwrap().is_some());
        let refused = operations.start(plan(Txn::new().check("thing", 0)), work).await.unwrap_err();
        assert_eq!(refused.code(), Code::Aborted);
        let page = Page::new(Limits { usual: 10, most: 10 }, 0, "", &[]).unwrap();
        assert_eq!(operations.list(PARENT, &page, |_| true).0.len(), 1);
        assert_eq!(operations.list("projects/p/locations/other", &page, |_| true).0.len(), 0);
    });
}

#[test]
fn after_a_restart_operations_are_resumed_or_failed() {
    let dir = crate::new_dir();
    let start = async |operations: &Operations, kind, memo: &'static str| {
        let plan = Plan::new(PARENT, kind).metadata(text("half done")).memo(memo);
        operations.start(plan, |_| std::future::pending()).await.unwrap().name
    };
    let (resumed, forgotten) = run(async {
        let operations = Operations::open(open(dir.path()), Clock::system()).await.unwrap();
        (start(&operations, "one", "the rest").await, start(&operations, "two", "").await)
    });
    run(async {
        let operations = Operations::open(open(dir.path()), Clock::system()).await.unwrap();
        assert!(!operations.get(&resumed).unwrap().done);
        let left = operations.unfinished("one");
        assert_eq!((left.len(), &left[0].name, &left[0].memo[..]), (1, &resumed, &b"the rest"[..]));
        operations.resume(&left[0].name, |_| async { Ok(text("done after all")) }).unwrap();
        assert_eq!(operations.fail_unfinished().await.unwrap(), 1);
        let failed = operations.get(&forgotten).unwrap();
        let expected = (Code::Aborted as i32, "The operation was interrupted by a restart of the server.");
        assert_eq!(error_of(&failed), expected);
        let ended = operations.wait(&resumed, LONG).await.unwrap();
        assert_eq!(ended.result, Some(Ended::Response(text("done after all"))));
        assert!(operations.unfinished("one").is_empty() && operations.unfinished("two").is_empty());
    });
}

#[test]
fn old_operations_are_forgotten() {
    run(async {
        let (_dir, store) = new_store();
        let clock = Clock::manual(std::time::SystemTime::now());
        let operations = Operations::open(store.clone(), clock.clone()).await.unwrap();
        let old = operations.finished(Plan::new("", "test"), text("")).await.unwrap();
        clock.advance(Duration::from_secs(20 * 24 * 3600));
        let young = operations.finished(Plan::new("", "test"), text("")).await.unwrap();
        assert!(young.name.starts_with("operations/"));
        clock.advance(Duration::from_secs(20 * 24 * 3600));
        drop(operations);
        let operations = Operations::open(store, clock).await.unwrap();
        assert!(operations.get(&old.name).is_err() && operations.get(&young.name).is_ok());
    });
}
