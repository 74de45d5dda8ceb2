//! Writes the run-time schema: see `src/layout.rs` for its form.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

use prost_types::field_descriptor_proto::{Label, Type};

use crate::{
    descriptor::{EnumType, Field, HttpRule, MessageType, Method, Set},
    layout,
};

/// What only REST clients call is in packages under this one.
const REST_ONLY: &str = "google.discovery.";

/// The messages that `schema::WellKnown` tells apart, in its order, then the wrappers. A message's shape has its place
/// here plus one.
const WELL_KNOWN: [&str; 18] = [
    "google.protobuf.Any",
    "google.protobuf.Duration",
    "google.protobuf.Empty",
    "google.protobuf.FieldMask",
    "google.protobuf.ListValue",
    "google.protobuf.Struct",
    "google.protobuf.Timestamp",
    "google.protobuf.Value",
    "google.api.HttpBody",
    "google.protobuf.BoolValue",
    "google.protobuf.BytesValue",
    "google.protobuf.DoubleValue",
    "google.protobuf.FloatValue",
    "google.protobuf.Int32Value",
    "google.protobuf.Int64Value",
    "google.protobuf.StringValue",
    "google.protobuf.UInt32Value",
    "google.protobuf.UInt64Value",
];

/// The tables under construction.
#[derive(Default)]
struct Writer {
    text: String,
    texts: HashMap<String, u32>,
    messages: Vec<u32>,
    fields: Vec<u32>,
    enums: Vec<u32>,
    values: Vec<u32>,
    methods: Vec<u32>,
    bindings: Vec<u32>,
    slots: Vec<u16>,
}

/// Everything there is, by full name: a name's place in the order is its row.
struct Named<'a> {
    messages: BTreeMap<String, (&'a MessageType, Syntax)>,
    enums: BTreeMap<String, &'a EnumType>,
    methods: BTreeMap<(String, &'a str), (&'a Method, &'a str)>,
    rows: HashMap<String, u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Syntax {
    Proto2,
    Proto3,
}

/// The row of each method, by service and name.
pub(crate) type MethodRows = HashMap<(String, String), u16>;

/// Writes the schema of these files into a directory, and tells where each method is.
pub(crate) fn write(set: &Set, out: &Path) -> io::Result<MethodRows> {
    let named = Named::collect(set);
    let mut writer = Writer::default();
    for (name, (message, syntax)) in &named.messages {
        writer.message(&named, name, message, *syntax);
    }
    for (name, of) in &named.enums {
        writer.enumeration(name, of);
    }
    for ((service, name), (method, host)) in &named.methods {
        writer.method(&named, service, name, method, host);
    }
    writer.save(out)?;
    let names = named.methods.keys().map(|(service, name)| (service.clone(), (*name).to_owned()));
    Ok(names.zip(0..).collect())
}

impl<'a> Named<'a> {
    fn collect(set: &'a Set) -> Self {
        let mut named = Named {
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            methods: BTreeMap::new(),
            rows: HashMap::new(),
        };
        for file in &set.files {
            let syntax = match file.syntax.as_str() {
                "proto3" => Syntax::Proto3,
                "" | "proto2" => Syntax::Proto2,
                other => panic!("{}: syntax {other} is not known here", file.name),
            };
            named.types(&file.package, &file.messages, &file.enums, syntax);
            for service in &file.services {
                let host = service.options.as_ref().map_or("", |options| options.default_host.as_str());
                let host = host.trim_end_matches(":443");
                for method in &service.methods {
                    let name = format!("{}.{}", file.package, service.name);
                    named.methods.insert((name, &method.name), (method, host));
                }
            }
        }
        named.rows =
            named.messages.keys().cloned().zip(0..).chain(named.enums.keys().cloned().zip(0..)).collect();
        named
    }

    fn types(&mut self, scope: &str, messages: &'a [MessageType], enums: &'a [EnumType], syntax: Syntax) {
        for of in enums {
            self.enums.insert(format!("{scope}.{}", of.name), of);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name);
            self.types(&name, &message.messages, &message.enums, syntax);
            self.messages.insert(name, (message, syntax));
        }
    }

    /// The row of a type that a descriptor names, with a dot in front.
    fn row(&self, name: &str) -> u32 {
        match self.rows.get(name.trim_start_matches('.')) {
            Some(row) => *row,
            None => panic!("{name} is in no table"),
        }
    }

    fn is_map(&self, field: &Field) -> bool {
        let name = field.type_name.trim_start_matches('.');
        let entry = self.messages.get(name).and_then(|(message, _)| message.options.as_ref());
        field.kind == Type::Message as i32 && entry.is_some_and(|options| options.map_entry)
    }
}

impl Writer {
    fn text(&mut self, text: &str) -> u32 {
        if let Some(cell) = self.texts.get(text) {
            return *cell;
        }
        assert!(text.len() < 1 << layout::LENGTH_BITS, "too long: {text}");
        assert!(self.text.len() < 1 << (32 - layout::LENGTH_BITS), "too much text");
        let cell = (self.text.len() as u32) << layout::LENGTH_BITS | text.len() as u32;
        self.text.push_str(text);
        self.texts.insert(text.to_owned(), cell);
        cell
    }

    fn message(&mut self, named: &Named<'_>, name: &str, message: &MessageType, syntax: Syntax) {
        let mut fields: Vec<&Field> = message.fields.iter().collect();
        fields.sort_by_key(|field| field.number);
        let known = WELL_KNOWN.iter().position(|known| *known == name).map_or(0, |at| at as u32 + 1);
        let first_slot = self.slots.len() as u32;
        let bits = self.hash(&fields);
        let row = [
            self.text(name),
            (self.fields.len() / layout::field::CELLS) as u32,
            u32::from(u16::try_from(fields.len()).expect("too many fields")) | known << 16 | bits << 24,
            first_slot,
        ];
        self.messages.extend(row);
        for field in fields {
            self.field(named, field, syntax);
        }
    }

    /// Adds the slots that fields are found in by name; gives the binary logarithm of their number.
    fn hash(&mut self, fields: &[&Field]) -> u32 {
        let names: Vec<(&str, u16)> = fields
            .iter()
            .zip(1..)
            .flat_map(|(field, place)| [(field.json_name.as_str(), place), (field.name.as_str(), place)])
            .collect();
        let different =
            fields.iter().map(|field| 1 + usize::from(field.name != field.json_name)).sum::<usize>();
        let size = (different * 3 / 2 + 1).next_power_of_two();
        let mut slots = vec![0_u16; size];
        for (name, place) in names {
            let mut at = layout::hash(name.as_bytes()) as usize & (size - 1);
            while slots[at] != 0 && slots[at] != place {
                at = (at + 1) & (size - 1);
            }
            slots[at] = place;
        }
        self.slots.extend(slots);
        size.trailing_zeros()
    }

    fn field(&mut self, named: &Named<'_>, field: &Field, syntax: Syntax) {
        let holds_type = !field.type_name.is_empty();
        let row = [
            field.number,
            self.text(&field.name),
            self.text(&field.json_name),
            if holds_type { named.row(&field.type_name) } else { 0 },
            traits(named, field, syntax),
        ];
        self.fields.extend(row);
    }

    fn enumeration(&mut self, name: &str, of: &EnumType) {
        let mut values: Vec<_> = of.values.iter().collect();
        values.sort_by_key(|value| value.number);
        let mut by_name: Vec<usize> = (0..values.len()).collect();
        by_name.sort_by_key(|place| &values[*place].name);
        let first = (self.values.len() / layout::value::CELLS) as u32;
        let name = self.text(name);
        self.enums.extend([name, first, values.len() as u32]);
        for (value, place) in values.iter().zip(by_name) {
            let name = self.text(&value.name);
            self.values.extend([value.number as u32, name, place as u32]);
        }
    }

    fn method(&mut self, named: &Named<'_>, service: &str, name: &str, method: &Method, host: &str) {
        let path = if service.starts_with(REST_ONLY) { String::new() } else { format!("/{service}/{name}") };
        let first = (self.bindings.len() / layout::binding::CELLS) as u32;
        let rule = method.options.as_ref().and_then(|options| options.http.as_ref());
        let rules = rule.into_iter().flat_map(|rule| std::iter::once(rule).chain(&rule.additional));
        let count = rules.map(|rule| self.binding(rule)).count() as u32;
        let streams = u32::from(method.client_streaming) * layout::method::CLIENT_STREAMING
            + u32::from(method.server_streaming) * layout::method::SERVER_STREAMING;
        let row = [
            self.text(&format!("{service}.{name}")),
            self.text(&path),
            self.text(host),
            named.row(&method.input),
            named.row(&method.output),
            first,
            count | streams,
        ];
        self.methods.extend(row);
    }

    fn binding(&mut self, rule: &HttpRule) {
        let (verb, template) = rule.route().expect("a rule without a pattern");
        let row = [verb, template, &rule.body, &rule.response_body].map(|text| self.text(text));
        self.bindings.extend(row);
    }

    /// Writes the cells, the text, and the constants that say where each table starts and how many rows it has.
    fn save(self, out: &Path) -> io::Result<()> {
        let slots: Vec<u32> = self
            .slots
            .chunks(2)
            .map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 16)
            .collect();
        let tables = [
            ("MESSAGES", "{ message::CELLS }", layout::message::CELLS, self.messages),
            ("FIELDS", "{ field::CELLS }", layout::field::CELLS, self.fields),
            ("ENUMS", "{ enumeration::CELLS }", layout::enumeration::CELLS, self.enums),
            ("VALUES", "{ value::CELLS }", layout::value::CELLS, self.values),
            ("METHODS", "{ method::CELLS }", layout::method::CELLS, self.methods),
            ("BINDINGS", "{ binding::CELLS }", layout::binding::CELLS, self.bindings),
            ("SLOTS", "1", 1, slots),
        ];
        let mut places = String::new();
        let mut cells: Vec<u32> = Vec::new();
        for (name, form, width, table) in tables {
            let (start, rows) = (cells.len(), table.len() / width);
            places += &format!(
                "pub(super) const {name}: Table<{form}> = Table {{ start: {start}, rows: {rows} }};\n"
            );
            cells.extend(table);
        }
        places += &format!("pub(super) const CELL_COUNT: usize = {};\n", cells.len());
        fs::write(
            out.join("schema.bin"),
            cells.iter().flat_map(|cell| cell.to_le_bytes()).collect::<Vec<u8>>(),
        )?;
        fs::write(out.join("schema.txt"), self.text)?;
        fs::write(out.join("schema.rs"), places)
    }
}

/// The cell of a field's traits.
fn traits(named: &Named<'_>, field: &Field, syntax: Syntax) -> u32 {
    let repeated = field.label == Label::Repeated as i32;
    let message = field.kind == Type::Message as i32;
    let text = field.kind == Type::String as i32 || field.kind == Type::Bytes as i32;
    assert!(field.kind != Type::Group as i32 && field.kind != 0, "{} has no known kind", field.name);
    let present = message || field.oneof.is_some() || syntax == Syntax::Proto2;
    let cardinality = match (repeated, present) {
        (true, _) if named.is_map(field) => 3,
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let packed =
        field.options.as_ref().and_then(|options| options.packed).unwrap_or(syntax == Syntax::Proto3);
    let packed = packed && repeated && !message && !text;
    let behaviors = field.options.iter().flat_map(|options| &options.behaviors);
    let behavior = behaviors.fold(0, |bits, behavior| bits | 1 << behavior);
    assert!(
        behavior < 1 << (layout::field::ONEOF_SHIFT - layout::field::BEHAVIOR_SHIFT),
        "an unknown behavior"
    );
    let oneof = field.oneof.filter(|_| !field.proto3_optional).map_or(0, |oneof| oneof + 1);
    field.kind as u32
        | cardinality << layout::field::CARDINALITY_SHIFT
        | u32::from(packed) << layout::field::PACKED_SHIFT
        | behavior << layout::field::BEHAVIOR_SHIFT
        | oneof << layout::field::ONEOF_SHIFT
}
