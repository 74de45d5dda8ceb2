//! What a person sees while a deploy goes on: a line a step, and on a terminal what the step is just doing.

use std::{
    cell::Cell,
    io::{IsTerminal, Write},
    time::Instant,
};

use crate::report::{self, tell};

/// Steps are written to standard error; standard output is for what comes out.
pub struct Screen {
    is_terminal: bool,
    /// Whether the last line is one that will be written over.
    is_live: Cell<bool>,
}

/// How wide the name of a step is.
const NAME: usize = 9;
/// What of a live line is shown: it must not wrap, or it could not be written over.
const LIVE: usize = 64;

impl Screen {
    pub fn new() -> Self {
        Screen { is_terminal: std::io::stderr().is_terminal(), is_live: Cell::new(false) }
    }

    /// Begins a step.
    pub fn step(&self, name: &'static str) -> Step<'_> {
        Step { screen: self, name, begun: Instant::now() }
    }

    /// A line for itself.
    pub fn line(&self, name: &str, text: &str) {
        self.clear();
        tell!("  {name:NAME$}  {text}");
    }

    /// Lines of somebody's output, set apart.
    pub fn quote(&self, lines: &[String]) {
        self.clear();
        for line in lines {
            tell!("  | {}", printable(line));
        }
    }

    fn clear(&self) {
        if self.is_live.replace(false) {
            report::say(format_args!("\r\x1b[2K"));
        }
    }
}

/// A step that goes on.
pub struct Step<'a> {
    screen: &'a Screen,
    name: &'static str,
    begun: Instant,
}

impl Step<'_> {
    /// What it is doing now.
    pub fn now(&self, text: &str) {
        if self.screen.is_terminal {
            let short: String = printable(text).chars().take(LIVE).collect();
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\x1b[2K  {:NAME$}  \x1b[2m{short}\x1b[0m", self.name);
            let _ = out.flush();
            self.screen.is_live.set(true);
        }
    }

    /// Its end, and what came of it.
    pub fn done(self, text: &str) {
        let took = self.begun.elapsed();
        let took = match took.as_millis() {
            millis @ 0..1000 => format!("{millis} ms"),
            _ => format!("{:.1} s", took.as_secs_f64()),
        };
        self.screen.line(self.name, &format!("{text}  ({took})"));
    }
}

/// Control characters of a program's output could repaint the screen.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}
