//! The subcommands of `gcloud run` that other stories do not take, and those that haar has not.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have, instances_run};

use super::{HELLO, REGION, get};

/// gcloud, with the region that `gcloud config set run/region` has put down.
fn gcloud(haar: &Haar, line: &str) -> Ran {
    haar.gcloud(&format!("{line} --quiet"))
}

/// An identity token of somebody, as gcloud prints it.
fn identity(haar: &Haar, who: &str) -> String {
    let token = haar.exec_as(who, &["gcloud", "auth", "print-identity-token"]).succeeds().stdout;
    format!("Authorization: Bearer {}\r\n", token.trim())
}

#[test]
fn a_service_without_a_region_on_the_line() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    assert!(gcloud(&haar, "run regions list --format=value(locationId)").succeeds().stdout.contains(REGION));
    gcloud(&haar, "run services update tide --cpu=1").fails_saying("You must specify a region.");
    gcloud(&haar, &format!("config set run/region {REGION}")).succeeds();
    gcloud(&haar, &format!("run deploy tide --image {HELLO} --no-allow-unauthenticated")).succeeds();
    gcloud(&haar, "run services update tide --update-env-vars=^@^METHODS=GET,POST@SEA=north").succeeds();
    let said = gcloud(&haar, "run services describe tide").succeeds().stdout;
    assert!(said.contains("GET,POST") && said.contains("https://") | said.contains("http://"), "{said}");
    let listed = gcloud(&haar, "run services list --filter=metadata.name=tide --format=value(metadata.name)");
    assert_eq!(listed.succeeds().stdout.trim(), "tide");
    // What stands behind a backslash in many a guide.
    let comment = format!("run deploy tide --image {HELLO} # For easy public access");
    gcloud(&haar, &comment).fails_saying("unrecognized arguments:");

    who_may_call(&haar);
    let revision =
        gcloud(&haar, "run revisions list --service tide --limit=1 --format=value(name)").succeeds();
    for logs in
        ["services logs read tide".to_owned(), format!("revisions logs read {}", revision.stdout.trim())]
    {
        let read = gcloud(&haar, &format!("beta run {logs} --limit=20")).succeeds().stdout;
        assert!(read.contains("listening on port 8080"), "{logs}: {read}");
    }
    what_haar_has_not(&haar);
}

/// A policy that is read, changed and set as a whole, and whom it lets in.
fn who_may_call(haar: &Haar) {
    let url = haar.status()["services"][0]["url"].as_str().expect("a URL").to_owned();
    gcloud(
        haar,
        "run services add-iam-policy-binding tide --member=user:ada@example.com --role=roles/run.invoker",
    )
    .succeeds();
    let [ada, bob] = ["ada@example.com", "bob@example.com"].map(|who| identity(haar, who));
    let called = |token: &str| get(haar, &url, token).0;
    assert_eq!([called(""), called(&ada), called(&bob)], [403, 200, 403]);
    let read = gcloud(haar, "run services get-iam-policy tide --format=json").succeeds().stdout;
    let mut policy: Value = serde_json::from_str(&read).expect("a policy");
    policy["bindings"][0]["members"] = json!(["user:bob@example.com"]);
    std::fs::write(haar.home().join("policy.json"), policy.to_string()).expect("a file");
    gcloud(haar, "run services set-iam-policy tide policy.json").succeeds();
    assert_eq!([called(&ada), called(&bob)], [403, 200], "with the next call");
    gcloud(haar, "run services set-iam-policy tide policy.json").fails_saying("ABORTED");
}

/// What needs a product that is not here says which, and what it would take.
fn what_haar_has_not(haar: &Haar) {
    let web = json!({ "services": { "web": { "image": HELLO, "ports": ["8080:8080"] } } });
    std::fs::write(haar.home().join("compose.yaml"), web.to_string()).expect("a file");
    let regional = "served by regional endpoints only, such as https://us-central1-run.googleapis.com";
    for (line, said) in [
        ("pubsub topics list", "FAILED_PRECONDITION: haar does not serve pubsub.googleapis.com yet."),
        ("run deploy source --source=.", "haar does not serve artifactregistry.googleapis.com yet"),
        ("alpha run compose up compose.yaml", "haar does not serve artifactregistry.googleapis.com yet"),
        ("alpha run multi-region-services describe tide", regional),
        (&format!("alpha run deploy both --image {HELLO} --regions us-central1,europe-west1"), regional),
    ] {
        let ran = gcloud(haar, line).fails_saying(said);
        assert!(!ran.stderr.contains("network connectivity"), "{ran:?}");
    }
    let names = haar.status()["services"].as_array().expect("services").len();
    assert_eq!(names, 1, "in {PROJECT} only what was deployed");
}
