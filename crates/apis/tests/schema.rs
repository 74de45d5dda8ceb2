//! Messages, fields, enums and methods against `prost-reflect`'s view of the same tables.

use apis::{
    MethodId,
    google::discovery::run::v1::RevisionSpec,
    schema::{Cardinality, Enum, Field, Kind, Message, WellKnown},
};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{FieldDescriptor, Kind as Judged, Value};

use crate::tables::POOL;

#[test]
fn every_message_agrees() {
    for message in Message::all() {
        let name = message.full_name();
        let judge = POOL.get_message_by_name(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(Message::by_name(name), Some(message));
        let mut judged: Vec<_> = judge.fields().collect();
        judged.sort_by_key(FieldDescriptor::number);
        assert_eq!(message.fields().len(), judged.len(), "{name}");
        for (field, judge) in message.fields().zip(judged) {
            assert_field(message, field, &judge);
        }
    }
}

#[test]
fn every_message_is_there() {
    let option = |package: &str, file: &str| package == "google.api" && file.starts_with("google/api/");
    for judge in POOL.all_messages() {
        let file = judge.parent_file();
        let for_options =
            file.name() == "google/protobuf/descriptor.proto" || option(file.package_name(), file.name());
        assert!(for_options || Message::by_name(judge.full_name()).is_some(), "{}", judge.full_name());
    }
}

fn assert_field(message: Message, field: Field, judge: &FieldDescriptor) {
    let name = judge.full_name();
    assert_eq!((field.number(), field.name()), (judge.number(), judge.name()), "{name}");
    assert_eq!(field.json_name(), judge.json_name(), "{name}");
    assert_eq!(message.field(judge.number()), Some(field), "{name}");
    assert_eq!(message.field_by_json(judge.name()), Some(field), "{name}");
    assert_eq!(message.field_by_json(judge.json_name()), Some(field), "{name}");
    assert_kind(field, judge);
    let cardinality = match (judge.is_map(), judge.is_list(), judge.supports_presence()) {
        (true, ..) => Cardinality::Map,
        (_, true, _) => Cardinality::Repeated,
        (.., true) => Cardinality::Optional,
        _ => Cardinality::Single,
    };
    assert_eq!(field.cardinality(), cardinality, "{name}");
    assert_eq!(field.packed(), judge.is_packed(), "{name}");
    assert_eq!(field.map_entry().is_some(), judge.is_map(), "{name}");
    assert_oneof(field, judge);
    assert_behavior(field, judge);
}

fn assert_kind(field: Field, judge: &FieldDescriptor) {
    let same = match (field.kind(), judge.kind()) {
        (Kind::Message(ours), Judged::Message(theirs)) => ours.full_name() == theirs.full_name(),
        (Kind::Enum(ours), Judged::Enum(theirs)) => ours.full_name() == theirs.full_name(),
        (ours, theirs) => format!("{ours:?}").eq_ignore_ascii_case(&format!("{theirs:?}")),
    };
    assert!(same, "{}: {:?} and {:?}", judge.full_name(), field.kind(), judge.kind());
}

fn assert_oneof(field: Field, judge: &FieldDescriptor) {
    let oneof = judge.containing_oneof().filter(|oneof| !oneof.is_synthetic());
    let oneof = oneof.map(|oneof| {
        let all = judge.parent_message().oneofs().position(|other| other.name() == oneof.name());
        all.and_then(|place| u16::try_from(place).ok()).expect("a oneof is one of its message's")
    });
    assert_eq!(field.oneof(), oneof, "{}", judge.full_name());
}

fn assert_behavior(field: Field, judge: &FieldDescriptor) {
    let extension = POOL.get_extension_by_name("google.api.field_behavior").expect("common has it");
    let options = judge.options();
    let value = options.get_extension(&extension);
    let has = |number| value.as_list().is_some_and(|all| all.contains(&Value::EnumNumber(number)));
    let ours = field.behavior();
    let named = [ours.required(), ours.output_only(), ours.input_only(), ours.immutable(), ours.identifier()];
    assert_eq!(named, [2, 3, 4, 5, 8].map(has), "{}", judge.full_name());
}

#[test]
fn every_enum_agrees() {
    for of in Enum::all() {
        let judge = POOL.get_enum_by_name(of.full_name()).unwrap();
        assert_eq!(Enum::by_name(of.full_name()), Some(of));
        assert_eq!(of.values().len(), judge.values().len());
        for value in judge.values() {
            assert_eq!(of.number(value.name()), Some(value.number()), "{}", value.full_name());
            let canonical = judge.values().find(|other| other.number() == value.number());
            let canonical = canonical.map(|canonical| canonical.name().to_owned());
            assert_eq!(of.name(value.number()).map(str::to_owned), canonical);
        }
        assert_eq!((of.name(-77), of.name(99_999), of.number("")), (None, None, None));
        assert_eq!(of.number("NO_SUCH_VALUE"), None);
    }
}

#[test]
fn every_method_agrees() {
    let judged = POOL.services().map(|service| service.methods().len()).sum();
    assert_eq!(MethodId::all().len(), judged);
    for service in POOL.services() {
        for judge in service.methods() {
            let method = MethodId::by_name(judge.full_name()).unwrap();
            assert_eq!(method.input().full_name(), judge.input().full_name());
            assert_eq!(method.output().full_name(), judge.output().full_name());
            let streams = (method.client_streaming(), method.server_streaming());
            assert_eq!(streams, (judge.is_client_streaming(), judge.is_server_streaming()));
        }
    }
}

#[test]
fn well_known_messages_are_known_and_have_fields() {
    let known = |name: &str| Message::by_name(name).and_then(Message::well_known);
    let named = [
        ("Any", WellKnown::Any),
        ("Duration", WellKnown::Duration),
        ("Empty", WellKnown::Empty),
        ("FieldMask", WellKnown::FieldMask),
        ("ListValue", WellKnown::ListValue),
        ("Struct", WellKnown::Struct),
        ("Timestamp", WellKnown::Timestamp),
        ("Value", WellKnown::Value),
        ("BoolValue", WellKnown::Wrapper),
        ("BytesValue", WellKnown::Wrapper),
        ("DoubleValue", WellKnown::Wrapper),
        ("FloatValue", WellKnown::Wrapper),
        ("Int32Value", WellKnown::Wrapper),
        ("Int64Value", WellKnown::Wrapper),
        ("StringValue", WellKnown::Wrapper),
        ("UInt32Value", WellKnown::Wrapper),
        ("UInt64Value", WellKnown::Wrapper),
    ];
    for (name, kind) in named {
        assert_eq!(known(&format!("google.protobuf.{name}")), Some(kind), "{name}");
    }
    assert_eq!(known("google.api.HttpBody"), Some(WellKnown::HttpBody));
    assert_eq!(known("google.cloud.secretmanager.v1.Secret"), None);
    assert!(Enum::by_name("google.protobuf.NullValue").unwrap().is_null_value());
    let timestamp = Message::by_name("google.protobuf.Timestamp").unwrap();
    assert_eq!(timestamp.field_by_json("nanos").map(Field::number), Some(2));
}

#[test]
fn what_is_unknown_is_not_found() {
    for name in
        ["", ".", "google", "google.rpc.Statu", "google.rpc.Status ", "zzz", "google.protobuf.FileOptions"]
    {
        assert_eq!(Message::by_name(name), None, "{name}");
        assert_eq!(Enum::by_name(name), None, "{name}");
    }
    for message in Message::all() {
        assert_eq!(message.field_by_json("no such field"), None);
        assert_eq!((message.field(0), message.field(u32::MAX)), (None, None));
    }
}

#[test]
fn a_zero_somebody_wrote_survives() {
    let spec = RevisionSpec { container_concurrency: Some(0), ..Default::default() };
    assert_eq!(RevisionSpec::decode(&spec.encode_to_vec()[..]), Ok(spec));
    let message = Message::by_name("google.discovery.run.v1.RevisionSpec").unwrap();
    let field = message.field_by_json("containerConcurrency").unwrap();
    assert_eq!((field.cardinality(), field.kind()), (Cardinality::Optional, Kind::Int32));
}

proptest! {
    #[test]
    fn any_name_finds_itself_or_nothing(name in "\\PC{0,40}", number: u32, row in 0..Message::all().len()) {
        let message = Message::all().nth(row).unwrap();
        if let Some(field) = message.field_by_json(&name) {
            prop_assert!(field.json_name() == name || field.name() == name);
        }
        prop_assert!(message.field(number).is_none_or(|field| field.number() == number));
        prop_assert!(Message::by_name(&name).is_none_or(|message| message.full_name() == name));
        prop_assert!(MethodId::by_grpc_path(&name).is_none_or(|method| method.grpc_path() == name));
    }
}
