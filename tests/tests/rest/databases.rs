//! Cloud SQL's version 1, and what gcloud never asks of v1beta4, on one instance of each version.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, skipped};

use super::{Api, names};

/// Waits for an operation of a project.
fn done(api: &Api, base: &str, operation: &Value) {
    let name = operation["name"].as_str().expect("a name");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let now = api.get(&format!("{base}/operations/{name}"));
        if now["status"] == "DONE" {
            assert!(now["error"].is_null(), "{now}");
            return;
        }
        assert!(Instant::now() < deadline, "{now}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn major(haar: &Haar) -> Option<u64> {
    let listed: Value =
        serde_json::from_str(&haar.cli(&["sql", "list", "--json"]).succeeds().stdout).expect("JSON");
    let found = listed["versions"].as_array()?.iter().filter_map(|version| version["major"].as_u64()).max();
    if found.is_none() {
        skipped("PostgreSQL");
    }
    found
}

#[test]
fn both_versions_of_the_api() {
    let haar = Haar::start();
    let Some(major) = major(&haar) else { return };
    let api = Api::new(&haar, "sqladmin.googleapis.com");
    for base in [format!("v1/projects/{PROJECT}"), format!("sql/v1beta4/projects/{PROJECT}")] {
        let name = if base.starts_with("v1") { "one" } else { "four" };
        let settings = json!({ "tier": "db-f1-micro", "edition": "ENTERPRISE" });
        let instance = json!({
            "name": name, "region": "us-central1", "databaseVersion": format!("POSTGRES_{major}"), "settings": settings,
        });
        done(&api, &base, &api.post(&format!("{base}/instances"), instance));
        let one = format!("{base}/instances/{name}");
        instance_of(&api, &base, &one);
        databases_of(&api, &base, &one);
        users_of(&api, &base, &one);
        let listed = api.get(&format!("{base}/operations?instance={name}"));
        assert!(names(&listed["items"], "operationType").contains(&"CREATE_DATABASE"), "{listed}");
        done(&api, &base, &api.delete(&one));
        assert!(names(&api.get(&format!("{base}/instances"))["items"], "name").is_empty());
    }
}

/// The status of a call that is refused; Cloud SQL's errors have no name of it.
fn refused(api: &Api, verb: &str, path: &str) -> Value {
    let answer = api.haar.api(verb, &format!("{}/{path}", api.host), Some(&json!({})));
    answer["error"]["code"].clone()
}

fn instance_of(api: &Api, base: &str, one: &str) {
    let flags =
        |value: &str| json!({ "settings": { "databaseFlags": [{ "name": "work_mem", "value": value }] } });
    done(api, base, &api.call("PATCH", one, Some(flags("8192"))));
    let mut whole = api.get(one);
    assert_eq!(whole["settings"]["databaseFlags"][0]["value"], "8192", "{whole}");
    whole["settings"]["databaseFlags"][0]["value"] = "4096".into();
    done(api, base, &api.call("PUT", one, Some(whole)));
    assert_eq!(api.get(one)["settings"]["databaseFlags"][0]["value"], "4096");
    done(api, base, &api.post(&format!("{one}/restart"), json!({})));
    assert_eq!(api.get(one)["state"], "RUNNABLE");
    let settings = api.get(&format!("{one}/connectSettings"));
    assert_eq!(refused(api, "POST", &format!("{one}:generateEphemeralCert")), 501, "there are sockets only");
    assert_eq!(settings["kind"], "sql#connectSettings", "{settings}");
}

fn databases_of(api: &Api, base: &str, one: &str) {
    done(api, base, &api.post(&format!("{one}/databases"), json!({ "name": "tides" })));
    assert_eq!(api.get(&format!("{one}/databases/tides"))["charset"], "UTF8");
    assert!(names(&api.get(&format!("{one}/databases"))["items"], "name").contains(&"tides"));
    done(api, base, &api.delete(&format!("{one}/databases/tides")));
    assert_eq!(refused(api, "GET", &format!("{one}/databases/tides")), 404);
}

fn users_of(api: &Api, base: &str, one: &str) {
    done(api, base, &api.post(&format!("{one}/users"), json!({ "name": "ada", "password": "a-b-c" })));
    assert_eq!(api.get(&format!("{one}/users/ada"))["name"], "ada");
    done(api, base, &api.call("PUT", &format!("{one}/users?name=ada"), Some(json!({ "password": "d-e-f" }))));
    assert!(names(&api.get(&format!("{one}/users"))["items"], "name").contains(&"ada"));
    done(api, base, &api.delete(&format!("{one}/users?name=ada")));
    assert!(!names(&api.get(&format!("{one}/users"))["items"], "name").contains(&"ada"));
}
