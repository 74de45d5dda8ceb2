//! What a container writes, line by line, into the log.
//!
//! Nothing is lost: a line longer than an entry may be is continued in the next, and the log takes lines without
//! making anybody wait. What is not UTF-8 is shown with replacement characters.

use std::sync::Arc;

use kernel::ports::{LONGEST_LINE as LONGEST, LogSource, LogStream, Logs};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe::Receiver,
};

/// How much room a read has.
const READ: usize = 8 << 10;

/// Follows both outputs to their ends.
pub(super) async fn follow(
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    logs: Arc<dyn Logs>,
    source: LogSource,
) {
    let line = |stream| {
        let (logs, source) = (&logs, &source);
        move |line: &str| logs.line(source, stream, line)
    };
    tokio::join!(pump(stdout, line(LogStream::Stdout)), pump(stderr, line(LogStream::Stderr)));
}

async fn pump(from: Option<impl AsyncRead + Unpin>, mut line: impl FnMut(&str)) {
    let Some(mut from) = from else { return };
    let mut lines = Lines::default();
    while let Ok(1..) = from.read_buf(lines.room()).await {
        lines.drain(&mut line);
    }
    lines.finish(&mut line);
}

/// Bytes that are to become lines.
#[derive(Default)]
struct Lines {
    held: Vec<u8>,
    /// There is no end of a line before this.
    searched: usize,
}

impl Lines {
    /// Where the next bytes go, after what is held.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.held.is_empty() {
            // What a long line needed is not kept for the next.
            self.held.shrink_to(READ);
        }
        self.held.reserve(READ);
        &mut self.held
    }

    fn drain(&mut self, line: &mut impl FnMut(&str)) {
        let mut start = 0;
        while let Some(length) = self.next(start) {
            emit(&self.held[start..start + length], line);
            let has_end = self.held.get(start + length) == Some(&b'\n');
            start += length + usize::from(has_end);
            self.searched = start;
        }
        self.held.drain(..start);
        self.searched = self.held.len();
    }

    /// How long the line at `start` is, if all of it is here or it is too long for one entry.
    fn next(&self, start: usize) -> Option<usize> {
        let from = self.searched.max(start);
        let end = self.held[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at - start);
        match end {
            Some(length) if length <= LONGEST => Some(length),
            _ if self.held.len() - start > LONGEST => Some(whole(&self.held[start..start + LONGEST])),
            _ => None,
        }
    }

    fn finish(&mut self, line: &mut impl FnMut(&str)) {
        if !self.held.is_empty() {
            emit(&self.held, line);
        }
    }
}

/// Up to where these bytes end with a whole character.
fn whole(bytes: &[u8]) -> usize {
    let begins = |byte: &u8| *byte & 0xc0 != 0x80;
    let last = bytes.iter().rev().take(4).position(begins).map_or(bytes.len(), |back| bytes.len() - 1 - back);
    match std::str::from_utf8(&bytes[last..]) {
        Err(error) if error.error_len().is_none() && last > 0 => last,
        _ => bytes.len(),
    }
}

fn emit(bytes: &[u8], line: &mut impl FnMut(&str)) {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    line(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.room().extend_from_slice(chunk);
            lines.drain(&mut |line| said.push(line.to_owned()));
        }
        lines.finish(&mut |line| said.push(line.to_owned()));
        said
    }

    #[test]
    fn lines_end_with_either_end_and_the_last_may_have_none() {
        assert_eq!(lines(&[b"a\nb\r", b"\n\n", b"c"]), ["a", "b", "", "c"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_continued_and_no_character_is_cut() {
        let long = "é".repeat(LONGEST);
        let said = lines(&[b"x", long.as_bytes(), b"\nnext\n"]);
        assert_eq!(said.concat(), format!("x{long}next"));
        assert_eq!(said.len(), 4);
        assert!(said.iter().all(|line| line.len() <= LONGEST && !line.contains('\u{fffd}')));
    }

    proptest! {
        #[test]
        fn how_output_is_cut_into_reads_makes_no_difference(
            text in "[a-c\n]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let expected: Vec<String> = text.lines().map(str::to_owned).collect();
            prop_assert_eq!(lines(&chunks), expected);
        }
    }
}
