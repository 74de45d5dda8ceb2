//! Expressions over JSON: the attribute mappings and conditions of identity federation.
//!
//! What an issuer asserts has no types that are known before, so these are evaluated over the tree that the parser
//! gives, with JSON as values. That is slower than a compiled condition and happens once an hour for a workload.
//! Nothing here can loop: `exists` and its like walk a list of the assertion once each, recursion ends where the
//! parser's limit on nesting ended it, and a count of steps ends what nests such walks.
//!
//! What an assertion does not have is an error, which `&&` and `||` take up where the other side decides, as CEL has
//! it, and which `has()` asks about.
//!
//! Left out: maps and messages that are written out, timestamps and durations.
//!
//! Source: <https://cloud.google.com/iam/docs/workload-identity-federation#mapping>.

use std::{borrow::Cow, cell::Cell};

use serde_json::{Map, Value};

use super::{
    Fault,
    parse::{Expr, Kind, Operator, parse},
    values::{
        Failure, Outcome, UNTYPED, boolean, combine, field, index, method, pattern, size, string, template,
        weight,
    },
};

/// The most steps that one evaluation takes. What it makes of values counts too, by its size.
const MOST_STEPS: usize = 100_000;

/// Functions and methods that are known, for the check before anything is evaluated.
const CALLS: [&str; 24] = [
    "has",
    "size",
    "string",
    "int",
    "bool",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "extract",
    "split",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "substring",
    "indexOf",
    "exists",
    "all",
    "exists_one",
    "filter",
    "map",
    "hasOnly",
];
/// Methods that name a variable of their own.
const WALKS: [&str; 5] = ["exists", "all", "exists_one", "filter", "map"];

/// An expression over JSON, read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Formula(Expr);

impl Formula {
    /// Reads an expression that may use these names.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn read(source: &str, names: &[&str]) -> Result<Formula, Fault> {
        let tree = parse(source)?;
        check(&tree, &mut names.iter().map(|name| (*name).to_owned()).collect())?;
        Ok(Formula(tree))
    }

    /// Whether it looks at anything below this name.
    pub(crate) fn uses(&self, name: &str) -> bool {
        mentions(&self.0, name)
    }

    /// What it gives.
    ///
    /// # Errors
    /// Why it has no value.
    pub(crate) fn evaluate(&self, names: &Map<String, Value>) -> Result<Value, Failure> {
        let scope = Scope { names, own: None, steps: &Cell::new(0) };
        scope.value(&self.0).map(Cow::into_owned)
    }
}

fn children(tree: &Expr) -> Vec<&Expr> {
    match &tree.kind {
        Kind::Bool(_) | Kind::Int(_) | Kind::Text(_) | Kind::Name(_) => Vec::new(),
        Kind::List(items) => items.iter().collect(),
        Kind::Field(operand, _) | Kind::Not(operand) | Kind::Minus(operand) => vec![&**operand],
        Kind::Index(left, right) | Kind::Binary(_, left, right) => vec![&**left, &**right],
        Kind::Call(operand, _, arguments) => operand.as_deref().into_iter().chain(arguments).collect(),
        Kind::Choice(test, yes, no) => vec![&**test, &**yes, &**no],
    }
}

fn mentions(tree: &Expr, name: &str) -> bool {
    matches!(&tree.kind, Kind::Name(found) if found == name)
        || children(tree).into_iter().any(|part| mentions(part, name))
}

fn check(tree: &Expr, names: &mut Vec<String>) -> Result<(), Fault> {
    let undeclared =
        |name: &str| Err(Fault::new(tree.at, format!("undeclared reference to '{name}' (in container '')")));
    match &tree.kind {
        Kind::Name(name) if name != "null" && !names.contains(name) => undeclared(name),
        Kind::Call(_, name, _) if !CALLS.contains(&name.as_str()) => undeclared(name),
        Kind::Call(Some(operand), name, arguments) if WALKS.contains(&name.as_str()) => {
            let [Expr { kind: Kind::Name(own), .. }, body] = arguments.as_slice() else {
                return Err(Fault::new(tree.at, format!("{name}() takes a variable and an expression")));
            };
            check(operand, names)?;
            names.push(own.clone());
            let checked = check(body, names);
            names.pop();
            checked
        }
        Kind::Call(Some(_), name, arguments) if matches!(name.as_str(), "extract" | "matches") => {
            written_out(tree, name, arguments)?;
            children(tree).into_iter().try_for_each(|part| check(part, names))
        }
        _ => children(tree).into_iter().try_for_each(|part| check(part, names)),
    }
}

/// Templates and patterns are checked before they are used.
fn written_out(tree: &Expr, name: &str, arguments: &[Expr]) -> Result<(), Fault> {
    let [Expr { kind: Kind::Text(text), at }] = arguments else {
        return Err(Fault::new(tree.at, format!("{name}() takes one string that is written out")));
    };
    let fits = if name == "extract" { template(text).is_some() } else { pattern(text).is_some() };
    if fits { Ok(()) } else { Err(Fault::new(*at, format!("invalid {name} argument: {text:?}"))) }
}

/// The names that an expression can use.
#[derive(Clone, Copy)]
struct Scope<'v> {
    names: &'v Map<String, Value>,
    /// The variables of walks, the innermost first.
    own: Option<&'v Own<'v>>,
    steps: &'v Cell<usize>,
}

/// The variable of a walk.
struct Own<'v> {
    name: &'v str,
    value: &'v Value,
    outer: Option<&'v Own<'v>>,
}

impl<'v> Scope<'v> {
    fn value(self, tree: &'v Expr) -> Outcome<'v> {
        let value = self.made(tree)?;
        self.spend(if let Cow::Owned(made) = &value { weight(made) } else { 1 })?;
        Ok(value)
    }

    fn made(self, tree: &'v Expr) -> Outcome<'v> {
        match &tree.kind {
            Kind::Bool(value) => boolean(*value),
            Kind::Int(number) => Ok(Cow::Owned((*number).into())),
            Kind::Text(text) => string(text.as_str()),
            Kind::List(items) => {
                let items = items.iter().map(|item| self.value(item).map(Cow::into_owned));
                Ok(Cow::Owned(Value::Array(items.collect::<Result<_, _>>()?)))
            }
            Kind::Name(name) => self.named(name),
            Kind::Field(operand, name) => field(self.value(operand)?, name),
            Kind::Index(operand, key) => {
                let key = self.value(key)?;
                index(self.value(operand)?, &key)
            }
            Kind::Not(operand) => boolean(!self.truth(operand)?),
            Kind::Minus(operand) => {
                let number = self.value(operand)?.as_i64().and_then(i64::checked_neg).ok_or(UNTYPED)?;
                Ok(Cow::Owned(number.into()))
            }
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right),
            Kind::Choice(test, yes, no) => self.value(if self.truth(test)? { yes } else { no }),
            Kind::Call(None, name, arguments) => self.function(name, arguments),
            Kind::Call(Some(operand), name, arguments) if WALKS.contains(&name.as_str()) => {
                self.walk(name, operand, arguments)
            }
            Kind::Call(Some(operand), name, arguments) => {
                let operand = self.value(operand)?;
                let arguments = arguments.iter().map(|argument| self.value(argument));
                method(&operand, name, &arguments.collect::<Result<Vec<_>, _>>()?)
            }
        }
    }

    fn spend(self, steps: usize) -> Result<(), Failure> {
        self.steps.set(self.steps.get().saturating_add(steps));
        if self.steps.get() > MOST_STEPS { Err(Failure::Wrong("it takes too long")) } else { Ok(()) }
    }

    fn truth(self, tree: &'v Expr) -> Result<bool, Failure> {
        self.value(tree)?.as_bool().ok_or(UNTYPED)
    }

    fn named(self, name: &str) -> Outcome<'v> {
        let own = std::iter::successors(self.own, |own| own.outer).find(|own| own.name == name);
        match own.map(|own| own.value).or_else(|| self.names.get(name)) {
            Some(value) => Ok(Cow::Borrowed(value)),
            None if name == "null" => Ok(Cow::Owned(Value::Null)),
            None => Err(Failure::Missing(name.to_owned())),
        }
    }

    fn binary(self, operator: Operator, left: &'v Expr, right: &'v Expr) -> Outcome<'v> {
        // One side that decides takes up what is wrong with the other.
        let decides = match operator {
            Operator::And => false,
            Operator::Or => true,
            _ => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                return combine(operator, &left, &right);
            }
        };
        match (self.truth(left), || self.truth(right)) {
            (Ok(left), _) if left == decides => boolean(decides),
            (Ok(_), right) => boolean(right()?),
            (Err(failure), right) => match right() {
                Ok(right) if right == decides => boolean(decides),
                _ => Err(failure),
            },
        }
    }

    fn function(self, name: &str, arguments: &'v [Expr]) -> Outcome<'v> {
        let [argument] = arguments else { return Err(UNTYPED) };
        if name == "has" {
            return match self.value(argument) {
                Ok(_) => boolean(true),
                Err(Failure::Missing(_)) => boolean(false),
                Err(failure) => Err(failure),
            };
        }
        let value = self.value(argument)?;
        match (name, &*value) {
            ("size", value) => size(value),
            ("string", Value::String(text)) => string(text.as_str()),
            ("string", Value::Number(_) | Value::Bool(_)) => string(value.to_string()),
            ("int", Value::Number(number)) => number.as_i64().map(|n| Cow::Owned(n.into())).ok_or(UNTYPED),
            ("int", Value::String(text)) => {
                text.parse::<i64>().map(|n| Cow::Owned(n.into())).map_err(|_| UNTYPED)
            }
            ("bool", Value::Bool(value)) => boolean(*value),
            ("bool", Value::String(text)) => text.parse().map_err(|_| UNTYPED).and_then(boolean),
            _ => Err(UNTYPED),
        }
    }

    /// `exists` and its like: an expression for each item of a list, or key of an object.
    fn walk(self, name: &str, operand: &'v Expr, arguments: &'v [Expr]) -> Outcome<'v> {
        let [Expr { kind: Kind::Name(own), .. }, body] = arguments else { return Err(UNTYPED) };
        let items = match self.value(operand)?.into_owned() {
            Value::Array(items) => items,
            Value::Object(map) => map.into_iter().map(|(key, _)| Value::String(key)).collect(),
            _ => return Err(UNTYPED),
        };
        let mut kept = Vec::new();
        let mut held = 0;
        for item in &items {
            let own = Own { name: own, value: item, outer: self.own };
            let inner = Scope { names: self.names, own: Some(&own), steps: self.steps };
            let value = inner.value(body)?;
            self.spend(weight(&value))?;
            match (name, value.into_owned()) {
                ("map", value) => kept.push(value),
                (_, Value::Bool(true)) => {
                    held += 1;
                    kept.push(item.clone());
                }
                (_, Value::Bool(false)) => {}
                _ => return Err(UNTYPED),
            }
        }
        match name {
            "exists" => boolean(held > 0),
            "all" => boolean(held == items.len()),
            "exists_one" => boolean(held == 1),
            _ => Ok(Cow::Owned(Value::Array(kept))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names() -> Map<String, Value> {
        let names = json!({
            "assertion": {
                "sub": "repo:haar/app:ref:refs/heads/main", "repository": "haar/app", "n": 7,
                "groups": ["a", "b"], "https://x/y": {"z": true},
            },
            "attribute": {"ref": "refs/heads/main"},
        });
        names.as_object().cloned().unwrap_or_default()
    }

    fn evaluate(source: &str) -> Result<Value, Failure> {
        Formula::read(source, &["assertion", "google", "attribute"]).expect(source).evaluate(&names())
    }

    #[test]
    fn what_mappings_use_works() {
        for (source, value) in [
            ("assertion.sub", json!("repo:haar/app:ref:refs/heads/main")),
            ("assertion['https://x/y'].z", json!(true)),
            ("assertion.sub.extract('repo:{repository}:ref')", json!("haar/app")),
            ("assertion.sub.extract('nothing/{x}')", json!("")),
            ("assertion.repository.split('/')[0]", json!("haar")),
            ("assertion.repository.split('/').join('-')", json!("haar-app")),
            ("'b' in assertion.groups", json!(true)),
            ("'sub' in assertion", json!(true)),
            ("assertion.repository == 'haar/app' && attribute.ref.startsWith('refs/heads/')", json!(true)),
            ("has(assertion.environment) ? assertion.environment : 'none'", json!("none")),
            ("assertion.environment == 'x' || assertion.n == 7", json!(true)),
            ("assertion.groups.exists(g, g == 'b') && !assertion.groups.all(g, g == 'b')", json!(true)),
            ("assertion.groups.filter(g, g != 'a').map(g, g + '!')", json!(["b!"])),
            ("assertion.groups.map(g, assertion.groups.filter(h, h == g).size())", json!([1, 1])),
            ("'%s' + string(assertion.n + 1)", json!("%s8")),
            ("assertion.repository.matches('^haar/[a-z]+$')", json!(true)),
            ("assertion.repository.substring(0, 4).upperAscii()", json!("HAAR")),
        ] {
            assert_eq!(evaluate(source), Ok(value), "{source}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_and_no_value() {
        assert_eq!(evaluate("assertion.environment"), Err(Failure::Missing("environment".into())));
        assert_eq!(evaluate("google.subject"), Err(Failure::Missing("google".into())));
        assert_eq!(evaluate("assertion.n.startsWith('7')"), Err(UNTYPED));
        assert_eq!(evaluate("assertion.groups[2]"), Err(Failure::Wrong("index out of bounds")));
        assert!(evaluate("assertion.n && false").is_ok(), "one side that is false decides");
    }

    #[test]
    fn mistakes_are_found_before_anything_is_evaluated() {
        for source in [
            "",
            "asertion.sub",
            "assertion.sub.strip()",
            "assertion.sub.extract('x')",
            "assertion..sub",
            "assertion.sub.matches('(')",
            "assertion[",
            "assertion.groups.exists(1, true)",
        ] {
            assert!(Formula::read(source, &["assertion"]).is_err(), "{source}");
        }
    }

    #[test]
    fn walks_within_walks_come_to_an_end() {
        let deep = (0..12).fold("true".to_owned(), |body, n| format!("l.all(x{n}, {body})"));
        let formula = Formula::read(&deep, &["l"]).unwrap();
        let names = json!({"l": vec![1; 50]});
        assert_eq!(formula.evaluate(names.as_object().unwrap()), Err(Failure::Wrong("it takes too long")));
    }

    #[test]
    fn what_grows_without_end_is_stopped() {
        let doubled = (0..20).fold("['x']".to_owned(), |list, _| format!("{list}.map(x, [x, x])"));
        let formula = Formula::read(&doubled, &[]).unwrap();
        assert_eq!(formula.evaluate(&Map::new()), Err(Failure::Wrong("it takes too long")));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(source in "[a-z.'()\\[\\]&|!=+?:, 0-9-]{0,60}") {
            let tried = format!("assertion{source}");
            for source in [source, tried] {
                if let Ok(formula) = Formula::read(&source, &["assertion"]) {
                    let _ = formula.evaluate(&names());
                }
            }
        }
    }
}
