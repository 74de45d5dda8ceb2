//! Paths, held against the interface tables and made into a tree.

use std::collections::{BTreeMap, BTreeSet};

use apis::schema::{Field, Kind, Message};

use super::inner;
use crate::{Error, Result};

/// The masked fields of a message, by number.
pub(super) type Fields = BTreeMap<u32, (Field, Node)>;

/// How much of a field is masked.
#[derive(Debug)]
pub(super) enum Node {
    /// All of it.
    Whole,
    /// These fields of the message inside it.
    Inside(Fields),
    /// These keys of the map.
    Keys(BTreeSet<String>),
}

/// The most segments in a path; no message of Google's nests deeper.
const LONGEST: usize = 32;

/// The tree of a mask.
pub(super) fn resolve(message: Message, paths: &[String]) -> Result<Fields> {
    let mut fields = Fields::new();
    for path in paths {
        let segments = split(path).ok_or_else(|| unknown(path))?;
        add(&mut fields, message, &segments).ok_or_else(|| unknown(path))?;
    }
    Ok(fields)
}

/// A path with the names of its fields as the interface files write them.
pub(super) fn normal(message: Message, path: &str) -> Result<String> {
    let mut names = Vec::new();
    let mut place = Some(message);
    let segments = split(path).ok_or_else(|| unknown(path))?;
    let mut segments = segments.iter();
    while let Some(segment) = segments.next() {
        let field = place.and_then(|message| message.field_by_json(segment)).ok_or_else(|| unknown(path))?;
        names.push(field.name().to_owned());
        place = inner(field);
        if has_string_keys(field) {
            names.extend(segments.next().map(|key| quoted(key)));
        }
    }
    Ok(names.join("."))
}

fn quoted(key: &str) -> String {
    let is_plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_plain { key.to_owned() } else { format!("`{key}`") }
}

fn add(fields: &mut Fields, message: Message, segments: &[String]) -> Option<()> {
    let (first, rest) = segments.split_first()?;
    let field = message.field_by_json(first)?;
    let make =
        || if has_string_keys(field) { Node::Keys(BTreeSet::new()) } else { Node::Inside(Fields::new()) };
    let (_, node) = fields.entry(field.number()).or_insert_with(|| (field, make()));
    match (rest, node) {
        ([], node) => *node = Node::Whole,
        // The path is checked all the same, though a shorter one covers it already.
        (rest, Node::Whole) => add_below(field, rest).map(|_| ())?,
        (rest, node) => merge(node, add_below(field, rest)?),
    }
    Some(())
}

/// What the rest of a path means inside a field.
fn add_below(field: Field, rest: &[String]) -> Option<Node> {
    if has_string_keys(field) {
        return match rest {
            [key] => Some(Node::Keys(BTreeSet::from([key.clone()]))),
            _ => None,
        };
    }
    let mut fields = Fields::new();
    add(&mut fields, inner(field)?, rest)?;
    Some(Node::Inside(fields))
}

fn merge(into: &mut Node, from: Node) {
    match (into, from) {
        (Node::Whole, _) => {}
        (Node::Keys(into), Node::Keys(from)) => into.extend(from),
        (Node::Inside(into), Node::Inside(from)) => {
            for (number, (field, node)) in from {
                match into.get_mut(&number) {
                    Some((_, into)) => merge(into, node),
                    None => {
                        into.insert(number, (field, node));
                    }
                }
            }
        }
        (into, from) => *into = from,
    }
}

fn has_string_keys(field: Field) -> bool {
    field.map_entry().is_some_and(|(key, _)| matches!(key.kind(), Kind::String))
}

/// The segments of a path. A segment in backticks may hold dots.
fn split(path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let (segment, after) = match rest.strip_prefix('`') {
            Some(quoted) => quoted.split_once('`')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if segment.is_empty() || segments.len() == LONGEST {
            return None;
        }
        segments.push(segment.to_owned());
        if after.is_empty() {
            return Some(segments);
        }
        rest = after.strip_prefix('.')?;
    }
}

fn unknown(path: &str) -> Error {
    let shown: String = path.chars().take(200).collect();
    Error::bad_field("update_mask", format!("Invalid field mask path in update_mask: '{shown}'"))
}
