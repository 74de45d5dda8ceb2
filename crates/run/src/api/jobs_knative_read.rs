//! From jobs in the Knative form to our records. A task's spec is read as a revision's is, with the annotations that
//! stand at its execution's template.

use apis::google::discovery::run::v1 as knative;
use kernel::{Error, Result};

use super::{
    authorization,
    jobs_v2_read::{plain, token},
    knative_read, shared,
    shared::launch_stage,
};
use crate::jobs::{
    ContainerOverride, DesiredJob, Overrides,
    record::{JobTemplate, Until},
};

/// Annotations that only the system writes: what a client sends back of them is dropped.
const OUR_ANNOTATIONS: [&str; 3] =
    ["run.googleapis.com/creator", "run.googleapis.com/lastModifier", "run.googleapis.com/operation-id"];
/// The same of labels.
const OUR_LABELS: [&str; 2] = ["cloud.googleapis.com/location", "run.googleapis.com/lastUpdatedTime"];

/// What a manifest asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read, `UNIMPLEMENTED` for what is not served; limits are checked by
/// the engine.
pub(super) fn desired(job: knative::Job) -> Result<DesiredJob> {
    let metadata = job.metadata.unwrap_or_default();
    let spec = job.spec.unwrap_or_default();
    authorization::check(&metadata.annotations)?;
    let token = match (spec.start_execution_token, spec.run_execution_token) {
        (Some(text), None) => Some(token(text, Until::Started)),
        (None, Some(text)) => Some(token(text, Until::Completed)),
        (None, None) => None,
        _ => return Err(Error::bad_field("spec", "only one execution token may be given")),
    };
    let (mut labels, mut annotations) = (metadata.labels, metadata.annotations);
    labels.retain(|key, _| !OUR_LABELS.contains(&key.as_str()));
    annotations.retain(|key, _| !OUR_ANNOTATIONS.contains(&key.as_str()));
    let mut take = |key: &str| annotations.remove(&format!("run.googleapis.com/{key}")).unwrap_or_default();
    let (client, client_version) = (take("client-name"), take("client-version"));
    let launch_stage = launch_stage(Some(&take("launch-stage")));
    let template = template(spec.template.unwrap_or_default())?;
    Ok(DesiredJob { labels, annotations, client, client_version, launch_stage, template, token })
}

fn template(template: knative::ExecutionTemplateSpec) -> Result<JobTemplate> {
    let metadata = template.metadata.unwrap_or_default();
    let spec = template.spec.unwrap_or_default();
    if spec.delay_execution == Some(true) {
        return Err(Error::unimplemented("Delayed executions are not served here yet."));
    }
    let task = spec.template.unwrap_or_default().spec.unwrap_or_default();
    let timeout = task.timeout_seconds.map(i32::try_from).transpose();
    let revision = knative::RevisionTemplate {
        metadata: Some(knative::ObjectMeta { annotations: metadata.annotations, ..Default::default() }),
        spec: Some(knative::RevisionSpec {
            containers: task.containers,
            volumes: task.volumes,
            node_selector: task.node_selector,
            sandboxes: task.sandboxes,
            service_account_name: task.service_account_name,
            timeout_seconds: timeout
                .map_err(|_| Error::bad_field("timeoutSeconds", "timeoutSeconds is too large"))?,
            ..Default::default()
        }),
    };
    let mut read = knative_read::template(revision)?;
    Ok(JobTemplate {
        labels: metadata.labels,
        annotations: std::mem::take(&mut read.annotations),
        parallelism: count("parallelism", spec.parallelism)?.unwrap_or(0),
        task_count: count("taskCount", spec.task_count)?.unwrap_or(0),
        max_retries: count("maxRetries", task.max_retries)?,
        task: Some(plain(read)),
    })
}

/// What one run does differently; nothing when nothing is.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read.
pub(super) fn overrides(overrides: knative::Overrides) -> Result<Option<Overrides>> {
    if overrides.delay_execution == Some(true) {
        return Err(Error::unimplemented("Delayed executions are not served here yet."));
    }
    let read = Overrides {
        containers: overrides.container_overrides.into_iter().map(container).collect::<Result<_>>()?,
        task_count: count("taskCount", overrides.task_count)?,
        timeout_seconds: count("timeoutSeconds", overrides.timeout_seconds)?,
    };
    Ok(Some(read).filter(|read| *read != Overrides::default()))
}

fn container(change: knative::ContainerOverride) -> Result<ContainerOverride> {
    let env = knative::Container { env: change.env, ..Default::default() };
    let spec = knative::RevisionSpec { containers: vec![env], ..Default::default() };
    let read = knative_read::template(knative::RevisionTemplate { metadata: None, spec: Some(spec) })?;
    let env = read.containers.into_iter().next().map(|container| container.env).unwrap_or_default();
    let (name, args) = (change.name.unwrap_or_default(), change.args);
    Ok(ContainerOverride { name, args, clears_args: change.clear_args.unwrap_or(false), env })
}

fn count(field: &str, value: Option<i32>) -> Result<Option<u32>> {
    value.map(|value| shared::count(field, value)).transpose()
}
