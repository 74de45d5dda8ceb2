//! `application/x-www-form-urlencoded`, or the same fields as a JSON object, within limits.

use serde_json::{Map, Value};

/// The most bytes that are looked at.
const LONGEST: usize = 64 * 1024;
/// The most fields.
const MOST: usize = 64;

/// The fields of a form. The first of a name counts.
#[derive(Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Takes a form apart. What is no field is left out.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Form::default().and(bytes)
    }

    /// Adds the fields of another.
    pub(crate) fn and(mut self, bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        for field in bytes.split(|byte| *byte == b'&').filter(|field| !field.is_empty()).take(MOST) {
            let split = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
            let (name, value) = field.split_at(split);
            self.0.push((decode(name), decode(value.get(1..).unwrap_or_default())));
        }
        self
    }

    /// Adds the fields of a JSON object, as Google's Rust library sends them. What is no text is left out.
    pub(crate) fn and_json(mut self, bytes: &[u8]) -> Self {
        if bytes.len() <= LONGEST {
            let fields: Map<String, Value> = serde_json::from_slice(bytes).unwrap_or_default();
            let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
            self.0.extend(fields.into_iter().filter_map(text).take(MOST));
        }
        self
    }

    /// A field; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Undoes percent-encoding. A percent sign that stands for nothing stays.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        plain.push(match first {
            b'+' => b' ',
            b'%' => match tail.split_at_checked(2).and_then(|(digits, after)| Some((byte(digits)?, after))) {
                Some((byte, after)) => {
                    rest = after;
                    byte
                }
                None => b'%',
            },
            other => *other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_is_taken_apart() {
        let form = Form::parse(b"grant_type=urn%3Aa+b&x&x=2&=3&%zz=%4");
        assert_eq!(form.get("grant_type"), "urn:a b");
        assert_eq!(form.get("x"), "", "the first counts");
        assert_eq!(form.get("%zz"), "%4");
        assert_eq!(form.get("missing"), "");
    }

    #[test]
    fn a_json_object_is_a_form_too() {
        let form = Form::default().and_json(br#"{"grant_type": "refresh_token", "scopes": null, "n": 1}"#);
        assert_eq!(form.get("grant_type"), "refresh_token");
        assert_eq!((form.get("scopes"), form.get("n")), ("", ""), "only text counts");
        assert_eq!(Form::default().and_json(b"[]").get("grant_type"), "");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&bytes).and_json(&bytes).get("a");
        }
    }
}
