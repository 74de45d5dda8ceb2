//! Single values, from bytes to JSON.

use std::borrow::Cow;

use apis::schema::{Enum, Kind};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    encode::{Done, Encoder, Enums, Malformed},
    scalar::wire_of,
    wire::{Wire, get_varint},
};

impl Encoder<'_> {
    /// One value that is no message.
    #[inline]
    pub(super) fn value(&mut self, kind: Kind, bytes: &[u8]) -> Done {
        match kind {
            Kind::String => self.text.string(utf8(bytes)?),
            Kind::Bytes => self.base64(bytes),
            Kind::Bool => self.text.raw(if varint(bytes)? != 0 { "true" } else { "false" }),
            Kind::Int32 => self.text.signed(i64::from(varint(bytes)? as i32)),
            Kind::Uint32 => self.text.unsigned(u64::from(varint(bytes)? as u32)),
            Kind::Sint32 => self.text.signed(i64::from(unzigzag(varint(bytes)?) as i32)),
            Kind::Fixed32 => self.text.unsigned(u32::from_le_bytes(fixed(bytes)?).into()),
            Kind::Sfixed32 => self.text.signed(i32::from_le_bytes(fixed(bytes)?).into()),
            Kind::Float => self.text.single(f32::from_le_bytes(fixed(bytes)?)),
            Kind::Double => self.text.float(f64::from_le_bytes(fixed(bytes)?)),
            Kind::Enum(kind) => self.enumeration(kind, varint(bytes)? as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                let value = match kind {
                    Kind::Int64 => varint(bytes)? as i64,
                    Kind::Sint64 => unzigzag(varint(bytes)?),
                    _ => i64::from_le_bytes(fixed(bytes)?),
                };
                self.text.raw("\"");
                self.text.signed(value);
                self.text.raw("\"");
            }
            Kind::Uint64 | Kind::Fixed64 => {
                let value = match kind {
                    Kind::Uint64 => varint(bytes)?,
                    _ => u64::from_le_bytes(fixed(bytes)?),
                };
                self.text.raw("\"");
                self.text.unsigned(value);
                self.text.raw("\"");
            }
            Kind::Message(_) => return Err(Malformed("message in place of a value")),
        }
        Ok(())
    }

    fn enumeration(&mut self, kind: Enum, number: i32) {
        if kind.is_null_value() {
            return self.text.raw("null");
        }
        match kind.name(number).filter(|_| self.enums == Enums::Names) {
            Some(name) => self.text.quoted(|out| out.extend_from_slice(name.as_bytes())),
            None => self.text.signed(number.into()),
        }
    }
    fn base64(&mut self, bytes: &[u8]) {
        self.text.quoted(|out| {
            let start = out.len();
            let length = bytes.len().div_ceil(3) * 4;
            out.resize(start + length, 0);
            let written = out.get_mut(start..).and_then(|room| STANDARD.encode_slice(bytes, room).ok());
            debug_assert_eq!(written, Some(length), "the room is made to measure");
        });
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("text that is not UTF-8"))
}

pub(super) fn varint(bytes: &[u8]) -> Result<u64, Malformed> {
    get_varint(bytes, &mut 0).ok_or(Malformed("number cut short"))
}

pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed("number cut short"))
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A map's key as text; an absent one is its kind's zero.
pub(super) fn key_text(kind: Kind, bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    let bytes = if bytes.is_empty() { zero_of(kind) } else { bytes };
    Ok(match kind {
        Kind::Bool => Cow::Borrowed(if varint(bytes)? != 0 { "true" } else { "false" }),
        Kind::Int32 | Kind::Int64 => Cow::Owned((varint(bytes)? as i64).to_string()),
        Kind::Uint32 | Kind::Uint64 => Cow::Owned(varint(bytes)?.to_string()),
        Kind::Sint32 | Kind::Sint64 => Cow::Owned(unzigzag(varint(bytes)?).to_string()),
        Kind::Fixed32 => Cow::Owned(u32::from_le_bytes(fixed(bytes)?).to_string()),
        Kind::Fixed64 => Cow::Owned(u64::from_le_bytes(fixed(bytes)?).to_string()),
        Kind::Sfixed32 => Cow::Owned(i32::from_le_bytes(fixed(bytes)?).to_string()),
        Kind::Sfixed64 => Cow::Owned(i64::from_le_bytes(fixed(bytes)?).to_string()),
        _ => Cow::Borrowed(utf8(bytes)?),
    })
}

/// The zero of a kind, as it would stand in a message.
pub(super) fn zero_of(kind: Kind) -> &'static [u8] {
    match wire_of(kind) {
        Wire::Varint => &[0],
        Wire::Fixed64 => &[0; 8],
        Wire::Fixed32 => &[0; 4],
        Wire::Length => &[],
    }
}
