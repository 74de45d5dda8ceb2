//! Label selectors of the Knative form: which labels things in a listing must have
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>).

use std::collections::BTreeMap;

use kernel::{Error, Result};

/// The longest selector that is read, in bytes.
const LONGEST: usize = 8 << 10;

/// Terms joined by commas, all of which must hold: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`.
#[derive(Debug)]
pub(super) struct Selector(Vec<Term>);

/// What is asked of one label.
#[derive(Debug, PartialEq, Eq)]
enum Term {
    /// It has one of these values.
    In(String, Vec<String>),
    /// It has none of these values, or is not there.
    NotIn(String, Vec<String>),
    /// It is there.
    Exists(String),
    /// It is not there.
    Missing(String),
}

impl Selector {
    /// Reads a selector; an empty one takes everything.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is none.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid("The label selector is too long."));
        }
        let terms = split(text).into_iter().map(str::trim).filter(|term| !term.is_empty());
        terms.map(Term::parse).collect::<Result<_>>().map(Selector)
    }

    /// Whether these labels are asked for.
    pub(super) fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Term::Exists(key) => labels.contains_key(key),
            Term::Missing(key) => !labels.contains_key(key),
        })
    }

    /// The one value that a label must have, where there is only one.
    pub(super) fn only(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|term| match term {
            Term::In(known, values) if known == key && values.len() == 1 => Some(values[0].as_str()),
            _ => None,
        })
    }
}

/// The parts between commas that are not in parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

impl Term {
    fn parse(term: &str) -> Result<Term> {
        let one = |value: &str| vec![value.trim().to_owned()];
        let read = if let Some((key, value)) = term.split_once("!=") {
            (key, Some((false, one(value))))
        } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (key, Some((true, one(value))))
        } else if let Some((key, rest)) = term.split_once(char::is_whitespace) {
            (key, Some(set(rest.trim()).ok_or_else(|| unreadable(term))?))
        } else {
            (term, None)
        };
        match read {
            (key, Some((true, values))) => Ok(Term::In(name(key, term)?, values)),
            (key, Some((false, values))) => Ok(Term::NotIn(name(key, term)?, values)),
            (key, None) => match key.strip_prefix('!') {
                Some(key) => Ok(Term::Missing(name(key, term)?)),
                None => Ok(Term::Exists(name(key, term)?)),
            },
        }
    }
}

/// `in (a,b)` or `notin (a,b)`.
fn set(text: &str) -> Option<(bool, Vec<String>)> {
    let (is_in, rest) = match text.strip_prefix("notin") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("in")?),
    };
    let values = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some((is_in, values.split(',').map(|value| value.trim().to_owned()).collect()))
}

fn name(key: &str, term: &str) -> Result<String> {
    let key = key.trim();
    let is_name = !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    if is_name { Ok(key.to_owned()) } else { Err(unreadable(term)) }
}

fn unreadable(term: &str) -> Error {
    Error::invalid(format!("'{term}' is not a label selector such as key=value."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Selector::parse(selector).unwrap().takes(&labels)
    }

    #[test]
    fn every_term_must_hold() {
        let labels = [("job", "tide"), ("state", "Failed")];
        for selector in [
            "",
            "job=tide",
            "job == tide",
            "job = tide,state in (Failed, Running)",
            "job!=wave,state notin (Pending)",
            "other!=x",
            "job,!other",
        ] {
            assert!(takes(selector, &labels), "{selector}");
        }
        for selector in ["job=wave", "job=tide,state in (Running,Pending)", "!job", "other", "other in (x)"] {
            assert!(!takes(selector, &labels), "{selector}");
        }
        assert_eq!(Selector::parse("a=b,job = tide").unwrap().only("job"), Some("tide"));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for selector in ["=x", "a b", "a in b", "a in (b", "a=b,(", "!"] {
            assert!(Selector::parse(selector).is_err(), "{selector}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c!=(), in\u{e9}]{0,40}") {
            let _ = Selector::parse(&text).map(|selector| selector.takes(&BTreeMap::new()));
        }
    }
}
