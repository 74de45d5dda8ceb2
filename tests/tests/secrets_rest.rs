//! The rest of Secret Manager by gcloud: regions, customers' keys, rotation, expiry, delayed destruction.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, have};

fn described(haar: &Haar, line: &str) -> Value {
    let ran = haar.gcloud(&format!("secrets {line} --format=json")).succeeds();
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn regional_secrets_by_gcloud() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let data = haar.home().join("tide");
    std::fs::write(&data, "high").expect("written");
    let create = format!("create tide --data-file={}", data.display());
    haar.gcloud(&format!("secrets {create} --location=europe-west1"))
        .fails_saying("does not match the expected format [projects/*]");
    let host = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER=https://secretmanager.europe-west1.rep.googleapis.com/";
    let gcloud = |line: &str| {
        let words = line.split_whitespace();
        let all =
            ["env", host, "gcloud", "secrets"].into_iter().chain(words).chain(["--location=europe-west1"]);
        haar.exec(&all.collect::<Vec<&str>>())
    };
    gcloud(&create).succeeds();
    assert_eq!(gcloud("versions access latest --secret=tide").succeeds().stdout, "high");
    assert!(gcloud("list").succeeds().stdout.contains("tide"));
    gcloud("update tide --update-labels=env=dev").succeeds();
    gcloud("versions disable 1 --secret=tide").succeeds();
    gcloud("versions access 1 --secret=tide").fails_saying("is in DISABLED state");
    gcloud("delete tide --quiet").succeeds();
    haar.gcloud("secrets describe tide").fails_saying("NOT_FOUND");
    let locations = haar.gcloud("secrets locations list").succeeds().stdout;
    assert!(locations.contains("europe-west1"), "{locations}");
}

#[test]
fn a_regional_secret_at_its_own_host() {
    let haar = Haar::start();
    let parent = format!("projects/{PROJECT}/locations/us-central1");
    let url =
        format!("https://secretmanager.us-central1.rep.googleapis.com/v1/{parent}/secrets?secretId=tide");
    let made = haar.api("POST", &url, Some(&json!({})));
    let name = made["name"].as_str().unwrap_or_default();
    assert!(name.ends_with("/locations/us-central1/secrets/tide"), "{made}");
    let key = json!({ "customerManagedEncryption": { "kmsKeyName": "nothing" } });
    let refused = haar.api("POST", &url.replace("=tide", "=other"), Some(&key));
    assert_eq!(refused["error"]["status"], "INVALID_ARGUMENT", "{refused}");
}

#[test]
fn settings_by_gcloud() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let key = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
    haar.gcloud(&format!("secrets create keyed --replication-policy=automatic --kms-key-name={key}"))
        .succeeds();
    let replication = described(&haar, "replication get keyed");
    assert!(replication.to_string().contains(key), "{replication}");
    haar.gcloud("secrets replication update keyed --remove-cmek").succeeds();
    assert!(!described(&haar, "describe keyed").to_string().contains(key));

    let topic = format!("projects/{PROJECT}/topics/t");
    haar.gcloud(&format!(
        "secrets create turning --topics={topic} --next-rotation-time=2099-01-01T00:00:00Z --rotation-period=86400s \
         --version-destroy-ttl=86400s --ttl=86400s --set-annotations=a=b"
    ))
    .succeeds();
    let turning = described(&haar, "describe turning");
    assert_eq!(turning["rotation"]["rotationPeriod"], "86400s", "{turning}");
    assert_eq!(turning["versionDestroyTtl"], "86400s", "{turning}");
    assert!(turning["expireTime"].is_string(), "{turning}");
    let data = haar.home().join("tide");
    std::fs::write(&data, "high").expect("written");
    haar.gcloud(&format!("secrets versions add turning --data-file={}", data.display())).succeeds();
    haar.gcloud("secrets versions destroy 1 --secret=turning --quiet").succeeds();
    let version = described(&haar, "versions describe 1 --secret=turning");
    assert_eq!(version["state"], "DISABLED", "{version}");
    assert!(version["scheduledDestroyTime"].is_string(), "{version}");
    haar.gcloud("secrets update turning --remove-rotation-schedule --remove-expiration").succeeds();
    let turning = described(&haar, "describe turning");
    assert!(turning["rotation"].is_null() && turning["expireTime"].is_null(), "{turning}");
    haar.gcloud("secrets create short --ttl=5s").fails_saying("INVALID_ARGUMENT");
}
