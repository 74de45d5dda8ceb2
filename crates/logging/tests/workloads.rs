//! Lines of output and requests.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use apis::google::logging::v2::{self as proto, log_entry::Payload};
use kernel::ports::{LogStream, Logs};
use logging::{Options, RequestEntry};

use crate::world::{START, World, listing, options, source, text};

#[tokio::test]
async fn a_line_becomes_an_entry_of_its_revision() {
    let world = World::new();
    world.logging.line(&source("shop-1"), LogStream::Stderr, "hello");
    let entries = world.list(listing("")).await.entries;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(
        (&*entry.log_name, text(entry)),
        ("projects/haar-test/logs/run.googleapis.com%2Fstderr", "hello".into())
    );
    let resource = entry.resource.as_ref().unwrap();
    let labels: Vec<_> = resource.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "configuration_name=shop",
        "location=us-central1",
        "project_id=haar-test",
        "revision_name=shop-1",
        "service_name=shop",
    ];
    assert_eq!((&*resource.r#type, labels), ("cloud_run_revision", expected.map(str::to_owned).into()));
    assert_eq!(entry.labels["instanceId"], "0a1b2c");
}

#[tokio::test]
async fn json_lines_are_understood() {
    let world = World::new();
    let line = r#"{"severity":"ERROR","message":"no card","user":{"id":7},"logging.googleapis.com/labels":{"a":"b"}}"#;
    world.logging.line(&source("shop-1"), LogStream::Stdout, line);
    world.logging.line(&source("shop-1"), LogStream::System, "Starting new instance.");
    let entries = world.list(listing("severity>=ERROR jsonPayload.user.id=7 labels.a=b")).await.entries;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert!(matches!(entry.payload, Some(Payload::JsonPayload(_))));
    assert_eq!(entry.labels.len(), 2, "{:?}", entry.labels);
    let system = world.texts(r#"logName:"varlog%2Fsystem" severity=INFO"#).await;
    assert_eq!(system, ["Starting new instance."]);
}

#[tokio::test]
async fn requests_are_logged_with_their_status() {
    let world = World::new();
    let entry = RequestEntry {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(START - 1),
        latency: Duration::from_millis(250),
        method: "GET",
        url: "http://shop.example/",
        protocol: "HTTP/1.1",
        status: 503,
        request_size: 10,
        response_size: 20,
        user_agent: "curl",
        referer: "",
        remote_ip: Ipv4Addr::LOCALHOST.into(),
        trace: "00000000000000000000000000000abc",
        span: 13,
        sampled: true,
        message: "The request failed.",
    };
    for instance in ["shop-1", "shop-2", "shop-1"] {
        world.logging.request(&source(instance), &entry);
    }
    let filter = r#"log_id("run.googleapis.com/requests") httpRequest.status>=500 httpRequest.latency>0.2s severity=ERROR"#;
    let entries = world.list(listing(filter)).await.entries;
    let [entry, _, _] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry.span_id, "000000000000000d");
    assert_eq!(entry.trace, "projects/haar-test/traces/00000000000000000000000000000abc");
    assert_eq!(entry.timestamp.unwrap().seconds, START as i64 - 1);
    assert_eq!((text(entry), entry.trace_sampled), ("The request failed.".into(), true));
}

#[tokio::test]
async fn the_last_lines_of_a_revision_are_at_hand() {
    let world = World::new();
    for number in 0..500 {
        world.logging.line(&source("shop-1"), LogStream::Stdout, &format!("line {number}"));
    }
    world.logging.line(&source("shop-2"), LogStream::Stdout, "other");
    assert_eq!(world.logging.tail(&source("shop-1"), 2), ["line 498", "line 499"]);
    assert_eq!(world.logging.tail(&source("shop-1"), 1000).len(), 100);
    assert_eq!(world.logging.tail(&source("shop-2"), 5), ["other"]);
    assert!(world.logging.tail(&source("shop-3"), 5).is_empty());
    for number in 0..200 {
        world.logging.line(&source(&format!("many-{number}")), LogStream::Stdout, "x");
    }
    assert!(world.logging.tail(&source("shop-1"), 5).is_empty(), "the longest silent one is forgotten");
}

#[tokio::test]
async fn lines_that_find_no_room_are_counted() {
    let world = World::with(Options { queue_bytes: 20_000, gather: Duration::from_secs(3600), ..options() });
    let total: usize = 100_000;
    for number in 0..total {
        world.logging.line(&source("shop-1"), LogStream::Stdout, &format!("{number}"));
    }
    world.advance(1);
    let (mut kept, mut dropped, mut token) = (0, 0, String::new());
    loop {
        let request = proto::ListLogEntriesRequest { page_size: 1000, page_token: token, ..listing("") };
        let page = world.list(request).await;
        for entry in &page.entries {
            match text(entry).split_once(" log entries were dropped") {
                Some((count, _)) => dropped += count.parse::<usize>().unwrap(),
                None => kept += 1,
            }
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert!(dropped > 0, "{kept} were kept");
    assert_eq!(kept + dropped, total);
}

#[tokio::test]
async fn a_flood_of_long_lines_does_no_harm() {
    let world = World::new();
    world.logging.line(&source("shop-1"), LogStream::Stdout, &"é".repeat(1 << 20));
    world.logging.line(&source("shop-1"), LogStream::Stdout, &"[".repeat(100_000));
    world.logging.line(
        &source("shop-1"),
        LogStream::Stdout,
        &format!("{}{}", "{\"a\":".repeat(100_000), "}"),
    );
    assert_eq!(world.texts("").await.len(), 3);
}
