//! The tokens of a JSON text, read one at a time.
//!
//! The grammar and the words of its errors are those of the parser in Google's front ends: strings may stand
//! in single quotes, keys may be bare, a comma may trail. There is no lookahead beyond a token and no stack:
//! whoever reads keeps its own place, and [`Reader::enter`] bounds how deep that can get.

use std::borrow::Cow;

use super::MAX_DEPTH;

/// Why a text is no JSON, in Google's words, with the place. Nothing else is reported beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Syntax(pub(crate) String);

/// What stands next in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    String,
    Number,
    True,
    False,
    Null,
    BeginObject,
    EndObject,
    BeginList,
    EndList,
    Colon,
    Comma,
    BareKey,
    Unknown,
}

/// A number as it was written, and its value: an integer where it fits one exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number<'j> {
    pub(crate) text: &'j str,
    pub(crate) value: NumberValue,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NumberValue {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

/// Whether a member or an element has been read from the object or list at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    Later,
}

/// A place in a JSON text. The place is always between two characters.
pub(crate) struct Reader<'j> {
    text: &'j str,
    at: usize,
    depth: u32,
}

impl<'j> Reader<'j> {
    /// Starts at the beginning of a text, which must be UTF-8.
    pub(crate) fn new(json: &'j [u8]) -> Result<Self, Syntax> {
        match std::str::from_utf8(json) {
            Ok(text) => Ok(Reader { text, at: 0, depth: 0 }),
            Err(error) => {
                let rest = json.get(error.valid_up_to()..).unwrap_or_default();
                let shown = String::from_utf8_lossy(rest.get(..rest.len().min(20)).unwrap_or_default());
                Err(Syntax(format!(
                    "Invalid JSON payload received. Encountered non UTF-8 code points.\n{shown}\n^"
                )))
            }
        }
    }

    fn bytes(&self) -> &'j [u8] {
        self.text.as_bytes()
    }

    /// Where the reader is, to come [back](Self::back_to) to.
    pub(crate) fn here(&self) -> (usize, u32) {
        (self.at, self.depth)
    }

    /// Returns to a place read before.
    pub(crate) fn back_to(&mut self, (at, depth): (usize, u32)) {
        (self.at, self.depth) = (at, depth);
    }

    /// What stands next, after white space.
    #[inline]
    pub(crate) fn peek(&mut self) -> Token {
        let bytes = self.bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) = bytes.get(self.at) {
            self.at += 1;
        }
        let Some(&byte) = bytes.get(self.at) else { return Token::Unknown };
        match byte {
            b'"' | b'\'' => Token::String,
            b'{' => Token::BeginObject,
            b'}' => Token::EndObject,
            b'[' => Token::BeginList,
            b']' => Token::EndList,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'-' | b'0'..=b'9' => Token::Number,
            _ => self.peek_word(byte),
        }
    }

    fn peek_word(&self, first: u8) -> Token {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(b"true") {
            Token::True
        } else if rest.starts_with(b"false") {
            Token::False
        } else if rest.starts_with(b"null") {
            Token::Null
        } else if is_key_start(first) {
            Token::BareKey
        } else {
            Token::Unknown
        }
    }

    /// What kind of value stands next.
    pub(crate) fn peek_value(&mut self) -> Result<Token, Syntax> {
        match self.peek() {
            Token::Unknown => Err(self.unknown("Expected a value.")),
            Token::EndObject | Token::EndList | Token::Colon | Token::Comma | Token::BareKey => {
                Err(self.fail("Unexpected token."))
            }
            token => Ok(token),
        }
    }

    /// Steps over the `{` or `[` that was peeked.
    pub(crate) fn enter(&mut self, key: &str) -> Result<(), Syntax> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Syntax(format!(
                "Invalid JSON payload received. Message too deep. Max recursion depth reached for key '{key}'"
            )));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        self.depth = self.depth.saturating_sub(1);
    }

    /// The next key of the object that was entered, up to and with its colon; `None` once it is closed.
    pub(crate) fn next_key(&mut self, place: &mut Place) -> Result<Option<Cow<'j, str>>, Syntax> {
        let mut token = self.peek();
        if *place == Place::Later {
            match token {
                Token::EndObject => {}
                Token::Comma => {
                    self.at += 1;
                    token = self.peek();
                }
                Token::Unknown => return Err(self.unknown("Expected , or } after key:value pair.")),
                _ => return Err(self.fail("Expected , or } after key:value pair.")),
            }
        }
        *place = Place::Later;
        let key = match token {
            Token::EndObject => {
                self.leave();
                return Ok(None);
            }
            Token::String => self.string()?,
            Token::BareKey | Token::True | Token::False | Token::Null => self.bare_key()?,
            Token::Unknown => return Err(self.unknown("Expected an object key or }.")),
            _ => return Err(self.fail("Expected an object key or }.")),
        };
        match self.peek() {
            Token::Colon => self.at += 1,
            Token::Unknown => return Err(self.unknown("Expected : between key:value pair.")),
            _ => return Err(self.fail("Expected : between key:value pair.")),
        }
        Ok(Some(key))
    }

    fn bare_key(&mut self) -> Result<Cow<'j, str>, Syntax> {
        let start = self.at;
        let rest = self.bytes().get(start..).unwrap_or_default();
        let length = rest.iter().take_while(|&&b| is_key_start(b) || b.is_ascii_digit()).count();
        self.at += length;
        match self.text.get(start..self.at).unwrap_or_default() {
            "true" | "false" | "null" => Err(self.fail("Expected an object key or }.")),
            key => Ok(Cow::Borrowed(key)),
        }
    }

    /// Whether another element follows in the list that was entered; `false` once it is closed.
    pub(crate) fn next_element(&mut self, place: &mut Place) -> Result<bool, Syntax> {
        let mut token = self.peek();
        if *place == Place::Later {
            match token {
                Token::EndList => {}
                Token::Comma => {
                    self.at += 1;
                    token = self.peek();
                }
                Token::Unknown => return Err(self.unknown("Expected , or ] after array value.")),
                _ => return Err(self.fail("Expected , or ] after array value.")),
            }
        }
        *place = Place::Later;
        match token {
            Token::EndList => {
                self.leave();
                Ok(false)
            }
            Token::Unknown => Err(self.unknown("Expected a value or ] within an array.")),
            _ => Ok(true),
        }
    }

    /// Reads the word or the null that was peeked.
    pub(crate) fn word(&mut self, token: Token) {
        self.at += match token {
            Token::True | Token::Null => 4,
            Token::False => 5,
            _ => 0,
        };
    }

    /// Reads the number that was peeked.
    pub(crate) fn number(&mut self) -> Result<Number<'j>, Syntax> {
        let start = self.at;
        let rest = self.bytes().get(start..).unwrap_or_default();
        let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' | b'x');
        let length = rest.iter().take_while(|b| is_part(b)).count();
        let text = self.text.get(start..start + length).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let float = text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'));
        if !float && digits.len() >= 2 && digits.starts_with('0') {
            return Err(self.fail("Octal/hex numbers are not valid JSON values."));
        }
        let whole = match text.parse::<u64>() {
            _ if float => None,
            Ok(value) => Some(NumberValue::Unsigned(value)),
            // A zero with a sign is no whole number to those who can tell.
            Err(_) => text.parse::<i64>().ok().filter(|value| *value != 0).map(NumberValue::Negative),
        };
        let value = match whole {
            Some(value) => value,
            None => self.float(text)?,
        };
        self.at += length;
        Ok(Number { text, value })
    }

    fn float(&self, text: &str) -> Result<NumberValue, Syntax> {
        match text.parse::<f64>() {
            Err(_) => Err(self.fail("Unable to parse number.")),
            Ok(value) if !value.is_finite() => Err(self.fail("Number exceeds the range of double.")),
            Ok(value) => Ok(NumberValue::Float(value)),
        }
    }

    /// Reads the string that was peeked; without escapes it is borrowed from the text.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Cow<'j, str>, Syntax> {
        let quote = self.bytes().get(self.at).copied().unwrap_or(b'"');
        self.at += 1;
        let start = self.at;
        match self.find_end(quote) {
            Some(end) if self.bytes().get(end) == Some(&quote) => {
                self.at = end + 1;
                Ok(Cow::Borrowed(self.text.get(start..end).unwrap_or_default()))
            }
            _ => self.escaped_string(quote).map(Cow::Owned),
        }
    }

    /// Where the next quote or backslash is.
    fn find_end(&self, quote: u8) -> Option<usize> {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        memchr::memchr2(quote, b'\\', rest).map(|offset| self.at + offset)
    }

    #[cold]
    fn escaped_string(&mut self, quote: u8) -> Result<String, Syntax> {
        let mut value = String::new();
        loop {
            let Some(end) = self.find_end(quote) else {
                self.at = self.text.len();
                return Err(self.fail("Closing quote expected in string."));
            };
            value.push_str(self.text.get(self.at..end).unwrap_or_default());
            self.at = end;
            if self.bytes().get(end) == Some(&quote) {
                self.at += 1;
                return Ok(value);
            }
            value.push(self.escape()?);
        }
    }

    /// Reads an escape, from its backslash on. What stands for nothing special stands for itself.
    fn escape(&mut self) -> Result<char, Syntax> {
        let Some(next) = self.text.get(self.at + 1..).and_then(|rest| rest.chars().next()) else {
            return Err(self.fail("Closing quote expected in string."));
        };
        if next == 'u' {
            return self.unicode_escape();
        }
        self.at += 1 + next.len_utf8();
        Ok(match next {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            other => other,
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Syntax> {
        let high = self.code_unit(self.at)?;
        let (code, length) = match high {
            0xd800..=0xdbff => {
                let second = self.bytes().get(self.at + 6..self.at + 8);
                if second != Some(b"\\u") || self.text.len() < self.at + 12 {
                    return Err(self.fail("Missing low surrogate."));
                }
                let low = self.code_unit(self.at + 6)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(self.fail("Invalid low surrogate."));
                }
                (0x10000 + ((high & 0x3ff) << 10 | low & 0x3ff), 12)
            }
            _ => (high, 6),
        };
        let Some(char) = char::from_u32(code) else {
            return Err(self.fail("Invalid unicode code point."));
        };
        self.at += length;
        Ok(char)
    }

    /// The value of `\uXXXX` at this place.
    fn code_unit(&self, at: usize) -> Result<u32, Syntax> {
        let Some(hex) = self.bytes().get(at + 2..at + 6) else {
            return Err(self.fail("Illegal hex string."));
        };
        hex.iter().try_fold(0, |code, &digit| {
            let digit = (digit as char).to_digit(16).ok_or_else(|| self.fail("Invalid escape sequence."))?;
            Ok(code << 4 | digit)
        })
    }

    /// Reads over one value, whatever it is.
    pub(crate) fn skip(&mut self, key: &str) -> Result<(), Syntax> {
        match self.peek_value()? {
            Token::String => drop(self.string()?),
            Token::Number => drop(self.number()?),
            Token::BeginObject => {
                self.enter(key)?;
                let mut place = Place::First;
                while let Some(key) = self.next_key(&mut place)? {
                    self.skip(&key)?;
                }
            }
            Token::BeginList => {
                self.enter(key)?;
                let mut place = Place::First;
                while self.next_element(&mut place)? {
                    self.skip("")?;
                }
            }
            token => self.word(token),
        }
        Ok(())
    }

    /// Makes sure that nothing is left.
    pub(crate) fn finish(&mut self) -> Result<(), Syntax> {
        self.peek();
        if self.at < self.text.len() {
            return Err(self.fail("Parsing terminated before end of input."));
        }
        Ok(())
    }

    #[cold]
    fn unknown(&self, what: &str) -> Syntax {
        if self.at >= self.text.len() {
            self.fail(&format!("Unexpected end of string. {what}"))
        } else {
            self.fail(what)
        }
    }

    /// The error for this place: what is wrong, twenty bytes on either side, and a mark beneath.
    #[cold]
    fn fail(&self, what: &str) -> Syntax {
        let mut from = self.at.saturating_sub(20);
        let mut to = (self.at + 20).min(self.text.len());
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        while !self.text.is_char_boundary(to) {
            to += 1;
        }
        let shown = self.text.get(from..to).unwrap_or_default();
        let mark = " ".repeat(self.at.min(self.text.len()) - from);
        Syntax(format!("Invalid JSON payload received. {what}\n{shown}\n{mark}^"))
    }
}

fn is_key_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'$'
}
