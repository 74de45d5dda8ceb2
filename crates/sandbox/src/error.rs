//! What can go wrong with an instance, sorted by what the caller can do about it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The spec asks for something impossible: mend the spec.
    Invalid,
    /// The program, or the interpreter it names, is not in the image.
    NotFound,
    /// The program may not be executed by this user.
    NotExecutable,
    /// The program is for another architecture, or no program at all.
    WrongFormat,
    /// This host or kernel cannot do it, now or ever.
    Host,
}

/// A step that failed, in a sentence, and what kind of failure it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What the caller can do about it.
    pub kind: Kind,
    /// The step and the reason, for the log. Holds paths, never values of variables or contents of files.
    pub message: String,
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error { kind: Kind::Invalid, message: message.into() }
    }

    pub(crate) fn host(message: impl Into<String>) -> Error {
        Error { kind: Kind::Host, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

/// Names the step that an error of below belongs to.
pub(crate) trait Step<T> {
    /// The error as one of kind [`Kind::Host`], opening with the step's name.
    fn step(self, name: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Step<T> for std::result::Result<T, E> {
    fn step(self, name: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::host(format!("{name}: {error}")))
    }
}
