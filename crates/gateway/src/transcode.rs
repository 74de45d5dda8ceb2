//! A call in JSON: found by host, verb and path, made as bytes like any other, answered as JSON.
//!
//! What can be wrong with a request is found in the order in which Google finds it: the path, the credentials, the
//! form of the answer, the body. So a caller who is not known learns nothing about the rest.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use kernel::{Caller, Code, Error, Result};

use crate::{
    answer::host,
    dispatch::Served,
    hosts,
    json::Limits,
    listen::Conn,
    rest::{self, Answer, ErrorStyle, Format, Match, NoMatch, SystemParams},
    site::{Body, full},
};

/// What Google sends with every answer in JSON: caches keep nothing, and browsers do not guess.
const ALWAYS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "private"),
    (header::VARY, "Origin, X-Origin, Referer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Answers a request as a call of the method table.
pub(crate) async fn answer(conn: &Conn, request: Request<Incoming>) -> Response<Body> {
    let host = hosts::bare(host(&request)).to_ascii_lowercase();
    let (parts, body) = request.into_parts();
    let style = ErrorStyle::of(&host, parts.uri.path());
    let query = parts.uri.query().unwrap_or_default();
    let system = match SystemParams::parse(query, &parts.headers) {
        Ok(system) => system,
        Err(error) => return failed(&error, &SystemParams::default(), style),
    };
    match called(conn, &host, &parts, body, &system, style).await {
        Ok(Answer { content_type, body }) => respond(StatusCode::OK, &content_type, body),
        Err(error) => failed(&error, &system, style),
    }
}

async fn called(
    conn: &Conn,
    host: &str,
    parts: &Parts,
    body: Incoming,
    system: &SystemParams,
    style: ErrorStyle,
) -> Result<Answer> {
    let (found, served) = find(conn, host, parts)?;
    let caller = identify(conn, host, parts).await?;
    let format = Format::new(found.id, found.binding.response_body, system, style)?;
    let most = conn.shared.limits.body;
    let body = inflated(&parts.headers, whole(body, most).await?, most)?;
    let query = parts.uri.query().unwrap_or_default();
    let request = rest::decode_request(&found, query, &body, Limits { bytes: most })?;
    let bytes = conn.shared.dispatch.call(served, caller, request, None).await?;
    rest::respond_ok(&format, &bytes)
}

fn find<'c>(conn: &'c Conn, host: &'c str, parts: &'c Parts) -> Result<(Match<'c, 'c>, &'c Served)> {
    let dispatch = &conn.shared.dispatch;
    let verb = rest::verb(&parts.method, &parts.headers);
    let found =
        dispatch.router().find(host, verb.as_str(), parts.uri.path()).map_err(|missing| match missing {
            // Not UNIMPLEMENTED: gcloud tries a 501 again for half a minute, and then blames the network.
            NoMatch::Host => Error::precondition(format!("haar does not serve {} yet.", hosts::bare(host))),
            NoMatch::Path => Error::not_found("Method not found."),
        })?;
    let served = dispatch.at(found.method).ok_or_else(|| Error::not_found("Method not found."))?;
    Ok((found, served))
}

async fn identify(conn: &Conn, host: &str, parts: &Parts) -> Result<Caller> {
    conn.shared.callers.identify(conn, host, &parts.uri, &parts.headers).await
}

/// The whole body, if it is not too large.
async fn whole(body: Incoming, most: usize) -> Result<Bytes> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Err(error) => Err(Error::new(Code::Cancelled, "The request ended early.").because(error)),
    }
}

fn too_large(most: usize) -> Error {
    Error::invalid(format!("Request payload size exceeds the limit: {most} bytes."))
}

/// The body without the compression that Java's clients send theirs with, by the same limit.
fn inflated(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Bytes> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => return Ok(body),
        Some(b"gzip" | b"x-gzip") => {}
        Some(_) => {
            return Err(Error::invalid("The Content-Encoding of the request is not supported; use gzip."));
        }
    }
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(&*body).take(most as u64 + 1).read_to_end(&mut plain);
    match read {
        Ok(length) if length > most => Err(too_large(most)),
        Ok(_) => Ok(plain.into()),
        Err(error) => Err(Error::invalid("The request body is not gzip.").because(error)),
    }
}

fn failed(error: &Error, system: &SystemParams, style: ErrorStyle) -> Response<Body> {
    let (status, body) = rest::respond_error(error, system, style);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, "application/json; charset=UTF-8", body);
    if error.code() == Code::Unauthenticated {
        challenge(response.headers_mut());
    }
    response
}

/// Tells how to authenticate (RFC 9110, 15.5.2).
fn challenge(headers: &mut HeaderMap) {
    let value = HeaderValue::from_static("Bearer realm=\"https://accounts.google.com/\"");
    headers.insert(header::WWW_AUTHENTICATE, value);
}

fn respond(status: StatusCode, content_type: &str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
