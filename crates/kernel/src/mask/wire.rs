//! Encoded messages as a list of records, nothing decoded inside.

use super::damaged;
use crate::Result;

/// One record of an encoded message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'b> {
    /// The field.
    pub(super) number: u32,
    /// The record, tag included.
    pub(super) raw: &'b [u8],
    /// What a length-delimited record holds; empty for numbers.
    pub(super) payload: &'b [u8],
}

/// Takes a message apart.
pub(super) fn items(message: &[u8]) -> Result<Vec<Item<'_>>> {
    let mut items = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (item, after) = item(rest).ok_or_else(damaged)?;
        items.push(item);
        rest = after;
    }
    Ok(items)
}

/// The first record, and what comes after it. Groups are older than anything we meet and not taken.
fn item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (tag, rest) = varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
    let (payload, rest) = match tag & 7 {
        0 => (&[][..], varint(rest)?.1),
        1 => (&[][..], rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.split_at_checked(usize::try_from(length).ok()?)?
        }
        5 => (&[][..], rest.get(4..)?),
        _ => return None,
    };
    let raw = &bytes[..bytes.len() - rest.len()];
    Some((Item { number, raw, payload }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

/// Appends a length-delimited record.
pub(super) fn put_bytes(message: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_varint(message, u64::from(number) << 3 | 2);
    put_varint(message, payload.len() as u64);
    message.extend_from_slice(payload);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}
