//! From jobs in v2 to our records. A task's template is read as a revision's is: what they have in common is most of
//! them.

use apis::google::cloud::run::v2::{self, job::CreateExecution, run_job_request, task_template::Retries};
use kernel::Result;

use super::{
    authorization,
    shared::{count, negative},
    v2_read,
};
use crate::{
    jobs::{
        ContainerOverride, DesiredJob, Overrides,
        record::{JobTemplate, Token, Until},
    },
    record::Template,
};

/// What a job message asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read and for what is not served; limits are checked by the engine.
pub(super) fn desired(job: &v2::Job) -> Result<DesiredJob> {
    let mut job = job.clone();
    authorization::keep(job.binary_authorization.take(), &mut job.annotations)?;
    Ok(DesiredJob {
        labels: job.labels,
        annotations: job.annotations,
        client: job.client,
        client_version: job.client_version,
        launch_stage: job.launch_stage,
        template: template(job.template.unwrap_or_default())?,
        token: job.create_execution.map(|asked| match asked {
            CreateExecution::StartExecutionToken(text) => token(text, Until::Started),
            CreateExecution::RunExecutionToken(text) => token(text, Until::Completed),
        }),
    })
}

/// An execution that a job's change asks for.
pub(super) fn token(text: String, until: Until) -> Token {
    Token { text, until: until.into() }
}

fn template(template: v2::ExecutionTemplate) -> Result<JobTemplate> {
    let task = template.template.unwrap_or_default();
    let max_retries = match task.retries {
        Some(Retries::MaxRetries(retries)) => Some(count("template.template.max_retries", retries)?),
        None => None,
    };
    Ok(JobTemplate {
        labels: template.labels,
        annotations: template.annotations,
        parallelism: count("template.parallelism", template.parallelism)?,
        task_count: count("template.task_count", template.task_count)?,
        max_retries,
        task: Some(self::task(task)?),
    })
}

fn task(task: v2::TaskTemplate) -> Result<Template> {
    v2_read::template(v2::RevisionTemplate {
        containers: task.containers,
        volumes: task.volumes,
        timeout: task.timeout,
        service_account: task.service_account,
        execution_environment: task.execution_environment,
        vpc_access: task.vpc_access,
        encryption_key: task.encryption_key,
        node_selector: task.node_selector,
        ..Default::default()
    })
    .map(plain)
}

/// A task's part of a template that was read as a revision's.
pub(super) fn plain(template: Template) -> Template {
    Template {
        timeout_seconds: template.timeout_seconds,
        service_account: template.service_account,
        containers: template.containers,
        volumes: template.volumes,
        execution_environment: template.execution_environment,
        ..Template::default()
    }
}

/// What one run does differently.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read.
pub(super) fn overrides(overrides: run_job_request::Overrides) -> Result<Overrides> {
    let seconds = overrides.timeout.map(|timeout| timeout.seconds);
    let timeout_seconds = match seconds {
        Some(seconds) => Some(u32::try_from(seconds).map_err(|_| negative("overrides.timeout"))?),
        None => None,
    };
    let tasks = count("overrides.task_count", overrides.task_count)?;
    Ok(Overrides {
        containers: overrides.container_overrides.into_iter().map(container).collect::<Result<_>>()?,
        task_count: Some(tasks).filter(|tasks| *tasks != 0),
        timeout_seconds,
    })
}

fn container(change: run_job_request::overrides::ContainerOverride) -> Result<ContainerOverride> {
    let env = v2::Container { env: change.env, ..Default::default() };
    let read = v2::RevisionTemplate { containers: vec![env], ..Default::default() };
    let env = v2_read::template(read)?.containers.pop().map(|container| container.env).unwrap_or_default();
    Ok(ContainerOverride { name: change.name, args: change.args, clears_args: change.clear_args, env })
}
