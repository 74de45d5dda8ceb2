//! The parts of protobuf's wire format: tags, varints, lengths.

/// How the value of a field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Seven bits a byte, the least significant first.
    Varint = 0,
    /// Eight bytes.
    Fixed64 = 1,
    /// A length, and that many bytes.
    Length = 2,
    /// Four bytes.
    Fixed32 = 5,
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag of a field.
#[inline]
pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire: Wire) {
    put_varint(out, u64::from(number) << 3 | wire as u64);
}

/// Appends a field of bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, Wire::Length);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A length that is filled in once what it measures has been written behind it.
#[derive(Clone, Copy)]
pub(crate) struct Length(usize);

impl Length {
    /// Leaves room for a length.
    pub(crate) fn open(out: &mut Vec<u8>) -> Self {
        out.push(0);
        Length(out.len())
    }

    /// Fills it in. Anything of 128 bytes or more moves by up to nine bytes: once a level, and levels are few.
    pub(crate) fn close(self, out: &mut Vec<u8>) {
        let length = out.len() - self.0;
        if length < 0x80 {
            out[self.0 - 1] = length as u8;
            return;
        }
        // The varint is made behind the contents, which leaves room for them to move over.
        let end = out.len();
        put_varint(out, length as u64);
        let size = out.len() - end;
        let mut prefix = [0; 10];
        prefix[..size].copy_from_slice(&out[end..]);
        out.truncate(end + size - 1);
        out.copy_within(self.0..end, self.0 + size - 1);
        out[self.0 - 1..self.0 + size - 1].copy_from_slice(&prefix[..size]);
    }
}

/// Reads a varint at `at` and moves past it; `None` when it is cut short or longer than ten bytes.
#[inline(always)]
pub(crate) fn get_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 { Some(u64::from(first)) } else { get_long_varint(bytes, at, first) }
}

#[inline(never)]
fn get_long_varint(bytes: &[u8], at: &mut usize, first: u8) -> Option<u64> {
    let mut value = u64::from(first & 0x7f);
    for shift in (7..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// One field as it stands in a message: its value lies at `start..end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) number: u32,
    pub(crate) wire: Wire,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Record {
    /// The bytes of the value, of the message it was read from.
    #[inline]
    pub(crate) fn slice<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Reads the field at `at` and moves past it. Groups are passed over: `Some(None)`.
// Inlined by force: handed back through memory, the result costs a third of writing a message.
#[inline(always)]
pub(crate) fn get_record(bytes: &[u8], at: &mut usize) -> Option<Option<Record>> {
    let tag = get_varint(bytes, at)?;
    let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n))?;
    let (wire, start) = match tag & 7 {
        0 => {
            let start = *at;
            get_varint(bytes, at)?;
            (Wire::Varint, start)
        }
        1 => (Wire::Fixed64, step(bytes, at, 8)?),
        2 => {
            let length = get_varint(bytes, at)?;
            (Wire::Length, step(bytes, at, usize::try_from(length).ok()?)?)
        }
        3 => return skip_group(bytes, at).map(|()| None),
        5 => (Wire::Fixed32, step(bytes, at, 4)?),
        _ => return None,
    };
    let (start, end) = (u32::try_from(start).ok()?, u32::try_from(*at).ok()?);
    Some(Some(Record { number, wire, start, end }))
}

fn step(bytes: &[u8], at: &mut usize, length: usize) -> Option<usize> {
    let start = *at;
    *at = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    Some(start)
}

#[cold]
fn skip_group(bytes: &[u8], at: &mut usize) -> Option<()> {
    let mut open = 1u32;
    while open > 0 {
        let tag = get_varint(bytes, at)?;
        match tag & 7 {
            0 => drop(get_varint(bytes, at)?),
            1 => drop(step(bytes, at, 8)?),
            2 => {
                let length = get_varint(bytes, at)?;
                step(bytes, at, usize::try_from(length).ok()?)?;
            }
            3 => open += 1,
            4 => open -= 1,
            5 => drop(step(bytes, at, 4)?),
            _ => return None,
        }
    }
    Some(())
}
