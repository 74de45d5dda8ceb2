//! Inside a workload: Google's libraries with no option at all.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, have, instances_run};

use crate::deploy::{deploy, deployed, get};

/// Calls Google's APIs as an app would, and tells what came of each.
const CALLS: &str = r#"
import http.server, json, os
from google.api_core.exceptions import GoogleAPICallError
import google.auth
from google.cloud import logging, run_v2, secretmanager

PROJECT = google.auth.default()[1]
PARENT = f"projects/{PROJECT}/locations/us-central1"

def secret(transport):
    client = secretmanager.SecretManagerServiceClient(transport=transport)
    return client.access_secret_version(name=f"projects/{PROJECT}/secrets/tide/versions/latest").payload.data.decode()

def services(transport):
    return [service.name.split("/")[-1] for service in run_v2.ServicesClient(transport=transport).list_services(parent=PARENT)]

def written(grpc):
    client = logging.Client(_use_grpc=grpc)
    client.logger("inside").log_text(f"written over {'gRPC' if grpc else 'HTTP'}")
    return "written"

CALLS = {
    "secret over gRPC": lambda: secret("grpc"),
    "secret over REST": lambda: secret("rest"),
    "services over gRPC": lambda: services("grpc"),
    "services over REST": lambda: services("rest"),
    "log over gRPC": lambda: written(True),
    "log over REST": lambda: written(False),
}

def outcome(call):
    try:
        return {"answer": call()}
    except GoogleAPICallError as error:
        return {"code": int(error.code), "message": error.message}

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({name: outcome(call) for name, call in CALLS.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Answer).serve_forever()
"#;

fn folder(haar: &Haar, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = haar.home().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("a file");
    }
    folder
}

/// What a service says of itself, in JSON.
fn ask(haar: &Haar, url: &Value) -> Value {
    let (status, answer) = get(haar, url);
    assert_eq!(status, 200, "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn ok(answer: Value) -> Value {
    assert!(answer["error"].is_null(), "{answer:#}");
    answer
}

/// Gives a service account these roles on the project.
fn grant(haar: &Haar, account: &str, roles: &[&str]) {
    let project = format!("cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}");
    let mut policy = ok(haar.api("POST", &format!("{project}:getIamPolicy"), Some(&json!({}))));
    let mut bindings = policy["bindings"].as_array().cloned().unwrap_or_default();
    bindings.extend(
        roles.iter().map(|role| json!({ "role": role, "members": [format!("serviceAccount:{account}")] })),
    );
    policy["bindings"] = bindings.into();
    ok(haar.api("POST", &format!("{project}:setIamPolicy"), Some(&json!({ "policy": policy }))));
}

#[test]
fn googles_libraries_need_no_option_and_get_what_the_account_may() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let secrets = format!("secretmanager.googleapis.com/v1/projects/{PROJECT}/secrets");
    ok(haar.api(
        "POST",
        &format!("{secrets}?secretId=tide"),
        Some(&json!({ "replication": { "automatic": {} } })),
    ));
    ok(haar.api(
        "POST",
        &format!("{secrets}/tide:addVersion"),
        Some(&json!({ "payload": { "data": "aGlnaA==" } })),
    ));
    let accounts = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    ok(haar.api("POST", &accounts, Some(&json!({ "accountId": "worker" }))));
    let worker = format!("worker@{PROJECT}.iam.gserviceaccount.com");
    let requirements = "google-cloud-secret-manager\ngoogle-cloud-run\ngoogle-cloud-logging\n";
    let app = folder(&haar, "calls", &[("main.py", CALLS), ("requirements.txt", requirements)]);
    let service = deployed(deploy(&haar, &app, &["--service-account", &worker]));

    let refused = ask(&haar, &service["url"]);
    for (call, permission) in [
        ("secret", "secretmanager.versions.access"),
        ("services", "run.services.list"),
        ("log", "logging.logEntries.create"),
    ] {
        for way in ["gRPC", "REST"] {
            let outcome = &refused[format!("{call} over {way}")];
            assert_eq!(outcome["code"], 403, "{call} over {way}: {outcome:#}");
            let message = outcome["message"].as_str().unwrap_or_default();
            assert!(message.contains(permission), "{call} over {way} names no permission: {message}");
        }
    }

    grant(
        &haar,
        &worker,
        &["roles/secretmanager.secretAccessor", "roles/run.viewer", "roles/logging.logWriter"],
    );
    let allowed = ask(&haar, &service["url"]);
    for way in ["gRPC", "REST"] {
        assert_eq!(allowed[format!("secret over {way}")]["answer"], "high", "{allowed:#}");
        assert_eq!(allowed[format!("services over {way}")]["answer"], json!(["calls"]), "{allowed:#}");
        assert_eq!(allowed[format!("log over {way}")]["answer"], "written", "{allowed:#}");
    }
}

/// What a program finds where it has no network of its own: its metadata server by a variable, all else by the proxy.
const PLAIN: &str = r#"
token=$(curl -s -H 'Metadata-Flavor: Google' \
    "http://$GCE_METADATA_HOST/computeMetadata/v1/instance/service-accounts/default/token" |
    sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl -s -H "Authorization: Bearer $token" https://secretmanager.googleapis.com/v1/projects/fog-bank/secrets |
    grep "Permission 'secretmanager.secrets.list' denied"
echo "$GCE_METADATA_HOST" > "$0.at.new" && mv "$0.at.new" "$0.at"
for _ in $(seq 300); do [ -e "$0.asked" ] && exit; sleep 0.1; done
exit 1
"#;

/// Starts a haar again where it can make no namespaces. Whether that could be done.
fn up_without_namespaces(haar: &Haar) -> bool {
    haar.cli(&["down"]).succeeds();
    let up = haar.command(&["up", "--detach", "--project", PROJECT, "--listen", haar.listen()]);
    let none = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps -all --bounding-set -all \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", none, "sh"])
        .arg(up.get_program())
        .args(up.get_args());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    tests::run(command).code == 0
}

#[test]
fn a_plain_process_finds_haar_and_who_it_is() {
    let haar = Haar::start();
    if !["gcloud", "curl", "unshare", "setpriv", "busybox"].into_iter().all(have) {
        return;
    }
    if !up_without_namespaces(&haar) {
        return tests::skipped_for("this machine lets nobody make a user namespace");
    }
    assert!(haar.cli(&["status"]).succeeds().stdout.contains("INSTANCES ARE NOT ISOLATED"));
    let script = haar.home().join("plain.sh");
    std::fs::write(&script, PLAIN).expect("write a script");
    let look = format!(
        "run jobs deploy look --image {} --region us-central1 --command /bin/sh --args {} --max-retries 0 \
         --execute-now --wait",
        tests::busybox_image(&haar),
        script.display()
    );
    std::thread::scope(|scope| {
        let looked = scope.spawn(|| haar.gcloud(&look));
        let at = script.with_extension("sh.at");
        while !at.exists() && !looked.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Everybody reaches its metadata server's port. We are outside of haar's user namespace, and get nothing there.
        let refused = std::fs::read_to_string(at).map(|at| {
            let path = "computeMetadata/v1/instance/service-accounts/default/token";
            let mut command = std::process::Command::new("curl");
            command.args(["-s", "-w", " %{http_code}", "-H", "Metadata-Flavor: Google"]);
            command.arg(format!("http://{}/{path}", at.trim()));
            tests::run(command).stdout
        });
        std::fs::write(script.with_extension("sh.asked"), "").expect("a file");
        looked.join().expect("a run").succeeds();
        let refused = refused.expect("the job has said where");
        assert!(refused.ends_with(" 403") && !refused.contains("access_token"), "{refused}");
    });
}
