//! Jobs: containers that run to their end, with gcloud and with Python's library.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Haar, PROJECT, client_program, have, instances_run, kill_and_await, python, skipped};

const JOB: &str = "us-docker.pkg.dev/cloudrun/container/job";
const REGION: &str = "us-central1";

#[test]
fn gcloud_takes_a_job_through_its_life() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("{line} --region {REGION}"));
    gcloud(&format!("run jobs create tide --image {JOB} --tasks 2 --max-retries 1 --set-env-vars A=1"))
        .succeeds();
    gcloud(&format!("run jobs create tide --image {JOB}")).fails_saying("already exists");
    let ran = gcloud("run jobs execute tide --wait").succeeds();
    assert!(ran.stderr.contains("has successfully completed"), "{ran:?}");
    gcloud(&format!("run jobs deploy tide --image {JOB} --tasks 3 --parallelism 1 --task-timeout 90s"))
        .succeeds();
    gcloud("run jobs update tide --update-env-vars B=2").succeeds();
    let described = gcloud(
        "run jobs describe tide --format=value(spec.template.spec.taskCount,spec.template.spec.template.spec.timeoutSeconds)",
    );
    assert_eq!(described.succeeds().stdout.split_whitespace().collect::<Vec<_>>(), ["3", "90"]);
    gcloud("run jobs describe tide").succeeds();
    let ran = gcloud("run jobs execute tide --wait --tasks 1 --update-env-vars SLEEP_MS=10").succeeds();
    assert!(ran.stderr.contains("has successfully completed"), "{ran:?}");

    for line in ["run jobs list".to_owned(), format!("run jobs list --region {REGION}")] {
        assert!(haar.gcloud(&line).succeeds().stdout.contains("tide"), "{line}");
    }
    let executions =
        gcloud("run jobs executions list --job tide --format=value(metadata.name)").succeeds().stdout;
    let executions: Vec<&str> = executions.split_whitespace().collect();
    assert_eq!(executions.len(), 2);
    let described = gcloud(&format!("run jobs executions describe {}", executions[1])).succeeds();
    assert!(described.stdout.contains("2 tasks completed successfully"), "{described:?}");
    let tasks = gcloud(&format!("run jobs executions tasks list --execution {} --succeeded", executions[1]));
    assert_eq!(tasks.succeeds().stdout.lines().filter(|line| line.contains("-task")).count(), 2);
    gcloud(&format!("run jobs executions delete {} --quiet", executions[0])).succeeds();
    gcloud(&format!("run jobs executions describe {}", executions[0])).fails_saying("find");

    gcloud("run jobs delete tide --quiet").succeeds();
    gcloud("run jobs describe tide").fails_saying("find");
}

#[test]
fn gcloud_sees_a_job_fail_and_cancels_another() {
    if !have("gcloud") {
        return;
    }
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("{line} --region {REGION}"));
    gcloud(&format!("run jobs create tide --image {JOB} --max-retries 0 --set-env-vars FAIL_RATE=1"))
        .succeeds();
    gcloud("run jobs execute tide --wait").fails_saying("The execution failed.");
    let why = gcloud("run jobs executions list --job tide --format=value(status.conditions[0].message)");
    let told = "failed with exit code: 1 and message: The container exited with an error.";
    assert!(why.succeeds().stdout.contains(told));
    let logged = haar.cli(&["logs", "tide"]).succeeds().stdout;
    assert!(logged.contains("Task #0, Attempt #0 failed."), "{logged}");
    let read = haar
        .gcloud("logging read resource.type=cloud_run_job --format=json --freshness=1d")
        .succeeds()
        .stdout;
    let entries: Vec<Value> = serde_json::from_str(&read).expect("entries");
    let entry =
        entries.iter().find(|entry| entry["textPayload"] == "Task #0, Attempt #0 failed.").expect("its line");
    assert_eq!(entry["resource"]["labels"]["job_name"], "tide");
    assert_eq!(entry["labels"]["run.googleapis.com/task_index"], "0");

    gcloud(&format!("run jobs create slow --image {JOB} --set-env-vars SLEEP_MS=600000")).succeeds();
    let begun = gcloud("run jobs execute slow --async --format=value(metadata.name)").succeeds().stdout;
    gcloud(&format!("run jobs executions cancel {} --quiet", begun.trim())).succeeds();
    let condition =
        gcloud(&format!("run jobs executions describe {} --format=json", begun.trim())).succeeds().stdout;
    let execution: Value = serde_json::from_str(&condition).expect("an execution");
    let conditions = execution["status"]["conditions"].as_array().expect("conditions");
    let completed =
        conditions.iter().find(|condition| condition["type"] == "Completed").expect("the condition");
    assert_eq!((&completed["reason"], &completed["status"]), (&json!("Cancelled"), &json!("False")));
    gcloud(&format!("run jobs create wrong --image {JOB}-of-nobody")).fails_saying("not found");
}

/// A job with the flags that other stories do not take, as gcloud exports it.
fn a_job_with_many_flags(haar: &Haar) -> String {
    let gcloud = |line: &str| haar.gcloud(&format!("{line} --region {REGION}"));
    gcloud(&format!(
        "run jobs create tide --image {JOB} --execute-now --wait --labels=sea=north --cpu=2 --memory=1Gi --args=x,y \
         --command=/haar --set-cloudsql-instances={PROJECT}:{REGION}:shore --binary-authorization=default \
         --add-volume=name=charts,type=in-memory,size-limit=10Mi --add-volume-mount=volume=charts,mount-path=/charts"
    ))
    .fails_saying("The execution failed.");
    gcloud("run jobs update tide --command= --args= --parallelism=1 --clear-binary-authorization").succeeds();
    let exported = gcloud("run jobs describe tide --format=export").succeeds().stdout;
    for line in [
        "sea: north",
        "cpu: '2'",
        "memory: 1Gi",
        "parallelism: 1",
        "mountPath: /charts",
        "sizeLimit: 10Mi",
        "run.googleapis.com/cloudsql-instances: fog-bank:us-central1:shore",
    ] {
        assert!(exported.contains(line), "{line} is not in {exported}");
    }
    assert!(!exported.contains("command:") && !exported.contains("binary-authorization"), "{exported}");
    exported
}

#[test]
fn gcloud_replaces_a_job_and_shares_it() {
    let haar = Haar::start();
    if !have("gcloud") || !instances_run(&haar) {
        return;
    }
    let gcloud = |line: &str| haar.gcloud(&format!("{line} --region {REGION} --quiet"));
    let exported = a_job_with_many_flags(&haar);
    let file = haar.home().join("job.yaml");
    std::fs::write(&file, exported.replace("memory: 1Gi", "memory: 2Gi")).expect("a file");
    gcloud("run jobs replace job.yaml").succeeds();
    let now = gcloud("run jobs describe tide --format=export").succeeds().stdout;
    assert!(now.contains("memory: 2Gi") && now.contains("mountPath: /charts"), "{now}");

    let execution = gcloud("run jobs execute tide --wait --format=value(metadata.name)")
        .succeeds()
        .stdout
        .trim()
        .to_owned();
    let task = gcloud(&format!("run jobs executions tasks describe {execution}-task0")).succeeds().stdout;
    assert!(task.contains("SQL connections: fog-bank:us-central1:shore"), "{task}");
    for logs in ["jobs logs read tide".to_owned(), format!("jobs executions logs read {execution}")] {
        let read = gcloud(&format!("beta run {logs} --limit=20")).succeeds().stdout;
        assert!(read.contains("Completed Task #0, Attempt #0."), "{logs}: {read}");
    }

    let ada = "--member=user:ada@example.com --role=roles/run.invoker";
    gcloud(&format!("run jobs add-iam-policy-binding tide {ada}")).succeeds();
    let policy = gcloud("run jobs get-iam-policy tide --format=json").succeeds().stdout;
    std::fs::write(haar.home().join("policy.json"), policy.replace("ada@", "bob@")).expect("a file");
    gcloud("run jobs set-iam-policy tide policy.json").succeeds();
    gcloud(&format!("run jobs remove-iam-policy-binding tide {ada}")).fails_saying("not found");
    gcloud(&format!("run jobs remove-iam-policy-binding tide {}", ada.replace("ada@", "bob@"))).succeeds();

    for (line, said) in [
        ("run jobs update tide --network=default", "remove run.googleapis.com/network-interfaces"),
        ("beta run jobs update tide --gpu=1 --gpu-type=nvidia-l4", "GPUs are not served here"),
        ("run jobs replace absent.yaml", "absent.yaml"),
    ] {
        gcloud(line).fails_saying(said);
    }
}

#[test]
fn python_runs_jobs_over_grpc_and_rest() {
    let Some(python) = python() else { return skipped("Python's google-cloud-run") };
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    for transport in ["grpc", "rest"] {
        let program = client_program("python/jobs.py");
        let ran = haar.exec(&[&python.to_string_lossy(), &program, transport]).succeeds();
        assert_eq!(ran.stdout.lines().last(), Some("all as on Google"), "{transport}: {ran:?}");
    }
}

#[test]
fn a_killed_haar_goes_on_with_its_executions() {
    let haar = Haar::start();
    if !instances_run(&haar) {
        return;
    }
    let jobs = format!("run.googleapis.com/v2/projects/{PROJECT}/locations/{REGION}/jobs");
    let job = |retries: i32| {
        let env = json!([{ "name": "SLEEP_MS", "value": "700" }]);
        let task = json!({ "containers": [{ "image": JOB, "env": env }], "maxRetries": retries });
        json!({ "template": { "template": task } })
    };
    for (name, retries) in [("again", 1), ("never", 0)] {
        haar.api("POST", &format!("{jobs}?jobId={name}"), Some(&job(retries)));
    }
    let names = ["again", "never"].map(|name| {
        let operation = haar.api("POST", &format!("{jobs}/{name}:run"), Some(&json!({})));
        let execution = operation["metadata"]["name"].as_str().expect("a name").to_owned();
        (operation["name"].as_str().expect("a name").to_owned(), execution)
    });
    for (_, execution) in &names {
        await_that(&haar, execution, |execution| execution["runningCount"] == 1);
    }
    kill_and_await(&haar);
    await_that(&haar, &names[0].1, |execution| execution["succeededCount"] == 1);
    let failed = await_that(&haar, &names[1].1, |execution| execution["failedCount"] == 1);
    assert!(failed.to_string().contains("interrupted by a restart"), "{failed:#}");
    let operation = await_that(&haar, &names[1].0, |operation| operation["done"] == true);
    assert_eq!(operation["error"]["code"], 14, "{operation:#}");
}

/// Reads a resource until it is as it should be.
fn await_that(haar: &Haar, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let read = haar.api("GET", &format!("run.googleapis.com/v2/{name}"), None);
        if holds(&read) {
            return read;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{read:#}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
