//! Moments and lengths of time in microseconds, which is what Google keeps of them.

use std::{str::FromStr, time::SystemTime};

use prost_types::{Duration, Timestamp};

/// Microseconds: since 1970 for a moment, else in all. Nothing here lies before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

const SECOND: u64 = 1_000_000;
/// The last second that `google.protobuf.Timestamp` allows: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

impl Micros {
    /// A length of time, or a moment, in whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Micros(seconds * SECOND)
    }

    /// This much later, and at the latest as late as Google's timestamps go.
    pub fn later(self, by: Micros) -> Self {
        Micros(self.0.saturating_add(by.0).min(LAST_SECOND * SECOND))
    }
}

impl From<SystemTime> for Micros {
    fn from(time: SystemTime) -> Self {
        Micros(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64)
    }
}

impl From<Micros> for Timestamp {
    fn from(Micros(micros): Micros) -> Self {
        Timestamp { seconds: (micros / SECOND) as i64, nanos: (micros % SECOND * 1000) as i32 }
    }
}

impl From<Micros> for Duration {
    fn from(Micros(micros): Micros) -> Self {
        Duration { seconds: (micros / SECOND) as i64, nanos: (micros % SECOND * 1000) as i32 }
    }
}

/// The moment in a timestamp; `None` when it is out of the range that Google allows or before 1970.
pub fn from_timestamp(time: &Timestamp) -> Option<Micros> {
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LAST_SECOND)?;
    join(seconds, time.nanos)
}

/// The length in a duration; `None` when it is negative or out of the range that Google allows.
pub fn from_duration(duration: &Duration) -> Option<Micros> {
    let seconds = u64::try_from(duration.seconds).ok().filter(|seconds| *seconds <= 315_576_000_000)?;
    join(seconds, duration.nanos)
}

/// Reads RFC 3339, such as `2026-01-31T12:00:00Z`.
pub fn parse_time(text: &str) -> Option<Micros> {
    // The reader takes any length of digits; nothing that long is a time.
    let plausible = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_digit());
    plausible.then(|| Timestamp::from_str(text).ok())?.as_ref().and_then(from_timestamp)
}

/// Reads seconds, such as `3600s` or `0.5s`.
pub fn parse_duration(text: &str) -> Option<Micros> {
    let plausible = text.len() <= 40 && text.starts_with(|c: char| c.is_ascii_digit());
    plausible.then(|| Duration::from_str(text).ok())?.as_ref().and_then(from_duration)
}

fn join(seconds: u64, nanos: i32) -> Option<Micros> {
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Micros(seconds * SECOND + nanos / 1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(parse_time("2026-01-01T00:00:00Z"), Some(Micros(1_767_225_600_000_000)));
        assert_eq!(parse_time("2026-01-01T02:00:00.000001+02:00"), Some(Micros(1_767_225_600_000_001)));
        assert_eq!(parse_duration("0.5s"), Some(Micros(500_000)));
        for bad in ["", "now", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "-5s", "5m"] {
            assert_eq!((parse_time(bad), parse_duration(bad)), (None, None), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:.+ s-]{0,40}") {
            let _ = (parse_time(&text), parse_duration(&text));
        }

        #[test]
        fn timestamps_survive_the_round_trip(micros in 0u64..LAST_SECOND * SECOND) {
            prop_assert_eq!(from_timestamp(&Micros(micros).into()), Some(Micros(micros)));
        }
    }
}
