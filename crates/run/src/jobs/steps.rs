//! The steps of an execution as they are stored. Each is one transaction over the execution and, where it is about
//! one, the task; they are the conductor's alone, apart from the wish to cancel.

use std::time::Duration;

use kernel::{Code, Result, mirror::Record, store::Txn};
use prost_types::Timestamp;

use super::{
    conduct::Conductor,
    record::{Attempt, Execution, Task, TaskState, Wish},
    words,
};
use crate::{
    reconcile::Failure,
    record::{Condition, State},
};

/// How long to wait before a step is stored again that the store refused, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Does something until the store takes it, or it is about nothing any more.
pub(super) async fn persist<R: Future<Output = Result<()>>>(name: &str, mut step: impl FnMut() -> R) {
    let mut pause = PAUSE;
    loop {
        match step().await {
            Err(error) if error.code() == Code::NotFound => return,
            Err(error) => tracing::warn!("{name}: {error:?}"),
            Ok(()) => return,
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// How a task went on.
pub(super) enum Step {
    /// An attempt begins.
    Begin,
    /// An attempt failed, and there will be another.
    Again(Attempt),
    /// It has ended.
    End(TaskState, Attempt),
}

impl Conductor {
    /// Stores that the images are here and that there is room.
    pub(super) async fn store_prepared(&self, digests: Vec<String>) {
        self.store(|execution, now| {
            execution.image_digests = digests.clone();
            execution.container_ready = Some(yes(words::IMPORTED.into(), now));
            execution.resources_available = Some(yes(words::PROVISIONED.into(), now));
            let waiting = Condition { message: words::WAITING.into(), ..unknown(now) };
            execution.completed = Some(waiting);
            Txn::new()
        })
        .await;
    }

    /// Stores that it cannot begin.
    pub(super) async fn store_unprepared(&self, failure: Failure, code: Code) {
        self.store(|execution, now| {
            let condition = Condition { since: Some(now), ..failure.clone().into_condition() };
            for state in [
                &mut execution.container_ready,
                &mut execution.resources_available,
                &mut execution.has_started,
                &mut execution.completed,
            ] {
                *state = Some(condition.clone());
            }
            execution.failure_code = code as i32;
            execution.ended = Some(now);
            Txn::new()
        })
        .await;
    }

    /// Stores a task's step.
    pub(super) async fn store_step(&self, index: u32, step: &Step) {
        let key = self.run.jobs.tasks.key(&self.task_name(index));
        self.store(|execution, now| {
            let mut task = self.run.task_of(execution, index).0;
            if take(execution, &mut task, step, now).is_first() {
                let since = execution.created.map_or(Duration::ZERO, |created| between(created, now));
                execution.started = Some(now);
                execution.has_started = Some(yes(words::started(since), now));
            }
            Txn::new().put(&*key, task.to_stored())
        })
        .await;
    }

    /// Stores how it ended, once no task runs or will.
    pub(super) async fn store_end(&self) {
        self.store(|execution, now| {
            let (condition, code) = self.verdict(execution, now);
            if execution.has_started.as_ref().is_none_or(|started| started.state() == State::Unknown) {
                execution.has_started = Some(condition.clone());
            }
            execution.completed = Some(condition);
            execution.failure_code = code;
            execution.ended = Some(now);
            Txn::new()
        })
        .await;
    }

    /// How it came out, and the code that its operation fails with.
    fn verdict(&self, execution: &Execution, now: Timestamp) -> (Condition, i32) {
        let count = execution.task_count();
        if execution.succeeded == count {
            return (yes(succeeded(execution, now), now), 0);
        }
        if execution.wish() == Wish::Cancel && execution.succeeded + execution.failed < count {
            return (no("Cancelled", words::CANCELLED.into(), now), 0);
        }
        match self.first_failure(execution) {
            Some((message, code)) => (no("NonZeroExitCode", message, now), code),
            None => (no("Internal", "Internal error encountered.".into(), now), Code::Internal as i32),
        }
    }

    /// What is said of the first task that failed for good.
    fn first_failure(&self, execution: &Execution) -> Option<(String, i32)> {
        let failed = |index: &u32| self.run.task_of(execution, *index).0.state() == TaskState::Failed;
        let index = (0..execution.task_count()).filter(|_| execution.failed > 0).find(failed)?;
        let last = self.run.task_of(execution, index).0.last.unwrap_or_default();
        Some((words::failed(&execution.task_id(index), last.exit_code, &last.message), last.code))
    }

    /// Changes the execution, and what goes with it, however often the store refuses.
    async fn store(&self, change: impl Fn(&mut Execution, Timestamp) -> Txn) {
        // One at a time: they would only get in each other's way.
        let _mine = self.writing.lock().await;
        persist(&self.name, || async {
            let now = self.run.ports.clock.timestamp();
            let change = |execution: &mut Execution| {
                let also = change(execution, now);
                execution.updated = Some(now);
                Ok(also)
            };
            let stored = self.run.jobs.executions.update_with(&self.name, "", change).await?;
            // The kinds are mirrored apart.
            self.run.jobs.tasks.mirror().wait_for(stored.revision).await
        })
        .await;
    }
}

/// Whether an attempt was the first of an execution.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    First,
    Later,
}

impl Order {
    fn is_first(self) -> bool {
        self == Order::First
    }
}

/// Takes a task's step in both records.
fn take(execution: &mut Execution, task: &mut Task, step: &Step, now: Timestamp) -> Order {
    let was_running = task.state() == TaskState::Running;
    let mut order = Order::Later;
    match step {
        Step::Begin => {
            order = if execution.started.is_none() { Order::First } else { Order::Later };
            task.started.get_or_insert(now);
            task.state = TaskState::Running.into();
            if task.uid.is_empty() {
                task.uid = crate::rules::new_uid().unwrap_or_default();
            }
        }
        Step::Again(attempt) => {
            task.last = Some(attempt.clone());
            task.retried += 1;
            execution.retried += 1;
        }
        Step::End(state, attempt) => {
            task.last = Some(attempt.clone());
            task.state = (*state).into();
            task.ended = Some(now);
            match state {
                TaskState::Succeeded => execution.succeeded += 1,
                TaskState::Cancelled => execution.cancelled += 1,
                _ => execution.failed += 1,
            }
        }
    }
    task.updated = Some(now);
    match (was_running, task.state() == TaskState::Running) {
        (false, true) => execution.running += 1,
        (true, false) => execution.running = execution.running.saturating_sub(1),
        _ => {}
    }
    order
}

fn succeeded(execution: &Execution, now: Timestamp) -> String {
    words::succeeded(execution.started.map_or(Duration::ZERO, |started| between(started, now)))
}

/// From one moment to a later one.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    let at = |time: Timestamp| std::time::SystemTime::try_from(time).ok();
    at(from).zip(at(to)).and_then(|(from, to)| to.duration_since(from).ok()).unwrap_or_default()
}

fn yes(message: String, now: Timestamp) -> Condition {
    Condition { state: State::True.into(), message, since: Some(now), ..Condition::default() }
}

fn no(reason: &str, message: String, now: Timestamp) -> Condition {
    Condition { state: State::False.into(), reason: reason.into(), message, since: Some(now) }
}

fn unknown(now: Timestamp) -> Condition {
    Condition { state: State::Unknown.into(), since: Some(now), ..Condition::default() }
}
