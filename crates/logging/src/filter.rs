//! The query language of Cloud Logging, such as
//! `resource.type="cloud_run_revision" AND severity>=WARNING AND NOT jsonPayload.user:"bot"`.
//!
//! `NOT` binds tightest, then `OR`, then `AND`; terms side by side mean `AND`. Comparisons take no notice of
//! case, regular expressions do (RE2's syntax, in ASCII classes). A declared field that an entry lacks has its
//! default value; a label or a payload's member that it lacks compares as false, with `!=` too. See
//! <https://cloud.google.com/logging/docs/view/logging-query-language>.
//!
//! A filter is read into a tree that is asked twice: of a whole block or stream of entries, of which only the
//! range of times, the severities and the shared fields are known ([`Filter::narrow`], [`Filter::possible`]),
//! and then of each entry as it lies on disk, encoded ([`Filter::matches`]). Declined: the functions `SEARCH`,
//! `sample`, `ip_in_net`, `source`, `cast` and `regexp_extract`.

use kernel::{Error, Result};

mod eval;
mod fields;
mod lex;
mod parse;

pub(crate) use eval::{Known, View};
use fields::Path;

/// The most characters in a filter, as Google documents it.
const MAX_LENGTH: usize = 20_000;

/// A filter that has been read and found right.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Node);

/// A part of a filter.
#[derive(Clone, Debug)]
enum Node {
    /// Decided already.
    Const(bool),
    /// Every one of these holds.
    All(Vec<Node>),
    /// At least one of these holds.
    Any(Vec<Node>),
    /// This does not hold.
    Not(Box<Node>),
    /// A field has such a value.
    Field(Path, Test),
    /// Some text in the entry contains this.
    Anywhere(Needle, Scope),
}

/// Where text is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// In all of the entry.
    Entry,
    /// In what it does not share with its stream: there it is not.
    Own,
}

/// Text that is sought within other text.
#[derive(Clone, Debug)]
struct Needle {
    /// In lowercase.
    lower: String,
    /// Where in it the byte is that is rarest in English: what to look for first.
    rare: usize,
}

impl Needle {
    fn new(text: &str) -> Self {
        const COMMON: &[u8] = b"zqxjkvbpygfwmucldrhsnioate ";
        let lower = text.to_lowercase();
        let rank = |(_, byte): &(usize, u8)| COMMON.iter().position(|common| common == byte);
        let rare = lower.bytes().enumerate().min_by_key(rank).map_or(0, |(at, _)| at);
        Needle { lower, rare }
    }
}

/// What is asked of a field's value.
#[derive(Clone, Debug)]
enum Test {
    /// That there is one.
    Present,
    /// That it compares so with a number: an integer, a moment or length in nanoseconds, a severity, a flag.
    Number(Order, i64),
    /// That it compares so with this text, which is in lowercase.
    Text(Order, String),
    /// That it contains this text.
    Contains(Needle),
    /// That it ends with this text, whatever its case.
    Ends(String),
    /// That a JSON value compares so with this.
    Json(Order, Literal),
    /// That a JSON value is this number, or contains this text.
    JsonHas(Option<f64>, Needle),
    /// That the expression is found in it.
    Matches(regex::bytes::Regex),
    /// That it is not found in it, though there is a value.
    Lacks(regex::bytes::Regex),
}

/// A value as a filter gives it for a JSON value, whose type only the entry tells.
#[derive(Clone, Debug)]
struct Literal {
    /// In lowercase.
    text: String,
    /// The number that it is, if it is one.
    number: Option<f64>,
    /// Whether it is the bare word `NULL_VALUE`.
    null: bool,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Order::Equal => ordering.is_eq(),
            Order::NotEqual => ordering.is_ne(),
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Filter {
    /// Reads a filter. An empty one lets everything through.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, saying where, for what is no filter, names no field, or compares with a value of
    /// another type; `UNIMPLEMENTED` for a function that is not served.
    pub(crate) fn parse(text: &str) -> Result<Filter> {
        if text.chars().count() > MAX_LENGTH {
            return Err(unparseable(format!("it is longer than {MAX_LENGTH} characters")));
        }
        parse::filter(text).map(Filter)
    }

    /// Whether nothing can pass.
    pub(crate) fn is_never(&self) -> bool {
        matches!(self.0, Node::Const(false))
    }
}

fn unparseable(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("Unparseable filter: {what}"))
}

#[cfg(test)]
mod tests;
