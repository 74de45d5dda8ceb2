//! Jobs, executions and tasks in the Knative form (`run.googleapis.com/v1`), which `gcloud run jobs` speaks.
//!
//! As with services, the region is in the host and not in the name, so permissions are asked here. The names of
//! executions and tasks do not say whose they are; they are looked for.

use std::sync::Arc;

use apis::google::discovery::run::v1::{
    self as knative, namespaces_executions, namespaces_jobs, namespaces_tasks,
};
use kernel::{Caller, Mount, Resource, Result, collection::Held};

use super::{
    jobs_knative_read as read,
    jobs_knative_write::{self as write, API_VERSION},
    jobs_v2::task_index,
    knative::{is_dry, namespace, parts, region},
    knative_list::{self, Asked},
    shared::gone,
};
use crate::{
    Run,
    engine::RUN,
    jobs::{JobPlace, record::Execution},
    words,
};

/// The group that jobs are of.
const GROUP: &str = "run.googleapis.com";

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(namespaces_jobs::CREATE, &[], create_job)
        .unary(namespaces_jobs::GET, &[], get_job)
        .unary(namespaces_jobs::LIST, &[], list_jobs)
        .unary(namespaces_jobs::REPLACE_JOB, &[], replace_job)
        .unary(namespaces_jobs::DELETE, &[], delete_job)
        .unary(namespaces_jobs::RUN, &[], run_job)
        .unary(namespaces_executions::GET, &[], get_execution)
        .unary(namespaces_executions::LIST, &[], list_executions)
        .unary(namespaces_executions::CANCEL, &[], cancel_execution)
        .unary(namespaces_executions::DELETE, &[], delete_execution)
        .unary(namespaces_tasks::GET, &[], get_task)
        .unary(namespaces_tasks::LIST, &[], list_tasks)
}

async fn create_job(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsCreateRequest,
) -> Result<knative::Job> {
    let body = request.body.unwrap_or_default();
    let name = body.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
    let place = run.job_place_of(namespace(&request.parent)?, &region(&caller)?, &name).await?;
    caller.require("run.jobs.create", &Resource::new(RUN, place.location()))?;
    let desired = read::desired(body.clone())?;
    if is_dry(&request.dry_run) {
        return run.try_job(&caller, &place, desired).map(|()| body);
    }
    let held = run.create_job(&caller, &place, desired).await?;
    Ok(write::job(&run, &held))
}

async fn replace_job(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsReplaceJobRequest,
) -> Result<knative::Job> {
    let place = job_named(&run, &caller, &request.name, "run.jobs.update").await?;
    let body = request.body.unwrap_or_default();
    let desired = read::desired(body.clone())?;
    if is_dry(&request.dry_run) {
        return run.try_job(&caller, &place, desired).map(|()| body);
    }
    let etag = body.metadata.and_then(|metadata| metadata.resource_version).unwrap_or_default();
    let held = run.replace_job(&caller, &place, &etag, desired).await?;
    Ok(write::job(&run, &held))
}

async fn get_job(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsGetRequest,
) -> Result<knative::Job> {
    let place = job_named(&run, &caller, &request.name, "run.jobs.get").await?;
    Ok(write::job(&run, &*run.existing_job(&place)?))
}

async fn delete_job(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsDeleteRequest,
) -> Result<knative::Status> {
    let place = job_named(&run, &caller, &request.name, "run.jobs.delete").await?;
    let held = match is_dry(&request.dry_run) {
        true => run.existing_job(&place)?,
        false => run.delete_job(&place, "").await?,
    };
    Ok(gone(GROUP, "jobs", &held.value.name, &held.value.uid))
}

async fn list_jobs(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsListRequest,
) -> Result<knative::ListJobsResponse> {
    let prefix = listed(&run, &caller, &request.parent, "run.jobs.list").await?;
    let asked = Asked { limit: request.limit, token: request.r#continue, selector: request.label_selector };
    let (page, selector) = (asked.page(&prefix)?, asked.selector()?);
    let (found, next) = run.jobs.jobs.list(&prefix, &page, |_, held| selector.takes(&held.value.labels));
    Ok(knative::ListJobsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("JobList".into()),
        items: found.iter().map(|(_, held)| write::job(&run, held)).collect(),
        metadata: Some(knative_list::metadata(next)),
        unreachable: Vec::new(),
    })
}

async fn run_job(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesJobsRunRequest,
) -> Result<knative::Execution> {
    let place = job_named(&run, &caller, &request.name, "run.jobs.run").await?;
    let overrides = match request.body.unwrap_or_default().overrides {
        Some(overrides) => read::overrides(overrides)?,
        None => None,
    };
    let held = run.run_job(&caller, &place, overrides).await?;
    Ok(write::execution(&run, &held))
}

async fn get_execution(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesExecutionsGetRequest,
) -> Result<knative::Execution> {
    let held = execution(&run, &caller, &request.name, "run.executions.get").await?;
    Ok(write::execution(&run, &held))
}

async fn cancel_execution(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesExecutionsCancelRequest,
) -> Result<knative::Execution> {
    let held = execution(&run, &caller, &request.name, "run.executions.cancel").await?;
    let held = run.cancel_execution(&held.value.resource_name(), "").await?;
    Ok(write::execution(&run, &held))
}

async fn delete_execution(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesExecutionsDeleteRequest,
) -> Result<knative::Status> {
    let held = execution(&run, &caller, &request.name, "run.executions.delete").await?;
    run.delete_execution(&held.value.resource_name(), "").await?;
    Ok(gone(GROUP, "executions", &held.value.name, &held.value.uid))
}

async fn list_executions(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesExecutionsListRequest,
) -> Result<knative::ListExecutionsResponse> {
    let prefix = listed(&run, &caller, &request.parent, "run.executions.list").await?;
    let asked = Asked { limit: request.limit, token: request.r#continue, selector: request.label_selector };
    let (page, selector) = (asked.page(&prefix)?, asked.selector()?);
    let (found, next) = run.jobs.executions.list(&prefix, &page, |_, held| {
        run.is_owned(&held.value) && selector.takes(&write::execution_labels(&held.value))
    });
    Ok(knative::ListExecutionsResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("ExecutionList".into()),
        items: found.iter().map(|(_, held)| write::execution(&run, held)).collect(),
        metadata: Some(knative_list::metadata(next)),
        unreachable: Vec::new(),
    })
}

async fn get_task(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesTasksGetRequest,
) -> Result<knative::Task> {
    let (place, id) = named(&run, &caller, &request.name, "tasks").await?;
    let execution = id.rsplit_once("-task").map_or(id.as_str(), |(execution, _)| execution);
    let held = find_execution(&run, &place, execution);
    let whose = held.as_ref().map_or_else(|| unknown_execution(&place), |held| held.value.resource_name());
    let resource = format!("{whose}/tasks/{id}");
    caller.require("run.tasks.get", &Resource::new(RUN, &*resource))?;
    let held = held.ok_or_else(|| words::not_found("Task", &resource))?;
    let index = task_index(&held.value, &id).ok_or_else(|| words::not_found("Task", &resource))?;
    Ok(write::task(&run, &held.value, index))
}

async fn list_tasks(
    run: Arc<Run>,
    caller: Caller,
    request: knative::NamespacesTasksListRequest,
) -> Result<knative::ListTasksResponse> {
    let prefix = listed(&run, &caller, &request.parent, "run.tasks.list").await?;
    let asked = Asked { limit: request.limit, token: request.r#continue, selector: request.label_selector };
    let (page, selector) = (asked.page(&prefix)?, asked.selector()?);
    let mut among = run.executions_of(&prefix);
    if let Some(name) = selector.only("run.googleapis.com/execution") {
        among.retain(|held| held.value.name == name);
    }
    let is_wanted = |execution: &Execution, index| {
        selector.takes(&write::task_labels(execution, &run.task_of(execution, index).0))
    };
    let (found, next) = run.page_of_tasks(&among, &page, is_wanted);
    Ok(knative::ListTasksResponse {
        api_version: Some(API_VERSION.into()),
        kind: Some("TaskList".into()),
        items: found.iter().map(|(held, index)| write::task(&run, &held.value, *index)).collect(),
        metadata: Some(knative_list::metadata(next)),
        unreachable: Vec::new(),
    })
}

/// Where `namespaces/P/KIND/N` is on a regional host, without a job's name, and N.
async fn named(run: &Run, caller: &Caller, name: &str, kind: &str) -> Result<(JobPlace, String)> {
    let (place, id) = parts(run, caller, name, kind).await?;
    Ok((JobPlace { project: place.project, region: place.region, name: place.name }, id))
}

/// The job that a name names, if the caller has this permission on it.
async fn job_named(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<JobPlace> {
    let (place, name) = named(run, caller, name, "jobs").await?;
    let place = JobPlace { name, ..place };
    caller.require(permission, &place.resource())?;
    Ok(place)
}

/// The execution that a name names, if the caller has this permission on it.
async fn execution(run: &Run, caller: &Caller, name: &str, permission: &str) -> Result<Held<Execution>> {
    let (place, id) = named(run, caller, name, "executions").await?;
    let found = find_execution(run, &place, &id);
    let resource = match &found {
        Some(held) => held.value.resource_name(),
        None => unknown_execution(&JobPlace { name: id, ..place }),
    };
    caller.require(permission, &Resource::new(RUN, &*resource))?;
    found.ok_or_else(|| words::not_found("Execution", &resource))
}

fn find_execution(run: &Run, place: &JobPlace, id: &str) -> Option<Held<Execution>> {
    let prefix = format!("{}/jobs/", place.location());
    let is_it = |_: &str, held: &kernel::mirror::Versioned<Execution>| {
        held.value.name == id && run.is_owned(&held.value)
    };
    run.jobs.executions.mirror().scan(&prefix, "", 1, is_it).into_iter().next().map(|(_, held)| held)
}

/// What stands for an execution that is not there: of no job that is known.
fn unknown_execution(place: &JobPlace) -> String {
    format!("{}/jobs/-/executions/{}", place.location(), place.name)
}

/// What a listing ranges over, for those who may see it: one region, or all of them on the global host.
async fn listed(run: &Run, caller: &Caller, parent: &str, permission: &str) -> Result<String> {
    let region = region(caller).unwrap_or_else(|_| "-".into());
    let place = run.job_place_of(namespace(parent)?, &region, "").await?;
    caller.require(permission, &Resource::new(RUN, place.location()))?;
    Ok(match place.region.as_str() {
        "-" => format!("projects/{}/locations/", place.project),
        _ => format!("{}/jobs/", place.location()),
    })
}
