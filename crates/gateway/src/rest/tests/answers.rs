//! Answers, and errors in the forms that Google's APIs have.

use apis::google::cloud::secretmanager::v1::{
    ListSecretsResponse, Secret, SecretVersion, secret_version::State,
};
use kernel::{Error, error::Detail};
use prost::Message;

use super::{
    super::{Alt, ErrorStyle, Format, SystemParams, respond_error, respond_ok},
    method,
};
use crate::json::{Enums, Layout};

const SECRETS: &str = "google.cloud.secretmanager.v1.SecretManagerService.";

fn compact() -> SystemParams {
    SystemParams { layout: Layout::Compact, ..SystemParams::default() }
}

fn answer(name: &str, message: &impl Message, system: &SystemParams) -> Result<String, Error> {
    let format = Format::new(method(&format!("{SECRETS}{name}")), "", system, ErrorStyle::Plain)?;
    let answer = respond_ok(&format, &message.encode_to_vec())?;
    assert_eq!(answer.content_type, "application/json; charset=UTF-8");
    Ok(String::from_utf8(answer.body).unwrap())
}

#[test]
fn enums_are_named_or_numbered_as_the_caller_wants() {
    let version = SecretVersion { state: State::Enabled.into(), ..Default::default() };
    assert_eq!(answer("GetSecretVersion", &version, &compact()).unwrap(), r#"{"state":"ENABLED"}"#);
    let numbers = SystemParams { enums: Enums::Numbers, ..compact() };
    assert_eq!(answer("GetSecretVersion", &version, &numbers).unwrap(), r#"{"state":1}"#);
}

#[test]
fn a_mask_is_checked_before_the_call_and_obeyed_after_it() {
    let secrets = vec![Secret { name: "s".into(), etag: "e".into(), ..Default::default() }];
    let list = ListSecretsResponse { secrets, next_page_token: "t".into(), ..Default::default() };
    let mut system = SystemParams { fields: Some("secrets(name)".into()), ..compact() };
    assert_eq!(answer("ListSecrets", &list, &system).unwrap(), r#"{"secrets":[{"name":"s"}]}"#);
    system.fields = Some("secrets(nme)".into());
    let error = answer("ListSecrets", &list, &system).unwrap_err();
    assert_eq!(error.message(), "Request contains an invalid argument.");
    let plain = Format::new(method(&format!("{SECRETS}ListSecrets")), "", &system, ErrorStyle::Legacy);
    assert_eq!(plain.unwrap_err().message(), "Invalid field selection secrets.nme");
}

#[test]
fn bytes_are_answered_to_those_who_ask_for_bytes() {
    let secret = Secret { name: "s".into(), ..Default::default() };
    let id = method(&format!("{SECRETS}GetSecret"));
    let system = SystemParams { alt: Alt::Proto, ..Default::default() };
    let format = Format::new(id, "", &system, ErrorStyle::Plain).unwrap();
    let answer = respond_ok(&format, &secret.encode_to_vec()).unwrap();
    assert_eq!(answer.content_type, "application/x-protobuf");
    assert_eq!(Secret::decode(answer.body.as_slice()).unwrap(), secret);
    let media = SystemParams { alt: Alt::Media, ..Default::default() };
    assert!(Format::new(id, "", &media, ErrorStyle::Plain).is_err());
}

#[test]
fn one_field_may_be_the_whole_answer() {
    let id = method(&format!("{SECRETS}ListSecrets"));
    let secrets = vec![Secret { name: "s".into(), ..Default::default() }];
    let list = ListSecretsResponse { secrets, ..Default::default() };
    let format = Format::new(id, "secrets", &compact(), ErrorStyle::Plain).unwrap();
    assert_eq!(respond_ok(&format, &list.encode_to_vec()).unwrap().body, br#"{"name":"s"}"#);
}

#[test]
fn a_broken_answer_is_a_fault_of_ours() {
    let id = method(&format!("{SECRETS}GetSecret"));
    let format = Format::new(id, "", &compact(), ErrorStyle::Plain).unwrap();
    let error = respond_ok(&format, b"\x0a\x05x").unwrap_err();
    assert_eq!(error.message(), "Internal error encountered.");
}

fn denied() -> Error {
    Error::denied("Permission 'x' denied.").with(Detail::Info {
        reason: "IAM_PERMISSION_DENIED",
        domain: "iam.googleapis.com",
        metadata: vec![("permission", "x".into())],
    })
}

fn error(error: &Error, system: &SystemParams, style: ErrorStyle) -> (u16, String) {
    let (status, body) = respond_error(error, system, style);
    (status, String::from_utf8(body).unwrap())
}

#[test]
fn an_error_has_code_message_status_and_details() {
    let expected = r#"{
  "error": {
    "code": 403,
    "message": "Permission 'x' denied.",
    "status": "PERMISSION_DENIED",
    "details": [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {
          "permission": "x"
        }
      }
    ]
  }
}
"#;
    assert_eq!(error(&denied(), &SystemParams::default(), ErrorStyle::Plain), (403, expected.into()));
}

#[test]
fn older_apis_list_errors_instead_or_as_well() {
    let not_found = Error::not_found("The specified bucket does not exist.");
    assert_eq!(
        error(&not_found, &compact(), ErrorStyle::Legacy).1,
        "{\"error\":{\"code\":404,\"message\":\"The specified bucket does not exist.\",\"errors\":[{\"message\":\"The \
         specified bucket does not exist.\",\"domain\":\"global\",\"reason\":\"notFound\"}]}}\n"
    );
    let named = Error::precondition("No.").with(Detail::Info {
        reason: "conditionNotMet",
        domain: "global",
        metadata: Vec::new(),
    });
    assert!(error(&named, &compact(), ErrorStyle::Legacy).1.contains(r#""reason":"conditionNotMet""#));
    let both = error(&denied(), &compact(), ErrorStyle::Both).1;
    for part in [r#""reason":"forbidden""#, r#""status":"PERMISSION_DENIED""#, r#""details":["#] {
        assert!(both.contains(part), "{part}: {both}");
    }
}

#[test]
fn each_host_has_its_style() {
    assert_eq!(ErrorStyle::of("storage.googleapis.com", "/storage/v1/b"), ErrorStyle::Legacy);
    assert_eq!(ErrorStyle::of("cloudresourcemanager.googleapis.com", "/v1/projects/p"), ErrorStyle::Both);
    assert_eq!(ErrorStyle::of("cloudresourcemanager.googleapis.com", "/v3/projects/p"), ErrorStyle::Plain);
    assert_eq!(ErrorStyle::of("run.googleapis.com", "/v2/projects/p"), ErrorStyle::Plain);
}
