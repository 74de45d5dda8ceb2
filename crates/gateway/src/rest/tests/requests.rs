//! Request messages from their parts.

use apis::google::{
    cloud::{
        run::v2::{CreateServiceRequest, UpdateServiceRequest},
        secretmanager::v1::{AddSecretVersionRequest, ListSecretsRequest, UpdateSecretRequest},
    },
    iam::v1::{GetIamPolicyRequest, SetIamPolicyRequest},
};
use http::{HeaderMap, HeaderValue, Method};
use kernel::{Error, error::Detail};
use proptest::prelude::*;
use prost::Message;

use super::{
    super::{Alt, Router, SystemParams, decode_request, verb},
    method,
};
use crate::json::{Enums, Layout, Limits};

const SECRETS: &str = "google.cloud.secretmanager.v1.SecretManagerService.";
const RUN: &str = "google.cloud.run.v2.Services.";

fn request<M: Message + Default>(name: &str, http: &str, target: &str, body: &str) -> Result<M, Error> {
    let id = method(name);
    let router = Router::new(&[id]);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let found = router.find(id.host(), http, path).unwrap_or_else(|why| panic!("{target}: {why:?}"));
    let bytes = decode_request(&found, query, body.as_bytes(), Limits::default())?;
    Ok(M::decode(bytes).unwrap())
}

#[test]
fn path_query_and_body_make_one_message() {
    let made: CreateServiceRequest = request(
        &format!("{RUN}CreateService"),
        "POST",
        "/v2/projects/p/locations/us-central1/services?serviceId=s&validateOnly=True&alt=json",
        r#"{"labels": {"a": "b"}, "template": {"containers": [{"image": "i"}]}}"#,
    )
    .unwrap();
    assert_eq!(made.parent, "projects/p/locations/us-central1");
    assert_eq!(made.service_id, "s");
    assert!(made.validate_only);
    assert_eq!(made.service.unwrap().template.unwrap().containers[0].image, "i");
}

#[test]
fn what_the_path_names_wins_over_the_body() {
    let made: UpdateServiceRequest = request(
        &format!("{RUN}UpdateService"),
        "PATCH",
        "/v2/projects/p/locations/l/services/right?updateMask=labels,template.maxInstanceRequestConcurrency",
        r#"{"name": "wrong", "description": "kept"}"#,
    )
    .unwrap();
    let service = made.service.unwrap();
    assert_eq!(service.name, "projects/p/locations/l/services/right");
    assert_eq!(service.description, "kept");
    let mask = made.update_mask.unwrap();
    assert_eq!(mask.paths, ["labels", "template.max_instance_request_concurrency"]);
}

#[test]
fn a_whole_body_is_the_request() {
    let made: AddSecretVersionRequest = request(
        &format!("{SECRETS}AddSecretVersion"),
        "POST",
        "/v1/projects/p/secrets/s:addVersion",
        r#"{"payload": {"data": "aGk=", "dataCrc32c": "5"}}"#,
    )
    .unwrap();
    assert_eq!(made.parent, "projects/p/secrets/s");
    assert_eq!(made.payload.unwrap().data, b"hi".as_slice());
}

#[test]
fn an_empty_body_is_no_body() {
    let made: SetIamPolicyRequest =
        request(&format!("{SECRETS}SetIamPolicy"), "POST", "/v1/projects/p/secrets/s:setIamPolicy", "\n")
            .unwrap();
    assert_eq!(made, SetIamPolicyRequest { resource: "projects/p/secrets/s".into(), ..Default::default() });
}

#[test]
fn a_parameter_may_lie_in_a_message() {
    let made: GetIamPolicyRequest = request(
        &format!("{SECRETS}GetIamPolicy"),
        "GET",
        "/v1/projects/p/secrets/s:getIamPolicy?options.requestedPolicyVersion=3&$prettyPrint=false&key=k",
        "",
    )
    .unwrap();
    assert_eq!(made.options.unwrap().requested_policy_version, 3);
}

#[test]
fn parameters_are_unescaped() {
    let made: ListSecretsRequest = request(
        &format!("{SECRETS}ListSecrets"),
        "GET",
        "/v1/projects/p/secrets?filter=labels.a%3Db+OR+name%3A%22x%22&pageSize=5&page_token=t%2B%2F%3D",
        "",
    )
    .unwrap();
    assert_eq!(made.filter, "labels.a=b OR name:\"x\"");
    assert_eq!((made.page_size, made.page_token.as_str()), (5, "t+/="));
}

#[test]
fn all_that_is_wrong_is_told_together() {
    let error = request::<UpdateSecretRequest>(
        &format!("{SECRETS}UpdateSecret"),
        "PATCH",
        "/v1/projects/p/secrets/s?foo=1&secret.bar=2&secret.replication=x&secret.expireTime=soon&secret.versionDestroyTtl=5",
        r#"{"labels": 5, "baz": 1}"#,
    )
    .unwrap_err();
    assert_eq!(
        error.message().lines().collect::<Vec<_>>(),
        [
            "Invalid value at 'secret.labels' (type.googleapis.com/google.cloud.secretmanager.v1.Secret.LabelsEntry), 5",
            "Invalid JSON payload received. Unknown name \"baz\" at 'secret': Cannot find field.",
            "Invalid JSON payload received. Unknown name \"foo\": Cannot bind query parameter. Field 'foo' could not be found in request message.",
            "Invalid JSON payload received. Unknown name \"secret.bar\": Cannot bind query parameter. Field 'bar' could not be found in request message.",
            "Invalid JSON payload received. Unknown name \"secret.replication\": Cannot bind query parameter. 'replication' is a message type. Parameters can only be bound to primitive types.",
            "Invalid value at 'secret.expire_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'expireTime', Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone offset.",
            "Invalid value at 'secret.version_destroy_ttl' (type.googleapis.com/google.protobuf.Duration), Field 'versionDestroyTtl', Illegal duration format; duration must end with 's'",
        ]
    );
    let [Detail::BadRequest(violations)] = error.details() else { panic!("{:?}", error.details()) };
    assert_eq!(violations.len(), 7);
}

#[test]
fn a_number_that_is_none_is_refused() {
    let error = request::<ListSecretsRequest>(
        &format!("{SECRETS}ListSecrets"),
        "GET",
        "/v1/projects/p/secrets?pageSize=ten",
        "",
    )
    .unwrap_err();
    assert_eq!(error.message(), "Invalid value at 'page_size' (TYPE_INT32), \"ten\"");
}

fn system(query: &str) -> Result<SystemParams, Error> {
    SystemParams::parse(query, &HeaderMap::new())
}

#[test]
fn every_client_asks_for_numbers_in_its_own_way() {
    for query in [
        "$alt=json;enum-encoding=int",
        "$alt=json%3Benum-encoding%3Dint",
        "%24alt=json%3Benum-encoding%3Dint",
        "alt=json%3benum-encoding=int",
        "a=b&%24alt=json%3Benum-encoding%3Dint&c=d",
    ] {
        assert_eq!(system(query).unwrap().enums, Enums::Numbers, "{query}");
    }
    assert_eq!(system("alt=json").unwrap(), SystemParams::default());
    assert_eq!(system("alt=proto").unwrap().alt, Alt::Proto);
    assert_eq!(system("prettyPrint=false").unwrap().layout, Layout::Compact);
    assert_eq!(system("prettyPrint=true").unwrap().layout, Layout::Pretty);
    assert_eq!(system("fields=a%2Cb").unwrap().fields.as_deref(), Some("a,b"));
    assert!(system("alt=xml").is_err());
    assert!(system("callback=f").is_err());
}

#[test]
fn a_post_may_mean_another_verb() {
    let mut headers = HeaderMap::new();
    assert_eq!(verb(&Method::POST, &headers), Method::POST);
    headers.insert("X-HTTP-Method-Override", HeaderValue::from_static("patch"));
    assert_eq!(verb(&Method::POST, &headers), Method::PATCH);
    assert_eq!(verb(&Method::GET, &headers), Method::GET);
}

proptest! {
    #[test]
    fn any_query_and_body_are_no_fault(query in "[ -~]{0,80}|(secret|name|labels|\\.|=|&|%2[0-9a-f]|pageSize){0,30}", body in "[ -~]{0,40}") {
        let _ = system(&query);
        let _ = request::<UpdateSecretRequest>(
            &format!("{SECRETS}UpdateSecret"),
            "PATCH",
            &format!("/v1/projects/p/secrets/s?{query}"),
            &body,
        );
    }
}
