//! Why a build came to nothing, for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, what to do about it, and what the step that failed said last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, as a sentence without an end.
    pub error: String,
    /// What to do about it, where something is known.
    pub next: Option<String>,
    /// The last lines of the step that failed, without secrets.
    pub log: Vec<String>,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>) -> Failure {
        Failure { error: error.into(), ..Failure::default() }
    }

    pub(crate) fn next(self, next: impl Into<String>) -> Failure {
        Failure { next: Some(next.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Failure {}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Failure {
        Failure::new(error.message())
    }
}
