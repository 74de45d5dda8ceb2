//! What a line of output means: text, or a JSON object whose special members become the entry's own fields.
//!
//! The members that are understood, and removed from the payload, are those that Google documents
//! (<https://cloud.google.com/logging/docs/structured-logging>): `severity`, `message` (where nothing else is
//! left it becomes the text), `httpRequest`, `time`, `timestamp`, `timestampSeconds` with `timestampNanos`, and
//! `logging.googleapis.com/` `insertId`, `labels`, `operation`, `sourceLocation`, `spanId`, `trace`,
//! `trace_sampled`. One that has another type than it should stays in the payload.

use std::{collections::BTreeMap, sync::Arc};

use apis::google::{
    api::MonitoredResource,
    logging::{
        r#type::HttpRequest,
        v2::{LogEntry, LogEntryOperation, LogEntrySourceLocation, log_entry::Payload},
    },
};
use kernel::ports::{LogSource, LogStream, Owner};
use prost::Message;
use serde_json::{Map, Value};

use crate::record::{self, Pending};

/// The most streams whose encoded fields are kept at hand.
const KEPT: usize = 64;

/// Which of a service's logs an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// What an instance wrote.
    Output(LogStream),
    /// The request log.
    Requests,
}

impl Origin {
    fn log_id(self) -> &'static str {
        match self {
            Origin::Output(LogStream::Stdout) => "run.googleapis.com%2Fstdout",
            Origin::Output(LogStream::Stderr) => "run.googleapis.com%2Fstderr",
            Origin::Output(LogStream::System) => "run.googleapis.com%2Fvarlog%2Fsystem",
            Origin::Requests => "run.googleapis.com%2Frequests",
        }
    }
}

/// The encoded fields that the entries of an instance share, the one used last first.
#[derive(Default)]
pub(crate) struct Streams(Vec<(LogSource, Origin, Arc<[u8]>)>);

impl Streams {
    /// The shared fields of an instance's entries in one log.
    pub(crate) fn of(&mut self, source: &LogSource, origin: Origin) -> Arc<[u8]> {
        match self.0.iter().position(|(known, of, _)| *of == origin && known == source) {
            Some(at) => self.0[..=at].rotate_right(1),
            None => {
                self.0.truncate(KEPT - 1);
                self.0.insert(0, (source.clone(), origin, shared(source, origin).into()));
            }
        }
        self.0[0].2.clone()
    }
}

fn shared(source: &LogSource, origin: Origin) -> Vec<u8> {
    let entry = LogEntry {
        log_name: format!("projects/{}/logs/{}", source.project, origin.log_id()),
        resource: Some(resource(source)),
        labels: instance_labels(source),
        ..LogEntry::default()
    };
    entry.encode_to_vec()
}

/// What an instance's entries are of, as Cloud Logging's list of resource types has it.
fn resource(source: &LogSource) -> MonitoredResource {
    let place = [("location", &source.region), ("project_id", &source.project)];
    let (kind, own): (_, &[_]) = match &source.owner {
        Owner::Revision { service, revision } => (
            "cloud_run_revision",
            &[("configuration_name", service), ("revision_name", revision), ("service_name", service)],
        ),
        Owner::Task { job, .. } => ("cloud_run_job", &[("job_name", job)]),
        Owner::Worker { pool, revision } => {
            ("cloud_run_worker_pool", &[("revision_name", revision), ("worker_pool_name", pool)])
        }
    };
    let labels = place.iter().chain(own).map(|(name, value)| ((*name).to_owned(), value.to_string()));
    MonitoredResource { r#type: kind.into(), labels: labels.collect() }
}

/// Which instance it was, and which of its containers; of a job's also the execution, the task and the attempt.
fn instance_labels(source: &LogSource) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if !source.instance.is_empty() {
        labels.insert("instanceId".to_owned(), source.instance.to_string());
    }
    if !source.container.is_empty() {
        labels.insert("container_name".to_owned(), source.container.to_string());
    }
    if let Owner::Task { execution, index, attempt, .. } = &source.owner {
        labels.insert("run.googleapis.com/execution_name".to_owned(), execution.to_string());
        labels.insert("run.googleapis.com/task_index".to_owned(), index.to_string());
        labels.insert("run.googleapis.com/task_attempt".to_owned(), attempt.to_string());
    }
    labels
}

/// The entry of a line.
pub(crate) fn entry(
    shared: Arc<[u8]>,
    stream: LogStream,
    line: &str,
    received: i64,
    insert_id: impl FnOnce() -> String,
) -> Pending {
    let mut parts = structured(line).unwrap_or_else(|| Parts::text(line));
    if stream == LogStream::System && parts.severity.is_none() {
        parts.severity = record::severity_named("INFO");
    }
    if parts.entry.insert_id.is_empty() {
        parts.entry.insert_id = insert_id();
    }
    Pending {
        severity: parts.severity.unwrap_or_default(),
        time: parts.time.unwrap_or(received),
        received,
        shared,
        own: parts.entry.encode_to_vec(),
    }
}

/// A remark of the log's own.
pub(crate) fn warning(shared: Arc<[u8]>, text: String, now: i64, insert_id: String) -> Pending {
    let payload = Some(Payload::TextPayload(text));
    let entry = LogEntry { insert_id, payload, ..LogEntry::default() };
    Pending { severity: 400, time: now, received: now, shared, own: entry.encode_to_vec() }
}

/// What a line gives.
#[derive(Debug, Default)]
struct Parts {
    severity: Option<u16>,
    time: Option<i64>,
    entry: LogEntry,
}

impl Parts {
    fn text(line: &str) -> Self {
        let payload = Some(Payload::TextPayload(line.to_owned()));
        Parts { entry: LogEntry { payload, ..LogEntry::default() }, ..Parts::default() }
    }
}

/// Reads a line that is a JSON object.
fn structured(line: &str) -> Option<Parts> {
    let line = line.trim();
    if !(line.starts_with('{') && line.ends_with('}')) {
        return None;
    }
    let mut members: Map<String, Value> = serde_json::from_str(line).ok()?;
    let mut parts = Parts { severity: take(&mut members, "severity", severity), ..Parts::default() };
    parts.time = time(&mut members);
    let entry = &mut parts.entry;
    entry.http_request = take(&mut members, "httpRequest", http_request);
    special(&mut members, entry);
    entry.payload = Some(payload(members));
    Some(parts)
}

/// Takes the members that carry Google's prefix.
fn special(members: &mut Map<String, Value>, entry: &mut LogEntry) {
    const PREFIX: &str = "logging.googleapis.com/";
    if !members.keys().any(|name| name.starts_with(PREFIX)) {
        return;
    }
    let name = |short: &str| format!("{PREFIX}{short}");
    entry.insert_id = take(members, &name("insertId"), text).unwrap_or_default();
    entry.trace = take(members, &name("trace"), text).unwrap_or_default();
    entry.span_id = take(members, &name("spanId"), text).unwrap_or_default();
    entry.trace_sampled = take(members, &name("trace_sampled"), Value::as_bool).unwrap_or_default();
    entry.labels = take(members, &name("labels"), labels).unwrap_or_default();
    entry.operation = take(members, &name("operation"), operation);
    entry.source_location = take(members, &name("sourceLocation"), source_location);
}

/// Takes a member out if it reads as what it should be.
fn take<T>(
    members: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Option<T> {
    let value = read(members.get(name)?)?;
    members.shift_remove(name);
    Some(value)
}

fn payload(mut members: Map<String, Value>) -> Payload {
    if members.len() == 1
        && let Some(message) = take(&mut members, "message", text)
    {
        return Payload::TextPayload(message);
    }
    Payload::JsonPayload(object(members))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A whole number, or one in quotation marks.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// A severity by a name that is in use somewhere, or by its number.
fn severity(value: &Value) -> Option<u16> {
    if let Some(number) = value.as_i64() {
        return Some(record::severity_number(i32::try_from(number).unwrap_or_default()));
    }
    let name = value.as_str()?.trim().to_ascii_uppercase();
    let name = match name.as_str() {
        "TRACE" | "FINE" | "FINER" | "FINEST" | "D" => "DEBUG",
        "INFORMATION" | "INFORMATIONAL" | "I" => "INFO",
        "WARN" | "W" => "WARNING",
        "ERR" | "SEVERE" | "E" => "ERROR",
        "CRIT" | "FATAL" | "PANIC" => "CRITICAL",
        "EMERG" => "EMERGENCY",
        other => other,
    };
    record::severity_named(name).or_else(|| Some(record::severity_number(name.parse().ok()?))).or(Some(0))
}

fn time(members: &mut Map<String, Value>) -> Option<i64> {
    take(members, "time", |value| record::parse_time(value.as_str()?))
        .or_else(|| take(members, "timestamp", timestamp))
        .or_else(|| {
            let seconds = integer(members.get("timestampSeconds")?)?;
            let nanos = integer(members.get("timestampNanos")?)?;
            let time = moment(seconds, nanos)?;
            members.shift_remove("timestampSeconds");
            members.shift_remove("timestampNanos");
            Some(time)
        })
}

fn timestamp(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => record::parse_time(text),
        Value::Object(parts) => moment(integer(parts.get("seconds")?)?, integer(parts.get("nanos")?)?),
        _ => None,
    }
}

fn moment(seconds: i64, nanos: i64) -> Option<i64> {
    let fits = (0..1_000_000_000).contains(&nanos) && seconds >= 0;
    fits.then(|| seconds.checked_mul(1_000_000_000)?.checked_add(nanos)).flatten()
}

fn labels(value: &Value) -> Option<BTreeMap<String, String>> {
    let written = |value: &Value| text(value).unwrap_or_else(|| value.to_string());
    Some(value.as_object()?.iter().map(|(name, value)| (name.clone(), written(value))).collect())
}

fn operation(value: &Value) -> Option<LogEntryOperation> {
    let members = value.as_object()?;
    let text = |name| members.get(name).and_then(text).unwrap_or_default();
    let flag = |name| members.get(name).and_then(Value::as_bool).unwrap_or_default();
    Some(LogEntryOperation {
        id: text("id"),
        producer: text("producer"),
        first: flag("first"),
        last: flag("last"),
    })
}

fn source_location(value: &Value) -> Option<LogEntrySourceLocation> {
    let members = value.as_object()?;
    let text = |name| members.get(name).and_then(text).unwrap_or_default();
    let line = members.get("line").and_then(integer).unwrap_or_default();
    Some(LogEntrySourceLocation { file: text("file"), line, function: text("function") })
}

fn http_request(value: &Value) -> Option<HttpRequest> {
    let members = value.as_object()?;
    let text = |name| members.get(name).and_then(text).unwrap_or_default();
    let number = |name| members.get(name).and_then(integer).unwrap_or_default();
    let flag = |name| members.get(name).and_then(Value::as_bool).unwrap_or_default();
    Some(HttpRequest {
        request_method: text("requestMethod"),
        request_url: text("requestUrl"),
        request_size: number("requestSize"),
        status: i32::try_from(number("status")).unwrap_or_default(),
        response_size: number("responseSize"),
        user_agent: text("userAgent"),
        remote_ip: text("remoteIp"),
        server_ip: text("serverIp"),
        referer: text("referer"),
        latency: members.get("latency").and_then(latency),
        cache_lookup: flag("cacheLookup"),
        cache_hit: flag("cacheHit"),
        cache_validated_with_origin_server: flag("cacheValidatedWithOriginServer"),
        cache_fill_bytes: number("cacheFillBytes"),
        protocol: text("protocol"),
    })
}

/// `3.5s`, or seconds and nanoseconds.
fn latency(value: &Value) -> Option<prost_types::Duration> {
    let micros = match value {
        Value::String(text) => return Some(kernel::time::parse_duration(text)?.into()),
        Value::Object(parts) => {
            let nanos = parts.get("nanos").and_then(integer).unwrap_or_default();
            let seconds = parts.get("seconds").and_then(integer).unwrap_or_default();
            moment(seconds, nanos)? / 1000
        }
        _ => return None,
    };
    Some(kernel::time::Micros(u64::try_from(micros).ok()?).into())
}

fn object(members: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: members.into_iter().map(|(name, value)| (name, json(value))).collect() }
}

fn json(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.into_iter().map(json).collect() })
        }
        Value::Object(members) => Kind::StructValue(object(members)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> (Pending, LogEntry) {
        let pending = entry(Arc::new([]), LogStream::Stdout, line, 5, || "id".into());
        let own = LogEntry::decode(&*pending.own).unwrap();
        (pending, own)
    }

    #[test]
    fn a_message_alone_is_text() {
        let (pending, own) =
            read(r#"{"severity": "warn", "message": "hello", "time": "1970-01-01T00:00:01Z"}"#);
        assert_eq!((pending.severity, pending.time), (400, 1_000_000_000));
        assert_eq!(own.payload, Some(Payload::TextPayload("hello".into())));
        let (_, own) = read(r#"{"message": "hello", "user": 7}"#);
        let Some(Payload::JsonPayload(payload)) = own.payload else { panic!("{own:?}") };
        assert_eq!(payload.fields.keys().collect::<Vec<_>>(), ["message", "user"]);
    }

    #[test]
    fn special_members_become_fields() {
        let (_, own) = read(
            r#"{"message": "m", "httpRequest": {"status": "404", "latency": "0.5s", "requestMethod": "GET"},
                "logging.googleapis.com/trace": "projects/p/traces/t", "logging.googleapis.com/spanId": "s",
                "logging.googleapis.com/trace_sampled": true, "logging.googleapis.com/insertId": "mine",
                "logging.googleapis.com/labels": {"a": "b", "n": 1},
                "logging.googleapis.com/operation": {"id": "o", "first": true},
                "logging.googleapis.com/sourceLocation": {"file": "f", "line": "12"}}"#,
        );
        let http = own.http_request.unwrap();
        assert_eq!(
            (http.status, http.latency.unwrap().nanos, &*http.request_method),
            (404, 500_000_000, "GET")
        );
        assert_eq!((&*own.trace, &*own.span_id, own.trace_sampled), ("projects/p/traces/t", "s", true));
        assert_eq!((&*own.insert_id, &*own.labels["a"], &*own.labels["n"]), ("mine", "b", "1"));
        assert!(own.operation.unwrap().first);
        assert_eq!(own.source_location.unwrap().line, 12);
        assert_eq!(own.payload, Some(Payload::TextPayload("m".into())));
    }

    #[test]
    fn a_worker_pool_s_container_is_named() {
        let owner = Owner::Worker { pool: "tide".into(), revision: "tide-00001-abc".into() };
        let (project, region) = ("p".into(), "r".into());
        let source = LogSource { project, region, owner, instance: "i".into(), container: "side".into() };
        let entry = LogEntry::decode(&*shared(&source, Origin::Output(LogStream::Stdout))).unwrap();
        let resource = entry.resource.unwrap();
        assert_eq!(resource.r#type, "cloud_run_worker_pool");
        assert_eq!((&*resource.labels["worker_pool_name"], &*resource.labels["location"]), ("tide", "r"));
        assert_eq!(resource.labels["revision_name"], "tide-00001-abc");
        assert_eq!((&*entry.labels["container_name"], &*entry.labels["instanceId"]), ("side", "i"));
        let source = LogSource { container: "".into(), ..source };
        assert!(!instance_labels(&source).contains_key("container_name"), "one that has no name");
    }

    #[test]
    fn what_is_no_object_is_text() {
        for line in ["plain", "[1]", "{broken}", "{}{}", ""] {
            let (pending, own) = read(line);
            assert_eq!(own.payload, Some(Payload::TextPayload(line.into())));
            assert_eq!((pending.severity, pending.time), (0, 5));
        }
        let (_, own) = read(r#"{"time": "yesterday", "message": "m"}"#);
        assert!(matches!(own.payload, Some(Payload::JsonPayload(_))), "a bad time stays");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in r#"\{?("(severity|time|message|httpRequest|timestamp|logging.googleapis.com/labels)": ?("[a-z0-9.s]{0,4}"|-?[0-9]{1,20}|null|\{\}|\{"seconds": ?[0-9]{1,20}, ?"nanos": ?-?[0-9]{1,12}\}),? ?){0,4}\}?"#) {
            read(&line);
        }
    }
}
