//! What a build says while it goes on: lines, without secrets, and not without end.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// The longest line that is told, in bytes.
const MAX_LINE: usize = 2000;
/// The most lines of a build.
const MAX_LINES: usize = 20_000;
/// How many lines of a step are kept for the case that it fails.
const LAST: usize = 30;
/// The shortest secret that is looked for: a shorter one would be found everywhere.
const SHORTEST: usize = 4;

/// Something that a build says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// A line of a step, or what is about to be done.
    Line {
        /// The step.
        step: String,
        /// The line.
        text: String,
    },
    /// What people should see even when all goes well.
    Remark {
        /// A sentence.
        remark: String,
    },
}

/// Who is told.
pub(crate) type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// Tells what a build says.
pub(crate) struct Teller {
    listener: Listener,
    secrets: Vec<String>,
    told: Mutex<usize>,
}

impl Teller {
    pub(crate) fn new(listener: Listener, mut secrets: Vec<String>) -> Teller {
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Teller { listener, secrets, told: Mutex::default() }
    }

    pub(crate) fn remark(&self, remark: &str) {
        (self.listener)(Event::Remark { remark: self.clean(remark) });
    }

    /// Tells a line, if not too many were told. Gives it as it was told.
    pub(crate) fn line(&self, step: &str, text: &str) -> String {
        let text = self.clean(text);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told += 1;
        let shown = match *told {
            number if number < MAX_LINES => text.clone(),
            MAX_LINES => "(there is more than can be shown)".to_owned(),
            _ => return text,
        };
        (self.listener)(Event::Line { step: step.to_owned(), text: shown });
        text
    }

    /// A line without secrets, colours and what else moves a terminal's cursor.
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut clean = without_escapes(text);
        for secret in &self.secrets {
            clean = clean.replace(secret, "****");
        }
        clean = without_users(&clean);
        if clean.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|end| clean.is_char_boundary(*end)).unwrap_or(0);
            clean.truncate(end);
            clean.push('…');
        }
        clean
    }
}

/// Leaves out escape sequences and control characters.
fn without_escapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\x1b' {
            if characters.next_if_eq(&'[').is_some() {
                characters.by_ref().find(|c| c.is_ascii_alphabetic());
            }
        } else if c == '\t' || !c.is_control() {
            clean.push(c);
        }
    }
    clean
}

/// Covers `user:password@` in addresses, known or not.
pub(crate) fn without_users(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '"' || c == '\'')
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                clean.push_str("****");
                &after[at..]
            }
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}

/// The last lines of a step.
#[derive(Default)]
pub(crate) struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn teller() -> Teller {
        Teller::new(Arc::new(|_| {}), vec!["hunter22".into(), "me:hunter22".into(), "x".into()])
    }

    #[test]
    fn secrets_are_covered_wherever_they_are() {
        let clean = |text: &str| teller().clean(text);
        assert_eq!(
            clean("Looking in https://me:hunter22@mirror/simple"),
            "Looking in https://****@mirror/simple"
        );
        assert_eq!(clean("http://a:b@c/d and ftp://e@f"), "http://****@c/d and ftp://****@f");
        assert_eq!(clean("the password hunter22 was refused"), "the password **** was refused");
        assert_eq!(
            clean("mail me@example.com, see https://x.y/@z"),
            "mail me@example.com, see https://x.y/@z"
        );
    }

    #[test]
    fn a_line_does_nothing_to_a_terminal() {
        assert_eq!(teller().clean("\x1b[31mred\x1b[0m\x07 a\tb\r"), "red a\tb");
        assert!(teller().clean(&"ü".repeat(5000)).len() < 2010);
    }

    proptest! {
        #[test]
        fn any_line_can_be_told(text in "\\PC{0,80}") {
            prop_assert!(!teller().clean(&text).contains("hunter22"));
        }
    }
}
