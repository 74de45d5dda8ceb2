//! Walks encoded protobuf without decoding it: a search looks at a few fields of very many entries. And writes it
//! without a message to encode, for entries of which there are as many.

use std::fmt;

/// The value of one field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    /// An integer, a flag or an enum.
    Varint(u64),
    /// Eight bytes: of ours, only a double.
    Fixed64(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes. None of ours.
    Fixed32(u32),
}

/// The fields of an encoded message, in order. It ends where the bytes stop making sense.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Wire<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (value, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(value)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return None,
        };
        Some((number, value))
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }
}

/// An encoded message that grows at the end of a buffer. Fields that have their default value are left out, as proto3
/// has it.
pub(crate) struct Message<'a>(pub(crate) &'a mut Vec<u8>);

impl Message<'_> {
    /// A field with text.
    pub(crate) fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.texts(number, [text]);
        }
    }

    /// A field with several texts joined, also when all of them are empty.
    pub(crate) fn texts<const N: usize>(&mut self, number: u32, texts: [&str; N]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(texts.iter().map(|text| text.len() as u64).sum());
        texts.iter().for_each(|text| self.0.extend_from_slice(text.as_bytes()));
    }

    /// A field with an integer that is not negative, or a flag.
    pub(crate) fn number(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
    }

    /// A field whose content is written by `fill`, also when that is nothing.
    pub(crate) fn message(&mut self, number: u32, fill: impl FnOnce(&mut Message<'_>)) {
        self.varint(u64::from(number) << 3 | 2);
        let start = self.0.len();
        fill(&mut Message(self.0));
        let end = self.0.len();
        // The length is known now: written behind, and brought to where it belongs.
        self.varint((end - start) as u64);
        let width = self.0.len() - end;
        self.0[start..].rotate_right(width);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl fmt::Write for Message<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The key and the value of an encoded map entry; the value is that of the last field 2.
pub(crate) fn map_entry(bytes: &[u8]) -> (&[u8], Option<Wire<'_>>) {
    let (mut key, mut value) = (&[][..], None);
    for field in Fields(bytes) {
        match field {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, wire) => value = Some(wire),
            _ => {}
        }
    }
    (key, value)
}

/// Text in a field that may be anything.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn fields_are_seen_in_order() {
        let value = prost_types::Any { type_url: "t".into(), value: vec![1, 2] };
        let bytes = value.encode_to_vec();
        let seen: Vec<_> = Fields(&bytes).collect();
        assert_eq!(seen, [(1, Wire::Bytes(b"t")), (2, Wire::Bytes(&[1, 2]))]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, value) in Fields(&bytes) {
                if let Wire::Bytes(inner) = value {
                    let _ = map_entry(inner);
                }
            }
        }
    }
}
