//! From tokens to a tree, by the precedence of CEL's grammar.

use super::{
    Fault, MOST_BYTES, MOST_DEPTH,
    lex::{Token, tokens},
};

/// A part of an expression, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Expr>),
    Name(String),
    /// `operand.field`
    Field(Box<Expr>, String),
    /// `operand[key]`
    Index(Box<Expr>, Box<Expr>),
    /// `name(…)`, or `operand.name(…)`.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Where a part stands says nothing about what it means.
impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.kind == other.kind
    }
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    const ALL: [Operator; 14] = [
        Operator::Or,
        Operator::And,
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessEqual,
        Operator::Greater,
        Operator::GreaterEqual,
        Operator::In,
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
        Operator::Remainder,
    ];

    /// As it is written.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Operator::Or => "||",
            Operator::And => "&&",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterEqual => ">=",
            Operator::In => "in",
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
        }
    }

    /// How tightly it binds: more is tighter.
    pub(super) fn level(self) -> u8 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Add | Operator::Subtract => 4,
            Operator::Multiply | Operator::Divide | Operator::Remainder => 5,
            _ => 3,
        }
    }

    fn of(token: &Token) -> Option<Operator> {
        let sign = match token {
            Token::Sign(sign) => sign,
            Token::Name(name) => name.as_str(),
            _ => return None,
        };
        Operator::ALL.into_iter().find(|operator| operator.sign() == sign)
    }
}

/// Names that are kept for other uses (CEL's grammar, `RESERVED`).
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Reads an expression.
pub(super) fn parse(source: &str) -> Result<Expr, Fault> {
    if source.len() > MOST_BYTES {
        return Err(Fault::new(
            0,
            format!("expression code point size exceeds limit: size: {}", source.len()),
        ));
    }
    let tokens = tokens(source)?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let tree = parser.choice()?;
    match parser.peek() {
        Token::End => Ok(tree),
        _ => Err(parser.unexpected()),
    }
}

/// How many logical operators are in a tree.
pub(super) fn operators(tree: &Expr) -> usize {
    let all = |parts: &[Expr]| parts.iter().map(operators).sum::<usize>();
    match &tree.kind {
        Kind::Bool(_) | Kind::Int(_) | Kind::Text(_) | Kind::Name(_) => 0,
        Kind::List(items) => all(items),
        Kind::Field(operand, _) | Kind::Minus(operand) => operators(operand),
        Kind::Index(operand, key) => operators(operand) + operators(key),
        Kind::Call(operand, _, arguments) => operand.as_deref().map_or(0, operators) + all(arguments),
        Kind::Not(operand) => 1 + operators(operand),
        Kind::Binary(operator, left, right) => {
            usize::from(operator.level() < 3) + operators(left) + operators(right)
        }
        Kind::Choice(test, yes, no) => operators(test) + operators(yes) + operators(no),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is the end, and is never taken.
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |(at, _)| *at)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    /// Takes a sign if it is there.
    fn took(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        self.next += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.took(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Fault {
        let found = match self.peek() {
            Token::Name(name) => name.clone(),
            Token::Int(number) => number.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::End => "<EOF>".to_owned(),
        };
        Fault::new(self.at(), format!("Syntax error: mismatched input '{found}'"))
    }

    /// Goes one level down, if that is not too deep.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == MOST_DEPTH {
            return Err(Fault::new(
                self.at(),
                format!("expression nests more than {MOST_DEPTH} levels deep"),
            ));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn choice(&mut self) -> Result<Expr, Fault> {
        self.nested(|parser| {
            let test = parser.binary(1)?;
            let at = parser.at();
            if !parser.took("?") {
                return Ok(test);
            }
            let yes = parser.nested(|parser| parser.binary(1))?;
            parser.expect(":")?;
            let no = parser.choice()?;
            Ok(Expr { at, kind: Kind::Choice(test.into(), yes.into(), no.into()) })
        })
    }

    /// Operators of this level and tighter ones, from left to right.
    fn binary(&mut self, level: u8) -> Result<Expr, Fault> {
        let mut left = self.unary()?;
        let mut length = 0;
        while let Some(operator) = Operator::of(self.peek()).filter(|operator| operator.level() >= level) {
            // A chain is as deep a tree as it is long.
            length += 1;
            if self.depth + length > MOST_DEPTH {
                return Err(Fault::new(
                    self.at(),
                    format!("expression nests more than {MOST_DEPTH} levels deep"),
                ));
            }
            let at = self.at();
            self.next += 1;
            let right = self.nested(|parser| parser.binary(operator.level() + 1))?;
            left = Expr { at, kind: Kind::Binary(operator, left.into(), right.into()) };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        if self.took("!") {
            let operand = self.nested(Parser::unary)?;
            return Ok(Expr { at, kind: Kind::Not(operand.into()) });
        }
        if self.took("-") {
            if let Token::Int(number) = *self.peek() {
                self.next += 1;
                let negative = 0i64.checked_sub_unsigned(number);
                let number = negative.ok_or_else(|| Fault::new(at, "invalid int literal"))?;
                return self.selections(Expr { at, kind: Kind::Int(number) });
            }
            let operand = self.nested(Parser::unary)?;
            return Ok(Expr { at, kind: Kind::Minus(operand.into()) });
        }
        let primary = self.primary()?;
        self.selections(primary)
    }

    /// What follows an operand: fields and methods.
    fn selections(&mut self, mut operand: Expr) -> Result<Expr, Fault> {
        let mut length = 0;
        while self.is(".") || self.is("[") {
            length += 1;
            if self.depth + length > MOST_DEPTH {
                return Err(Fault::new(
                    self.at(),
                    format!("expression nests more than {MOST_DEPTH} levels deep"),
                ));
            }
            operand = self.selection(operand)?;
        }
        if self.is("{") { Err(self.unexpected()) } else { Ok(operand) }
    }

    /// One field, method or key of an operand.
    fn selection(&mut self, operand: Expr) -> Result<Expr, Fault> {
        if self.took("[") {
            let at = self.at();
            let key = self.choice()?;
            self.expect("]")?;
            return Ok(Expr { at, kind: Kind::Index(operand.into(), key.into()) });
        }
        self.expect(".")?;
        let (at, name) = (self.at(), self.name()?);
        let kind = match self.took("(") {
            true => Kind::Call(Some(operand.into()), name, self.list(")")?),
            false => Kind::Field(operand.into(), name),
        };
        Ok(Expr { at, kind })
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let kind = match self.peek().clone() {
            Token::Int(number) => {
                self.next += 1;
                Kind::Int(i64::try_from(number).map_err(|_| Fault::new(at, "invalid int literal"))?)
            }
            Token::Text(text) => {
                self.next += 1;
                Kind::Text(text)
            }
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.choice()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.next += 1;
                Kind::List(self.list("]")?)
            }
            Token::Name(name) if name == "true" || name == "false" => {
                self.next += 1;
                Kind::Bool(name == "true")
            }
            _ => {
                let name = self.name()?;
                match self.took("(") {
                    true => Kind::Call(None, name, self.list(")")?),
                    false => Kind::Name(name),
                }
            }
        };
        Ok(Expr { at, kind })
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.peek() {
            Token::Name(name) if RESERVED.contains(&name.as_str()) => {
                Err(Fault::new(self.at(), format!("reserved identifier: {name}")))
            }
            Token::Name(name) if !matches!(name.as_str(), "in" | "true" | "false" | "null") => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Expressions with commas between them, up to what closes them.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Fault> {
        let mut items = Vec::new();
        loop {
            if self.took(close) {
                return Ok(items);
            }
            items.push(self.choice()?);
            if !self.took(",") {
                self.expect(close)?;
                return Ok(items);
            }
        }
    }
}
