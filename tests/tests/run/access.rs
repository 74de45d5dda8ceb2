//! Who may call a service, and from where.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, have, instances_run};

use super::{HELLO, REGION, await_settled, get, manifest, owner, ready, service_of_a_script};

const SERVICES: &str = "apis/serving.knative.dev/v1/namespaces";

/// Deploys a manifest over the API.
fn put(haar: &Haar, name: &str, body: &Value) -> Value {
    let collection = format!("{REGION}-run.googleapis.com/{SERVICES}/{PROJECT}/services");
    let url = format!("{collection}/{name}");
    let made = match haar.api("GET", &url, None)["error"]["code"].as_i64() {
        Some(404) => haar.api("POST", &collection, Some(body)),
        _ => haar.api("PUT", &url, Some(body)),
    };
    assert!(made["error"].is_null(), "{made:#}");
    let settled = await_settled(haar, &url);
    assert_eq!(ready(&settled)["status"], "True", "{settled:#}");
    settled
}

fn url_of(service: &Value) -> String {
    service["status"]["url"].as_str().expect("a URL").to_owned()
}

/// An account that the owner may make tokens for, and that may invoke the service `hello`.
fn caller(haar: &Haar) -> String {
    let account = format!("caller@{PROJECT}.iam.gserviceaccount.com");
    let accounts = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    haar.api("POST", &accounts, Some(&json!({ "accountId": "caller" })));
    let bind = |url: String, role: &str, member: String| {
        let policy = json!({ "policy": { "bindings": [{ "role": role, "members": [member] }] } });
        let set = haar.api("POST", &format!("{url}:setIamPolicy"), Some(&policy));
        assert!(set["error"].is_null(), "{set:#}");
    };
    bind(
        format!("{accounts}/{account}"),
        "roles/iam.serviceAccountTokenCreator",
        format!("user:{}", owner(haar)),
    );
    let hello = format!("run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services/hello");
    bind(hello, "roles/run.invoker", format!("serviceAccount:{account}"));
    account
}

fn token(haar: &Haar, account: &str, audience: &str) -> String {
    let url =
        format!("iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateIdToken");
    let made = haar.api("POST", &url, Some(&json!({ "audience": audience, "includeEmail": true })));
    made["token"].as_str().unwrap_or_else(|| panic!("no token: {made:#}")).to_owned()
}

#[test]
fn tokens_are_for_an_audience_and_may_come_in_a_header_of_their_own() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let mut body = manifest("hello", &json!({ "image": HELLO }));
    body["metadata"]["annotations"] =
        json!({ "run.googleapis.com/custom-audiences": "[\"https://tide.example.com\"]" });
    let url = url_of(&put(&haar, "hello", &body));
    let account = caller(&haar);
    let status = |headers: &str| get(&haar, &url, headers).0;
    let [own, custom, other] = [url.as_str(), "https://tide.example.com", "https://else.example.com"]
        .map(|to| token(&haar, &account, to));
    assert_eq!(status(""), 403);
    assert_eq!(status(&format!("Authorization: Bearer {own}\r\n")), 200);
    assert_eq!(status(&format!("Authorization: Bearer {custom}\r\n")), 200, "a custom audience");
    assert_eq!(status(&format!("Authorization: Bearer {other}\r\n")), 401, "somebody else's");

    // Cloud Run looks at its own header first, and leaves the other one to the app.
    let both = |first: &str, second: &str| {
        status(&format!("X-Serverless-Authorization: Bearer {first}\r\nAuthorization: Bearer {second}\r\n"))
    };
    assert_eq!(both(&own, "a-token-of-the-app"), 200);
    assert_eq!(both("nonsense", &own), 401);

    body["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"] = "true".into();
    put(&haar, "hello", &body);
    assert_eq!(status(""), 200, "nobody is asked");
    body["metadata"]["annotations"] = json!({});
    put(&haar, "hello", &body);
    assert_eq!(status(""), 403);
    assert_eq!(status(&format!("Authorization: Bearer {custom}\r\n")), 401, "the audience is gone");
}

#[test]
fn an_internal_service_is_reached_by_workloads_only() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let mut inner = manifest("inner", &json!({ "image": HELLO }));
    inner["metadata"]["annotations"]["run.googleapis.com/ingress"] = "internal".into();
    let url = url_of(&put(&haar, "inner", &inner));
    assert_eq!(get(&haar, &url, "").0, 404, "as if it was not there");

    let host = url.trim_start_matches("http://").split(".run.localhost").next().expect("a host");
    let script = format!("/bin/busybox wget -q -O - http://{host}.run.app/ 2>&1");
    let outer = put(&haar, "outer", &service_of_a_script(&haar, "outer", &script, &json!({})));
    let outer = url_of(&outer).trim_start_matches("http://").to_owned();
    let page = tests::fetch(&haar, &outer, "/cgi-bin/run");
    assert!(page.contains("It is running"), "{page}");

    inner["metadata"]["annotations"]["run.googleapis.com/ingress"] = "all".into();
    put(&haar, "inner", &inner);
    assert_eq!(get(&haar, &url, "").0, 200);
}
