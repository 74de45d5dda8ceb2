//! Cloud Run's request log: one entry for each request that a service answered.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apis::google::logging::{r#type::HttpRequest, v2::LogEntry};
use kernel::ports::LogSource;
use prost::Message;

use crate::record::Pending;

/// One request, with what Cloud Run's request log says of it.
#[derive(Clone, Debug)]
pub struct RequestEntry {
    /// Whose request it was; the instance is empty when none answered.
    pub source: LogSource,
    /// When it arrived.
    pub time: SystemTime,
    /// How long it took until the end of its response.
    pub latency: Duration,
    /// Its method.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Of the client, such as `HTTP/1.1`.
    pub protocol: String,
    /// The status of the answer.
    pub status: u16,
    /// How long its body was, in bytes.
    pub request_size: u64,
    /// How long the response's body was, in bytes.
    pub response_size: u64,
    /// `User-Agent`, empty when there was none.
    pub user_agent: String,
    /// `Referer`, empty when there was none.
    pub referer: String,
    /// The client's address.
    pub remote_ip: String,
    /// The id of its trace, 32 hexadecimal digits; empty when there is none.
    pub trace: String,
    /// Its span, 16 hexadecimal digits; empty when there is none.
    pub span: String,
    /// Whether its trace is kept.
    pub sampled: bool,
    /// What went wrong, in Cloud Run's words; empty when nothing did.
    pub message: String,
}

/// A request's severity as Cloud Run logs it: by its status.
fn severity(status: u16) -> u16 {
    match status {
        500.. => 500,
        400.. => 400,
        _ => 200,
    }
}

/// The entry of a request.
pub(crate) fn pending(
    request: RequestEntry,
    shared: std::sync::Arc<[u8]>,
    received: i64,
    insert_id: String,
) -> Pending {
    let since = request.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = i64::try_from(since.as_nanos()).unwrap_or(received);
    let trace = match request.trace.as_str() {
        "" => String::new(),
        trace => format!("projects/{}/traces/{trace}", request.source.project),
    };
    let severity = severity(request.status);
    let text = Some(request.message).filter(|message| !message.is_empty());
    let entry = LogEntry {
        insert_id,
        trace,
        span_id: request.span,
        trace_sampled: request.sampled,
        payload: text.map(apis::google::logging::v2::log_entry::Payload::TextPayload),
        http_request: Some(HttpRequest {
            request_method: request.method,
            request_url: request.url,
            request_size: request.request_size as i64,
            status: request.status.into(),
            response_size: request.response_size as i64,
            user_agent: request.user_agent,
            remote_ip: request.remote_ip,
            referer: request.referer,
            latency: prost_types::Duration::try_from(request.latency).ok(),
            protocol: request.protocol,
            ..HttpRequest::default()
        }),
        ..LogEntry::default()
    };
    Pending { severity, time, received, shared, own: entry.encode_to_vec() }
}
