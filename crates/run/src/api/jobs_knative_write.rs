//! From our records of jobs to the Knative form.

use std::collections::BTreeMap;

use apis::google::discovery::run::v1 as knative;
use kernel::mirror::Versioned;

use super::{
    jobs_v2_write::{log_uri, status, task_conditions},
    knative_write::{condition, namespace, template as revision_template, text, time, version},
    shared::stage_name,
};
use crate::{
    Run,
    jobs::record::{Execution, Job, JobTemplate, Task, Until},
    record::Template,
};

pub(super) const API_VERSION: &str = "run.googleapis.com/v1";

type Map = BTreeMap<String, String>;

pub(super) fn job(run: &Run, held: &Versioned<Job>) -> knative::Job {
    let job = &held.value;
    let mut labels = job.labels.clone();
    labels.insert("cloud.googleapis.com/location".into(), job.region.clone());
    if let Some(updated) = time(&job.updated) {
        labels.insert("run.googleapis.com/lastUpdatedTime".into(), updated);
    }
    knative::Job {
        api_version: Some(API_VERSION.into()),
        kind: Some("Job".into()),
        metadata: Some(knative::ObjectMeta {
            uid: text(&job.uid),
            resource_version: Some(job.etag().trim_matches('"').to_owned()),
            generation: Some(job.generation as i32),
            creation_timestamp: time(&job.created),
            labels,
            annotations: job_annotations(job),
            ..metadata(run, &job.project, "jobs", &job.name)
        }),
        spec: Some(knative::JobSpec {
            template: job.template.as_ref().map(|template| knative::ExecutionTemplateSpec {
                metadata: Some(knative::ObjectMeta {
                    labels: template.labels.clone(),
                    annotations: template_annotations(template),
                    ..Default::default()
                }),
                spec: Some(execution_spec(template)),
            }),
            start_execution_token: token(job, Until::Started),
            run_execution_token: token(job, Until::Completed),
        }),
        status: Some(knative::JobStatus {
            conditions: vec![condition("Ready", &job.ready)],
            execution_count: Some(job.execution_count).filter(|count| *count != 0),
            latest_created_execution: latest(run, job),
            observed_generation: Some(job.observed_generation as i32),
        }),
    }
}

fn token(job: &Job, until: Until) -> Option<String> {
    job.token.as_ref().filter(|token| token.until() == until).map(|token| token.text.clone())
}

/// What all objects have: name, namespace and where they are.
pub(super) fn metadata(run: &Run, project: &str, kind: &str, name: &str) -> knative::ObjectMeta {
    let number = namespace(run, project);
    knative::ObjectMeta {
        name: Some(name.to_owned()),
        self_link: Some(format!("/apis/{API_VERSION}/namespaces/{number}/{kind}/{name}")),
        namespace: Some(number),
        ..Default::default()
    }
}

fn job_annotations(job: &Job) -> Map {
    let stage = stage_name(job.launch_stage);
    let mut all = job.annotations.clone();
    for (key, value) in [
        ("creator", job.creator.as_str()),
        ("lastModifier", &job.last_modifier),
        ("client-name", &job.client),
        ("client-version", &job.client_version),
        ("launch-stage", stage),
    ] {
        if !value.is_empty() {
            all.insert(format!("run.googleapis.com/{key}"), value.to_owned());
        }
    }
    all
}

fn latest(run: &Run, job: &Job) -> Option<knative::ExecutionReference> {
    let name = text(&job.latest_execution)?;
    let execution = run.jobs.executions.find(&format!("{}/executions/{name}", job.resource_name()));
    Some(knative::ExecutionReference {
        name: Some(name),
        creation_timestamp: time(&job.latest_created),
        completion_timestamp: execution.as_ref().and_then(|held| time(&held.value.ended)),
        completion_status: execution.map(|held| status(&held.value).as_str_name().to_owned()),
        ..Default::default()
    })
}

/// A template as a revision's, which carries what is a field of ours and an annotation there.
fn as_revision(template: &JobTemplate) -> knative::RevisionTemplate {
    revision_template(&Template { annotations: template.annotations.clone(), ..template.task() })
}

fn template_annotations(template: &JobTemplate) -> Map {
    as_revision(template).metadata.unwrap_or_default().annotations
}

fn execution_spec(template: &JobTemplate) -> knative::ExecutionSpec {
    knative::ExecutionSpec {
        delay_execution: None,
        parallelism: Some(template.parallelism as i32).filter(|parallelism| *parallelism != 0),
        task_count: Some(template.task_count as i32),
        template: Some(knative::TaskTemplateSpec { spec: Some(task_spec(template)) }),
    }
}

fn task_spec(template: &JobTemplate) -> knative::TaskSpec {
    let spec = as_revision(template).spec.unwrap_or_default();
    knative::TaskSpec {
        containers: spec.containers,
        volumes: spec.volumes,
        service_account_name: spec.service_account_name,
        timeout_seconds: spec.timeout_seconds.map(i64::from),
        max_retries: template.max_retries.map(|retries| retries as i32),
        ..Default::default()
    }
}

pub(super) fn execution(run: &Run, held: &Versioned<Execution>) -> knative::Execution {
    let execution = &held.value;
    let template = execution.template();
    let mut annotations = template_annotations(&template);
    annotations.insert("run.googleapis.com/creator".into(), execution.creator.clone());
    knative::Execution {
        api_version: Some(API_VERSION.into()),
        kind: Some("Execution".into()),
        metadata: Some(knative::ObjectMeta {
            uid: text(&execution.uid),
            resource_version: Some(version(held.revision)),
            generation: Some(1),
            creation_timestamp: time(&execution.created),
            labels: execution_labels(execution),
            annotations,
            owner_references: vec![knative::OwnerReference {
                api_version: Some(API_VERSION.into()),
                kind: Some("Job".into()),
                name: Some(execution.job.clone()),
                uid: Some(execution.job_uid.clone()),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }],
            ..metadata(run, &execution.project, "executions", &execution.name)
        }),
        spec: Some(execution_spec(&template)),
        status: Some(execution_status(execution)),
    }
}

fn execution_status(execution: &Execution) -> knative::ExecutionStatus {
    let count = |count: u32| Some(count as i32).filter(|count| *count != 0);
    knative::ExecutionStatus {
        observed_generation: Some(1),
        conditions: [
            ("Completed", &execution.completed),
            ("ResourcesAvailable", &execution.resources_available),
            ("Started", &execution.has_started),
            ("ContainerReady", &execution.container_ready),
        ]
        .into_iter()
        .map(|(kind, state)| condition(kind, state))
        .collect(),
        start_time: time(&execution.started),
        completion_time: time(&execution.ended),
        running_count: count(execution.running),
        succeeded_count: count(execution.succeeded),
        failed_count: count(execution.failed),
        cancelled_count: count(execution.cancelled),
        retried_count: count(execution.retried),
        log_uri: Some(log_uri(execution, None)),
    }
}

/// The labels that gcloud selects executions by.
pub(super) fn execution_labels(execution: &Execution) -> Map {
    let mut labels = execution.template().labels;
    labels.insert("cloud.googleapis.com/location".into(), execution.region.clone());
    labels.insert("run.googleapis.com/job".into(), execution.job.clone());
    labels.insert("run.googleapis.com/jobGeneration".into(), execution.job_generation.to_string());
    labels.insert("run.googleapis.com/jobUid".into(), execution.job_uid.clone());
    labels
}

pub(super) fn task(run: &Run, execution: &Execution, index: u32) -> knative::Task {
    let (task, etag) = run.task_of(execution, index);
    let template = execution.template();
    let id = execution.task_id(index);
    knative::Task {
        api_version: Some(API_VERSION.into()),
        kind: Some("Task".into()),
        metadata: Some(knative::ObjectMeta {
            uid: text(&task.uid),
            resource_version: text(etag.trim_matches('"')),
            generation: Some(1),
            creation_timestamp: time(&execution.created),
            labels: task_labels(execution, &task),
            annotations: template_annotations(&template),
            ..metadata(run, &execution.project, "tasks", &id)
        }),
        spec: Some(task_spec(&template)),
        status: Some(task_status(execution, &task)),
    }
}

fn task_status(execution: &Execution, task: &Task) -> knative::TaskStatus {
    let number = |number: i32| Some(number).filter(|number| *number != 0);
    let last = task.last.as_ref().map(|last| knative::TaskAttemptResult {
        exit_code: number(last.exit_code),
        term_signal: number(last.signal),
        status: Some(knative::GoogleRpcStatus {
            code: number(last.code),
            message: text(&last.message),
            details: Vec::new(),
        }),
    });
    knative::TaskStatus {
        observed_generation: Some(1),
        conditions: task_conditions(task)
            .iter()
            .map(|(kind, state)| condition(kind, &Some(state.clone())))
            .collect(),
        index: Some(task.index as i32),
        retried: number(task.retried as i32),
        start_time: time(&task.started),
        completion_time: time(&task.ended),
        last_attempt_result: last,
        log_uri: Some(log_uri(execution, Some(task.index))),
    }
}

/// The labels that gcloud selects tasks by.
pub(super) fn task_labels(execution: &Execution, task: &Task) -> Map {
    [
        ("cloud.googleapis.com/location", execution.region.clone()),
        ("run.googleapis.com/job", execution.job.clone()),
        ("run.googleapis.com/execution", execution.name.clone()),
        ("run.googleapis.com/runningState", state(task).to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// How far a task is, as its label says it.
fn state(task: &Task) -> &'static str {
    use crate::jobs::record::TaskState;
    match task.state() {
        TaskState::Pending => "Pending",
        TaskState::Running => "Running",
        TaskState::Succeeded => "Succeeded",
        TaskState::Failed => "Failed",
        TaskState::Cancelled => "Cancelled",
        TaskState::Abandoned => "Abandoned",
    }
}
