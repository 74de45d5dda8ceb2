//! From a tree back to text, with as few parentheses as mean the same.

use std::fmt::{self, Display, Formatter, Write};

use super::parse::{Expr, Kind};

/// How tightly what is not an operator between two operands binds.
const CHOICE: u8 = 0;
const UNARY: u8 = 6;
const PRIMARY: u8 = 7;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Int(value) => write!(f, "{value}"),
            Kind::Text(text) => quoted(f, text),
            Kind::Name(name) => f.write_str(name),
            Kind::List(items) => {
                f.write_char('[')?;
                separated(f, items)?;
                f.write_char(']')
            }
            Kind::Field(operand, name) => {
                at_least(f, operand, PRIMARY)?;
                write!(f, ".{name}")
            }
            Kind::Index(operand, key) => {
                at_least(f, operand, PRIMARY)?;
                write!(f, "[{key}]")
            }
            Kind::Call(operand, name, arguments) => {
                if let Some(operand) = operand {
                    at_least(f, operand, PRIMARY)?;
                    f.write_char('.')?;
                }
                write!(f, "{name}(")?;
                separated(f, arguments)?;
                f.write_char(')')
            }
            Kind::Not(operand) => {
                f.write_char('!')?;
                at_least(f, operand, UNARY)
            }
            Kind::Minus(operand) => {
                f.write_char('-')?;
                // A number that follows would become a negative number.
                at_least(f, operand, if begins_with_number(operand) { PRIMARY + 1 } else { UNARY })
            }
            Kind::Binary(operator, left, right) => {
                at_least(f, left, operator.level())?;
                write!(f, " {} ", operator.sign())?;
                at_least(f, right, operator.level() + 1)
            }
            Kind::Choice(test, yes, no) => {
                at_least(f, test, 1)?;
                f.write_str(" ? ")?;
                at_least(f, yes, 1)?;
                f.write_str(" : ")?;
                at_least(f, no, CHOICE)
            }
        }
    }
}

fn level(expr: &Expr) -> u8 {
    match &expr.kind {
        Kind::Choice(..) => CHOICE,
        Kind::Binary(operator, ..) => operator.level(),
        Kind::Not(_) | Kind::Minus(_) => UNARY,
        _ => PRIMARY,
    }
}

/// Whether the text of an operand starts with a digit.
fn begins_with_number(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Int(number) => *number >= 0,
        Kind::Field(operand, _) | Kind::Call(Some(operand), ..) => begins_with_number(operand),
        _ => false,
    }
}

fn at_least(f: &mut Formatter<'_>, expr: &Expr, least: u8) -> fmt::Result {
    if level(expr) >= least { write!(f, "{expr}") } else { write!(f, "({expr})") }
}

fn separated(f: &mut Formatter<'_>, items: &[Expr]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            character if (character as u32) < 0x20 => write!(f, "\\x{:02x}", character as u32)?,
            character => f.write_char(character)?,
        }
    }
    f.write_char('"')
}
