//! What people read when something goes wrong: what is the matter, and what to do next, in two lines.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
        tell!("{red}haar:{off} {}", self.what);
        if let Some(next) = &self.next {
            tell!("      {next}");
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Whether somebody still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as can be told.
    There,
    /// They have seen enough, as in `haar logs tide --follow | head -1`.
    Gone,
}

/// Prints what the person asked for to standard output, byte by byte as it is.
///
/// # Errors
/// When it cannot be written; a reader that has seen enough is none.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Trouble::new(format!("cannot write to standard output: {error}"))),
    }
}

/// Whether somebody still reads standard output, asked without printing anything.
pub fn reader() -> Reader {
    let out = io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    let is_gone = poll(&mut asked, Some(&Timespec::default())).is_ok_and(|events| events > 0)
        && asked[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
    if is_gone { Reader::Gone } else { Reader::There }
}

/// Says something on standard error. Where nobody reads that (`2>&1 | head`), it is not said, and the work goes on:
/// `eprint!` would end it.
pub fn say(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_fmt(text);
}

/// The same, as a line with the words of `format!`.
macro_rules! tell {
    ($($words:tt)*) => { $crate::report::say(format_args!("{}\n", format_args!($($words)*))) };
}
pub(crate) use tell;

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
