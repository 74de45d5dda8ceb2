//! What Cloud Run accepts of jobs: defaults, limits, names, and what a run may override.
//!
//! Sources: <https://cloud.google.com/run/docs/create-jobs>, `…/configuring/task-timeout`, `…/configuring/max-retries`,
//! `…/configuring/parallelism`, <https://cloud.google.com/run/quotas>.

use kernel::{Error, Result};

use super::{
    executions::Overrides,
    record::{Execution, JobTemplate},
};
use crate::{
    jobs::{DesiredJob, JobPlace},
    record::{Container, EnvVar, Template},
    rules::{self, Faults},
};

/// How many tasks of an execution run at once on one machine, whatever its parallelism says.
pub(crate) const MOST_AT_ONCE: u32 = 64;
/// How many executions of a job are kept.
pub(crate) const KEPT: usize = 1000;
const DEFAULT_TIMEOUT: u32 = 600;
const DEFAULT_RETRIES: u32 = 3;
const MAX_TIMEOUT: u32 = 7 * 24 * 3600;
const MAX_RETRIES: u32 = 10;
const MAX_TASKS: u32 = 10_000;
/// Where a task's containers are in a job's manifest.
const CONTAINERS: &str = "spec.template.spec.template.spec.containers";
/// What only the platform sets in a task's environment.
const RESERVED: [&str; 5] = [
    "CLOUD_RUN_JOB",
    "CLOUD_RUN_EXECUTION",
    "CLOUD_RUN_TASK_INDEX",
    "CLOUD_RUN_TASK_ATTEMPT",
    "CLOUD_RUN_TASK_COUNT",
];

/// Fills in what was left out, as Cloud Run does.
pub(crate) fn complete(template: &mut JobTemplate, project_number: u64) {
    template.task_count = template.task_count.max(1);
    template.max_retries.get_or_insert(DEFAULT_RETRIES);
    let task = template.task.get_or_insert_default();
    if task.timeout_seconds == 0 {
        task.timeout_seconds = DEFAULT_TIMEOUT;
    }
    if task.service_account.is_empty() {
        task.service_account = format!("{project_number}-compute@developer.gserviceaccount.com");
    }
    if task.execution_environment == 0 {
        task.execution_environment = rules::SECOND_GENERATION;
    }
    task.containers.iter_mut().for_each(complete_container);
    rules::complete_volumes(task);
}

/// What a container of a service has and a task's has not is dropped.
fn complete_container(container: &mut Container) {
    if container.cpu.is_empty() {
        container.cpu = "1000m".into();
    }
    if container.memory.is_empty() {
        container.memory = "512Mi".into();
    }
    container.port = 0;
    container.port_name = String::new();
    container.startup_probe = None;
    container.liveness_probe = None;
    // CPU is there all the time; both forms show this as nothing.
    container.cpu_idle = true;
    container.startup_cpu_boost = false;
}

/// Refuses what Cloud Run refuses, naming every field that is wrong.
///
/// # Errors
/// `NOT_FOUND` for a region that is none, `INVALID_ARGUMENT`.
pub(crate) fn check(place: &JobPlace, desired: &DesiredJob) -> Result<()> {
    rules::check_region(&place.region)?;
    let mut faults = Faults::default();
    rules::check_name(&place.name, &mut faults);
    check_template(&desired.template, &mut faults);
    if let Some(token) = &desired.token {
        check_token(&place.name, &token.text, &mut faults);
    }
    faults.into_result()
}

/// A job's name and a token are an execution's name.
fn check_token(job: &str, token: &str, faults: &mut Faults) {
    let is_name = rules::is_label(&format!("{job}-{token}")) && !token.is_empty();
    let field = "spec.execution_token";
    faults.check(is_name, field, || "An execution token uses lowercase letters, digits and hyphens.".into());
    faults.check(job.len() + token.len() < 63, field, || {
        "The job's name and an execution token must have fewer than 63 characters together.".into()
    });
}

fn check_template(template: &JobTemplate, faults: &mut Faults) {
    let task = template.task();
    faults.check((1..=MAX_TASKS).contains(&template.task_count), "spec.template.spec.task_count", || {
        format!("Task count must be between 1 and {MAX_TASKS}.")
    });
    faults.check(template.parallelism <= MAX_TASKS, "spec.template.spec.parallelism", || {
        format!("Parallelism must be between 0 and {MAX_TASKS}.")
    });
    let retries = template.max_retries.unwrap_or(DEFAULT_RETRIES);
    faults.check(retries <= MAX_RETRIES, "spec.template.spec.template.spec.max_retries", || {
        format!("Max retries must be between 0 and {MAX_RETRIES}.")
    });
    let timeout = task.timeout_seconds;
    faults.check(
        (1..=MAX_TIMEOUT).contains(&timeout),
        "spec.template.spec.template.spec.timeout_seconds",
        || format!("Timeout seconds must be between 1 and {MAX_TIMEOUT}."),
    );
    check_containers(&task, faults);
}

fn check_containers(task: &Template, faults: &mut Faults) {
    if task.containers.len() > 1 {
        let why = "More than one container a task is not served by this version of haar yet.";
        return faults.add(CONTAINERS, why);
    }
    rules::check_no_readiness(CONTAINERS, task, faults);
    rules::check_containers(CONTAINERS, task, &RESERVED, faults);
}

/// The template of one run, with its overrides.
///
/// # Errors
/// `INVALID_ARGUMENT` for a container that is not there, and what [`check`] refuses.
pub(crate) fn overridden(template: &JobTemplate, overrides: Overrides) -> Result<JobTemplate> {
    let mut template = template.clone();
    let task = template.task.get_or_insert_default();
    if let Some(timeout) = overrides.timeout_seconds {
        task.timeout_seconds = timeout;
    }
    if let Some(count) = overrides.task_count {
        template.task_count = count;
    }
    for change in overrides.containers {
        let only = task.containers.len() == 1 && change.name.is_empty();
        let found = task.containers.iter_mut().find(|container| only || container.name == change.name);
        let container = found.ok_or_else(|| {
            let why = format!("There is no container named '{}' in the job.", change.name);
            Error::bad_field("overrides.container_overrides", why)
        })?;
        if change.clears_args || !change.args.is_empty() {
            container.args = change.args;
        }
        change.env.into_iter().for_each(|variable| set(&mut container.env, variable));
    }
    let mut faults = Faults::default();
    check_template(&template, &mut faults);
    faults.into_result().map(|()| template)
}

fn set(env: &mut Vec<EnvVar>, variable: EnvVar) {
    match env.iter_mut().find(|known| known.name == variable.name) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

/// How many tasks of an execution run at once.
pub(crate) fn width(template: &JobTemplate) -> u32 {
    let asked = if template.parallelism == 0 { template.task_count } else { template.parallelism };
    asked.min(template.task_count).clamp(1, MOST_AT_ONCE)
}

/// A new name for an execution: the job's and five letters.
///
/// # Errors
/// When the machine gives no random numbers.
pub(crate) fn execution_name(job: &str) -> Result<String> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix: String = rules::random::<5>()?
        .iter()
        .map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()] as char)
        .collect();
    Ok(format!("{job}-{suffix}"))
}

/// The variables that the platform sets for an attempt at a task.
pub(crate) fn variables(execution: &Execution, index: u32, attempt: u32) -> Vec<(&'static str, String)> {
    vec![
        ("CLOUD_RUN_JOB", execution.job.clone()),
        ("CLOUD_RUN_EXECUTION", execution.name.clone()),
        ("CLOUD_RUN_TASK_INDEX", index.to_string()),
        ("CLOUD_RUN_TASK_ATTEMPT", attempt.to_string()),
        ("CLOUD_RUN_TASK_COUNT", execution.task_count().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{jobs::executions::ContainerOverride, record::EnvSource};

    fn variable(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), source: Some(EnvSource::Value(value.into())) }
    }

    fn template() -> JobTemplate {
        let container = Container {
            image: "i".into(),
            args: vec!["all".into()],
            env: vec![variable("A", "1")],
            port: 8080,
            ..Container::default()
        };
        let task = Some(Template { containers: vec![container], ..Template::default() });
        let mut template = JobTemplate { task, ..JobTemplate::default() };
        complete(&mut template, 7);
        template
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let template = template();
        let task = template.task();
        assert_eq!((template.task_count, template.max_retries, task.timeout_seconds), (1, Some(3), 600));
        assert_eq!(task.service_account, "7-compute@developer.gserviceaccount.com");
        assert_eq!((&*task.containers[0].cpu, task.containers[0].port), ("1000m", 0));
    }

    #[test]
    fn what_cloud_run_refuses_is_refused() {
        let place = JobPlace { project: "p".into(), region: "us-central1".into(), name: "tide".into() };
        let good = || DesiredJob { template: template(), ..DesiredJob::default() };
        check(&place, &good()).unwrap();
        let refuse = |spoil: fn(&mut JobTemplate), what: &str| {
            let mut desired = good();
            spoil(&mut desired.template);
            let error = check(&place, &desired).unwrap_err();
            assert!(error.message().contains(what), "{error:?}");
        };
        refuse(|t| t.task_count = 10_001, "Task count");
        refuse(|t| t.max_retries = Some(11), "Max retries");
        refuse(|t| t.task.as_mut().unwrap().timeout_seconds = 604_801, "Timeout");
        refuse(|t| t.task.as_mut().unwrap().containers.clear(), "exactly 1 container");
        refuse(
            |t| t.task.as_mut().unwrap().containers[0].env.push(variable("CLOUD_RUN_JOB", "x")),
            "spec.template.spec.template.spec.containers[0].env",
        );
        assert!(check(&JobPlace { name: "Tide".into(), ..place.clone() }, &good()).is_err());
        assert!(check(&JobPlace { region: "moon-east1".into(), ..place }, &good()).is_err());
    }

    #[test]
    fn a_run_overrides_what_it_names() {
        let change =
            ContainerOverride { env: vec![variable("A", "2"), variable("B", "3")], ..Default::default() };
        let overrides = Overrides { containers: vec![change], task_count: Some(4), timeout_seconds: Some(5) };
        let changed = overridden(&template(), overrides).unwrap();
        let container = &changed.task().containers[0];
        assert_eq!((changed.task_count, changed.task().timeout_seconds), (4, 5));
        assert_eq!(container.env, [variable("A", "2"), variable("B", "3")]);
        assert_eq!(container.args, ["all"]);
        let args = |args: &[&str], clears_args| {
            let args = args.iter().map(ToString::to_string).collect();
            let change = ContainerOverride { args, clears_args, ..Default::default() };
            let overrides = Overrides { containers: vec![change], ..Default::default() };
            overridden(&template(), overrides).unwrap().task().containers[0].args.clone()
        };
        assert_eq!((args(&["one"], false), args(&[], true).len()), (vec!["one".to_owned()], 0));
        let nobody = ContainerOverride { name: "other".into(), ..Default::default() };
        let overrides = Overrides { containers: vec![nobody], ..Default::default() };
        assert!(overridden(&template(), overrides).is_err());
    }

    #[test]
    fn tasks_run_at_once_as_far_as_may_be() {
        let width = |parallelism, task_count| {
            super::width(&JobTemplate { parallelism, task_count, ..JobTemplate::default() })
        };
        assert_eq!([width(0, 5), width(2, 5), width(9, 5), width(0, 9999)], [5, 2, 5, MOST_AT_ONCE]);
        let name = execution_name("tide").unwrap();
        assert!(name.starts_with("tide-") && name.len() == 10, "{name}");
    }
}
