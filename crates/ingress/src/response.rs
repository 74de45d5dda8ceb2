//! The head of an instance's response: parsed under limits, and refused when its framing is ambiguous.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::headers;

/// How long a response's head may be, in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;
/// How many headers a response may have.
const MAX_HEADERS: usize = 128;

/// The instance does not speak HTTP as it should.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How the end of a response's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// In the chunks themselves.
    Chunked,
    /// When the connection ends.
    Close,
    /// There is no HTTP any more: the protocol was switched.
    Switched,
}

/// Whether the connection can be used for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Yes,
    No,
}

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// End-to-end headers only.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    pub(crate) reuse: Reuse,
    /// How long the head is.
    pub(crate) length: usize,
}

/// Parses a head at the start of `bytes` into `map`, which is emptied first; `None` when it is not complete.
pub(crate) fn parse(bytes: &Bytes, map: &mut HeaderMap, asked: &Method) -> Result<Option<Head>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        _ => return Err(Malformed),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let mut facts = Facts::default();
    map.clear();
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).map_err(|_| Malformed)?;
        facts.note(&name, &value)?;
        map.append(name, value);
    }
    let framing = facts.framing(status, asked, parsed.version == Some(1))?;
    facts.clean(map, status, asked);
    let persistent = parsed.version == Some(1) && !facts.closes && framing != Framing::Close;
    let reuse = if persistent { Reuse::Yes } else { Reuse::No };
    Ok(Some(Head { status, headers: std::mem::take(map), framing, reuse, length }))
}

/// What the headers say about the connection.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    connection: bool,
    hops: bool,
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Malformed> {
        if name == header::CONTENT_LENGTH {
            let length = decimal(value.as_bytes()).ok_or(Malformed)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(Malformed);
            }
        } else if name == header::TRANSFER_ENCODING {
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            self.chunked = true;
            self.hops = true;
        } else if name == header::CONNECTION {
            self.connection = true;
            self.closes |= headers::tokens(value).any(|token| token.eq_ignore_ascii_case("close"));
        } else if headers::is_hop(name) {
            self.hops = true;
        }
        Ok(())
    }

    /// RFC 9112, section 6.3; a response with both a length and chunks is refused.
    fn framing(&self, status: StatusCode, asked: &Method, http11: bool) -> Result<Framing, Malformed> {
        let bodiless = asked == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Malformed),
            (_, true) if !http11 => Err(Malformed),
            _ if status == StatusCode::SWITCHING_PROTOCOLS => Ok(Framing::Switched),
            _ if bodiless => Ok(Framing::Length(0)),
            (None, true) => Ok(Framing::Chunked),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, false) => Ok(Framing::Close),
        }
    }

    /// Takes out what is only between the instance and us.
    fn clean(&self, map: &mut HeaderMap, status: StatusCode, asked: &Method) {
        if self.connection {
            headers::remove_named(map);
        }
        if self.hops {
            headers::remove_hops(map);
        }
        if self.length.is_some_and(|length| length > 0)
            && status == StatusCode::NO_CONTENT
            && asked != Method::HEAD
        {
            map.remove(header::CONTENT_LENGTH);
        }
    }
}

/// A number of ASCII digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Malformed> {
        parse(&Bytes::copy_from_slice(text.as_bytes()), &mut HeaderMap::new(), &Method::GET)
    }

    #[test]
    fn the_end_of_a_body_is_found_as_the_standard_says() {
        for (text, framing, reuse) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), Reuse::Yes),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked, Reuse::Yes),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::Close, Reuse::No),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Framing::Length(0), Reuse::Yes),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                Reuse::No,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), Reuse::No),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Framing::Switched, Reuse::Yes),
        ] {
            let head = head(text).unwrap().unwrap();
            assert_eq!((head.framing, head.reuse), (framing, reuse), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "A: b\r\n folded",
            "Bad Name: x",
            "NoColon",
        ] {
            assert!(head(&format!("HTTP/1.1 200 OK\r\n{bad}\r\n\r\n")).is_err(), "{bad}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
        assert!(head(&long).is_err());
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200))).is_err());
        assert!(head("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head("HTTP/2 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let text = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n\
                    Content-Length: 0\r\nX-Other: 2\r\n\r\n";
        let head = head(text).unwrap().unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "x-other"]);
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(text in "(HTTP/1\\.1 [0-9]{3} OK\r\n)?([A-Za-z-]{0,5}: ?.{0,20}\r?\n){0,5}\r?\n?.*") {
            let _ = head(&text);
        }
    }
}
