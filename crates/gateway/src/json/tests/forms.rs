//! The forms that values have, in and out.

use super::{
    super::{Enums, Layout, Malformed, Options, encode},
    SERVICE, again, message, read, write,
};

#[test]
fn both_names_of_a_field_and_all_forms_of_a_value_are_taken() {
    for (json, expected) in [
        (r#"{"min_instance_count": "3"}"#, r#"{"minInstanceCount":3}"#),
        (r#"{"minInstanceCount": 3.0}"#, r#"{"minInstanceCount":3}"#),
        (r#"{"minInstanceCount": 1e3}"#, r#"{"minInstanceCount":1000}"#),
        (r#"{"minInstanceCount": -0}"#, "{}"),
        (r#"{"minInstanceCount": null}"#, "{}"),
        (r#"{minInstanceCount: 3,}"#, r#"{"minInstanceCount":3}"#),
        (r#"{'minInstanceCount': '3'}"#, r#"{"minInstanceCount":3}"#),
    ] {
        assert_eq!(again("google.cloud.run.v2.RevisionScaling", json), expected, "{json}");
    }
    for (json, expected) in [
        (r#"{"generation": "9007199254740993"}"#, r#"{"generation":"9007199254740993"}"#),
        (r#"{"generation": 9007199254740993}"#, r#"{"generation":"9007199254740993"}"#),
        (r#"{"ingress": "INGRESS_TRAFFIC_ALL"}"#, r#"{"ingress":"INGRESS_TRAFFIC_ALL"}"#),
        (r#"{"ingress": 1}"#, r#"{"ingress":"INGRESS_TRAFFIC_ALL"}"#),
        (r#"{"ingress": "ingress-traffic-all"}"#, r#"{"ingress":"INGRESS_TRAFFIC_ALL"}"#),
        (r#"{"ingress": 77}"#, r#"{"ingress":77}"#),
        (r#"{"name": "tab\t \u00e9 \ud83e\udd80 <b>"}"#, "{\"name\":\"tab\\t é 🦀 \\u003cb\\u003e\"}"),
        (r#"{"urls": "one"}"#, r#"{"urls":["one"]}"#),
        (r#"{"labels": {"b": "2", "a": null}}"#, r#"{"labels":{"a":"","b":"2"}}"#),
        (r#"{"createTime": "2024-02-29T12:00:00.5+02:00"}"#, r#"{"createTime":"2024-02-29T10:00:00.500Z"}"#),
        (
            r#"{"createTime": {"seconds": 1, "nanos": 1000}}"#,
            r#"{"createTime":"1970-01-01T00:00:01.000001Z"}"#,
        ),
        (r#"{"template": {"timeout": "-0.000000001s"}}"#, r#"{"template":{"timeout":"-0.000000001s"}}"#),
        (r#"{"template": {}}"#, r#"{"template":{}}"#),
    ] {
        assert_eq!(again(SERVICE, json), expected, "{json}");
    }
}

#[test]
fn base64_is_taken_in_both_alphabets_with_and_without_padding() {
    for data in ["+/8=", "-_8=", "+/8", "-_8", "+/\\n8="] {
        let json = format!(r#"{{"data": "{data}"}}"#);
        assert_eq!(
            again("google.cloud.secretmanager.v1.SecretPayload", &json),
            r#"{"data":"+/8="}"#,
            "{data}"
        );
    }
}

/// Found by the fuzzer: what is written is read as what it was.
#[test]
fn a_zero_keeps_its_sign_and_a_mask_what_has_no_camel_case() {
    assert_eq!(again("google.protobuf.DoubleValue", r#""-0""#), "-0");
    assert_eq!(again("google.protobuf.DoubleValue", "-0"), "-0");
    assert_eq!(again("google.protobuf.Value", "-0"), "-0");
    for mask in [r#""aB,cD.eF""#, r#""a_1,_,b_""#, r#""labels.`my_key`,x""#] {
        assert_eq!(again("google.protobuf.FieldMask", mask), mask);
    }
}

#[test]
fn free_forms_keep_what_they_hold() {
    for json in [r#"{"a":null,"b":[1,-2.5,"x",true,{"c":{}}],"d":1e-7}"#, r#"{}"#] {
        assert_eq!(again("google.protobuf.Struct", json), json);
        assert_eq!(again("google.protobuf.Value", json), json);
    }
    for json in ["null", "3", r#""x""#, "[[],{}]"] {
        assert_eq!(again("google.protobuf.Value", json), json);
    }
    assert_eq!(
        again("google.protobuf.FieldMask", r#""labels,createTime,a.bC""#),
        r#""labels,createTime,a.bC""#
    );
    assert_eq!(again("google.protobuf.Int64Value", "7"), r#""7""#);
}

#[test]
fn the_type_of_an_any_may_come_last() {
    let json = r#"{"details":[{"reason":"R","metadata":{"a":"b"},"@type":"type.googleapis.com/google.rpc.ErrorInfo"}]}"#;
    let first = r#"{"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R","metadata":{"a":"b"}}]}"#;
    assert_eq!(again("google.rpc.Status", json), first);
    let wrapped =
        r#"{"details":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}]}"#;
    assert_eq!(again("google.rpc.Status", wrapped), wrapped);
    assert_eq!(again("google.rpc.Status", r#"{"details":[{}]}"#), r#"{"details":[{}]}"#);
}

#[test]
fn an_any_of_an_unknown_type_shows_its_bytes() {
    let any = [b"\x0a\x05x/no.".as_slice(), b"\x12\x02hi"].concat();
    assert_eq!(
        write("google.protobuf.Any", &any, &Options { layout: Layout::Compact, ..Options::default() }),
        r#"{"@type":"x/no.","value":"aGk="}"#
    );
}

#[test]
fn answers_are_laid_out_as_google_lays_them_out() {
    let bytes = read(
        SERVICE,
        r#"{"name": "n", "labels": {"a": "b"}, "template": {"containers": [{"image": "i"}, {}]}, "ingress": 1}"#,
    )
    .unwrap();
    let pretty = "{\n  \"name\": \"n\",\n  \"labels\": {\n    \"a\": \"b\"\n  },\n  \"ingress\": 1,\n  \"template\": {\n    \
                  \"containers\": [\n      {\n        \"image\": \"i\"\n      },\n      {}\n    ]\n  }\n}\n";
    let options = Options { enums: Enums::Numbers, ..Options::default() };
    assert_eq!(write(SERVICE, &bytes, &options), pretty);
    assert_eq!(write(SERVICE, &[], &options), "{}\n");
}

#[test]
fn parts_of_a_message_are_one_message_wherever_they_stand() {
    let labels = |key: &str| read(SERVICE, &format!(r#"{{"labels": {{"{key}": "1"}}}}"#)).unwrap();
    let part = |json: &str| read(SERVICE, json).unwrap();
    let bytes = [
        part(r#"{"urls": ["a"], "template": {"revision": "r"}}"#),
        labels("x"),
        part(r#"{"name": "first", "urls": ["b"]}"#),
        labels("y"),
        part(r#"{"name": "last", "template": {"timeout": "1s"}}"#),
        labels("x"),
    ]
    .concat();
    let json = write(SERVICE, &bytes, &Options { layout: Layout::Compact, ..Options::default() });
    assert_eq!(
        json,
        r#"{"name":"last","labels":{"x":"1","y":"1"},"template":{"revision":"r","timeout":"1s"},"urls":["a","b"]}"#
    );
}

#[test]
fn of_a_oneof_the_last_counts() {
    let kind = "google.cloud.secretmanager.v1.Replication";
    let bytes =
        [read(kind, r#"{"userManaged": {}}"#).unwrap(), read(kind, r#"{"automatic": {}}"#).unwrap()].concat();
    assert_eq!(
        write(kind, &bytes, &Options { layout: Layout::Compact, ..Options::default() }),
        r#"{"automatic":{}}"#
    );
}

#[test]
fn a_hundred_thousand_scattered_elements_take_no_longer_than_they_should() {
    let element =
        [read(SERVICE, r#"{"urls": ["u"]}"#).unwrap(), read(SERVICE, r#"{"labels": {"k": "v"}}"#).unwrap()];
    let bytes = element.concat().repeat(100_000);
    let started = std::time::Instant::now();
    let json = write(SERVICE, &bytes, &Options::default());
    assert!(json.len() > 100_000);
    assert!(started.elapsed().as_secs() < 5, "a walk that is not linear takes minutes");
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    for (bytes, why) in [
        (&b"\x0a\x05ab"[..], "field cut short"),
        (b"\x0a\x01\xff", "text that is not UTF-8"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "field cut short"),
    ] {
        assert_eq!(
            encode(message(SERVICE), bytes, &Options::default(), &mut Vec::new()),
            Err(Malformed(why))
        );
    }
    let deep = (0..200).fold(Vec::new(), |inner, _| {
        let mut out = Vec::new();
        super::super::wire::put_bytes(&mut out, 6, &inner);
        let mut list = Vec::new();
        super::super::wire::put_bytes(&mut list, 1, &out);
        list
    });
    assert_eq!(
        encode(message("google.protobuf.ListValue"), &deep, &Options::default(), &mut Vec::new()),
        Err(Malformed("too deep"))
    );
}
