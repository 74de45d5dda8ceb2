//! Protobuf bytes to JSON text.
//!
//! Each message is read twice: once to note where its fields are, once to write them. The notes lie on one
//! stack for the whole walk, so that nothing is allocated a message, fields that belong together are found
//! wherever they stand, and the cost stays linear.

use std::{fmt, ops::Range};

use apis::schema::{Cardinality, Field, Kind, Message, WellKnown};

use super::{
    MAX_DEPTH,
    fields::Selection,
    leaves::{key_text, zero_of},
    scalar::wire_of,
    text::{Layout, Text},
    wire::{Record, Wire, get_record, get_varint},
};

/// How enum values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enums {
    /// By name, where they have one.
    #[default]
    Names,
    /// By number: what `$alt=json;enum-encoding=int` asks for.
    Numbers,
}

/// How a message is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'f> {
    /// How enum values are written.
    pub enums: Enums,
    /// Whether people or programs read it.
    pub layout: Layout,
    /// Which fields are written; all of them without one.
    pub fields: Option<&'f super::FieldSelector>,
}

/// The bytes are not the message they are said to be. Says nothing to a caller: it is a fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub(crate) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Writes a message's bytes as JSON behind what is in `out`.
///
/// As Google answers: fields in the order of their numbers, under lower camel case names; fields without
/// presence left out at their zero value; 64-bit integers as strings; an `Any` of a type without a table as
/// `@type` and base64 `value`. Unknown fields are left out.
///
/// # Errors
/// When the bytes break the wire format, hold text that is not UTF-8, nest deeper than [`MAX_DEPTH`], or hold a
/// time that the calendar has not. `out` then ends in half a text.
pub fn encode(
    message: Message,
    bytes: &[u8],
    options: &Options<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    out.reserve(bytes.len() * 3 + 64);
    let mut encoder = Encoder::new(out, options);
    encoder.message(message, bytes, Selection::of(options.fields))?;
    if options.layout == Layout::Pretty {
        encoder.text.raw("\n");
    }
    Ok(())
}

/// A walk over messages that writes them; other text may be written between them.
pub(crate) struct Encoder<'o> {
    pub(crate) text: Text<'o>,
    pub(super) enums: Enums,
    /// The fields of the messages being written, innermost last.
    records: Vec<Record>,
    depth: u32,
}

/// The key of a map's entry, and its value where the entry holds one.
pub(super) type Entry<'b> = (&'b [u8], Option<&'b [u8]>);

pub(crate) type Done = Result<(), Malformed>;

impl<'o> Encoder<'o> {
    /// Writes behind what is in `out`.
    pub(crate) fn new(out: &'o mut Vec<u8>, options: &Options<'_>) -> Self {
        let text = Text::new(out, options.layout);
        Encoder { text, enums: options.enums, records: Vec::with_capacity(64), depth: 0 }
    }

    /// Notes the fields of a message, sorted by number, in the order they came within one.
    fn index(&mut self, bytes: &[u8]) -> Result<Range<usize>, Malformed> {
        let start = self.records.len();
        let (mut at, mut last, mut sorted) = (0, 0, true);
        while at < bytes.len() {
            let record = get_record(bytes, &mut at).ok_or(Malformed("field cut short"))?;
            if let Some(record) = record {
                sorted &= record.number >= last;
                last = record.number;
                self.records.push(record);
            }
        }
        if !sorted && let Some(records) = self.records.get_mut(start..) {
            records.sort_by_key(|record| record.number);
        }
        Ok(start..self.records.len())
    }

    /// Goes a level down; [`Self::higher`] comes back.
    pub(super) fn deeper(&mut self) -> Done {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Malformed("too deep")) } else { Ok(()) }
    }

    /// Comes back from a level below.
    pub(super) fn higher(&mut self) {
        self.depth -= 1;
    }

    #[inline]
    fn record(&self, at: usize) -> Option<Record> {
        self.records.get(at).copied()
    }

    /// A message in whatever form it has.
    pub(crate) fn message(&mut self, message: Message, bytes: &[u8], fields: Selection<'_>) -> Done {
        match message.well_known() {
            None | Some(WellKnown::Empty | WellKnown::HttpBody) => {
                self.text.open(b'{');
                self.members(message, bytes, fields)?;
                self.text.close(b'}');
                Ok(())
            }
            Some(known) => self.special(message, known, bytes, fields),
        }
    }

    /// The fields of a message, as members of an object that is open.
    pub(super) fn members(&mut self, message: Message, bytes: &[u8], fields: Selection<'_>) -> Done {
        self.deeper()?;
        let range = self.index(bytes)?;
        let mut at = range.start;
        while let Some(first) = self.record(at).filter(|_| at < range.end) {
            let mut end = at + 1;
            while end < range.end && self.record(end).is_some_and(|next| next.number == first.number) {
                end += 1;
            }
            if let Some(field) = message.field(first.number)
                && let Some(inner) = fields.field(field)
            {
                self.field(message, field, bytes, at..end, &range, inner)?;
            }
            at = end;
        }
        self.records.truncate(range.start);
        self.higher();
        Ok(())
    }

    fn field(
        &mut self,
        message: Message,
        field: Field,
        bytes: &[u8],
        group: Range<usize>,
        all: &Range<usize>,
        fields: Selection<'_>,
    ) -> Done {
        match field.cardinality() {
            Cardinality::Map => self.map(field, bytes, group, fields),
            Cardinality::Repeated => self.list(field, bytes, group, fields),
            cardinality => {
                let kept = cardinality == Cardinality::Optional || field.oneof().is_some();
                let floor = match field.oneof() {
                    Some(oneof) => match self.oneof_floor(message, field, oneof, &group, all) {
                        Some(floor) => floor,
                        None => return Ok(()),
                    },
                    None => 0,
                };
                self.single(field, bytes, group, fields, kept, floor)
            }
        }
    }

    /// Where the last of the other members of a oneof stands: what is before it does not count. `None` when
    /// this field is not the one that was set last.
    fn oneof_floor(
        &self,
        message: Message,
        field: Field,
        oneof: u16,
        group: &Range<usize>,
        all: &Range<usize>,
    ) -> Option<u32> {
        if group == all {
            return Some(0);
        }
        let records = self.records.get(all.clone()).unwrap_or_default();
        let others = records.iter().filter(|record| {
            record.number != field.number()
                && message.field(record.number).is_some_and(|other| other.oneof() == Some(oneof))
        });
        let floor = others.map(|record| record.start).max().unwrap_or(0);
        let last = self.record(group.end - 1)?.start;
        (last >= floor).then_some(floor)
    }

    fn single(
        &mut self,
        field: Field,
        bytes: &[u8],
        group: Range<usize>,
        fields: Selection<'_>,
        kept: bool,
        floor: u32,
    ) -> Done {
        let kind = field.kind();
        let wire = wire_of(kind);
        let mut fitting = group.rev().filter_map(|at| self.record(at)).filter(|record| record.wire == wire);
        let Some(last) = fitting.next() else { return Ok(()) };
        if let Kind::Message(inner) = kind {
            let is_split = fitting.next().is_some_and(|earlier| earlier.start >= floor);
            if is_split {
                let whole = self.join(field, bytes, floor);
                return self.named_message(field, inner, &whole, fields);
            }
            return self.named_message(field, inner, last.slice(bytes), fields);
        }
        let value = last.slice(bytes);
        let is_zero = match wire {
            Wire::Length => value.is_empty(),
            Wire::Varint => value.iter().all(|byte| byte & 0x7f == 0),
            _ => value.iter().all(|byte| *byte == 0),
        };
        if kept || !is_zero {
            self.text.key(field.json_name());
            self.value(kind, value)?;
        }
        Ok(())
    }

    fn named_message(&mut self, field: Field, inner: Message, bytes: &[u8], fields: Selection<'_>) -> Done {
        self.text.key(field.json_name());
        self.message(inner, bytes, fields)
    }

    /// A message that came in parts, put together: as the format has it, parts merge.
    #[cold]
    fn join(&self, field: Field, bytes: &[u8], floor: u32) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut at = 0;
        while let Some(record) = get_record(bytes, &mut at) {
            if let Some(record) = record
                && record.number == field.number()
                && record.wire == Wire::Length
                && record.start >= floor
            {
                whole.extend_from_slice(record.slice(bytes));
            }
        }
        whole
    }

    fn list(&mut self, field: Field, bytes: &[u8], group: Range<usize>, fields: Selection<'_>) -> Done {
        let kind = field.kind();
        let wire = wire_of(kind);
        let fits = |record: Record| {
            record.wire == wire || (record.wire == Wire::Length && record.start != record.end)
        };
        if !group.clone().filter_map(|at| self.record(at)).any(fits) {
            return Ok(());
        }
        self.text.key(field.json_name());
        self.text.open(b'[');
        for at in group {
            let Some(record) = self.record(at) else { continue };
            let value = record.slice(bytes);
            if record.wire == wire {
                self.text.element();
                match kind {
                    Kind::Message(inner) => self.message(inner, value, fields)?,
                    _ => self.value(kind, value)?,
                }
            } else if record.wire == Wire::Length {
                self.packed(kind, value)?;
            }
        }
        self.text.close(b']');
        Ok(())
    }

    fn packed(&mut self, kind: Kind, bytes: &[u8]) -> Done {
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            match wire_of(kind) {
                Wire::Varint => drop(get_varint(bytes, &mut at).ok_or(Malformed("list cut short"))?),
                Wire::Fixed64 => at += 8,
                _ => at += 4,
            }
            let value = bytes.get(start..at).ok_or(Malformed("list cut short"))?;
            self.text.element();
            self.value(kind, value)?;
        }
        Ok(())
    }

    /// A map, its entries in the order of their keys: the same message is always the same text.
    fn map(&mut self, field: Field, bytes: &[u8], group: Range<usize>, fields: Selection<'_>) -> Done {
        let Some((key_field, value_field)) = field.map_entry() else { return Ok(()) };
        let mut entries = Vec::with_capacity(group.len());
        for at in group {
            if let Some(record) = self.record(at).filter(|record| record.wire == Wire::Length) {
                entries.push(self.entry(key_field, value_field, record.slice(bytes))?);
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.text.key(field.json_name());
        self.text.open(b'{');
        self.map_entries(key_field, value_field, entries, fields)?;
        self.text.close(b'}');
        Ok(())
    }

    /// The entries of a map, sorted; of two with the same key the later counts.
    pub(super) fn map_entries(
        &mut self,
        key_field: Field,
        value_field: Field,
        mut entries: Vec<Entry<'_>>,
        fields: Selection<'_>,
    ) -> Done {
        entries.sort_by_key(|(key, _)| *key);
        for (at, (key, value)) in entries.iter().enumerate() {
            let is_last = entries.get(at + 1).is_none_or(|(next, _)| next != key);
            if is_last {
                self.map_entry(key_field, value_field, key, *value, fields)?;
            }
        }
        Ok(())
    }

    /// The key and the value of an entry, as bytes; no value where the entry holds none.
    pub(super) fn entry<'b>(
        &self,
        key: Field,
        value: Field,
        bytes: &'b [u8],
    ) -> Result<Entry<'b>, Malformed> {
        let (mut found_key, mut found_value): (&[u8], _) = (&[], None);
        let mut at = 0;
        while at < bytes.len() {
            let record = get_record(bytes, &mut at).ok_or(Malformed("map entry cut short"))?;
            match record {
                Some(record) if record.number == 1 && record.wire == wire_of(key.kind()) => {
                    found_key = record.slice(bytes);
                }
                Some(record) if record.number == 2 && record.wire == wire_of(value.kind()) => {
                    found_value = Some(record.slice(bytes));
                }
                _ => {}
            }
        }
        Ok((found_key, found_value))
    }

    fn map_entry(
        &mut self,
        key_field: Field,
        value_field: Field,
        key: &[u8],
        value: Option<&[u8]>,
        fields: Selection<'_>,
    ) -> Done {
        let name = key_text(key_field.kind(), key)?;
        let Some(inner) = fields.key(&name) else { return Ok(()) };
        self.text.free_key(&name);
        match (value_field.kind(), value) {
            (Kind::Message(message), value) => self.message(message, value.unwrap_or_default(), inner),
            (kind, Some(value)) => self.value(kind, value),
            (kind, None) => self.value(kind, zero_of(kind)),
        }
    }
}
