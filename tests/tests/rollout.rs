//! `haar rollout`: a new revision by steps, and back.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have, instances_run};

const REGION: &str = "us-central1";

/// The same image under so many names.
fn images<const N: usize>(haar: &Haar) -> [String; N] {
    let archive = haar.data().join("busybox.tar").to_string_lossy().into_owned();
    std::array::from_fn(|number| {
        let name = format!("us-docker.pkg.dev/fog-bank/tools/busybox:v{}", number + 2);
        haar.cli(&["images", "import", &archive, "--name", &name]).succeeds();
        name
    })
}

/// Changes the service, and waits.
fn change(haar: &Haar, mask: &str, body: &Value) {
    let host = format!("{REGION}-run.googleapis.com/v2");
    let url = format!("{host}/projects/{PROJECT}/locations/{REGION}/services/tide?updateMask={mask}");
    let operation = haar.api("PATCH", &url, Some(body));
    let name = operation["name"].as_str().unwrap_or_else(|| panic!("no operation: {operation:#}"));
    let ended = haar.api("POST", &format!("{host}/{name}:wait"), Some(&json!({ "timeout": "60s" })));
    assert!(ended["error"].is_null() && ended["done"] == json!(true), "{ended:#}");
}

/// What the service asks for.
fn asked(haar: &Haar) -> Value {
    service(haar)["traffic"].clone()
}

fn latest(haar: &Haar) -> String {
    let service = service(haar);
    service["latestReadyRevision"]
        .as_str()
        .expect("a revision")
        .rsplit('/')
        .next()
        .expect("a name")
        .to_owned()
}

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
    let images: [_; 3] = images(&haar);
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

#[test]
fn shares_and_tags_are_what_they_were_when_it_is_taken_back() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let image = tests::busybox_image(&haar);
    let [second, third] = images(&haar);
    deploy(&haar, &image);
    let one = latest(&haar);
    let mut template = service(&haar)["template"].clone();
    template["containers"][0]["image"] = second.as_str().into();
    change(&haar, "template", &json!({ "template": template }));
    let two = latest(&haar);
    assert_ne!(one, two);
    let target = |latest: bool, percent: u32, tag: &str| {
        let kind = if latest { "LATEST" } else { "REVISION" };
        let mut target =
            json!({ "type": format!("TRAFFIC_TARGET_ALLOCATION_TYPE_{kind}"), "percent": percent });
        if !latest {
            target["revision"] = one.as_str().into();
        }
        if !tag.is_empty() {
            target["tag"] = tag.into();
        }
        target
    };
    let split = [target(false, 30, "stable"), target(true, 70, ""), target(true, 0, "next")];
    change(&haar, "traffic", &json!({ "traffic": split }));
    let before = asked(&haar);
    let rollout = |image: &str, more: &[&str]| {
        haar.cli(&[&["rollout", "tide", "--image", image, "--watch", "0s"], more].concat())
    };

    rollout(&second, &[]).fails_saying("nothing to roll out");
    assert_eq!(asked(&haar), before, "nothing was done");
    rollout("us-docker.pkg.dev/fog-bank/tools/nothing:v1", &[]).fails_saying("goes on serving");
    assert_eq!(asked(&haar), before, "no revision came of it");

    let back = rollout(&third, &["--check", "/nowhere"]);
    assert_eq!(back.code, 1, "{back:?}");
    assert!(back.stderr.contains("requests go where they went before"), "{back:?}");
    let mut named = before.clone();
    named[1]["type"] = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION".into();
    named[1]["revision"] = two.as_str().into();
    assert_eq!(asked(&haar), named, "the latest is the one that was worse, and gets nothing");
    let serving = service(&haar)["trafficStatuses"].clone();
    assert!(
        serving.as_array().expect("traffic").iter().all(|target| target["tag"] != "rollout"),
        "{serving:#}"
    );
}

#[test]
fn a_rollout_that_breaks_off_takes_the_new_revision_back() {
    let haar = Haar::start();
    if !instances_run(&haar) || !have("busybox") {
        return;
    }
    let image = tests::busybox_image(&haar);
    let [second] = images(&haar);
    deploy(&haar, &image);
    let first = serving(&haar);
    std::thread::scope(|scope| {
        let rolling = scope.spawn(|| {
            haar.cli(&["rollout", "tide", "--image", &second, "--watch", "10m", "--steps", "50,100"])
        });
        let half =
            || asked(&haar).as_array().is_some_and(|all| all.iter().any(|target| target["percent"] == 50));
        let until = Instant::now() + Duration::from_secs(60);
        while !half() {
            assert!(Instant::now() < until && !rolling.is_finished(), "it never began");
            std::thread::sleep(Duration::from_millis(50));
        }
        tests::kill_and_await(&haar);
        let broken = rolling.join().expect("it ends");
        assert_eq!(broken.code, 1, "{broken:?}");
        assert!(broken.stderr.contains(&format!("all requests go to {first}")), "{broken:?}");
    });
    assert_eq!(asked(&haar).as_array().expect("traffic").len(), 1);
    assert_eq!(serving(&haar), first);
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
