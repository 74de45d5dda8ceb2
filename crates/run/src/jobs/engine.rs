//! What people ask for: a job created, replaced, deleted.
//!
//! A change is stored and answered; whether the job can be run (its image is here, its secrets may be read) is found
//! out afterwards, and is its condition `Ready`.

use std::{collections::BTreeMap, sync::Arc};

use kernel::{Caller, Code, Error, Resource, Result, collection::Held, mirror::Versioned, store::Txn};

use super::{
    record::{Job, JobTemplate, Token},
    rules,
};
use crate::{
    Run,
    change::{ACT_AS, who},
    engine::RUN,
    plan,
    reconcile::Failure,
    record::{Condition, State},
    words,
};

/// What somebody asks a job to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DesiredJob {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) client: String,
    pub(crate) client_version: String,
    pub(crate) launch_stage: i32,
    pub(crate) template: JobTemplate,
    pub(crate) token: Option<Token>,
}

/// Where a job is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobPlace {
    pub(crate) project: String,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl JobPlace {
    pub(crate) fn resource_name(&self) -> String {
        format!("{}/jobs/{}", self.location(), self.name)
    }

    /// `projects/P/locations/R`.
    pub(crate) fn location(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.region)
    }

    /// The job as permission checks see it.
    pub(crate) fn resource(&self) -> Resource {
        Resource::new(RUN, self.resource_name())
    }
}

impl Run {
    /// Stores a new job.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming all bad fields, `PERMISSION_DENIED` without `actAs` on its account,
    /// `ALREADY_EXISTS`.
    pub(crate) async fn create_job(
        self: &Arc<Self>,
        caller: &Caller,
        place: &JobPlace,
        desired: DesiredJob,
    ) -> Result<Held<Job>> {
        let desired = self.complete_job(caller, place, desired)?;
        let mut job = Job {
            project: place.project.clone(),
            region: place.region.clone(),
            name: place.name.clone(),
            uid: crate::rules::new_uid()?,
            created: Some(self.ports.clock.timestamp()),
            creator: who(caller),
            ..Job::default()
        };
        self.ask_job(&mut job, desired, who(caller));
        let held = self.jobs.jobs.create(&place.resource_name(), job).await?;
        self.settle_job_later(&held.value);
        Ok(held)
    }

    /// Stores what a job shall become. Executions that run are not touched.
    ///
    /// # Errors
    /// Those of [`Run::create_job`]; `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn replace_job(
        self: &Arc<Self>,
        caller: &Caller,
        place: &JobPlace,
        etag: &str,
        desired: DesiredJob,
    ) -> Result<Held<Job>> {
        let name = place.resource_name();
        self.jobs.jobs.get(&name)?;
        let desired = self.complete_job(caller, place, desired)?;
        let change = |job: &mut Job| {
            if !kernel::etag::allows(etag, &job.etag()) {
                return Err(words::stale(&name));
            }
            self.ask_job(job, desired.clone(), who(caller));
            Ok(())
        };
        let held = self.jobs.jobs.update(&name, "", change).await?;
        self.settle_job_later(&held.value);
        Ok(held)
    }

    /// Checks a change without making it.
    ///
    /// # Errors
    /// Those that making it would give.
    pub(crate) fn try_job(&self, caller: &Caller, place: &JobPlace, desired: DesiredJob) -> Result<()> {
        self.complete_job(caller, place, desired).map(drop)
    }

    /// Deletes a job with its policy at once, and then its executions, which are cancelled first.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn delete_job(self: &Arc<Self>, place: &JobPlace, etag: &str) -> Result<Held<Job>> {
        let (name, policy) = (place.resource_name(), self.ports.policies.key(&place.resource()));
        let also = |held: &Versioned<Job>| match kernel::etag::allows(etag, &held.value.etag()) {
            true => Ok(Txn::new().delete(policy.clone())),
            false => Err(words::stale(&name)),
        };
        let deleted = self.jobs.jobs.delete_with(&name, "", also).await?;
        let (run, uid) = (self.clone(), deleted.value.uid.clone());
        tokio::spawn(async move { run.clear_executions(&name, &uid).await });
        // As with services: the next job of this name has no policy.
        self.ports.policies.catch_up().await?;
        Ok(deleted)
    }

    /// Fills in defaults and checks everything that does not depend on containers.
    fn complete_job(&self, caller: &Caller, place: &JobPlace, mut desired: DesiredJob) -> Result<DesiredJob> {
        let number = self.ports.projects.known(&place.project).map_or(0, |project| project.number);
        rules::complete(&mut desired.template, number);
        rules::check(place, &desired)?;
        if desired.token.is_some() {
            caller.require("run.jobs.run", &place.resource())?;
        }
        let account = desired.template.task().service_account;
        let resource = Resource::new("iam.googleapis.com", format!("projects/-/serviceAccounts/{account}"));
        caller.require(ACT_AS, &resource)?;
        if !self.ports.identity.exists(&account) {
            return Err(caller.refusal(ACT_AS, &resource));
        }
        Ok(desired)
    }

    /// Writes into a job what it shall be, as its next generation.
    fn ask_job(&self, job: &mut Job, desired: DesiredJob, modifier: String) {
        let now = Some(self.ports.clock.timestamp());
        job.labels = desired.labels;
        job.annotations = desired.annotations;
        job.client = desired.client;
        job.client_version = desired.client_version;
        job.launch_stage = desired.launch_stage;
        job.template = Some(desired.template);
        job.token = desired.token;
        job.generation += 1;
        job.updated = now;
        job.last_modifier = modifier;
        job.ready = Some(Condition { state: State::Unknown.into(), since: now, ..Condition::default() });
    }

    /// Starts to find out whether a job's present generation can be run.
    pub(super) fn settle_job_later(self: &Arc<Self>, job: &Job) {
        let (run, name, generation) = (self.clone(), job.resource_name(), job.generation);
        tokio::spawn(async move {
            super::steps::persist(&name, || run.settle_job(&name, generation)).await;
        });
    }

    async fn settle_job(self: &Arc<Self>, name: &str, generation: i64) -> Result<()> {
        let job = self.jobs.jobs.get(name)?.value.clone();
        let found = self.prepare_task(&job.project, &job.template.clone().unwrap_or_default()).await;
        let since = Some(self.ports.clock.timestamp());
        let ready = match found {
            Ok(_) => self.spend_token(&job).await?,
            Err(failure) => Condition { since, ..failure.into_condition() },
        };
        let change = |job: &mut Job| {
            if job.generation == generation {
                job.observed_generation = generation;
                job.ready = Some(ready.clone());
            }
            Ok(())
        };
        self.jobs.jobs.update(name, "", change).await.map(drop)
    }

    /// Begins the execution that a job asks for, once, and waits for it as asked: whether the job is ready then.
    async fn spend_token(self: &Arc<Self>, job: &Job) -> Result<Condition> {
        let Some(token) = job.token.as_ref().filter(|token| token.text != job.spent_token) else {
            let since = Some(self.ports.clock.timestamp());
            return Ok(Condition { state: State::True.into(), since, ..Condition::default() });
        };
        let name = format!("{}-{}", job.name, token.text);
        let template = job.template.clone().unwrap_or_default();
        let execution = self.frozen(job, name, template, job.last_modifier.clone())?;
        match self.begin_execution(&execution).await {
            // A restart came between this and the job's readiness.
            Err(error) if error.code() == Code::Aborted || error.code() == Code::AlreadyExists => {}
            begun => drop(begun?),
        }
        let spend = |known: &mut Job| {
            known.spent_token = token.text.clone();
            Ok(())
        };
        self.jobs.jobs.update(&job.resource_name(), "", spend).await?;
        match self.awaited(&execution.resource_name(), token.until()).await {
            Err(error) if error.code() == Code::NotFound => {
                let failure = Failure::new("Deleted", "The execution was deleted.");
                Ok(Condition { since: Some(self.ports.clock.timestamp()), ..failure.into_condition() })
            }
            awaited => awaited,
        }
    }

    /// Finds the images of a task's containers, and makes sure that its secrets may be read: their digests.
    pub(super) async fn prepare_task(
        &self,
        project: &str,
        template: &JobTemplate,
    ) -> Result<Vec<String>, Failure> {
        let task = template.task();
        let images = self.find_images(&task).await?;
        self.check_secrets(project, &task).await?;
        Ok(images.into_iter().map(|image| image.digest).collect())
    }

    /// Waits until it is known whether a job's generation can be run.
    ///
    /// # Errors
    /// `ABORTED` when a later change overtook it, `NOT_FOUND` when it was deleted, otherwise why it cannot.
    pub(crate) async fn settled_job(&self, name: &str, generation: i64) -> Result<Held<Job>> {
        let mut changes = self.jobs.jobs.mirror().changes();
        loop {
            changes.borrow_and_update();
            let job = self.jobs.jobs.get(name)?;
            if job.value.generation > generation {
                return Err(words::overtaken(&job.value.name, generation));
            }
            if job.value.observed_generation == generation {
                return readiness(&job.value).map(|()| job);
            }
            if changes.changed().await.is_err() {
                return Err(Error::unavailable("The server is shutting down."));
            }
        }
    }

    /// A job that exists.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn existing_job(&self, place: &JobPlace) -> Result<Held<Job>> {
        let name = place.resource_name();
        self.jobs.jobs.find(&name).ok_or_else(|| words::not_found("Job", &name))
    }
}

/// Whether a job can be run, as its operation tells it.
fn readiness(job: &Job) -> Result<()> {
    match &job.ready {
        Some(ready) if ready.state() == State::False => {
            Err(Error::new(plan::code_of(&ready.reason), ready.message.clone()))
        }
        _ => Ok(()),
    }
}
