//! Tokens of CEL.

use super::Fault;

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, or a keyword such as `in` and `true`.
    Name(String),
    /// A number without its sign.
    Int(u64),
    /// A string, its escapes resolved.
    Text(String),
    /// Punctuation.
    Sign(&'static str),
    /// Nothing follows.
    End,
}

/// Two characters before one, so that the longest sign is found first.
const SIGNS: [&str; 23] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "+", "-", "*", "/", "%",
    "?", ":", "{",
];

/// Takes an expression apart: each token with its place, the end last.
pub(super) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if matches!(first, ' ' | '\t' | '\n' | '\r' | '\u{c}') {
            at += 1;
        } else if source[at..].starts_with("//") {
            at += source[at..].find('\n').unwrap_or(source.len() - at);
        } else {
            let (token, end) = token(source, at, first)?;
            tokens.push((at, token));
            at = end;
        }
    }
    tokens.push((source.len(), Token::End));
    Ok(tokens)
}

fn token(source: &str, at: usize, first: char) -> Result<(Token, usize), Fault> {
    let rest = &source[at..];
    let raw = rest.len() > 1 && matches!(first, 'r' | 'R') && matches!(rest.as_bytes()[1], b'"' | b'\'');
    if raw || matches!(first, '"' | '\'') {
        return text(source, at, raw);
    }
    if first.is_ascii_digit() {
        return number(rest, at);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        return Ok((Token::Name(rest[..length].to_owned()), at + length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), at + sign.len())),
        None => Err(Fault::new(at, format!("Syntax error: token recognition error at: '{first}'"))),
    }
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Fault> {
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let digits = &rest[..length];
    let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let is_float =
        rest[length..].strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match parsed {
        Ok(number) if !is_float => Ok((Token::Int(number), at + length)),
        _ => Err(Fault::new(at, "invalid int literal")),
    }
}

/// A string in one or three quotes of either kind.
fn text(source: &str, at: usize, raw: bool) -> Result<(Token, usize), Fault> {
    let open = at + usize::from(raw);
    let single = &source[open..=open];
    let triple = single.repeat(3);
    let quote = if source[open..].starts_with(&triple) { triple.as_str() } else { single };
    let unclosed = || Fault::new(at, "Syntax error: a string is not closed");
    let mut value = String::new();
    let mut here = open + quote.len();
    loop {
        let rest = &source[here..];
        let first = rest.chars().next().ok_or_else(unclosed)?;
        match first {
            _ if rest.starts_with(quote) => return Ok((Token::Text(value), here + quote.len())),
            '\n' | '\r' if quote.len() == 1 => return Err(unclosed()),
            '\\' if !raw => here += escape(rest, here, &mut value)?,
            _ => {
                value.push(first);
                here += first.len_utf8();
            }
        }
    }
}

/// Resolves the escape at the start of `rest`, and says how many bytes it took.
fn escape(rest: &str, at: usize, value: &mut String) -> Result<usize, Fault> {
    let wrong = || Fault::new(at, "Syntax error: invalid escape sequence");
    let code = |digits: &str, radix| {
        u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).ok_or_else(wrong)
    };
    let some = |range: std::ops::Range<usize>| rest.get(range).ok_or_else(wrong);
    let kind = rest[1..].chars().next().ok_or_else(wrong)?;
    let (character, length) = match kind {
        'n' => ('\n', 2),
        't' => ('\t', 2),
        'r' => ('\r', 2),
        'a' => ('\u{7}', 2),
        'b' => ('\u{8}', 2),
        'f' => ('\u{c}', 2),
        'v' => ('\u{b}', 2),
        '\\' | '"' | '\'' | '`' | '?' => (kind, 2),
        'x' | 'X' => (code(some(2..4)?, 16)?, 4),
        'u' => (code(some(2..6)?, 16)?, 6),
        'U' => (code(some(2..10)?, 16)?, 10),
        '0'..='3' => (code(some(1..4)?, 8)?, 4),
        _ => return Err(wrong()),
    };
    value.push(character);
    Ok(length)
}
