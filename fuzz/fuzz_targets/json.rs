//! Both ways through the codec between JSON and protobuf: what a caller sends as JSON, and what bytes of a message become.
//!
//! The first byte says which way and which message. What is read is written as JSON, and that is read as the same again;
//! a panic is a finding, and so is an answer that is no JSON or says another thing than it was made from.
#![no_main]

use apis::schema::Message;
use gateway::json::{Limits, Options, decode, encode};
use libfuzzer_sys::fuzz_target;

/// Messages that have between them every kind of field and every form of their own that JSON knows.
const MESSAGES: [&str; 16] = [
    "google.cloud.run.v2.Service",
    "google.cloud.run.v2.Job",
    "google.discovery.run.v1.Service",
    "google.cloud.secretmanager.v1.UpdateSecretRequest",
    "google.cloud.secretmanager.v1.SecretPayload",
    "google.iam.v1.SetIamPolicyRequest",
    "google.longrunning.Operation",
    "google.logging.v2.LogEntry",
    "google.rpc.Status",
    "google.protobuf.Any",
    "google.protobuf.Value",
    "google.protobuf.Struct",
    "google.protobuf.FieldMask",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.DoubleValue",
];

/// The JSON of a message.
fn written(message: Message, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encode(message, bytes, &Options::default(), &mut out).ok()?;
    assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "no JSON: {}", shown(&out));
    Some(out)
}

fn shown(json: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(json)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    let name = MESSAGES[usize::from(way / 2) % MESSAGES.len()];
    let message = Message::by_name(name).unwrap_or_else(|| panic!("no table of {name}"));
    if way % 2 == 0 {
        // Whatever bytes there are, an answer is JSON or none.
        let _ = written(message, bytes);
        return;
    }
    let Ok(read) = decode(message, bytes, Limits::default()) else { return };
    let json = written(message, &read).unwrap_or_else(|| panic!("{name} is read and not written: {}", shown(bytes)));
    let again = decode(message, &json, Limits::default())
        .unwrap_or_else(|problems| panic!("{name} is written and not read: {problems:?}\n{}", shown(&json)));
    let same = written(message, &again).unwrap_or_default();
    assert_eq!(shown(&same), shown(&json), "{name}");
});
