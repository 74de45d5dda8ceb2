//! What is wrong is said in Google's words.

use kernel::error::{Code, Detail};

use super::{CREATE_SECRET, SERVICE, read, refused};

/// Texts, and what they are refused with; each line is one problem.
const TABLE: &[(&str, &str, &str)] = &[
    // Names.
    (
        CREATE_SECRET,
        r#"{"foo": 1}"#,
        r#"Invalid JSON payload received. Unknown name "foo": Cannot find field."#,
    ),
    (
        CREATE_SECRET,
        r#"{"secret": {"foo": {"deep": [1, {}]}}}"#,
        r#"Invalid JSON payload received. Unknown name "foo" at 'secret': Cannot find field."#,
    ),
    (
        SERVICE,
        r#"{"template": {"containers": [{"image": "a"}, {"imagee": "b"}]}}"#,
        r#"Invalid JSON payload received. Unknown name "imagee" at 'template.containers[1]': Cannot find field."#,
    ),
    (
        SERVICE,
        r#"{"uri": ["a"]}"#,
        r#"Invalid JSON payload received. Unknown name "uri": Proto field is not repeating, cannot start list."#,
    ),
    (SERVICE, "[]", r#"Invalid JSON payload received. Unknown name "": Root element must be a message."#),
    (SERVICE, "3", r#"Invalid JSON payload received. Unknown name "": Root element must be a message."#),
    (
        SERVICE,
        r#"{"name": "a", "name": "b"}"#,
        r#"Invalid JSON payload received. Unknown name "name": Field 'name' is already set."#,
    ),
    (
        SERVICE,
        r#"{"labels": {"a": "1", "b": "", "a": "2"}}"#,
        r#"Invalid JSON payload received. Unknown name "a" at 'labels': Repeated map key: 'a' is already set."#,
    ),
    // Values.
    (
        SERVICE,
        r#"{"template": {"scaling": {"minInstanceCount": "abc"}}}"#,
        r#"Invalid value at 'template.scaling.min_instance_count' (TYPE_INT32), "abc""#,
    ),
    (
        SERVICE,
        r#"{"template": {"scaling": {"minInstanceCount": 3000000000}}}"#,
        r#"Invalid value at 'template.scaling.min_instance_count' (TYPE_INT32), 3000000000"#,
    ),
    (
        SERVICE,
        r#"{"template": {"scaling": {"minInstanceCount": 1.5}}}"#,
        r#"Invalid value at 'template.scaling.min_instance_count' (TYPE_INT32), 1.5"#,
    ),
    (SERVICE, r#"{"name": 5}"#, r#"Invalid value at 'name' (TYPE_STRING), 5"#),
    (SERVICE, r#"{"name": true}"#, r#"Invalid value at 'name' (TYPE_STRING), true"#),
    (SERVICE, r#"{"reconciling": "maybe"}"#, r#"Invalid value at 'reconciling' (TYPE_BOOL), "maybe""#),
    (
        SERVICE,
        r#"{"ingress": "ALL"}"#,
        r#"Invalid value at 'ingress' (type.googleapis.com/google.cloud.run.v2.IngressTraffic), "ALL""#,
    ),
    (SERVICE, r#"{"name": {}}"#, r#"Invalid value (name), Starting an object on a scalar field"#),
    (
        SERVICE,
        r#"{"template": {"serviceAccount": {"a": 1}}}"#,
        r#"Invalid value at 'template' (service_account), Starting an object on a scalar field"#,
    ),
    (SERVICE, r#"{"labels": []}"#, r#"Invalid value at 'labels' (Map), Cannot bind a list to map."#),
    (
        SERVICE,
        r#"{"labels": "a=b"}"#,
        r#"Invalid value at 'labels' (type.googleapis.com/google.cloud.run.v2.Service.LabelsEntry), "a=b""#,
    ),
    (SERVICE, r#"{"labels": {"a": 1}}"#, r#"Invalid value at 'labels[0].value' (TYPE_STRING), 1"#),
    (
        SERVICE,
        r#"{"template": "x"}"#,
        r#"Invalid value at 'template' (type.googleapis.com/google.cloud.run.v2.RevisionTemplate), "x""#,
    ),
    (
        "google.cloud.secretmanager.v1.SecretPayload",
        r#"{"data": "not base64!"}"#,
        r#"Invalid value at 'data' (TYPE_BYTES), Base64 decoding failed for "not base64!""#,
    ),
    // Forms of their own.
    (
        SERVICE,
        r#"{"createTime": "2024-01-01"}"#,
        "Invalid value at 'create_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'createTime', Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone offset.",
    ),
    (
        SERVICE,
        r#"{"createTime": "2024-02-30T00:00:00Z"}"#,
        "Invalid value at 'create_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'createTime', Invalid time format: 2024-02-30T00:00:00Z",
    ),
    (
        SERVICE,
        r#"{"createTime": 5}"#,
        "Invalid value at 'create_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'createTime', Invalid data type for timestamp, value is 5",
    ),
    (
        SERVICE,
        r#"{"template": {"timeout": "300"}}"#,
        "Invalid value at 'template.timeout' (type.googleapis.com/google.protobuf.Duration), Field 'timeout', Illegal duration format; duration must end with 's'",
    ),
    (
        SERVICE,
        r#"{"template": {"timeout": "315576000001s"}}"#,
        "Invalid value at 'template.timeout' (type.googleapis.com/google.protobuf.Duration), Field 'timeout', Duration value exceeds limits",
    ),
    (
        "google.rpc.Status",
        r#"{"details": [{"a": 1}]}"#,
        "Invalid value at 'details[0]' (Any), Missing or invalid @type for any field in google.rpc.Status",
    ),
    (
        "google.rpc.Status",
        r#"{"details": [{"@type": "type.googleapis.com/no.Such"}]}"#,
        "Invalid value at 'details[0]' (Any), Invalid type URL, unknown type: no.Such",
    ),
    (
        "google.rpc.Status",
        r#"{"details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "nope": 1}]}"#,
        r#"Invalid JSON payload received. Unknown name "nope" at 'details[0]': Cannot find field."#,
    ),
    // All of them at once, in the order they came.
    (
        SERVICE,
        r#"{"foo": 1, "ingress": "X", "template": {"bar": 2, "maxInstanceRequestConcurrency": "many"}, "name": 7}"#,
        "Invalid JSON payload received. Unknown name \"foo\": Cannot find field.\n\
         Invalid value at 'ingress' (type.googleapis.com/google.cloud.run.v2.IngressTraffic), \"X\"\n\
         Invalid JSON payload received. Unknown name \"bar\" at 'template': Cannot find field.\n\
         Invalid value at 'template.max_instance_request_concurrency' (TYPE_INT32), \"many\"\n\
         Invalid value at 'name' (TYPE_STRING), 7",
    ),
    // No JSON at all.
    (
        SERVICE,
        r#"{"name": "a" "uri": "b"}"#,
        "Invalid JSON payload received. Expected , or } after key:value pair.\n{\"name\": \"a\" \"uri\": \"b\"}\n             ^",
    ),
    (
        SERVICE,
        "{",
        "Invalid JSON payload received. Unexpected end of string. Expected an object key or }.\n{\n ^",
    ),
    (SERVICE, "", "Invalid JSON payload received. Unexpected end of string. Expected a value.\n\n^"),
    (SERVICE, "hello", "Invalid JSON payload received. Unexpected token.\nhello\n^"),
    (SERVICE, "{} x", "Invalid JSON payload received. Parsing terminated before end of input.\n{} x\n   ^"),
    (
        SERVICE,
        r#"{"traffic": [1 2]}"#,
        "Invalid JSON payload received. Expected , or ] after array value.\n{\"traffic\": [1 2]}\n               ^",
    ),
    (
        SERVICE,
        r#"{"name" "a"}"#,
        "Invalid JSON payload received. Expected : between key:value pair.\n{\"name\" \"a\"}\n        ^",
    ),
    (
        SERVICE,
        r#"{"name": "a"#,
        "Invalid JSON payload received. Closing quote expected in string.\n{\"name\": \"a\n           ^",
    ),
    (
        SERVICE,
        r#"{"name": "\ud800"}"#,
        "Invalid JSON payload received. Missing low surrogate.\n{\"name\": \"\\ud800\"}\n          ^",
    ),
    (
        SERVICE,
        r#"{"name": "\udc00 and more"}"#,
        "Invalid JSON payload received. Invalid unicode code point.\n{\"name\": \"\\udc00 and more\"}\n          ^",
    ),
    (
        SERVICE,
        r#"{"name": "\uZZZZ"}"#,
        "Invalid JSON payload received. Invalid escape sequence.\n{\"name\": \"\\uZZZZ\"}\n          ^",
    ),
    (
        SERVICE,
        r#"{"generation": 012}"#,
        "Invalid JSON payload received. Octal/hex numbers are not valid JSON values.\n{\"generation\": 012}\n               ^",
    ),
    (
        SERVICE,
        r#"{"generation": 1e999}"#,
        "Invalid JSON payload received. Number exceeds the range of double.\n{\"generation\": 1e999}\n               ^",
    ),
];

#[test]
fn each_mistake_has_googles_words() {
    for (name, json, words) in TABLE {
        assert_eq!(refused(name, json), *words, "{json}");
    }
}

#[test]
fn each_wrong_field_is_a_violation() {
    let error =
        read(SERVICE, r#"{"foo": 1, "template": {"bar": 2, "timeout": "x"}}"#).unwrap_err().into_error();
    assert_eq!(error.code(), Code::InvalidArgument);
    let [Detail::BadRequest(violations)] = error.details() else { panic!("{:?}", error.details()) };
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["", "template", "template.timeout"]);
    assert!(violations[1].description.ends_with("Unknown name \"bar\" at 'template': Cannot find field."));
}

#[test]
fn a_text_that_is_no_json_has_no_violations() {
    let error = read(SERVICE, r#"{"foo": 1, "name"}"#).unwrap_err().into_error();
    assert!(error.details().is_empty());
    assert!(error.message().starts_with("Invalid JSON payload received. Expected : between key:value pair."));
}

#[test]
fn of_a_oneof_only_one_may_be_set() {
    let words =
        refused("google.cloud.secretmanager.v1.Replication", r#"{"automatic": {}, "userManaged": {}}"#);
    assert_eq!(
        words,
        "Invalid value (oneof), oneof field 'automatic' is already set. Cannot set 'userManaged'"
    );
}

#[test]
fn ten_thousand_levels_are_refused_wherever_they_stand() {
    let open = "[".repeat(10_000);
    let objects = "{\"a\":".repeat(10_000);
    for json in [
        format!("{{\"labels\": {open}"),
        format!("{{\"nothing\": {open}"),
        format!("{{\"nothing\": {objects}"),
        objects.clone(),
        open.clone(),
    ] {
        let words = refused(SERVICE, &json);
        assert!(
            words.starts_with(
                "Invalid JSON payload received. Message too deep. Max recursion depth reached for key '"
            ),
            "{words}"
        );
    }
    for name in [
        "google.protobuf.Struct",
        "google.protobuf.Value",
        "google.protobuf.ListValue",
        "google.protobuf.Any",
    ] {
        let text = if name.ends_with("ListValue") { &open } else { &objects };
        assert!(refused(name, text).contains("too deep"), "{name}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let json = b"{\"name\": \"\xff\"}";
    let error = super::decode(super::message(SERVICE), json, super::Limits::default()).unwrap_err();
    let words = error.into_error().message().to_owned();
    assert!(
        words.starts_with("Invalid JSON payload received. Encountered non UTF-8 code points.\n"),
        "{words}"
    );
}

#[test]
fn a_body_over_the_limit_is_refused_unread() {
    let error = super::decode(super::message(SERVICE), &[b' '; 65], super::Limits { bytes: 64 }).unwrap_err();
    assert_eq!(error.into_error().message(), "Request payload size exceeds the limit: 64 bytes.");
}

#[test]
fn an_endless_list_of_mistakes_is_cut() {
    let json = format!("{{{}}}", (0..5000).map(|n| format!("\"x{n}\":1")).collect::<Vec<_>>().join(","));
    assert_eq!(read(SERVICE, &json).unwrap_err().violations().len(), 1000);
}
