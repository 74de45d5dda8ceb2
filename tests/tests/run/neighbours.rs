//! What one workload can get of another, and of a haar that was killed.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, busybox_image, have, instances_run, skipped};

use super::{REGION, await_settled, manifest, ready, service_of_a_script};

/// Asks the metadata server, first as it wants to be asked for its own account, then for more.
const ASK: &str = r#"
ask() { echo "[$1] $(/bin/busybox wget -q -O - --header 'Metadata-Flavor: Google' "http://169.254.169.254$2" 2>&1)"; }
accounts=/computeMetadata/v1/instance/service-accounts
ask own $accounts/default/email
ask list $accounts/
ask other $accounts/$OTHER/token
ask other-email $accounts/$OTHER/email
ask climbing "$accounts/default/../$OTHER/token"
echo "[posing] $(printf "GET $accounts/default/token HTTP/1.1\r\nHost: metadata\r\nMetadata-Flavor: Google\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n" | /bin/busybox nc 169.254.169.254 80 | /bin/busybox head -1)"
echo "[plain] $(/bin/busybox wget -q -O - http://169.254.169.254$accounts/default/token 2>&1)"
"#;

fn collection() -> String {
    format!("{REGION}-run.googleapis.com/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services")
}

/// Deploys a manifest over the API and gives the host that it answers at.
fn serve(haar: &Haar, name: &str, body: &Value) -> String {
    let made = haar.api("POST", &collection(), Some(body));
    assert!(made["error"].is_null(), "{made:#}");
    let served = await_settled(haar, &format!("{}/{name}", collection()));
    assert_eq!(ready(&served)["status"], "True", "{served:#}");
    served["status"]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned()
}

#[test]
fn a_workload_gets_no_token_but_its_own() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let email = |account: &str| format!("{account}@{PROJECT}.iam.gserviceaccount.com");
    let accounts = format!("iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts");
    for account in ["one-account", "two-account"] {
        haar.api("POST", &accounts, Some(&json!({ "accountId": account })));
    }
    for (name, own, other) in [("one", "one-account", "two-account"), ("two", "two-account", "one-account")] {
        let more =
            json!({ "serviceAccountName": email(own), "env": [{ "name": "OTHER", "value": email(other) }] });
        let body = service_of_a_script(&haar, name, ASK, &more);
        let host = serve(&haar, name, &body);
        let page = tests::fetch(&haar, &host, "/cgi-bin/run");
        let said = |what: &str| {
            let start = page.find(&format!("[{what}] ")).unwrap_or_else(|| panic!("no {what} in {page}"));
            page[start..].lines().next().unwrap_or_default()
        };
        assert!(said("own").contains(&email(own)), "{page}");
        assert!(!said("list").contains(&email(other)), "{page}");
        for refused in ["other", "other-email", "climbing"] {
            assert!(said(refused).contains("404"), "{page}");
        }
        assert!(said("posing").contains("403") && said("plain").contains("403"), "{page}");
        assert_eq!(page.matches("access_token").count(), 0, "{page}");
    }
}

/// Files of this name in volumes in memory.
fn in_shared_memory(name: &str) -> Vec<PathBuf> {
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let homes = below("/dev/shm".into()).flat_map(below);
    homes.map(|home| home.join(name)).filter(|file| file.exists()).collect()
}

/// A service with memory that two containers share, and a file in it.
fn with_memory(image: &str, file: &str) -> Value {
    let container = |script: String| {
        json!({
            "image": image, "command": ["/bin/busybox", "sh", "-c", script],
            "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
        })
    };
    let mut main = container("exec /bin/busybox httpd -f -p $PORT -h /shared".into());
    main["ports"] = json!([{ "containerPort": 8080 }]);
    let mut side = container(format!("echo secret > /shared/{file}; exec /bin/busybox sleep 1000000"));
    side["name"] = "side".into();
    let mut body = manifest("tide", &main);
    let spec = &mut body["spec"]["template"]["spec"];
    spec["containers"].as_array_mut().expect("containers").push(side);
    spec["volumes"] = json!([{ "name": "shared", "emptyDir": { "medium": "Memory" } }]);
    body
}

#[test]
fn what_was_in_memory_is_gone_after_a_kill_and_a_down() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let file = format!("note-{}", haar.pid());
    let host = serve(&haar, "tide", &with_memory(&busybox_image(&haar), &file));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !tests::fetch(&haar, &host, &format!("/{file}")).ends_with("secret\n") {
        assert!(Instant::now() < deadline, "the containers share nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    if in_shared_memory(&file).is_empty() {
        return skipped("a machine whose run directory is not in memory");
    }
    let running = fs::read_to_string(haar.data().join("run.json")).expect("run.json");
    let running: Value = serde_json::from_str(&running).expect("JSON");
    for process in ["supervisor", "pid"] {
        let pid = running[process].as_i64().expect("a pid").to_string();
        assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill runs").success());
    }
    haar.cli(&["down"]);
    let left = in_shared_memory(&file);
    assert!(left.is_empty(), "{left:?}");
}
