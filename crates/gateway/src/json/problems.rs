//! What is wrong with a request, field by field, in Google's words.

use std::fmt::{self, Write};

use kernel::error::{Detail, Error, Violation};

use super::reader::Syntax;

/// How many wrong fields are listed. Whoever sends more has lost the thread anyway, and an answer must not be
/// made many times larger than the request.
const MAX_VIOLATIONS: usize = 1000;
/// How much of a wrong value is repeated in its error, in bytes.
const MAX_SHOWN: usize = 512;

/// Everything that is wrong with a request; empty when nothing is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    syntax: Option<String>,
    violations: Vec<Violation>,
}

impl Problems {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.syntax.is_none() && self.violations.is_empty()
    }

    /// Each wrong field, in the order of the input. Empty for a text that is no JSON.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// `INVALID_ARGUMENT`: one line a problem in the message, and each field in a `BadRequest` detail. A text
    /// that is no JSON has the one line and no detail, as on Google.
    pub fn into_error(self) -> Error {
        if let Some(syntax) = self.syntax {
            return Error::invalid(syntax);
        }
        let mut message = String::new();
        for violation in &self.violations {
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(&violation.description);
        }
        Error::invalid(message).with(Detail::BadRequest(self.violations))
    }

    pub(crate) fn of_syntax(Syntax(message): Syntax) -> Self {
        Problems { syntax: Some(message), violations: Vec::new() }
    }

    /// Adds what is wrong with another part of the same request.
    pub(crate) fn append(&mut self, other: Problems) {
        self.syntax = self.syntax.take().or(other.syntax);
        self.violations.extend(other.violations);
        self.violations.truncate(MAX_VIOLATIONS);
    }

    fn add(&mut self, field: String, description: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { field, description });
        }
    }

    /// A name that cannot stand in the message at `path`.
    #[cold]
    pub(crate) fn name(&mut self, path: &Path<'_>, name: &str, why: &str) {
        let field = path.to_string();
        let at = if field.is_empty() { String::new() } else { format!(" at '{field}'") };
        let name = shorten(name);
        self.add(field, format!("Invalid JSON payload received. Unknown name \"{name}\"{at}: {why}"));
    }

    /// A value that the field at `path` cannot hold; `kind` is what it holds.
    #[cold]
    pub(crate) fn value(&mut self, path: &Path<'_>, kind: &str, what: &str) {
        let field = path.to_string();
        let at = if field.is_empty() { String::new() } else { format!(" at '{field}'") };
        self.add(field, format!("Invalid value{at} ({kind}), {what}"));
    }
}

/// As much of a text from outside as an error repeats.
pub(crate) fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The way from the request to a field: a list on the stack, written out only when something is wrong.
pub(crate) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    /// The request itself.
    pub(crate) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A field, by its name in the proto file.
    pub(crate) fn field(&'p self, name: &'p str) -> Path<'p> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of a list or a map.
    pub(crate) fn index(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent_is_root = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if parent_is_root => f.write_str(name),
            Step::Field(name) => {
                f.write_char('.')?;
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}
