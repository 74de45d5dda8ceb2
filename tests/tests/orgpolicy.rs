//! Organization policies: set by gcloud in both of its ways, inherited, tried out, and obeyed.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, have};

const ORGANIZATION: &str = "organizations/440056207318";
const MEMBERS: &str = "iam.allowedPolicyMemberDomains";
const KEYS: &str = "iam.disableServiceAccountKeyCreation";

/// Sets a policy of a project or of what is above it.
fn set(haar: &Haar, parent: &str, constraint: &str, policy: Value) {
    let mut policy = policy;
    policy["name"] = format!("{parent}/policies/{constraint}").into();
    let url = format!("https://orgpolicy.googleapis.com/v2/{parent}/policies");
    let set = haar.api("POST", &url, Some(&policy));
    assert!(set["error"].is_null(), "{set}");
}

fn only_ours() -> Value {
    json!({ "spec": { "rules": [{ "values": { "allowedValues": ["is:C0haar000"] } }] } })
}

fn enforced() -> Value {
    json!({ "spec": { "rules": [{ "enforce": true }] } })
}

fn account(haar: &Haar, id: &str) -> Value {
    let url = format!("https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    haar.api("POST", &url, Some(&json!({ "accountId": id })))
}

#[test]
fn only_members_from_here() {
    let haar = Haar::start();
    let secrets = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    let automatic = json!({ "replication": { "automatic": {} } });
    haar.api("POST", &format!("{secrets}?secretId=tide"), Some(&automatic));
    assert!(account(&haar, "reader")["error"].is_null());
    let share = |member: &str| {
        let bindings = json!([{ "role": "roles/secretmanager.viewer", "members": [member] }]);
        let body = json!({ "policy": { "bindings": bindings } });
        haar.api("POST", &format!("{secrets}/tide:setIamPolicy"), Some(&body))
    };
    assert!(share("user:ada@example.com")["error"].is_null(), "nobody forbids it yet");
    set(&haar, ORGANIZATION, MEMBERS, only_ours());
    assert!(share("user:ada@example.com")["error"].is_null(), "who is there already may stay");
    let refused = share("allUsers");
    let error = &refused["error"];
    assert_eq!(error["status"], "FAILED_PRECONDITION", "{refused}");
    assert_eq!(
        error["message"],
        "One or more users named in the policy do not belong to a permitted customer."
    );
    let violation = &error["details"][0]["violations"][0];
    assert_eq!(violation["type"], "constraints/iam.allowedPolicyMemberDomains", "{refused}");
    assert_eq!(violation["subject"], format!("orgpolicy:projects/{PROJECT}?configvalue=allUsers"));
    for ours in
        [&*format!("serviceAccount:reader@{PROJECT}.iam.gserviceaccount.com"), "domain:haar.localhost"]
    {
        assert!(share(ours)["error"].is_null(), "{ours}");
    }
    assert_eq!(share("user:eve@example.com")["error"]["code"], 400);

    let name = format!("https://orgpolicy.googleapis.com/v2/projects/{PROJECT}/policies/{MEMBERS}");
    let effective = haar.api("GET", &format!("{name}:getEffectivePolicy"), None);
    assert_eq!(effective["spec"]["rules"][0]["values"]["allowedValues"], json!(["C0haar000"]), "{effective}");
    set(&haar, &format!("projects/{PROJECT}"), MEMBERS, json!({ "spec": { "reset": true } }));
    assert!(share("allUsers")["error"].is_null(), "the project is excepted");
}

#[test]
fn databases_and_accounts_obey() {
    let haar = Haar::start();
    set(&haar, &format!("projects/{PROJECT}"), "sql.restrictPublicIp", enforced());
    let instance = json!({ "name": "db", "databaseVersion": "POSTGRES_15", "settings": { "tier": "db-f1-micro", "edition": "ENTERPRISE" } });
    let url = format!("https://sqladmin.googleapis.com/sql/v1beta4/projects/{PROJECT}/instances");
    let refused = haar.api("POST", &url, Some(&instance));
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with(
            "Invalid request: Organization Policy check failure: the external IP of this instance"
        ),
        "{refused}"
    );
    set(&haar, &format!("projects/{PROJECT}"), "iam.disableServiceAccountCreation", enforced());
    let refused = account(&haar, "another");
    assert_eq!(refused["error"]["message"], "Service account creation is not allowed on this project.");
}

#[test]
fn cloud_run_obeys() {
    let haar = Haar::start();
    let values = json!({ "allowedValues": ["internal"] });
    set(&haar, ORGANIZATION, "run.allowedIngress", json!({ "spec": { "rules": [{ "values": values }] } }));
    let service = |ingress: &str| {
        let image = "us-docker.pkg.dev/cloudrun/container/hello";
        let body = json!({ "ingress": ingress, "template": { "containers": [{ "image": image }] } });
        let url = format!("https://run.googleapis.com/v2/projects/{PROJECT}/locations/us-central1/services");
        haar.api("POST", &format!("{url}?serviceId=hello&validateOnly=true"), Some(&body))
    };
    let refused = service("INGRESS_TRAFFIC_ALL");
    assert_eq!(refused["error"]["status"], "FAILED_PRECONDITION", "{refused}");
    let violation = &refused["error"]["details"][0]["violations"][0];
    assert_eq!(violation["type"], "constraints/run.allowedIngress", "{refused}");
    assert!(service("INGRESS_TRAFFIC_INTERNAL_ONLY")["error"].is_null());
}

#[test]
fn what_is_tried_out_is_in_the_log() {
    let haar = Haar::start();
    account(&haar, "worker");
    set(&haar, ORGANIZATION, KEYS, json!({ "dryRunSpec": { "rules": [{ "enforce": true }] } }));
    let email = format!("worker@{PROJECT}.iam.gserviceaccount.com");
    let url = format!("https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts/{email}/keys");
    let made = haar.api("POST", &url, Some(&json!({})));
    assert!(made["error"].is_null(), "{made}");
    let asked = json!({
        "resourceNames": [format!("projects/{PROJECT}")],
        "filter": format!("logName=\"projects/{PROJECT}/logs/cloudaudit.googleapis.com%2Fpolicy\""),
    });
    let begun = std::time::Instant::now();
    let found = loop {
        let found = haar.api("POST", "https://logging.googleapis.com/v2/entries:list", Some(&asked));
        if !found["entries"].is_null() || begun.elapsed().as_secs() > 20 {
            break found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let payload = &found["entries"][0]["protoPayload"];
    assert_eq!(payload["metadata"]["dryRunResult"], "DENIED", "{found}");
    assert_eq!(payload["metadata"]["constraint"], format!("constraints/{KEYS}"), "{found}");
}

#[test]
fn roles_of_the_organization_and_of_folders_reach_projects() {
    let haar = Haar::start();
    account(&haar, "auditor");
    let email = format!("auditor@{PROJECT}.iam.gserviceaccount.com");
    let see = || {
        let url = format!("https://cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}");
        haar.api_as(Some(&email), "GET", &url, None)
    };
    assert_eq!(see()["error"]["status"], "PERMISSION_DENIED");
    let url = format!("https://cloudresourcemanager.googleapis.com/v3/{ORGANIZATION}:setIamPolicy");
    let bindings = json!([{ "role": "roles/browser", "members": [format!("serviceAccount:{email}")] }]);
    let set = haar.api("POST", &url, Some(&json!({ "policy": { "bindings": bindings } })));
    assert!(set["error"].is_null(), "{set}");
    assert_eq!(see()["parent"], ORGANIZATION);
    let none = json!({ "policy": { "bindings": [] } });
    haar.api("POST", &url, Some(&none));
    assert_eq!(see()["error"]["status"], "PERMISSION_DENIED");
}

#[test]
fn gcloud_sets_describes_and_deletes() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    account(&haar, "worker");
    let policy = haar.home().join("policy.yaml");
    let text = format!("name: projects/{PROJECT}/policies/{KEYS}\nspec:\n  rules:\n  - enforce: true\n");
    std::fs::write(&policy, text).expect("written");
    haar.gcloud(&format!("org-policies set-policy {}", policy.display())).succeeds();
    haar.gcloud(&format!("org-policies set-policy {} --update-mask=policy.spec", policy.display()))
        .succeeds();
    let listed = haar.gcloud(&format!("org-policies list --project={PROJECT}")).succeeds().stdout;
    assert!(listed.contains(KEYS), "{listed}");
    let described =
        haar.gcloud(&format!("org-policies describe {KEYS} --project={PROJECT} --effective")).succeeds();
    assert!(described.stdout.contains("enforce: true"), "{}", described.stdout);
    let email = format!("worker@{PROJECT}.iam.gserviceaccount.com");
    haar.gcloud(&format!("iam service-accounts keys create k.json --iam-account={email}"))
        .fails_saying("Key creation is not allowed on this service account.");
    haar.gcloud(&format!("org-policies reset {KEYS} --project={PROJECT}")).succeeds();
    haar.gcloud(&format!("org-policies delete {KEYS} --project={PROJECT}")).succeeds();
    haar.gcloud(&format!("org-policies describe {KEYS} --project={PROJECT}")).fails_saying("NOT_FOUND");
}

#[test]
fn gcloud_in_its_older_way() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let old = |line: &str| haar.gcloud(&format!("resource-manager org-policies {line} --project={PROJECT}"));
    old(&format!("enable-enforce {KEYS}")).succeeds();
    let described = old(&format!("describe {KEYS} --effective")).succeeds().stdout;
    assert!(described.contains("enforced: true"), "{described}");
    old(&format!("disable-enforce {KEYS}")).succeeds();
    old("allow run.allowedIngress internal").succeeds();
    let described = old("describe run.allowedIngress").succeeds().stdout;
    assert!(described.contains("- internal"), "{described}");
    let listed = old("list").succeeds().stdout;
    assert!(listed.contains("constraints/run.allowedIngress"), "{listed}");
    old("delete run.allowedIngress").succeeds();
    let organizations = haar.gcloud("organizations list --format=value(name)").succeeds().stdout;
    assert!(
        ORGANIZATION.ends_with(organizations.trim().trim_start_matches("organizations/")),
        "{organizations}"
    );
}
