//! From a tree to a program: names resolved, types settled, constants worked out.

use super::{
    Fault,
    eval::{Attribute, Node, Template, TextTest, span},
    parse::{Expr, Kind, Operator},
    time::{self, Part, Zone},
};

/// The largest program that a pattern may become, in bytes.
const MOST_PATTERN: usize = 64 << 10;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    Bool,
    Int,
    Text,
    /// An address: compared with strings.
    Ip,
    Time,
    Duration,
    List(Box<Type>),
    /// Of the items of an empty list: any.
    Any,
}

impl Type {
    fn name(&self) -> String {
        match self {
            Type::Bool => "bool".into(),
            Type::Int => "int".into(),
            Type::Text | Type::Ip => "string".into(),
            Type::Time => "timestamp".into(),
            Type::Duration => "duration".into(),
            Type::List(items) => format!("list({})", items.name()),
            Type::Any => "dyn".into(),
        }
    }

    /// Whether values of the two can be the same.
    fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) | (Type::Text, Type::Ip) | (Type::Ip, Type::Text) => true,
            (Type::List(items), Type::List(others)) => items.fits(others),
            _ => self == other,
        }
    }
}

type Checked = Result<(Node, Type), Fault>;

/// Compiles an expression that must be a boolean.
pub(super) fn check(tree: &Expr) -> Result<Node, Fault> {
    let (node, kind) = expression(tree)?;
    match kind {
        Type::Bool => Ok(node),
        other => Err(Fault::new(
            tree.at,
            format!("expression result type is {}, but a condition must give bool", other.name()),
        )),
    }
}

fn expression(tree: &Expr) -> Checked {
    Ok(match &tree.kind {
        Kind::Bool(value) => (Node::Bool(*value), Type::Bool),
        Kind::Int(value) => (Node::Int(*value), Type::Int),
        Kind::Text(text) => (Node::Text(text.as_str().into()), Type::Text),
        Kind::List(items) => list(items)?,
        Kind::Name(name) => return Err(undeclared(tree.at, name)),
        Kind::Field(..) => attribute(tree)?,
        // No attribute of a request has keys.
        Kind::Index(operand, _) => {
            let (_, kind) = expression(operand)?;
            return Err(overload(tree.at, "_[_]", &[&kind]));
        }
        Kind::Call(None, name, arguments) => function(tree.at, name, arguments)?,
        Kind::Call(Some(operand), name, arguments) => method(tree.at, operand, name, arguments)?,
        Kind::Not(operand) => match expression(operand)? {
            (node, Type::Bool) => (Node::Not(node.into()), Type::Bool),
            (_, other) => return Err(overload(tree.at, "!_", &[&other])),
        },
        Kind::Minus(operand) => match expression(operand)? {
            (node, kind @ (Type::Int | Type::Duration)) => (Node::Minus(node.into()), kind),
            (_, other) => return Err(overload(tree.at, "-_", &[&other])),
        },
        Kind::Binary(operator, left, right) => binary(tree.at, *operator, left, right)?,
        Kind::Choice(test, yes, no) => choice(tree.at, test, yes, no)?,
    })
}

fn choice(at: usize, test: &Expr, yes: &Expr, no: &Expr) -> Checked {
    let (test, (yes, kind), (no, other)) = (expression(test)?, expression(yes)?, expression(no)?);
    if test.1 != Type::Bool || !kind.fits(&other) {
        return Err(overload(at, "_?_:_", &[&test.1, &kind, &other]));
    }
    Ok((Node::Choice(Box::new((test.0, yes, no))), kind))
}

fn list(items: &[Expr]) -> Checked {
    let mut kind = Type::Any;
    let mut nodes = Vec::with_capacity(items.len());
    for item in items {
        let (node, its) = expression(item)?;
        if !kind.fits(&its) {
            return Err(Fault::new(
                item.at,
                format!("expected type '{}' but found '{}'", kind.name(), its.name()),
            ));
        }
        kind = its;
        nodes.push(node);
    }
    Ok((Node::List(nodes.into()), Type::List(kind.into())))
}

fn attribute(tree: &Expr) -> Checked {
    let path = path(tree).ok_or_else(|| Fault::new(tree.at, "type does not support field selection"))?;
    let (attribute, kind) = match path.as_str() {
        "request.time" => (Attribute::Time, Type::Time),
        "resource.name" => (Attribute::ResourceName, Type::Text),
        "resource.type" => (Attribute::ResourceType, Type::Text),
        "resource.service" => (Attribute::ResourceService, Type::Text),
        "destination.ip" => (Attribute::DestinationIp, Type::Ip),
        "destination.port" => (Attribute::DestinationPort, Type::Int),
        "request.path" => (Attribute::Elsewhere("request.path"), Type::Text),
        "request.host" => (Attribute::Elsewhere("request.host"), Type::Text),
        "request.auth.access_levels" => {
            (Attribute::Elsewhere("request.auth.access_levels"), Type::List(Type::Text.into()))
        }
        path => return Err(undeclared(tree.at, path)),
    };
    Ok((Node::Attribute(attribute), kind))
}

/// The names on the way to a field, with dots between them.
fn path(tree: &Expr) -> Option<String> {
    match &tree.kind {
        Kind::Name(name) => Some(name.clone()),
        Kind::Field(operand, name) => Some(format!("{}.{name}", path(operand)?)),
        _ => None,
    }
}

fn function(at: usize, name: &str, arguments: &[Expr]) -> Checked {
    let constant = |read: fn(&str) -> Option<i128>, what: &str| match arguments {
        [Expr { kind: Kind::Text(text), .. }] => {
            read(text).ok_or_else(|| Fault::new(at, format!("invalid {what}: {text:?}")))
        }
        _ => Err(Fault::new(at, format!("{name}() takes one string that is written out"))),
    };
    match name {
        "timestamp" => Ok((Node::Time(constant(time::timestamp, "timestamp")?), Type::Time)),
        "date" => Ok((Node::Time(constant(time::date, "date")?), Type::Time)),
        "duration" => Ok((Node::Duration(constant(time::duration, "duration")?), Type::Duration)),
        "size" => match arguments {
            [operand] => size(at, operand),
            _ => Err(overload(at, "size", &[])),
        },
        _ => Err(undeclared(at, name)),
    }
}

fn size(at: usize, operand: &Expr) -> Checked {
    match expression(operand)? {
        (node, Type::Text | Type::List(_)) => Ok((Node::Size(node.into()), Type::Int)),
        (_, other) => Err(overload(at, "size", &[&other])),
    }
}

fn method(at: usize, operand: &Expr, name: &str, arguments: &[Expr]) -> Checked {
    match (&operand.kind, name) {
        (Kind::Name(object), "getAttribute") if object == "api" => return get_attribute(at, arguments),
        (Kind::Name(object), "matchTag" | "matchTagId" | "hasTagKey" | "hasTagKeyId")
            if object == "resource" =>
        {
            return tag(at, name, arguments);
        }
        _ => {}
    }
    let (node, kind) = expression(operand)?;
    match (&kind, name, arguments) {
        (Type::Text, "startsWith", [part]) => test(at, TextTest::StartsWith, node, part),
        (Type::Text, "endsWith", [part]) => test(at, TextTest::EndsWith, node, part),
        (Type::Text, "contains", [part]) => test(at, TextTest::Contains, node, part),
        (Type::Text, "matches", [pattern]) => matches(at, node, pattern),
        (Type::Text, "extract", [template]) => extract(at, node, template),
        (Type::Text | Type::List(_), "size", []) => Ok((Node::Size(node.into()), Type::Int)),
        (Type::Time, name, arguments) if Part::named(name).is_some() => part(at, name, node, arguments),
        (Type::Duration, name, []) if span(name).is_some() => {
            let (unit, within) = span(name).unwrap_or((1, 1));
            Ok((Node::Span(unit, within, node.into()), Type::Int))
        }
        (Type::List(items), "hasOnly", [allowed]) => match expression(allowed)? {
            (allowed, Type::List(others)) if items.fits(&others) => {
                Ok((Node::HasOnly(Box::new((node, allowed))), Type::Bool))
            }
            (_, other) => Err(overload(at, name, &[&kind, &other])),
        },
        (_, "startsWith" | "endsWith" | "contains" | "matches" | "extract" | "size" | "hasOnly", _) => {
            Err(overload(at, name, &[&kind]))
        }
        (_, name, _) if Part::named(name).is_some() => Err(overload(at, name, &[&kind])),
        (_, name, _) => Err(undeclared(at, name)),
    }
}

fn test(at: usize, test: TextTest, node: Node, part: &Expr) -> Checked {
    match expression(part)? {
        (part, Type::Text) => Ok((Node::Test(test, Box::new((node, part))), Type::Bool)),
        (_, other) => Err(overload(at, "_", &[&Type::Text, &other])),
    }
}

fn matches(at: usize, node: Node, pattern: &Expr) -> Checked {
    let Kind::Text(text) = &pattern.kind else {
        return Err(Fault::new(at, "matches() takes a pattern that is written out"));
    };
    let built = regex::RegexBuilder::new(text).size_limit(MOST_PATTERN).dfa_size_limit(MOST_PATTERN).build();
    match built {
        Ok(regex) => Ok((Node::Matches(Box::new((node, regex))), Type::Bool)),
        Err(_) => Err(Fault::new(pattern.at, format!("invalid matches argument: {text:?}"))),
    }
}

/// One variable in braces, and any text around it.
fn extract(at: usize, node: Node, template: &Expr) -> Checked {
    let Kind::Text(text) = &template.kind else {
        return Err(Fault::new(at, "extract() takes a template that is written out"));
    };
    let parts = text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match parts {
        Some((before, (name, after)))
            if !name.is_empty() && !before.contains('}') && !after.contains(['{', '}']) =>
        {
            let template = Template { before: before.into(), after: after.into() };
            Ok((Node::Extract(Box::new((node, template))), Type::Text))
        }
        _ => Err(Fault::new(template.at, format!("invalid extract template: {text:?}"))),
    }
}

fn part(at: usize, name: &str, node: Node, arguments: &[Expr]) -> Checked {
    let zone = match arguments {
        [] => Some(Zone::utc()),
        [Expr { kind: Kind::Text(name), .. }] => Zone::named(name),
        _ => return Err(overload(at, name, &[&Type::Time])),
    };
    let zone = zone.ok_or_else(|| Fault::new(at, "unknown time zone"))?;
    match Part::named(name) {
        Some(part) => Ok((Node::Part(part, Box::new((node, zone))), Type::Int)),
        None => Err(undeclared(at, name)),
    }
}

/// `api.getAttribute(NAME, DEFAULT)`: the attributes that only some calls of an API have.
fn get_attribute(at: usize, arguments: &[Expr]) -> Checked {
    let [Expr { kind: Kind::Text(name), at: place }, default] = arguments else {
        return Err(Fault::new(at, "api.getAttribute() takes a name that is written out, and a default"));
    };
    let (default, kind) = expression(default)?;
    match (name.as_str(), kind) {
        ("iam.googleapis.com/modifiedGrantsByRole", Type::List(items)) if items.fits(&Type::Text) => {
            Ok((Node::Attribute(Attribute::ModifiedRoles), Type::List(Type::Text.into())))
        }
        // Calls that have one of these are not served: each of ours gets the default.
        ("storage.googleapis.com/objectListPrefix", Type::Text) => Ok((default, Type::Text)),
        ("iam.googleapis.com/modifiedGrantsByRole" | "storage.googleapis.com/objectListPrefix", kind) => {
            Err(overload(at, "getAttribute", &[&Type::Text, &kind]))
        }
        _ => Err(Fault::new(*place, format!("unknown API attribute: {name:?}"))),
    }
}

/// No resource here has a tag, so none matches. What the arguments look like is checked all the same.
fn tag(at: usize, name: &str, arguments: &[Expr]) -> Checked {
    let wanted = if name.starts_with("matchTag") { 2 } else { 1 };
    let texts = arguments.iter().filter(|one| matches!(one.kind, Kind::Text(_))).count();
    match arguments.len() == wanted && texts == wanted {
        true => Ok((Node::Never, Type::Bool)),
        false => Err(overload(at, name, &[])),
    }
}

fn binary(at: usize, operator: Operator, left: &Expr, right: &Expr) -> Checked {
    let ((left, one), (right, other)) = (expression(left)?, expression(right)?);
    match result(operator, &one, &other) {
        Some(kind) => Ok((Node::Binary(operator, Box::new((left, right))), kind)),
        None => Err(overload(at, &format!("_{}_", operator.sign()), &[&one, &other])),
    }
}

/// The type that an operator gives; `None` where it does not take these.
fn result(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type::{Bool, Duration, Int, Ip, List, Text, Time};
    let is_ordered = matches!(left, Bool | Int | Text | Time | Duration) && left == right;
    match operator {
        Operator::And | Operator::Or => (*left == Bool && *right == Bool).then_some(Bool),
        // Lists are not compared: no attribute is worth it.
        Operator::Equal | Operator::NotEqual => {
            (left.fits(right) && !matches!(left, List(_))).then_some(Bool)
        }
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
            is_ordered.then_some(Bool)
        }
        Operator::In => match right {
            List(items) => {
                (items.fits(left) && *left != Ip || **items == Text && *left == Ip).then_some(Bool)
            }
            _ => None,
        },
        Operator::Add => match (left, right) {
            (Int, Int) => Some(Int),
            (Time, Duration) | (Duration, Time) => Some(Time),
            (Duration, Duration) => Some(Duration),
            _ => None,
        },
        Operator::Subtract => match (left, right) {
            (Int, Int) => Some(Int),
            (Time, Duration) => Some(Time),
            (Time, Time) | (Duration, Duration) => Some(Duration),
            _ => None,
        },
        Operator::Multiply | Operator::Divide | Operator::Remainder => {
            (*left == Int && *right == Int).then_some(Int)
        }
    }
}

fn undeclared(at: usize, name: &str) -> Fault {
    Fault::new(at, format!("undeclared reference to '{name}' (in container '')"))
}

fn overload(at: usize, name: &str, types: &[&Type]) -> Fault {
    let types: Vec<String> = types.iter().map(|kind| kind.name()).collect();
    Fault::new(at, format!("found no matching overload for '{name}' applied to '({})'", types.join(", ")))
}
