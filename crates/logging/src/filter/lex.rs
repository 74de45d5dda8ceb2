//! The words of a filter.

/// A word, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// As it stands in the filter, for messages.
    pub(crate) raw: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Whether nothing stands between it and the word before.
    pub(crate) joined: bool,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A value, or a field's name.
    Text(Text),
    Operator(Operator),
    Open,
    Close,
    Comma,
    And,
    Or,
    Not,
    End,
}

/// Text that may be a field's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    /// All of it.
    pub(crate) value: String,
    /// Its parts between dots outside quotation marks.
    pub(crate) path: Vec<String>,
    /// Whether it is one quoted string.
    pub(crate) quoted: bool,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Has,
    Matches,
    NotMatches,
}

/// Splits a filter into words, the last of which is [`TokenKind::End`].
///
/// # Errors
/// The word that makes no sense: an operator that is none, or a string without an end.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Token> {
    let mut lexer = Lexer { rest: text, line: 1, column: 1 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.token()?;
        let end = token.kind == TokenKind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl Lexer<'_> {
    fn token(&mut self) -> Result<Token, Token> {
        let joined = !self.skip_blank();
        let (start, line, column) = (self.rest, self.line, self.column);
        let kind = self.kind();
        let raw = start[..start.len() - self.rest.len()].to_owned();
        let token = |kind| Token { kind, raw: raw.clone(), line, column, joined };
        kind.map(token).ok_or_else(|| token(TokenKind::End))
    }

    /// Skips white space and comments; says whether there were any.
    fn skip_blank(&mut self) -> bool {
        let before = self.rest.len();
        loop {
            if self.rest.starts_with("--") {
                while self.rest.starts_with(|c| c != '\n') {
                    self.advance();
                }
            } else if self.rest.starts_with(char::is_whitespace) {
                self.advance();
            } else {
                return self.rest.len() != before;
            }
        }
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        (self.line, self.column) =
            if next == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(next)
    }

    fn skip(&mut self, characters: usize) {
        for _ in 0..characters {
            self.advance();
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.skip(text.chars().count());
        }
        found
    }

    fn kind(&mut self) -> Option<TokenKind> {
        const SYMBOLS: [(&str, TokenKind); 12] = [
            ("(", TokenKind::Open),
            (")", TokenKind::Close),
            (",", TokenKind::Comma),
            ("=~", TokenKind::Operator(Operator::Matches)),
            ("!~", TokenKind::Operator(Operator::NotMatches)),
            ("!=", TokenKind::Operator(Operator::NotEqual)),
            ("<=", TokenKind::Operator(Operator::LessOrEqual)),
            (">=", TokenKind::Operator(Operator::GreaterOrEqual)),
            ("=", TokenKind::Operator(Operator::Equal)),
            ("<", TokenKind::Operator(Operator::Less)),
            (">", TokenKind::Operator(Operator::Greater)),
            (":", TokenKind::Operator(Operator::Has)),
        ];
        if self.rest.is_empty() {
            return Some(TokenKind::End);
        }
        if let Some((_, kind)) = SYMBOLS.into_iter().find(|(symbol, _)| self.eat(symbol)) {
            return Some(kind);
        }
        self.word()
    }

    fn word(&mut self) -> Option<TokenKind> {
        let before = self.rest.len();
        let mut text = Text { value: String::new(), path: vec![String::new()], quoted: true };
        while let Some(next) = self.rest.chars().next() {
            match next {
                // A string stands for itself, or goes on with a name that ends in a dot.
                '"' | '\'' if text.value.is_empty() || text.value.ends_with('.') => {
                    let part = self.string(next)?;
                    text.value.push_str(&part);
                    text.path.last_mut()?.push_str(&part);
                    if !self.rest.starts_with('.') || text.quoted {
                        break;
                    }
                }
                '.' => {
                    self.advance();
                    text.quoted = false;
                    text.value.push('.');
                    text.path.push(String::new());
                }
                c if plain(c) => {
                    self.advance();
                    let c = if c == '\\' { self.advance()? } else { c };
                    text.quoted = false;
                    text.value.push(c);
                    text.path.last_mut()?.push(c);
                }
                _ => break,
            }
        }
        if self.rest.len() == before {
            self.advance();
            return None;
        }
        Some(match text.value.as_str() {
            "AND" if !text.quoted => TokenKind::And,
            "OR" if !text.quoted => TokenKind::Or,
            "NOT" if !text.quoted => TokenKind::Not,
            _ => TokenKind::Text(text),
        })
    }

    fn string(&mut self, mark: char) -> Option<String> {
        self.advance();
        let mut value = String::new();
        loop {
            match self.advance()? {
                c if c == mark => return Some(value),
                '\\' => self.escape(mark, &mut value)?,
                c => value.push(c),
            }
        }
    }

    /// What a backslash begins. One that begins nothing known stays, as regular expressions need it.
    fn escape(&mut self, mark: char, value: &mut String) -> Option<()> {
        match self.advance()? {
            c if c == mark || c == '\\' => value.push(c),
            'n' => value.push('\n'),
            't' => value.push('\t'),
            'r' => value.push('\r'),
            'u' => value.push(self.code(4)?),
            'x' => value.push(self.code(2)?),
            c => value.extend(['\\', c]),
        }
        Some(())
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let code = u32::from_str_radix(self.rest.get(..digits)?, 16).ok()?;
        self.skip(digits);
        char::from_u32(code)
    }
}

/// Whether a character may stand in a word without quotation marks.
fn plain(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '"' | '\'' | '(' | ')' | '=' | '<' | '>' | '!' | ':' | ',' | '~')
}
