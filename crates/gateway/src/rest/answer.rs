//! From response bytes, or an error, to what the caller is sent.

use std::borrow::Cow;

use apis::schema::{Kind, Message, MethodId, WellKnown};
use kernel::error::{Code, Detail, Error};
use prost::Message as _;

use super::query::{Alt, SystemParams};
use crate::json::{
    self, Encoder, FieldSelector, Malformed, Options, Selection,
    wire::{Wire, get_record},
};

/// The body of an answer, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// The body.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json; charset=UTF-8";

/// How errors of an API look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    /// `code`, `message`, `status`, `details`: all that began with gRPC.
    #[default]
    Plain,
    /// The same with `errors` between: APIs that came to gRPC from discovery, such as Resource Manager v1.
    Both,
    /// `code`, `message`, `errors` only: Cloud Storage, Cloud SQL Admin, Compute, DNS.
    Legacy,
}

impl ErrorStyle {
    /// The style of the API at a canonical host, for a path on it.
    pub fn of(host: &str, path: &str) -> Self {
        match host {
            "storage.googleapis.com"
            | "sqladmin.googleapis.com"
            | "compute.googleapis.com"
            | "dns.googleapis.com" => ErrorStyle::Legacy,
            "cloudresourcemanager.googleapis.com" if path.starts_with("/v1/") => ErrorStyle::Both,
            _ => ErrorStyle::Plain,
        }
    }
}

/// How a call is to be answered: settled, and found possible, before the call is made.
#[derive(Clone, Debug)]
pub struct Format {
    output: Message,
    /// The field that is the body: its number and its message.
    part: Option<(u32, Message)>,
    selector: Option<FieldSelector>,
    system: SystemParams,
}

impl Format {
    /// The format of a method's answers under these parameters. `response_body` is the binding's.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for `fields` that the answer has not, and for `alt=media` where there are no
    /// contents.
    pub fn new(
        method: MethodId,
        response_body: &str,
        system: &SystemParams,
        style: ErrorStyle,
    ) -> Result<Self, Error> {
        let output = method.output();
        let part = output.field_by_json(response_body).and_then(|field| match field.kind() {
            Kind::Message(message) => Some((field.number(), message)),
            _ => None,
        });
        let shown = part.map_or(output, |(_, message)| message);
        if system.alt == Alt::Media && shown.well_known() != Some(WellKnown::HttpBody) {
            return Err(Error::invalid("alt=media is not supported by this method."));
        }
        let selector = match system.fields.as_deref() {
            None => None,
            Some(mask) => Some(FieldSelector::parse(shown, mask).map_err(|bad| match style {
                ErrorStyle::Legacy => bad.into_plain_error(),
                _ => bad.into_error(),
            })?),
        };
        Ok(Format { output, part, selector, system: system.clone() })
    }
}

/// The answer of a call that succeeded, from the bytes of its response.
///
/// # Errors
/// `INTERNAL` when the bytes are not the message that the method gives.
pub fn respond_ok(format: &Format, bytes: &[u8]) -> Result<Answer, Error> {
    let joined;
    let (message, bytes) = match format.part {
        None => (format.output, bytes),
        Some((number, message)) => {
            joined = lengths(bytes, number).map_err(Error::internal)?;
            (message, joined.as_slice())
        }
    };
    if message.well_known() == Some(WellKnown::HttpBody) {
        return http_body(bytes).map_err(Error::internal);
    }
    if format.system.alt == Alt::Proto {
        return Ok(Answer { content_type: "application/x-protobuf".into(), body: bytes.to_vec() });
    }
    let options = Options {
        enums: format.system.enums,
        layout: format.system.layout,
        fields: format.selector.as_ref(),
    };
    let mut body = Vec::new();
    json::encode(message, bytes, &options, &mut body).map_err(Error::internal)?;
    Ok(Answer { content_type: JSON.into(), body })
}

/// All of a field of bytes, joined.
fn lengths(bytes: &[u8], number: u32) -> Result<Vec<u8>, Malformed> {
    let (mut at, mut joined) = (0, Vec::new());
    while at < bytes.len() {
        let record = get_record(bytes, &mut at).ok_or(Malformed("field cut short"))?;
        if let Some(record) = record.filter(|record| (record.number, record.wire) == (number, Wire::Length)) {
            joined.extend_from_slice(record.slice(bytes));
        }
    }
    Ok(joined)
}

/// A `google.api.HttpBody` is answered as what it holds.
fn http_body(bytes: &[u8]) -> Result<Answer, Malformed> {
    let kind = String::from_utf8(lengths(bytes, 1)?).map_err(|_| Malformed("text that is not UTF-8"))?;
    let kind = if kind.is_empty() { "application/octet-stream".into() } else { kind };
    Ok(Answer { content_type: kind.into(), body: lengths(bytes, 2)? })
}

/// The HTTP status and the JSON body of an error.
pub fn respond_error(error: &Error, system: &SystemParams, style: ErrorStyle) -> (u16, Vec<u8>) {
    let status = error.code().http();
    let mut body = Vec::new();
    let options = Options { layout: system.layout, enums: system.enums, fields: None };
    let mut encoder = Encoder::new(&mut body, &options);
    encoder.text.open(b'{');
    encoder.text.key("error");
    encoder.text.open(b'{');
    encoder.text.key("code");
    encoder.text.unsigned(status.into());
    encoder.text.key("message");
    encoder.text.string(error.message());
    if style != ErrorStyle::Plain {
        write_errors(&mut encoder, error);
    }
    if style != ErrorStyle::Legacy {
        encoder.text.key("status");
        encoder.text.string(error.code().name());
        write_details(&mut encoder, error);
    }
    encoder.text.close(b'}');
    encoder.text.close(b'}');
    encoder.text.raw("\n");
    (status, body)
}

/// The list of the older form. What is wrong is named by an `ErrorInfo` of the domain `global`, where a
/// product has given one, and else by the code.
fn write_errors(encoder: &mut Encoder<'_>, error: &Error) {
    let named = error.details().iter().find_map(|detail| match detail {
        Detail::Info { reason, domain: "global", .. } => Some(*reason),
        _ => None,
    });
    encoder.text.key("errors");
    encoder.text.open(b'[');
    encoder.text.element();
    encoder.text.open(b'{');
    for (key, value) in [
        ("message", error.message()),
        ("domain", "global"),
        ("reason", named.unwrap_or_else(|| legacy_reason(error.code()))),
    ] {
        encoder.text.key(key);
        encoder.text.string(value);
    }
    encoder.text.close(b'}');
    encoder.text.close(b']');
}

fn legacy_reason(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => "badRequest",
        Code::FailedPrecondition => "failedPrecondition",
        Code::Unauthenticated => "authError",
        Code::PermissionDenied => "forbidden",
        Code::NotFound => "notFound",
        Code::AlreadyExists => "alreadyExists",
        Code::Aborted => "aborted",
        Code::ResourceExhausted => "rateLimitExceeded",
        Code::Unimplemented => "notImplemented",
        Code::Unavailable => "backendError",
        Code::DeadlineExceeded => "deadlineExceeded",
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => "internalError",
    }
}

fn write_details(encoder: &mut Encoder<'_>, error: &Error) {
    let details = error.to_status().details;
    let Some(any) = Message::by_name("google.protobuf.Any").filter(|_| !details.is_empty()) else { return };
    encoder.text.key("details");
    encoder.text.open(b'[');
    for detail in details {
        encoder.text.element();
        let written = encoder.message(any, &detail.encode_to_vec(), Selection::ALL);
        debug_assert_eq!(written, Ok(()), "our own details are well formed");
    }
    encoder.text.close(b']');
}
