//! Runs of jobs: begun, cancelled, deleted, looked for.

use std::{cmp::Reverse, sync::Arc};

use kernel::{Caller, Code, Error, Result, collection::Held, mirror::Record, store::Txn};

use super::{
    JobPlace,
    record::{Execution, Job, JobTemplate, Task, Until, Wish},
    rules::{self, KEPT},
    words,
};
use crate::{
    Run,
    change::who,
    record::{Condition, EnvVar, State},
};

/// What one run does differently.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Overrides {
    pub(crate) containers: Vec<ContainerOverride>,
    pub(crate) task_count: Option<u32>,
    pub(crate) timeout_seconds: Option<u32>,
}

/// What one run does differently in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerOverride {
    /// The container; empty: the only one.
    pub(crate) name: String,
    /// Replace its arguments, if not empty.
    pub(crate) args: Vec<String>,
    /// Its arguments are dropped even if there are no others.
    pub(crate) clears_args: bool,
    /// Replace those of the same name, and add the others.
    pub(crate) env: Vec<EnvVar>,
}

impl Run {
    /// Stores a new execution of a job and starts to conduct it.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_ARGUMENT` for overrides that cannot be; `PERMISSION_DENIED` for overrides that the
    /// caller may not make.
    pub(crate) async fn run_job(
        self: &Arc<Self>,
        caller: &Caller,
        place: &JobPlace,
        overrides: Option<Overrides>,
    ) -> Result<Held<Execution>> {
        let execution = self.new_execution(caller, place, overrides)?;
        self.begin_execution(&execution).await
    }

    /// Stores a new execution, counts it in its job, and starts to conduct it.
    ///
    /// # Errors
    /// `NOT_FOUND` when its job is gone; `ABORTED` for a name that is taken.
    pub(super) async fn begin_execution(self: &Arc<Self>, execution: &Execution) -> Result<Held<Execution>> {
        let (job, name) = (execution.job_name(), execution.resource_name());
        if self.jobs.executions.find(&name).is_some() {
            return Err(Error::already_exists(format!("Resource '{}' already exists.", execution.name)));
        }
        let key = self.jobs.executions.key(&name);
        let put = Txn::new().check(&*key, 0).put(&*key, execution.to_stored());
        let count = |known: &mut Job| {
            if known.uid != execution.job_uid {
                return Err(crate::words::not_found("Job", &job));
            }
            known.execution_count += 1;
            known.latest_execution = execution.name.clone();
            known.latest_created = execution.created;
            Ok(put.clone())
        };
        let counted = self.jobs.jobs.update_with(&job, "", count).await?;
        // The kinds are mirrored apart: the new execution may not be in its mirror yet.
        self.jobs.executions.mirror().wait_for(counted.revision).await?;
        self.conduct_later(&name);
        self.jobs.executions.get(&name)
    }

    /// What [`Run::run_job`] would store.
    ///
    /// # Errors
    /// Those of [`Run::run_job`].
    pub(crate) fn new_execution(
        &self,
        caller: &Caller,
        place: &JobPlace,
        overrides: Option<Overrides>,
    ) -> Result<Execution> {
        let job = self.existing_job(place)?.value.clone();
        if overrides.is_some() {
            caller.require("run.jobs.runWithOverrides", &place.resource())?;
        }
        let template = job.template.clone().unwrap_or_default();
        let template = overrides.map_or(Ok(template.clone()), |o| rules::overridden(&template, o))?;
        let name = rules::execution_name(&job.name)?;
        self.frozen(&job, name, template, who(caller))
    }

    pub(super) fn frozen(
        &self,
        job: &Job,
        name: String,
        template: JobTemplate,
        creator: String,
    ) -> Result<Execution> {
        let now = Some(self.ports.clock.timestamp());
        let unknown = Some(Condition { state: State::Unknown.into(), since: now, ..Condition::default() });
        Ok(Execution {
            project: job.project.clone(),
            region: job.region.clone(),
            job: job.name.clone(),
            name,
            uid: crate::rules::new_uid()?,
            job_uid: job.uid.clone(),
            job_generation: job.generation,
            created: now,
            updated: now,
            creator,
            template: Some(template),
            completed: unknown.clone(),
            resources_available: unknown.clone(),
            has_started: unknown.clone(),
            container_ready: unknown,
            launch_stage: job.launch_stage,
            ..Execution::default()
        })
    }

    /// Asks an execution to stop. Its conductor ends what runs.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` when it has ended; `ABORTED` for an etag that does not match.
    pub(crate) async fn cancel_execution(
        self: &Arc<Self>,
        name: &str,
        etag: &str,
    ) -> Result<Held<Execution>> {
        self.existing_execution(name)?;
        let change = |execution: &mut Execution| {
            if !kernel::etag::allows(etag, &execution.etag()) {
                return Err(crate::words::stale(name));
            }
            if execution.is_over() {
                return Err(words::not_running(&execution.name));
            }
            execution.wish = Wish::Cancel.into();
            execution.updated = Some(self.ports.clock.timestamp());
            Ok(())
        };
        let held = self.jobs.executions.update(name, "", change).await?;
        self.jobs.stop(name);
        self.conduct_later(name);
        Ok(held)
    }

    /// Deletes an execution with its tasks; one that runs is cancelled first.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn delete_execution(
        self: &Arc<Self>,
        name: &str,
        etag: &str,
    ) -> Result<Held<Execution>> {
        let held = self.existing_execution(name)?;
        if !kernel::etag::allows(etag, &held.value.etag()) {
            return Err(crate::words::stale(name));
        }
        let (run, name) = (self.clone(), name.to_owned());
        // Goes on when the caller leaves.
        tokio::spawn(async move { run.clear_execution(&name).await.map(|()| held) })
            .await
            .map_err(Error::internal)?
    }

    /// Ends an execution, and removes all there is of it.
    async fn clear_execution(self: &Arc<Self>, name: &str) -> Result<()> {
        match self.cancel_quietly(name).await {
            Err(error) if error.code() == Code::NotFound => return Ok(()),
            cancelled => cancelled?,
        }
        self.jobs.released(name).await;
        self.forget_execution(name).await
    }

    async fn cancel_quietly(&self, name: &str) -> Result<()> {
        let change = |execution: &mut Execution| {
            execution.wish = Wish::Cancel.into();
            Ok(())
        };
        if !self.jobs.executions.get(name)?.value.is_over() {
            self.jobs.executions.update(name, "", change).await?;
            self.jobs.stop(name);
        }
        Ok(())
    }

    /// Removes an execution that has ended, the tasks first: what is interrupted is taken up again at the next start.
    pub(super) async fn forget_execution(&self, name: &str) -> Result<()> {
        let tasks = self.jobs.tasks.mirror().range(&format!("{name}/tasks/"), "", usize::MAX);
        for block in tasks.chunks(kernel::store::MAX_OPERATIONS) {
            let keys = block.iter().map(|(task, _)| self.jobs.tasks.key(task));
            self.jobs.tasks.mirror().commit(keys.fold(Txn::new(), Txn::delete)).await?;
        }
        match self.jobs.executions.delete(name, "").await {
            Err(error) if error.code() != Code::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the executions of a job that is gone.
    pub(super) async fn clear_executions(self: &Arc<Self>, job: &str, uid: &str) {
        let prefix = format!("{job}/executions/");
        let is_its = |_: &str, held: &kernel::mirror::Versioned<Execution>| held.value.job_uid == uid;
        let all = self.jobs.executions.mirror().scan(&prefix, "", usize::MAX, is_its);
        let clearings = all.into_iter().map(|(name, _)| {
            let run = self.clone();
            tokio::spawn(async move {
                if let Err(error) = run.clear_execution(&name).await {
                    // The next start sweeps it away.
                    tracing::warn!("{name} is not deleted: {error:?}");
                }
            })
        });
        for clearing in clearings.collect::<Vec<_>>() {
            let _ = clearing.await;
        }
    }

    /// Removes the oldest executions of a job that have ended, when there are more than Cloud Run keeps.
    pub(super) async fn collect_executions(&self, job: &str) -> Result<()> {
        let mut all = self.executions_of(&format!("{job}/executions/"));
        all.sort_by_key(|held| Reverse(held.created));
        for old in all.iter().skip(KEPT).filter(|old| old.value.is_over()) {
            self.forget_execution(&old.value.resource_name()).await?;
        }
        Ok(())
    }

    /// The executions under a prefix of names whose jobs are there.
    pub(crate) fn executions_of(&self, prefix: &str) -> Vec<Held<Execution>> {
        let found =
            self.jobs.executions.mirror().scan(prefix, "", usize::MAX, |_, held| self.is_owned(&held.value));
        found.into_iter().map(|(_, held)| held).collect()
    }

    /// Whether the job of an execution is there.
    pub(crate) fn is_owned(&self, execution: &Execution) -> bool {
        let job = self.jobs.jobs.find(&execution.job_name());
        job.is_some_and(|job| job.value.uid == execution.job_uid)
    }

    /// An execution that exists, of a job that exists.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn existing_execution(&self, name: &str) -> Result<Held<Execution>> {
        let held = self.jobs.executions.find(name).filter(|held| self.is_owned(&held.value));
        held.ok_or_else(|| crate::words::not_found("Execution", name))
    }

    /// One of an execution's tasks, whether or not it has begun; its record's etag is empty until then.
    pub(crate) fn task_of(&self, execution: &Execution, index: u32) -> (Task, String) {
        match self.jobs.tasks.find(&execution.task_name(index)) {
            Some(held) => (held.value.clone(), held.etag()),
            None => (execution.pending(index), String::new()),
        }
    }

    /// Waits until an execution has begun or ended, as asked: what is said of it then.
    pub(super) async fn awaited(&self, name: &str, until: Until) -> Result<Condition> {
        let mut changes = self.jobs.executions.mirror().changes();
        loop {
            changes.borrow_and_update();
            let execution = self.jobs.executions.get(name)?.value.clone();
            let state = match until {
                Until::Started => execution.has_started,
                Until::Completed => execution.completed,
            };
            match state {
                Some(state) if state.state() == State::True => {
                    return Ok(Condition { message: String::new(), ..state });
                }
                Some(state) if state.state() == State::False => return Ok(state),
                _ => {}
            }
            if changes.changed().await.is_err() {
                return Err(Error::unavailable("The server is shutting down."));
            }
        }
    }

    /// Waits for the end of an execution.
    ///
    /// # Errors
    /// `NOT_FOUND` when it is deleted meanwhile.
    pub(crate) async fn ended_execution(&self, name: &str) -> Result<Held<Execution>> {
        let mut changes = self.jobs.executions.mirror().changes();
        loop {
            changes.borrow_and_update();
            let held = self.jobs.executions.get(name)?;
            if held.value.is_over() {
                return Ok(held);
            }
            if changes.changed().await.is_err() {
                return Err(Error::unavailable("The server is shutting down."));
            }
        }
    }
}
