//! `haar iam least`: a service has more than it needs, and is left with what it uses.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, busybox_image, fetch, have, instances_run};

const ACCESSOR: &str = "roles/secretmanager.secretAccessor";
const REGION: &str = "us-central1";

/// A haar with a secret, and an account that may read every secret and edit the project.
fn with_editor() -> (Haar, String) {
    let haar = Haar::start();
    let accounts = format!("https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    haar.api("POST", &accounts, Some(&json!({ "accountId": "tide-app" })));
    let secrets = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    for name in ["tide", "moon"] {
        let secret = json!({ "replication": { "automatic": {} } });
        haar.api("POST", &format!("{secrets}?secretId={name}"), Some(&secret));
        let version = json!({ "payload": { "data": "aGlnaA==" } });
        haar.api("POST", &format!("{secrets}/{name}:addVersion"), Some(&version));
    }
    let app = format!("tide-app@{PROJECT}.iam.gserviceaccount.com");
    let project = format!("https://cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}");
    let mut policy = haar.api("POST", &format!("{project}:getIamPolicy"), Some(&json!({})));
    let bindings = policy["bindings"].as_array_mut().expect("the owner's");
    for role in ["roles/editor", ACCESSOR] {
        bindings.push(json!({ "role": role, "members": [format!("serviceAccount:{app}")] }));
    }
    haar.api("POST", &format!("{project}:setIamPolicy"), Some(&json!({ "policy": policy })));
    (haar, app)
}

fn access(haar: &Haar, who: &str, secret: &str) -> Value {
    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/{secret}");
    haar.api_as(Some(who), "GET", &format!("{secret}/versions/latest:access"), None)
}

fn least(haar: &Haar, whose: &str) -> Value {
    let shown = haar.cli(&["iam", "least", whose, "--json"]).succeeds().stdout;
    serde_json::from_str(&shown).expect("JSON")
}

fn commands(answer: &Value) -> Vec<String> {
    let commands = answer["commands"].as_array().expect("commands");
    commands.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
}

#[test]
fn what_an_account_used_is_what_it_needs_also_after_a_restart() {
    let (mut haar, app) = with_editor();
    assert_eq!(commands(&least(&haar, &app)), [""; 0], "nobody is robbed who was not watched");
    let told = haar.cli(&["iam", "least", &app]).succeeds().stdout;
    assert!(told.contains("has used nothing"), "{told}");
    assert_eq!(access(&haar, &app, "tide")["payload"]["data"], "aGlnaA==");

    haar.cli(&["down"]).succeeds();
    haar.up(&[]);
    let answer = least(&haar, &app);
    assert_eq!(answer["used"][0]["permission"], "secretmanager.versions.access", "{answer}");
    let member = format!("--member=serviceAccount:{app}");
    let expected = [
        format!(
            "gcloud secrets add-iam-policy-binding tide --project={PROJECT} {member} --role={ACCESSOR} --condition=None"
        ),
        format!(
            "gcloud projects remove-iam-policy-binding {PROJECT} {member} --role=roles/editor --condition=None"
        ),
        format!(
            "gcloud projects remove-iam-policy-binding {PROJECT} {member} --role={ACCESSOR} --condition=None"
        ),
    ];
    assert_eq!(commands(&answer), expected);
    let told = haar.cli(&["iam", "least", &app]).succeeds().stdout;
    assert!(told.contains("+  roles/secretmanager.secretAccessor on //secretmanager"), "{told}");
    assert!(told.contains("roles/editor on") && told.contains("never used"), "{told}");
    haar.cli(&["iam", "least", "nowhere"])
        .fails_saying("there is no service, job or worker pool nowhere in us-central1");
}

#[test]
fn a_service_runs_on_with_the_least() {
    let (haar, app) = with_editor();
    if !have("gcloud") || !have("busybox") || !instances_run(&haar) {
        return;
    }
    let image = busybox_image(&haar);
    let name = format!("projects/{PROJECT}/locations/{REGION}/services/tide-app");
    let page = "/bin/busybox mkdir /w; echo \"the tide is $TIDE\" > /w/index.html; exec /bin/busybox httpd -f -p $PORT -h /w";
    let variable = json!({ "name": "TIDE", "valueSource": { "secretKeyRef": { "secret": "tide", "version": "latest" } } });
    let container =
        json!({ "image": image, "command": ["/bin/busybox", "sh", "-c"], "args": [page], "env": [variable] });
    let template =
        |label: &str| json!({ "serviceAccount": app, "containers": [container], "labels": { "n": label } });
    let services = format!("https://run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services");
    haar.api(
        "POST",
        &format!("{services}?serviceId=tide-app"),
        Some(&json!({ "template": template("one") })),
    );
    let service = format!("https://run.googleapis.com/v2/{name}");
    let everybody = json!({ "bindings": [{ "role": "roles/run.invoker", "members": ["allUsers"] }] });
    haar.api("POST", &format!("{service}:setIamPolicy"), Some(&json!({ "policy": everybody })));
    let host = await_ready(&haar, &service);
    assert!(fetch(&haar, &host, "/").contains("the tide is high"));

    let answer = least(&haar, "tide-app");
    assert_eq!(answer["account"], json!(app));
    let lines = commands(&answer);
    assert!(
        lines.iter().any(|line| line.starts_with("gcloud secrets add-iam-policy-binding tide ")),
        "{lines:?}"
    );
    for line in &lines {
        haar.exec(&["sh", "-c", line]).succeeds();
    }
    assert_eq!(commands(&least(&haar, "tide-app")), [""; 0]);
    assert_eq!(access(&haar, &app, "moon")["error"]["status"], "PERMISSION_DENIED");

    haar.api("PATCH", &service, Some(&json!({ "template": template("two") })));
    let host = await_ready(&haar, &service);
    assert!(fetch(&haar, &host, "/").contains("the tide is high"), "a new revision reads its secret");
}

/// Gives an account a role in a policy, beside what is there.
fn give(haar: &Haar, resource: &str, get: &str, role: &str, account: &str, condition: Option<Value>) {
    let ask = if get == "POST" { Some(json!({ "options": { "requestedPolicyVersion": 3 } })) } else { None };
    let mut policy = haar.api(get, &format!("{resource}:getIamPolicy"), ask.as_ref());
    let mut binding = json!({ "role": role, "members": [format!("serviceAccount:{account}")] });
    if let Some(condition) = condition {
        (binding["condition"], policy["version"]) = (condition, 3.into());
    }
    match policy["bindings"].as_array_mut() {
        Some(bindings) => bindings.push(binding),
        None => policy["bindings"] = json!([binding]),
    }
    let set = haar.api("POST", &format!("{resource}:setIamPolicy"), Some(&json!({ "policy": policy })));
    assert!(set["error"].is_null(), "{resource}: {set:#}");
}

#[test]
fn gcloud_takes_every_command_that_is_printed() {
    let (haar, app) = with_editor();
    if !have("gcloud") {
        return;
    }
    let manager = "https://cloudresourcemanager.googleapis.com/v3";
    let organization = haar.api("GET", &format!("{manager}/organizations:search"), None);
    let organization = organization["organizations"][0]["name"].as_str().expect("an organization").to_owned();
    let folder = json!({ "parent": organization, "displayName": "harbour" });
    let folder = haar.api("POST", &format!("{manager}/folders"), Some(&folder));
    let folder = folder["response"]["name"].as_str().unwrap_or_else(|| panic!("{folder:#}")).to_owned();
    let regional = format!(
        "https://secretmanager.{REGION}.rep.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/secrets"
    );
    haar.api("POST", &format!("{regional}?secretId=pier"), Some(&json!({})));
    let run = format!("https://run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}");
    let hello = json!([{ "image": "us-docker.pkg.dev/cloudrun/container/hello" }]);
    let service = json!({ "template": { "containers": hello } });
    haar.api("POST", &format!("{run}/services?serviceId=tide"), Some(&service));
    let job = json!({ "template": { "template": { "containers": hello } } });
    haar.api("POST", &format!("{run}/jobs?jobId=tide"), Some(&job));

    let project = format!("{manager}/projects/{PROJECT}");
    let accounts = format!("https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    let viewer = "roles/viewer";
    let secret = format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/moon");
    for (resource, get, role) in [
        (format!("{manager}/{organization}"), "POST", viewer),
        (format!("{manager}/{folder}"), "POST", viewer),
        (secret, "GET", ACCESSOR),
        (format!("{regional}/pier"), "GET", ACCESSOR),
        (format!("{run}/services/tide"), "GET", "roles/run.invoker"),
        (format!("{run}/jobs/tide"), "GET", "roles/run.invoker"),
        (format!("{accounts}/{app}"), "POST", "roles/iam.serviceAccountUser"),
    ] {
        give(&haar, &resource, get, role, &app, None);
    }
    let condition =
        json!({ "title": "only, tide", "expression": "resource.name.endsWith('tide') || 'a,b' == ';'" });
    give(&haar, &project, "POST", "roles/logging.viewer", &app, Some(condition));

    assert_eq!(access(&haar, &app, "tide")["payload"]["data"], "aGlnaA==");
    for used in [
        format!("{run}/services/tide"),
        format!("{run}/jobs/tide"),
        format!("{accounts}/{app}"),
        format!("{regional}/pier"),
        format!("https://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets"),
    ] {
        let answer = haar.api_as(Some(&app), "GET", &used, None);
        assert!(answer["error"].is_null(), "{answer:#}");
    }
    let lines = commands(&least(&haar, &app));
    for kind in [
        "projects",
        "organizations",
        "resource-manager folders",
        "secrets",
        "run services",
        "run jobs",
        "iam service-accounts",
    ] {
        for verb in ["add", "remove"] {
            let start = format!("gcloud {kind} {verb}-iam-policy-binding ");
            let is_there = lines.iter().any(|line| line.starts_with(&start));
            let is_above = verb == "add" && matches!(kind, "organizations" | "resource-manager folders");
            assert!(is_there || is_above, "{start} is not in {lines:#?}");
        }
    }
    assert!(lines.iter().any(|line| line.contains("only, tide")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("pier --location=")), "{lines:#?}");
    for line in &lines {
        haar.exec(&["sh", "-c", line]).succeeds();
    }
    assert_eq!(commands(&least(&haar, &app)), [""; 0]);
}

/// The host of a service once its last change serves.
fn await_ready(haar: &Haar, service: &str) -> String {
    let begun = std::time::Instant::now();
    loop {
        let state = haar.api("GET", service, None);
        let is_ready = state["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
            && state["observedGeneration"] == state["generation"];
        if is_ready {
            return state["uri"].as_str().expect("an address").replace("http://", "");
        }
        assert!(begun.elapsed().as_secs() < 60, "{state}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
