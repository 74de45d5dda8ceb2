//! Service accounts: changed, switched off, deleted and back; what they sign; what is written about them.

use serde_json::{Value, json};
use tests::{Haar, PROJECT};

use super::{Api, names};

#[test]
fn accounts_from_made_to_gone_and_back() {
    let haar = Haar::start();
    let api = Api::new(&haar, "iam.googleapis.com");
    let made = api.post(&format!("v1/projects/{PROJECT}/serviceAccounts"), json!({ "accountId": "reader" }));
    let name = format!("v1/{}", made["name"].as_str().unwrap());
    let change = json!({ "serviceAccount": { "description": "reads" }, "updateMask": "description" });
    assert_eq!(api.call("PATCH", &name, Some(change))["description"], "reads");
    let changed = json!({ "displayName": "The reader", "etag": api.get(&name)["etag"] });
    assert_eq!(api.call("PUT", &name, Some(changed))["displayName"], "The reader");
    api.post(&format!("{name}:disable"), json!({}));
    assert_eq!(api.get(&name)["disabled"], true);
    api.post(&format!("{name}:enable"), json!({}));
    assert!(api.get(&name)["disabled"].is_null());
    let asked = json!({ "permissions": ["iam.serviceAccounts.actAs"] });
    assert_eq!(api.post(&format!("{name}:testIamPermissions"), asked.clone()), asked);
    api.delete(&name);
    assert_eq!(api.refusal("GET", &name, None), "NOT_FOUND");
    let id = made["uniqueId"].as_str().unwrap();
    let back = api.post(&format!("v1/projects/{PROJECT}/serviceAccounts/{id}:undelete"), json!({}));
    assert_eq!(back["restoredAccount"]["email"], made["email"], "{back}");
}

#[test]
fn keys_signatures_and_lint() {
    let haar = Haar::start();
    let api = Api::new(&haar, "iam.googleapis.com");
    let made = api.post(&format!("v1/projects/{PROJECT}/serviceAccounts"), json!({ "accountId": "signer" }));
    let name = format!("v1/{}", made["name"].as_str().unwrap());
    let key = api.post(&format!("{name}/keys"), json!({}));
    let again = api.get(&format!("v1/{}?publicKeyType=TYPE_X509_PEM_FILE", key["name"].as_str().unwrap()));
    assert!(again["publicKeyData"].is_string() && again["privateKeyData"].is_null(), "{again}");
    let email = made["email"].as_str().unwrap();
    let itself = json!([{ "role": "roles/iam.serviceAccountTokenCreator", "members": [format!("serviceAccount:{email}")] }]);
    api.post(&format!("{name}:setIamPolicy"), json!({ "policy": { "bindings": itself } }));
    let sign = |method: &str, body: Value| {
        haar.api_as(Some(email), "POST", &format!("iam.googleapis.com/{name}:{method}"), Some(&body))
    };
    let signed = sign("signBlob", json!({ "bytesToSign": "dGlkZQ==" }));
    assert!(signed["signature"].is_string(), "{signed}");
    let signed = sign("signJwt", json!({ "payload": json!({ "sub": "tide" }).to_string() }));
    assert_eq!(signed["signedJwt"].as_str().unwrap().split('.').count(), 3);
    let condition = json!({ "title": "late", "expression": "request.time <" });
    let linted = api.post(
        "v1/iamPolicies:lintPolicy",
        json!({ "fullResourceName": format!("//cloudresourcemanager.googleapis.com/projects/{PROJECT}"), "condition": condition }),
    );
    assert_eq!(linted["lintResults"][0]["severity"], "ERROR", "{linted}");
}

#[test]
fn pools_providers_and_their_operations() {
    let haar = Haar::start();
    let api = Api::new(&haar, "iam.googleapis.com");
    let pools = format!("v1/projects/{PROJECT}/locations/global/workloadIdentityPools");
    let made =
        api.post(&format!("{pools}?workloadIdentityPoolId=github"), json!({ "displayName": "GitHub" }));
    assert_eq!(api.get(&format!("v1/{}", made["name"].as_str().unwrap()))["done"], true);
    let provider = json!({
        "attributeMapping": { "google.subject": "assertion.sub" },
        "attributeCondition": "assertion.repository_owner == 'haar'",
        "oidc": { "issuerUri": "https://token.actions.githubusercontent.com" },
    });
    let providers = format!("{pools}/github/providers");
    let made = api.post(&format!("{providers}?workloadIdentityPoolProviderId=actions"), provider.clone());
    assert_eq!(api.get(&format!("v1/{}", made["name"].as_str().unwrap()))["done"], true);
    let got = api.get(&format!("{providers}/actions"));
    assert_eq!((&got["oidc"], &got["state"]), (&provider["oidc"], &json!("ACTIVE")));
}

#[test]
fn logs_are_listed_and_deleted() {
    let haar = Haar::start();
    let api = Api::new(&haar, "logging.googleapis.com");
    let log = format!("projects/{PROJECT}/logs/tides");
    let entry = json!({ "logName": log, "resource": { "type": "global" }, "textPayload": "high water" });
    api.post("v2/entries:write", json!({ "entries": [entry] }));
    let listed = api.get(&format!("v2/projects/{PROJECT}/logs"));
    assert!(listed["logNames"].as_array().unwrap().contains(&json!(log)), "{listed}");
    api.delete(&format!("v2/{log}"));
    let asked =
        json!({ "resourceNames": [format!("projects/{PROJECT}")], "filter": format!("logName=\"{log}\"") });
    assert!(names(&api.post("v2/entries:list", asked)["entries"], "textPayload").is_empty());
}
