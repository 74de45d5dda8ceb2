//! What nobody may ask for: Knative's "MUST NOT" and "SHOULD NOT". No instance is needed to be refused.

use serde_json::{Value, json};
use tests::{Haar, PROJECT};

use super::services;

const IMAGE: &str = "us-docker.pkg.dev/cloudrun/container/hello";

#[test]
fn what_nobody_may_ask_for() {
    let haar = Haar::start();
    let exec = json!({ "exec": { "command": ["/bin/true"] } });
    for (clause, container) in [
        (
            "Protocols and ports: arbitrary port names MUST NOT be set",
            json!({ "ports": [{ "name": "arbitrary" }] }),
        ),
        (
            "Protocols and ports: only one port SHALL be specified",
            json!({ "ports": [{ "containerPort": 80 }, { "containerPort": 81 }] }),
        ),
        ("Protocols and ports: hostPort SHOULD NOT be set", json!({ "ports": [{ "hostPort": 80 }] })),
        (
            "Rootfs mount propagation MUST NOT be configurable",
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/", "mountPropagation": "HostToContainer" }] }),
        ),
        ("Hooks SHOULD NOT be configurable: postStart", json!({ "lifecycle": { "postStart": exec } })),
        ("Hooks SHOULD NOT be configurable: preStop", json!({ "lifecycle": { "preStop": exec } })),
        ("Process: stdin SHOULD NOT be asked for", json!({ "stdin": true })),
        ("Process: stdinOnce SHOULD NOT be asked for", json!({ "stdinOnce": true })),
        ("Process: a terminal SHOULD NOT be asked for", json!({ "tty": true })),
        ("User: an invalid one MUST fail", json!({ "securityContext": { "runAsUser": -10 } })),
        ("User: Cloud Run has the image's only", json!({ "securityContext": { "runAsUser": 2020 } })),
        ("Meta requests: other probe methods SHOULD be disallowed", json!({ "livenessProbe": exec })),
        (
            "Devices MUST NOT be requested",
            json!({ "volumeDevices": [{ "name": "disk", "devicePath": "/dev/sda" }] }),
        ),
        (
            "Cloud Run: there are no ConfigMaps",
            json!({ "envFrom": [{ "configMapRef": { "name": "tides" } }] }),
        ),
        ("Cloud Run: PORT is not the developer's", json!({ "env": [{ "name": "PORT", "value": "1" }] })),
        (
            "Cloud Run: K_SERVICE is not the developer's",
            json!({ "env": [{ "name": "K_SERVICE", "value": "mine" }] }),
        ),
    ] {
        let mut whole = json!({ "image": IMAGE });
        super::merge(&mut whole, container);
        let body = json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": { "name": "tide", "namespace": PROJECT },
            "spec": { "template": { "spec": { "containers": [whole] } } },
        });
        let answer = haar.api("POST", &services(""), Some(&body));
        assert_eq!(answer["error"]["code"], 400, "{clause}: {answer:#}");
    }
    for (field, value) in [("hostNetwork", Value::Bool(true)), ("hostPID", Value::Bool(true))] {
        let mut body = json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": { "name": "tide" },
            "spec": { "template": { "spec": { "containers": [{ "image": IMAGE }] } } },
        });
        body["spec"]["template"]["spec"][field] = value;
        let answer = haar.api("POST", &services(""), Some(&body));
        assert_eq!(
            answer["error"]["code"], 400,
            "Namespaces MUST NOT be set by developers, {field}: {answer:#}"
        );
    }
    assert_eq!(haar.status()["services"], json!([]));
}
