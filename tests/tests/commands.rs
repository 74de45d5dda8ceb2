//! The lines that guides and pipelines have people type, as they stand there: what they set is what is read back, and
//! what Google refuses is refused.
//!
//! `gcloud`, `run`, `jobs`, `iam`, `orgpolicy` and `credentials` follow one product each; here is what is left of the
//! commands that people copy.

use serde_json::{Value, json};
use tests::{Haar, PROJECT, Ran, have, instances_run};

const HELLO: &str = "us-docker.pkg.dev/cloudrun/container/hello";

/// gcloud, with arguments that may have spaces.
fn gcloud(haar: &Haar, arguments: &[&str]) -> Ran {
    haar.exec(&[&["gcloud"], arguments].concat())
}

/// A service as its manifest has it.
fn described(haar: &Haar) -> Value {
    let line = "run services describe tide --region europe-west1 --format=json";
    serde_json::from_str(&haar.gcloud(line).succeeds().stdout).expect("JSON")
}

fn container(service: &Value) -> &Value {
    &service["spec"]["template"]["spec"]["containers"][0]
}

#[test]
fn flags_of_a_deploy_are_read_back() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    haar.gcloud("iam service-accounts create my-app-sa").succeeds();
    let account = format!("my-app-sa@{PROJECT}.iam.gserviceaccount.com");
    haar.gcloud(&format!(
        "run deploy tide --image {HELLO} --platform managed --region europe-west1 --memory 512Mi --cpu 1 --concurrency 80 \
         --port 8080 --allow-unauthenticated --max-instances 10 --service-account {account} \
         --set-env-vars LOG_LEVEL=INFO,CONNECTION_POOL_SIZE=10 --quiet"
    ))
    .succeeds();
    let made = described(&haar);
    let spec = &made["spec"]["template"]["spec"];
    assert_eq!([&spec["containerConcurrency"], &spec["timeoutSeconds"]], [80, 300]);
    assert_eq!(spec["serviceAccountName"], account.as_str());
    assert_eq!(container(&made)["resources"]["limits"], json!({ "cpu": "1", "memory": "512Mi" }));
    let variables =
        json!([{ "name": "LOG_LEVEL", "value": "INFO" }, { "name": "CONNECTION_POOL_SIZE", "value": "10" }]);
    assert_eq!(container(&made)["env"], variables);

    let update = |more: &str| haar.gcloud(&format!("run services update tide --region europe-west1 {more}"));
    haar.gcloud("secrets create key --replication-policy=automatic").succeeds();
    haar.exec(&["sh", "-c", "printf high | gcloud secrets versions add key --data-file=-"]).succeeds();
    let member = format!("--member=serviceAccount:{account} --role=roles/secretmanager.secretAccessor");
    haar.gcloud(&format!("secrets add-iam-policy-binding key {member}")).succeeds();
    update(
        "--memory=1Gi --cpu=1 --min-instances=0 --max-instances=20 --concurrency=100 --timeout=120 --no-cpu-throttling \
         --cpu-boost --execution-environment=gen2 --session-affinity --update-labels=sea=north \
         --update-env-vars=CONNECTION_POOL_SIZE=20 --remove-env-vars=LOG_LEVEL --update-secrets=/secrets/key=key:latest,KEY=key:1 \
         --startup-probe=httpGet.path=/,timeoutSeconds=3,periodSeconds=3,failureThreshold=10 \
         --liveness-probe=httpGet.path=/,timeoutSeconds=5,periodSeconds=15,failureThreshold=3",
    )
    .succeeds();
    let changed = described(&haar);
    let template = &changed["spec"]["template"];
    let annotation =
        |name: &str| template["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
    for (name, value) in [
        ("autoscaling.knative.dev/maxScale", "20"),
        ("run.googleapis.com/cpu-throttling", "false"),
        ("run.googleapis.com/startup-cpu-boost", "true"),
        ("run.googleapis.com/execution-environment", "gen2"),
        ("run.googleapis.com/sessionAffinity", "true"),
    ] {
        assert_eq!(annotation(name), value, "{name}");
    }
    assert_eq!(changed["metadata"]["labels"]["sea"], "north");
    assert_eq!([&template["spec"]["containerConcurrency"], &template["spec"]["timeoutSeconds"]], [100, 120]);
    let container = container(&changed);
    assert_eq!([&container["env"][0]["name"], &container["env"][0]["value"]], ["CONNECTION_POOL_SIZE", "20"]);
    assert_eq!(container["env"][1]["valueFrom"]["secretKeyRef"], json!({ "name": "key", "key": "1" }));
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/secrets");
    assert_eq!(
        [&container["startupProbe"]["failureThreshold"], &container["livenessProbe"]["periodSeconds"]],
        [10, 15]
    );
    what_is_refused(&haar, update);
    pipelines(&haar);
}

fn what_is_refused(haar: &Haar, update: impl Fn(&str) -> Ran) {
    update("--memory=5Gi --cpu=1")
        .fails_saying("For 1.0 CPU, memory must be between 128Mi and 4Gi inclusive.");
    update("--startup-probe=httpGet.path=/,timeoutSeconds=10,periodSeconds=3")
        .fails_saying("startup_probe.timeout_seconds: must be less than or equal to period_seconds");
    haar.gcloud("run services update tide --memory=1Gi").fails_saying("You must specify a region.");
    gcloud(haar, &["run", "revisions", "delete", "", "--region=europe-west1", "--quiet"])
        .fails_saying("Error parsing [revision].");
    haar.gcloud("logs read --service=tide --limit=50").fails_saying("Invalid choice: 'logs'.");
}

/// What a pipeline asks between a deploy without traffic and its promotion.
fn pipelines(haar: &Haar) {
    let line =
        format!("run deploy tide --image {HELLO} --cpu=2 --memory=1Gi --min-instances=1 --max-instances=100");
    let region = "--region=europe-west1";
    haar.gcloud(&format!("{line} --no-traffic {region}")).succeeds();
    let latest =
        format!("run services describe tide {region} --format value(status.latestReadyRevisionName)");
    let latest = haar.gcloud(&latest).succeeds().stdout;
    assert!(latest.starts_with("tide-00003-") && latest.lines().count() == 1, "{latest}");
    let traffic = described(haar)["status"]["traffic"][0]["revisionName"].clone();
    assert!(traffic.as_str().expect("a revision").starts_with("tide-00002-"), "{traffic}");
    haar.gcloud(&format!("run services update-traffic tide {region} --to-latest")).succeeds();
    let logs = haar.gcloud(&format!("run services logs read tide {region} --limit=50")).succeeds().stdout;
    assert!(logs.contains("listening on port 8080"), "{logs}");

    let invoker = "--member=user:ada@example.com --role=roles/run.invoker";
    haar.gcloud(&format!("run services add-iam-policy-binding tide {region} {invoker}")).succeeds();
    let policy = || haar.gcloud(&format!("run services get-iam-policy tide {region}")).succeeds().stdout;
    assert!(policy().contains("user:ada@example.com"));
    haar.gcloud(&format!("run services remove-iam-policy-binding tide {region} {invoker}")).succeeds();
    haar.gcloud(&format!("run services update tide {region} --no-invoker-iam-check")).succeeds();
    assert_eq!(described(haar)["metadata"]["annotations"]["run.googleapis.com/invoker-iam-disabled"], "true");
    assert!(!policy().contains("user:ada@example.com"));
}

#[test]
fn accounts_roles_and_services_by_their_commands() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    let read = |line: &str| haar.gcloud(line).succeeds().stdout.trim().to_owned();
    let account = format!("my-app-sa@{PROJECT}.iam.gserviceaccount.com");
    gcloud(
        &haar,
        &["iam", "service-accounts", "create", "my-app-sa", "--display-name=My App Service Account"],
    )
    .succeeds();
    // Each project has one of Compute Engine's as well.
    let list = || read("iam service-accounts list --filter=email~^my- --format=value(email,displayName)");
    assert_eq!(list(), format!("{account}\tMy App Service Account"));
    gcloud(&haar, &["iam", "service-accounts", "update", &account, "--description=of the app"]).succeeds();
    assert_eq!(
        read(&format!("iam service-accounts describe {account} --format=value(description)")),
        "of the app"
    );
    haar.gcloud(&format!("iam service-accounts disable {account}")).succeeds();
    assert_eq!(read(&format!("iam service-accounts describe {account} --format=value(disabled)")), "True");
    haar.gcloud(&format!("iam service-accounts enable {account}")).succeeds();

    let member = format!("--member=serviceAccount:{account}");
    for role in [
        "roles/cloudsql.client",
        "roles/secretmanager.secretAccessor",
        "roles/iam.serviceAccountTokenCreator",
    ] {
        let bind = ["projects", "add-iam-policy-binding", PROJECT, &member, "--condition=None"];
        gcloud(&haar, &[&bind[..], &[&format!("--role={role}")]].concat()).succeeds();
    }
    let unbind = ["projects", "remove-iam-policy-binding", PROJECT, &member, "--role=roles/cloudsql.client"];
    gcloud(&haar, &unbind).succeeds();
    let roles = format!(
        "projects get-iam-policy {PROJECT} --flatten=bindings[].members --format=table(bindings.role) --filter=bindings.members:{account}"
    );
    assert_eq!(
        read(&roles).lines().collect::<Vec<_>>(),
        ["ROLE", "roles/iam.serviceAccountTokenCreator", "roles/secretmanager.secretAccessor"]
    );

    let lint = |expression: &str| {
        let expression = format!("--expression={expression}");
        gcloud(&haar, &["alpha", "iam", "policies", "lint-condition", &expression, "--title=t"])
            .succeeds()
            .stdout
    };
    assert!(lint("request.time <").contains("severity: ERROR"));
    assert_eq!(lint("request.time < timestamp('2030-01-01T00:00:00Z')").trim(), "{}");

    haar.gcloud("services disable run.googleapis.com --force").succeeds();
    haar.gcloud("run services list").fails_saying("SERVICE_DISABLED");
    haar.gcloud("services enable run.googleapis.com").succeeds();
    haar.gcloud("run services list").succeeds();
    assert!(read("projects list --format=value(projectId)").contains(PROJECT));
    assert!(read(&format!("projects get-ancestors {PROJECT} --format=value(type)")).starts_with("project"));
    haar.gcloud("auth configure-docker us-central1-docker.pkg.dev --quiet").succeeds();
    let docker = std::fs::read(haar.home().join(".docker/config.json")).expect("Docker's settings");
    let docker: Value = serde_json::from_slice(&docker).expect("JSON");
    assert_eq!(docker["credHelpers"]["us-central1-docker.pkg.dev"], "gcloud");

    haar.gcloud(&format!("iam service-accounts delete {account} --quiet")).succeeds();
    assert_eq!(list(), "");
}

#[test]
fn who_deploys_needs_a_right_to_the_account_that_it_runs_as() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let account = |name: &str| {
        haar.gcloud(&format!("iam service-accounts create {name}")).succeeds();
        format!("{name}@{PROJECT}.iam.gserviceaccount.com")
    };
    let (deployer, app) = (account("deployer"), account("app-account"));
    let member = format!("--member=serviceAccount:{deployer}");
    let developer = ["--role=roles/run.developer", "--condition=None"];
    gcloud(&haar, &[&["projects", "add-iam-policy-binding", PROJECT, &member][..], &developer].concat())
        .succeeds();
    let deploy = || {
        let line = [
            "gcloud",
            "run",
            "deploy",
            "tide",
            "--image",
            HELLO,
            "--region=us-central1",
            "--allow-unauthenticated",
        ];
        haar.exec_as(&deployer, &[&line[..], &["--service-account", &app]].concat())
    };
    deploy().fails_saying("Permission 'iam.serviceaccounts.actAs' denied on service account");
    let user = [
        "iam",
        "service-accounts",
        "add-iam-policy-binding",
        &app,
        &member,
        "--role=roles/iam.serviceAccountUser",
    ];
    gcloud(&haar, &user).succeeds();
    // The role may deploy, and may not make public what it has deployed.
    assert!(deploy().succeeds().stderr.contains("Setting IAM policy failed"));
    assert_eq!(haar.status()["services"][0]["name"], "tide");
}
