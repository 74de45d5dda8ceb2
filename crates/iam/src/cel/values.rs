//! What the operators, functions and methods of expressions over JSON make of values.

use std::borrow::Cow;

use serde_json::Value;

use super::{eval::Template, parse::Operator};

/// The longest text that an evaluation may make, in bytes.
const MOST_TEXT: usize = 64 << 10;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The assertion lacks this field.
    Missing(String),
    /// An operation does not take what it was given, or gave too much.
    Wrong(&'static str),
}

pub(super) type Outcome<'v> = Result<Cow<'v, Value>, Failure>;

pub(super) const UNTYPED: Failure = Failure::Wrong("no such overload");

pub(super) fn boolean<'v>(value: bool) -> Outcome<'v> {
    Ok(Cow::Owned(Value::Bool(value)))
}

pub(super) fn string<'v>(text: impl Into<String>) -> Outcome<'v> {
    let text = text.into();
    if text.len() > MOST_TEXT {
        Err(Failure::Wrong("the text is too long"))
    } else {
        Ok(Cow::Owned(Value::String(text)))
    }
}

/// How large a value is, roughly: what it is made of, and a part for every eight bytes of text.
pub(super) fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / 8,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() / 8 + weight(value)).sum(),
        _ => 0,
    }
}

/// One variable in braces, and any text around it.
pub(super) fn template(text: &str) -> Option<Template> {
    let (before, rest) = text.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let plain = !name.is_empty() && !before.contains('}') && !after.contains(['{', '}']);
    plain.then(|| Template { before: before.into(), after: after.into() })
}

pub(super) fn pattern(text: &str) -> Option<regex::Regex> {
    regex::RegexBuilder::new(text).size_limit(64 << 10).dfa_size_limit(64 << 10).build().ok()
}

pub(super) fn field<'v>(operand: Cow<'v, Value>, name: &str) -> Outcome<'v> {
    let missing = || Failure::Missing(name.to_owned());
    match operand {
        Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed).ok_or_else(missing),
        Cow::Owned(Value::Object(mut map)) => map.shift_remove(name).map(Cow::Owned).ok_or_else(missing),
        _ => Err(UNTYPED),
    }
}

pub(super) fn index<'v>(operand: Cow<'v, Value>, key: &Value) -> Outcome<'v> {
    match (&*operand, key) {
        (Value::Object(_), Value::String(name)) => field(operand, name),
        (Value::Array(items), Value::Number(at)) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
            let found = at.and_then(|at| items.get(at)).cloned();
            found.map(Cow::Owned).ok_or(Failure::Wrong("index out of bounds"))
        }
        _ => Err(UNTYPED),
    }
}

pub(super) fn combine<'v>(operator: Operator, left: &Value, right: &Value) -> Outcome<'v> {
    match operator {
        Operator::Equal => boolean(left == right),
        Operator::NotEqual => boolean(left != right),
        Operator::In => match right {
            Value::Array(items) => boolean(items.contains(left)),
            Value::Object(map) => boolean(left.as_str().is_some_and(|key| map.contains_key(key))),
            _ => Err(UNTYPED),
        },
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
            let order = match (left, right) {
                (Value::String(left), Value::String(right)) => left.cmp(right),
                (Value::Number(left), Value::Number(right)) => {
                    let numbers = left.as_f64().zip(right.as_f64());
                    numbers.and_then(|(left, right)| left.partial_cmp(&right)).ok_or(UNTYPED)?
                }
                _ => return Err(UNTYPED),
            };
            boolean(match operator {
                Operator::Less => order.is_lt(),
                Operator::LessEqual => order.is_le(),
                Operator::Greater => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        _ => calculate(operator, left, right),
    }
}

fn calculate<'v>(operator: Operator, left: &Value, right: &Value) -> Outcome<'v> {
    match (operator, left, right) {
        (Operator::Add, Value::String(left), Value::String(right)) => string([left.as_str(), right].concat()),
        (Operator::Add, Value::Array(left), Value::Array(right)) => {
            Ok(Cow::Owned(Value::Array(left.iter().chain(right).cloned().collect())))
        }
        _ => {
            let (left, right) = left.as_i64().zip(right.as_i64()).ok_or(UNTYPED)?;
            let number = match operator {
                Operator::Add => left.checked_add(right),
                Operator::Subtract => left.checked_sub(right),
                Operator::Multiply => left.checked_mul(right),
                Operator::Divide => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            number.map(|number| Cow::Owned(number.into())).ok_or(Failure::Wrong("a number out of range"))
        }
    }
}

pub(super) fn size<'v>(value: &Value) -> Outcome<'v> {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => return Err(UNTYPED),
    };
    Ok(Cow::Owned(size.into()))
}

pub(super) fn method<'v>(operand: &Value, name: &str, arguments: &[Cow<'_, Value>]) -> Outcome<'v> {
    match (operand, name) {
        (operand, "size") if arguments.is_empty() => size(operand),
        (Value::String(text), name) => on_text(text, name, arguments),
        (Value::Array(items), "join") => {
            let between = arguments.first().map_or(Some(""), |between| between.as_str()).ok_or(UNTYPED)?;
            let parts = items.iter().map(|item| item.as_str().ok_or(UNTYPED));
            string(parts.collect::<Result<Vec<_>, _>>()?.join(between))
        }
        (Value::Array(items), "hasOnly") => {
            let allowed = arguments.first().and_then(|allowed| allowed.as_array()).ok_or(UNTYPED)?;
            boolean(items.iter().all(|item| allowed.contains(item)))
        }
        _ => Err(UNTYPED),
    }
}

fn on_text<'v>(text: &str, name: &str, arguments: &[Cow<'_, Value>]) -> Outcome<'v> {
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.as_str()).collect();
    if texts.len() != arguments.len() {
        return if name == "substring" { substring(text, arguments) } else { Err(UNTYPED) };
    }
    match (name, texts.as_slice()) {
        ("startsWith", [part]) => boolean(text.starts_with(part)),
        ("endsWith", [part]) => boolean(text.ends_with(part)),
        ("contains", [part]) => boolean(text.contains(part)),
        ("matches", [one]) => boolean(pattern(one).ok_or(UNTYPED)?.is_match(text)),
        ("extract", [one]) => string(template(one).ok_or(UNTYPED)?.extract(text)),
        ("split", [between]) => Ok(Cow::Owned(text.split(between).map(Value::from).collect())),
        ("lowerAscii", []) => string(text.to_ascii_lowercase()),
        ("upperAscii", []) => string(text.to_ascii_uppercase()),
        ("trim", []) => string(text.trim()),
        // An empty text is found between all characters: what comes of it stays within the limit all the same.
        ("replace", [old, new]) if new.len().saturating_mul(text.len() + 1) <= MOST_TEXT => {
            string(text.replace(old, new))
        }
        ("indexOf", [part]) => {
            let at = text.find(part).map_or(-1, |at| text[..at].chars().count() as i64);
            Ok(Cow::Owned(at.into()))
        }
        _ => Err(UNTYPED),
    }
}

/// `substring(START)` and `substring(START, END)`, in characters.
fn substring<'v>(text: &str, arguments: &[Cow<'_, Value>]) -> Outcome<'v> {
    let at = |index: usize| arguments.get(index).map(|at| at.as_u64().ok_or(UNTYPED)).transpose();
    let (start, end) = (at(0)?.unwrap_or(0) as usize, at(1)?.map(|end| end as usize));
    let length = text.chars().count();
    let end = end.unwrap_or(length);
    if start > end || end > length || arguments.len() > 2 {
        return Err(Failure::Wrong("index out of range"));
    }
    string(text.chars().skip(start).take(end - start).collect::<String>())
}
