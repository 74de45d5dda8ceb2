//! Fields of messages.

use super::{
    Enum, Message,
    cells::{FIELDS, text},
};
use crate::layout::field as layout;

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(pub(super) u32);

/// What a field holds; of a repeated one, what each element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are protobuf's")]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Bytes,
    Uint32,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
    /// Of a map, its entry message.
    Message(Message),
    Enum(Enum),
}

/// How many values a field has, and whether one that is zero differs from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One, and zero is the same as none: a plain proto3 scalar or enum.
    Single,
    /// One or none: a message, a member of a oneof, or a scalar that is declared optional.
    Optional,
    /// Any number.
    Repeated,
    /// Any number, one for each key.
    Map,
}

/// What an API says about who sets a field: the `google.api.field_behavior` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behavior(u32);

impl Behavior {
    /// Must be given.
    pub fn required(self) -> bool {
        self.has(2)
    }

    /// Set by the service; what a request says is ignored.
    pub fn output_only(self) -> bool {
        self.has(3)
    }

    /// Given in requests and never shown in answers.
    pub fn input_only(self) -> bool {
        self.has(4)
    }

    /// Cannot be changed once it is set.
    pub fn immutable(self) -> bool {
        self.has(5)
    }

    /// The name of a resource, which an update looks it up by.
    pub fn identifier(self) -> bool {
        self.has(8)
    }

    /// Whether it has the behavior of this number in `google.api.FieldBehavior`.
    fn has(self, number: u32) -> bool {
        self.0 >> number & 1 == 1
    }
}

impl Field {
    /// Its number on the wire.
    pub fn number(self) -> u32 {
        self.cell(layout::NUMBER)
    }

    /// Its name in the proto file, such as `create_time`.
    pub fn name(self) -> &'static str {
        text(self.cell(layout::NAME))
    }

    /// Its name in JSON, such as `createTime`.
    pub fn json_name(self) -> &'static str {
        text(self.cell(layout::JSON))
    }

    /// What it holds; of a repeated one, what each element is.
    pub fn kind(self) -> Kind {
        match self.traits() & 0x1f {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum(Enum(self.cell(layout::TYPE))),
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            _ => Kind::Message(Message(self.cell(layout::TYPE))),
        }
    }

    /// How many values it has.
    pub fn cardinality(self) -> Cardinality {
        match self.traits() >> layout::CARDINALITY_SHIFT & 3 {
            0 => Cardinality::Single,
            1 => Cardinality::Optional,
            2 => Cardinality::Repeated,
            _ => Cardinality::Map,
        }
    }

    /// Whether its values are written as one run of bytes. Readers must take both forms.
    pub fn packed(self) -> bool {
        self.traits() >> layout::PACKED_SHIFT & 1 == 1
    }

    /// The key and the value of a map.
    pub fn map_entry(self) -> Option<(Field, Field)> {
        match (self.cardinality(), self.kind()) {
            (Cardinality::Map, Kind::Message(entry)) => Some((entry.field(1)?, entry.field(2)?)),
            _ => None,
        }
    }

    /// Which of its message's oneofs it belongs to, counted from 0; those that only stand for an optional
    /// scalar do not count.
    pub fn oneof(self) -> Option<u16> {
        (self.traits() >> layout::ONEOF_SHIFT).checked_sub(1).map(|oneof| oneof as u16)
    }

    /// Who sets it. Known only for APIs that have a proto.
    pub fn behavior(self) -> Behavior {
        Behavior(
            self.traits() >> layout::BEHAVIOR_SHIFT
                & ((1 << (layout::ONEOF_SHIFT - layout::BEHAVIOR_SHIFT)) - 1),
        )
    }

    fn traits(self) -> u32 {
        self.cell(layout::TRAITS)
    }

    fn cell(self, column: usize) -> u32 {
        FIELDS.cell(self.0, column)
    }
}
