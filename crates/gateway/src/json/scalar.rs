//! Single values: what a JSON token means to a field, as bytes of the wire format.
//!
//! Strings stand in for numbers, flags and enums, as in query parameters and as JSON writes 64-bit integers.

use std::borrow::Cow;

use apis::schema::{Enum, Field, Kind};
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    Path, Problems,
    problems::shorten,
    reader::{Number, NumberValue},
    wire::{Length, Wire, put_tag, put_varint},
};

/// A token that holds one value.
#[derive(Debug)]
pub(crate) enum Scalar<'j> {
    Text(Cow<'j, str>),
    Number(Number<'j>),
    Bool(bool),
    Null,
}

impl Scalar<'_> {
    /// The value as errors repeat it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Scalar::Text(text) => format!("\"{}\"", shorten(text)),
            Scalar::Number(number) => shorten(number.text).to_owned(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Null => "null".to_owned(),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Scalar::Number(number) => whole(number.value),
            Scalar::Text(text) => match text.parse::<i128>() {
                Ok(value) => Some(value),
                Err(_) => whole(NumberValue::Float(finite(text)?)),
            },
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Scalar::Number(Number { value, .. }) => Some(match *value {
                NumberValue::Unsigned(value) => value as f64,
                NumberValue::Negative(value) => value as f64,
                NumberValue::Float(value) => value,
            }),
            Scalar::Text(text) => match text.as_ref() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                text => finite(text),
            },
            _ => None,
        }
    }

    fn single(&self) -> Option<f32> {
        let value = self.float()?;
        let single = value as f32;
        (single.is_finite() || !value.is_finite()).then_some(single)
    }

    fn bool(&self) -> Option<bool> {
        match self {
            Scalar::Bool(value) => Some(*value),
            Scalar::Text(text) => match text.as_ref() {
                "true" => Some(true),
                "false" => Some(false),
                text if is_one_of(text, &["true", "t", "yes", "y", "1"]) => Some(true),
                text if is_one_of(text, &["false", "f", "no", "n", "0"]) => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The number of an enum's value: by its name, by its number, or by its name in another case.
    fn enumeration(&self, kind: Enum) -> Option<i32> {
        match self {
            Scalar::Text(text) => kind
                .number(text)
                .or_else(|| text.parse().ok().filter(|number| kind.name(*number).is_some()))
                .or_else(|| kind.number(&text.to_ascii_uppercase().replace('-', "_"))),
            Scalar::Null => Some(0),
            _ => self.integer().and_then(|value| i32::try_from(value).ok()),
        }
    }
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn whole(value: NumberValue) -> Option<i128> {
    match value {
        NumberValue::Unsigned(value) => Some(value.into()),
        NumberValue::Negative(value) => Some(value.into()),
        NumberValue::Float(value) if value.fract() == 0.0 && value.abs() < 1e20 => Some(value as i128),
        NumberValue::Float(_) => None,
    }
}

/// A number in decimal digits; not the words that Rust would take for one.
fn finite(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    text.parse().ok().filter(|value: &f64| decimal && value.is_finite())
}

/// How a value of this kind is laid out.
#[inline]
pub(crate) fn wire_of(kind: Kind) -> Wire {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Length,
        _ => Wire::Varint,
    }
}

/// What errors call this kind.
pub(crate) fn kind_name(kind: Kind) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        Kind::Double => "TYPE_DOUBLE",
        Kind::Float => "TYPE_FLOAT",
        Kind::Int64 => "TYPE_INT64",
        Kind::Uint64 => "TYPE_UINT64",
        Kind::Int32 => "TYPE_INT32",
        Kind::Fixed64 => "TYPE_FIXED64",
        Kind::Fixed32 => "TYPE_FIXED32",
        Kind::Bool => "TYPE_BOOL",
        Kind::String => "TYPE_STRING",
        Kind::Bytes => "TYPE_BYTES",
        Kind::Uint32 => "TYPE_UINT32",
        Kind::Sfixed32 => "TYPE_SFIXED32",
        Kind::Sfixed64 => "TYPE_SFIXED64",
        Kind::Sint32 => "TYPE_SINT32",
        Kind::Sint64 => "TYPE_SINT64",
        Kind::Message(message) => return Cow::Owned(format!("type.googleapis.com/{}", message.full_name())),
        Kind::Enum(kind) => return Cow::Owned(format!("type.googleapis.com/{}", kind.full_name())),
    })
}

/// Appends a value without its tag, or says what is wrong and leaves `out` as it was.
#[inline]
pub(crate) fn put(kind: Kind, value: &Scalar<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    if let (Kind::String, Scalar::Text(text)) = (kind, value) {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    if let (Kind::Bytes, Scalar::Text(text)) = (kind, value) {
        return put_base64(text, out).ok_or_else(|| format!("Base64 decoding failed for {}", value.shown()));
    }
    put_other(kind, value, out).ok_or_else(|| value.shown())
}

fn put_other(kind: Kind, value: &Scalar<'_>, out: &mut Vec<u8>) -> Option<()> {
    fn fit<T: TryFrom<i128>>(value: &Scalar<'_>) -> Option<T> {
        value.integer().and_then(|value| T::try_from(value).ok())
    }
    match kind {
        Kind::Int32 => put_varint(out, i64::from(fit::<i32>(value)?) as u64),
        Kind::Int64 => put_varint(out, fit::<i64>(value)? as u64),
        Kind::Uint32 => put_varint(out, fit::<u32>(value)?.into()),
        Kind::Uint64 => put_varint(out, fit(value)?),
        Kind::Sint32 => put_varint(out, zigzag(fit::<i32>(value)?.into())),
        Kind::Sint64 => put_varint(out, zigzag(fit(value)?)),
        Kind::Fixed32 => out.extend_from_slice(&fit::<u32>(value)?.to_le_bytes()),
        Kind::Sfixed32 => out.extend_from_slice(&fit::<i32>(value)?.to_le_bytes()),
        Kind::Fixed64 => out.extend_from_slice(&fit::<u64>(value)?.to_le_bytes()),
        Kind::Sfixed64 => out.extend_from_slice(&fit::<i64>(value)?.to_le_bytes()),
        Kind::Double => out.extend_from_slice(&value.float()?.to_le_bytes()),
        Kind::Float => out.extend_from_slice(&value.single()?.to_le_bytes()),
        Kind::Bool => out.push(value.bool()?.into()),
        Kind::Enum(kind) => put_varint(out, i64::from(value.enumeration(kind)?) as u64),
        Kind::String | Kind::Bytes | Kind::Message(_) => return None,
    }
    Some(())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Appends the bytes that a text in either base64 alphabet stands for, with their length. White space, which
/// `base64` on a command line leaves behind, does not count.
fn put_base64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let engine = if text.bytes().any(|b| b == b'-' || b == b'_') { &URL } else { &PLAIN };
    let start = out.len();
    let length = Length::open(out);
    if engine.decode_vec(text, out).is_err() {
        out.truncate(start + 1);
        let bare: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        if bare.len() == text.len() || engine.decode_vec(bare, out).is_err() {
            out.truncate(start);
            return None;
        }
    }
    length.close(out);
    Some(())
}

/// Appends a field whose value comes as text: a query parameter, or a part of the path.
pub(crate) fn bind_text(
    field: Field,
    text: &str,
    path: &Path<'_>,
    out: &mut Vec<u8>,
    problems: &mut Problems,
) {
    let kind = field.kind();
    let start = out.len();
    put_tag(out, field.number(), wire_of(kind));
    if let Err(what) = put(kind, &Scalar::Text(Cow::Borrowed(text)), out) {
        out.truncate(start);
        problems.value(path, &kind_name(kind), &what);
    }
}
