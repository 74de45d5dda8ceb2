//! `haar rollout`: a new revision by steps, and back.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have, instances_run};

const REGION: &str = "us-central1";

/// Deploys a service whose second revision answers everything with 500.
fn deploy(haar: &Haar, image: &str) -> Value {
    let script = "mkdir -p /www/cgi-bin; status='200 OK'; case $K_REVISION in *-00002-*) status='500 Broken';; esac; \
                  printf '#!/bin/busybox sh\\nprintf \"HTTP/1.0 %s\\\\r\\\\n\\\\r\\\\n%s\"\\n' \"$status\" \"$K_REVISION\" > /www/cgi-bin/run; \
                  chmod +x /www/cgi-bin/run; exec /bin/busybox httpd -f -p $PORT -h /www";
    let body = json!({
        "invokerIamDisabled": true,
        "template": { "containers": [{ "image": image, "command": ["/bin/busybox", "sh", "-c", script] }] },
    });
    let all = format!("{REGION}-run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services");
    let operation = haar.api("POST", &format!("{all}?serviceId=tide"), Some(&body));
    let name = operation["name"].as_str().unwrap_or_else(|| panic!("no operation: {operation:#}"));
    let wait = format!("{REGION}-run.googleapis.com/v2/{name}:wait");
    let ended = haar.api("POST", &wait, Some(&json!({ "timeout": "60s" })));
    assert!(ended["error"].is_null() && ended["done"] == json!(true), "{ended:#}");
    service(haar)
}

fn service(haar: &Haar) -> Value {
    let url = format!("{REGION}-run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/services/tide");
    haar.api("GET", &url, None)
}

/// Where all requests go.
fn serving(haar: &Haar) -> String {
    let service = service(haar);
    let all = service["trafficStatuses"].as_array().expect("traffic");
    assert_eq!(all.len(), 1, "{service:#}");
    assert_eq!(all[0]["percent"], 100, "{service:#}");
    all[0]["revision"].as_str().expect("a revision").rsplit('/').next().expect("a name").to_owned()
}

/// Does something while people call the service.
fn while_called(haar: &Haar, host: &str, what: impl FnOnce() -> Ran) -> Ran {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    tests::fetch(haar, host, "/cgi-bin/run");
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let ran = what();
        done.store(true, Relaxed);
        ran
    })
}

#[test]
fn a_bad_revision_is_taken_back_and_a_good_one_takes_over() {
    let mut haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let image = tests::busybox_image(&haar);
    let archive = haar.data().join("busybox.tar").to_string_lossy().into_owned();
    let images = [2, 3, 4].map(|number| format!("us-docker.pkg.dev/fog-bank/tools/busybox:v{number}"));
    for name in &images {
        haar.cli(&["images", "import", &archive, "--name", name]).succeeds();
    }
    let made = deploy(&haar, &image);
    let host = made["uri"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
    let first = serving(&haar);
    let rollout = |haar: &Haar, image: &str, more: &[&str]| {
        haar.cli(&[&["rollout", "tide", "--image", image], more].concat())
    };

    let bad =
        while_called(&haar, &host, || rollout(&haar, &images[0], &["--watch", "20s", "--steps", "50,100"]));
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(
        bad.stdout.contains(&format!("tide serves {first} again: 100.0 % of its requests fail")),
        "{bad:?}"
    );
    assert!(bad.stderr.contains("without requests") && bad.stderr.contains("watch"), "{bad:?}");
    assert_eq!(serving(&haar), first);

    let unchecked =
        rollout(&haar, &images[1], &["--check", "/cgi-bin/run", "--check", "/nowhere", "--watch", "1s"]);
    assert_eq!(unchecked.code, 1, "{unchecked:?}");
    assert!(unchecked.stdout.contains("/nowhere is answered with 404"), "{unchecked:?}");
    assert_eq!(serving(&haar), first);

    let good = while_called(&haar, &host, || {
        rollout(&haar, &images[2], &["--check", "/cgi-bin/run", "--watch", "1s", "--steps", "30,100"])
    });
    assert_eq!(good.code, 0, "{good:?}");
    let last = serving(&haar);
    assert!(
        last.starts_with("tide-00004-") && good.stdout.contains(&format!("tide serves {last}")),
        "{good:?}"
    );
    assert!(tests::fetch(&haar, &host, "/cgi-bin/run").contains(&last));
    assert!(good.stderr.contains("30 %") && good.stderr.contains("100 %"), "{good:?}");

    rollout(&haar, &images[2], &["--watch", "0s"]).fails_saying("nothing to roll out");
    assert_eq!(serving(&haar), last);
    rollout(&haar, &images[2], &["--steps", "50,10"]).fails_saying("do not go up");
    haar.cli(&["rollout", "wave", "--image", &image]).fails_saying("there is no service wave");
    usage_is_kept(&mut haar, &first);
}

/// What the instances used is there, and still there after a restart.
fn usage_is_kept(haar: &mut Haar, revision: &str) {
    let of = |status: &Value| {
        let all = status["usage"].as_array().expect("usage").clone();
        let its = all
            .into_iter()
            .find(|usage| usage["revision"].as_str().is_some_and(|name| name.ends_with(revision)));
        its.expect("the first revision's usage")
    };
    let usage = of(&haar.status());
    assert_eq!(usage["billing"], "request-based");
    assert!(usage["requests"].as_u64().expect("a number") > 20, "{usage:#}");
    let (seconds, cpu, memory) = (&usage["instance_seconds"], &usage["vcpu_seconds"], &usage["gib_seconds"]);
    assert!(seconds.as_f64().expect("a number") > 0.1, "{usage:#}");
    assert_eq!(seconds, cpu, "one CPU");
    assert!(
        (memory.as_f64().expect("a number") * 2.0 - cpu.as_f64().expect("a number")).abs() < 1e-6,
        "{usage:#}"
    );

    haar.cli(&["down"]).succeeds();
    haar.up(&[]);
    let after = of(&haar.status());
    assert!(after["requests"].as_u64() >= usage["requests"].as_u64(), "{after:#}");
}
