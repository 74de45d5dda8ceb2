//! gcloud on projects, the organization, accounts and roles: the commands that administrators type and that no other
//! story takes.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have, instances_run};

const ORGANIZATION: &str = "440056207318";
const ADA: &str = "--member=user:ada@example.com";

fn read(ran: Ran) -> Value {
    serde_json::from_str(&ran.succeeds().stdout).expect("JSON")
}

/// Grants a role by one command, reads the policy by another, gives it to somebody else and sets it by a third.
fn hand_over(haar: &Haar, what: &str, name: &str, role: &str) {
    haar.gcloud(&format!("{what} add-iam-policy-binding {name} {ADA} --role={role}")).succeeds();
    let policy = haar.gcloud(&format!("{what} get-iam-policy {name} --format=json")).succeeds().stdout;
    assert!(policy.contains("ada@example.com"), "{policy}");
    std::fs::write(haar.home().join("policy.json"), policy.replace("ada@", "bob@")).expect("a file");
    let set = || haar.gcloud(&format!("{what} set-iam-policy {name} policy.json --format=json --quiet"));
    let now = read(set()).to_string();
    assert!(now.contains("bob@example.com") && !now.contains("ada@example.com"), "{now}");
    set().fails_saying("There were concurrent policy changes.");
    let bob = ADA.replace("ada@", "bob@");
    let left =
        haar.gcloud(&format!("{what} remove-iam-policy-binding {name} {bob} --role={role}")).succeeds();
    assert!(!left.stdout.contains("bob@example.com"), "{left:?}");
}

#[test]
fn projects_and_their_organization() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start_with(&["--projects", "strict"]);
    let gcloud = |line: &str| haar.gcloud(line);
    gcloud("secrets list --project=other-fog")
        .fails_saying("Permission denied on resource project other-fog.");
    gcloud(&format!("projects create other-fog --name=Other --organization={ORGANIZATION}")).succeeds();
    gcloud("secrets list --project=other-fog").succeeds();
    gcloud("projects create other-fog").fails_saying("already in use");
    gcloud("projects update other-fog --name=Otherwise").succeeds();
    let project = read(gcloud("projects describe other-fog --format=json"));
    assert_eq!(project["name"], "Otherwise");
    assert_eq!(project["parent"], json!({ "id": ORGANIZATION, "type": "organization" }));
    gcloud("projects delete other-fog --quiet").succeeds();
    let state = || gcloud("projects describe other-fog --format=value(lifecycleState)").succeeds().stdout;
    assert_eq!(state().trim(), "DELETE_REQUESTED");
    gcloud("projects undelete other-fog --quiet").succeeds();
    assert_eq!(state().trim(), "ACTIVE");

    hand_over(&haar, "projects", PROJECT, "roles/viewer");
    hand_over(&haar, "organizations", ORGANIZATION, "roles/browser");
    let above = gcloud(&format!("projects get-ancestors-iam-policy {PROJECT} --format=value(id)")).succeeds();
    assert_eq!(above.stdout.lines().collect::<Vec<_>>(), [PROJECT, ORGANIZATION]);
    let described = gcloud(&format!("organizations describe {ORGANIZATION} --format=value(displayName)"));
    assert_eq!(described.succeeds().stdout.trim(), "haar.localhost");
    let offered = gcloud("services list --available --format=value(config.name)").succeeds().stdout;
    assert!(offered.lines().any(|name| name == "run.googleapis.com"), "{offered}");
}

#[test]
fn folders_from_made_to_gone() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let gcloud = |line: &str| haar.gcloud(&format!("resource-manager folders {line}"));
    let made = |name: &str| {
        let line = format!("create --display-name={name} --organization={ORGANIZATION} --format=json");
        let folder = read(gcloud(&line));
        folder["name"].as_str().and_then(|name| name.strip_prefix("folders/")).expect("a name").to_owned()
    };
    let (shore, sea) = (made("Shore"), made("Sea"));
    gcloud(&format!("update {shore} --display-name=Beach")).succeeds();
    gcloud(&format!("move {shore} --folder={sea}")).succeeds();
    let moved = read(gcloud(&format!("describe {shore} --format=json")));
    assert_eq!(moved["displayName"], "Beach", "{moved}");
    assert_eq!(moved["parent"], format!("folders/{sea}"), "{moved}");
    let listed = |line: &str| gcloud(&format!("list {line} --format=value(displayName)")).succeeds().stdout;
    assert_eq!(listed(&format!("--organization={ORGANIZATION}")).trim(), "Sea");
    assert_eq!(listed(&format!("--folder={sea}")).trim(), "Beach");
    gcloud(&format!("delete {sea}")).fails_saying("not empty");
    gcloud(&format!("delete {shore}")).succeeds();
    assert_eq!(listed(&format!("--folder={sea}")).trim(), "");
    let state = || gcloud(&format!("describe {shore} --format=value(lifecycleState)")).succeeds().stdout;
    assert_eq!(state().trim(), "DELETE_REQUESTED");
    gcloud(&format!("undelete {shore}")).succeeds();
    assert_eq!(state().trim(), "ACTIVE");
    hand_over(&haar, "resource-manager folders", &shore, "roles/viewer");
}

#[test]
fn accounts_and_what_they_sign() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let gcloud = |line: &str| haar.gcloud(line);
    let account = format!("signer@{PROJECT}.iam.gserviceaccount.com");
    gcloud("iam service-accounts create signer").succeeds();
    hand_over(&haar, "iam service-accounts", &account, "roles/iam.serviceAccountUser");

    let sign =
        |verb: &str| gcloud(&format!("iam service-accounts {verb} claims signed --iam-account={account}"));
    std::fs::write(haar.home().join("claims"), "{\"sub\":\"tide\"}").expect("a file");
    sign("sign-blob").fails_saying("iam.serviceAccounts.signBlob");
    let owner = gcloud("config get-value account").succeeds().stdout;
    gcloud(&format!(
        "iam service-accounts add-iam-policy-binding {account} --member=user:{} --role=roles/iam.serviceAccountTokenCreator",
        owner.trim()
    ))
    .succeeds();
    sign("sign-blob").succeeds();
    sign("sign-jwt").succeeds();
    let signed = std::fs::read_to_string(haar.home().join("signed")).expect("what was signed");
    assert_eq!(signed.split('.').count(), 3, "{signed}");

    let keys = |line: &str| gcloud(&format!("iam service-accounts keys {line} --iam-account={account}"));
    for file in ["old.json", "new.json"] {
        keys(&format!("create {file}")).succeeds();
        let file = format!("GOOGLE_APPLICATION_CREDENTIALS={}", haar.home().join(file).display());
        let token = ["env", &file, "gcloud", "auth", "application-default", "print-access-token"];
        assert!(
            haar.exec(&token).succeeds().stdout.starts_with("ya29."),
            "both work while one follows the other"
        );
    }
    let old = std::fs::read(haar.home().join("old.json")).expect("the key");
    let old: Value = serde_json::from_slice(&old).expect("JSON");
    let id = old["private_key_id"].as_str().expect("an id");
    let public =
        format!("iam service-accounts keys get-public-key {id} --iam-account={account} --output-file=pem");
    gcloud(&format!("beta {public}")).succeeds();
    let pem = std::fs::read_to_string(haar.home().join("pem")).expect("the public key");
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");

    let unique = gcloud(&format!("iam service-accounts describe {account} --format=value(uniqueId)"));
    let unique = unique.succeeds().stdout.trim().to_owned();
    gcloud(&format!("iam service-accounts delete {account} --quiet")).succeeds();
    gcloud(&format!("iam service-accounts describe {account}")).fails_saying("NOT_FOUND");
    gcloud(&format!("beta iam service-accounts undelete {unique}")).succeeds();
    assert!(keys("list --format=value(name)").succeeds().stdout.contains(id), "its keys come back with it");
}

#[test]
fn roles_and_pools_beside() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let gcloud = |line: &str| haar.gcloud(line);
    gcloud(&format!(
        "iam roles copy --source=roles/run.invoker --destination=caller --dest-project={PROJECT}"
    ))
    .succeeds();
    let role = read(gcloud(&format!("iam roles describe caller --project={PROJECT} --format=json")));
    assert!(role["includedPermissions"].to_string().contains("run.routes.invoke"), "{role}");
    gcloud(&format!("iam roles update caller --project={PROJECT} --stage=DISABLED")).succeeds();
    let stage =
        gcloud(&format!("iam roles list --project={PROJECT} --format=value(stage)")).succeeds().stdout;
    assert_eq!(stage.trim(), "DISABLED");
    assert!(
        gcloud("iam roles list --filter=name=roles/run.invoker")
            .succeeds()
            .stdout
            .contains("Cloud Run Invoker")
    );
    let project = format!("//cloudresourcemanager.googleapis.com/projects/{PROJECT}");
    let testable =
        gcloud(&format!("iam list-testable-permissions {project} --format=value(name)")).succeeds().stdout;
    assert!(testable.lines().any(|name| name == "run.services.get"), "run.services.get is not in it");

    let pools = |line: &str| gcloud(&format!("iam workload-identity-pools {line} --location=global"));
    pools("create github").succeeds();
    let provider = "--workload-identity-pool=github --issuer-uri=https://token.actions.githubusercontent.com \
         --attribute-mapping=google.subject=assertion.sub,attribute.actor=assertion.actor";
    let create = format!("providers create-oidc actions {provider}");
    pools(&create).fails_saying("The attribute condition must reference one of the provider's claims.");
    pools(&format!("{create} --attribute-condition=assertion.repository=='haar/app'")).succeeds();
    let shown = pools(
        "providers describe actions --workload-identity-pool=github --format=value(attributeCondition)",
    );
    assert_eq!(shown.succeeds().stdout.trim(), "assertion.repository=='haar/app'");
}

/// What people meet where an organization shares with its own people only, word for word, and the way round.
#[test]
fn a_public_service_in_a_closed_organization() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("{line} --region=us-central1"));
    let policy = format!(
        "name: projects/{PROJECT}/policies/iam.allowedPolicyMemberDomains\nspec:\n  rules:\n  - values:\n      allowedValues: ['is:C0haar000']\n"
    );
    std::fs::write(haar.home().join("policy.yaml"), policy).expect("a file");
    haar.gcloud("org-policies set-policy policy.yaml").succeeds();
    let deploy = "run deploy tide --image=us-docker.pkg.dev/cloudrun/container/hello";
    let deployed = gcloud(&format!("{deploy} --allow-unauthenticated")).succeeds();
    assert!(deployed.stderr.contains("Setting IAM policy failed"), "{deployed:?}");
    let public = "run services add-iam-policy-binding tide --member=allUsers --role=roles/run.invoker";
    gcloud(public)
        .fails_saying(
            "ERROR: Policy modification failed. For a binding with condition, run \"gcloud alpha iam policies \
             lint-condition\" to identify issues in condition.",
        )
        .fails_saying(
            "ERROR: (gcloud.run.services.add-iam-policy-binding) FAILED_PRECONDITION: One or more users named in the \
             policy do not belong to a permitted customer, perhaps due to an organization policy.",
        );
    let url = haar.status()["services"][0]["url"].as_str().expect("a URL").to_owned();
    let host = url.trim_start_matches("http://");
    let is_open = || tests::fetch(&haar, host, "/").starts_with("HTTP/1.1 200");
    assert!(!is_open());
    gcloud("run services update tide --no-invoker-iam-check").succeeds();
    assert!(is_open(), "nobody is asked, and no policy says so");
    haar.gcloud(&format!("org-policies delete iam.allowedPolicyMemberDomains --project={PROJECT}"))
        .succeeds();
    gcloud(public).succeeds();
}
