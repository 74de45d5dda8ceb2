//! Revisions and traffic, with gcloud.

use serde_json::Value;
use tests::{Haar, have, instances_run};

use super::{HELLO, REGION, get};

fn described(haar: &Haar, what: &str) -> Value {
    let line = format!("run {what} --region {REGION} --format=json");
    serde_json::from_str(&haar.gcloud(&line).succeeds().stdout).expect("JSON")
}

fn revisions(haar: &Haar) -> Vec<String> {
    let line = format!("run revisions list --service hello --region {REGION} --format=value(name)");
    let mut names: Vec<String> = haar.gcloud(&line).succeeds().stdout.lines().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

#[test]
fn gcloud_splits_tags_and_deletes() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let deploy = |more: &str| {
        let line =
            format!("run deploy hello --image {HELLO} --region {REGION} --allow-unauthenticated {more}");
        haar.gcloud(&line).succeeds()
    };
    let update =
        |more: &str| haar.gcloud(&format!("run services update-traffic hello --region {REGION} {more}"));
    deploy("");
    let url = haar.status()["services"][0]["url"].as_str().expect("a URL").to_owned();
    let said = deploy("--set-env-vars=A=1 --no-traffic --tag=next");
    assert!(said.stderr.contains("next---hello-"), "{said:?}");
    let [first, second] = revisions(&haar).try_into().expect("two revisions");
    assert!(get(&haar, &url, "").1.contains(&first), "the new one has no traffic");
    assert!(get(&haar, &url.replace("//", "//next---"), "").1.contains(&second), "but a tag");

    update(&format!("--to-revisions={first}=50,{second}=50")).succeeds();
    let mut seen = [false; 2];
    for _ in 0..200 {
        let page = get(&haar, &url, "").1;
        for (seen, revision) in seen.iter_mut().zip([&first, &second]) {
            *seen |= page.contains(revision);
        }
    }
    assert_eq!(seen, [true; 2], "half of 200 requests each");
    update(&format!("--to-revisions={first}=50,{second}=51")).fails_saying("100");
    update("--to-revisions=hello-00009-xyz=100").fails_saying("hello-00009-xyz");
    update("--to-latest").succeeds();
    assert!(get(&haar, &url, "").1.contains(&second));
    update("--remove-tags=next").succeeds();
    assert_eq!(get(&haar, &url.replace("//", "//next---"), "").0, 404);
    update(&format!("--set-tags=old={first}")).succeeds();
    assert!(get(&haar, &url.replace("//", "//old---"), "").1.contains(&first));

    let revision = described(&haar, &format!("revisions describe {second}"));
    assert_eq!(revision["metadata"]["name"], second.as_str());
    assert!(revision["status"]["imageDigest"].as_str().expect("a digest").contains("@sha256:"));
    let delete =
        |revision: &str| haar.gcloud(&format!("run revisions delete {revision} --region {REGION} --quiet"));
    delete(&first).fails_saying("actively serving");
    update("--clear-tags").succeeds();
    delete(&second).fails_saying("actively serving");
    delete(&first).succeeds();
    assert_eq!(revisions(&haar), [second]);
}
