//! The last lines of each revision and of each attempt at a task, in memory, for error messages. Bounded: the one
//! that was silent for longest is forgotten first.

use std::{collections::VecDeque, sync::Arc};

use kernel::ports::{LogSource, Owner};

/// The most owners that are remembered.
const OWNERS: usize = 64;
/// The most lines of an owner, and the most bytes of them.
const LINES: usize = 100;
const BYTES: usize = 8 << 10;
/// The most bytes of one line.
const LINE: usize = 1 << 10;

/// The last lines, the owner that spoke last first.
#[derive(Default)]
pub(crate) struct Tails(VecDeque<Tail>);

struct Tail {
    project: Arc<str>,
    region: Arc<str>,
    owner: Owner,
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Tails {
    /// Remembers a line.
    pub(crate) fn push(&mut self, source: &LogSource, line: &str) {
        match self.0.iter().position(|tail| tail.is_of(source)) {
            Some(0) => {}
            Some(at) => {
                let tail = self.0.remove(at);
                self.0.extend(tail);
                self.0.rotate_right(1);
            }
            None => {
                self.0.truncate(OWNERS - 1);
                self.0.push_front(Tail::new(source));
            }
        }
        if let Some(tail) = self.0.front_mut() {
            tail.push(&line[..line.floor_char_boundary(LINE)]);
        }
    }

    /// The last lines of a source's owner, the oldest first.
    pub(crate) fn last(&self, source: &LogSource, lines: usize) -> Vec<String> {
        let Some(tail) = self.0.iter().find(|tail| tail.is_of(source)) else { return Vec::new() };
        let skipped = tail.lines.len().saturating_sub(lines);
        tail.lines.iter().skip(skipped).map(|line| line.to_string()).collect()
    }
}

impl Tail {
    fn new(source: &LogSource) -> Self {
        let LogSource { project, region, owner, .. } = source.clone();
        Tail { project, region, owner, lines: VecDeque::new(), bytes: 0 }
    }

    fn is_of(&self, source: &LogSource) -> bool {
        self.owner == source.owner && self.region == source.region && self.project == source.project
    }

    fn push(&mut self, line: &str) {
        self.lines.push_back(line.into());
        self.bytes += line.len();
        while self.lines.len() > LINES || self.bytes > BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}
