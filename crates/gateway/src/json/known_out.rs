//! Messages that JSON writes in a form of their own, written.

use apis::schema::{Message, WellKnown};

use super::{
    encode::{Done, Encoder, Malformed},
    fields::Selection,
    leaves::{fixed, utf8, varint, zero_of},
    scalar::wire_of,
    time::{Parts, write_duration, write_mask_path, write_timestamp},
    wire::{Record, Wire, get_record},
};

impl Encoder<'_> {
    pub(super) fn special(
        &mut self,
        message: Message,
        known: WellKnown,
        bytes: &[u8],
        fields: Selection<'_>,
    ) -> Done {
        match known {
            WellKnown::Timestamp => {
                let parts = parts(bytes)?;
                self.text.quoted(|out| write_timestamp(parts, out)).ok_or(Malformed("no such time"))
            }
            WellKnown::Duration => {
                let parts = parts(bytes)?;
                self.text.quoted(|out| write_duration(parts, out)).ok_or(Malformed("no such duration"))
            }
            WellKnown::FieldMask => self.mask(bytes),
            WellKnown::Any => self.any(bytes),
            WellKnown::Struct => self.structure(message, bytes, fields),
            WellKnown::Value => self.json_value(bytes, fields),
            WellKnown::ListValue => self.list_value(bytes, fields),
            _ => self.wrapper(message, bytes),
        }
    }

    fn mask(&mut self, bytes: &[u8]) -> Done {
        let mut text = String::new();
        each(bytes, |record, value| {
            if (record.number, record.wire) == (1, Wire::Length) {
                if !text.is_empty() {
                    text.push(',');
                }
                write_mask_path(utf8(value)?, &mut text);
            }
            Ok(())
        })?;
        self.text.string(&text);
        Ok(())
    }

    fn wrapper(&mut self, message: Message, bytes: &[u8]) -> Done {
        let Some(field) = message.field(1) else { return Err(Malformed("wrapper of nothing")) };
        let mut wrapped = zero_of(field.kind());
        each(bytes, |record, value| {
            if (record.number, record.wire) == (1, wire_of(field.kind())) {
                wrapped = value;
            }
            Ok(())
        })?;
        self.value(field.kind(), wrapped)
    }

    /// `google.protobuf.Any`. What it holds is written out where its type has a table.
    fn any(&mut self, bytes: &[u8]) -> Done {
        let (mut url, mut value) = ("", &[][..]);
        each(bytes, |record, bytes| {
            match (record.number, record.wire) {
                (1, Wire::Length) => url = utf8(bytes)?,
                (2, Wire::Length) => value = bytes,
                _ => {}
            }
            Ok(())
        })?;
        self.deeper()?;
        self.text.open(b'{');
        if !url.is_empty() {
            self.text.key("@type");
            self.text.string(url);
        }
        self.any_contents(url, value)?;
        self.text.close(b'}');
        self.higher();
        Ok(())
    }

    fn any_contents(&mut self, url: &str, value: &[u8]) -> Done {
        let message = url.rsplit_once('/').and_then(|(_, name)| Message::by_name(name));
        match message.map(|message| (message, message.well_known())) {
            Some((message, None | Some(WellKnown::Empty | WellKnown::HttpBody))) => {
                self.members(message, value, Selection::ALL)
            }
            Some((message, Some(_))) => {
                self.text.key("value");
                self.message(message, value, Selection::ALL)
            }
            None if value.is_empty() => Ok(()),
            None => {
                self.text.key("value");
                self.value(apis::schema::Kind::Bytes, value)
            }
        }
    }

    fn structure(&mut self, message: Message, bytes: &[u8], fields: Selection<'_>) -> Done {
        let entry = message.field(1).and_then(|field| field.map_entry());
        let Some((key_field, value_field)) = entry else { return Err(Malformed("struct without a table")) };
        self.deeper()?;
        let mut entries = Vec::new();
        each(bytes, |record, bytes| {
            if (record.number, record.wire) == (1, Wire::Length) {
                entries.push(self.entry(key_field, value_field, bytes)?);
            }
            Ok(())
        })?;
        self.text.open(b'{');
        self.map_entries(key_field, value_field, entries, fields)?;
        self.text.close(b'}');
        self.higher();
        Ok(())
    }

    /// `google.protobuf.Value`: what was set last; `null` where nothing was.
    fn json_value(&mut self, bytes: &[u8], fields: Selection<'_>) -> Done {
        let mut last = None;
        each(bytes, |record, value| {
            if (1..=6).contains(&record.number) {
                last = Some((record.number, record.wire, value));
            }
            Ok(())
        })?;
        match last {
            Some((2, Wire::Fixed64, value)) => self.text.float(f64::from_le_bytes(fixed(value)?)),
            Some((3, Wire::Length, value)) => self.text.string(utf8(value)?),
            Some((4, Wire::Varint, value)) => {
                self.text.raw(if varint(value)? != 0 { "true" } else { "false" })
            }
            Some((5, Wire::Length, value)) => {
                let message =
                    Message::by_name("google.protobuf.Struct").ok_or(Malformed("no table of Struct"))?;
                self.structure(message, value, fields)?;
            }
            Some((6, Wire::Length, value)) => self.list_value(value, fields)?,
            _ => self.text.raw("null"),
        }
        Ok(())
    }

    fn list_value(&mut self, bytes: &[u8], fields: Selection<'_>) -> Done {
        self.deeper()?;
        self.text.open(b'[');
        each(bytes, |record, value| {
            if (record.number, record.wire) == (1, Wire::Length) {
                self.text.element();
                self.json_value(value, fields)?;
            }
            Ok(())
        })?;
        self.text.close(b']');
        self.higher();
        Ok(())
    }
}

/// The fields of a message, one after the other.
fn each<'b>(bytes: &'b [u8], mut with: impl FnMut(Record, &'b [u8]) -> Done) -> Done {
    let mut at = 0;
    while at < bytes.len() {
        if let Some(record) = get_record(bytes, &mut at).ok_or(Malformed("field cut short"))? {
            with(record, record.slice(bytes))?;
        }
    }
    Ok(())
}

/// The two numbers of a timestamp or a duration.
fn parts(bytes: &[u8]) -> Result<Parts, Malformed> {
    let mut parts = Parts { seconds: 0, nanos: 0 };
    each(bytes, |record, value| {
        match (record.number, record.wire) {
            (1, Wire::Varint) => parts.seconds = varint(value)? as i64,
            (2, Wire::Varint) => parts.nanos = varint(value)? as i32,
            _ => {}
        }
        Ok(())
    })?;
    Ok(parts)
}
