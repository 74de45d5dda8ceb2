//! The head of the request that an instance gets.
//!
//! `Host` and end-to-end headers stay as they are; headers of the client's connection go; where the client
//! is, over which protocol it came and the trace are added, whatever it claims itself. An identity token that
//! has been checked loses its signature, so that nobody can pass it on.

use std::{fmt::Write, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::{
    headers,
    trace::{Short, Trace, decimal},
};

/// What stands in a checked token where its signature was, as on Cloud Run.
const NO_SIGNATURE: &str = "SIGNATURE_REMOVED_BY_GOOGLE";

/// The scheme a client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// How the body of a request is framed on an HTTP/1 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sends {
    Nothing,
    Length(u64),
    Chunks,
    /// No body, and a switch to WebSocket is asked for.
    WebSocket,
}

/// What is said to an instance beyond what the client said.
pub(crate) struct Context<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) host: &'a str,
    pub(crate) peer: IpAddr,
    pub(crate) scheme: Scheme,
    pub(crate) trace: &'a Trace,
    /// The header that carried the token that was checked, if one was.
    pub(crate) checked: Option<&'static str>,
}

/// Writes the head for HTTP/1.
pub(crate) fn write_head(out: &mut Vec<u8>, headers: &HeaderMap, context: &Context<'_>, sends: Sends) {
    out.extend_from_slice(context.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(context.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(context.host.as_bytes());
    out.extend_from_slice(b"\r\n");
    emit(headers, context, &mut Lines(out));
    match sends {
        Sends::Nothing => {}
        Sends::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Sends::WebSocket => out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n"),
        Sends::Length(length) => {
            let mut text = Short::default();
            decimal(length, &mut text);
            Lines(out).add("content-length", &[text.bytes()]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The headers for HTTP/2, where the framing is not theirs to say.
pub(crate) fn map(from: &HeaderMap, context: &Context<'_>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(from.len() + 6);
    emit(from, context, &mut map);
    if from.get_all(header::TE).iter().flat_map(headers::tokens).any(|token| token == "trailers") {
        map.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(length) = from.get(header::CONTENT_LENGTH) {
        map.insert(header::CONTENT_LENGTH, length.clone());
    }
    map
}

/// Where headers go.
trait Sink {
    fn copy(&mut self, name: &HeaderName, value: &HeaderValue);
    /// Adds a header whose value consists of these parts.
    fn add(&mut self, name: &'static str, value: &[&[u8]]);
}

struct Lines<'a>(&'a mut Vec<u8>);

impl Lines<'_> {
    fn line(&mut self, name: &str, value: &[&[u8]]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        value.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.extend_from_slice(b"\r\n");
    }
}

impl Sink for Lines<'_> {
    fn copy(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.line(name.as_str(), &[value.as_bytes()]);
    }

    fn add(&mut self, name: &'static str, value: &[&[u8]]) {
        self.line(name, value);
    }
}

impl Sink for HeaderMap {
    fn copy(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }

    fn add(&mut self, name: &'static str, value: &[&[u8]]) {
        if let Ok(value) = HeaderValue::from_bytes(&value.concat()) {
            self.append(name, value);
        }
    }
}

fn emit(from: &HeaderMap, context: &Context<'_>, sink: &mut impl Sink) {
    let named = if from.contains_key(header::CONNECTION) { headers::named(from) } else { Vec::new() };
    for (name, value) in from {
        match disposition(name.as_str(), context) {
            Disposition::Drop => {}
            Disposition::Strip => strip(name, value, sink),
            Disposition::Keep if named.contains(name) => {}
            Disposition::Keep => sink.copy(name, value),
        }
    }
    cookies(from, sink);
    forwarded(from, context, sink);
    sink.add("traceparent", &[&context.trace.parent()]);
    sink.add("x-cloud-trace-context", &[context.trace.cloud().bytes()]);
}

/// Clients of HTTP/2 may split their cookies into several headers; an instance gets one (RFC 9113, 8.2.3).
fn cookies(from: &HeaderMap, sink: &mut impl Sink) {
    let mut parts: Vec<&[u8]> = Vec::new();
    for value in from.get_all(header::COOKIE) {
        if !parts.is_empty() {
            parts.push(b"; ");
        }
        parts.push(value.as_bytes());
    }
    if !parts.is_empty() {
        sink.add("cookie", &parts);
    }
}

enum Disposition {
    Keep,
    Drop,
    /// Goes on without its signature.
    Strip,
}

fn disposition(name: &str, context: &Context<'_>) -> Disposition {
    match name {
        // Of the connection.
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authorization"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "expect" => Disposition::Drop,
        // Written anew.
        "host"
        | "content-length"
        | "cookie"
        | "x-forwarded-for"
        | "x-forwarded-proto"
        | "forwarded"
        | "traceparent"
        | "x-cloud-trace-context" => Disposition::Drop,
        "authorization" | "x-serverless-authorization" if context.checked == Some(name) => Disposition::Strip,
        _ if name.starts_with("x-google-") => Disposition::Drop,
        _ => Disposition::Keep,
    }
}

/// A JSON web token without its signature; anything else that was accepted as a credential stays here.
fn strip(name: &HeaderName, value: &HeaderValue, sink: &mut impl Sink) {
    let token = value.to_str().unwrap_or_default();
    let Some((signed, _)) = token.rsplit_once('.').filter(|(signed, _)| signed.contains('.')) else { return };
    if let Ok(value) = HeaderValue::from_str(&format!("{signed}.{NO_SIGNATURE}")) {
        sink.copy(name, &value);
    }
}

fn forwarded(from: &HeaderMap, context: &Context<'_>, sink: &mut impl Sink) {
    let mut ip = Short::default();
    // An address is shorter than that, and writing to memory does not fail.
    let _ = write!(ip, "{}", context.peer);
    let ip = ip.bytes();
    joined(from, "x-forwarded-for", &[ip], sink);
    let proto = context.scheme.as_str().as_bytes();
    sink.add("x-forwarded-proto", &[proto]);
    let [open, close]: [&[u8]; 2] =
        if context.peer.is_ipv6() { [b"for=\"[", b"]\";proto="] } else { [b"for=\"", b"\";proto="] };
    joined(from, "forwarded", &[open, ip, close, proto], sink);
}

/// A header with one more element at its end.
fn joined(from: &HeaderMap, name: &'static str, element: &[&[u8]], sink: &mut impl Sink) {
    if !from.contains_key(name) {
        return sink.add(name, element);
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for before in from.get_all(name) {
        parts.extend([before.as_bytes(), b", "]);
    }
    parts.extend(element);
    sink.add(name, &parts);
}
