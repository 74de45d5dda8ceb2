//! JSON text to protobuf bytes.

use std::borrow::Cow;

use apis::schema::{Cardinality, Field, Kind, Message, WellKnown};

use super::{
    Path, Problems,
    reader::{Place, Reader, Syntax, Token},
    scalar::{Scalar, kind_name, put, wire_of},
    wire::{Length, Wire, put_tag},
};

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size of the largest text, in bytes.
    pub bytes: usize,
}

impl Default for Limits {
    /// 10 MiB, as most of Google's APIs take.
    fn default() -> Self {
        Limits { bytes: 10 << 20 }
    }
}

/// Reads a JSON text as a message and gives the message's bytes.
///
/// `null` is the same as leaving a field out, except in a `google.protobuf.Value`. A field that comes twice is
/// refused: the format leaves open which one counts, and guessing would hide a mistake.
///
/// # Errors
/// All that is wrong: every bad field (up to 1000), or the first place where the text is no JSON.
pub fn decode(message: Message, json: &[u8], limits: Limits) -> Result<Vec<u8>, Problems> {
    let mut decoder = Decoder::new(json, limits, Vec::with_capacity(json.len() / 2 + 16))?;
    decoder.root(message)?;
    decoder.done()
}

/// Reads a JSON text as the value of one field and appends that field to `out`.
pub(crate) fn decode_field(
    field: Field,
    json: &[u8],
    limits: Limits,
    out: Vec<u8>,
) -> Result<Vec<u8>, Problems> {
    let mut decoder = Decoder::new(json, limits, out)?;
    decoder
        .value_of(field, field.json_name(), &Path::ROOT)
        .and_then(|()| decoder.reader.finish())
        .map_err(Problems::of_syntax)?;
    decoder.done()
}

/// What Google says of a list where one value belongs.
pub(super) const NO_LIST: &str = "Proto field is not repeating, cannot start list.";

pub(super) struct Decoder<'j> {
    pub(super) reader: Reader<'j>,
    pub(super) out: Vec<u8>,
    pub(super) problems: Problems,
    pub(super) root: &'static str,
}

/// Which object is being read: one that stands for itself, or one inside an `Any`, where `@type` is no field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Message,
    Any,
}

/// The fields and oneofs of a message that have been read.
#[derive(Default)]
struct Seen {
    low: u128,
    high: Vec<u32>,
    oneofs: u64,
}

impl Seen {
    /// Notes a field; `false` when it was there already.
    fn note(&mut self, number: u32) -> bool {
        if number < 128 {
            let bit = 1 << number;
            let new = self.low & bit == 0;
            self.low |= bit;
            return new;
        }
        let new = !self.high.contains(&number);
        if new {
            self.high.push(number);
        }
        new
    }

    fn has(&self, number: u32) -> bool {
        if number < 128 { self.low >> number & 1 == 1 } else { self.high.contains(&number) }
    }

    /// The member of a oneof that was set first, if one was. (Google names the oneof, which no table does.)
    fn member(&self, message: Message, oneof: u16) -> &'static str {
        let mut members = message.fields().filter(|field| field.oneof() == Some(oneof));
        members.find(|field| self.has(field.number())).map_or("", Field::json_name)
    }

    fn note_oneof(&mut self, oneof: u16) -> bool {
        let bit = 1_u64.checked_shl(oneof.into()).unwrap_or(0);
        let new = self.oneofs & bit == 0;
        self.oneofs |= bit;
        new
    }
}

impl<'j> Decoder<'j> {
    fn new(json: &'j [u8], limits: Limits, out: Vec<u8>) -> Result<Self, Problems> {
        if json.len() > limits.bytes {
            let text = format!("Request payload size exceeds the limit: {} bytes.", limits.bytes);
            return Err(Problems::of_syntax(Syntax(text)));
        }
        let reader = Reader::new(json).map_err(Problems::of_syntax)?;
        Ok(Decoder { reader, out, problems: Problems::default(), root: "" })
    }

    fn root(&mut self, message: Message) -> Result<(), Problems> {
        self.root = message.full_name();
        self.root_value(message).and_then(|()| self.reader.finish()).map_err(Problems::of_syntax)
    }

    fn root_value(&mut self, message: Message) -> Result<(), Syntax> {
        let token = self.reader.peek_value()?;
        if message.well_known().is_some() || token == Token::BeginObject {
            return self.message(message, "", &Path::ROOT);
        }
        self.reader.skip("")?;
        self.problems.name(&Path::ROOT, "", "Root element must be a message.");
        Ok(())
    }

    fn done(self) -> Result<Vec<u8>, Problems> {
        if self.problems.is_empty() { Ok(self.out) } else { Err(self.problems) }
    }

    /// The members of an object whose `{` has been read.
    pub(super) fn members(
        &mut self,
        message: Message,
        within: Within,
        path: &Path<'_>,
    ) -> Result<(), Syntax> {
        let mut place = Place::First;
        let mut seen = Seen::default();
        while let Some(key) = self.reader.next_key(&mut place)? {
            match message.field_by_json(&key) {
                Some(field) => self.member(message, field, &key, &mut seen, path)?,
                None if within == Within::Any && key == "@type" => self.reader.skip("")?,
                None => {
                    self.problems.name(path, &key, "Cannot find field.");
                    self.reader.skip(&key)?;
                }
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        message: Message,
        field: Field,
        key: &str,
        seen: &mut Seen,
        path: &Path<'_>,
    ) -> Result<(), Syntax> {
        if self.reader.peek() == Token::Null && !holds_null(field) {
            return self.reader.skip(key);
        }
        if let Some(oneof) = field.oneof()
            && !seen.has(field.number())
            && !seen.note_oneof(oneof)
        {
            let what =
                format!("oneof field '{}' is already set. Cannot set '{key}'", seen.member(message, oneof));
            self.problems.value(path, "oneof", &what);
            return self.reader.skip(key);
        }
        if !seen.note(field.number()) {
            self.problems.name(path, key, &format!("Field '{key}' is already set."));
            return self.reader.skip(key);
        }
        self.value_of(field, key, path)
    }

    /// The value of a field, in whatever cardinality it has.
    fn value_of(&mut self, field: Field, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        match field.cardinality() {
            Cardinality::Map => self.map(field, key, &path.field(field.name())),
            Cardinality::Repeated => self.list(field, key, path),
            _ => self.single(field, key, path),
        }
    }

    fn single(&mut self, field: Field, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        if self.reader.peek_value()? == Token::BeginList && !takes_list(field.kind()) {
            self.problems.name(path, key, NO_LIST);
            return self.reader.skip(key);
        }
        self.one(field, key, path, &path.field(field.name()))
    }

    fn list(&mut self, field: Field, key: &str, parent: &Path<'_>) -> Result<(), Syntax> {
        let path = parent.field(field.name());
        if self.reader.peek_value()? != Token::BeginList {
            // Google takes a value for a list of one.
            return self.one(field, key, parent, &path);
        }
        self.reader.enter(key)?;
        if field.packed() {
            return self.packed(field, parent, &path);
        }
        let mut place = Place::First;
        let mut index = 0;
        while self.reader.next_element(&mut place)? {
            let path = path.index(index);
            index += 1;
            match self.reader.peek_value()? {
                Token::Null if !holds_null(field) => self.reader.skip("")?,
                Token::BeginList if !takes_list(field.kind()) => {
                    self.problems.name(&path, "", NO_LIST);
                    self.reader.skip("")?;
                }
                _ => self.one(field, key, parent, &path)?,
            }
        }
        Ok(())
    }

    /// The elements of a list of numbers, all in one record.
    fn packed(&mut self, field: Field, parent: &Path<'_>, path: &Path<'_>) -> Result<(), Syntax> {
        let start = self.out.len();
        put_tag(&mut self.out, field.number(), Wire::Length);
        let length = Length::open(&mut self.out);
        let empty = self.out.len();
        let mut place = Place::First;
        let mut index = 0;
        while self.reader.next_element(&mut place)? {
            let path = path.index(index);
            index += 1;
            match self.reader.peek_value()? {
                Token::BeginObject => self.no_object(field, parent)?,
                Token::BeginList => {
                    self.problems.name(&path, "", NO_LIST);
                    self.reader.skip("")?;
                }
                token => {
                    let value = self.scalar(token)?;
                    self.put(field.kind(), &value, &path);
                }
            }
        }
        if self.out.len() == empty {
            self.out.truncate(start);
        } else {
            length.close(&mut self.out);
        }
        Ok(())
    }

    fn no_object(&mut self, field: Field, parent: &Path<'_>) -> Result<(), Syntax> {
        self.problems.value(parent, field.name(), "Starting an object on a scalar field");
        self.reader.skip("")
    }

    /// One value, with its tag. `parent` is the message that holds the field, `path` leads to the value.
    fn one(&mut self, field: Field, key: &str, parent: &Path<'_>, path: &Path<'_>) -> Result<(), Syntax> {
        let kind = field.kind();
        if let Kind::Message(message) = kind {
            put_tag(&mut self.out, field.number(), Wire::Length);
            let length = Length::open(&mut self.out);
            self.message(message, key, path)?;
            length.close(&mut self.out);
            return Ok(());
        }
        let token = self.reader.peek_value()?;
        if token == Token::BeginObject {
            return self.no_object(field, parent);
        }
        if token == Token::BeginList {
            self.problems.name(path, "", NO_LIST);
            return self.reader.skip(key);
        }
        let value = self.scalar(token)?;
        let start = self.out.len();
        put_tag(&mut self.out, field.number(), wire_of(kind));
        if !self.put(kind, &value, path) {
            self.out.truncate(start);
        }
        Ok(())
    }

    fn put(&mut self, kind: Kind, value: &Scalar<'_>, path: &Path<'_>) -> bool {
        match put(kind, value, &mut self.out) {
            Ok(()) => true,
            Err(what) => {
                self.problems.value(path, &kind_name(kind), &what);
                false
            }
        }
    }

    /// Reads a value that is no object and no list.
    #[inline]
    pub(super) fn scalar(&mut self, token: Token) -> Result<Scalar<'j>, Syntax> {
        Ok(match token {
            Token::String => Scalar::Text(self.reader.string()?),
            Token::Number => Scalar::Number(self.reader.number()?),
            _ => {
                self.reader.word(token);
                match token {
                    Token::True => Scalar::Bool(true),
                    Token::False => Scalar::Bool(false),
                    _ => Scalar::Null,
                }
            }
        })
    }

    /// The contents of a message, without tag and length.
    pub(super) fn message(&mut self, message: Message, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        let known = message.well_known();
        match known {
            Some(WellKnown::Value) => return self.json_value(key, path),
            Some(WellKnown::ListValue) => return self.list_value(message, key, path),
            _ => {}
        }
        let token = self.reader.peek_value()?;
        match (token, known) {
            (Token::BeginObject, Some(WellKnown::Any)) => self.any(key, path),
            (Token::BeginObject, Some(WellKnown::Struct)) => self.structure(key, path),
            (Token::BeginObject, _) => {
                self.reader.enter(key)?;
                self.members(message, Within::Message, path)
            }
            (Token::BeginList, _) => {
                self.problems.name(path, "", NO_LIST);
                self.reader.skip(key)
            }
            (token, known) => {
                let value = self.scalar(token)?;
                self.text_form(message, known, &value, key, path);
                Ok(())
            }
        }
    }

    pub(super) fn put_field(&mut self, field: Field, value: &Scalar<'_>, path: &Path<'_>) {
        let start = self.out.len();
        put_tag(&mut self.out, field.number(), wire_of(field.kind()));
        if !self.put(field.kind(), value, path) {
            self.out.truncate(start);
        }
    }

    /// A map: an object whose keys are values of the key's kind.
    fn map(&mut self, field: Field, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        let Some((key_field, value_field)) = field.map_entry() else { return self.reader.skip(key) };
        match self.reader.peek_value()? {
            Token::BeginObject => {}
            Token::BeginList => {
                self.problems.value(path, "Map", "Cannot bind a list to map.");
                return self.reader.skip(key);
            }
            token => {
                let value = self.scalar(token)?;
                self.problems.value(path, &kind_name(field.kind()), &value.shown());
                return Ok(());
            }
        }
        self.reader.enter(key)?;
        let mut place = Place::First;
        let mut keys = Vec::new();
        while let Some(key) = self.reader.next_key(&mut place)? {
            let path = path.index(keys.len());
            put_tag(&mut self.out, field.number(), Wire::Length);
            let length = Length::open(&mut self.out);
            self.put_field(key_field, &Scalar::Text(Cow::Borrowed(&key)), &path.field("key"));
            self.map_value(value_field, &key, &path)?;
            length.close(&mut self.out);
            keys.push(key);
        }
        self.check_keys(keys, path);
        Ok(())
    }

    fn map_value(&mut self, field: Field, key: &str, path: &Path<'_>) -> Result<(), Syntax> {
        match self.reader.peek_value()? {
            Token::Null if !holds_null(field) => self.reader.skip(key),
            Token::BeginList if !takes_list(field.kind()) => {
                self.problems.name(path, "value", NO_LIST);
                self.reader.skip(key)
            }
            _ => self.one(field, key, path, &path.field("value")),
        }
    }

    pub(super) fn check_keys(&mut self, mut keys: Vec<Cow<'j, str>>, path: &Path<'_>) {
        keys.sort_unstable();
        for pair in keys.windows(2) {
            if let [a, b] = pair
                && a == b
            {
                self.problems.name(path, a, &format!("Repeated map key: '{a}' is already set."));
            }
        }
    }
}

/// Whether `null` is a value of this field, and not its absence.
fn holds_null(field: Field) -> bool {
    match field.kind() {
        Kind::Message(message) => {
            field.cardinality() != Cardinality::Map && message.well_known() == Some(WellKnown::Value)
        }
        Kind::Enum(kind) => kind.is_null_value(),
        _ => false,
    }
}

/// Whether a single value of this kind may be written as a list.
fn takes_list(kind: Kind) -> bool {
    let Kind::Message(message) = kind else { return false };
    matches!(message.well_known(), Some(WellKnown::Value | WellKnown::ListValue))
}
