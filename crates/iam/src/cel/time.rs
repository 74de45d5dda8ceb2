//! Moments, lengths of time, and the calendar.

use jiff::{
    Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};

/// Nanoseconds in a second.
pub(super) const NANOS: i128 = 1_000_000_000;

/// What can be asked of a moment (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#datetime-functions>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    /// From 0.
    Month,
    /// Of the month, from 1.
    Date,
    /// Of the month, from 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    /// The part that a method asks for.
    pub(super) fn named(name: &str) -> Option<Part> {
        Some(match name {
            "getFullYear" => Part::Year,
            "getMonth" => Part::Month,
            "getDate" => Part::Date,
            "getDayOfMonth" => Part::DayOfMonth,
            "getDayOfWeek" => Part::DayOfWeek,
            "getDayOfYear" => Part::DayOfYear,
            "getHours" => Part::Hours,
            "getMinutes" => Part::Minutes,
            "getSeconds" => Part::Seconds,
            "getMilliseconds" => Part::Milliseconds,
            _ => return None,
        })
    }

    /// The part of a moment, as clocks in the zone show it; `None` out of the calendar's range.
    pub(super) fn of(self, time: i128, zone: &Zone) -> Option<i64> {
        let local = zone.0.to_datetime(Timestamp::from_nanosecond(time).ok()?);
        Some(match self {
            Part::Year => local.year().into(),
            Part::Month => i64::from(local.month()) - 1,
            Part::Date => local.day().into(),
            Part::DayOfMonth => i64::from(local.day()) - 1,
            Part::DayOfWeek => local.weekday().to_sunday_zero_offset().into(),
            Part::DayOfYear => i64::from(local.day_of_year()) - 1,
            Part::Hours => local.hour().into(),
            Part::Minutes => local.minute().into(),
            Part::Seconds => local.second().into(),
            Part::Milliseconds => local.millisecond().into(),
        })
    }
}

/// Where a clock hangs.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// Where clocks show UTC.
    pub(super) fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// The zone of a name of the IANA database (`Europe/Berlin`) or of an offset (`-08:00`, `05:30`).
    pub(super) fn named(name: &str) -> Option<Zone> {
        if let Some(seconds) = offset(name) {
            return Some(Zone(TimeZone::fixed(Offset::from_seconds(seconds).ok()?)));
        }
        let is_plausible =
            name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
        TimeZone::get(name).ok().filter(|_| is_plausible).map(Zone)
    }
}

/// `+HH:MM`, `-HH:MM` or `HH:MM`, in seconds.
fn offset(name: &str) -> Option<i32> {
    let (sign, digits) = match name.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, name.strip_prefix('+').unwrap_or(name)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<i32>().ok())?
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The moment of an RFC 3339 string, in nanoseconds since 1970.
pub(super) fn timestamp(text: &str) -> Option<i128> {
    // The reader takes more than RFC 3339 does: a zone's name, a time without seconds.
    let bytes = text.as_bytes();
    let is_plain = (20..=40).contains(&bytes.len())
        && bytes[10].eq_ignore_ascii_case(&b'T')
        && bytes[16] == b':'
        && bytes.iter().all(|b| b.is_ascii_digit() || b"-+:.TtZz".contains(b));
    is_plain.then(|| text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond))?
}

/// The first moment of a day such as `2026-01-31`, or the moment of an RFC 3339 string.
pub(super) fn date(text: &str) -> Option<i128> {
    if text.len() != 10 {
        return timestamp(text);
    }
    let day: Date = text.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond())
}

/// The length of a string such as `3600s`, `1h30m` or `1.5h`, in nanoseconds.
pub(super) fn duration(text: &str) -> Option<i128> {
    const UNITS: [(&str, i128); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", NANOS),
        ("m", 60 * NANOS),
        ("h", 3600 * NANOS),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let (unit, size) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(scaled(number, *size)?)?;
        rest = &after[unit.len()..];
    }
    // What a protobuf duration can hold.
    (total <= 315_576_000_000 * NANOS).then_some(sign * total)
}

/// A decimal number of units, in nanoseconds.
fn scaled(number: &str, size: i128) -> Option<i128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + part.len() == 0 || part.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let part = &part[..part.len().min(15)];
    let fraction = digits(part)? * size / 10i128.pow(part.len() as u32);
    digits(whole)?.checked_mul(size)?.checked_add(fraction)
}
