//! The flags of `gcloud run deploy` and `gcloud run services update` that other stories do not take: each is read back,
//! or refused in words that say what to do. None is dropped without a word.

use std::thread;

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, busybox_image, have, instances_run};

use super::{HELLO, REGION, get, ready};

fn gcloud(haar: &Haar, arguments: &[&str]) -> Ran {
    haar.exec(&[&["gcloud"], arguments, &["--region", REGION, "--quiet"]].concat())
}

/// A service in the form that gcloud reads.
fn service(haar: &Haar, name: &str) -> Value {
    let collection = "apis/serving.knative.dev/v1/namespaces";
    haar.api("GET", &format!("{REGION}-run.googleapis.com/{collection}/{PROJECT}/services/{name}"), None)
}

/// The same service as client libraries read it.
fn in_v2(haar: &Haar) -> Value {
    let name = format!("projects/{PROJECT}/locations/{REGION}/services/tide");
    haar.api("GET", &format!("run.googleapis.com/v2/{name}"), None)
}

/// What stands at a path; the dots in annotations' names are those of no path.
fn at<'a>(service: &'a Value, path: &str) -> &'a Value {
    let (start, annotation) = path.split_once('#').unwrap_or((path, ""));
    let found = service.pointer(start).unwrap_or(&Value::Null);
    if annotation.is_empty() { found } else { &found["annotations"][annotation] }
}

const SERVICE: &str = "/metadata#";
const TEMPLATE: &str = "/spec/template/metadata#";
const SPEC: &str = "/spec/template/spec/";
const CONTAINER: &str = "/spec/template/spec/containers/0/";

/// Where each flag of [`a_service_with_all_of_them`] is seen, and its value there.
fn shown() -> Vec<(&'static str, &'static str, Value)> {
    let database = json!(format!("{PROJECT}:{REGION}:shore"));
    vec![
        (SERVICE, "run.googleapis.com/description", json!("Tides of the day")),
        (SERVICE, "run.googleapis.com/ingress", json!("internal-and-cloud-load-balancing")),
        (SERVICE, "run.googleapis.com/custom-audiences", json!("[\"https://tide.example\"]")),
        (SERVICE, "run.googleapis.com/default-url-disabled", json!("true")),
        (SERVICE, "run.googleapis.com/binary-authorization", json!("default")),
        (SERVICE, "run.googleapis.com/binary-authorization-breakglass", json!("drill")),
        (SERVICE, "run.googleapis.com/minScale", json!("1")),
        (SERVICE, "run.googleapis.com/maxScale", json!("5")),
        (TEMPLATE, "run.googleapis.com/cloudsql-instances", database),
        (TEMPLATE, "run.googleapis.com/sessionAffinity", json!("true")),
        (TEMPLATE, "run.googleapis.com/execution-environment", json!("gen2")),
        (SPEC, "timeoutSeconds", json!(3600)),
        (SPEC, "volumes/0/emptyDir/sizeLimit", json!("10Mi")),
        (SPEC, "containerConcurrency", json!(160)),
        (CONTAINER, "volumeMounts/0/mountPath", json!("/charts")),
        (CONTAINER, "command", json!(["/haar"])),
        (CONTAINER, "args", json!(["serve-hello"])),
        (CONTAINER, "env/0", json!({ "name": "METHODS", "value": "GET,POST" })),
        (CONTAINER, "ports/0", json!({ "name": "h2c", "containerPort": 8081 })),
        (CONTAINER, "resources/limits", json!({ "cpu": "2", "memory": "1Gi" })),
    ]
}

fn a_service_with_all_of_them(haar: &Haar) {
    std::fs::write(haar.home().join("env.yaml"), "METHODS: GET,POST\n").expect("a file");
    let database = format!("--set-cloudsql-instances={PROJECT}:{REGION}:shore");
    let deploy =
        ["alpha", "run", "deploy", "tide", "--image", HELLO, "--no-allow-unauthenticated", &database];
    let words = "--ingress=internal-and-cloud-load-balancing --set-custom-audiences=https://tide.example --no-default-url \
         --binary-authorization=default --breakglass=drill --min=1 --max=5 --session-affinity --timeout=60m --cpu=2 \
         --execution-environment=gen2 --add-volume=name=charts,type=in-memory,size-limit=10Mi --memory=1Gi \
         --add-volume-mount=volume=charts,mount-path=/charts --command=/haar --args=serve-hello --env-vars-file=env.yaml \
         --use-http2 --port=8081 --labels=sea=north --revision-suffix=one --tag=blue";
    let words: Vec<&str> = words.split_whitespace().collect();
    gcloud(haar, &[&deploy[..], &["--description=Tides of the day"], &words].concat()).succeeds();
}

#[test]
fn flags_are_read_back_and_taken_back() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    a_service_with_all_of_them(&haar);
    let made = service(&haar, "tide");
    for (place, name, value) in shown() {
        assert_eq!(at(&made, &format!("{place}{name}")), &value, "{name}: {made:#}");
    }
    assert_eq!(made["status"]["latestReadyRevisionName"], "tide-one");
    assert_eq!(made["metadata"]["labels"]["sea"], "north");
    let authorization = json!({ "useDefault": true, "breakglassJustification": "drill" });
    assert_eq!(in_v2(&haar)["binaryAuthorization"], authorization);
    let url = haar.status()["services"][0]["url"].as_str().expect("a URL").to_owned();
    assert_eq!(get(&haar, &url, "").0, 404, "only a load balancer may come, and not to this address");
    let tagged = made["status"]["traffic"].as_array().expect("targets");
    assert!(tagged.iter().any(|target| target["tag"] == "blue"), "{made:#}");

    let words = "--ingress=all --clear-custom-audiences --default-url --clear-binary-authorization --min=default \
         --clear-cloudsql-instances --no-session-affinity --clear-volume-mounts --clear-volumes --command= \
         --args= --clear-env-vars --no-use-http2 --port=default --clear-labels";
    let words: Vec<&str> = words.split_whitespace().collect();
    gcloud(&haar, &[&["beta", "run", "services", "update", "tide"][..], &words].concat()).succeeds();
    let changed = service(&haar, "tide");
    let kept = [
        "description",
        "maxScale",
        "execution-environment",
        "timeoutSeconds",
        "containerConcurrency",
        "resources/limits",
    ];
    for (place, name, value) in shown() {
        let is_kept = kept.iter().any(|kept| name.ends_with(kept));
        assert_eq!(at(&changed, &format!("{place}{name}")) == &value, is_kept, "{name}: {changed:#}");
    }
    assert_eq!(changed["metadata"]["labels"]["sea"], Value::Null);
    assert!(in_v2(&haar)["binaryAuthorization"].is_null());
    assert_eq!(get(&haar, &url, "").0, 403, "everybody is asked who they are");
    by_hand_and_by_itself(&haar);
}

/// A fixed number of instances, and scaling again; both forms tell which it is.
fn by_hand_and_by_itself(haar: &Haar) {
    let update = |scaling: &str| {
        gcloud(haar, &["beta", "run", "services", "update", "tide", "--scaling", scaling]).succeeds();
        service(haar, "tide")["metadata"]["annotations"].clone()
    };
    let v2 = || in_v2(haar)["scaling"].clone();
    let (count, mode) = ("run.googleapis.com/manualInstanceCount", "run.googleapis.com/scalingMode");
    let by_hand = update("2");
    assert_eq!((&by_hand[count], &by_hand[mode]), (&json!("2"), &json!("manual")), "{by_hand:#}");
    assert_eq!(v2(), json!({ "manualInstanceCount": 2, "scalingMode": "MANUAL" }));
    let by_itself = update("auto");
    assert!(by_itself[count].is_null() && by_itself[mode] != "manual", "{by_itself:#}");
    assert!(v2()["manualInstanceCount"].is_null());
}

/// What haar has not, by flag, and what is said then.
const REFUSED: [(&str, &str, &str); 12] = [
    (
        "",
        "--vpc-connector=shore --vpc-egress=private-ranges-only",
        "remove run.googleapis.com/vpc-access-connector",
    ),
    (
        "",
        "--network=default --subnet=default --network-tags=a",
        "remove run.googleapis.com/network-interfaces",
    ),
    ("", "--key=projects/p/locations/l/keyRings/r/cryptoKeys/k", "remove run.googleapis.com/encryption-key"),
    (
        "",
        "--gpu=1 --gpu-type=nvidia-l4 --cpu=4 --memory=16Gi --no-gpu-zonal-redundancy",
        "GPUs are not served here",
    ),
    ("beta", "--mesh=projects/p/locations/global/meshes/m", "remove run.googleapis.com/mesh"),
    ("beta", "--no-deploy-health-check", "remove run.googleapis.com/health-check-disabled"),
    ("beta", "--iap", "remove run.googleapis.com/iap-enabled"),
    ("", "--add-volume=name=b,type=cloud-storage,bucket=b", "which is not supported here: use a secret"),
    ("", "--add-volume=name=n,type=nfs,location=10.0.0.1:/n", "which is not supported here: use a secret"),
    ("", "--service-account=nobody@nowhere.iam.gserviceaccount.com", "(or it may not exist)"),
    ("", "--execution-environment=gen1 --memory=64Gi", "memory"),
    ("", "--set-env-vars=METHODS=GET,POST", "Bad syntax for dict arg: [POST]"),
];

#[test]
fn flags_of_what_haar_has_not_are_refused_in_words() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    gcloud(&haar, &["run", "deploy", "tide", "--image", HELLO, "--no-allow-unauthenticated"]).succeeds();
    let before = service(&haar, "tide");
    let refuse = |(track, flags, said): (&str, &str, &str)| {
        let track: Vec<&str> = track.split_whitespace().collect();
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let ran = gcloud(&haar, &[&track[..], &["run", "services", "update", "tide"], &flags].concat());
        let ran = ran.fails_saying(said);
        assert!(!ran.stderr.contains("network connectivity"), "the network is not to blame: {ran:?}");
    };
    thread::scope(|scope| {
        for some in REFUSED.chunks(REFUSED.len() / 2) {
            scope.spawn(move || some.iter().copied().for_each(refuse));
        }
    });
    let after = service(&haar, "tide");
    assert_eq!(after["spec"], before["spec"], "what is refused changes nothing");
}

#[test]
fn a_second_container_comes_with_flags_of_its_own() {
    let haar = Haar::start();
    if !have("gcloud") || !have("busybox") || !instances_run(&haar) {
        return;
    }
    let image = busybox_image(&haar);
    let place = format!("--region={REGION} --quiet");
    let run = |line: &str| haar.gcloud(line);
    let deploy = |probe: &str| {
        run(&format!(
            "run deploy pair {place} --no-allow-unauthenticated --container=app --image={HELLO} --port=8080 --cpu=1 --memory=512Mi \
             --depends-on=side --container=side --image={image} --command=/bin/busybox --args=httpd,-f,-p,9090 \
             --cpu=0.5 --memory=256Mi --set-env-vars=A=1 {probe}"
        ))
    };
    deploy("").fails_saying("Dependent container 'side' must have startup probe specified");
    deploy("--startup-probe=tcpSocket.port=9090,periodSeconds=1").succeeds();
    let made = service(&haar, "pair");
    let needs = at(&made, &format!("{TEMPLATE}run.googleapis.com/container-dependencies"));
    assert_eq!(needs, "{\"app\":[\"side\"]}");
    assert_eq!(ready(&made)["status"], "True");

    run(&format!("run services update pair {place} --container=side --update-env-vars=B=2 --memory=512Mi"))
        .succeeds();
    let side = service(&haar, "pair")["spec"]["template"]["spec"]["containers"][1].clone();
    assert_eq!(
        (&side["env"][1]["name"], &side["resources"]["limits"]["memory"]),
        (&json!("B"), &json!("512Mi"))
    );
    run(&format!("run services update pair {place} --remove-containers=side --container=app --depends-on="))
        .succeeds();
    let left = service(&haar, "pair");
    assert_eq!(left["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(1), "{left:#}");
}
