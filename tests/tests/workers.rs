//! Worker pools and domain mappings: with gcloud, and what gcloud does not call.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, have, instances_run};

const REGION: &str = "us-central1";
const WORKER: &str = "us-docker.pkg.dev/cloudrun/container/worker-pool";
const HELLO: &str = "us-docker.pkg.dev/cloudrun/container/hello";

/// What `haar status` says of a pool.
fn status(haar: &Haar, pool: &str) -> Value {
    let pools = haar.status()["worker_pools"].as_array().expect("pools").clone();
    pools.into_iter().find(|one| one["name"] == pool).unwrap_or_default()
}

fn await_instances(haar: &Haar, pool: &str, count: u64) {
    let begin = Instant::now();
    while status(haar, pool)["instances"].as_u64().unwrap_or_default() != count {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:#}", status(haar, pool));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn gcloud_takes_a_worker_pool_through_its_life() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("beta run worker-pools {line} --region {REGION}"));
    let made = gcloud(&format!("deploy tide --image {WORKER} --scaling 2")).succeeds();
    // In bold, so not in one piece.
    assert!(["tide-00001-", "has been deployed"].iter().all(|part| made.stderr.contains(part)), "{made:?}");
    await_instances(&haar, "tide", 2);
    assert!(haar.cli(&["status"]).succeeds().stdout.contains("2 instances  worker pool"));

    let first = gcloud("describe tide --format=value(status.latestReadyRevisionName)").succeeds().stdout;
    let first = first.trim().to_owned();
    let described = gcloud("describe tide").succeeds().stdout;
    assert!(described.contains("Manual (Instances: 2)"), "{described}");
    gcloud("update tide --scaling 1 --update-env-vars A=1").succeeds();
    await_instances(&haar, "tide", 1);
    for line in ["list", "revisions list --worker-pool tide"] {
        assert!(gcloud(line).succeeds().stdout.contains("tide"), "{line}");
    }
    assert!(haar.gcloud("beta run worker-pools list").succeeds().stdout.contains("tide"));
    gcloud(&format!("update-instance-split tide --to-revisions {first}=100")).succeeds();
    gcloud(&format!("revisions describe {first}")).succeeds();
    gcloud(&format!("revisions delete {first} --worker-pool tide --quiet")).fails_saying("actively serving");

    let logged = haar.cli(&["logs", "tide"]).succeeds().stdout;
    assert!(logged.contains("Worker pool tide has begun to work."), "{logged}");
    let read = "logging read resource.type=cloud_run_worker_pool --format=json --freshness=1d";
    let entries: Value = serde_json::from_str(&haar.gcloud(read).succeeds().stdout).expect("entries");
    assert_eq!(entries[0]["resource"]["labels"]["worker_pool_name"], "tide");
    gcloud("delete tide --quiet").succeeds();
    gcloud("describe tide").fails_saying("tide");
}

#[test]
fn gcloud_replaces_a_worker_pool_by_what_it_exports() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let manifest = haar.home().join("pool.yaml");
    let body = json!({
        "apiVersion": "run.googleapis.com/v1",
        "kind": "WorkerPool",
        "metadata": {
            "name": "wave",
            "labels": { "cloud.googleapis.com/location": REGION },
            "annotations": { "run.googleapis.com/manualInstanceCount": "0" },
        },
        "spec": { "template": { "spec": { "containers": [{ "image": WORKER }] } } },
    });
    std::fs::write(&manifest, body.to_string()).expect("a manifest");
    let replace = format!("beta run worker-pools replace {}", manifest.display());
    haar.gcloud(&replace).succeeds();
    let describe = format!("beta run worker-pools describe wave --region {REGION}");
    let exported = haar.gcloud(&format!("{describe} --format=export")).succeeds().stdout;
    let revision = || {
        let name = format!("{describe} --format=value(status.latestCreatedRevisionName)");
        haar.gcloud(&name).succeeds().stdout
    };
    let before = revision();
    std::fs::write(&manifest, exported).expect("a manifest");
    haar.gcloud(&replace).succeeds();
    assert_eq!(revision(), before, "what is exported means the same");
}

#[test]
fn flags_of_worker_pools_are_read_back_or_refused() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("beta run worker-pools {line} --region {REGION}"));
    gcloud(&format!(
        "deploy tide --image {WORKER} --scaling=1 --cpu=2 --memory=1Gi --description=tides --labels=sea=north \
         --set-cloudsql-instances={PROJECT}:{REGION}:shore --revision-suffix=one --set-env-vars=A=1 \
         --add-volume=name=charts,type=in-memory --add-volume-mount=volume=charts,mount-path=/charts"
    ))
    .succeeds();
    let exported = gcloud("describe tide --format=export").succeeds().stdout;
    for line in [
        "cpu: '2'",
        "memory: 1Gi",
        "name: tide-one",
        "mountPath: /charts",
        "run.googleapis.com/cloudsql-instances: fog-bank:us-central1:shore",
        "run.googleapis.com/description: tides",
        "sea: north",
    ] {
        assert!(exported.contains(line), "{line} is not in {exported}");
    }
    gcloud(&format!("deploy tide --image {WORKER} --no-promote --clear-env-vars --revision-suffix=two"))
        .succeeds();
    let splits = gcloud("describe tide --format=value(spec.instanceSplits)").succeeds().stdout;
    assert!(splits.contains("tide-one") && !splits.contains("latestRevision"), "{splits}");
    gcloud("update-instance-split tide --to-latest").succeeds();
    let splits = gcloud("describe tide --format=value(status.instanceSplits)").succeeds().stdout;
    assert!(splits.contains("tide-two"), "{splits}");
    for (flag, said) in [
        ("--network=default", "remove template.vpc_access"),
        ("--key=projects/p/locations/l/keyRings/r/cryptoKeys/k", "remove template.encryption_key"),
        ("--mesh=projects/p/locations/global/meshes/m", "remove template.service_mesh"),
    ] {
        gcloud(&format!("update tide {flag} --revision-suffix=three")).fails_saying(said);
    }
}

/// Waits for an operation, which must succeed.
fn finish(haar: &Haar, operation: &Value) {
    let name = operation["name"].as_str().unwrap_or_else(|| panic!("no operation: {operation:#}"));
    let begin = Instant::now();
    loop {
        let now = haar.api("GET", &format!("run.googleapis.com/v2/{name}"), None);
        if now["done"] == true {
            return assert!(now["error"].is_null(), "{now:#}");
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{now:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn worker_pools_are_served_over_rest_in_both_forms() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let location = format!("run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}");
    let pools = format!("{location}/workerPools");
    let body = json!({ "template": { "containers": [{ "image": WORKER }] }, "scaling": { "manualInstanceCount": 0 } });
    finish(&haar, &haar.api("POST", &format!("{pools}?workerPoolId=tide"), Some(&body)));
    let name = format!("{pools}/tide");
    let pool = haar.api("GET", &name, None);
    assert_eq!(
        (&pool["terminalCondition"]["state"], &pool["scaling"]),
        (&json!("CONDITION_SUCCEEDED"), &body["scaling"])
    );
    assert_eq!(haar.api("GET", &pools, None)["workerPools"].as_array().map(Vec::len), Some(1));
    let one = json!({ "scaling": { "manualInstanceCount": 1 } });
    finish(&haar, &haar.api("PATCH", &format!("{name}?updateMask=scaling"), Some(&one)));
    await_instances(&haar, "tide", 1);
    let revisions = haar.api("GET", &format!("{name}/revisions"), None)["revisions"].clone();
    assert_eq!(revisions.as_array().map(Vec::len), Some(1), "scaling makes no revision");

    policies(&haar, &name);
    let old = format!("run.googleapis.com/v1/projects/{PROJECT}/locations/{REGION}/workerpools/tide");
    policies(&haar, &old);

    let namespace =
        format!("{REGION}-run.googleapis.com/apis/run.googleapis.com/v1/namespaces/{PROJECT}/workerpools");
    assert_eq!(haar.api("GET", &namespace, None)["items"].as_array().map(Vec::len), Some(1));
    let gone = haar.api("DELETE", &format!("{namespace}/tide"), None);
    assert_eq!(gone["status"], "Success", "{gone:#}");
    let missing = haar.api("DELETE", &name, None);
    let said = format!(
        "Resource 'tide' of kind 'WORKERPOOL' in region '{REGION}' in project '{PROJECT}' does not exist."
    );
    assert_eq!(missing["error"]["message"], said);
    finish(&haar, &haar.api("POST", &format!("{pools}?workerPoolId=wave"), Some(&body)));
    finish(&haar, &haar.api("DELETE", &format!("{pools}/wave"), None));
    let nowhere = haar.api("GET", &format!("{}/services", location.replace(REGION, "moon-east1")), None);
    assert_eq!(nowhere["error"]["code"], 404, "{nowhere:#}");
}

/// Grants a role on something, reads it back, and asks.
fn policies(haar: &Haar, name: &str) {
    let member = format!("serviceAccount:someone@{PROJECT}.iam.gserviceaccount.com");
    let account = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    haar.api("POST", &account, Some(&json!({ "accountId": "someone" })));
    let policy = json!({ "policy": { "bindings": [{ "role": "roles/run.viewer", "members": [member] }] } });
    let set = haar.api("POST", &format!("{name}:setIamPolicy"), Some(&policy));
    assert_eq!(set["bindings"], policy["policy"]["bindings"], "{set:#}");
    assert_eq!(haar.api("GET", &format!("{name}:getIamPolicy"), None)["bindings"], set["bindings"]);
    let permissions = json!({ "permissions": ["run.workerpools.get"] });
    assert_eq!(haar.api("POST", &format!("{name}:testIamPermissions"), Some(&permissions)), permissions);
}

#[test]
fn gcloud_maps_a_domain_and_requests_reach_its_service() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("beta run domain-mappings {line} --region {REGION}"));
    gcloud("create --service tide --domain www.tide.example").fails_saying("Route 'tide' does not exist.");
    gcloud("delete --domain www.tide.example").succeeds();
    let deploy = format!("run deploy tide --image {HELLO} --region {REGION} --allow-unauthenticated");
    haar.gcloud(&deploy).succeeds();
    let made = gcloud("create --service tide --domain www.tide.example").succeeds();
    assert!(made.stdout.contains("ghs.googlehosted.com."), "{made:?}");
    assert!(gcloud("list").succeeds().stdout.contains("www.tide.example"));
    let ready = gcloud("describe --domain www.tide.example --format=value(status.conditions[0].status)");
    assert_eq!(ready.succeeds().stdout.trim(), "True");

    let plain = format!("http://{}/", haar.listen());
    let host = ["exec", "--", "curl", "-s", "--noproxy", "*", "-H", "Host: www.tide.example", &plain];
    assert!(haar.cli(&host).succeeds().stdout.contains("It is running."), "by its name, at haar's port");
    let through = haar.cli(&["exec", "--", "curl", "-s", "https://www.tide.example/"]).succeeds();
    assert!(through.stdout.contains("It is running."), "by TLS, through the proxy: {through:?}");
    let look = format!(
        "run jobs deploy look --image {} --region {REGION} --command busybox --args=wget,-qO-,http://www.tide.example/ \
         --max-retries 0 --execute-now --wait",
        tests::busybox_image(&haar)
    );
    haar.gcloud(&look).succeeds();
    gcloud("create --service tide --domain www.tide.example").fails_saying("already exists");
    gcloud("delete --domain www.tide.example").succeeds();

    let authorized = format!(
        "{REGION}-run.googleapis.com/apis/domains.cloudrun.com/v1/namespaces/{PROJECT}/authorizeddomains"
    );
    assert_eq!(haar.api("GET", &authorized, None)["domains"][0]["id"], ".");
}
