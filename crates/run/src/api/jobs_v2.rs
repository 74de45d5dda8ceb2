//! Jobs, executions and tasks in the second form (`google.cloud.run.v2`), which client libraries and Terraform speak.
//!
//! A change answers with an operation: that of a job ends when it is known whether the job can be run, that of a run
//! when its execution has ended.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{self, executions, jobs, tasks},
    longrunning::Operation,
};
use kernel::{
    Caller, Code, Error, Mount, Resource, Result,
    collection::Held,
    grant, names,
    operations::{Plan, to_any},
    paging::{Limits, Page},
};

use super::{jobs_v2_read as read, jobs_v2_write as write, shared::location};
use crate::{
    Run,
    engine::RUN,
    jobs::{
        JobPlace,
        record::{Execution, Job},
    },
    record::{Kind, State},
    words,
};

/// What operations about jobs and about executions are resumed by.
const JOB: &str = "run.job";
const EXECUTION: &str = "run.execution";
const CANCELLATION: &str = "run.cancellation";
/// Sizes of a page.
const PAGE: Limits = Limits { usual: 100, most: 500 };

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    let mount = mount
        .unary(jobs::CREATE_JOB, const { &[grant("run.jobs.create", "{parent}")] }, create_job)
        .unary(jobs::GET_JOB, const { &[grant("run.jobs.get", "{name}")] }, get_job)
        .unary(jobs::LIST_JOBS, const { &[grant("run.jobs.list", "{parent}")] }, list_jobs)
        .unary(jobs::UPDATE_JOB, const { &[grant("run.jobs.update", "{job.name}")] }, update_job)
        .unary(jobs::DELETE_JOB, const { &[grant("run.jobs.delete", "{name}")] }, delete_job)
        .unary(jobs::RUN_JOB, const { &[grant("run.jobs.run", "{name}")] }, run_job);
    mount
        .unary(executions::GET_EXECUTION, const { &[grant("run.executions.get", "{name}")] }, get_execution)
        .unary(
            executions::LIST_EXECUTIONS,
            const { &[grant("run.executions.list", "{parent}")] },
            list_executions,
        )
        .unary(
            executions::CANCEL_EXECUTION,
            const { &[grant("run.executions.cancel", "{name}")] },
            cancel_execution,
        )
        .unary(
            executions::DELETE_EXECUTION,
            const { &[grant("run.executions.delete", "{name}")] },
            delete_execution,
        )
        .unary(tasks::GET_TASK, const { &[grant("run.tasks.get", "{name}")] }, get_task)
        .unary(tasks::LIST_TASKS, const { &[grant("run.tasks.list", "{parent}")] }, list_tasks)
}

async fn create_job(run: Arc<Run>, caller: Caller, request: v2::CreateJobRequest) -> Result<Operation> {
    let place = run.job_in(&request.parent, &request.job_id).await?;
    let asked = request.job.unwrap_or_default();
    let desired = read::desired(&asked)?;
    if request.validate_only {
        run.try_job(&caller, &place, desired)?;
        return run.done_job(&place, &asked).await;
    }
    let held = run.create_job(&caller, &place, desired).await?;
    run.job_operation(&held).await
}

async fn update_job(run: Arc<Run>, caller: Caller, request: v2::UpdateJobRequest) -> Result<Operation> {
    let asked = request.job.unwrap_or_default();
    let place = run.job_place(&asked.name).await?;
    let desired = read::desired(&asked)?;
    if request.validate_only {
        run.try_job(&caller, &place, desired)?;
        return run.done_job(&place, &asked).await;
    }
    let creates = request.allow_missing && run.existing_job(&place).is_err();
    if creates {
        caller.require("run.jobs.create", &Resource::new(RUN, place.location()))?;
    }
    let held = match creates {
        true => run.create_job(&caller, &place, desired).await?,
        false => run.replace_job(&caller, &place, &asked.etag, desired).await?,
    };
    run.job_operation(&held).await
}

async fn delete_job(run: Arc<Run>, _: Caller, request: v2::DeleteJobRequest) -> Result<Operation> {
    let place = run.job_place(&request.name).await?;
    let held = match request.validate_only {
        true => run.existing_job(&place)?,
        false => run.delete_job(&place, &request.etag).await?,
    };
    let mut deleted = write::job(&run, &held);
    deleted.delete_time = Some(run.ports.clock.timestamp());
    run.done_job(&place, &deleted).await
}

async fn get_job(run: Arc<Run>, _: Caller, request: v2::GetJobRequest) -> Result<v2::Job> {
    let place = run.job_place(&request.name).await?;
    Ok(write::job(&run, &*run.existing_job(&place)?))
}

async fn list_jobs(run: Arc<Run>, _: Caller, request: v2::ListJobsRequest) -> Result<v2::ListJobsResponse> {
    let place = run.job_in(&request.parent, "").await?;
    let prefix = match place.region.as_str() {
        "-" => format!("projects/{}/locations/", place.project),
        _ => format!("{}/jobs/", place.location()),
    };
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) = run.jobs.jobs.list(&prefix, &page, |_, _| true);
    let jobs = found.iter().map(|(_, held)| write::job(&run, held)).collect();
    Ok(v2::ListJobsResponse { jobs, next_page_token })
}

async fn run_job(run: Arc<Run>, caller: Caller, request: v2::RunJobRequest) -> Result<Operation> {
    let place = run.job_place(&request.name).await?;
    let overrides = request.overrides.map(read::overrides).transpose()?;
    if !kernel::etag::allows(&request.etag, &run.existing_job(&place)?.value.etag()) {
        return Err(words::stale(&request.name));
    }
    if request.validate_only {
        let execution = run.new_execution(&caller, &place, overrides)?;
        return run.done_execution(&execution, &write::execution(&execution)).await;
    }
    let held = run.run_job(&caller, &place, overrides).await?;
    run.execution_operation(&held, EXECUTION).await
}

async fn get_execution(run: Arc<Run>, _: Caller, request: v2::GetExecutionRequest) -> Result<v2::Execution> {
    let name = run.execution_name(&request.name).await?;
    let held = run.existing_execution(&name)?;
    Ok(write::execution(&held.value))
}

async fn list_executions(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListExecutionsRequest,
) -> Result<v2::ListExecutionsResponse> {
    let place = run.job_place(&request.parent).await?;
    let prefix = executions_prefix(&place);
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) =
        run.jobs.executions.list(&prefix, &page, |_, held| run.is_owned(&held.value));
    let executions = found.iter().map(|(_, held)| write::execution(&held.value)).collect();
    Ok(v2::ListExecutionsResponse { executions, next_page_token })
}

/// What the names of a job's executions begin with; of all jobs' for `-`.
fn executions_prefix(place: &JobPlace) -> String {
    match place.name.as_str() {
        "-" => format!("{}/jobs/", place.location()),
        _ => format!("{}/executions/", place.resource_name()),
    }
}

async fn cancel_execution(
    run: Arc<Run>,
    _: Caller,
    request: v2::CancelExecutionRequest,
) -> Result<Operation> {
    let name = run.execution_name(&request.name).await?;
    if request.validate_only {
        let held = run.existing_execution(&name)?;
        return run.done_execution(&held.value, &write::execution(&held.value)).await;
    }
    let held = run.cancel_execution(&name, &request.etag).await?;
    run.execution_operation(&held, CANCELLATION).await
}

async fn delete_execution(
    run: Arc<Run>,
    _: Caller,
    request: v2::DeleteExecutionRequest,
) -> Result<Operation> {
    let name = run.execution_name(&request.name).await?;
    let held = match request.validate_only {
        true => run.existing_execution(&name)?,
        false => run.delete_execution(&name, &request.etag).await?,
    };
    let mut deleted = write::execution(&held.value);
    deleted.delete_time = Some(run.ports.clock.timestamp());
    run.done_execution(&held.value, &deleted).await
}

async fn get_task(run: Arc<Run>, _: Caller, request: v2::GetTaskRequest) -> Result<v2::Task> {
    let [project, region, job, execution, task] =
        names::parse(&request.name, ["projects", "locations", "jobs", "executions", "tasks"])
            .ok_or_else(|| Error::invalid(format!("'{}' is not a task's name.", request.name)))?;
    let place = run.job_place_of(project, region, job).await?;
    let held = run.existing_execution(&format!("{}/executions/{execution}", place.resource_name()))?;
    let index = task_index(&held.value, task).ok_or_else(|| words::not_found("Task", &request.name))?;
    Ok(write::task(&run, &held.value, index))
}

/// Which of an execution's tasks has this name.
pub(super) fn task_index(execution: &Execution, task: &str) -> Option<u32> {
    let index = task.strip_prefix(&execution.name)?.strip_prefix("-task")?.parse().ok()?;
    (index < execution.task_count() && execution.task_id(index) == task).then_some(index)
}

async fn list_tasks(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListTasksRequest,
) -> Result<v2::ListTasksResponse> {
    let [project, region, job, execution] =
        names::parse(&request.parent, ["projects", "locations", "jobs", "executions"])
            .ok_or_else(|| Error::invalid(format!("'{}' is not an execution's name.", request.parent)))?;
    let place = run.job_place_of(project, region, job).await?;
    let among = match execution {
        "-" => run.executions_of(&executions_prefix(&place)),
        name => vec![run.existing_execution(&format!("{}/executions/{name}", place.resource_name()))?],
    };
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&request.parent])?;
    let (found, next_page_token) = run.page_of_tasks(&among, &page, |_, _| true);
    let tasks = found.iter().map(|(execution, index)| write::task(&run, &execution.value, *index)).collect();
    Ok(v2::ListTasksResponse { tasks, next_page_token })
}

impl Run {
    /// A page of the wanted tasks of executions, in order, and the next page's token.
    pub(super) fn page_of_tasks<'a>(
        &self,
        among: &'a [Held<Execution>],
        page: &Page,
        is_wanted: impl Fn(&Execution, u32) -> bool,
    ) -> (Vec<(&'a Held<Execution>, u32)>, String) {
        let each = |held: &'a Held<Execution>| {
            (0..held.value.task_count()).map(move |index| (position(&held.value, index), held, index))
        };
        let found = among
            .iter()
            .flat_map(each)
            .filter(|(position, held, index)| {
                position.as_str() > page.after() && is_wanted(&held.value, *index)
            })
            .take(page.size() + 1);
        let (found, next) = page.cut(found.collect::<Vec<_>>(), |(position, ..)| position);
        (found.into_iter().map(|(_, held, index)| (held, index)).collect(), next)
    }

    /// The place that `projects/P/locations/R/jobs/J` names.
    pub(super) async fn job_place(&self, name: &str) -> Result<JobPlace> {
        let [project, region, job] =
            names::parse(name, ["projects", "locations", "jobs"]).ok_or_else(|| {
                Error::invalid(format!(
                    "'{name}' is not a job's name: use projects/PROJECT/locations/REGION/jobs/JOB."
                ))
            })?;
        self.job_place_of(project, region, job).await
    }

    /// A job's place in a location.
    async fn job_in(&self, parent: &str, job: &str) -> Result<JobPlace> {
        let [project, region] = location(parent)?;
        self.job_place_of(project, region, job).await
    }

    pub(super) async fn job_place_of(&self, project: &str, region: &str, job: &str) -> Result<JobPlace> {
        let place = self.place_of(Kind::Service, project, region, job).await?;
        Ok(JobPlace { project: place.project, region: place.region, name: place.name })
    }

    /// The resource name of an execution, with the project by its id.
    async fn execution_name(&self, name: &str) -> Result<String> {
        let [project, region, job, execution] =
            names::parse(name, ["projects", "locations", "jobs", "executions"])
                .ok_or_else(|| Error::invalid(format!("'{name}' is not an execution's name.")))?;
        let place = self.job_place_of(project, region, job).await?;
        Ok(format!("{}/executions/{execution}", place.resource_name()))
    }

    /// The operation that ends when it is known whether a job can be run.
    async fn job_operation(self: &Arc<Self>, held: &Held<Job>) -> Result<Operation> {
        let (name, generation) = (held.value.resource_name(), held.value.generation);
        let metadata = to_any("google.cloud.run.v2.Job", &write::job(self, held));
        let plan = plan(&name, JOB).metadata(metadata).memo(format!("{name}\n{generation}"));
        let run = self.clone();
        self.operations.start(plan, move |_| async move { run.finished_job(&name, generation).await }).await
    }

    async fn finished_job(&self, name: &str, generation: i64) -> Result<prost_types::Any> {
        let held = self.settled_job(name, generation).await?;
        Ok(to_any("google.cloud.run.v2.Job", &write::job(self, &held)))
    }

    /// The operation that ends with an execution: a run's fails when that does, a cancellation's does not.
    async fn execution_operation(
        self: &Arc<Self>,
        held: &Held<Execution>,
        kind: &'static str,
    ) -> Result<Operation> {
        let name = held.value.resource_name();
        let metadata = to_any("google.cloud.run.v2.Execution", &write::execution(&held.value));
        let run = self.clone();
        let plan = plan(&name, kind).metadata(metadata).memo(name.clone());
        self.operations.start(plan, move |_| async move { run.finished_execution(&name, kind).await }).await
    }

    async fn finished_execution(&self, name: &str, kind: &str) -> Result<prost_types::Any> {
        let held = self.ended_execution(name).await?;
        let execution = &held.value;
        let completed = execution.completed.clone().unwrap_or_default();
        if kind == EXECUTION && completed.state() == State::False && execution.failure_code != 0 {
            return Err(Error::new(code(execution.failure_code), completed.message));
        }
        Ok(to_any("google.cloud.run.v2.Execution", &write::execution(execution)))
    }

    /// Operations that are done: nothing has to be brought about.
    async fn done_job(&self, place: &JobPlace, job: &v2::Job) -> Result<Operation> {
        let any = to_any("google.cloud.run.v2.Job", job);
        self.operations.finished(plan(&place.resource_name(), JOB).metadata(any.clone()), any).await
    }

    async fn done_execution(&self, of: &Execution, execution: &v2::Execution) -> Result<Operation> {
        let any = to_any("google.cloud.run.v2.Execution", execution);
        self.operations.finished(plan(&of.resource_name(), EXECUTION).metadata(any.clone()), any).await
    }

    /// Goes on with the operations that a restart interrupted.
    pub(crate) fn resume_job_operations(self: &Arc<Self>) {
        for left in self.operations.unfinished(JOB) {
            let memo = String::from_utf8_lossy(&left.memo).into_owned();
            let Some((name, generation)) = memo.split_once('\n') else { continue };
            let (run, name, generation) = (self.clone(), name.to_owned(), generation.parse().unwrap_or(0));
            let work = move |_| async move { run.finished_job(&name, generation).await };
            // What cannot be resumed has ended meanwhile.
            let _ = self.operations.resume(&left.name, work);
        }
        for kind in [EXECUTION, CANCELLATION] {
            for left in self.operations.unfinished(kind) {
                let (run, name) = (self.clone(), String::from_utf8_lossy(&left.memo).into_owned());
                let work = move |_| async move { run.finished_execution(&name, kind).await };
                let _ = self.operations.resume(&left.name, work);
            }
        }
    }
}

/// Where a task stands in a listing.
fn position(execution: &Execution, index: u32) -> String {
    format!("{}/{index:06}", execution.resource_name())
}

/// An operation in the location of a resource.
fn plan(name: &str, kind: &'static str) -> Plan {
    let location: Vec<&str> = name.split('/').take(4).collect();
    Plan::new(location.join("/"), kind)
}

/// The codes that an execution's failure may have.
fn code(number: i32) -> Code {
    [
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::Unavailable,
    ]
    .into_iter()
    .find(|code| *code as i32 == number)
    .unwrap_or(Code::Internal)
}
