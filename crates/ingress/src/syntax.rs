//! What a request must be before anything else of it is looked at: the rules of RFC 9110, 9112 and 9113 that hyper
//! leaves to whoever serves. A request that two servers could understand differently is for neither.

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::Authority};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::{Body, headers, pages::Failure};

/// The host that a request is for.
///
/// # Errors
/// `BadRequest` for a request that names no host, several, or what is none; for a target in a form that its method
/// does not have; and for chunks in chunks. `UnknownCoding` for other transfer codings.
pub(crate) fn host(request: &Request<Incoming>) -> Result<HeaderValue, Failure> {
    let headers = request.headers();
    codings(headers)?;
    target(request.method(), request.uri())?;
    if request.version() >= Version::HTTP_2 {
        return h2_host(request.uri(), headers);
    }
    h1_host(request.uri(), headers)
}

/// The answer to such a request. It is the last on its connection: what follows may be meant as anything.
pub(crate) fn refusal(failure: Failure, request: &Request<Incoming>) -> Response<Body> {
    let mut response = failure.response(request.uri().path());
    if request.version() < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether a client asks to switch to the WebSocket protocol. With a body it does not: the instance is told of none, and
/// would read the body as another request.
pub(crate) fn asks_for_websocket(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && headers::asks_for_websocket(request.headers())
        && request.body().is_end_stream()
}

/// Of the transfer codings only `chunked` is understood, and it may be applied only once (RFC 9112, 6.1 and 7).
fn codings(headers: &HeaderMap) -> Result<(), Failure> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(first) = lines.next() else { return Ok(()) };
    if lines.next().is_none() && first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let all = headers.get_all(header::TRANSFER_ENCODING).iter().flat_map(headers::tokens);
    let known = all.filter(|word| !word.is_empty()).all(|word| word.eq_ignore_ascii_case("chunked"));
    Err(if known { Failure::BadRequest } else { Failure::UnknownCoding })
}

/// CONNECT is not for services, and the asterisk is for OPTIONS alone (RFC 9110, 9.3.6 and 9.3.7).
fn target(method: &Method, uri: &Uri) -> Result<(), Failure> {
    let odd = method == Method::CONNECT || uri.path() == "*" && method != Method::OPTIONS;
    if odd { Err(Failure::BadRequest) } else { Ok(()) }
}

/// There must be one `Host`, whatever the form of the target; where the target names a host too, that one counts
/// (RFC 9112, 3.2 and 3.2.2).
fn h1_host(uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, Failure> {
    let mut lines = headers.get_all(header::HOST).iter();
    let host = lines.next().filter(|_| lines.next().is_none()).ok_or(Failure::BadRequest)?;
    // The authority form is CONNECT's (3.2.3).
    let odd = uri.authority().is_some() && uri.scheme().is_none();
    if odd || !is_host(host.as_bytes()) {
        return Err(Failure::BadRequest);
    }
    uri.authority().map_or(Ok(host.clone()), named)
}

/// `:authority` and `Host` may both be there if they say the same (RFC 9113, 8.3.1).
fn h2_host(uri: &Uri, headers: &HeaderMap) -> Result<HeaderValue, Failure> {
    let mut lines = headers.get_all(header::HOST).iter();
    let (host, more) = (lines.next(), lines.next());
    let same = |authority: &Authority| {
        host.is_none_or(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    };
    if more.is_some() || !uri.authority().is_none_or(same) {
        return Err(Failure::BadRequest);
    }
    match uri.authority() {
        Some(authority) => named(authority),
        None => host.filter(|host| is_host(host.as_bytes())).cloned().ok_or(Failure::BadRequest),
    }
}

fn named(authority: &Authority) -> Result<HeaderValue, Failure> {
    let text = authority.as_str();
    // Who it is that asks does not belong there (RFC 9110, 4.2.4).
    if !is_host(text.as_bytes()) {
        return Err(Failure::BadRequest);
    }
    HeaderValue::from_str(text).map_err(|_| Failure::BadRequest)
}

/// Whether a text can be a host with or without a port (RFC 3986, 3.2.2). An empty one is a host that nobody has.
fn is_host(text: &[u8]) -> bool {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    text.iter().all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h1(method: Method, uri: &str, lines: &[(&str, &str)]) -> Result<HeaderValue, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let uri = uri.parse().unwrap();
        codings(&headers)?;
        target(&method, &uri)?;
        h1_host(&uri, &headers)
    }

    #[test]
    fn a_host_is_named_once_and_looks_like_one() {
        assert_eq!(h1(Method::GET, "/", &[("host", "a.b:80")]).unwrap(), "a.b:80");
        assert_eq!(h1(Method::GET, "/", &[("host", "[::1]:80")]).unwrap(), "[::1]:80");
        assert_eq!(h1(Method::GET, "http://a/", &[("host", "b")]).unwrap(), "a");
        for bad in ["a b", "a/b", "a@b", "a\tb", "a\"", "a?", "a#"] {
            assert_eq!(h1(Method::GET, "/", &[("host", bad)]), Err(Failure::BadRequest), "{bad:?}");
        }
        assert_eq!(h1(Method::GET, "/", &[]), Err(Failure::BadRequest));
        assert_eq!(h1(Method::GET, "http://a/", &[]), Err(Failure::BadRequest));
        assert_eq!(h1(Method::GET, "/", &[("host", "a"), ("host", "a")]), Err(Failure::BadRequest));
    }

    #[test]
    fn a_target_has_a_form_that_its_method_has() {
        assert!(h1(Method::OPTIONS, "*", &[("host", "a")]).is_ok());
        assert!(h1(Method::GET, "*", &[("host", "a")]).is_err());
        assert!(h1(Method::GET, "a:80", &[("host", "a")]).is_err());
        assert!(h1(Method::CONNECT, "a:80", &[("host", "a")]).is_err());
        assert!(h1(Method::GET, "http://me@a/", &[("host", "a")]).is_err());
    }

    #[test]
    fn only_chunks_are_understood_and_only_once() {
        let coded = |values: &[&str]| {
            let mut lines = vec![("host", "a")];
            lines.extend(values.iter().map(|value| ("transfer-encoding", *value)));
            h1(Method::POST, "/", &lines).err()
        };
        assert_eq!(coded(&["chunked"]), None);
        assert_eq!(coded(&["Chunked"]), None);
        assert_eq!(coded(&["chunked, chunked"]), Some(Failure::BadRequest));
        assert_eq!(coded(&["chunked", "chunked"]), Some(Failure::BadRequest));
        assert_eq!(coded(&["chunked,"]), Some(Failure::BadRequest));
        assert_eq!(coded(&["gzip, chunked"]), Some(Failure::UnknownCoding));
        assert_eq!(coded(&["gzip", "chunked"]), Some(Failure::UnknownCoding));
    }
}
