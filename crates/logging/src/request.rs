//! Cloud Run's request log: one entry for each request that a service answered.
//!
//! An entry is written as protobuf straight from what is known of the request, without a message in between: there may
//! be one for each of tens of thousands of requests a second, beside which a dozen allocations for each are felt.

use std::{
    fmt::Write,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kernel::ports::LogSource;

use crate::wire::Message;

/// One request, with what Cloud Run's request log says of it.
#[derive(Clone, Copy, Debug)]
pub struct RequestEntry<'a> {
    /// When it arrived.
    pub time: SystemTime,
    /// How long it took until the end of its response.
    pub latency: Duration,
    /// Its method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// Of the client, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// How long its body was, in bytes.
    pub request_size: u64,
    /// How long the response's body was, in bytes.
    pub response_size: u64,
    /// `User-Agent`, empty when there was none.
    pub user_agent: &'a str,
    /// `Referer`, empty when there was none.
    pub referer: &'a str,
    /// The client's address.
    pub remote_ip: IpAddr,
    /// The id of its trace, 32 hexadecimal digits; empty when there is none.
    pub trace: &'a str,
    /// Its span.
    pub span: u64,
    /// Whether its trace is kept.
    pub sampled: bool,
    /// What is to be said of it: what went wrong, in Cloud Run's words, or a remark; empty when nothing is.
    pub message: &'a str,
}

impl RequestEntry<'_> {
    /// Its severity as Cloud Run logs it: by its status.
    pub(crate) fn severity(&self) -> u16 {
        match self.status {
            500.. => 500,
            400.. => 400,
            _ => 200,
        }
    }

    /// When it arrived, in nanoseconds since 1970; `now` for what is out of range.
    pub(crate) fn nanos(&self, now: i64) -> i64 {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(now)
    }

    /// Appends the fields of `google.logging.v2.LogEntry` that are its own and not its stream's.
    pub(crate) fn encode(&self, source: &LogSource, insert_id: &str, to: &mut Vec<u8>) {
        let mut entry = Message(to);
        entry.text(3, self.message);
        entry.text(4, insert_id);
        entry.message(7, |http| self.encode_http(http));
        if !self.trace.is_empty() {
            entry.texts(22, ["projects/", &source.project, "/traces/", self.trace]);
        }
        entry.text(27, hexadecimal(self.span, &mut [0; 16]));
        entry.number(30, self.sampled.into());
    }

    /// The fields of `google.logging.type.HttpRequest`.
    fn encode_http(&self, http: &mut Message<'_>) {
        http.text(1, self.method);
        http.text(2, self.url);
        http.number(3, self.request_size);
        http.number(4, self.status.into());
        http.number(5, self.response_size);
        http.text(6, self.user_agent);
        http.message(7, |address| {
            // It only fails for want of room, and this buffer grows.
            let _ = write!(address, "{}", self.remote_ip);
        });
        http.text(8, self.referer);
        http.message(14, |latency| {
            latency.number(1, self.latency.as_secs());
            latency.number(2, self.latency.subsec_nanos().into());
        });
        http.text(15, self.protocol);
    }
}

/// Sixteen digits.
fn hexadecimal(number: u64, digits: &mut [u8; 16]) -> &str {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use apis::google::logging::{
        r#type::HttpRequest,
        v2::{LogEntry, log_entry::Payload},
    };
    use kernel::ports::Owner;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    /// The same entry, as the message that it is.
    fn message(request: &RequestEntry<'_>, insert_id: &str) -> LogEntry {
        let trace = format!("projects/p/traces/{}", request.trace);
        let text = Some(request.message.to_owned()).filter(|text| !text.is_empty());
        LogEntry {
            insert_id: insert_id.into(),
            trace: if request.trace.is_empty() { String::new() } else { trace },
            span_id: format!("{:016x}", request.span),
            trace_sampled: request.sampled,
            payload: text.map(Payload::TextPayload),
            http_request: Some(HttpRequest {
                request_method: request.method.into(),
                request_url: request.url.into(),
                request_size: request.request_size as i64,
                status: request.status.into(),
                response_size: request.response_size as i64,
                user_agent: request.user_agent.into(),
                remote_ip: request.remote_ip.to_string(),
                referer: request.referer.into(),
                latency: prost_types::Duration::try_from(request.latency).ok(),
                protocol: request.protocol.into(),
                ..HttpRequest::default()
            }),
            ..LogEntry::default()
        }
    }

    proptest! {
        #[test]
        fn an_entry_is_the_message_that_it_stands_for(
            (url, user_agent, referer) in (".{0,300}", ".{0,40}", ".{0,20}"),
            (remote_ip, status) in (any::<IpAddr>(), any::<u16>()),
            (request_size, response_size) in (0..=i64::MAX as u64, 0..=i64::MAX as u64),
            (span, sampled, message_, is_traced) in (any::<u64>(), any::<bool>(), ".{0,20}", any::<bool>()),
            (seconds, nanos) in (0u64..1 << 40, 0u32..1_000_000_000),
        ) {
            let request = RequestEntry {
                time: UNIX_EPOCH,
                latency: Duration::new(seconds, nanos),
                method: "GET",
                url: &url,
                protocol: "HTTP/1.1",
                status,
                request_size,
                response_size,
                user_agent: &user_agent,
                referer: &referer,
                remote_ip,
                trace: if is_traced { "0af7651916cd43dd8448eb211c80319c" } else { "" },
                span,
                sampled,
                message: &message_,
            };
            let owner = Owner::Revision { service: "s".into(), revision: "r".into() };
            let (project, region) = ("p".into(), "l".into());
            let source =
                LogSource { project, region, owner, instance: "i".into(), container: "".into() };
            let mut encoded = Vec::new();
            request.encode(&source, "id", &mut encoded);
            let decoded = LogEntry::decode(&*encoded).unwrap();
            prop_assert_eq!(decoded, message(&request, "id"));
        }
    }
}
