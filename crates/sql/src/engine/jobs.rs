//! Operations: those that take a while, and the record of those that took none.

use std::sync::Arc;

use apis::google::{
    cloud::sql::v1beta4::operation::SqlOperationType as Kind,
    longrunning::{Operation, operation},
    rpc::Status,
};
use kernel::{
    Caller, Error, Result,
    operations::{Plan, Progress, to_any},
    paging::{Limits, Page},
    store::Txn,
};
use prost::Message;
use prost_types::Any;

use super::{Found, Sql, settings};
use crate::{
    names,
    postgres::Stop,
    record::{InstanceRecord, JOB, JobRecord, State},
    refuse,
};

/// The kind under which long jobs are resumed.
const RESUMED: &str = "sql.instance";
/// How many operations a page has.
const PAGE: Limits = Limits { usual: 100, most: 500 };

/// An operation as it stands.
pub(crate) struct Job {
    /// Its id.
    pub(crate) id: String,
    /// What it is about.
    pub(crate) record: JobRecord,
    /// Whether it has ended.
    pub(crate) is_done: bool,
    /// Why it failed, if it did.
    pub(crate) failure: Option<Status>,
}

impl Sql {
    /// Starts a job on an instance whose record changes with its start.
    pub(super) async fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        kind: Kind,
        name: &str,
        also: Txn,
    ) -> Result<Job> {
        let record = self.job(caller, kind, name);
        let plan = plan(&record, RESUMED).memo(record.encode_to_vec()).with(also);
        let (sql, work) = (self.clone(), record);
        let started = self.operations.start(plan, |progress| sql.work(work, progress)).await?;
        self.instances.mirror().catch_up().await?;
        Ok(job(started))
    }

    /// Keeps the record of a job that is done.
    pub(super) async fn done(&self, caller: &Caller, kind: Kind, name: &str) -> Result<Job> {
        let mut record = self.job(caller, kind, name);
        record.ended = record.inserted;
        let plan = plan(&record, "sql.done").metadata(to_any(JOB, &record));
        Ok(job(self.operations.finished(plan, to_any(JOB, &record)).await?))
    }

    /// An operation of a project.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn operation(&self, project: &str, id: &str) -> Result<Job> {
        let project = self.project(project).await?;
        let name = format!("{}/operations/{id}", parent(&project.id));
        self.operations.get(&name).map(job).map_err(|_| refuse::no_operation(id))
    }

    /// A page of a project's operations, or of one instance's.
    pub(crate) async fn operations(
        &self,
        project: &str,
        instance: &str,
        size: u32,
        token: &str,
    ) -> Result<(Vec<Job>, String)> {
        let project = self.project(project).await?;
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let page = Page::new(PAGE, size, token, &["sql", &project.id, instance])?;
        let is_wanted = |operation: &Operation| {
            instance.is_empty() || about(operation).is_some_and(|job| job.instance == instance)
        };
        let (found, next) = self.operations.list(&parent(&project.id), &page, is_wanted);
        let mut jobs: Vec<Job> = found.into_iter().map(job).collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.record.inserted.map(|time| (time.seconds, time.nanos))));
        Ok((jobs, next))
    }

    /// Goes on with the jobs that a restart has interrupted.
    pub(super) fn resume(self: &Arc<Self>) {
        for left in self.operations.unfinished(RESUMED) {
            let record = JobRecord::decode(&*left.memo).unwrap_or_default();
            let sql = self.clone();
            if let Err(error) = self.operations.resume(&left.name, |progress| sql.work(record, progress)) {
                tracing::warn!("{} cannot be gone on with: {error:?}", left.name);
            }
        }
    }

    async fn work(self: Arc<Self>, mut record: JobRecord, progress: Progress) -> Result<Any> {
        self.instances.mirror().catch_up().await?;
        let name = names::instance(&record.project, &record.instance);
        let result = match Kind::try_from(record.kind) {
            Ok(Kind::Create) => self.create(&name).await,
            Ok(Kind::Delete) => self.delete(&name).await,
            Ok(Kind::Restart | Kind::Update) => self.restart(&name).await,
            _ => Err(Error::internal("an operation of an unknown kind")),
        };
        record.ended = Some(self.clock.timestamp());
        progress.metadata(to_any(JOB, &record)).await?;
        result.map(|()| to_any(JOB, &record))
    }

    /// Makes an instance whole, from wherever it is.
    async fn create(&self, name: &str) -> Result<()> {
        let Some(held) = self.instances.find(name) else { return Err(refuse::no_instance()) };
        let made = self.furnish(&held).await;
        let installed = made.as_ref().cloned().unwrap_or_default();
        let state = if made.is_ok() { State::Runnable } else { State::Failed };
        let settle = |record: &mut InstanceRecord| {
            record.set_state(state);
            record.root_verifier.clear();
            record.installed.clone_from(&installed);
            Ok(())
        };
        self.instances.update(name, "", settle).await?;
        made.map(drop)
    }

    async fn furnish(&self, record: &InstanceRecord) -> Result<String> {
        let server = self.server(record);
        let postgres = server.make().await?;
        server.start().await?;
        let admin = crate::postgres::Admin::connect(server.cluster()).await?;
        admin.furnish(&record.root_verifier).await?;
        Ok(postgres.version)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let Some(held) = self.instances.find(name) else { return Ok(()) };
        let server = self.server(&held);
        server.stop(Stop::AtOnce).await;
        server.remove().await?;
        self.instances.delete(name, "").await?;
        self.forget_server(&held.uid);
        Ok(())
    }

    async fn restart(&self, name: &str) -> Result<()> {
        let Some(held) = self.instances.find(name) else { return Err(refuse::no_instance()) };
        let flags = settings::flags(&settings::decode(&held.settings));
        self.server(&held).restart(flags).await
    }

    fn job(&self, caller: &Caller, kind: Kind, name: &str) -> JobRecord {
        let (project, instance) = names::parts(name);
        JobRecord {
            kind: kind as i32,
            project: project.into(),
            instance: instance.into(),
            user: caller.principal().email().unwrap_or_default().into(),
            inserted: Some(self.clock.timestamp()),
            ended: None,
        }
    }

    /// Refuses a change while another operation works on the instance.
    pub(super) fn check_idle(&self, found: &Found) -> Result<()> {
        let (project, instance) = names::parts(&found.name);
        let Ok(page) = Page::new(Limits { usual: 1, most: 1 }, 1, "", &[]) else { return Ok(()) };
        let is_busy = |operation: &Operation| {
            !operation.done && about(operation).is_some_and(|job| job.instance == instance)
        };
        let (busy, _) = self.operations.list(&parent(project), &page, is_busy);
        if busy.is_empty() { Ok(()) } else { Err(refuse::busy()) }
    }
}

fn plan(record: &JobRecord, kind: &'static str) -> Plan {
    Plan::new(parent(&record.project), kind).metadata(to_any(JOB, record))
}

/// What the names of a project's operations start with.
fn parent(project: &str) -> String {
    format!("sql/{project}")
}

fn about(operation: &Operation) -> Option<JobRecord> {
    JobRecord::decode(&*operation.metadata.as_ref()?.value).ok()
}

fn job(operation: Operation) -> Job {
    let failure = match &operation.result {
        Some(operation::Result::Error(status)) => Some(status.clone()),
        _ => None,
    };
    Job {
        id: operation.name.rsplit('/').next().unwrap_or_default().to_owned(),
        record: about(&operation).unwrap_or_default(),
        is_done: operation.done,
        failure,
    }
}
