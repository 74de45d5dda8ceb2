//! JSON text, written in one go.

use std::io::Write;

/// Whether people or programs read the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// No white space at all.
    Compact,
    /// As Google answers unless told otherwise: two spaces a level, a line a member, a newline at the end.
    #[default]
    Pretty,
}

/// A JSON text that grows at its end.
pub(crate) struct Text<'o> {
    out: &'o mut Vec<u8>,
    layout: Layout,
    level: usize,
    /// Whether nothing stands in the innermost object or list yet.
    bare: bool,
}

impl<'o> Text<'o> {
    pub(crate) fn new(out: &'o mut Vec<u8>, layout: Layout) -> Self {
        Text { out, layout, level: 0, bare: true }
    }

    /// Opens an object or a list.
    pub(crate) fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.level += 1;
        self.bare = true;
    }

    /// Closes what was opened last. Empty ones stay on their line.
    pub(crate) fn close(&mut self, bracket: u8) {
        self.level -= 1;
        if !self.bare {
            self.line();
        }
        self.out.push(bracket);
        self.bare = false;
    }

    /// Begins an element of a list.
    #[inline]
    pub(crate) fn element(&mut self) {
        if !self.bare {
            self.out.push(b',');
        }
        self.bare = false;
        self.line();
    }

    #[inline]
    fn line(&mut self) {
        if self.layout == Layout::Pretty {
            const SPACES: &[u8] = &[b' '; 64];
            self.out.push(b'\n');
            let mut rest = self.level * 2;
            while rest > 0 {
                let now = rest.min(SPACES.len());
                self.out.extend_from_slice(&SPACES[..now]);
                rest -= now;
            }
        }
    }

    #[inline]
    fn colon(&mut self) {
        self.out.push(b':');
        if self.layout == Layout::Pretty {
            self.out.push(b' ');
        }
    }

    /// Begins a member whose key needs no escapes: the name of a field.
    #[inline]
    pub(crate) fn key(&mut self, name: &str) {
        self.element();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
        self.colon();
    }

    /// Begins a member under any key.
    pub(crate) fn free_key(&mut self, name: &str) {
        self.element();
        self.string(name);
        self.colon();
    }

    /// A string. `<`, `>` and what breaks a line in JavaScript are escaped, as Google does, so that an answer
    /// shown in a page is no markup.
    #[inline]
    pub(crate) fn string(&mut self, text: &str) {
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if !NEEDS_CARE[byte as usize] {
                continue;
            }
            let length = self.escape(bytes, from, at);
            if length > 0 {
                from = at + length;
            }
        }
        self.out.extend_from_slice(bytes.get(from..).unwrap_or_default());
        self.out.push(b'"');
    }

    /// Writes what stands before a byte that needs care, and its escape; gives the length of what was
    /// replaced, 0 when it may stand after all.
    fn escape(&mut self, bytes: &[u8], from: usize, at: usize) -> usize {
        let (escape, length): (&[u8], usize) = match bytes.get(at..).unwrap_or_default() {
            [b'"', ..] => (b"\\\"", 1),
            [b'\\', ..] => (b"\\\\", 1),
            [b'\n', ..] => (b"\\n", 1),
            [b'\r', ..] => (b"\\r", 1),
            [b'\t', ..] => (b"\\t", 1),
            [0x08, ..] => (b"\\b", 1),
            [0x0c, ..] => (b"\\f", 1),
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            [0xe2, ..] => return 0,
            _ => (b"", 1),
        };
        self.out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        self.out.extend_from_slice(escape);
        if let (b"", Some(byte)) = (escape, bytes.get(at)) {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            self.out.extend_from_slice(b"\\u00");
            self.out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        length
    }

    /// A word or a number that is written as it stands.
    #[inline]
    pub(crate) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A string that a function writes and that needs no escapes.
    pub(crate) fn quoted<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.out.push(b'"');
        let result = write(self.out);
        self.out.push(b'"');
        result
    }

    /// A whole number.
    #[inline]
    pub(crate) fn signed(&mut self, value: i64) {
        if value < 0 {
            self.out.push(b'-');
        }
        self.unsigned(value.unsigned_abs());
    }

    /// A whole number that is not negative.
    #[inline]
    pub(crate) fn unsigned(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// A number with a fraction, in the fewest digits that give it back; what JSON has no number for is a
    /// string.
    pub(crate) fn float(&mut self, value: f64) {
        self.real(value, value.abs());
    }

    /// The same in single precision.
    pub(crate) fn single(&mut self, value: f32) {
        self.real(value, value.abs().into());
    }

    fn real(&mut self, value: impl std::fmt::Display + std::fmt::LowerExp + Into<f64> + Copy, size: f64) {
        let written = match size {
            _ if size.is_nan() => write!(self.out, "\"NaN\""),
            f64::INFINITY if value.into() > 0.0 => write!(self.out, "\"Infinity\""),
            f64::INFINITY => write!(self.out, "\"-Infinity\""),
            0.0 | 1e-5..1e17 => write!(self.out, "{value}"),
            _ => write!(self.out, "{value:e}"),
        };
        debug_assert!(written.is_ok(), "a vector takes all that is written to it");
    }
}

/// The bytes of a string that may need an escape. 0xe2 begins U+2028 and U+2029, among others.
static NEEDS_CARE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[0x7f] = true;
    table[0xe2] = true;
    table
};
