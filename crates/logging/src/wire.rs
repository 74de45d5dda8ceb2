//! Walks encoded protobuf without decoding it: a search looks at a few fields of very many entries.

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
    use prost::Message;

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
