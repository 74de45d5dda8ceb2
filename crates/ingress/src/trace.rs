//! The trace a request belongs to: taken over from its headers, or begun.
//!
//! `traceparent` is W3C Trace Context; `X-Cloud-Trace-Context` is Google's older `TRACE/SPAN;o=1`.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use http::HeaderMap;

use crate::{random, revision::Revision};

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// 32 lower-case hexadecimal digits.
    pub(crate) id: [u8; 32],
    /// This request's span.
    pub(crate) span: u64,
    pub(crate) sampled: Sampled,
}

/// Whether a request's trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    Yes,
    No,
}

impl Trace {
    /// The trace of a request with a new span; `sample` says whether a trace that begins here is kept.
    pub(crate) fn of(headers: &HeaderMap, sample: impl FnOnce() -> Sampled) -> Trace {
        let header = |name| headers.get(name).map(http::HeaderValue::as_bytes);
        let given = header("traceparent")
            .and_then(parent)
            .or_else(|| header("x-cloud-trace-context").and_then(cloud));
        let (id, sampled) = given.unwrap_or_else(|| (new_id(), sample()));
        Trace { id, span: random::next().max(1), sampled }
    }

    /// The id as text.
    pub(crate) fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// As `traceparent`: `00-TRACE-SPAN-01`.
    pub(crate) fn parent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.id);
        hex(self.span, &mut text[36..52]);
        text[54] = self.flag();
        text
    }

    /// As `X-Cloud-Trace-Context`: `TRACE/SPAN;o=1`, the span in decimal.
    pub(crate) fn cloud(&self) -> Short {
        let mut text = Short::default();
        text.push(&self.id);
        text.push(b"/");
        decimal(self.span, &mut text);
        text.push(b";o=");
        text.push(&[self.flag()]);
        text
    }

    fn flag(&self) -> u8 {
        if self.sampled == Sampled::Yes { b'1' } else { b'0' }
    }
}

/// A text of at most 96 bytes, without an allocation. What does not fit is left out.
pub(crate) struct Short {
    text: [u8; 96],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Short { text: [0; 96], length: 0 }
    }
}

impl Short {
    pub(crate) fn push(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(room) = self.text.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.push(part.as_bytes());
        Ok(())
    }
}

/// Appends a number in decimal.
pub(crate) fn decimal(mut value: u64, text: &mut Short) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.push(&digits[from..]);
}

fn hex(value: u64, text: &mut [u8]) {
    for (place, digit) in text.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (4 * place)) as usize & 15];
    }
}

fn new_id() -> [u8; 32] {
    let mut id = [0; 32];
    hex(random::next(), &mut id[..16]);
    hex(random::next() | 1, &mut id[16..]);
    id
}

fn trace_id(text: &[u8]) -> Option<[u8; 32]> {
    let id: [u8; 32] = text.try_into().ok()?;
    let valid = id.iter().all(u8::is_ascii_hexdigit) && id.iter().any(|digit| *digit != b'0');
    valid.then(|| id.map(|digit| digit.to_ascii_lowercase()))
}

fn parent(text: &[u8]) -> Option<([u8; 32], Sampled)> {
    let well_formed = text.len() >= 55 && text[2] == b'-' && text[35] == b'-' && text[52] == b'-';
    if !well_formed || &text[..2] == b"ff" || (&text[..2] == b"00" && text.len() != 55) {
        return None;
    }
    let flags = char::from(text[54]).to_digit(16)?;
    Some((trace_id(&text[3..35])?, if flags & 1 == 1 { Sampled::Yes } else { Sampled::No }))
}

fn cloud(text: &[u8]) -> Option<([u8; 32], Sampled)> {
    let id = trace_id(text.get(..32)?)?;
    let sampled = text.windows(3).rev().find(|w| w.starts_with(b"o=")).is_some_and(|w| w[2] & 1 == 1);
    match text.get(32) {
        None | Some(b'/' | b';') => Some((id, if sampled { Sampled::Yes } else { Sampled::No })),
        Some(_) => None,
    }
}

impl Revision {
    /// Cloud Run samples at most one trace that begins here in 10 s.
    pub(crate) fn sample(&self, now: Instant) -> Sampled {
        let now = self.time(now).as_micros() as u64 + 1;
        let last = self.traced.load(Relaxed);
        if last != 0 && now.saturating_sub(last) < 10_000_000 {
            return Sampled::No;
        }
        self.traced.store(now, Relaxed);
        Sampled::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Trace {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        Trace::of(&headers, || Sampled::No)
    }

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_given_trace_is_continued_with_a_span_of_our_own() {
        for (name, value, sampled) in [
            ("traceparent", format!("00-{ID}-b7ad6b7169203331-01"), Sampled::Yes),
            ("traceparent", format!("00-{ID}-b7ad6b7169203331-00"), Sampled::No),
            ("x-cloud-trace-context", format!("{ID}/1;o=1"), Sampled::Yes),
            ("x-cloud-trace-context", format!("{ID}/1;o=0"), Sampled::No),
            ("x-cloud-trace-context", ID.to_owned(), Sampled::No),
        ] {
            let trace = of(name, &value);
            assert_eq!((trace.id(), trace.sampled), (ID, sampled), "{value}");
            let again = of("traceparent", std::str::from_utf8(&trace.parent()).unwrap());
            assert_eq!((again.id, again.sampled), (trace.id, trace.sampled));
            let cloud = trace.cloud();
            let expected = format!("{ID}/{};o={}", trace.span, sampled as u8 ^ 1);
            assert_eq!(cloud.bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn nonsense_begins_a_new_trace() {
        for value in [
            "",
            "00-0-0-01",
            &format!("ff-{ID}-b7ad6b7169203331-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        ] {
            let trace = of("traceparent", value);
            assert_ne!(trace.id(), ID);
            assert!(trace_id(&trace.id).is_some());
        }
    }
}
