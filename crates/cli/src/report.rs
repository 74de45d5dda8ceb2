//! What people read when something goes wrong: what is the matter, and what to do next, in two lines.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
};

/// The result of a command.
pub type Result<T, E = Trouble> = std::result::Result<T, E>;

/// Something that stops a command.
#[derive(Debug)]
pub struct Trouble {
    what: String,
    next: Option<String>,
}

impl Trouble {
    /// Says what is the matter.
    pub fn new(what: impl Into<String>) -> Self {
        Trouble { what: what.into(), next: None }
    }

    /// Says what to do next.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Prints both lines to standard error, in colour only on a terminal.
    pub fn print(&self) {
        let (red, off) = if std::io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        eprintln!("{red}haar:{off} {}", self.what);
        if let Some(next) = &self.next {
            eprintln!("      {next}");
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Prints what the person asked for to standard output, byte by byte as it is.
///
/// # Errors
/// When it cannot be written; a reader that has seen enough (`haar env | head -1`) is none.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Trouble::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Adds what was being done to an error that only says what failed.
pub trait Doing<T> {
    /// `doing` completes the sentence "cannot …".
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Trouble::new(format!("cannot {doing}: {error}")))
    }
}
