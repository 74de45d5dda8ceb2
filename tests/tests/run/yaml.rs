//! Manifests: `gcloud run services replace`, and what `describe --format export` gives back.

use serde_json::{Value, json};
use tests::{Haar, Ran, have, instances_run};

use super::{HELLO, REGION};

/// The manifest of a deployment guide, as it is but for the image, which is one that is there.
fn manifest() -> String {
    format!(
        r#"apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: cloudsql-postgres-manager
  annotations:
    run.googleapis.com/ingress: all
spec:
  template:
    metadata:
      annotations:
        run.googleapis.com/execution-environment: gen2
    spec:
      containerConcurrency: 100
      timeoutSeconds: 300
      containers:
      - image: {HELLO}
        ports:
        - containerPort: 8080
        env:
        - name: LOG_LEVEL
          value: "INFO"
        - name: CONNECTION_POOL_SIZE
          value: "10"
        resources:
          limits:
            cpu: "1"
            memory: "512Mi"
          requests:
            cpu: "1"
            memory: "512Mi"
"#
    )
}

fn described(haar: &Haar) -> Value {
    let line = format!("run services describe cloudsql-postgres-manager --region {REGION} --format=json");
    serde_json::from_str(&haar.gcloud(&line).succeeds().stdout).expect("JSON")
}

#[test]
fn a_manifest_is_replaced_exported_and_replaced_again() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let file = haar.home().join("service.yaml");
    let replace = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        haar.gcloud(&format!("run services replace {} --region {REGION}", file.display()))
    };
    replace(&manifest()).succeeds();
    let service = described(&haar);
    let template = &service["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["run.googleapis.com/execution-environment"], "gen2");
    assert_eq!(template["spec"]["containerConcurrency"], 100);
    assert_eq!(template["spec"]["timeoutSeconds"], 300);
    let container = &template["spec"]["containers"][0];
    assert_eq!(container["env"][0]["name"], "LOG_LEVEL");
    assert_eq!(container["resources"]["limits"]["memory"], "512Mi");
    assert_eq!(service["metadata"]["annotations"]["run.googleapis.com/ingress"], "all");

    let export = || {
        let line =
            format!("run services describe cloudsql-postgres-manager --region {REGION} --format=export");
        haar.gcloud(&line).succeeds().stdout
    };
    let exported = export();
    assert!(exported.contains("containerConcurrency: 100") && !exported.contains("\nstatus:"), "{exported}");
    replace(&exported).succeeds();
    let again = described(&haar);
    let revision = |service: &Value| service["status"]["latestReadyRevisionName"].clone();
    assert_eq!(revision(&again), revision(&service), "what came back is what was there");
    assert_eq!(export(), exported);

    replace(&exported.replace("containerConcurrency: 100", "containerConcurrency: 50")).succeeds();
    let changed = described(&haar);
    assert_ne!(revision(&changed), revision(&service));
    assert_eq!(changed["spec"]["template"]["spec"]["containerConcurrency"], 50);
    replace(&exported.replace("containerConcurrency: 100", "containerConcurrency: 1001"))
        .fails_saying("container concurrency must be between 1 and 1000");
    replace(&exported.replace("cpu: '1'", "cpu: '3'").replace("cpu: 1000m", "cpu: 3000m"))
        .fails_saying("Invalid value specified for cpu");
    replace(&exported.replace("memory: 512Mi", "memory: 256Mi"))
        .fails_saying("with gen2 execution environment");
    readiness_probes(&haar, &exported, &replace, &export);
}

/// In the manifest, by the flag, and what of it Cloud Run refuses.
fn readiness_probes(haar: &Haar, exported: &str, replace: &dyn Fn(&str) -> Ran, export: &dyn Fn() -> String) {
    let before = "        resources:\n";
    let asked =
        "        readinessProbe:\n          httpGet:\n            path: /\n          successThreshold: 4\n";
    assert_eq!(exported.matches(before).count(), 1, "{exported}");
    replace(&exported.replace(before, &format!("{asked}{before}"))).succeeds();
    let made = described(haar);
    let probe =
        |service: &Value| service["spec"]["template"]["spec"]["containers"][0]["readinessProbe"].clone();
    let usual = json!({
        "httpGet": { "path": "/" },
        "timeoutSeconds": 1, "periodSeconds": 10, "failureThreshold": 3, "successThreshold": 4,
    });
    assert_eq!(probe(&made), usual);
    let with = export();
    replace(&with).succeeds();
    let again = described(haar);
    assert_eq!(again["status"]["latestReadyRevisionName"], made["status"]["latestReadyRevisionName"]);
    assert_eq!(export(), with);

    let line =
        format!("alpha run services update cloudsql-postgres-manager --region {REGION} --readiness-probe=");
    let flag = |probe: &str| haar.gcloud(&format!("{line}{probe}"));
    flag("grpc.service=tide,timeoutSeconds=2,periodSeconds=5,failureThreshold=2,successThreshold=1")
        .succeeds();
    let usual = json!({
        "grpc": { "service": "tide" },
        "timeoutSeconds": 2, "periodSeconds": 5, "failureThreshold": 2, "successThreshold": 1,
    });
    assert_eq!(probe(&described(haar)), usual);
    flag("httpGet.path=/,failureThreshold=4")
        .fails_saying("failure_threshold must be a number between 0 and 3.");
    flag("httpGet.path=/,periodSeconds=301").fails_saying("period_seconds: must be between 1 and 300");
    flag("").succeeds();
    assert_eq!(probe(&described(haar)), Value::Null);
}
