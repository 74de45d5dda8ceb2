//! Jobs as client libraries run them.

use std::{sync::Arc, time::Duration};

use apis::google::{
    cloud::run::v2::{
        self, executions, jobs, run_job_request::Overrides, run_job_request::overrides::ContainerOverride,
        task_template::Retries, tasks,
    },
    longrunning::{Operation, operation},
};
use kernel::{Code, Result};
use prost::Message;

use crate::{v2::PARENT, world::World};

/// A job of one task that is not tried again, whose container runs in this mode of the app.
pub(crate) fn job(mode: &str) -> v2::Job {
    many(mode, 1, 0)
}

/// A job of so many tasks, each tried again so often.
pub(crate) fn many(mode: &str, task_count: i32, retries: i32) -> v2::Job {
    v2::Job {
        template: Some(v2::ExecutionTemplate {
            task_count,
            template: Some(v2::TaskTemplate {
                containers: vec![v2::Container { image: format!("demo/{mode}:v1"), ..Default::default() }],
                retries: Some(Retries::MaxRetries(retries)),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Creates a job and waits until it can be run.
pub(crate) async fn create(world: &World, name: &str, job: v2::Job) -> Result<v2::Job, (i32, String)> {
    let request = v2::CreateJobRequest {
        parent: PARENT.into(),
        job_id: name.into(),
        job: Some(job),
        ..Default::default()
    };
    let operation = world.call(jobs::CREATE_JOB, request).await.unwrap();
    end(world, &operation).await
}

/// Runs a job: the operation, and the name of the execution.
pub(crate) async fn begin(world: &World, job: &str, overrides: Option<Overrides>) -> (Operation, String) {
    let request = v2::RunJobRequest { name: format!("{PARENT}/jobs/{job}"), overrides, ..Default::default() };
    let operation = world.call(jobs::RUN_JOB, request).await.unwrap();
    let metadata = operation.metadata.clone().unwrap();
    let name = v2::Execution::decode(metadata.value.as_slice()).unwrap().name;
    (operation, name)
}

/// What an operation ends with, or the code and message of its failure.
pub(crate) async fn end<T: Message + Default>(
    world: &World,
    operation: &Operation,
) -> Result<T, (i32, String)> {
    let ended = world.engine().operations.wait(&operation.name, Duration::from_secs(40)).await.unwrap();
    match ended.result {
        Some(operation::Result::Response(any)) => Ok(T::decode(any.value.as_slice()).unwrap()),
        Some(operation::Result::Error(status)) => Err((status.code, status.message)),
        None => panic!("{} has not ended", operation.name),
    }
}

pub(crate) async fn read(world: &World, execution: &str) -> v2::Execution {
    world.call(executions::GET_EXECUTION, v2::GetExecutionRequest { name: execution.into() }).await.unwrap()
}

pub(crate) async fn tasks_of(world: &World, execution: &str) -> Vec<v2::Task> {
    let request = v2::ListTasksRequest { parent: execution.into(), ..Default::default() };
    world.call(tasks::LIST_TASKS, request).await.unwrap().tasks
}

fn condition<'a>(execution: &'a v2::Execution, kind: &str) -> &'a v2::Condition {
    execution.conditions.iter().find(|condition| condition.r#type == kind).unwrap()
}

/// Waits until a task of an execution runs, which must not have ended before.
async fn await_running(world: &World, execution: &str) {
    loop {
        let read = read(world, execution).await;
        if read.running_count > 0 {
            return;
        }
        assert!(read.completion_time.is_none(), "{:?}", read.conditions);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the instances of an execution wrote.
fn said(world: &World, execution: &str) -> Vec<String> {
    let id = execution.rsplit('/').next().unwrap();
    let all = world.log.0.lock().unwrap();
    all.iter().filter(|(of, ..)| **of == *id).map(|(_, _, line)| line.clone()).collect()
}

pub(crate) async fn a_job_runs_to_its_end(world: Arc<World>) {
    let made = create(&world, "tide", job("tell")).await.unwrap();
    assert!(!made.reconciling && made.latest_created_execution.is_none());
    let task = made.template.clone().unwrap().template.unwrap();
    assert_eq!((task.timeout.unwrap().seconds, made.execution_count), (600, 0));
    let (operation, name) = begin(&world, "tide", None).await;
    assert!(!operation.done);
    let execution: v2::Execution = end(&world, &operation).await.unwrap();
    let short = execution.name.rsplit('/').next().unwrap();
    assert!(execution.name == name && short.starts_with("tide-") && short.len() == 10, "{short}");
    assert_eq!((execution.succeeded_count, execution.running_count, execution.failed_count), (1, 0, 0));
    let completed = condition(&execution, "Completed");
    assert_eq!(completed.state, v2::condition::State::ConditionSucceeded as i32);
    assert!(completed.message.starts_with("Execution completed successfully in "), "{}", completed.message);
    let started = condition(&execution, "Started");
    assert!(started.message.starts_with("Started deployed execution in "), "{}", started.message);
    assert_eq!(said(&world, &name), [format!("tide {short} 0 of 1, attempt 0, PORT unset")]);
    let tasks = tasks_of(&world, &name).await;
    assert_eq!(tasks[0].name, format!("{name}/tasks/{short}-task0"));
    assert!(tasks[0].completion_time.is_some());
    let get = v2::GetTaskRequest { name: tasks[0].name.clone() };
    assert_eq!(world.call(tasks::GET_TASK, get).await.unwrap(), tasks[0]);
    let job: v2::Job =
        world.call(jobs::GET_JOB, v2::GetJobRequest { name: format!("{PARENT}/jobs/tide") }).await.unwrap();
    let latest = job.latest_created_execution.unwrap();
    assert_eq!((job.execution_count, latest.name.as_str()), (1, short));
    assert_eq!(
        latest.completion_status,
        v2::execution_reference::CompletionStatus::ExecutionSucceeded as i32
    );
}

pub(crate) async fn a_task_that_fails_is_tried_again(world: Arc<World>) {
    create(&world, "tide", many("exit", 1, 2)).await.unwrap();
    let (operation, name) = begin(&world, "tide", None).await;
    let (code, message) = end::<v2::Execution>(&world, &operation).await.unwrap_err();
    let short = name.rsplit('/').next().unwrap();
    let told = format!(
        "Task {short}-task0 failed with exit code: 3 and message: The container exited with an error."
    );
    assert_eq!((code, message), (Code::Aborted as i32, told.clone()));
    let execution = read(&world, &name).await;
    assert_eq!((execution.failed_count, execution.retried_count, execution.running_count), (1, 2, 0));
    let completed = condition(&execution, "Completed");
    assert_eq!(completed.message, told);
    let reason = v2::condition::ExecutionReason::NonZeroExitCode as i32;
    assert_eq!(completed.reasons, Some(v2::condition::Reasons::ExecutionReason(reason)));
    let task = &tasks_of(&world, &name).await[0];
    let last = task.last_attempt_result.clone().unwrap();
    assert_eq!((task.retried, last.exit_code), (2, 3));
    assert_eq!(last.status.unwrap().message, "The container exited with an error.");
    let ends = said(&world, &name).iter().filter(|line| *line == "Container called exit(3).").count();
    assert_eq!(ends, 3);
    // The third attempt of this one succeeds.
    create(&world, "wave", many("stubborn", 1, 3)).await.unwrap();
    let (operation, _) = begin(&world, "wave", None).await;
    let execution: v2::Execution = end(&world, &operation).await.unwrap();
    assert_eq!((execution.succeeded_count, execution.retried_count), (1, 2));
}

pub(crate) async fn tasks_run_side_by_side_as_far_as_they_may(world: Arc<World>) {
    let mut five = many("nap", 5, 0);
    five.template.as_mut().unwrap().parallelism = 2;
    create(&world, "tide", five).await.unwrap();
    let (operation, name) = begin(&world, "tide", None).await;
    let watched = world.clone();
    let watching = {
        let name = name.clone();
        tokio::spawn(async move {
            let mut most = 0;
            loop {
                let execution = read(&watched, &name).await;
                most = most.max(execution.running_count);
                if execution.completion_time.is_some() {
                    return most;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let execution: v2::Execution = end(&world, &operation).await.unwrap();
    assert_eq!((execution.succeeded_count, execution.parallelism, watching.await.unwrap()), (5, 2, 2));
    let mut seen: Vec<String> =
        said(&world, &name).into_iter().filter(|line| line.starts_with("nap")).collect();
    seen.sort();
    assert_eq!(seen, ["nap 0 of 5", "nap 1 of 5", "nap 2 of 5", "nap 3 of 5", "nap 4 of 5"]);
    let request = v2::ListTasksRequest { parent: name.clone(), page_size: 3, ..Default::default() };
    let page = world.call(tasks::LIST_TASKS, request.clone()).await.unwrap();
    assert_eq!(page.tasks.iter().map(|task| task.index).collect::<Vec<_>>(), [0, 1, 2]);
    let request = v2::ListTasksRequest { page_token: page.next_page_token, ..request };
    let rest = world.call(tasks::LIST_TASKS, request).await.unwrap();
    assert_eq!(rest.tasks.iter().map(|task| task.index).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(rest.next_page_token, "");
}

pub(crate) async fn a_task_has_its_time(world: Arc<World>) {
    create(&world, "tide", job("deaf")).await.unwrap();
    let timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let (operation, name) = begin(&world, "tide", Some(Overrides { timeout, ..Default::default() })).await;
    let (code, message) = end::<v2::Execution>(&world, &operation).await.unwrap_err();
    assert_eq!(code, Code::DeadlineExceeded as i32);
    assert!(message.ends_with("and message: The configured timeout was reached."), "{message}");
    let told = "Terminating task because it has reached the maximum timeout of 1 seconds.";
    assert!(said(&world, &name).iter().any(|line| line == told));
}

pub(crate) async fn a_run_can_be_different(world: Arc<World>) {
    create(&world, "tide", job("exit")).await.unwrap();
    let change = ContainerOverride {
        args: vec!["tell".into()],
        env: vec![v2::EnvVar {
            name: "GREETING".into(),
            values: Some(v2::env_var::Values::Value("ahoy".into())),
        }],
        ..Default::default()
    };
    let overrides = Overrides { container_overrides: vec![change], task_count: 2, ..Default::default() };
    let (operation, name) = begin(&world, "tide", Some(overrides.clone())).await;
    let execution: v2::Execution = end(&world, &operation).await.unwrap();
    assert_eq!((execution.task_count, execution.succeeded_count), (2, 2));
    let lines = said(&world, &name);
    assert!(lines.iter().all(|line| line.starts_with("ahoy ")), "{lines:?}");
    world.others.denied.lock().unwrap().insert("run.jobs.runWithOverrides");
    let request = v2::RunJobRequest {
        name: format!("{PARENT}/jobs/tide"),
        overrides: Some(overrides),
        ..Default::default()
    };
    let refused = world.call(jobs::RUN_JOB, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

pub(crate) async fn an_execution_can_be_cancelled(world: Arc<World>) {
    let mut three = many("deaf", 3, 3);
    three.template.as_mut().unwrap().parallelism = 1;
    create(&world, "tide", three).await.unwrap();
    let (operation, name) = begin(&world, "tide", None).await;
    await_running(&world, &name).await;
    let request = v2::CancelExecutionRequest { name: name.clone(), ..Default::default() };
    let cancelling = world.call(executions::CANCEL_EXECUTION, request.clone()).await.unwrap();
    let execution: v2::Execution = end(&world, &cancelling).await.unwrap();
    let completed = condition(&execution, "Completed");
    let failed = v2::condition::State::ConditionFailed as i32;
    assert_eq!((completed.state, completed.message.as_str()), (failed, "Cancelled by user."));
    assert_eq!((execution.cancelled_count, execution.running_count, execution.retried_count), (1, 0, 0));
    assert!(end::<v2::Execution>(&world, &operation).await.is_ok(), "a run that was cancelled is no failure");
    let tasks = tasks_of(&world, &name).await;
    assert!(tasks.iter().all(|task| !task.reconciling) && tasks[1].start_time.is_none());
    let late = world.call(executions::CANCEL_EXECUTION, request).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
}

pub(crate) async fn what_is_not_there_is_said(world: Arc<World>) {
    let (code, message) = create(&world, "tide", job("nowhere")).await.unwrap_err();
    assert_eq!(code, Code::NotFound as i32);
    assert!(message.contains("Image 'demo/nowhere:v1' not found"), "{message}");
    let (operation, name) = begin(&world, "tide", None).await;
    let (code, _) = end::<v2::Execution>(&world, &operation).await.unwrap_err();
    assert_eq!(code, Code::NotFound as i32);
    let reason = v2::condition::CommonReason::ContainerMissing as i32;
    let execution = read(&world, &name).await;
    for kind in ["ContainerReady", "Started", "Completed"] {
        assert_eq!(condition(&execution, kind).reasons, Some(v2::condition::Reasons::Reason(reason)));
    }
    let request = v2::RunJobRequest { name: format!("{PARENT}/jobs/wave"), ..Default::default() };
    let missing = world.call(jobs::RUN_JOB, request).await.unwrap_err();
    let told = "Resource 'wave' of kind 'JOB' in region 'us-central1' in project 'demo' does not exist.";
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, told));
}

pub(crate) async fn a_job_goes_with_all_it_has(world: Arc<World>) {
    create(&world, "tide", job("deaf")).await.unwrap();
    let (_, first) = begin(&world, "tide", None).await;
    let delete = v2::DeleteJobRequest { name: format!("{PARENT}/jobs/tide"), ..Default::default() };
    let deleted = world.call(jobs::DELETE_JOB, delete).await.unwrap();
    let gone: v2::Job = end(&world, &deleted).await.unwrap();
    assert!(gone.delete_time.is_some());
    let get = v2::GetExecutionRequest { name: first };
    let missing = world.call(executions::GET_EXECUTION, get).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    // A new one of this name has nothing to do with it.
    create(&world, "tide", job("tell")).await.unwrap();
    let (operation, second) = begin(&world, "tide", None).await;
    end::<v2::Execution>(&world, &operation).await.unwrap();
    let list = v2::ListExecutionsRequest { parent: format!("{PARENT}/jobs/tide"), ..Default::default() };
    let all = world.call(executions::LIST_EXECUTIONS, list.clone()).await.unwrap().executions;
    assert_eq!(all.iter().map(|execution| &execution.name).collect::<Vec<_>>(), [&second]);
    let delete = v2::DeleteExecutionRequest { name: second, ..Default::default() };
    world.call(executions::DELETE_EXECUTION, delete).await.unwrap();
    assert!(world.call(executions::LIST_EXECUTIONS, list).await.unwrap().executions.is_empty());
}

pub(crate) async fn a_restart_interrupts_an_attempt_and_no_more(world: Arc<World>) {
    create(&world, "tide", many("once", 1, 1)).await.unwrap();
    create(&world, "wave", many("deaf", 1, 0)).await.unwrap();
    let (tide, tide_name) = begin(&world, "tide", None).await;
    let (wave, wave_name) = begin(&world, "wave", None).await;
    for name in [&tide_name, &wave_name] {
        await_running(&world, name).await;
    }
    world.restart().await;
    let execution: v2::Execution = end(&world, &tide).await.unwrap();
    assert_eq!((execution.succeeded_count, execution.retried_count), (1, 1));
    let (code, message) = end::<v2::Execution>(&world, &wave).await.unwrap_err();
    assert_eq!(code, Code::Unavailable as i32);
    assert!(message.ends_with("The attempt was interrupted by a restart of the server."), "{message}");
}

/// The region's own host is what the world calls by.
pub(crate) async fn gcloud_speaks_of_jobs_in_another_form(world: Arc<World>) {
    use apis::google::discovery::run::v1::{
        self as knative, namespaces_executions, namespaces_jobs, namespaces_tasks,
    };
    let container = knative::Container { image: Some("demo/tell:v1".into()), ..Default::default() };
    let spec = knative::TaskSpec { containers: vec![container], max_retries: Some(0), ..Default::default() };
    let execution = knative::ExecutionSpec {
        task_count: Some(2),
        template: Some(knative::TaskTemplateSpec { spec: Some(spec) }),
        ..Default::default()
    };
    let template = knative::ExecutionTemplateSpec {
        metadata: Some(knative::ObjectMeta {
            annotations: [("run.googleapis.com/client-name".to_owned(), "gcloud".to_owned())].into(),
            ..Default::default()
        }),
        spec: Some(execution),
    };
    let job = knative::Job {
        metadata: Some(knative::ObjectMeta { name: Some("tide".into()), ..Default::default() }),
        spec: Some(knative::JobSpec { template: Some(template), ..Default::default() }),
        ..Default::default()
    };
    let create = knative::NamespacesJobsCreateRequest {
        parent: "namespaces/demo".into(),
        body: Some(job),
        ..Default::default()
    };
    let made = world.call(namespaces_jobs::CREATE, create).await.unwrap();
    // Read and written back, it is the same; with an old version it is refused.
    let name = "namespaces/demo/jobs/tide".to_owned();
    let replace = knative::NamespacesJobsReplaceJobRequest {
        name: name.clone(),
        body: Some(made),
        ..Default::default()
    };
    let get = knative::NamespacesJobsGetRequest { name: name.clone() };
    let settled = loop {
        let read = world.call(namespaces_jobs::GET, get.clone()).await.unwrap();
        let status = read.status.clone().unwrap();
        if status.conditions[0].status.as_deref() == Some("True") {
            break read;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // That it is ready now is no change of what was asked for.
    let replaced = world.call(namespaces_jobs::REPLACE_JOB, replace.clone()).await.unwrap();
    assert_eq!(replaced.spec, settled.spec);
    let stale = world.call(namespaces_jobs::REPLACE_JOB, replace).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    assert_eq!(replaced.metadata.unwrap().generation, Some(2));

    let run = knative::NamespacesJobsRunRequest { name, body: None };
    let begun = world.call(namespaces_jobs::RUN, run).await.unwrap();
    let id = begun.metadata.unwrap().name.unwrap();
    let get = knative::NamespacesExecutionsGetRequest { name: format!("namespaces/demo/executions/{id}") };
    let ended = loop {
        let status = world.call(namespaces_executions::GET, get.clone()).await.unwrap().status.unwrap();
        if status.completion_time.is_some() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(ended.succeeded_count, Some(2));
    let kinds: Vec<_> = ended.conditions.iter().map(|condition| condition.r#type.clone().unwrap()).collect();
    assert_eq!(kinds, ["Completed", "ResourcesAvailable", "Started", "ContainerReady"]);
    let selector =
        format!("run.googleapis.com/execution = {id},run.googleapis.com/runningState in (Succeeded)");
    let list = knative::NamespacesTasksListRequest {
        parent: "namespaces/demo".into(),
        label_selector: Some(selector),
        ..Default::default()
    };
    assert_eq!(world.call(namespaces_tasks::LIST, list).await.unwrap().items.len(), 2);
    let get = knative::NamespacesTasksGetRequest { name: format!("namespaces/demo/tasks/{id}-task1") };
    assert_eq!(world.call(namespaces_tasks::GET, get).await.unwrap().status.unwrap().index, Some(1));
    let list = knative::NamespacesExecutionsListRequest {
        parent: "namespaces/demo".into(),
        label_selector: Some("run.googleapis.com/job = other".into()),
        ..Default::default()
    };
    assert!(world.call(namespaces_executions::LIST, list).await.unwrap().items.is_empty());
}

pub(crate) async fn a_change_can_ask_for_an_execution(world: Arc<World>) {
    use v2::job::CreateExecution;
    let asked = |mode: &str, token: &str| {
        let token = CreateExecution::RunExecutionToken(token.into());
        v2::Job { create_execution: Some(token), ..job(mode) }
    };
    let made = create(&world, "tide", asked("tell", "first")).await.unwrap();
    let latest = made.latest_created_execution.clone().unwrap();
    assert_eq!((latest.name.as_str(), made.execution_count), ("tide-first", 1));
    // The same token asks for nothing more.
    let update = v2::UpdateJobRequest { job: Some(made.clone()), ..Default::default() };
    let operation = world.call(jobs::UPDATE_JOB, update).await.unwrap();
    assert_eq!(end::<v2::Job>(&world, &operation).await.unwrap().execution_count, 1);
    let failing = v2::Job { name: made.name.clone(), ..asked("exit", "second") };
    let update = v2::UpdateJobRequest { job: Some(failing), ..Default::default() };
    let operation = world.call(jobs::UPDATE_JOB, update).await.unwrap();
    let (_, message) = end::<v2::Job>(&world, &operation).await.unwrap_err();
    assert!(message.starts_with("Task tide-second-task0 failed with exit code: 3"), "{message}");
    let long = create(&world, "wave", asked("tell", "first")).await.unwrap();
    assert!(long.create_execution.is_some());
    let request = v2::CreateJobRequest {
        parent: PARENT.into(),
        job_id: "surf".into(),
        job: Some(asked("tell", &"x".repeat(60))),
        ..Default::default()
    };
    let refused = world.call(jobs::CREATE_JOB, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub(crate) async fn a_job_that_was_never_run_keeps_the_image_that_it_names(world: Arc<World>) {
    let digest = format!("sha256:{}", "d".repeat(64));
    let mut by_digest = job("serve");
    let task = by_digest.template.as_mut().and_then(|template| template.template.as_mut()).unwrap();
    task.containers[0].image = format!("demo/serve@{digest}");
    create(&world, "by-digest", by_digest).await.unwrap();
    create(&world, "by-tag", job("serve")).await.unwrap();
    let used = world.engine().run.image_digests();
    assert_eq!(used, [digest], "what a tag names is kept by the tag");
}
