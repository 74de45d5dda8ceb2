//! One record as it lies in a segment: an entry, or the fields that the entries of a stream share.
//!
//! A record is a head of fixed size and a body. An entry's body holds, as `google.logging.v2.LogEntry` encodes
//! them, the fields that stand neither in the head nor in its stream; records are never written again, so no
//! older binary can lose a newer one's fields. All numbers are little-endian.

use apis::google::logging::{r#type::LogSeverity, v2::LogEntry};
use prost::Message;

use crate::filter::View;

/// The bytes of a head: length, checksum, kind, severity, stream, moment, arrival.
pub(crate) const HEAD: usize = 28;
/// No record is longer: an entry has at most 256 KiB, and what is filled in.
pub(crate) const LONGEST: usize = 1 << 20;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The shared fields of the stream that it names.
    Stream,
    /// An entry.
    Entry,
}

/// The head of a record, but for its length and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// As Google numbers it, in whole hundreds.
    pub(crate) severity: u16,
    /// The stream it belongs to, within its segment.
    pub(crate) stream: u16,
    /// When it happened, in nanoseconds since 1970.
    pub(crate) time: i64,
    /// When it arrived, in nanoseconds since 1970.
    pub(crate) received: i64,
}

/// When an entry happened and arrived, and how grave it is; as in a [`Head`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) severity: u16,
    pub(crate) time: i64,
    pub(crate) received: i64,
}

/// An entry on its way to the disk.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) severity: u16,
    pub(crate) time: i64,
    pub(crate) received: i64,
    /// The encoded fields that it shares with its stream.
    pub(crate) shared: std::sync::Arc<[u8]>,
    /// The encoded fields of its own.
    pub(crate) own: Vec<u8>,
}

/// A record found in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) head: Head,
    pub(crate) body: &'a [u8],
    /// All of it.
    pub(crate) bytes: &'a [u8],
}

/// Appends a record.
pub(crate) fn append(buffer: &mut Vec<u8>, head: &Head, body: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(&((HEAD + body.len()) as u32).to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.push(matches!(head.kind, Kind::Entry).into());
    buffer.push((head.severity / 100) as u8);
    buffer.extend_from_slice(&head.stream.to_le_bytes());
    buffer.extend_from_slice(&head.time.to_le_bytes());
    buffer.extend_from_slice(&head.received.to_le_bytes());
    buffer.extend_from_slice(body);
    let checksum = checksum(&buffer[start..]);
    buffer[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// The record at the front of a buffer, unchecked; `None` when there is none in full.
pub(crate) fn first(buffer: &[u8]) -> Option<Found<'_>> {
    let length = u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    let bytes = buffer.get(..length).filter(|_| (HEAD..=LONGEST).contains(&length))?;
    let head = Head {
        kind: match bytes[8] {
            0 => Kind::Stream,
            1 => Kind::Entry,
            _ => return None,
        },
        severity: u16::from(bytes[9]) * 100,
        stream: u16::from_le_bytes([bytes[10], bytes[11]]),
        time: i64::from_le_bytes(*bytes[12..].first_chunk()?),
        received: i64::from_le_bytes(*bytes[20..].first_chunk()?),
    };
    Some(Found { head, body: &bytes[HEAD..], bytes })
}

impl Found<'_> {
    /// Whether it is as it was written.
    pub(crate) fn intact(&self) -> bool {
        self.bytes[4..8] == checksum(self.bytes).to_le_bytes()
    }
}

/// Of the length, and of everything behind the checksum.
fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

/// Takes an entry apart into what is written: the head's fields, the stream's, and its own.
pub(crate) fn split(mut entry: LogEntry, received: i64) -> Pending {
    let time = entry.timestamp.take().map_or(received, |time| nanos(&time));
    let severity = severity_number(std::mem::take(&mut entry.severity));
    entry.receive_timestamp = None;
    let shared = LogEntry {
        log_name: std::mem::take(&mut entry.log_name),
        resource: entry.resource.take(),
        ..LogEntry::default()
    };
    let shared = shared.encode_to_vec().into();
    Pending { severity, time, received, shared, own: entry.encode_to_vec() }
}

/// Puts an entry together again; `None` when it cannot be read.
pub(crate) fn join(view: &View<'_>) -> Option<LogEntry> {
    let mut entry = LogEntry::decode(view.shared).ok()?;
    entry.merge(view.own).ok()?;
    entry.timestamp = Some(timestamp(view.time));
    entry.receive_timestamp = Some(timestamp(view.received));
    entry.severity = view.severity.into();
    Some(entry)
}

/// A severity by its name, whatever its case.
pub(crate) fn severity_named(name: &str) -> Option<u16> {
    LogSeverity::from_str_name(&name.to_ascii_uppercase()).map(|severity| severity as u16)
}

/// The name of a severity.
pub(crate) fn severity_name(severity: u16) -> &'static str {
    LogSeverity::try_from(i32::from(severity)).unwrap_or_default().as_str_name()
}

/// A severity in whole hundreds, as Google rounds other numbers down.
pub(crate) fn severity_number(severity: i32) -> u16 {
    (severity.clamp(0, 899) / 100 * 100) as u16
}

/// A moment in nanoseconds since 1970. Those out of range become the nearest one.
pub(crate) fn nanos(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos.into())
}

/// Nanoseconds since 1970 as Google's APIs carry them.
pub(crate) fn timestamp(nanos: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

/// RFC 3339 as nanoseconds since 1970; `None` for what is no such time, or is before 1970 or after 2262.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    // The reader takes any length of digits; nothing that long is a time.
    let plausible = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_digit());
    let time: prost_types::Timestamp = plausible.then(|| text.parse().ok())??;
    let nanos = nanos(&time);
    (0..i64::MAX).contains(&nanos).then_some(nanos)
}

/// Nanoseconds since 1970 as RFC 3339.
pub(crate) fn format_time(nanos: i64) -> String {
    timestamp(nanos).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> Head {
        Head { kind: Kind::Entry, severity: 500, stream: 3, time: 7, received: -1 }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut buffer = Vec::new();
        append(&mut buffer, &head(), b"body");
        let found = first(&buffer).unwrap();
        assert!(found.intact());
        assert_eq!((found.head, found.body), (head(), &b"body"[..]));
        assert!(first(&buffer[..buffer.len() - 1]).is_none(), "a torn record is none");
    }

    #[test]
    fn moments_keep_their_nanoseconds() {
        let nanos = parse_time("2026-01-31T12:00:00.123456789Z").unwrap();
        assert_eq!(format_time(nanos), "2026-01-31T12:00:00.123456789Z");
        assert_eq!(parse_time("2026-01-31T14:00:00.123456789+02:00"), Some(nanos));
        assert_eq!(parse_time("soon"), None);
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_noticed(at in 0usize..HEAD + 4, flip in 1u8..) {
            let mut buffer = Vec::new();
            append(&mut buffer, &head(), b"body");
            buffer[at] ^= flip;
            prop_assert!(!first(&buffer).is_some_and(|found| found.intact()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(found) = first(&bytes) {
                let _ = found.intact();
            }
        }
    }
}
