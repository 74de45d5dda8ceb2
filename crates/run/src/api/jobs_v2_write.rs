//! From our records of jobs to v2.

use std::collections::BTreeMap;

use apis::google::cloud::run::v2::{
    self, condition, execution_reference::CompletionStatus, job::CreateExecution, task_template::Retries,
};
use kernel::mirror::Versioned;

use super::{authorization, shared::shown_stage, v2_write};
use crate::{
    Run,
    jobs::record::{Execution, Job, JobTemplate, Task, TaskState, Until, Wish},
    record::{Condition, State, Template},
};

pub(super) fn job(run: &Run, held: &Versioned<Job>) -> v2::Job {
    let job = held.value.clone();
    v2::Job {
        binary_authorization: authorization::shown(&mut job.annotations.clone()),
        etag: job.etag(),
        name: job.resource_name(),
        latest_created_execution: latest(run, &job),
        terminal_condition: Some(condition("Ready", &job.ready)),
        reconciling: job.observed_generation != job.generation,
        uid: job.uid,
        generation: job.generation,
        labels: peoples(&job.labels),
        annotations: peoples(&job.annotations),
        create_time: job.created,
        update_time: job.updated,
        creator: job.creator,
        last_modifier: job.last_modifier,
        client: job.client,
        client_version: job.client_version,
        launch_stage: shown_stage(job.launch_stage),
        template: job.template.as_ref().map(template),
        observed_generation: job.observed_generation,
        execution_count: job.execution_count,
        create_execution: job.token.map(|token| match token.until() {
            Until::Started => CreateExecution::StartExecutionToken(token.text),
            Until::Completed => CreateExecution::RunExecutionToken(token.text),
        }),
        ..Default::default()
    }
}

/// The newest execution, as far as it is known.
fn latest(run: &Run, job: &Job) -> Option<v2::ExecutionReference> {
    if job.latest_execution.is_empty() {
        return None;
    }
    let name = format!("{}/executions/{}", job.resource_name(), job.latest_execution);
    let execution = run.jobs.executions.find(&name);
    Some(v2::ExecutionReference {
        name: job.latest_execution.clone(),
        create_time: job.latest_created,
        completion_time: execution.as_ref().and_then(|execution| execution.value.ended),
        delete_time: None,
        completion_status: execution.map_or(0, |execution| status(&execution.value).into()),
    })
}

/// How far an execution is, in a word.
pub(super) fn status(execution: &Execution) -> CompletionStatus {
    let completed = execution.completed.clone().unwrap_or_default();
    match completed.state() {
        State::True => CompletionStatus::ExecutionSucceeded,
        State::False if completed.reason == "Cancelled" => CompletionStatus::ExecutionCancelled,
        State::False => CompletionStatus::ExecutionFailed,
        State::Unknown if execution.started.is_some() => CompletionStatus::ExecutionRunning,
        State::Unknown => CompletionStatus::ExecutionPending,
    }
}

/// What is not the system's own: that has fields of its own here.
fn peoples(map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const SYSTEM: [&str; 5] = [
        "run.googleapis.com/",
        "cloud.googleapis.com/",
        "serving.knative.dev/",
        "autoscaling.knative.dev/",
        "client.knative.dev/",
    ];
    let is_peoples = |key: &str| !SYSTEM.iter().any(|prefix| key.starts_with(prefix));
    map.iter().filter(|(key, _)| is_peoples(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn template(template: &JobTemplate) -> v2::ExecutionTemplate {
    v2::ExecutionTemplate {
        labels: peoples(&template.labels),
        annotations: peoples(&template.annotations),
        parallelism: template.parallelism as i32,
        task_count: template.task_count as i32,
        template: Some(task_template(template)),
    }
}

fn task_template(template: &JobTemplate) -> v2::TaskTemplate {
    let task = shared(&template.task());
    v2::TaskTemplate {
        containers: task.containers,
        volumes: task.volumes,
        timeout: task.timeout,
        service_account: task.service_account,
        execution_environment: task.execution_environment,
        retries: template.max_retries.map(|retries| Retries::MaxRetries(retries as i32)),
        ..Default::default()
    }
}

/// What a task's template has in common with a revision's.
fn shared(task: &Template) -> v2::RevisionTemplate {
    let mut written = v2_write::template(task);
    for resources in written.containers.iter_mut().filter_map(|container| container.resources.as_mut()) {
        // Tasks have their CPU all the time, and nobody says so.
        resources.cpu_idle = false;
        resources.startup_cpu_boost = false;
    }
    written
}

pub(super) fn execution(execution: &Execution) -> v2::Execution {
    let template = execution.template();
    let is_over = execution.is_over();
    v2::Execution {
        name: execution.resource_name(),
        uid: execution.uid.clone(),
        creator: execution.creator.clone(),
        generation: 1,
        labels: peoples(&template.labels),
        annotations: peoples(&template.annotations),
        create_time: execution.created,
        start_time: execution.started,
        completion_time: execution.ended,
        update_time: execution.updated,
        launch_stage: shown_stage(execution.launch_stage),
        job: execution.job.clone(),
        parallelism: if template.parallelism == 0 { template.task_count } else { template.parallelism }
            as i32,
        task_count: template.task_count as i32,
        template: Some(task_template(&template)),
        reconciling: !is_over,
        conditions: vec![
            condition("Started", &execution.has_started),
            completed(execution),
            condition("ContainerReady", &execution.container_ready),
            condition("ResourcesAvailable", &execution.resources_available),
        ],
        observed_generation: 1,
        running_count: execution.running as i32,
        succeeded_count: execution.succeeded as i32,
        failed_count: execution.failed as i32,
        cancelled_count: execution.cancelled as i32,
        retried_count: execution.retried as i32,
        log_uri: log_uri(execution, None),
        etag: execution.etag(),
        ..Default::default()
    }
}

/// An execution that is asked to stop and has not yet says so.
fn completed(execution: &Execution) -> v2::Condition {
    let mut completed = condition("Completed", &execution.completed);
    if execution.wish() == Wish::Cancel && !execution.is_over() {
        completed.reasons = reason("Cancelling");
    }
    completed
}

pub(super) fn task(run: &Run, execution: &Execution, index: u32) -> v2::Task {
    let (task, etag) = run.task_of(execution, index);
    let template = execution.template();
    let shared = shared(&template.task());
    v2::Task {
        name: execution.task_name(index),
        uid: task.uid.clone(),
        generation: 1,
        labels: peoples(&template.labels),
        annotations: peoples(&template.annotations),
        create_time: execution.created,
        scheduled_time: task.started.or(execution.created),
        start_time: task.started,
        completion_time: task.ended,
        update_time: task.updated,
        job: execution.job.clone(),
        execution: execution.name.clone(),
        containers: shared.containers,
        volumes: shared.volumes,
        max_retries: template.max_retries.unwrap_or_default() as i32,
        timeout: shared.timeout,
        service_account: shared.service_account,
        execution_environment: shared.execution_environment,
        reconciling: matches!(task.state(), TaskState::Pending | TaskState::Running),
        conditions: task_conditions(&task)
            .iter()
            .map(|(kind, state)| condition(kind, &Some(state.clone())))
            .collect(),
        observed_generation: 1,
        index: index as i32,
        retried: task.retried as i32,
        last_attempt_result: task.last.as_ref().map(|last| v2::TaskAttemptResult {
            status: Some(apis::google::rpc::Status {
                code: last.code,
                message: last.message.clone(),
                details: Vec::new(),
            }),
            exit_code: last.exit_code,
            term_signal: last.signal,
        }),
        log_uri: log_uri(execution, Some(index)),
        etag,
        ..Default::default()
    }
}

/// What is said of a task, in both forms.
pub(super) fn task_conditions(task: &Task) -> [(&'static str, Condition); 2] {
    let last = task.last.clone().unwrap_or_default();
    let (state, reason) = match task.state() {
        TaskState::Pending | TaskState::Running => (State::Unknown, ""),
        TaskState::Succeeded => (State::True, ""),
        TaskState::Failed => (State::False, "NonZeroExitCode"),
        TaskState::Cancelled | TaskState::Abandoned => (State::False, "Cancelled"),
    };
    let message = if state == State::False { last.message } else { String::new() };
    let completed = Condition {
        state: state.into(),
        reason: reason.into(),
        message,
        since: task.ended.or(task.started).or(task.updated),
    };
    let begun = if task.started.is_some() { State::True } else { State::Unknown };
    let started =
        Condition { state: begun.into(), since: task.started.or(task.updated), ..Condition::default() };
    [("Completed", completed), ("Started", started)]
}

/// Where Google's console would show the log.
pub(super) fn log_uri(execution: &Execution, task: Option<u32>) -> String {
    let mut filter = format!(
        "resource.type%3D%22cloud_run_job%22%0Aresource.labels.job_name%3D%22{}%22%0Aresource.labels.location%3D%22{}%22%0A\
         labels.%22run.googleapis.com/execution_name%22%3D%22{}%22",
        execution.job, execution.region, execution.name
    );
    if let Some(index) = task {
        filter.push_str(&format!("%0Alabels.%22run.googleapis.com/task_index%22%3D%22{index}%22"));
    }
    format!(
        "https://console.cloud.google.com/logs/viewer?project={}&advancedFilter={filter}",
        execution.project
    )
}

fn condition(kind: &str, state: &Option<Condition>) -> v2::Condition {
    v2_write::shown(kind, state, condition::State::ConditionPending, reason)
}

fn reason(word: &str) -> Option<condition::Reasons> {
    use condition::{CommonReason as Common, ExecutionReason as Execution, Reasons};
    Some(match word {
        "" => return None,
        "NonZeroExitCode" => Reasons::ExecutionReason(Execution::NonZeroExitCode.into()),
        "Cancelled" => Reasons::ExecutionReason(Execution::Cancelled.into()),
        "Cancelling" => Reasons::ExecutionReason(Execution::Cancelling.into()),
        "ContainerMissing" => Reasons::Reason(Common::ContainerMissing.into()),
        "SecretsAccessCheckFailed" => Reasons::Reason(Common::SecretsAccessCheckFailed.into()),
        _ => Reasons::Reason(Common::Internal.into()),
    })
}
