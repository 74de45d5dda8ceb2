//! Cloud Run: from an image to a URL, with gcloud and with Python's library.
//!
//! `access` has who may call, `density` many at once, `flags` what deploys take, `neighbours` what is another's,
//! `subcommands` what gcloud has beside, `traffic` revisions and shares, `yaml` manifests.

#[path = "run/access.rs"]
mod access;
#[path = "run/density.rs"]
mod density;
#[path = "run/flags.rs"]
mod flags;
#[path = "run/neighbours.rs"]
mod neighbours;
#[path = "run/subcommands.rs"]
mod subcommands;
#[path = "run/traffic.rs"]
mod traffic;
#[path = "run/yaml.rs"]
mod yaml;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, client_program, have, instances_run, python, skipped};

const HELLO: &str = "us-docker.pkg.dev/cloudrun/container/hello";
pub(crate) const REGION: &str = "us-central1";

/// What a service answers to a GET: its status and the whole text.
fn get(haar: &Haar, url: &str, headers: &str) -> (u16, String) {
    let host = url.trim_start_matches("http://").split('/').next().expect("a host");
    let mut stream = TcpStream::connect(haar.listen()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n")
        .expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

pub(crate) fn manifest(name: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": PROJECT, "annotations": { "run.googleapis.com/invoker-iam-disabled": "true" } },
        "spec": { "template": { "spec": { "containers": [container] } } },
    })
}

/// Deploys over the API and waits for the end, good or bad: the service as it is then.
fn deploy(haar: &Haar, name: &str, container: &Value) -> Value {
    let collection =
        format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services");
    let url = format!("{collection}/{name}");
    let made = match haar.api("GET", &url, None)["error"]["code"].as_i64() {
        Some(404) => haar.api("POST", &collection, Some(&manifest(name, container))),
        _ => haar.api("PUT", &url, Some(&manifest(name, container))),
    };
    assert!(made["error"].is_null(), "{made:#}");
    await_settled(haar, &url)
}

pub(crate) fn ready(service: &Value) -> &Value {
    let conditions = service["status"]["conditions"].as_array().expect("conditions");
    conditions.iter().find(|condition| condition["type"] == "Ready").expect("the condition Ready")
}

#[test]
fn gcloud_takes_a_service_through_its_life() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let deployed = haar
        .gcloud(&format!("run deploy hello --image {HELLO} --region {REGION} --allow-unauthenticated"))
        .succeeds();
    assert!(deployed.stderr.contains("is serving"), "{deployed:?}");
    let url =
        haar.gcloud(&format!("run services describe hello --region {REGION} --format=value(status.url)"));
    let url = url.succeeds().stdout.trim().to_owned();
    let (status, page) = get(&haar, &url, "");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("It is running") && page.contains("hello-00001-"), "{page}");

    for line in ["run services list".to_owned(), format!("run services list --region {REGION}")] {
        assert!(haar.gcloud(&line).succeeds().stdout.contains("hello"), "{line}");
    }
    haar.gcloud(&format!(
        "run deploy hello --image {HELLO} --region {REGION} --set-env-vars=A=1 --memory=256Mi --cpu=1 --concurrency=40 --timeout=60 --max-instances=3"
    ))
    .succeeds();
    assert!(get(&haar, &url, "").1.contains("hello-00002-"));
    let listed =
        haar.gcloud(&format!("run revisions list --service hello --region {REGION} --format=value(name)"));
    assert_eq!(listed.succeeds().stdout.lines().count(), 2);

    let first = listed_first(&haar);
    haar.gcloud(&format!("run services update-traffic hello --region {REGION} --to-revisions {first}=100"))
        .succeeds();
    assert!(get(&haar, &url, "").1.contains("hello-00001-"), "the traffic has not moved");

    haar.gcloud(&format!(
        "run services add-iam-policy-binding hello --region {REGION} --member=user:ada@example.com --role=roles/run.invoker"
    ))
    .succeeds();
    haar.gcloud(&format!("run services delete hello --region {REGION} --quiet")).succeeds();
    assert_eq!(get(&haar, &url, "").0, 404);
    assert_eq!(haar.status()["services"], json!([]));
}

/// The name of the service's first revision.
fn listed_first(haar: &Haar) -> String {
    let all =
        haar.gcloud(&format!("run revisions list --service hello --region {REGION} --format=value(name)"));
    let all = all.succeeds().stdout;
    all.lines().find(|name| name.starts_with("hello-00001-")).expect("the first revision").to_owned()
}

#[test]
fn pythons_library_deploys_reads_and_deletes() {
    let Some(python) = python() else { return skipped("Python's google-cloud-run") };
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    for transport in ["grpc", "rest"] {
        let ran =
            haar.exec(&[&python.to_string_lossy(), &client_program("python/run.py"), transport]).succeeds();
        assert_eq!(ran.stdout.lines().last(), Some("all as on Google"), "{transport}: {ran:?}");
    }
}

#[test]
fn a_service_is_private_until_somebody_may_call_it() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    haar.gcloud(&format!("run deploy hello --image {HELLO} --region {REGION} --no-allow-unauthenticated"))
        .succeeds();
    let url = haar.status()["services"][0]["url"].as_str().expect("a URL").to_owned();
    assert_eq!(get(&haar, &url, "").0, 403);
    assert_eq!(get(&haar, &url, "Authorization: Bearer nonsense\r\n").0, 401);

    haar.gcloud("iam service-accounts create caller").succeeds();
    let caller = format!("caller@{PROJECT}.iam.gserviceaccount.com");
    let token = |haar: &Haar| {
        let body = json!({ "audience": url, "includeEmail": true });
        let made = haar.api(
            "POST",
            &format!("iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{caller}:generateIdToken"),
            Some(&body),
        );
        format!(
            "Authorization: Bearer {}\r\n",
            made["token"].as_str().unwrap_or_else(|| panic!("no token: {made:#}"))
        )
    };
    haar.gcloud(&format!(
        "iam service-accounts add-iam-policy-binding {caller} --member=user:{} --role=roles/iam.serviceAccountTokenCreator",
        owner(&haar)
    ))
    .succeeds();
    assert_eq!(get(&haar, &url, &token(&haar)).0, 403, "a token alone is not enough");
    haar.gcloud(&format!(
        "run services add-iam-policy-binding hello --region {REGION} --member=serviceAccount:{caller} --role=roles/run.invoker"
    ))
    .succeeds();
    assert_eq!(get(&haar, &url, &token(&haar)).0, 200);
}

fn owner(haar: &Haar) -> String {
    let account = haar.exec(&["sh", "-c", "cat \"$GOOGLE_APPLICATION_CREDENTIALS\""]).succeeds().stdout;
    let file: Value = serde_json::from_str(&account).expect("a credentials file");
    file["account"].as_str().expect("an account").to_owned()
}

#[test]
fn what_cannot_serve_fails_the_deploy_and_the_old_revision_goes_on() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let good = deploy(&haar, "tide", &json!({ "image": HELLO }));
    assert_eq!(ready(&good)["status"], "True", "{good:#}");
    let url = good["status"]["url"].as_str().expect("a URL").to_owned();

    for (container, said) in [
        (
            json!({ "image": "us-docker.pkg.dev/nobody/nothing/at-all:v1" }),
            "Image 'us-docker.pkg.dev/nobody/nothing/at-all:v1' not found.",
        ),
        (json!({ "image": HELLO, "command": ["/no/such/program"] }), "/no/such/program"),
        (json!({ "image": HELLO, "command": ["/haar", "dance"] }), "PORT=8080"),
        (
            json!({ "image": HELLO, "env": [{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "absent", "key": "latest" } } }] }),
            "absent",
        ),
        (
            json!({
                "image": HELLO,
                "startupProbe": { "httpGet": { "port": 9999, "path": "/up" }, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2 },
            }),
            "failed the configured startup probe checks",
        ),
    ] {
        let failed = deploy(&haar, "tide", &container);
        let condition = ready(&failed);
        assert_eq!(condition["status"], "False", "{container}: {failed:#}");
        let message = condition["message"].as_str().expect("a message");
        assert!(message.contains(said), "{container}: {message}");
        let (status, page) = get(&haar, &url, "");
        assert!(
            status == 200 && page.contains("tide-00001-"),
            "{container}: the old revision is gone: {page}"
        );
    }
    let logged = haar.cli(&["logs", "tide"]).succeeds().stdout;
    let probed =
        "STARTUP HTTP probe failed 2 times consecutively for container \"tide-1\" on port 9999 path \"/up\".";
    assert!(logged.contains(probed), "{logged}");
}

#[test]
fn impossible_services_are_refused_before_anything_is_made() {
    let haar = Haar::start();
    let collection = |region: &str| {
        format!("{region}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services")
    };
    for (region, name, container, said) in [
        ("moon-east1", "tide", json!({ "image": HELLO }), "moon-east1"),
        (REGION, "Tide", json!({ "image": HELLO }), "only lowercase, digits, and hyphens"),
        (REGION, "tide", json!({}), "image"),
        (REGION, "tide", json!({ "image": HELLO, "resources": { "limits": { "memory": "1Mi" } } }), "memory"),
        (
            REGION,
            "tide",
            json!({ "image": HELLO, "env": [{ "name": "PORT", "value": "1" }] }),
            "reserved env names",
        ),
    ] {
        let error = haar.api("POST", &collection(region), Some(&manifest(name, &container)));
        let message = error["error"]["message"].as_str().unwrap_or_else(|| panic!("not refused: {error:#}"));
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(haar.status()["services"], json!([]));
}

#[test]
fn two_services_see_nothing_of_each_other_nor_of_the_host() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let image = tests::busybox_image(&haar);
    let server = |text: &str| {
        json!({ "image": image, "command": ["/bin/busybox", "sh", "-c", format!(
        "mkdir -p /www/cgi-bin; printf '#!/bin/busybox sh\\necho; echo {text}; /bin/busybox ps; /bin/busybox ls / /www; /bin/busybox hostname; /bin/busybox netstat -ltn' > /www/cgi-bin/who; \
         chmod +x /www/cgi-bin/who; cp /www/cgi-bin/who /www/index.cgi; printf 'I:index.cgi' > /httpd.conf; mkdir /www/{text}; exec /bin/busybox httpd -f -p $PORT -h /www -r two-see-nothing"
    )] })
    };
    let one = deploy(&haar, "one", &server("one"));
    let two = deploy(&haar, "two", &server("two"));
    let port = haar.listen().rsplit(':').next().expect("a port").to_owned();
    for (service, own, other) in [(&one, "one", "two"), (&two, "two", "one")] {
        assert_eq!(ready(service)["status"], "True", "{service:#}");
        let host = service["status"]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
        let page = tests::fetch(&haar, &host, "/cgi-bin/who");
        let has_line = |wanted: &str| page.lines().any(|line| line.trim() == wanted);
        assert!(has_line(own) && !has_line(other), "its own file, and not the other's: {page}");
        assert!(
            !page.contains("serve-hello") && !page.contains("/haar up"),
            "it sees others' processes: {page}"
        );
        assert!(
            page.lines().filter(|line| line.contains("busybox httpd")).count() <= 2,
            "two servers: {page}"
        );
        for address in ["127.0.0.1", "0.0.0.0", "::"] {
            assert!(!page.contains(&format!("{address}:{port} ")), "it sees haar's port: {page}");
        }
        assert!(!page.contains("haar-test-"), "it sees the host's files: {page}");
    }
    let pid = haar.pid();
    haar.cli(&["down"]).succeeds();
    let left = tests::processes_named("two-see-nothing");
    assert!(left.is_empty(), "after haar (pid {pid}) is down these are left: {left:?}");
}

#[test]
fn services_come_back_after_kill_9() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let service = deploy(&haar, "tide", &json!({ "image": HELLO }));
    let url = service["status"]["url"].as_str().expect("a URL").to_owned();
    tests::kill_and_await(&haar);
    assert_eq!(get(&haar, &url, "").0, 200);
}

/// Runs a script inside a service for each request, and gives what it printed.
fn service_of_a_script(haar: &Haar, name: &str, script: &str, more: &Value) -> Value {
    let mut container = json!({ "image": tests::busybox_image(haar), "command": ["/bin/busybox", "sh", "-c", format!(
        "mkdir -p /www/cgi-bin; printf '%s\\n' '#!/bin/busybox sh' 'echo' \"$SCRIPT\" > /www/cgi-bin/run; chmod +x /www/cgi-bin/run; \
         exec /bin/busybox httpd -f -p $PORT -h /www"
    )], "env": [{ "name": "SCRIPT", "value": script }] });
    if let Some(variables) = more["env"].as_array() {
        container["env"].as_array_mut().expect("variables").extend(variables.iter().cloned());
    }
    let mut body = manifest(name, &container);
    body["spec"]["template"]["spec"]["serviceAccountName"] = more["serviceAccountName"].clone();
    body
}

#[test]
fn inside_a_container_googles_apis_are_simply_there() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let account = format!("app-account@{PROJECT}.iam.gserviceaccount.com");
    haar.api(
        "POST",
        &format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"),
        Some(&json!({ "accountId": "app-account" })),
    );
    let secrets = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    haar.api(
        "POST",
        &format!("{secrets}?secretId=tide"),
        Some(&json!({ "replication": { "automatic": {} } })),
    );
    haar.api(
        "POST",
        &format!("{secrets}/tide:addVersion"),
        Some(&json!({ "payload": { "data": "aGlnaCBhdCBub29u" } })),
    );

    let script = format!(
        "w() {{ /bin/busybox wget -q -O - \"$@\" 2>&1; echo; }}; m=http://metadata.google.internal/computeMetadata/v1; \
         f=\"Metadata-Flavor: Google\"; w --header \"$f\" $m/instance/service-accounts/default/email; \
         w --header \"$f\" $m/project/project-id; w --header \"$f\" $m/instance/region; w $m/project/project-id; \
         t=$(w --header \"$f\" $m/instance/service-accounts/default/token | /bin/busybox sed \"s/.*access_token\\\":\\\"//; s/\\\".*//\"); \
         w --header \"Authorization: Bearer $t\" http://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets/tide/versions/latest:access; \
         w http://secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets; w http://example.com/; echo \"key: $KEY\""
    );
    let collection =
        format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services");
    let from_secret = json!({
        "serviceAccountName": account,
        "env": [{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "tide", "key": "latest" } } }],
    });
    let url = format!("{collection}/inside");
    let settle = |body: &Value| {
        let made = match haar.api("GET", &url, None)["error"]["code"].as_i64() {
            Some(404) => haar.api("POST", &collection, Some(body)),
            _ => haar.api("PUT", &url, Some(body)),
        };
        assert!(made["error"].is_null(), "{made:#}");
        await_settled(&haar, &url)
    };

    let body = service_of_a_script(&haar, "inside", &script, &from_secret);
    let refused = settle(&body);
    let message = ready(&refused)["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("Permission denied on secret") && message.contains(&account), "{message}");

    haar.api(
        "POST",
        &format!("{secrets}/tide:setIamPolicy"),
        Some(&json!({ "policy": { "bindings": [
            { "role": "roles/secretmanager.secretAccessor", "members": [format!("serviceAccount:{account}")] }
        ] } })),
    );
    // The same template would be the same revision, which has failed.
    let mut body = body;
    body["spec"]["template"]["metadata"] = json!({ "labels": { "try": "second" } });
    let served = settle(&body);
    assert_eq!(ready(&served)["status"], "True", "{served:#}");
    let host = served["status"]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
    let page = tests::fetch(&haar, &host, "/cgi-bin/run");
    for said in [account.as_str(), PROJECT, REGION, "403", "aGlnaCBhdCBub29u", "401", "key: high at noon"] {
        assert!(page.contains(said), "{said:?} is not in {page}");
    }
}

pub(crate) fn await_settled(haar: &Haar, url: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let service = haar.api("GET", url, None);
        if ready(&service)["status"] != "Unknown" {
            return service;
        }
        assert!(Instant::now() < deadline, "it does not settle: {service:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
