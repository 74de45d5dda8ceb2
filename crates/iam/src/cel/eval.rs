//! A compiled expression and its evaluation.
//!
//! Types were settled when it was compiled, so a value of another kind than an operation expects cannot come up; it
//! is answered like a missing attribute and not by a panic.

use std::net::IpAddr;

use super::{
    parse::Operator,
    time::{NANOS, Part, Zone},
};

/// What a condition can ask about a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a> {
    /// When it arrived, in nanoseconds since 1970.
    pub time: i128,
    /// The resource it is about; `None` where the service does not tell conditions.
    pub resource: Option<Target<'a>>,
    /// Where it goes to, behind Identity-Aware Proxy.
    pub destination: Option<(IpAddr, u16)>,
    /// The roles that it grants or takes away; `None` where that cannot be told.
    pub modified_roles: Option<&'a [String]>,
}

/// The resource of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The service, such as `secretmanager.googleapis.com`.
    pub service: &'a str,
    /// The type, such as `secretmanager.googleapis.com/Secret`.
    pub kind: &'a str,
    /// The name, such as `projects/1/secrets/s`.
    pub name: &'a str,
}

/// What an expression needs and the request does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub &'static str);

/// A part of a compiled expression.
#[derive(Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    Time(i128),
    Duration(i128),
    List(Box<[Node]>),
    Attribute(Attribute),
    /// What nothing here has, such as a tag.
    Never,
    Not(Box<Node>),
    Minus(Box<Node>),
    Binary(Operator, Box<(Node, Node)>),
    Choice(Box<(Node, Node, Node)>),
    Test(TextTest, Box<(Node, Node)>),
    Matches(Box<(Node, regex::Regex)>),
    Extract(Box<(Node, Template)>),
    Part(Part, Box<(Node, Zone)>),
    Span(i128, i128, Box<Node>),
    HasOnly(Box<(Node, Node)>),
    Size(Box<Node>),
}

/// An attribute by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Time,
    ResourceName,
    ResourceType,
    ResourceService,
    DestinationIp,
    DestinationPort,
    /// `iam.googleapis.com/modifiedGrantsByRole`: none, for calls that set no policy.
    ModifiedRoles,
    /// What only products have that are not served here.
    Elsewhere(&'static str),
}

/// A question about two strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// What `extract` is given: what stands before and after its variable.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) before: Box<str>,
    pub(super) after: Box<str>,
}

/// A value.
#[derive(Clone, Copy)]
enum Value<'v> {
    Bool(bool),
    Int(i64),
    Text(&'v str),
    Ip(IpAddr),
    Time(i128),
    Duration(i128),
    List(&'v [Node]),
    Texts(&'v [String]),
}

type Outcome<T> = Result<T, Missing>;

const UNTYPED: Missing = Missing("a value of another type");
const OVERFLOW: Missing = Missing("a value that is out of range");

impl Node {
    /// The boolean that an expression gives.
    pub(super) fn truth(&self, given: &Attributes<'_>) -> Outcome<bool> {
        match self {
            Node::Binary(Operator::And, sides) => both(sides, given),
            Node::Binary(Operator::Or, sides) => either(sides, given),
            Node::Not(operand) => operand.truth(given).map(|value| !value),
            _ => match self.value(given)? {
                Value::Bool(value) => Ok(value),
                _ => Err(UNTYPED),
            },
        }
    }

    fn value<'v>(&'v self, given: &'v Attributes<'v>) -> Outcome<Value<'v>> {
        Ok(match self {
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Text(text) => Value::Text(text),
            Node::Time(time) => Value::Time(*time),
            Node::Duration(length) => Value::Duration(*length),
            Node::List(items) => Value::List(items),
            Node::Attribute(attribute) => attribute.of(given)?,
            Node::Never => Value::Bool(false),
            Node::Not(_) | Node::Binary(Operator::And | Operator::Or, _) => Value::Bool(self.truth(given)?),
            Node::Minus(operand) => negative(operand.value(given)?)?,
            Node::Binary(Operator::In, sides) => {
                Value::Bool(is_in(sides.0.value(given)?, sides.1.value(given)?, given)?)
            }
            Node::Binary(operator, sides) => {
                combine(*operator, sides.0.value(given)?, sides.1.value(given)?)?
            }
            Node::Choice(parts) => match parts.0.truth(given)? {
                true => parts.1.value(given)?,
                false => parts.2.value(given)?,
            },
            Node::Test(test, sides) => Value::Bool(test.holds(sides.0.text(given)?, sides.1.text(given)?)),
            Node::Matches(parts) => Value::Bool(parts.1.is_match(parts.0.text(given)?)),
            Node::Extract(parts) => Value::Text(parts.1.extract(parts.0.text(given)?)),
            Node::Part(part, parts) => match parts.0.value(given)? {
                Value::Time(time) => Value::Int(part.of(time, &parts.1).ok_or(OVERFLOW)?),
                _ => return Err(UNTYPED),
            },
            Node::Span(unit, within, operand) => match operand.value(given)? {
                Value::Duration(length) => Value::Int(narrow(length / unit % within)?),
                _ => return Err(UNTYPED),
            },
            Node::HasOnly(sides) => {
                Value::Bool(has_only(sides.0.value(given)?, sides.1.value(given)?, given)?)
            }
            Node::Size(operand) => match operand.value(given)? {
                Value::Text(text) => Value::Int(text.chars().count() as i64),
                Value::List(items) => Value::Int(items.len() as i64),
                Value::Texts(items) => Value::Int(items.len() as i64),
                _ => return Err(UNTYPED),
            },
        })
    }

    fn text<'v>(&'v self, given: &'v Attributes<'v>) -> Outcome<&'v str> {
        match self.value(given)? {
            Value::Text(text) => Ok(text),
            _ => Err(UNTYPED),
        }
    }
}

/// `&&`: one side that is false decides, whatever is wrong with the other.
fn both(sides: &(Node, Node), given: &Attributes<'_>) -> Outcome<bool> {
    match sides.0.truth(given) {
        Ok(false) => Ok(false),
        Ok(true) => sides.1.truth(given),
        Err(missing) => match sides.1.truth(given) {
            Ok(false) => Ok(false),
            _ => Err(missing),
        },
    }
}

/// `||`: one side that is true decides, whatever is wrong with the other.
fn either(sides: &(Node, Node), given: &Attributes<'_>) -> Outcome<bool> {
    match sides.0.truth(given) {
        Ok(true) => Ok(true),
        Ok(false) => sides.1.truth(given),
        Err(missing) => match sides.1.truth(given) {
            Ok(true) => Ok(true),
            _ => Err(missing),
        },
    }
}

impl Attribute {
    fn of<'v>(self, given: &'v Attributes<'v>) -> Outcome<Value<'v>> {
        let resource = |name| given.resource.as_ref().ok_or(Missing(name));
        Ok(match self {
            Attribute::Time => Value::Time(given.time),
            Attribute::ResourceName => Value::Text(resource("resource.name")?.name),
            Attribute::ResourceType => Value::Text(resource("resource.type")?.kind),
            Attribute::ResourceService => Value::Text(resource("resource.service")?.service),
            Attribute::DestinationIp => Value::Ip(given.destination.ok_or(Missing("destination.ip"))?.0),
            Attribute::DestinationPort => {
                Value::Int(given.destination.ok_or(Missing("destination.port"))?.1.into())
            }
            Attribute::ModifiedRoles => {
                Value::Texts(given.modified_roles.ok_or(Missing("iam.googleapis.com/modifiedGrantsByRole"))?)
            }
            Attribute::Elsewhere(name) => return Err(Missing(name)),
        })
    }
}

impl TextTest {
    fn holds(self, text: &str, part: &str) -> bool {
        match self {
            TextTest::StartsWith => text.starts_with(part),
            TextTest::EndsWith => text.ends_with(part),
            TextTest::Contains => text.contains(part),
        }
    }
}

impl Template {
    /// What stands in the text where the template has its variable; nothing where the template does not fit.
    pub(super) fn extract<'t>(&self, text: &'t str) -> &'t str {
        let Some(start) = text.find(&*self.before).map(|at| at + self.before.len()) else { return "" };
        let rest = &text[start..];
        match self.after.is_empty() {
            true => rest,
            false => rest.find(&*self.after).map_or("", |end| &rest[..end]),
        }
    }
}

fn negative(value: Value<'_>) -> Outcome<Value<'_>> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(OVERFLOW),
        Value::Duration(length) => Ok(Value::Duration(-length)),
        _ => Err(UNTYPED),
    }
}

fn combine<'v>(operator: Operator, left: Value<'v>, right: Value<'v>) -> Outcome<Value<'v>> {
    let order = match operator {
        Operator::Equal => return Ok(Value::Bool(is_same(left, right))),
        Operator::NotEqual => return Ok(Value::Bool(!is_same(left, right))),
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
            match (left, right) {
                (Value::Int(left), Value::Int(right)) => left.cmp(&right),
                (Value::Text(left), Value::Text(right)) => left.cmp(right),
                (Value::Bool(left), Value::Bool(right)) => left.cmp(&right),
                (Value::Time(left), Value::Time(right)) | (Value::Duration(left), Value::Duration(right)) => {
                    left.cmp(&right)
                }
                _ => return Err(UNTYPED),
            }
        }
        _ => return calculate(operator, left, right),
    };
    Ok(Value::Bool(match operator {
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    }))
}

fn is_same(left: Value<'_>, right: Value<'_>) -> bool {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => left == right,
        (Value::Ip(ip), Value::Text(text)) | (Value::Text(text), Value::Ip(ip)) => {
            text.parse::<IpAddr>().is_ok_and(|given| given == ip)
        }
        (Value::Ip(left), Value::Ip(right)) => left == right,
        (Value::Time(left), Value::Time(right)) => left == right,
        (Value::Duration(left), Value::Duration(right)) => left == right,
        _ => false,
    }
}

fn calculate<'v>(operator: Operator, left: Value<'v>, right: Value<'v>) -> Outcome<Value<'v>> {
    use Value::{Duration, Int, Time};
    match (operator, left, right) {
        (Operator::Add, Int(left), Int(right)) => left.checked_add(right).map(Int),
        (Operator::Subtract, Int(left), Int(right)) => left.checked_sub(right).map(Int),
        (Operator::Multiply, Int(left), Int(right)) => left.checked_mul(right).map(Int),
        (Operator::Divide, Int(left), Int(right)) => left.checked_div(right).map(Int),
        (Operator::Remainder, Int(left), Int(right)) => left.checked_rem(right).map(Int),
        (Operator::Add, Time(time), Duration(length)) | (Operator::Add, Duration(length), Time(time)) => {
            time.checked_add(length).map(Time)
        }
        (Operator::Subtract, Time(time), Duration(length)) => time.checked_sub(length).map(Time),
        (Operator::Subtract, Time(left), Time(right)) => left.checked_sub(right).map(Duration),
        (Operator::Add, Duration(left), Duration(right)) => left.checked_add(right).map(Duration),
        (Operator::Subtract, Duration(left), Duration(right)) => left.checked_sub(right).map(Duration),
        _ => return Err(UNTYPED),
    }
    .ok_or(OVERFLOW)
}

fn is_in(item: Value<'_>, list: Value<'_>, given: &Attributes<'_>) -> Outcome<bool> {
    match (item, list) {
        (item, Value::List(items)) => {
            for one in items {
                if is_same(item, one.value(given)?) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Text(item), Value::Texts(items)) => Ok(items.iter().any(|one| one == item)),
        _ => Err(UNTYPED),
    }
}

/// Whether everything in one list is in another.
fn has_only(list: Value<'_>, allowed: Value<'_>, given: &Attributes<'_>) -> Outcome<bool> {
    match list {
        Value::Texts(items) => {
            for item in items {
                if !is_in(Value::Text(item), allowed, given)? {
                    return Ok(false);
                }
            }
        }
        Value::List(items) => {
            for item in items {
                if !is_in(item.value(given)?, allowed, given)? {
                    return Ok(false);
                }
            }
        }
        _ => return Err(UNTYPED),
    }
    Ok(true)
}

fn narrow(number: i128) -> Outcome<i64> {
    i64::try_from(number).map_err(|_| OVERFLOW)
}

/// The units that a duration is asked for, in nanoseconds, and after how many of them counting starts again.
pub(super) fn span(name: &str) -> Option<(i128, i128)> {
    const FOREVER: i128 = i128::MAX;
    Some(match name {
        "getHours" => (3600 * NANOS, FOREVER),
        "getMinutes" => (60 * NANOS, FOREVER),
        "getSeconds" => (NANOS, FOREVER),
        "getMilliseconds" => (NANOS / 1000, 1000),
        _ => return None,
    })
}
