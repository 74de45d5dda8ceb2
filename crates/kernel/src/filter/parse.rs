//! From text to a filter, by recursive descent: one function for each level of binding.

use super::{Kind, MAX_DEPTH, Node, Order, Pattern, Test};
use crate::time::{Micros, parse_duration, parse_time};

/// What is wrong with a filter, as the end of a sentence.
type Outcome<T> = std::result::Result<T, String>;

/// Which fields there are.
type Kinds = fn(&[&str]) -> Option<Kind>;

/// Reads a whole filter.
pub(super) fn filter(text: &str, kinds: Kinds) -> Outcome<Node> {
    let mut parser = Parser { rest: text.trim(), kinds, depth: 0 };
    if parser.rest.is_empty() {
        return Ok(Node::All(Vec::new()));
    }
    let filter = parser.conjunction(&Subject::Open)?;
    match parser.rest.chars().next() {
        None => Ok(filter),
        Some(left) => Err(format!("unexpected '{left}'")),
    }
}

struct Parser<'t> {
    rest: &'t str,
    kinds: Kinds,
    depth: usize,
}

/// What a term is about.
enum Subject {
    /// Nothing yet: a term names its field.
    Open,
    /// Inside `field:( … )`: a term is only a value.
    Field(Vec<String>, Kind, Operator),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Has,
    Compare(Order),
    Differ,
}

impl Parser<'_> {
    /// `a AND b`, or side by side: `a b`.
    fn conjunction(&mut self, subject: &Subject) -> Outcome<Node> {
        let mut parts = vec![self.disjunction(subject)?];
        loop {
            let joined = self.keyword("AND");
            if !joined && (self.rest.is_empty() || self.rest.starts_with(')')) {
                return Ok(one_or(parts, Node::All));
            }
            parts.push(self.disjunction(subject)?);
        }
    }

    /// `a OR b`.
    fn disjunction(&mut self, subject: &Subject) -> Outcome<Node> {
        let mut parts = vec![self.term(subject)?];
        while self.keyword("OR") {
            parts.push(self.term(subject)?);
        }
        Ok(one_or(parts, Node::Any))
    }

    /// `NOT a`, `-a` or `a`.
    fn term(&mut self, subject: &Subject) -> Outcome<Node> {
        if self.keyword("NOT") || (matches!(subject, Subject::Open) && self.take("-")) {
            return Ok(Node::Not(Box::new(self.simple(subject)?)));
        }
        self.simple(subject)
    }

    /// `( … )`, `field:value`, or inside `field:( … )` a value.
    fn simple(&mut self, subject: &Subject) -> Outcome<Node> {
        if self.take("(") {
            return self.group(subject);
        }
        match subject {
            Subject::Open => self.restriction(),
            Subject::Field(path, kind, operator) => {
                let value = self.value()?;
                test(path.clone(), *kind, *operator, &value)
            }
        }
    }

    fn group(&mut self, subject: &Subject) -> Outcome<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("parentheses are more than {MAX_DEPTH} deep"));
        }
        let inner = self.conjunction(subject)?;
        self.depth -= 1;
        if self.take(")") { Ok(inner) } else { Err("a ')' is missing".to_owned()) }
    }

    fn restriction(&mut self) -> Outcome<Node> {
        if self.starts_keyword() {
            return Err("a term is missing".to_owned());
        }
        let path = self.path()?;
        let Some(operator) = self.operator()? else { return bare(&path, self.kinds) };
        let (path, kind) = known_field(path, self.kinds)?;
        if self.take("(") {
            return self.group(&Subject::Field(path, kind, operator));
        }
        let value = self.value()?;
        test(path, kind, operator, &value)
    }

    /// `labels.env`, `createTime`, `labels."my key"`.
    fn path(&mut self) -> Outcome<Vec<String>> {
        let mut path = vec![self.path_part()?];
        while self.rest.starts_with('.') {
            self.rest = &self.rest[1..];
            path.push(self.path_part()?);
        }
        self.skip_space();
        Ok(path)
    }

    fn path_part(&mut self) -> Outcome<String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let part = self.run(|c| !c.is_whitespace() && !"().:=!<>~\"".contains(c));
        if part.is_empty() { Err("a term is missing".to_owned()) } else { Ok(part.to_owned()) }
    }

    fn operator(&mut self) -> Outcome<Option<Operator>> {
        if self.take("~") || self.take("=~") || self.take("!~") {
            return Err("regular expressions are not supported".to_owned());
        }
        let operators = [
            ("!=", Operator::Differ),
            ("<=", Operator::Compare(Order::LessOrEqual)),
            (">=", Operator::Compare(Order::GreaterOrEqual)),
            ("<", Operator::Compare(Order::Less)),
            (">", Operator::Compare(Order::Greater)),
            ("=", Operator::Compare(Order::Equal)),
            (":", Operator::Has),
        ];
        Ok(operators.into_iter().find(|(sign, _)| self.take(sign)).map(|(_, operator)| operator))
    }

    fn value(&mut self) -> Outcome<Word> {
        if self.rest.starts_with('"') {
            let text = self.quoted()?;
            self.skip_space();
            return Ok(Word { text, quoted: true });
        }
        if self.starts_keyword() {
            return Err("a value is missing".to_owned());
        }
        let text = self.run(|c| !c.is_whitespace() && !"()\"".contains(c)).to_owned();
        self.skip_space();
        if text.is_empty() { Err("a value is missing".to_owned()) } else { Ok(Word { text, quoted: false }) }
    }

    /// Text between quotes, with `\` before a quote or another `\`.
    fn quoted(&mut self) -> Outcome<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                _ => text.push(c),
            }
        }
        Err("a closing quote is missing".to_owned())
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    fn take(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn keyword(&mut self, word: &str) -> bool {
        if !self.at_keyword(word) {
            return false;
        }
        self.rest = self.rest[word.len()..].trim_start();
        true
    }

    fn at_keyword(&self, word: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(word) else { return false };
        rest.chars().next().is_none_or(|c| c.is_whitespace() || c == '(' || c == ')')
    }

    fn starts_keyword(&self) -> bool {
        ["AND", "OR", "NOT"].iter().any(|word| self.at_keyword(word))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

/// A value as it was written: `*` means anything unless it is in quotes.
struct Word {
    text: String,
    quoted: bool,
}

fn one_or(mut parts: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

/// The field at a path, which may be written in snake_case or, as in JSON, in camelCase.
fn known_field(path: Vec<String>, kinds: Kinds) -> Outcome<(Vec<String>, Kind)> {
    let kind = |path: &[String]| kinds(&path.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(kind) = kind(&path) {
        return Ok((path, kind));
    }
    let snake: Vec<String> = path.iter().map(|part| snake_case(part)).collect();
    match kind(&snake) {
        Some(kind) => Ok((snake, kind)),
        None => Err(format!("there is no field '{}' to filter by", path.join("."))),
    }
}

/// A word alone is sought in the name.
fn bare(path: &[String], kinds: Kinds) -> Outcome<Node> {
    let (name, kind) = known_field(vec!["name".to_owned()], kinds)?;
    test(name, kind, Operator::Has, &Word { text: path.join("."), quoted: false })
}

fn test(path: Vec<String>, kind: Kind, operator: Operator, value: &Word) -> Outcome<Node> {
    let path = if kind == Kind::Name && !value.text.contains('/') { vec!["id".to_owned()] } else { path };
    let field = |test| Node::Field(path, test);
    if operator == Operator::Has && value.text == "*" && !value.quoted {
        return Ok(field(Test::Present));
    }
    match (kind, operator) {
        (Kind::Presence, _) => Err("of a message only its presence can be asked, with ':*'".to_owned()),
        (_, Operator::Differ) => Ok(Node::Not(Box::new(field(compare(kind, Order::Equal, value)?)))),
        (_, Operator::Compare(order)) => Ok(field(compare(kind, order, value)?)),
        (Kind::Text | Kind::Name, Operator::Has) => Ok(field(Test::Contains(sought(value).to_lowercase()))),
        (Kind::Time | Kind::Duration, Operator::Has) => Ok(field(compare(kind, Order::Equal, value)?)),
    }
}

fn sought(value: &Word) -> &str {
    if value.quoted { &value.text } else { value.text.trim_matches('*') }
}

fn compare(kind: Kind, order: Order, value: &Word) -> Outcome<Test> {
    Ok(match (kind, order) {
        (Kind::Time, _) => Test::Time(order, time(&value.text)?),
        (Kind::Duration, _) => Test::Time(order, duration(&value.text)?),
        (_, Order::Equal) if value.quoted => {
            Test::Is(Pattern { text: value.text.clone(), open_start: false, open_end: false })
        }
        (_, Order::Equal) => Test::Is(Pattern::new(&value.text)),
        _ => Test::Text(order, value.text.clone()),
    })
}

fn time(text: &str) -> Outcome<Micros> {
    let whole_day = format!("{text}T00:00:00Z");
    let text = if text.contains('T') { text } else { &whole_day };
    parse_time(text).ok_or_else(|| format!("'{text}' is not a time such as 2026-01-31T12:00:00Z"))
}

fn duration(text: &str) -> Outcome<Micros> {
    parse_duration(text).ok_or_else(|| format!("'{text}' is not a length of time such as 3600s"))
}

/// `createTime` and `create_time` are the same field.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
