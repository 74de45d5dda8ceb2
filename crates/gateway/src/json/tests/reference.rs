//! Whatever the message: our JSON is the other library's, and comes back as the message it was.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::{
    super::{Enums, Layout, Limits, Options, decode, encode},
    message,
    random::{Dice, TYPES, random},
};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn any_type() -> impl Strategy<Value = MessageDescriptor> {
    (0..TYPES.len()).prop_map(|at| TYPES[at].clone())
}

/// Equality of texts as values; floats of single precision may be written in more digits than they have, and an
/// `Empty` in an `Any` with a `value` that Google does not write.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || a as f32 == b as f32
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let empty = b.get("@type").is_some_and(|url| url == "type.googleapis.com/google.protobuf.Empty");
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| alike(a, b));
            a.len() + usize::from(empty) == b.len() && a.iter().all(same)
        }
        (a, b) => a == b,
    }
}

fn written(kind: &MessageDescriptor, bytes: &[u8], options: &Options<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message(kind.full_name()), bytes, options, &mut out).unwrap();
    out
}

fn read(kind: &MessageDescriptor, json: &[u8]) -> Vec<u8> {
    decode(message(kind.full_name()), json, Limits::default())
        .unwrap_or_else(|problems| panic!("{problems:?}\n{}", String::from_utf8_lossy(json)))
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_message_is_written_as_the_reference_writes_it(kind in any_type(), seed: u64) {
        let original = random(&kind, &mut Dice(seed), 4);
        let theirs = serde_json::to_value(&original).unwrap();
        let ours = written(&kind, &original.encode_to_vec(), &Options::default());
        let ours: Value = serde_json::from_slice(&ours).unwrap();
        prop_assert!(alike(&ours, &theirs), "{}\nours   {ours}\ntheirs {theirs}", kind.full_name());
    }

    #[test]
    fn what_the_reference_writes_is_read_as_the_message_it_was(kind in any_type(), seed: u64) {
        let original = random(&kind, &mut Dice(seed), 4);
        let theirs = serde_json::to_vec(&original).unwrap();
        let back = DynamicMessage::decode(kind.clone(), read(&kind, &theirs).as_slice()).unwrap();
        prop_assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&original).unwrap());
    }

    #[test]
    fn what_we_write_we_read_back(kind in any_type(), seed: u64, numbers: bool, compact: bool) {
        let original = random(&kind, &mut Dice(seed), 4);
        let options = Options {
            enums: if numbers { Enums::Numbers } else { Enums::Names },
            layout: if compact { Layout::Compact } else { Layout::Pretty },
            fields: None,
        };
        let json = written(&kind, &original.encode_to_vec(), &options);
        let back = DynamicMessage::decode(kind.clone(), read(&kind, &json).as_slice()).unwrap();
        prop_assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&original).unwrap());
    }

    #[test]
    fn bytes_that_are_no_message_are_no_fault(kind in any_type(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = encode(message(kind.full_name()), &bytes, &Options::default(), &mut Vec::new());
    }

    #[test]
    fn a_message_with_a_byte_changed_is_no_fault(kind in any_type(), seed: u64, at: prop::sample::Index, byte: u8) {
        let mut bytes = random(&kind, &mut Dice(seed), 3).encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut out = Vec::new();
        if encode(message(kind.full_name()), &bytes, &Options::default(), &mut out).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_no_fault(kind in any_type(), json in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(message(kind.full_name()), &json, Limits::default());
    }

    #[test]
    fn tokens_in_any_order_are_no_fault(
        kind in any_type(),
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"name\"", "\"value\"", "\"@type\"", "\"seconds\"", "1", "-2.5e3", "true",
                "null", "\"type.googleapis.com/google.protobuf.Value\"", "'", "\\u12", "\"\\ud800\"", "labels", " ",
            ]),
            0..30,
        ),
    ) {
        let _ = decode(message(kind.full_name()), tokens.concat().as_bytes(), Limits::default());
    }

    #[test]
    fn a_text_with_a_byte_changed_is_read_or_refused(kind in any_type(), seed: u64, at: prop::sample::Index, byte: u8) {
        let mut json = serde_json::to_vec(&random(&kind, &mut Dice(seed), 3)).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(bytes) = decode(message(kind.full_name()), &json, Limits::default()) {
            prop_assert!(DynamicMessage::decode(kind, bytes.as_slice()).is_ok());
        }
    }
}
