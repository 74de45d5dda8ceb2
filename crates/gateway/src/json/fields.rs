//! Partial responses: which fields of an answer the caller wants.
//!
//! The syntax is that of Google's `fields` parameter: `a,b(c,d),e/f`, with `*` for any field; `.` may stand for
//! `/`, as in the `X-Goog-FieldMask` header. Names are checked against the tables when a selector is made, so
//! that writing an answer looks up numbers only.

use std::fmt;

use apis::schema::{Cardinality, Field, Kind, Message, WellKnown};
use kernel::error::{Detail, Error, Violation};

/// How many names a selector holds at most, and how deep it nests.
const MAX_NAMES: usize = 2000;
const MAX_NESTING: usize = 50;

/// The fields that are wanted of one type of message.
#[derive(Clone, Debug, Default)]
pub struct FieldSelector(Node);

/// A selector that does not fit the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMask {
    mask: String,
    path: String,
}

impl BadMask {
    /// The error in the words of Google's newer APIs.
    pub fn into_error(self) -> Error {
        let description = format!(
            "Error expanding 'fields' parameter. Cannot find matching fields for path '{}'.",
            self.path
        );
        Error::invalid("Request contains an invalid argument.")
            .with(Detail::BadRequest(vec![Violation { field: self.mask, description }]))
    }

    /// The error in the words of those that had `fields` first: Cloud Storage, Cloud SQL Admin.
    pub fn into_plain_error(self) -> Error {
        Error::invalid(format!("Invalid field selection {}", self.path))
    }
}

impl fmt::Display for BadMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no field matches {}", self.path)
    }
}

impl std::error::Error for BadMask {}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Everything below, whatever else is named.
    whole: bool,
    /// By number, where a table gives it.
    fields: Vec<(u32, Node)>,
    /// By name: keys of maps, and fields below a `*`, where the type is not known yet.
    keys: Vec<(String, Node)>,
    /// What `*` stands for.
    any: Option<Box<Node>>,
}

impl Node {
    /// The node of a name, made where there is none, and what names mean below it. `None` when the place has
    /// no such name.
    fn child(&mut self, scope: Scope, name: &str) -> Option<(&mut Node, Scope)> {
        if name == "*" && !matches!(scope, Scope::Leaf) {
            return Some((self.any.get_or_insert_default(), Scope::Free));
        }
        match scope {
            Scope::Leaf => None,
            Scope::Free => Some((entry(&mut self.keys, name.to_owned()), Scope::Free)),
            Scope::Map(value) => Some((entry(&mut self.keys, name.to_owned()), Scope::of_field(value))),
            Scope::Message(message) => {
                let field = message.field_by_json(name)?;
                Some((entry(&mut self.fields, field.number()), Scope::of_field(field)))
            }
        }
    }
}

fn entry<K: PartialEq>(list: &mut Vec<(K, Node)>, key: K) -> &mut Node {
    let at = match list.iter().position(|(known, _)| *known == key) {
        Some(at) => at,
        None => {
            list.push((key, Node::default()));
            list.len() - 1
        }
    };
    &mut list[at].1
}

/// What is wanted at a place of an answer.
#[derive(Clone, Copy)]
pub(crate) struct Selection<'f>(Option<&'f Node>);

impl<'f> Selection<'f> {
    /// Everything.
    pub(crate) const ALL: Selection<'static> = Selection(None);

    pub(crate) fn of(selector: Option<&'f FieldSelector>) -> Self {
        Selection(selector.map(|selector| &selector.0))
    }

    /// What is wanted of a field; `None` when nothing is.
    #[inline]
    pub(super) fn field(self, field: Field) -> Option<Selection<'f>> {
        let Some(node) = self.0.filter(|node| !node.whole) else { return Some(Selection(None)) };
        let by_number =
            node.fields.iter().find(|(number, _)| *number == field.number()).map(|(_, node)| node);
        let by_name = || {
            let named = |name: &str| name == field.json_name() || name == field.name();
            node.keys.iter().find(|(name, _)| named(name)).map(|(_, node)| node)
        };
        by_number.or_else(by_name).or(node.any.as_deref()).map(|node| Selection(Some(node)))
    }

    /// What is wanted of a map's value.
    pub(super) fn key(self, key: &str) -> Option<Selection<'f>> {
        let Some(node) = self.0.filter(|node| !node.whole) else { return Some(Selection(None)) };
        let by_name = node.keys.iter().find(|(name, _)| name == key).map(|(_, node)| node);
        by_name.or(node.any.as_deref()).map(|node| Selection(Some(node)))
    }
}

/// What names mean at a place.
#[derive(Clone, Copy)]
enum Scope {
    Message(Message),
    /// The values of a map.
    Map(Field),
    /// Inside a message whose fields no table names.
    Free,
    /// A single value.
    Leaf,
}

impl Scope {
    fn of_field(field: Field) -> Self {
        match (field.cardinality(), field.kind()) {
            (Cardinality::Map, _) => match field.map_entry() {
                Some((_, value)) => Scope::Map(value),
                None => Scope::Leaf,
            },
            (_, Kind::Message(message)) => Scope::of_message(message),
            _ => Scope::Leaf,
        }
    }

    fn of_message(message: Message) -> Self {
        match message.well_known() {
            None | Some(WellKnown::Empty | WellKnown::HttpBody) => Scope::Message(message),
            Some(WellKnown::Any | WellKnown::Struct | WellKnown::Value | WellKnown::ListValue) => Scope::Free,
            Some(_) => Scope::Leaf,
        }
    }
}

impl FieldSelector {
    /// Reads a selector for a message.
    ///
    /// # Errors
    /// A name that no field has, or a text that is no selector.
    pub fn parse(message: Message, mask: &str) -> Result<Self, BadMask> {
        let mut parser = Parser { rest: mask, names: 0, path: Vec::new() };
        let mut root = Node::default();
        let read = parser.list(Scope::of_message(message), &mut root);
        if read.is_none() || !parser.rest.is_empty() {
            let path = if read.is_none() { parser.path.join(".") } else { mask.to_owned() };
            return Err(BadMask { mask: mask.to_owned(), path });
        }
        Ok(FieldSelector(root))
    }
}

struct Parser<'m> {
    rest: &'m str,
    names: usize,
    path: Vec<&'m str>,
}

impl<'m> Parser<'m> {
    /// `item , item …`; `None` at the first thing wrong, with the path to it in `self.path`.
    fn list(&mut self, scope: Scope, node: &mut Node) -> Option<()> {
        loop {
            let depth = self.path.len();
            self.item(scope, node)?;
            self.path.truncate(depth);
            if !self.eat(',') {
                return Some(());
            }
        }
    }

    /// `name / name … ( list )`.
    fn item(&mut self, scope: Scope, node: &mut Node) -> Option<()> {
        let name = self.name();
        self.path.push(name);
        self.names += 1;
        if name.is_empty() || self.names > MAX_NAMES || self.path.len() > MAX_NESTING {
            return None;
        }
        let (child, scope) = node.child(scope, name)?;
        self.below(scope, child)
    }

    fn below(&mut self, scope: Scope, node: &mut Node) -> Option<()> {
        if self.eat('/') || self.eat('.') {
            return self.item(scope, node);
        }
        if !self.eat('(') {
            node.whole = true;
            return Some(());
        }
        self.list(scope, node)?;
        self.eat(')').then_some(())
    }

    fn name(&mut self) -> &'m str {
        let end = self.rest.find([',', '/', '.', '(', ')']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.trim()
    }

    fn eat(&mut self, char: char) -> bool {
        match self.rest.strip_prefix(char) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}
