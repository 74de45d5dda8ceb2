//! Asks a filter: of what is known of many entries at once, and of each entry as it is encoded.

use std::cmp::Ordering;

use super::{
    Filter, Needle, Node, Order, Scope, Test,
    fields::{ENTRY, Field, Kind, Leaf, Path, Step},
};
use crate::{
    record,
    wire::{Fields, Wire, map_entry, text},
};

/// The numbers of the fields that entries may share with their stream; the labels may be their own as well.
const SHARED_LOG: u32 = 12;
const SHARED_RESOURCE: u32 = 8;
const SHARED_LABELS: u32 = 11;

/// An entry as it lies on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// When it happened, in nanoseconds since 1970.
    pub(crate) time: i64,
    /// When it arrived, in nanoseconds since 1970.
    pub(crate) received: i64,
    /// How bad it is, as Google numbers it.
    pub(crate) severity: u16,
    /// The encoded fields that it shares with its stream.
    pub(crate) shared: &'a [u8],
    /// The encoded fields that are its own.
    pub(crate) own: &'a [u8],
}

/// What is known of many entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The earliest and the latest moment of any of them.
    pub(crate) times: (i64, i64),
    /// The severities among them, a bit for each hundred.
    pub(crate) severities: u16,
    /// The encoded fields that all of them share, the log's name and the resource among them; `None` when
    /// they do not.
    pub(crate) shared: Option<&'a [u8]>,
}

impl Needle {
    /// Whether it may be in some field of a message, going by its bytes alone: text stands in them as it is, and
    /// numbers and flags are written with few letters.
    fn may_be_in(&self, message: &[u8]) -> bool {
        const IN_NUMBERS: &[u8] = b"0123456789.-+truefalsinfan";
        let only_text = self.lower.bytes().any(|b| !IN_NUMBERS.contains(&b));
        !only_text || !self.lower.is_ascii() || contains(message, self)
    }
}

impl Filter {
    /// The filter, with what is known decided.
    pub(crate) fn narrow(&self, known: &Known<'_>) -> Filter {
        Filter(narrow(&self.0, known))
    }

    /// Whether any of these entries might pass.
    pub(crate) fn possible(&self, known: &Known<'_>) -> bool {
        decide(&self.0, known) != Some(false)
    }

    /// Whether an entry passes.
    pub(crate) fn matches(&self, entry: &View<'_>) -> bool {
        matches(&self.0, entry)
    }
}

fn narrow(node: &Node, known: &Known<'_>) -> Node {
    let all = |parts: &[Node], neutral: bool, many: fn(Vec<Node>) -> Node| {
        let mut left = Vec::new();
        for part in parts {
            match narrow(part, known) {
                Node::Const(value) if value == neutral => {}
                Node::Const(value) => return Node::Const(value),
                undecided => left.push(undecided),
            }
        }
        if left.is_empty() { Node::Const(neutral) } else { many(left) }
    };
    match node {
        Node::All(parts) => all(parts, true, Node::All),
        Node::Any(parts) => all(parts, false, Node::Any),
        Node::Not(part) => match narrow(part, known) {
            Node::Const(value) => Node::Const(!value),
            undecided => Node::Not(Box::new(undecided)),
        },
        // What all of them share is looked through once, and not again with each.
        Node::Anywhere(sought, Scope::Entry) if known.shared.is_some() => match decide(node, known) {
            Some(value) => Node::Const(value),
            None => Node::Anywhere(sought.clone(), Scope::Own),
        },
        other => decide(other, known).map_or_else(|| other.clone(), Node::Const),
    }
}

/// What a part comes to for all of the entries; `None` when that differs, or cannot be said.
fn decide(node: &Node, known: &Known<'_>) -> Option<bool> {
    // Decided by the first part that is so, else undecided if any part is.
    let joined = |parts: &[Node], deciding: bool| {
        let mut all = Some(!deciding);
        for part in parts {
            match decide(part, known) {
                Some(value) if value == deciding => return Some(deciding),
                Some(_) => {}
                None => all = None,
            }
        }
        all
    };
    match node {
        Node::Const(value) => Some(*value),
        Node::All(parts) => joined(parts, false),
        Node::Any(parts) => joined(parts, true),
        Node::Not(part) => decide(part, known).map(|value| !value),
        Node::Field(path, test) => decide_field(path, test, known),
        Node::Anywhere(_, Scope::Own) => None,
        Node::Anywhere(sought, Scope::Entry) => {
            let found = known.shared.is_some_and(|shared| within(Kind::Message(ENTRY), shared, sought));
            found.then_some(true)
        }
    }
}

fn decide_field(path: &Path, test: &Test, known: &Known<'_>) -> Option<bool> {
    match (path.leaf, test) {
        (Leaf::Timestamp, Test::Number(order, than)) => decide_range(*order, *than, known.times),
        (Leaf::Severity, test) => {
            let mut answers = (0..16u16).filter(|bit| known.severities >> bit & 1 == 1).map(|bit| {
                let severity = bit * 100;
                number(test, i64::from(severity), || record::severity_name(severity).to_owned())
            });
            let first = answers.next()?;
            answers.all(|answer| answer == first).then_some(first)
        }
        // The log's name and the resource stand in the shared part and nowhere else.
        _ => match (path.steps.first(), known.shared) {
            (Some(Step::Number(SHARED_LOG | SHARED_RESOURCE)), Some(shared)) => {
                Some(field(path, test, [shared, &[]]))
            }
            _ => None,
        },
    }
}

fn decide_range(order: Order, than: i64, (min, max): (i64, i64)) -> Option<bool> {
    let (low, high) = (order.holds(min.cmp(&than)), order.holds(max.cmp(&than)));
    let between = (min..=max).contains(&than);
    match order {
        Order::Equal | Order::NotEqual if between && min != max => None,
        _ => (low == high).then_some(low),
    }
}

fn matches(node: &Node, entry: &View<'_>) -> bool {
    match node {
        Node::Const(value) => *value,
        Node::All(parts) => parts.iter().all(|part| matches(part, entry)),
        Node::Any(parts) => parts.iter().any(|part| matches(part, entry)),
        Node::Not(part) => !matches(part, entry),
        Node::Anywhere(sought, scope) => {
            let own = sought.may_be_in(entry.own) && within(Kind::Message(ENTRY), entry.own, sought);
            own || *scope == Scope::Entry && within(Kind::Message(ENTRY), entry.shared, sought)
        }
        Node::Field(path, test) => match path.leaf {
            Leaf::Timestamp => number(test, entry.time, || record::format_time(entry.time)),
            Leaf::Received => number(test, entry.received, || record::format_time(entry.received)),
            Leaf::Severity => {
                let name = || record::severity_name(entry.severity).to_owned();
                number(test, entry.severity.into(), name)
            }
            _ => match path.steps.first() {
                Some(Step::Number(SHARED_LOG | SHARED_RESOURCE | SHARED_LABELS)) => {
                    field(path, test, [entry.shared, entry.own])
                }
                _ => field(path, test, [&[], entry.own]),
            },
        },
    }
}

/// Tests a number; `name` is how it is written, for the tests of text.
fn number(test: &Test, value: i64, name: impl Fn() -> String) -> bool {
    match test {
        Test::Present => true,
        Test::Number(order, than) => order.holds(value.cmp(than)),
        other => string(other, name().as_bytes()),
    }
}

/// Tests text.
fn string(test: &Test, value: &[u8]) -> bool {
    match test {
        Test::Present => true,
        Test::Text(order, than) => order.holds(compare(value, than)),
        Test::Contains(part) => contains(value, part),
        Test::Ends(end) => {
            value.len() >= end.len() && value[value.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        }
        Test::Matches(regex) => regex.is_match(value),
        Test::Lacks(regex) => !regex.is_match(value),
        Test::Json(order, than) => order.holds(compare(value, &than.text)),
        Test::JsonHas(_, part) => contains(value, part),
        Test::Number(..) => false,
    }
}

/// Tests a field in both parts of an entry.
fn field(path: &Path, test: &Test, parts: [&[u8]; 2]) -> bool {
    let mut walk = Walk { test, leaf: path.leaf, found: false };
    let holds = parts.into_iter().any(|part| walk.message(&path.steps, part));
    match path.leaf {
        Leaf::Declared(kind) if !walk.found => default_holds(kind, test),
        _ => holds,
    }
}

/// Tests the value that a declared field has when an entry does not set it.
fn default_holds(kind: Kind, test: &Test) -> bool {
    match (kind, test) {
        (_, Test::Present) => false,
        (Kind::Text, test) => string(test, b""),
        (Kind::Int | Kind::Flag | Kind::Duration, test) => number(test, 0, String::new),
        _ => false,
    }
}

/// The way down to the values of a field.
struct Walk<'t> {
    test: &'t Test,
    leaf: Leaf,
    found: bool,
}

impl Walk<'_> {
    /// Whether a value under these steps passes. Follows declared fields.
    fn message(&mut self, steps: &[Step], bytes: &[u8]) -> bool {
        let Some((Step::Number(wanted), rest)) = steps.split_first() else { return false };
        let mut fields = Fields(bytes).filter(|(number, _)| number == wanted);
        fields.any(|(_, value)| match (rest.first(), value) {
            (None, value) => self.value(value),
            (Some(Step::Number(_)), Wire::Bytes(inner)) => self.message(rest, inner),
            (Some(Step::Label(key)), Wire::Bytes(entry)) => self.label(key, entry),
            (Some(Step::Member(_)), Wire::Bytes(object)) => self.object(rest, object),
            _ => false,
        })
    }

    fn label(&mut self, wanted: &str, entry: &[u8]) -> bool {
        let (key, value) = map_entry(entry);
        if key != wanted.as_bytes() {
            return false;
        }
        let value = if let Some(Wire::Bytes(value)) = value { value } else { &[] };
        string(self.test, value)
    }

    /// A declared field's value.
    fn value(&mut self, value: Wire<'_>) -> bool {
        self.found = true;
        match (self.leaf, value) {
            (Leaf::Declared(Kind::Text), Wire::Bytes(value)) => string(self.test, value),
            (Leaf::Declared(Kind::Duration), Wire::Bytes(value)) => {
                number(self.test, duration(value), || format!("{}s", duration(value) as f64 / 1e9))
            }
            (Leaf::Declared(kind), Wire::Bytes(value)) => match self.test {
                Test::Present => true,
                Test::Contains(sought) => within(kind, value, sought),
                _ => false,
            },
            (Leaf::Declared(_), Wire::Varint(value)) => number(self.test, value as i64, || value.to_string()),
            _ => false,
        }
    }

    /// The members of a `google.protobuf.Struct`.
    fn object(&mut self, steps: &[Step], bytes: &[u8]) -> bool {
        let Some((Step::Member(wanted), rest)) = steps.split_first() else { return false };
        members(bytes).any(|(key, value)| key == wanted.as_bytes() && self.json(rest, value))
    }

    /// A `google.protobuf.Value`; of a list, each element.
    fn json(&mut self, steps: &[Step], bytes: &[u8]) -> bool {
        match (Fields(bytes).last(), steps.is_empty()) {
            (Some((6, Wire::Bytes(list))), _) => elements(list).any(|element| self.json(steps, element)),
            (Some((5, Wire::Bytes(object))), false) => self.object(steps, object),
            (Some((number, value)), true) => scalar(self.test, number, value),
            _ => false,
        }
    }
}

/// Tests a JSON value that is no list, by the field of `google.protobuf.Value` that it stands in.
fn scalar(test: &Test, number: u32, value: Wire<'_>) -> bool {
    match (number, value, test) {
        (_, _, Test::Present) => true,
        (3, Wire::Bytes(text), test) => string(test, text),
        (2, Wire::Fixed64(bits), test) => json_number(test, f64::from_bits(bits)),
        (4, Wire::Varint(flag), test) => string(test, if flag == 0 { b"false" } else { b"true" }),
        (1, _, Test::Json(order, literal)) => (*order == Order::Equal) == literal.null,
        (5, Wire::Bytes(object), Test::JsonHas(_, part)) => within(Kind::Struct, object, part),
        _ => false,
    }
}

fn json_number(test: &Test, value: f64) -> bool {
    match test {
        Test::Json(order, literal) => match literal.number.and_then(|than| value.partial_cmp(&than)) {
            Some(ordering) => order.holds(ordering),
            None => *order == Order::NotEqual,
        },
        Test::JsonHas(number, _) => *number == Some(value),
        other => string(other, value.to_string().as_bytes()),
    }
}

/// Whether some text in a value of this kind contains what is sought, in lowercase.
fn within(kind: Kind, bytes: &[u8], sought: &Needle) -> bool {
    match kind {
        Kind::Text => contains(bytes, sought),
        Kind::Map => {
            let (key, value) = map_entry(bytes);
            contains(key, sought) || matches!(value, Some(Wire::Bytes(value)) if contains(value, sought))
        }
        Kind::Struct => {
            members(bytes).any(|(key, value)| contains(key, sought) || json_within(value, sought))
        }
        Kind::Message(fields) => Fields(bytes).any(|(number, value)| {
            let kind = fields.iter().find(|field: &&Field| field.number == number).map(|field| field.kind);
            match (kind, value) {
                (Some(kind), Wire::Bytes(value)) => within(kind, value, sought),
                (Some(Kind::Int), Wire::Varint(value)) => contains(value.to_string().as_bytes(), sought),
                _ => false,
            }
        }),
        Kind::Int | Kind::Flag | Kind::Duration | Kind::Opaque => false,
    }
}

fn json_within(value: &[u8], sought: &Needle) -> bool {
    match Fields(value).last() {
        Some((3, Wire::Bytes(text))) => contains(text, sought),
        Some((2, Wire::Fixed64(bits))) => contains(f64::from_bits(bits).to_string().as_bytes(), sought),
        Some((4, Wire::Varint(flag))) => contains(if flag == 0 { b"false" } else { b"true" }, sought),
        Some((5, Wire::Bytes(object))) => within(Kind::Struct, object, sought),
        Some((6, Wire::Bytes(list))) => elements(list).any(|element| json_within(element, sought)),
        _ => false,
    }
}

/// The members of an encoded `google.protobuf.Struct`.
fn members(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    Fields(bytes).filter_map(|field| match field {
        (1, Wire::Bytes(entry)) => match map_entry(entry) {
            (key, Some(Wire::Bytes(value))) => Some((key, value)),
            (key, _) => Some((key, &[][..])),
        },
        _ => None,
    })
}

/// The elements of an encoded `google.protobuf.ListValue`.
fn elements(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    Fields(bytes).filter_map(|field| match field {
        (1, Wire::Bytes(element)) => Some(element),
        _ => None,
    })
}

/// An encoded `google.protobuf.Duration` in nanoseconds.
fn duration(bytes: &[u8]) -> i64 {
    Fields(bytes).fold(0i64, |sum, field| match field {
        (1, Wire::Varint(seconds)) => sum.saturating_add((seconds as i64).saturating_mul(1_000_000_000)),
        (2, Wire::Varint(nanos)) => sum.saturating_add(nanos as i64),
        _ => sum,
    })
}

/// Compares text with text in lowercase, taking no notice of case.
fn compare(value: &[u8], lower: &str) -> Ordering {
    if value.is_ascii() {
        value.iter().map(u8::to_ascii_lowercase).cmp(lower.bytes())
    } else {
        text(value).to_lowercase().as_str().cmp(lower)
    }
}

/// Whether text contains what is sought, taking no notice of case.
fn contains(value: &[u8], sought: &Needle) -> bool {
    let bytes = sought.lower.as_bytes();
    let Some(&rare) = bytes.get(sought.rare) else { return true };
    if !sought.lower.is_ascii() {
        return text(value).to_lowercase().contains(&sought.lower);
    }
    let Some(last) = value.len().checked_sub(bytes.len()) else { return false };
    let starts = &value[sought.rare..=last + sought.rare];
    memchr::memchr2_iter(rare, rare.to_ascii_uppercase(), starts)
        .any(|at| value[at..at + bytes.len()].eq_ignore_ascii_case(bytes))
}
