//! The interface tables at run time: messages, enums, methods and their HTTP bindings, read straight from
//! constant data. Nothing is decoded at start and nothing is allocated; a handle is the number of a row.
//!
//! Declined: extensions, comments, source positions, file structure and defaults of proto2. Whoever needs more
//! than the wire and JSON need has the descriptors under `tables`.

mod cells;
mod field;
mod method;

use crate::layout;
use cells::{ENUMS, FIELDS, MESSAGES, SLOTS, VALUES, text};

pub use field::{Behavior, Cardinality, Field, Kind};
pub use method::{HttpBinding, MethodId, Rpc};

/// A message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message(u32);

/// The messages that have a JSON form or a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WellKnown {
    /// `google.protobuf.Any`.
    Any,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.Empty`.
    Empty,
    /// `google.protobuf.FieldMask`.
    FieldMask,
    /// `google.protobuf.ListValue`.
    ListValue,
    /// `google.protobuf.Struct`.
    Struct,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Value`.
    Value,
    /// `google.api.HttpBody`.
    HttpBody,
    /// `google.protobuf.BoolValue` and its siblings: one field, `value`, which the JSON form shows bare.
    Wrapper,
}

/// The well-known kinds, in the order that the build script numbers them; all that follow are wrappers.
const KNOWN: [WellKnown; 9] = [
    WellKnown::Any,
    WellKnown::Duration,
    WellKnown::Empty,
    WellKnown::FieldMask,
    WellKnown::ListValue,
    WellKnown::Struct,
    WellKnown::Timestamp,
    WellKnown::Value,
    WellKnown::HttpBody,
];

impl Message {
    /// All messages, in the order of their names.
    pub fn all() -> impl ExactSizeIterator<Item = Message> {
        (0..MESSAGES.rows as u32).map(Message)
    }

    /// The message of this name, such as `google.cloud.secretmanager.v1.Secret`.
    pub fn by_name(full_name: &str) -> Option<Message> {
        MESSAGES.find(|row| text(row[layout::message::NAME]).cmp(full_name)).map(Message)
    }

    /// Its name with the package.
    pub fn full_name(self) -> &'static str {
        text(self.cell(layout::message::NAME))
    }

    /// Which of the well-known ones it is.
    pub fn well_known(self) -> Option<WellKnown> {
        match (self.cell(layout::message::SHAPE) >> 16) & 0xff {
            0 => None,
            place => Some(KNOWN.get(place as usize - 1).copied().unwrap_or(WellKnown::Wrapper)),
        }
    }

    /// Its fields, in the order of their numbers.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> {
        let first = self.cell(layout::message::FIRST_FIELD);
        (first..first + self.count()).map(Field)
    }

    /// The field of this number. Constant time where numbers run from 1 without gaps.
    pub fn field(self, number: u32) -> Option<Field> {
        let first = self.cell(layout::message::FIRST_FIELD);
        let guess = number.wrapping_sub(1);
        if guess < self.count() && Field(first + guess).number() == number {
            return Some(Field(first + guess));
        }
        let row = FIELDS.find_in(first, self.count(), |row| row[layout::field::NUMBER].cmp(&number));
        row.map(Field)
    }

    /// The field of this JSON name or proto name. Constant time.
    pub fn field_by_json(self, name: &str) -> Option<Field> {
        let last = (1_u32 << (self.cell(layout::message::SHAPE) >> 24)) - 1;
        let mut at = layout::hash(name.as_bytes()) & last;
        loop {
            let slot = slot(self.cell(layout::message::FIRST_SLOT) + at);
            // There is always a free slot: the tables are made a third larger than their contents.
            let place = slot.checked_sub(1)?;
            let field = Field(self.cell(layout::message::FIRST_FIELD) + place);
            if field.json_name() == name || field.name() == name {
                return Some(field);
            }
            at = (at + 1) & last;
        }
    }

    fn count(self) -> u32 {
        self.cell(layout::message::SHAPE) & 0xffff
    }

    fn cell(self, column: usize) -> u32 {
        MESSAGES.cell(self.0, column)
    }
}

/// One 16-bit slot; two share a cell.
fn slot(at: u32) -> u32 {
    (SLOTS.cell(at / 2, 0) >> (at % 2 * 16)) & 0xffff
}

/// An enum type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Enum(u32);

impl Enum {
    /// All enums, in the order of their names.
    pub fn all() -> impl ExactSizeIterator<Item = Enum> {
        (0..ENUMS.rows as u32).map(Enum)
    }

    /// The enum of this name, such as `google.cloud.secretmanager.v1.SecretVersion.State`.
    pub fn by_name(full_name: &str) -> Option<Enum> {
        ENUMS.find(|row| text(row[layout::enumeration::NAME]).cmp(full_name)).map(Enum)
    }

    /// Its name with the package.
    pub fn full_name(self) -> &'static str {
        text(ENUMS.cell(self.0, layout::enumeration::NAME))
    }

    /// Whether it is `google.protobuf.NullValue`, whose JSON form is `null`.
    pub fn is_null_value(self) -> bool {
        self.full_name() == "google.protobuf.NullValue"
    }

    /// The number of the value of this name.
    pub fn number(self, name: &str) -> Option<i32> {
        let first = self.first();
        let at = |row: [u32; 3]| first + row[layout::value::BY_NAME];
        let row = VALUES.find_in(first, self.count(), |row| value_name(at(row)).cmp(name))?;
        Some(value_number(first + VALUES.cell(row, layout::value::BY_NAME)))
    }

    /// The name of the value of this number; of several, the one declared first.
    pub fn name(self, number: i32) -> Option<&'static str> {
        let (first, end) = (self.first(), self.first() + self.count());
        let row = VALUES.partition(first, end, |row| (row[layout::value::NUMBER] as i32) < number);
        (row < end && value_number(row) == number).then(|| value_name(row))
    }

    /// Its values in the order of their numbers.
    pub fn values(self) -> impl ExactSizeIterator<Item = (&'static str, i32)> {
        (self.first()..self.first() + self.count()).map(|row| (value_name(row), value_number(row)))
    }

    fn first(self) -> u32 {
        ENUMS.cell(self.0, layout::enumeration::FIRST_VALUE)
    }

    fn count(self) -> u32 {
        ENUMS.cell(self.0, layout::enumeration::COUNT)
    }
}

fn value_name(row: u32) -> &'static str {
    text(VALUES.cell(row, layout::value::NAME))
}

fn value_number(row: u32) -> i32 {
    VALUES.cell(row, layout::value::NUMBER) as i32
}
