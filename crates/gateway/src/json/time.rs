//! Timestamps, durations and field masks in their JSON forms.

use std::io::Write;

/// Seconds since 1970 and nanoseconds within the second, as both protobuf types hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const TIMESTAMPS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Ten thousand years, as `google/protobuf/duration.proto` bounds them.
const DURATION: i64 = 315_576_000_000;
const NANOS: i32 = 1_000_000_000;

/// Reads a time by RFC 3339; the offset may be any, and the fraction has up to nine digits.
pub(crate) fn parse_timestamp(text: &str) -> Result<Parts, String> {
    let bytes = text.as_bytes();
    if !ends_in_offset(bytes) {
        return Err(
            "Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone offset.".into(),
        );
    }
    let parts = timestamp_parts(bytes).ok_or_else(|| format!("Invalid time format: {text}"))?;
    if !TIMESTAMPS.contains(&parts.seconds) {
        return Err("Timestamp value exceeds limits".into());
    }
    Ok(parts)
}

fn ends_in_offset(bytes: &[u8]) -> bool {
    match bytes {
        [.., b'Z' | b'z'] => true,
        [.., sign @ (b'+' | b'-'), _, _, b':', _, _] => bytes.len() > 16 || *sign == b'+',
        _ => false,
    }
}

fn timestamp_parts(bytes: &[u8]) -> Option<Parts> {
    let fixed = |at: usize, byte: u8| bytes.get(at).is_some_and(|b| b.eq_ignore_ascii_case(&byte));
    let shaped = fixed(4, b'-') && fixed(7, b'-') && fixed(10, b't') && fixed(13, b':') && fixed(16, b':');
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !shaped || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = fraction(bytes.get(19..)?)?;
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Parts { seconds: seconds - offset(rest)?, nanos })
}

/// The nanoseconds in `.123…`, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = digits(rest.get(..length)?).filter(|_| (1..=9).contains(&length))?;
    let nanos = value * 10_i64.pow(9 - length as u32);
    Some((i32::try_from(nanos).ok()?, rest.get(length..)?))
}

fn offset(bytes: &[u8]) -> Option<i64> {
    let (sign, rest) = match bytes {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = (digits(rest.get(..2)?)?, digits(rest.get(3..)?)?);
    let shaped = rest.len() == 5 && rest.get(2) == Some(&b':') && hours <= 23 && minutes <= 59;
    shaped.then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |value, b| {
        b.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(i64::from(b - b'0')))?
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the day
/// that leap years add is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Appends a time as RFC 3339 in UTC, with no, three, six or nine digits of fraction; `None` when it is no
/// time of the calendar.
pub(crate) fn write_timestamp(parts: Parts, out: &mut Vec<u8>) -> Option<()> {
    if !TIMESTAMPS.contains(&parts.seconds) || !(0..NANOS).contains(&parts.nanos) {
        return None;
    }
    let (year, month, day) = civil_from_days(parts.seconds.div_euclid(86_400));
    let second = parts.seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    pad(out, year, 4);
    for (mark, value) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
        out.push(mark);
        pad(out, value, 2);
    }
    write_fraction(parts.nanos, out);
    out.push(b'Z');
    Some(())
}

fn pad(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_i64.pow(place) % 10) as u8);
    }
}

fn write_fraction(nanos: i32, out: &mut Vec<u8>) {
    let nanos = i64::from(nanos);
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    if nanos % 1_000_000 == 0 {
        pad(out, nanos / 1_000_000, 3);
    } else if nanos % 1000 == 0 {
        pad(out, nanos / 1000, 6);
    } else {
        pad(out, nanos, 9);
    }
}

/// Reads a duration such as `3.5s`; digits past the ninth do not count.
pub(crate) fn parse_duration(text: &str) -> Result<Parts, String> {
    let Some(number) = text.strip_suffix('s') else {
        return Err("Illegal duration format; duration must end with 's'".into());
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let seconds = digits(whole.as_bytes())
        .filter(|_| !whole.is_empty())
        .ok_or("Invalid duration format, failed to parse seconds")?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err("Invalid duration format, failed to parse nano seconds".into());
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |value, b| value * 10 + i32::from(b - b'0'));
    if seconds > DURATION {
        return Err("Duration value exceeds limits".into());
    }
    let sign = if negative { -1 } else { 1 };
    Ok(Parts { seconds: seconds * i64::from(sign), nanos: nanos * sign })
}

/// Appends a duration; `None` when it is longer than ten thousand years or its parts disagree in sign.
pub(crate) fn write_duration(parts: Parts, out: &mut Vec<u8>) -> Option<()> {
    let Parts { seconds, nanos } = parts;
    let agree = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !agree || seconds.unsigned_abs() > DURATION.unsigned_abs() || nanos.unsigned_abs() >= NANOS as u32 {
        return None;
    }
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    write!(out, "{}", seconds.unsigned_abs()).ok()?;
    write_fraction(nanos.abs(), out);
    out.push(b's');
    Some(())
}

/// The paths of a field mask as the proto file names them, from `a,b.cD`.
pub(crate) fn mask_paths(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(',').filter(|path| !path.is_empty()).map(snake_case)
}

fn snake_case(path: &str) -> String {
    let mut name = String::with_capacity(path.len() + 4);
    let mut quoted = false;
    for char in path.chars() {
        quoted ^= matches!(char, '"' | '`');
        if char.is_ascii_uppercase() && !quoted {
            name.push('_');
            name.push(char.to_ascii_lowercase());
        } else {
            name.push(char);
        }
    }
    name
}

/// Appends one path of a field mask in lower camel case. What that has no form for, such as a name in quotes, stays as
/// it is, so that it is read as what it was.
pub(crate) fn write_mask_path(path: &str, out: &mut String) {
    let mut quoted = false;
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        quoted ^= matches!(char, '"' | '`');
        let raised = chars.next_if(|next| char == '_' && !quoted && next.is_ascii_lowercase());
        out.push(raised.map_or(char, |letter| letter.to_ascii_uppercase()));
    }
}
