//! How the schema is laid out, for the build script that writes it and the accessors that read it.
//!
//! The schema is an array of 32-bit little-endian cells and a pool of text. A table is a run of rows of the same
//! number of cells, and its rows are numbered from 0; there are no pointers. A cell that holds text has the text's
//! place in the pool in the upper bits and its length in the lower [`LENGTH_BITS`].

/// How many bits of a text cell are the length.
pub(crate) const LENGTH_BITS: u32 = 11;

/// A message, in the order of full names: name, first field, shape, first hash slot.
pub(crate) mod message {
    pub(crate) const CELLS: usize = 4;
    pub(crate) const NAME: usize = 0;
    pub(crate) const FIRST_FIELD: usize = 1;
    /// Number of fields, well-known kind from bit 16, binary logarithm of the hash slots from bit 24.
    pub(crate) const SHAPE: usize = 2;
    pub(crate) const FIRST_SLOT: usize = 3;
}

/// A field, in the order of numbers within its message: number, name, JSON name, type, traits.
pub(crate) mod field {
    pub(crate) const CELLS: usize = 5;
    pub(crate) const NUMBER: usize = 0;
    pub(crate) const NAME: usize = 1;
    pub(crate) const JSON: usize = 2;
    /// The row of the message or enum that it holds.
    pub(crate) const TYPE: usize = 3;
    /// Kind as `FieldDescriptorProto.Type` numbers it, cardinality from bit 5, packed at bit 7, a bit for each
    /// behavior from bit 8, oneof plus one from bit 17.
    pub(crate) const TRAITS: usize = 4;
    pub(crate) const CARDINALITY_SHIFT: u32 = 5;
    pub(crate) const PACKED_SHIFT: u32 = 7;
    pub(crate) const BEHAVIOR_SHIFT: u32 = 8;
    pub(crate) const ONEOF_SHIFT: u32 = 17;
}

/// An enum, in the order of full names: name, first value, number of values.
pub(crate) mod enumeration {
    pub(crate) const CELLS: usize = 3;
    pub(crate) const NAME: usize = 0;
    pub(crate) const FIRST_VALUE: usize = 1;
    pub(crate) const COUNT: usize = 2;
}

/// A value of an enum, in the order of numbers, of equal numbers the first declared first: number, name, and in
/// the third cell, of the enum's values in the order of names, the place of the one whose turn it is.
pub(crate) mod value {
    pub(crate) const CELLS: usize = 3;
    pub(crate) const NUMBER: usize = 0;
    pub(crate) const NAME: usize = 1;
    pub(crate) const BY_NAME: usize = 2;
}

/// A method, in the order of service and name: name, gRPC path, host, input, output, first binding, shape.
pub(crate) mod method {
    pub(crate) const CELLS: usize = 7;
    pub(crate) const NAME: usize = 0;
    pub(crate) const GRPC_PATH: usize = 1;
    pub(crate) const HOST: usize = 2;
    pub(crate) const INPUT: usize = 3;
    pub(crate) const OUTPUT: usize = 4;
    pub(crate) const FIRST_BINDING: usize = 5;
    /// Number of bindings, client streaming at bit 16, server streaming at bit 17.
    pub(crate) const SHAPE: usize = 6;
    pub(crate) const CLIENT_STREAMING: u32 = 1 << 16;
    pub(crate) const SERVER_STREAMING: u32 = 1 << 17;
}

/// An HTTP binding: verb, template, body, response body.
pub(crate) mod binding {
    pub(crate) const CELLS: usize = 4;
    pub(crate) const VERB: usize = 0;
    pub(crate) const TEMPLATE: usize = 1;
    pub(crate) const BODY: usize = 2;
    pub(crate) const RESPONSE_BODY: usize = 3;
}

/// The hash that a message's fields are found by, under the JSON name and the proto name (FNV-1a). A slot is
/// 16 bits, half a cell; it holds a field's place in the message plus one, or 0. What does not fit is in the
/// next free slot.
pub(crate) const fn hash(name: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash ^ (hash >> 15)
}
