//! Writing, listing, paging and deleting.

use apis::google::logging::v2::{self as proto, logging_service_v2 as rpc};
use kernel::Code;

use crate::world::{Allow, LOG, P, START, World, global, listing, refusal, said, said_at, text};

#[tokio::test]
async fn what_a_client_leaves_out_is_filled_in() {
    let world = World::new();
    let request = proto::WriteLogEntriesRequest {
        log_name: "projects/123456789012/logs/app".into(),
        resource: Some(global()),
        labels: [("team".to_owned(), "a".to_owned()), ("own".to_owned(), "request".to_owned())].into(),
        entries: vec![proto::LogEntry {
            labels: [("own".to_owned(), "entry".to_owned())].into(),
            ..said("hello")
        }],
        ..proto::WriteLogEntriesRequest::default()
    };
    world.call(rpc::WRITE_LOG_ENTRIES, request).await.unwrap();
    let entries = world.list(listing("")).await.entries;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&*entry.log_name, text(entry)), (LOG, "hello".into()));
    assert_eq!(entry.resource.as_ref().unwrap().labels["project_id"], "haar-test");
    assert_eq!((&*entry.labels["team"], &*entry.labels["own"]), ("a", "entry"));
    let now = Some(prost_types::Timestamp { seconds: START as i64, nanos: 0 });
    assert_eq!((entry.timestamp, entry.receive_timestamp), (now, now));
    assert_eq!((entry.severity, entry.insert_id.len()), (0, 17));
}

#[tokio::test]
async fn every_field_comes_back() {
    let world = World::new();
    let entry = proto::LogEntry {
        log_name: "projects/haar-test/logs/a%2Fb".into(),
        severity: 600,
        insert_id: "mine".into(),
        trace: "projects/haar-test/traces/t".into(),
        span_id: "s".into(),
        trace_sampled: true,
        http_request: Some(apis::google::logging::r#type::HttpRequest { status: 200, ..Default::default() }),
        operation: Some(proto::LogEntryOperation { id: "o".into(), first: true, ..Default::default() }),
        source_location: Some(proto::LogEntrySourceLocation { line: 3, ..Default::default() }),
        ..said_at(5, "all")
    };
    world.write(vec![entry.clone()]).await.unwrap();
    let mut listed = world.list(listing("severity=CRITICAL")).await.entries.remove(0);
    assert!(listed.receive_timestamp.take().is_some() && listed.resource.take().is_some());
    assert_eq!(listed, entry);
}

#[tokio::test]
async fn pages_go_both_ways_and_show_each_entry_once() {
    let world = World::new();
    for start in [50, 0, 75, 25] {
        let entries = (start..start + 25).map(|second| said_at(second / 2, &format!("{second:03}")));
        world.write(entries.collect()).await.unwrap();
    }
    for (order_by, size) in [("", 7), ("timestamp asc", 100), ("timestamp desc", 13), ("timestamp desc", 1)] {
        let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = proto::ListLogEntriesRequest {
                order_by: order_by.into(),
                page_size: size,
                page_token: token,
                ..listing("")
            };
            let page = world.list(page).await;
            assert!(page.entries.len() <= size as usize);
            pages += 1;
            seen.extend(page.entries.iter().map(|entry| (entry.timestamp.unwrap().seconds, text(entry))));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(pages, 100usize.div_ceil(size as usize));
        let times: Vec<_> = seen.iter().map(|(time, _)| *time).collect();
        assert!(times.is_sorted_by(|a, b| if order_by.ends_with("desc") { a >= b } else { a <= b }));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}

#[tokio::test]
async fn one_id_at_one_moment_is_one_entry() {
    let world = World::new();
    let entry = |id: &str, second| proto::LogEntry { insert_id: id.into(), ..said_at(second, id) };
    world.write(vec![entry("b", 1), entry("a", 1), entry("b", 1)]).await.unwrap();
    world.write(vec![entry("b", 1), entry("b", 2)]).await.unwrap();
    assert_eq!(world.texts("").await, ["a", "b", "b"]);
}

#[tokio::test]
async fn filters_find_what_gcloud_asks_for() {
    let world = World::new();
    let mut entry = said_at(9, "found");
    entry.resource = Some(apis::google::api::MonitoredResource {
        r#type: "cloud_run_revision".into(),
        labels: [("service_name".to_owned(), "x".to_owned())].into(),
    });
    world.write(vec![said_at(8, "another"), entry]).await.unwrap();
    let filter = r#"resource.type="cloud_run_revision" AND resource.labels.service_name="x" AND timestamp>="2026-01-01T00:00:09Z""#;
    assert_eq!(world.texts(filter).await, ["found"]);
    assert!(world.texts(&filter.replace("09Z", "10Z")).await.is_empty());
}

#[tokio::test]
async fn logs_are_listed_and_deleted() {
    let world = World::new();
    let other = proto::LogEntry { log_name: format!("{P}/logs/a%2Fb"), ..said("kept") };
    world.write(vec![said("gone"), other]).await.unwrap();
    assert_eq!(world.logs().await, [format!("{P}/logs/a%2Fb"), LOG.into()]);
    let delete = proto::DeleteLogRequest { log_name: LOG.into() };
    world.call(rpc::DELETE_LOG, delete.clone()).await.unwrap();
    assert_eq!(world.logs().await, [format!("{P}/logs/a%2Fb")]);
    assert_eq!(world.texts("").await, ["kept"]);
    let (code, _) = refusal(world.call(rpc::DELETE_LOG, delete).await);
    assert_eq!(code, Code::NotFound);
    world.advance(5);
    world.write(vec![said_at(0, "late"), said("new")]).await.unwrap();
    let (dir, clock) = world.close();
    let world = World::open(dir, clock, crate::world::options());
    assert_eq!(world.texts("").await, ["kept", "new"], "what arrives for the time before stays deleted");
}

#[tokio::test]
async fn permissions_are_asked_for_each_project() {
    let world = World::new();
    let write = |log_name: &str| proto::WriteLogEntriesRequest {
        log_name: log_name.into(),
        resource: Some(global()),
        entries: vec![said("x")],
        ..proto::WriteLogEntriesRequest::default()
    };
    let writer = Allow::Only("logging.logEntries.create", P);
    world.call_as(writer, rpc::WRITE_LOG_ENTRIES, write(LOG)).await.unwrap();
    let refused = world.call_as(writer, rpc::WRITE_LOG_ENTRIES, write("projects/haar-other/logs/app")).await;
    let (code, message) = refusal(refused);
    assert_eq!(code, Code::PermissionDenied);
    assert!(
        message.contains("'logging.logEntries.create'") && message.contains("projects/haar-other"),
        "{message}"
    );
    let (code, message) = refusal(world.call_as(writer, rpc::LIST_LOG_ENTRIES, listing("")).await);
    assert!(code == Code::PermissionDenied && message.contains("logging.logEntries.list"), "{message}");
    let reader = Allow::Only("logging.logEntries.list", P);
    assert_eq!(world.call_as(reader, rpc::LIST_LOG_ENTRIES, listing("")).await.unwrap().entries.len(), 1);
    let mut both = listing("");
    both.resource_names.push("projects/haar-other".into());
    assert_eq!(refusal(world.call_as(reader, rpc::LIST_LOG_ENTRIES, both).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn a_project_sees_its_own_entries() {
    let world = World::new();
    let other = proto::LogEntry { log_name: "projects/haar-other/logs/app".into(), ..said("other") };
    world.write(vec![said("mine"), other]).await.unwrap();
    assert_eq!(world.texts("").await, ["mine"]);
    let mut both = listing("");
    both.resource_names.push("projects/haar-other".into());
    assert_eq!(world.list(both).await.entries.len(), 2);
}

#[tokio::test]
async fn bad_requests_are_refused_whole() {
    let world = World::new();
    let nothing = proto::LogEntry { log_name: "projects/haar-test/logs/a b".into(), ..said("x") };
    let long = said(&"x".repeat(300 << 10));
    for (bad, says) in [(nothing, "Invalid log name"), (long, "exceeds maximum size of 256.0K")] {
        let (code, message) = refusal(world.write(vec![said("fine"), bad]).await);
        assert!(code == Code::InvalidArgument && message.contains(says), "{message}");
    }
    assert!(world.texts("").await.is_empty());
    let request = proto::WriteLogEntriesRequest {
        log_name: LOG.into(),
        entries: vec![said("no resource"), proto::LogEntry { resource: Some(global()), ..said("fine") }],
        partial_success: true,
        ..proto::WriteLogEntriesRequest::default()
    };
    assert_eq!(refusal(world.call(rpc::WRITE_LOG_ENTRIES, request).await).0, Code::InvalidArgument);
    assert_eq!(world.texts("").await, ["fine"], "with partial success, the rest is written");
    let list = |change: fn(&mut proto::ListLogEntriesRequest)| {
        let mut request = listing("");
        change(&mut request);
        world.call(rpc::LIST_LOG_ENTRIES, request)
    };
    for (refused, says) in [
        (list(|request| request.resource_names.clear()).await, "resource_names"),
        (list(|request| request.order_by = "severity".into()).await, "order_by"),
        (list(|request| request.filter = "severity=".into()).await, "Unparseable filter"),
        (list(|request| request.page_size = -1).await, "page_size"),
        (list(|request| request.page_token = "x".into()).await, "page_token"),
    ] {
        let (code, message) = refusal(refused);
        assert!(code == Code::InvalidArgument && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn entries_out_of_the_range_of_time_are_not_kept() {
    let world = World::new();
    world.advance(60 * 24 * 3600);
    let now = 60 * 24 * 3600;
    let (old, ahead) = (said_at(0, "old"), said_at(now + 25 * 3600, "ahead"));
    world.write(vec![old, ahead, said_at(now, "now")]).await.unwrap();
    assert_eq!(world.texts("").await, ["now"]);
}
