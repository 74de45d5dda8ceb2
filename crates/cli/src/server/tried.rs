//! What organization policies would forbid that are only tried out: entries of the policy log, as Google's dry runs
//! write them.

use std::sync::Arc;

use apis::google::{
    api::MonitoredResource,
    cloud::audit::AuditLog,
    logging::{
        r#type::LogSeverity,
        v2::{LogEntry, log_entry::Payload},
    },
};
use kernel::clock::Clock;
use logging::Logging;
use orgpolicy::{OrgPolicies, Tried};
use prost::Message;
use prost_types::{Any, Struct, Value, value::Kind};

/// Has what is tried out written down.
pub fn report(policies: &OrgPolicies, logging: Arc<Logging>, clock: Clock) {
    policies.report_by(move |tried| {
        if let Some(entry) = entry(tried, &clock) {
            logging.entry(entry);
        }
    });
}

/// The entry; only projects have logs.
fn entry(tried: &Tried<'_>, clock: &Clock) -> Option<LogEntry> {
    let project = tried.resource.project_id()?.to_owned();
    let log = AuditLog {
        service_name: tried.resource.service.to_owned(),
        method_name: "CheckOrgPolicy".to_owned(),
        resource_name: tried.resource.name.clone(),
        metadata: Some(metadata(tried)),
        ..AuditLog::default()
    };
    let type_url = "type.googleapis.com/google.cloud.audit.AuditLog".to_owned();
    let labels = [("project_id".to_owned(), project.clone())].into_iter().collect();
    Some(LogEntry {
        log_name: format!("projects/{project}/logs/cloudaudit.googleapis.com%2Fpolicy"),
        resource: Some(MonitoredResource { r#type: "project".to_owned(), labels }),
        timestamp: Some(clock.timestamp()),
        severity: LogSeverity::Notice as i32,
        payload: Some(Payload::ProtoPayload(Any { type_url, value: log.encode_to_vec() })),
        ..LogEntry::default()
    })
}

fn metadata(tried: &Tried<'_>) -> Struct {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [
        ("@type", text("type.googleapis.com/google.cloud.audit.OrgPolicyDryRunAuditMetadata")),
        ("constraint", text(tried.constraint)),
        ("values", text(&tried.values.join(","))),
        ("liveResult", text("ALLOWED")),
        ("dryRunResult", text("DENIED")),
    ];
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}
