//! Reads a filter's words into a tree, checking each value against the field it is compared with.

use kernel::{Error, Result};

use super::{
    Literal, Needle, Node, Order, Scope, Test,
    fields::{self, Kind, Leaf, Path, Step},
    lex::{self, Operator, Text, Token, TokenKind},
    unparseable,
};

/// The most levels of parentheses and negations.
const MAX_DEPTH: usize = 64;
/// The most memory that one compiled regular expression may take, in bytes.
const MAX_REGEX: usize = 256 << 10;

/// Functions that Google has and we have not.
const FUNCTIONS: [&str; 6] = ["search", "sample", "ip_in_net", "source", "cast", "regexp_extract"];

/// Reads a filter.
pub(crate) fn filter(text: &str) -> Result<Node> {
    let tokens = lex::tokens(text).map_err(|token| syntax(&token))?;
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    if parser.peek().kind == TokenKind::End {
        return Ok(Node::Const(true));
    }
    let node = parser.all(&mut Parser::term)?;
    match parser.peek().kind {
        TokenKind::End => Ok(node),
        _ => Err(syntax(parser.peek())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

/// Reads one operand: of the filter itself, or of a list of values in parentheses.
type Operand<'o> = &'o mut dyn FnMut(&mut Parser) -> Result<Node>;

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is the end, and it is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn eat(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek().kind == *kind;
        self.at += usize::from(found);
        found
    }

    /// `a AND b`, or side by side.
    fn all(&mut self, operand: Operand<'_>) -> Result<Node> {
        let mut parts = vec![self.any(operand)?];
        while self.eat(&TokenKind::And) || !matches!(self.peek().kind, TokenKind::Close | TokenKind::End) {
            parts.push(self.any(operand)?);
        }
        Ok(one_or(parts, Node::All))
    }

    /// `a OR b`.
    fn any(&mut self, operand: Operand<'_>) -> Result<Node> {
        let mut parts = vec![self.unary(operand)?];
        while self.eat(&TokenKind::Or) {
            parts.push(self.unary(operand)?);
        }
        Ok(one_or(parts, Node::Any))
    }

    /// `NOT a`, `-a`, `(a)`, or an operand.
    fn unary(&mut self, operand: Operand<'_>) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(unparseable(format!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        let node = if self.eat(&TokenKind::Not) || self.minus() {
            Node::Not(Box::new(self.unary(operand)?))
        } else if self.eat(&TokenKind::Open) {
            let inner = self.all(operand)?;
            self.expect(&TokenKind::Close)?;
            inner
        } else {
            operand(self)?
        };
        self.depth -= 1;
        Ok(node)
    }

    /// Takes a minus off the front of the next word.
    fn minus(&mut self) -> bool {
        let at = self.at.min(self.tokens.len() - 1);
        let after_joined = self.tokens.get(at + 1).is_some_and(|token| token.joined);
        let TokenKind::Text(text) = &mut self.tokens[at].kind else { return false };
        if text.quoted || !text.value.starts_with('-') {
            return false;
        }
        if text.value.len() > 1 {
            text.value.remove(0);
            text.path[0].remove(0);
            return true;
        }
        self.at += usize::from(after_joined);
        after_joined
    }

    fn expect(&mut self, kind: &TokenKind) -> Result<()> {
        if self.eat(kind) { Ok(()) } else { Err(syntax(self.peek())) }
    }

    fn text(&mut self) -> Result<(Text, Token)> {
        let token = self.next();
        match &token.kind {
            TokenKind::Text(text) => Ok((text.clone(), token)),
            _ => Err(syntax(&token)),
        }
    }

    /// A comparison, a function, or text that is sought everywhere.
    fn term(&mut self) -> Result<Node> {
        let (text, token) = self.text()?;
        match self.peek().kind {
            TokenKind::Operator(operator) => {
                self.at += 1;
                let path = path_of(&text)?;
                self.value(&path, operator)
            }
            TokenKind::Open if !text.quoted && self.peek().joined => self.function(&text, &token),
            _ => Ok(Node::Anywhere(Needle::new(&text.value), Scope::Entry)),
        }
    }

    /// What follows an operator: a value, or values in parentheses.
    fn value(&mut self, path: &Path, operator: Operator) -> Result<Node> {
        let mut operand = |parser: &mut Parser| {
            let (text, _) = parser.text()?;
            comparison(path.clone(), operator, &text)
        };
        if !self.eat(&TokenKind::Open) {
            return operand(self);
        }
        self.depth += 1;
        let node = self.all(&mut operand)?;
        self.depth -= 1;
        self.expect(&TokenKind::Close)?;
        Ok(node)
    }

    /// `log_id("a/b")`.
    fn function(&mut self, name: &Text, token: &Token) -> Result<Node> {
        let plain = name.value.to_ascii_lowercase();
        if FUNCTIONS.contains(&&*plain) {
            return Err(Error::unimplemented(format!("The function '{}' is not served here.", name.value)));
        }
        if plain != "log_id" {
            return Err(syntax(token));
        }
        self.expect(&TokenKind::Open)?;
        let (id, _) = self.text()?;
        self.expect(&TokenKind::Close)?;
        let ending = format!("/logs/{}", crate::names::encode(&crate::names::decode(&id.value)));
        let path = Path { steps: vec![Step::Number(12)], leaf: Leaf::Declared(Kind::Text) };
        Ok(Node::Field(path, Test::Ends(ending)))
    }
}

fn one_or(mut parts: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if parts.len() == 1 { parts.remove(0) } else { many(parts) }
}

fn path_of(text: &Text) -> Result<Path> {
    fields::resolve(&text.path)
        .filter(|_| !text.path.iter().any(String::is_empty))
        .ok_or_else(|| Error::invalid(format!("Field not found: '{}'.", text.value)))
}

/// A field compared with a value.
fn comparison(path: Path, operator: Operator, value: &Text) -> Result<Node> {
    let test = match operator {
        Operator::Has if value.value == "*" && !value.quoted => Test::Present,
        Operator::Matches => Test::Matches(regex(&value.value)?),
        Operator::NotMatches => Test::Lacks(regex(&value.value)?),
        Operator::Has => has(path.leaf, value)?,
        operator => ordered(path.leaf, order(operator), value)?,
    };
    Ok(Node::Field(path, test))
}

fn order(operator: Operator) -> Order {
    match operator {
        Operator::NotEqual => Order::NotEqual,
        Operator::Less => Order::Less,
        Operator::LessOrEqual => Order::LessOrEqual,
        Operator::Greater => Order::Greater,
        Operator::GreaterOrEqual => Order::GreaterOrEqual,
        Operator::Equal | Operator::Has | Operator::Matches | Operator::NotMatches => Order::Equal,
    }
}

fn has(leaf: Leaf, value: &Text) -> Result<Test> {
    Ok(match leaf {
        Leaf::Json => Test::JsonHas(literal(value).number, Needle::new(&value.value)),
        Leaf::Label | Leaf::Unknown => Test::Contains(Needle::new(&value.value)),
        Leaf::Declared(Kind::Int | Kind::Flag | Kind::Duration)
        | Leaf::Timestamp
        | Leaf::Received
        | Leaf::Severity => ordered(leaf, Order::Equal, value)?,
        Leaf::Declared(_) => Test::Contains(Needle::new(&value.value)),
    })
}

fn ordered(leaf: Leaf, order: Order, value: &Text) -> Result<Test> {
    let text = &*value.value;
    let number = match leaf {
        Leaf::Json => return Ok(Test::Json(order, literal(value))),
        Leaf::Label | Leaf::Unknown | Leaf::Declared(Kind::Text) => {
            return Ok(Test::Text(order, text.to_lowercase()));
        }
        Leaf::Timestamp | Leaf::Received => moment(text),
        Leaf::Severity => severity(text),
        Leaf::Declared(Kind::Int) => text.parse().ok(),
        Leaf::Declared(Kind::Flag) => flag(text),
        Leaf::Declared(Kind::Duration) => duration(text),
        Leaf::Declared(Kind::Map | Kind::Struct | Kind::Opaque | Kind::Message(_)) => None,
    };
    let number = number.ok_or_else(|| {
        Error::invalid(format!("The value '{}' is of incorrect type.", text.to_lowercase()))
    })?;
    Ok(Test::Number(order, number))
}

fn literal(value: &Text) -> Literal {
    Literal {
        text: value.value.to_lowercase(),
        number: value.value.parse().ok().filter(|number: &f64| number.is_finite()),
        null: !value.quoted && value.value == "NULL_VALUE",
    }
}

fn flag(text: &str) -> Option<i64> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(1),
        "false" => Some(0),
        _ => None,
    }
}

/// A severity by its name or its number.
fn severity(text: &str) -> Option<i64> {
    crate::record::severity_named(text).map(i64::from).or_else(|| text.parse().ok())
}

/// RFC 3339, or a date alone, in nanoseconds since 1970.
fn moment(text: &str) -> Option<i64> {
    crate::record::parse_time(text).or_else(|| {
        let date = text.len() == 10 && text.is_ascii();
        date.then(|| crate::record::parse_time(&format!("{text}T00:00:00Z"))).flatten()
    })
}

/// `1.5s`, `20ms`, `2m`: in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let (digits, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).unwrap_or((text, &1e9));
    let nanos = digits.parse::<f64>().ok()? * unit;
    nanos.is_finite().then_some(nanos as i64)
}

fn regex(pattern: &str) -> Result<regex::bytes::Regex> {
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .nest_limit(50)
        .build()
        .map_err(|error| unparseable(format!("invalid regular expression: {pattern}")).because(error))
}

fn syntax(token: &Token) -> Error {
    let Token { raw, line, column, .. } = token;
    match token.kind {
        TokenKind::End if raw.is_empty() => {
            unparseable(format!("syntax error at line {line}, column {column}, unexpected end of filter"))
        }
        _ => unparseable(format!("syntax error at line {line}, column {column}, token '{raw}'")),
    }
}
