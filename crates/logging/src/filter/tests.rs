//! Filters over a few entries.

use std::sync::Arc;

use apis::google::{
    api::MonitoredResource,
    logging::{
        r#type::HttpRequest,
        v2::{LogEntry, LogEntryOperation, log_entry::Payload},
    },
};
use kernel::Code;
use proptest::prelude::*;
use prost_types::{Struct, Value, value::Kind};

use super::*;
use crate::record::{self, Pending};

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn object<const N: usize>(members: [(&str, Kind); N]) -> Struct {
    Struct { fields: members.map(|(name, kind)| (name.to_owned(), value(kind))).into() }
}

/// An error of the service `shop`, at noon.
fn entry() -> LogEntry {
    let user = object([("name", Kind::StringValue("Ada".into())), ("age", Kind::NumberValue(36.0))]);
    let tags = ["a", "b"].map(|tag| value(Kind::StringValue(tag.into())));
    let payload = object([
        ("message", Kind::StringValue("Payment failed: card".into())),
        ("user", Kind::StructValue(user)),
        ("ok", Kind::BoolValue(false)),
        ("none", Kind::NullValue(0)),
        ("tags", Kind::ListValue(prost_types::ListValue { values: tags.into() })),
    ]);
    LogEntry {
        log_name: "projects/my-project/logs/run.googleapis.com%2Fstdout".into(),
        resource: Some(MonitoredResource {
            r#type: "cloud_run_revision".into(),
            labels: [("service_name".into(), "shop".into()), ("location".into(), "us-central1".into())]
                .into(),
        }),
        timestamp: Some(record::timestamp(record::parse_time("2026-01-31T12:00:00Z").unwrap())),
        severity: 500,
        insert_id: "id-1".into(),
        labels: [("k8s.io/a-b".into(), "Blue".into()), ("plain".into(), "x".into())].into(),
        http_request: Some(HttpRequest {
            status: 503,
            request_method: "POST".into(),
            latency: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..HttpRequest::default()
        }),
        operation: Some(LogEntryOperation { id: "op".into(), ..LogEntryOperation::default() }),
        trace: "projects/my-project/traces/abc".into(),
        payload: Some(Payload::JsonPayload(payload)),
        ..LogEntry::default()
    }
}

fn text_entry() -> LogEntry {
    LogEntry { payload: Some(Payload::TextPayload("Grüße, a \"quoted\" World".into())), ..entry() }
}

fn stored(entry: LogEntry) -> Pending {
    record::split(entry, 7)
}

fn view(pending: &Pending) -> View<'_> {
    let Pending { severity, time, received, shared, own } = pending;
    View { time: *time, received: *received, severity: *severity, shared, own }
}

/// Asks in every way that a search does, which must all agree.
fn passes(filter: &Filter, pending: &Pending) -> bool {
    let known = Known {
        times: (pending.time - 5, pending.time + 5),
        severities: 1 << (pending.severity / 100) | 1,
        shared: Some(&pending.shared),
    };
    let narrowed = filter.narrow(&known);
    let passes = filter.matches(&view(pending));
    assert_eq!(narrowed.matches(&view(pending)), passes, "{filter:?} became {narrowed:?}");
    assert!(!passes || filter.possible(&known), "{filter:?} was thought impossible");
    assert!(!passes || !narrowed.is_never());
    passes
}

fn ask(text: &str, entry: LogEntry) -> bool {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    passes(&filter, &stored(entry))
}

#[test]
fn what_passes() {
    for text in [
        "",
        "  -- nothing but a comment",
        r#"resource.type="cloud_run_revision" AND resource.labels.service_name="shop" AND timestamp>="2026-01-30T00:00:00Z""#,
        r#"resource.type = "cloud_run_revision"
           resource.labels.service_name = "shop" -- side by side
           severity>=WARNING"#,
        "resource.type=cloud_run_revision resource.labels.location=us-central1",
        r#"logName="projects/my-project/logs/run.googleapis.com%2Fstdout""#,
        r#"log_id("run.googleapis.com/stdout")"#,
        r#"log_id("run.googleapis.com%2Fstdout")"#,
        r#"RESOURCE.TYPE="Cloud_Run_Revision""#,
        "severity=error",
        "severity=(INFO OR ERROR)",
        "severity!=INFO severity>400 severity<=EMERGENCY",
        r#"timestamp>"2026-01-31" timestamp<"2026-02-01T01:00:00+02:00""#,
        r#"labels."k8s.io/a-b"="blue""#,
        "labels.k8s.io/a-b=blue",
        "labels.plain:*",
        "NOT labels.missing:*",
        "NOT labels.missing=x",
        "-labels.missing=x -severity=INFO",
        "jsonPayload.message:\"payment FAILED\"",
        r#"jsonPayload.message=~"^Pay.*card$""#,
        r#"jsonPayload.message=~"failed\S""#,
        r#"jsonPayload.message!~"succe{2}ded""#,
        "jsonPayload.user.name=ada",
        "jsonPayload.user.age>=36 jsonPayload.user.age<36.5 jsonPayload.user.age!=7",
        "jsonPayload.ok=false",
        "jsonPayload.none=NULL_VALUE",
        "jsonPayload.tags=b",
        "jsonPayload.tags:(a AND b)",
        "jsonPayload.user:ada",
        "jsonPayload:payment",
        "httpRequest.status=503 httpRequest.status>=500",
        "http_request.request_method=post",
        "httpRequest.latency>1.2s httpRequest.latency<2000ms",
        "httpRequest:*",
        "httpRequest.remoteIp=\"\"",
        "NOT httpRequest.remoteIp:*",
        "trace=\"projects/my-project/traces/abc\" insertId=id-1 operation.id=op",
        "spanId=\"\" traceSampled=false",
        "payment",
        "\"card\" AND ada",
        "NOT nowhere",
        // OR binds tighter than AND.
        "severity=INFO OR severity=ERROR AND httpRequest.status=503",
        "(severity=INFO AND severity=ERROR) OR payment",
        "NOT (severity=INFO OR severity=DEBUG)",
    ] {
        assert!(ask(text, entry()), "{text}");
    }
}

#[test]
fn what_does_not_pass() {
    for text in [
        r#"resource.labels.service_name="shops""#,
        r#"timestamp>="2026-01-31T12:00:00.000000001Z""#,
        "severity<ERROR",
        // A member or label that is missing compares as false, with != too.
        "labels.missing!=x",
        "jsonPayload.missing!=x",
        "jsonPayload.user.age=ada",
        "jsonPayload.user.age>36",
        r#"jsonPayload.message=~"payment""#,
        "textPayload:payment",
        "labels.plain:* AND NOT labels.plain:*",
        // The AND is the looser: (INFO OR ERROR) AND 200.
        "severity=ERROR OR severity=INFO AND httpRequest.status=200",
        "httpRequest.status=50",
        "protoPayload.methodName:*",
        "nowhere",
        "NOT payment",
    ] {
        assert!(!ask(text, entry()), "{text}");
    }
}

#[test]
fn text_is_found_whatever_its_case() {
    for text in
        ["textPayload:GRÜSSE OR textPayload:grüße", "world", r#""\"quoted\"""#, r#"textPayload=~"\"q""#]
    {
        assert!(ask(text, text_entry()), "{text}");
    }
    assert!(!ask("textPayload=world", text_entry()));
}

fn refusal(text: &str) -> (Code, String) {
    let error = Filter::parse(text).expect_err(text);
    (error.code(), error.message().to_owned())
}

#[test]
fn what_is_no_filter_is_refused_where_it_fails() {
    let syntax = |at: &str| format!("Unparseable filter: syntax error at line {at}");
    for (text, message) in [
        ("severity=", syntax("1, column 10, unexpected end of filter")),
        ("a AND\n)", syntax("2, column 1, token ')'")),
        ("(a", syntax("1, column 3, unexpected end of filter")),
        ("logName=projects/p:x", syntax("1, column 19, token ':'")),
        ("a ! b", syntax("1, column 3, token '!'")),
        ("labels.x=\"open", syntax("1, column 10, token '\"open'")),
        ("OR a", syntax("1, column 1, token 'OR'")),
        ("nosuch(1)", syntax("1, column 1, token 'nosuch'")),
        ("textPayload=~\"(\"", "Unparseable filter: invalid regular expression: (".into()),
        ("thud=1", "Field not found: 'thud'.".into()),
        ("textPayload.thud=1", "Field not found: 'textPayload.thud'.".into()),
        ("timestamp>=Yesterday", "The value 'yesterday' is of incorrect type.".into()),
        ("severity=LOUD", "The value 'loud' is of incorrect type.".into()),
        ("httpRequest.status=many", "The value 'many' is of incorrect type.".into()),
    ] {
        assert_eq!(refusal(text), (Code::InvalidArgument, message), "{text}");
    }
    assert_eq!(refusal("sample(insertId, 0.5)").0, Code::Unimplemented);
}

#[test]
fn length_depth_and_expressions_are_limited() {
    assert!(refusal(&"a ".repeat(10_001)).1.contains("longer than 20000 characters"));
    assert!(refusal(&"(".repeat(19_000)).1.contains("nested more than 64 levels"));
    assert!(refusal(&"NOT ".repeat(4_000)).1.contains("nested more than 64 levels"));
    assert!(refusal(r#"textPayload=~"(a{900}){900}""#).1.contains("invalid regular expression"));
}

/// Text that looks like a filter.
fn filters() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "severity",
        "timestamp",
        "jsonPayload.a",
        "labels.\"x/y\"",
        "resource.type",
        "httpRequest.status",
        "=",
        "!=",
        ">=",
        "<",
        ":",
        "=~",
        "!~",
        "AND",
        "OR",
        "NOT",
        "-",
        "(",
        ")",
        "\"",
        "'",
        "\\",
        "*",
        "500",
        "ERROR",
        "\"2026-01-31T12:00:00Z\"",
        "cloud_run_revision",
        "é",
        ",",
        "--",
        "\n",
        "log_id(",
        "~",
        "!",
    ]);
    prop::collection::vec((word, prop::sample::select(vec!["", " "])), 0..24)
        .prop_map(|words| words.into_iter().map(|(word, space)| format!("{word}{space}")).collect())
}

/// Filters that are right.
fn right_filters() -> impl Strategy<Value = String> {
    let term = prop::sample::select(vec![
        "severity>=ERROR",
        "severity=INFO",
        "timestamp<\"2026-01-31T12:00:00Z\"",
        "timestamp=\"2026-01-31T12:00:00Z\"",
        "timestamp!=\"2026-01-31T12:00:00.000000003Z\"",
        "resource.type=cloud_run_revision",
        "labels.plain=x",
        "jsonPayload.ok=true",
        "logName:stderr",
        "payment",
        "jsonPayload.missing!=1",
        "httpRequest.status>500",
    ]);
    term.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("NOT ({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} OR {b})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in filters(), other in ".{0,40}") {
        let entry = stored(entry());
        for text in [text, other] {
            if let Ok(filter) = Filter::parse(&text) {
                passes(&filter, &entry);
            }
        }
    }

    #[test]
    fn every_way_of_asking_agrees(text in right_filters()) {
        passes(&Filter::parse(&text).unwrap(), &stored(entry()));
        passes(&Filter::parse(&text).unwrap(), &stored(LogEntry { severity: 0, ..text_entry() }));
    }

    #[test]
    fn no_bytes_on_disk_make_it_panic(own in prop::collection::vec(any::<u8>(), 0..80), text in right_filters()) {
        let pending = Pending { severity: 0, time: 0, received: 0, shared: Arc::new([]), own };
        Filter::parse(&text).unwrap().matches(&view(&pending));
    }
}
