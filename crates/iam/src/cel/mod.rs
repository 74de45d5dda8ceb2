//! Conditions of policies: the part of the Common Expression Language that IAM documents.
//!
//! A condition is read, checked and compiled when its policy is compiled, into a small tree in which nothing is left
//! to look up: attributes are slots, constants are values, time zones and patterns are ready. Evaluating it walks that
//! tree, borrows everything and allocates nothing, so that it costs nanoseconds. It cannot loop, and recursion ends
//! where the parser's limit on nesting ended it.
//!
//! What a request does not have (a destination, outside of Identity-Aware Proxy) is an error, as in CEL: `&&` and `||`
//! take it up where the other side decides, and a condition that ends in one does not hold.
//!
//! Declined: the `cel` crate, which evaluates a tree of reference-counted values with look-ups by name and knows no
//! types before it runs, while IAM refuses a mistyped condition when it is set; and of the language what IAM's
//! attributes never need: maps, messages, macros, floating-point and unsigned numbers, bytes.
//!
//! Sources: <https://cloud.google.com/iam/docs/conditions-attribute-reference>,
//! <https://github.com/google/cel-spec/blob/master/doc/langdef.md>.

mod check;
mod dynamic;
mod eval;
mod lex;
mod parse;
#[cfg(test)]
mod print;
mod terms;
mod time;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use dynamic::Formula;
pub(crate) use eval::{Attributes, Missing, Target};
pub(crate) use terms::{Term, terms};
pub(crate) use values::Failure;

/// The longest expression that is read, in bytes. Google documents none; this bounds the work that one policy can ask
/// for, and is far beyond what twelve operators can use.
pub(crate) const MOST_BYTES: usize = 16 << 10;
/// How deeply expressions may be nested.
const MOST_DEPTH: usize = 48;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How many bytes before the mistake.
    pub at: usize,
    /// What is wrong, as CEL's own checker says it.
    pub why: String,
}

impl Fault {
    fn new(at: usize, why: impl Into<String>) -> Self {
        Fault { at, why: why.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// An expression, ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Program {
    root: eval::Node,
    /// How many of `&&`, `||` and `!` are in it.
    operators: usize,
}

impl Program {
    /// Reads, checks and compiles an expression, which must give a boolean.
    pub(crate) fn compile(source: &str) -> Result<Program, Fault> {
        let tree = parse::parse(source)?;
        let root = check::check(&tree)?;
        Ok(Program { root, operators: parse::operators(&tree) })
    }

    /// How many logical operators are in it: IAM allows twelve.
    pub(crate) fn operators(&self) -> usize {
        self.operators
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// When it depends on an attribute that the request does not have, or on arithmetic out of range.
    pub(crate) fn holds(&self, attributes: &Attributes<'_>) -> Result<bool, Missing> {
        self.root.truth(attributes)
    }
}
