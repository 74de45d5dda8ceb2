//! Messages that JSON writes in a form of their own, read.
//!
//! Where such a message comes as an object of its fields (`{"seconds": 5}` for a timestamp), Google reads it as
//! any other message, and so do we.

use std::borrow::Cow;

use apis::schema::{Kind, Message, WellKnown};

use super::{
    Path,
    decode::{Decoder, Within},
    reader::{NumberValue, Place, Syntax, Token},
    scalar::{Scalar, kind_name},
    time::{Parts, mask_paths, parse_duration, parse_timestamp},
    wire::{Length, Wire, put_bytes, put_tag, put_varint},
};

impl<'j> Decoder<'j> {
    /// A message that is written as a single value.
    pub(super) fn text_form(
        &mut self,
        message: Message,
        known: Option<WellKnown>,
        value: &Scalar<'_>,
        key: &str,
        path: &Path<'_>,
    ) {
        let kind = kind_name(Kind::Message(message));
        let done = match known {
            Some(WellKnown::Timestamp) => self.parts("timestamp", value, parse_timestamp),
            Some(WellKnown::Duration) => self.parts("duration", value, parse_duration),
            Some(WellKnown::FieldMask) => self.mask(value),
            Some(WellKnown::Wrapper) => {
                if let Some(field) = message.field(1) {
                    self.put_field(field, value, &path.field("value"));
                }
                return;
            }
            _ => return self.problems.value(path, &kind, &value.shown()),
        };
        if let Err(what) = done {
            self.problems.value(path, &kind, &format!("Field '{key}', {what}"));
        }
    }

    fn parts(
        &mut self,
        what: &str,
        value: &Scalar<'_>,
        parse: fn(&str) -> Result<Parts, String>,
    ) -> Result<(), String> {
        let Scalar::Text(text) = value else {
            return Err(format!("Invalid data type for {what}, value is {}", value.shown()));
        };
        put_parts(&mut self.out, parse(text)?);
        Ok(())
    }

    fn mask(&mut self, value: &Scalar<'_>) -> Result<(), String> {
        let Scalar::Text(text) = value else {
            return Err(format!("Invalid data type for field mask, value is {}", value.shown()));
        };
        put_mask(&mut self.out, text);
        Ok(())
    }

    /// `google.protobuf.Any`: the type may stand anywhere among the members, so it is looked for first.
    pub(super) fn any(&mut self, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        let start = self.reader.here();
        self.reader.enter(key)?;
        let url = self.find_type()?;
        let Some(url) = url else {
            if self.out_of_members(start, key)? {
                return Ok(());
            }
            let what = format!("Missing or invalid @type for any field in {}", self.root);
            self.problems.value(path, "Any", &what);
            return self.reader.skip(key);
        };
        self.reader.back_to(start);
        let name = url.rsplit_once('/').map(|(_, name)| name);
        let Some(message) = name.and_then(Message::by_name) else {
            let what = format!("Invalid type URL, unknown type: {}", name.unwrap_or(&url));
            self.problems.value(path, "Any", &what);
            return self.reader.skip(key);
        };
        put_bytes(&mut self.out, 1, url.as_bytes());
        put_tag(&mut self.out, 2, Wire::Length);
        let length = Length::open(&mut self.out);
        self.reader.enter(key)?;
        match message.well_known() {
            // Of `Empty` some libraries write a `value`; others, and Google, write none.
            None | Some(WellKnown::HttpBody) => self.members(message, Within::Any, path)?,
            Some(_) => self.any_value(message, path)?,
        }
        length.close(&mut self.out);
        Ok(())
    }

    /// Whether an object is empty. The reader stands behind it if so, and before it if not.
    fn out_of_members(&mut self, start: (usize, u32), key: &str) -> Result<bool, Syntax> {
        self.reader.back_to(start);
        self.reader.enter(key)?;
        let empty = self.reader.peek() == Token::EndObject;
        if empty {
            self.reader.next_key(&mut Place::First)?;
        } else {
            self.reader.back_to(start);
        }
        Ok(empty)
    }

    /// The `@type` of the object that was entered.
    fn find_type(&mut self) -> Result<Option<Cow<'j, str>>, Syntax> {
        let mut place = Place::First;
        while let Some(key) = self.reader.next_key(&mut place)? {
            if key == "@type" && self.reader.peek() == Token::String {
                return self.reader.string().map(Some);
            }
            self.reader.skip(&key)?;
        }
        Ok(None)
    }

    /// A message with a form of its own inside an `Any`: it stands under `value`.
    fn any_value(&mut self, message: Message, path: &Path<'_>) -> Result<(), Syntax> {
        let mut place = Place::First;
        while let Some(key) = self.reader.next_key(&mut place)? {
            match key.as_ref() {
                "@type" => self.reader.skip("")?,
                "value" => self.message(message, "value", path)?,
                _ => {
                    self.problems.name(path, &key, "Cannot find field.");
                    self.reader.skip(&key)?;
                }
            }
        }
        Ok(())
    }

    /// The contents of a `google.protobuf.Struct`.
    pub(super) fn structure(&mut self, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        self.reader.enter(key)?;
        let fields = path.field("fields");
        let mut place = Place::First;
        let mut keys = Vec::new();
        while let Some(key) = self.reader.next_key(&mut place)? {
            let entry = fields.index(keys.len());
            put_tag(&mut self.out, 1, Wire::Length);
            let length = Length::open(&mut self.out);
            put_bytes(&mut self.out, 1, key.as_bytes());
            put_tag(&mut self.out, 2, Wire::Length);
            let value = Length::open(&mut self.out);
            self.json_value(&key, &entry.field("value"))?;
            value.close(&mut self.out);
            length.close(&mut self.out);
            keys.push(key);
        }
        self.check_keys(keys, path);
        Ok(())
    }

    /// The contents of a `google.protobuf.Value`.
    pub(super) fn json_value(&mut self, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        let token = self.reader.peek_value()?;
        let number = match token {
            Token::BeginObject => 5,
            Token::BeginList => 6,
            _ => return self.plain_value(token),
        };
        put_tag(&mut self.out, number, Wire::Length);
        let length = Length::open(&mut self.out);
        match token {
            Token::BeginObject => self.structure(key, &path.field("struct_value"))?,
            _ => self.values(key, &path.field("list_value"))?,
        }
        length.close(&mut self.out);
        Ok(())
    }

    fn plain_value(&mut self, token: Token) -> Result<(), Syntax> {
        match self.scalar(token)? {
            Scalar::Null => {
                put_tag(&mut self.out, 1, Wire::Varint);
                put_varint(&mut self.out, 0);
            }
            Scalar::Number(number) => {
                let value = match number.value {
                    NumberValue::Unsigned(value) => value as f64,
                    NumberValue::Negative(value) => value as f64,
                    NumberValue::Float(value) => value,
                };
                put_tag(&mut self.out, 2, Wire::Fixed64);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
            Scalar::Text(text) => put_bytes(&mut self.out, 3, text.as_bytes()),
            Scalar::Bool(value) => {
                put_tag(&mut self.out, 4, Wire::Varint);
                self.out.push(value.into());
            }
        }
        Ok(())
    }

    /// The contents of a `google.protobuf.ListValue`, from a list.
    fn values(&mut self, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        self.reader.enter(key)?;
        let values = path.field("values");
        let mut place = Place::First;
        let mut index = 0;
        while self.reader.next_element(&mut place)? {
            put_tag(&mut self.out, 1, Wire::Length);
            let length = Length::open(&mut self.out);
            self.json_value("", &values.index(index))?;
            length.close(&mut self.out);
            index += 1;
        }
        Ok(())
    }

    pub(super) fn list_value(&mut self, message: Message, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        match self.reader.peek_value()? {
            Token::BeginList => self.values(key, path),
            Token::BeginObject => {
                self.reader.enter(key)?;
                self.members(message, Within::Message, path)
            }
            token => {
                let value = self.scalar(token)?;
                self.problems.value(path, &kind_name(Kind::Message(message)), &value.shown());
                Ok(())
            }
        }
    }
}

/// Appends the contents of a timestamp or a duration.
pub(crate) fn put_parts(out: &mut Vec<u8>, Parts { seconds, nanos }: Parts) {
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            put_tag(out, number, Wire::Varint);
            put_varint(out, value as u64);
        }
    }
}

/// Appends the contents of a field mask.
pub(crate) fn put_mask(out: &mut Vec<u8>, text: &str) {
    for path in mask_paths(text) {
        put_bytes(out, 1, path.as_bytes());
    }
}
