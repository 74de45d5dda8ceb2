//! Jobs: containers that run to their end.
//!
//! A job is what somebody asked for; an execution is one run of it, frozen when it is created; a task is one of the
//! containers that the run consists of, numbered from 0, and may be attempted more than once. All three are
//! [records](record) of our own. Whoever runs a job is answered when its execution is stored; one conductor an
//! execution then starts tasks, as many at once as may be, and writes down each step before the next, so that a haar
//! that was killed goes on where it stopped.
//!
//! # Where it differs from Google
//! - An attempt that a restart of haar interrupts has failed: it is retried if the job's retries allow it.
//! - At most [`MOST_AT_ONCE`](rules::MOST_AT_ONCE) tasks of an execution run at once: this is one machine.
//! - Several containers a task, GPUs, VPC access and delayed starts are refused.

mod conduct;
mod engine;
mod executions;
pub mod record;
mod recovery;
pub(crate) mod rules;
mod steps;
pub(crate) mod words;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kernel::{Result, collection::Collection, collection::Wording, store::Store};
use tokio::sync::watch;

pub(crate) use engine::{DesiredJob, JobPlace};
pub(crate) use executions::{ContainerOverride, Overrides};
use record::{Execution, Job, Task, Wish};

/// What there is of jobs.
pub(crate) struct Jobs {
    pub(crate) jobs: Collection<Job>,
    pub(crate) executions: Collection<Execution>,
    /// The tasks that have begun; see [`Execution::task`] for the others.
    pub(crate) tasks: Collection<Task>,
    /// The executions that are conducted, by name, each with what tells its conductor to stop.
    conducted: Mutex<HashMap<String, watch::Sender<Wish>>>,
}

impl Jobs {
    /// Opens what is stored.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn open(store: &Arc<dyn Store>) -> Result<Jobs> {
        Ok(Jobs {
            jobs: Collection::open(store.clone(), "run/jobs/", crate::words::missing("Job")).await?,
            executions: Collection::open(
                store.clone(),
                "run/executions/",
                crate::words::missing("Execution"),
            )
            .await?,
            tasks: Collection::open(store.clone(), "run/tasks/", Wording::of("Task")).await?,
            conducted: Mutex::default(),
        })
    }

    /// Notes that an execution is conducted from now on; nothing when it is already.
    fn claim(&self, name: &str) -> Option<watch::Receiver<Wish>> {
        let mut conducted = self.conducted.lock().unwrap_or_else(PoisonError::into_inner);
        if conducted.contains_key(name) {
            return None;
        }
        let (tell, told) = watch::channel(Wish::Run);
        conducted.insert(name.to_owned(), tell);
        Some(told)
    }

    fn release(&self, name: &str) {
        self.conducted.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Tells an execution's conductor to stop.
    fn stop(&self, name: &str) {
        let conducted = self.conducted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = conducted.get(name) {
            tell.send_replace(Wish::Cancel);
        }
    }

    /// Resolves when nobody conducts an execution any more.
    async fn released(&self, name: &str) {
        let tell = {
            let conducted = self.conducted.lock().unwrap_or_else(PoisonError::into_inner);
            conducted.get(name).cloned()
        };
        if let Some(tell) = tell {
            tell.closed().await;
        }
    }
}
