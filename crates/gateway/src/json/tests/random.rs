//! Random messages of real types.

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use std::{collections::HashMap, sync::LazyLock};

/// All tables, as another library sees them.
pub(super) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    use prost::Message;
    let mut set = prost_types::FileDescriptorSet::default();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../apis/tables")).unwrap() {
        set.merge(std::fs::read(entry.unwrap().path()).unwrap().as_slice()).unwrap();
    }
    set.file.sort_by(|a, b| a.name.cmp(&b.name));
    set.file.dedup_by(|a, b| a.name == b.name);
    DescriptorPool::from_file_descriptor_set(set).unwrap()
});

/// The types that both sides know and that stand for themselves.
pub(super) static TYPES: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    let known = |message: &MessageDescriptor| {
        !message.is_map_entry() && super::Message::by_name(message.full_name()).is_some()
    };
    POOL.all_messages().filter(known).collect()
});

/// A small generator of numbers: the same seed gives the same message.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn text(&mut self) -> String {
        const CHARS: &[char] = &[
            'a', 'Z', '0', '_', '-', '/', '"', '\\', '\n', '\u{1}', '<', 'é', '\u{2028}', '€', '🦀', ' ',
            '\u{7f}',
        ];
        (0..self.below(12)).map(|_| CHARS[self.below(CHARS.len() as u64) as usize]).collect()
    }

    fn integer(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => self.roll() as i64,
            2 => self.below(200) as i64 - 100,
            _ => i64::MIN + self.below(2) as i64,
        }
    }

    fn double(&mut self) -> f64 {
        match self.below(6) {
            0 => 0.0,
            1 => f64::from_bits(self.roll()),
            2 => self.integer() as f64,
            3 => f64::INFINITY,
            4 => 1e300,
            _ => self.below(1000) as f64 / 8.0,
        }
    }
}

/// A message of a type, with fields set or not as the dice fall.
pub(super) fn random(kind: &MessageDescriptor, dice: &mut Dice, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    match kind.full_name() {
        "google.protobuf.Timestamp" => {
            set(&mut message, "seconds", Value::I64(dice.below(315_537_897_600) as i64 - 62_135_596_800));
            set(&mut message, "nanos", Value::I32(nanos(dice)));
        }
        "google.protobuf.Duration" => {
            let sign = if dice.below(2) == 0 { 1 } else { -1 };
            set(&mut message, "seconds", Value::I64(dice.below(315_576_000_000) as i64 * sign));
            set(&mut message, "nanos", Value::I32(nanos(dice) * sign as i32));
        }
        "google.protobuf.FieldMask" => {
            let paths = ["labels", "create_time", "template.max_instances", "a.b_c.d"];
            let paths = paths.iter().filter(|_| dice.below(2) == 0).map(|path| Value::String((*path).into()));
            set(&mut message, "paths", Value::List(paths.collect()));
        }
        "google.protobuf.Any" => fill_any(&mut message, dice, depth),
        "google.protobuf.Value" => fill_value(&mut message, dice, depth),
        _ => fill(&mut message, kind, dice, depth),
    }
    message
}

fn set(message: &mut DynamicMessage, name: &str, value: Value) {
    message.set_field_by_name(name, value);
}

fn nanos(dice: &mut Dice) -> i32 {
    let scale = [0, 1, 1000, 1_000_000][dice.below(4) as usize];
    (dice.below(999) as i32) * scale
}

fn fill_any(message: &mut DynamicMessage, dice: &mut Dice, depth: u32) {
    use prost_reflect::ReflectMessage;
    // The reference refuses to write an `Any` without a type.
    let inner = match depth {
        0 => POOL.get_message_by_name("google.protobuf.Empty").unwrap(),
        _ => TYPES[dice.below(TYPES.len() as u64) as usize].clone(),
    };
    let inner = random(&inner, dice, depth.saturating_sub(1));
    let url = format!("type.googleapis.com/{}", inner.descriptor().full_name());
    set(message, "type_url", Value::String(url));
    set(message, "value", Value::Bytes(prost::Message::encode_to_vec(&inner).into()));
}

fn fill_value(message: &mut DynamicMessage, dice: &mut Dice, depth: u32) {
    let field = |name: &str| message.descriptor_field(name);
    match dice.below(if depth == 0 { 4 } else { 6 }) {
        0 => set(message, "null_value", Value::EnumNumber(0)),
        1 => set(message, "number_value", Value::F64(dice.below(1000) as f64 / 4.0)),
        2 => set(message, "string_value", Value::String(dice.text())),
        3 => set(message, "bool_value", Value::Bool(dice.below(2) == 0)),
        4 => {
            let value = one(&field("struct_value"), dice, depth - 1);
            set(message, "struct_value", value);
        }
        _ => {
            let value = one(&field("list_value"), dice, depth - 1);
            set(message, "list_value", value);
        }
    }
}

trait FieldByName {
    fn descriptor_field(&self, name: &str) -> FieldDescriptor;
}

impl FieldByName for DynamicMessage {
    fn descriptor_field(&self, name: &str) -> FieldDescriptor {
        use prost_reflect::ReflectMessage;
        self.descriptor().get_field_by_name(name).unwrap()
    }
}

fn fill(message: &mut DynamicMessage, kind: &MessageDescriptor, dice: &mut Dice, depth: u32) {
    for field in kind.fields() {
        if dice.below(2) == 0 || (depth == 0 && matches!(field.kind(), Kind::Message(_))) {
            continue;
        }
        let value = if field.is_map() {
            Value::Map(random_map(&field, dice, depth))
        } else if field.cardinality() == Cardinality::Repeated {
            Value::List((0..dice.below(4)).map(|_| one(&field, dice, depth.saturating_sub(1))).collect())
        } else {
            one(&field, dice, depth.saturating_sub(1))
        };
        message.set_field(&field, value);
    }
}

fn random_map(field: &FieldDescriptor, dice: &mut Dice, depth: u32) -> HashMap<MapKey, Value> {
    let Kind::Message(entry) = field.kind() else { panic!("a map has entries") };
    let value = entry.map_entry_value_field();
    let key = |dice: &mut Dice| match entry.map_entry_key_field().kind() {
        Kind::String => MapKey::String(dice.text()),
        Kind::Bool => MapKey::Bool(dice.below(2) == 0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(dice.integer() as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(dice.integer()),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(dice.integer() as u32),
        _ => MapKey::U64(dice.integer() as u64),
    };
    (0..dice.below(4)).map(|_| (key(dice), one(&value, dice, depth.saturating_sub(1)))).collect()
}

/// A number of any kind; but inside a wrapper a plain one, because there the reference writes null for all that JSON
/// has no number for.
fn number(field: &FieldDescriptor, dice: &mut Dice) -> f64 {
    let number = dice.double();
    let is_plain = (number as f32).is_finite();
    let wrapped = field.parent_message().package_name() == "google.protobuf";
    if wrapped && !is_plain { 0.5 } else { number }
}

fn one(field: &FieldDescriptor, dice: &mut Dice, depth: u32) -> Value {
    match field.kind() {
        Kind::Double => Value::F64(number(field, dice)),
        Kind::Float => Value::F32(number(field, dice) as f32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(dice.integer() as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(dice.integer()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(dice.integer() as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(dice.integer() as u64),
        Kind::Bool => Value::Bool(dice.below(2) == 0),
        Kind::String => Value::String(dice.text()),
        Kind::Bytes => Value::Bytes((0..dice.below(9)).map(|_| dice.roll() as u8).collect::<Vec<_>>().into()),
        Kind::Message(inner) => Value::Message(random(&inner, dice, depth)),
        Kind::Enum(kind) => {
            let values: Vec<_> = kind.values().collect();
            Value::EnumNumber(values[dice.below(values.len() as u64) as usize].number())
        }
    }
}
