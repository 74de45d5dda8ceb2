//! Who may do what: conditions, custom roles, explanations and the audit log, by gcloud and the binary.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have};

const ACCESSOR: &str = "roles/secretmanager.secretAccessor";

/// A haar with a secret, and an account that may do nothing.
fn with_secret() -> (Haar, String) {
    let haar = Haar::start();
    let account = json!({ "accountId": "reader" });
    haar.api(
        "POST",
        &format!("https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"),
        Some(&account),
    );
    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    haar.api(
        "POST",
        &format!("{secret}?secretId=tide"),
        Some(&json!({ "replication": { "automatic": {} } })),
    );
    let version = json!({ "payload": { "data": "aGlnaA==" } });
    haar.api("POST", &format!("{secret}/tide:addVersion"), Some(&version));
    (haar, format!("reader@{PROJECT}.iam.gserviceaccount.com"))
}

fn access(haar: &Haar, who: &str) -> Value {
    let url = format!(
        "https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide/versions/latest:access"
    );
    haar.api_as(Some(who), "GET", &url, None)
}

fn gcloud(haar: &Haar, arguments: &[&str]) -> Ran {
    haar.exec(&[&["gcloud"], arguments].concat())
}

fn read(ran: Ran) -> Value {
    serde_json::from_str(&ran.succeeds().stdout).expect("JSON")
}

/// A moment as RFC 3339 has it.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("date");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn access_that_ends_by_itself() {
    let (haar, reader) = with_secret();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 4;
    let until = UNIX_EPOCH + Duration::from_secs(seconds);
    let condition = json!({ "title": "soon over", "expression": format!("request.time < timestamp('{}')", rfc3339(until)) });
    let binding =
        json!({ "role": ACCESSOR, "members": [format!("serviceAccount:{reader}")], "condition": condition });
    let policy = json!({ "policy": { "version": 3, "bindings": [binding] } });
    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide");
    assert_eq!(haar.api("POST", &format!("{secret}:setIamPolicy"), Some(&policy))["version"], 3);
    let old = haar.api("GET", &format!("{secret}:getIamPolicy"), None);
    assert_eq!(old["version"], 1, "who does not know conditions is told of none: {old}");
    assert!(old["bindings"][0]["role"].as_str().is_some_and(|role| role.contains("_withcond_")));

    let first = access(&haar, &reader);
    if SystemTime::now() < until {
        assert_eq!(first["payload"]["data"], "aGlnaA==", "{first}");
    }
    let begun = Instant::now();
    while access(&haar, &reader)["error"].is_null() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(SystemTime::now() >= until, "it ended too early");
    assert_eq!(access(&haar, &reader)["error"]["status"], "PERMISSION_DENIED");
}

#[test]
fn conditions_by_gcloud() {
    if !have("gcloud") {
        return;
    }
    let (haar, reader) = with_secret();
    let member = format!("--member=serviceAccount:{reader}");
    let role = format!("--role={ACCESSOR}");
    let condition =
        "--condition=expression=resource.name.extract('secrets/{name}/') == 'tide',title=tide only";
    let change =
        |verb: &str, condition: &str| gcloud(&haar, &["projects", verb, PROJECT, &member, &role, condition]);
    change("add-iam-policy-binding", condition).succeeds();
    assert_eq!(access(&haar, &reader)["payload"]["data"], "aGlnaA==");
    let policy = read(gcloud(&haar, &["projects", "get-iam-policy", PROJECT, "--format=json"]));
    assert_eq!(policy["version"], 3, "{policy}");
    change("remove-iam-policy-binding", condition).succeeds();
    assert_eq!(access(&haar, &reader)["error"]["status"], "PERMISSION_DENIED");
    let policy = read(gcloud(&haar, &["projects", "get-iam-policy", PROJECT, "--format=json"]));
    assert_eq!(policy["version"], 1, "without conditions it is an ordinary one: {policy}");
    change("add-iam-policy-binding", "--condition=expression=resource.nam == 'x',title=wrong")
        .fails_saying("undeclared reference to 'resource.nam'");

    let owner = haar.gcloud("config get-value account").succeeds().stdout;
    let account = ["iam", "service-accounts", "add-iam-policy-binding", &reader];
    let user = format!("--member=user:{}", owner.trim());
    gcloud(
        &haar,
        &[&account[..], &[&user, "--role=roles/iam.serviceAccountTokenCreator", "--condition=None"]].concat(),
    )
    .succeeds();
    let policy = haar.gcloud(&format!("iam service-accounts get-iam-policy {reader}")).succeeds().stdout;
    assert!(policy.contains("roles/iam.serviceAccountTokenCreator"), "{policy}");
}

#[test]
fn custom_roles_by_gcloud() {
    if !have("gcloud") {
        return;
    }
    let (haar, reader) = with_secret();
    let roles = |line: &str| haar.gcloud(&format!("iam roles {line} --project={PROJECT}"));
    roles("create tideReader --title=Tide --permissions=secretmanager.secrets.get --stage=GA").succeeds();
    roles("create tideReader --title=Tide --permissions=secretmanager.secrets.get")
        .fails_saying("already exists");
    roles("create moonReader --permissions=secretmanager.moon.get")
        .fails_saying("Permission secretmanager.moon.get is not valid.");
    haar.gcloud(&format!(
        "secrets add-iam-policy-binding tide --member=serviceAccount:{reader} --role=projects/{PROJECT}/roles/tideReader"
    ))
    .succeeds();
    assert_eq!(access(&haar, &reader)["error"]["status"], "PERMISSION_DENIED");
    roles("update tideReader --add-permissions=secretmanager.versions.access --quiet").succeeds();
    assert_eq!(access(&haar, &reader)["payload"]["data"], "aGlnaA==", "with the next call");
    let role = read(roles("describe tideReader --format=json"));
    assert_eq!(
        role["includedPermissions"],
        json!(["secretmanager.secrets.get", "secretmanager.versions.access"])
    );
    assert!(roles("list --format=value(name)").succeeds().stdout.contains("roles/tideReader"));
    let grantable =
        format!("iam list-grantable-roles //cloudresourcemanager.googleapis.com/projects/{PROJECT}");
    assert!(haar.gcloud(&grantable).succeeds().stdout.contains("roles/tideReader"));

    roles("delete tideReader --quiet").succeeds();
    assert_eq!(access(&haar, &reader)["error"]["status"], "PERMISSION_DENIED");
    assert!(!roles("list --format=value(name)").succeeds().stdout.contains("tideReader"));
    roles("undelete tideReader --quiet").succeeds();
    assert_eq!(access(&haar, &reader)["payload"]["data"], "aGlnaA==");
    let predefined = read(haar.gcloud(&format!("iam roles describe {ACCESSOR} --format=json")));
    assert_eq!(predefined["name"], ACCESSOR);
}

#[test]
fn why_somebody_may_or_may_not() {
    let (haar, reader) = with_secret();
    let why = |who: &str| haar.cli(&["iam", "why", who, "secretmanager.versions.access", "secrets/tide"]);
    let no = why(&reader);
    assert_eq!(no.code, 1);
    assert!(no.stdout.starts_with("no ") && no.stdout.contains(ACCESSOR), "{}", no.stdout);
    let condition = json!({ "title": "always", "expression": "resource.type.endsWith('/Secret')" });
    let binding =
        json!({ "role": ACCESSOR, "members": [format!("serviceAccount:{reader}")], "condition": condition });
    let policy = json!({ "policy": { "version": 3, "bindings": [binding] } });
    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide");
    haar.api("POST", &format!("{secret}:setIamPolicy"), Some(&policy));
    let yes = why(&reader).succeeds().stdout;
    assert!(yes.starts_with("yes ") && yes.contains("if \"always\"") && yes.contains("holds now"), "{yes}");
    let full = format!("//secretmanager.googleapis.com/projects/{PROJECT}/secrets/tide");
    let shown = haar.cli(&["iam", "why", &reader, "secretmanager.versions.access", &full, "--json"]);
    assert_eq!(read(shown)["policies"][0]["bindings"][0]["grants"], true);

    if have("gcloud") {
        let email = format!("--principal-email={reader}");
        let asked = ["policy-intelligence", "troubleshoot-policy", "iam", &full, &email];
        let permission = "--permission=secretmanager.versions.access";
        let answer = read(gcloud(&haar, &[&asked[..], &[permission, "--format=json"]].concat()));
        assert_eq!(answer["overallAccessState"], "CAN_ACCESS", "{answer}");
    }
}

/// The entries of one audit log about a method, the newest first.
fn audited(haar: &Haar, log: &str, method: &str) -> Vec<Value> {
    let body = json!({
        "resourceNames": [format!("projects/{PROJECT}")],
        "filter": format!("logName=\"projects/{PROJECT}/logs/cloudaudit.googleapis.com%2F{log}\""),
        "orderBy": "timestamp desc",
    });
    let answer = haar.api("POST", "https://logging.googleapis.com/v2/entries:list", Some(&body));
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    let is_its = |entry: &Value| {
        entry["protoPayload"]["methodName"].as_str().is_some_and(|name| name.ends_with(method))
    };
    entries.into_iter().filter(is_its).collect()
}

#[test]
fn what_was_done_is_written_down() {
    let (haar, reader) = with_secret();
    let made = &audited(&haar, "activity", "CreateSecret")[0];
    let payload = &made["protoPayload"];
    assert_eq!(payload["@type"], "type.googleapis.com/google.cloud.audit.AuditLog");
    assert_eq!(payload["serviceName"], "secretmanager.googleapis.com");
    assert_eq!(payload["authorizationInfo"][0]["permission"], "secretmanager.secrets.create");
    assert_eq!(payload["authorizationInfo"][0]["granted"], true);
    assert!(
        payload["authenticationInfo"]["principalEmail"].as_str().is_some_and(|email| email.contains('@'))
    );
    assert!(payload["requestMetadata"]["callerIp"].as_str().is_some_and(|ip| ip.starts_with("127.")));

    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide");
    let refused = haar.api_as(Some(&reader), "DELETE", &secret, None);
    assert_eq!(refused["error"]["status"], "PERMISSION_DENIED");
    let refusal = &audited(&haar, "activity", "DeleteSecret")[0]["protoPayload"];
    assert_eq!(
        (&refusal["status"]["code"], &refusal["authenticationInfo"]["principalEmail"]),
        (&json!(7), &json!(reader))
    );
    assert_ne!(refusal["authorizationInfo"][0]["granted"], true);

    access(&haar, &reader);
    assert!(audited(&haar, "data_access", "AccessSecretVersion").is_empty(), "off by default");
    let project = format!("https://cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}");
    let configs = json!([{ "service": "allServices", "auditLogConfigs": [{ "logType": "DATA_READ" }] }]);
    let request = json!({ "policy": { "auditConfigs": configs }, "updateMask": "auditConfigs" });
    assert_eq!(haar.api("POST", &format!("{project}:setIamPolicy"), Some(&request))["auditConfigs"], configs);
    access(&haar, &reader);
    let entry = &audited(&haar, "data_access", "AccessSecretVersion")[0];
    assert_eq!(entry["protoPayload"]["authenticationInfo"]["principalEmail"], reader);
    assert!(!entry.to_string().contains("aGlnaA"), "no payload is in the log");
}
