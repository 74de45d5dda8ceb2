//! gcloud, unmodified, with nothing set but what `haar exec` sets.

use std::io::Write;

use tests::{Haar, PROJECT, Ran, have};

/// gcloud with a value on its standard input.
fn gcloud_with_input(haar: &Haar, line: &str, input: &str) -> Ran {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(input.as_bytes()).expect("its content");
    haar.gcloud(&format!("{line} --data-file={}", file.path().display()))
}

#[test]
fn secrets_from_creation_to_destruction() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    haar.gcloud("secrets create tide --replication-policy=automatic --labels=sea=north").succeeds();
    gcloud_with_input(&haar, "secrets versions add tide", "high at noon").succeeds();
    gcloud_with_input(&haar, "secrets versions add tide", "low at six").succeeds();
    assert_eq!(haar.gcloud("secrets versions access latest --secret=tide").succeeds().stdout, "low at six");
    assert_eq!(haar.gcloud("secrets versions access 1 --secret=tide").succeeds().stdout, "high at noon");
    assert!(haar.gcloud("secrets list --filter=labels.sea=north").succeeds().stdout.contains("tide"));
    assert!(
        haar.gcloud("secrets describe tide --format=value(labels.sea)").succeeds().stdout.contains("north")
    );

    haar.gcloud("secrets create tide --replication-policy=automatic").fails_saying("already exists");
    haar.gcloud("secrets versions disable 1 --secret=tide").succeeds();
    haar.gcloud("secrets versions access 1 --secret=tide").fails_saying("DISABLED");
    haar.gcloud("secrets versions enable 1 --secret=tide").succeeds();
    haar.gcloud("secrets versions destroy 1 --secret=tide --quiet").succeeds();
    haar.gcloud("secrets versions access 1 --secret=tide").fails_saying("DESTROYED");
    let states = haar.gcloud("secrets versions list tide --format=value(name,state)").succeeds().stdout;
    assert_eq!(states.split_whitespace().collect::<Vec<_>>(), ["2", "enabled", "1", "destroyed"]);
    haar.gcloud("secrets delete tide --quiet").succeeds();
    haar.gcloud("secrets describe tide").fails_saying("NOT_FOUND");
}

#[test]
fn policies_decide_who_reads_a_secret() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let reader = format!("reader@{PROJECT}.iam.gserviceaccount.com");
    haar.gcloud("iam service-accounts create reader --display-name=Reader").succeeds();
    assert!(
        haar.gcloud("iam service-accounts list --format=value(email)").succeeds().stdout.contains(&reader)
    );
    haar.gcloud("secrets create tide --replication-policy=automatic").succeeds();
    gcloud_with_input(&haar, "secrets versions add tide", "high at noon").succeeds();

    let read = |haar: &Haar| {
        haar.exec_as(&reader, &["gcloud", "secrets", "versions", "access", "latest", "--secret=tide"])
    };
    read(&haar).fails_saying("PERMISSION_DENIED").fails_saying("secretmanager.versions.access");
    haar.gcloud(&format!(
        "secrets add-iam-policy-binding tide --member=serviceAccount:{reader} --role=roles/secretmanager.secretAccessor"
    ))
    .succeeds();
    assert_eq!(read(&haar).succeeds().stdout, "high at noon");
    haar.gcloud(&format!(
        "secrets remove-iam-policy-binding tide --member=serviceAccount:{reader} --role=roles/secretmanager.secretAccessor"
    ))
    .succeeds();
    read(&haar).fails_saying("secretmanager.versions.access");

    haar.gcloud(&format!(
        "projects add-iam-policy-binding {PROJECT} --member=serviceAccount:{reader} --role=roles/secretmanager.secretAccessor --condition=None"
    ))
    .succeeds();
    assert_eq!(read(&haar).succeeds().stdout, "high at noon");
    haar.exec_as(&reader, &["gcloud", "secrets", "list"]).fails_saying("secretmanager.secrets.list");
}

#[test]
fn members_and_roles_that_cannot_be_are_refused() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let bind = |member: &str, role: &str| {
        haar.gcloud(&format!(
            "projects add-iam-policy-binding {PROJECT} --member={member} --role={role} --condition=None"
        ))
    };
    bind("user:alice@example.com", "roles/secretmanager.emperor").fails_saying("roles/secretmanager.emperor");
    bind(&format!("serviceAccount:nobody@{PROJECT}.iam.gserviceaccount.com"), "roles/viewer")
        .fails_saying("does not exist");
    bind("user:alice@example.com", "roles/viewer").succeeds();
}

#[test]
fn tokens_and_projects_are_there() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    assert!(haar.gcloud("auth print-access-token").succeeds().stdout.starts_with("ya29."));
    let project = haar
        .gcloud(&format!("projects describe {PROJECT} --format=value(projectId,lifecycleState)"))
        .succeeds();
    assert_eq!(project.stdout.split_whitespace().collect::<Vec<_>>(), [PROJECT, "ACTIVE"]);
    let default_account = haar.gcloud("iam service-accounts list --format=value(email)").succeeds().stdout;
    assert!(default_account.contains("-compute@developer.gserviceaccount.com"), "{default_account}");
    assert!(
        haar.gcloud("services list --enabled --format=value(config.name)")
            .succeeds()
            .stdout
            .contains("secretmanager.googleapis.com")
    );
}
