//! Partial responses.

use super::{
    super::{FieldSelector, Layout, Options},
    message, read, write,
};

const LIST: &str = "google.cloud.secretmanager.v1.ListSecretsResponse";

fn chosen(mask: &str) -> String {
    let bytes = read(
        LIST,
        r#"{"secrets": [{"name": "s1", "labels": {"a": "1", "b": "2"}, "etag": "e", "createTime": "2024-01-01T00:00:00Z"},
            {"name": "s2", "replication": {"automatic": {}}}], "nextPageToken": "t", "totalSize": 2}"#,
    )
    .unwrap();
    let selector = FieldSelector::parse(message(LIST), mask).unwrap();
    write(LIST, &bytes, &Options { fields: Some(&selector), layout: Layout::Compact, ..Options::default() })
}

#[test]
fn a_mask_chooses_what_is_answered() {
    for (mask, expected) in [
        ("nextPageToken", r#"{"nextPageToken":"t"}"#),
        ("secrets/name,nextPageToken", r#"{"secrets":[{"name":"s1"},{"name":"s2"}],"nextPageToken":"t"}"#),
        ("secrets(name,etag)", r#"{"secrets":[{"name":"s1","etag":"e"},{"name":"s2"}]}"#),
        ("secrets(labels/a)", r#"{"secrets":[{"labels":{"a":"1"}},{}]}"#),
        (
            "secrets.create_time,total_size",
            r#"{"secrets":[{"createTime":"2024-01-01T00:00:00Z"},{}],"totalSize":2}"#,
        ),
        ("*/name", r#"{"secrets":[{"name":"s1"},{"name":"s2"}],"nextPageToken":"t","totalSize":2}"#),
        ("secrets(name,labels(b))", r#"{"secrets":[{"name":"s1","labels":{"b":"2"}},{"name":"s2"}]}"#),
        ("secrets,secrets/name", chosen("secrets").as_str()),
    ] {
        assert_eq!(chosen(mask), expected, "{mask}");
    }
    assert_eq!(chosen("*"), chosen("secrets,nextPageToken,totalSize"));
}

#[test]
fn a_mask_that_fits_nothing_is_refused_by_name() {
    for (mask, path) in [
        ("nope", "nope"),
        ("secrets/nope", "secrets.nope"),
        ("secrets(name,nope),nextPageToken", "secrets.nope"),
        ("secrets/name/deeper", "secrets.name.deeper"),
        ("secrets(name", "secrets"),
        ("secrets)", "secrets)"),
        ("", ""),
        ("a,,b", "a"),
    ] {
        let error = FieldSelector::parse(message(LIST), mask).unwrap_err().into_error();
        assert_eq!(error.message(), "Request contains an invalid argument.");
        let [kernel::error::Detail::BadRequest(violations)] = error.details() else { panic!("{error:?}") };
        assert_eq!(violations[0].field, mask);
        let words =
            format!("Error expanding 'fields' parameter. Cannot find matching fields for path '{path}'.");
        assert_eq!(violations[0].description, words);
    }
}

#[test]
fn a_mask_cannot_nest_without_end() {
    for mask in ["(".repeat(100_000), "*(".repeat(100_000), "secrets/".repeat(100_000)] {
        assert!(FieldSelector::parse(message(LIST), &mask).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn a_mask_of_anything_is_no_fault(mask in "[a-z*(),/. ]{0,60}|(secrets|name|labels|\\*|\\(|\\)|,|/){0,20}") {
        let _ = FieldSelector::parse(message(LIST), &mask);
    }
}
