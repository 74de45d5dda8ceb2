//! Conducting an execution: its tasks started in order, as many at once as may be, each tried as often as may be.
//!
//! A conductor is the only one that changes an execution and its tasks. It goes on from what is stored, so the same
//! code begins an execution and takes up one that a restart interrupted.

use std::{sync::Arc, time::Duration};

use kernel::{
    Code,
    ports::{LogSource, LogStream, Owner},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    record::{Attempt, Execution, TaskState, Wish},
    rules,
    steps::Step,
    words,
};
use crate::{
    Run,
    fleet::{GRACE, remark},
    plan::{self, Order},
    runtime::{Exit, Running},
};

/// What brings one execution to its end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Conductor {
    pub(super) run: Arc<Run>,
    /// The execution's resource name.
    pub(super) name: Arc<str>,
    stop: watch::Receiver<Wish>,
    pub(super) writing: Arc<Mutex<()>>,
}

/// How an attempt came out.
enum Outcome {
    Succeeded,
    Failed(Attempt),
    /// It was stopped by a cancellation.
    Stopped,
}

impl Run {
    /// Has an execution conducted, if it is not already and has not ended.
    pub(super) fn conduct_later(self: &Arc<Self>, name: &str) {
        let Some(stop) = self.jobs.claim(name) else { return };
        let (run, name) = (self.clone(), Arc::<str>::from(name));
        tokio::spawn(async move {
            let conductor = Conductor { run: run.clone(), name: name.clone(), stop, writing: Arc::default() };
            conductor.conduct().await;
            let job = run.jobs.executions.find(&name).map(|held| held.value.job_name());
            run.jobs.release(&name);
            if let Some(Err(error)) = match job {
                Some(job) => Some(run.collect_executions(&job).await),
                None => None,
            } {
                tracing::warn!("old executions are not deleted: {error:?}");
            }
        });
    }
}

impl Conductor {
    async fn conduct(self) {
        let Some(execution) = self.present().filter(|execution| !execution.is_over()) else { return };
        if execution.wish() == Wish::Run && !self.prepare(&execution).await {
            return;
        }
        self.conduct_tasks().await;
        self.store_end().await;
    }

    /// The execution as it is now.
    fn present(&self) -> Option<Execution> {
        self.run.jobs.executions.find(&self.name).map(|held| held.value.clone())
    }

    pub(super) fn task_name(&self, index: u32) -> String {
        let id = self.name.rsplit('/').next().unwrap_or_default();
        format!("{}/tasks/{id}-task{index}", self.name)
    }

    /// Finds what the tasks need, once. Whether it is all there.
    async fn prepare(&self, execution: &Execution) -> bool {
        if !execution.image_digests.is_empty() {
            return true;
        }
        match self.run.prepare_task(&execution.project, &execution.template()).await {
            Ok(digests) => {
                self.store_prepared(digests).await;
                true
            }
            Err(failure) => {
                let code = plan::code_of(failure.reason);
                self.store_unprepared(failure, code).await;
                false
            }
        }
    }

    /// Brings every task to its end, or as far as a cancellation lets it.
    async fn conduct_tasks(&self) {
        let Some(execution) = self.present() else { return };
        let width = rules::width(&execution.template()) as usize;
        let mut left = (0..execution.task_count()).filter(|index| self.is_left(&execution, *index));
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < width
                && let Some(index) = left.next()
            {
                let conductor = self.clone();
                under_way.spawn(async move { conductor.conduct_task(index).await });
            }
            if under_way.join_next().await.is_none() {
                return;
            }
        }
    }

    /// Whether a task has something to come: when the execution is cancelled, only what had begun is still ended.
    fn is_left(&self, execution: &Execution, index: u32) -> bool {
        match self.run.task_of(execution, index).0.state() {
            TaskState::Pending | TaskState::Abandoned => !self.is_stopped(),
            TaskState::Running => true,
            _ => false,
        }
    }

    /// Tries a task until it succeeds, fails for good or is stopped.
    async fn conduct_task(&self, index: u32) {
        let Some(execution) = self.present() else { return };
        let retries = execution.template().max_retries.unwrap_or_default();
        let (task, _) = self.run.task_of(&execution, index);
        let mut number = task.retried;
        let mut interrupted = task.state() == TaskState::Running;
        loop {
            let outcome = match (interrupted, self.is_stopped()) {
                (_, true) if interrupted || number > 0 => Outcome::Stopped,
                (_, true) => return,
                (true, false) => Outcome::Failed(failed(Code::Unavailable, words::INTERRUPTED)),
                (false, false) => {
                    if number == 0 {
                        self.store_step(index, &Step::Begin).await;
                    }
                    self.attempt(&execution, index, number).await
                }
            };
            interrupted = false;
            let step = match outcome {
                Outcome::Failed(attempt) if number < retries => Step::Again(attempt),
                Outcome::Failed(attempt) => Step::End(TaskState::Failed, attempt),
                Outcome::Succeeded => Step::End(TaskState::Succeeded, Attempt::default()),
                Outcome::Stopped => {
                    Step::End(TaskState::Cancelled, failed(Code::Cancelled, words::CANCELLED))
                }
            };
            self.store_step(index, &step).await;
            if !matches!(step, Step::Again(_)) {
                return;
            }
            number += 1;
        }
    }

    /// Runs a task's container once.
    async fn attempt(&self, execution: &Execution, index: u32, number: u32) -> Outcome {
        let started = self.start(execution, index, number).await;
        if self.run.fleet.is_closed() {
            // Haar is stopping, which says nothing about the task. The next start goes on.
            std::future::pending::<()>().await;
        }
        let (source, memory, running) = match started {
            Ok(started) => started,
            Err(why) => return Outcome::Failed(failed(Code::Aborted, &why)),
        };
        let timeout = execution.template().task().timeout_seconds;
        let outcome = tokio::select! {
            exit = running.ended() => self.judge(&source, exit, memory),
            () = self.stopped() => {
                running.stop(GRACE).await;
                Outcome::Stopped
            }
            () = sleep(Duration::from_secs(timeout.into())) => {
                self.run.ports.logs.line(&source, LogStream::System, &words::terminating(timeout));
                running.stop(GRACE).await;
                Outcome::Failed(failed(Code::DeadlineExceeded, words::TIMED_OUT))
            }
        };
        if self.run.fleet.is_closed() {
            std::future::pending::<()>().await;
        }
        outcome
    }

    /// Starts a task's container: whose output it is, what memory it may have, and the container.
    async fn start(
        &self,
        execution: &Execution,
        index: u32,
        attempt: u32,
    ) -> Result<(LogSource, u64, Arc<dyn Running>), String> {
        let source = source(execution, index, attempt)?;
        let task = execution.template().task();
        let container = task.containers.first().ok_or("the job has no container")?;
        let order = Order {
            source: source.clone(),
            service_account: &task.service_account,
            container,
            digest: execution.image_digests.first().map(String::as_str),
            volumes: &task.volumes,
            port: 0,
            variables: rules::variables(execution, index, attempt),
        };
        let plan = plan::one(&self.run, order).await.map_err(|failure| failure.message)?;
        let memory = plan.memory;
        match self.run.fleet.start_task(plan).await {
            Ok(running) => Ok((source, memory, running)),
            Err(why) => {
                self.run.ports.logs.line(&source, LogStream::System, &why);
                Err(why)
            }
        }
    }

    /// What the end of a container means, which the log is told as well.
    fn judge(&self, source: &LogSource, exit: Exit, memory: u64) -> Outcome {
        if let Some(remark) = remark(exit, memory) {
            self.run.ports.logs.line(source, LogStream::System, &remark);
        }
        let attempt = match exit {
            Exit::Code(0) => return Outcome::Succeeded,
            Exit::Code(exit_code) => Attempt { exit_code, ..failed(Code::Aborted, words::EXITED) },
            Exit::Signal(signal) => Attempt { signal, ..failed(Code::Aborted, words::SIGNALLED) },
            Exit::OutOfMemory => failed(Code::ResourceExhausted, words::OUT_OF_MEMORY),
        };
        Outcome::Failed(attempt)
    }

    fn is_stopped(&self) -> bool {
        let is_cancelled = || {
            let held = self.run.jobs.executions.find(&self.name);
            held.is_some_and(|held| held.value.wish() == Wish::Cancel)
        };
        *self.stop.borrow() == Wish::Cancel || is_cancelled()
    }

    /// Resolves when the execution is cancelled.
    async fn stopped(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|wish| *wish == Wish::Cancel).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn failed(code: Code, message: &str) -> Attempt {
    Attempt { code: code as i32, message: message.to_owned(), ..Attempt::default() }
}

/// A new instance of a task, for its log.
fn source(execution: &Execution, index: u32, attempt: u32) -> Result<LogSource, String> {
    let instance = crate::rules::instance_id().map_err(|error| error.message().to_owned())?;
    let owner = Owner::Task {
        job: execution.job.as_str().into(),
        execution: execution.name.as_str().into(),
        index,
        attempt,
    };
    let (project, region) = (execution.project.as_str().into(), execution.region.as_str().into());
    Ok(LogSource { project, region, owner, instance: instance.into(), container: "".into() })
}
