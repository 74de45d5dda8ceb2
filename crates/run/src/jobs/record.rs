//! What is stored of jobs, executions and tasks.
//!
//! As with services, the records are ours; field numbers are never used again. A task is stored when it begins: one
//! that has not begun is known from its execution alone, so that an execution of ten thousand tasks is one write.

use std::collections::BTreeMap;

use kernel::{Resource, mirror::Record};
use prost::{Enumeration, Message};
use prost_types::Timestamp;

use crate::{
    engine::RUN,
    record::{Condition, State, Template},
};

/// A job: what was asked for.
#[derive(Clone, PartialEq, Message)]
pub struct Job {
    /// The project's id.
    #[prost(string, tag = "1")]
    pub project: String,
    /// The region.
    #[prost(string, tag = "2")]
    pub region: String,
    /// Its own name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// A UUID that no other job ever has.
    #[prost(string, tag = "4")]
    pub uid: String,
    /// Counts changes of what is asked for.
    #[prost(int64, tag = "5")]
    pub generation: i64,
    /// When it was made.
    #[prost(message, optional, tag = "6")]
    pub created: Option<Timestamp>,
    /// When what is asked for was last changed.
    #[prost(message, optional, tag = "7")]
    pub updated: Option<Timestamp>,
    /// Who made it, by e-mail address.
    #[prost(string, tag = "8")]
    pub creator: String,
    /// Who last changed it.
    #[prost(string, tag = "9")]
    pub last_modifier: String,
    /// People's labels.
    #[prost(btree_map = "string, string", tag = "10")]
    pub labels: BTreeMap<String, String>,
    /// People's annotations.
    #[prost(btree_map = "string, string", tag = "11")]
    pub annotations: BTreeMap<String, String>,
    /// What made the last change, such as `gcloud`, and its version.
    #[prost(string, tag = "12")]
    pub client: String,
    /// See `client`.
    #[prost(string, tag = "13")]
    pub client_version: String,
    /// The launch stage as v2 numbers it.
    #[prost(int32, tag = "14")]
    pub launch_stage: i32,
    /// What its next execution is made of.
    #[prost(message, optional, tag = "15")]
    pub template: Option<JobTemplate>,
    /// The generation that `ready` speaks of.
    #[prost(int64, tag = "16")]
    pub observed_generation: i64,
    /// Whether it can be run.
    #[prost(message, optional, tag = "17")]
    pub ready: Option<Condition>,
    /// How many executions it has had.
    #[prost(int32, tag = "18")]
    pub execution_count: i32,
    /// The name of the newest execution.
    #[prost(string, tag = "19")]
    pub latest_execution: String,
    /// When that was created.
    #[prost(message, optional, tag = "20")]
    pub latest_created: Option<Timestamp>,
    /// The execution that changing it asks for.
    #[prost(message, optional, tag = "21")]
    pub token: Option<Token>,
    /// The token that last began an execution: it begins no other.
    #[prost(string, tag = "22")]
    pub spent_token: String,
}

/// An execution that a job's change asks for.
#[derive(Clone, PartialEq, Message)]
pub struct Token {
    /// What its name ends with.
    #[prost(string, tag = "1")]
    pub text: String,
    /// What the job waits for to be ready.
    #[prost(enumeration = "Until", tag = "2")]
    pub until: i32,
}

/// What executions are made of.
#[derive(Clone, PartialEq, Message)]
pub struct JobTemplate {
    /// People's labels.
    #[prost(btree_map = "string, string", tag = "1")]
    pub labels: BTreeMap<String, String>,
    /// People's annotations.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// How many tasks run at once; 0: as many as can.
    #[prost(uint32, tag = "3")]
    pub parallelism: u32,
    /// How many tasks there are. Never 0 once stored.
    #[prost(uint32, tag = "4")]
    pub task_count: u32,
    /// How often a task that fails is tried again. Always there once stored.
    #[prost(uint32, optional, tag = "5")]
    pub max_retries: Option<u32>,
    /// Containers, volumes, account, execution environment, and how long an attempt may take; nothing else of it is
    /// used.
    #[prost(message, optional, tag = "6")]
    pub task: Option<Template>,
}

/// One run of a job.
#[derive(Clone, PartialEq, Message)]
pub struct Execution {
    /// The project's id.
    #[prost(string, tag = "1")]
    pub project: String,
    /// The region.
    #[prost(string, tag = "2")]
    pub region: String,
    /// The job's name.
    #[prost(string, tag = "3")]
    pub job: String,
    /// Its own name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// A UUID.
    #[prost(string, tag = "5")]
    pub uid: String,
    /// The job's UUID: an execution of a job that is gone is nobody's.
    #[prost(string, tag = "6")]
    pub job_uid: String,
    /// The job's generation when this was created.
    #[prost(int64, tag = "7")]
    pub job_generation: i64,
    /// When it was created.
    #[prost(message, optional, tag = "8")]
    pub created: Option<Timestamp>,
    /// When its first task began.
    #[prost(message, optional, tag = "9")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[prost(message, optional, tag = "10")]
    pub ended: Option<Timestamp>,
    /// When it last changed.
    #[prost(message, optional, tag = "11")]
    pub updated: Option<Timestamp>,
    /// Who ran it.
    #[prost(string, tag = "12")]
    pub creator: String,
    /// The job's template with this run's overrides.
    #[prost(message, optional, tag = "13")]
    pub template: Option<JobTemplate>,
    /// The digest of each container's image, found when the run began.
    #[prost(string, repeated, tag = "14")]
    pub image_digests: Vec<String>,
    /// Whether all tasks have succeeded.
    #[prost(message, optional, tag = "15")]
    pub completed: Option<Condition>,
    /// Whether there is room for its tasks.
    #[prost(message, optional, tag = "16")]
    pub resources_available: Option<Condition>,
    /// Whether its first task has begun.
    #[prost(message, optional, tag = "17")]
    pub has_started: Option<Condition>,
    /// Whether its images are here.
    #[prost(message, optional, tag = "18")]
    pub container_ready: Option<Condition>,
    /// What is to become of it.
    #[prost(enumeration = "Wish", tag = "19")]
    pub wish: i32,
    /// Tasks that run.
    #[prost(uint32, tag = "20")]
    pub running: u32,
    /// Tasks that have succeeded.
    #[prost(uint32, tag = "21")]
    pub succeeded: u32,
    /// Tasks that have failed for good.
    #[prost(uint32, tag = "22")]
    pub failed: u32,
    /// Tasks that were stopped by a cancellation.
    #[prost(uint32, tag = "23")]
    pub cancelled: u32,
    /// Attempts that were not the first of their task.
    #[prost(uint32, tag = "24")]
    pub retried: u32,
    /// The code that the run's operation fails with, when it has failed.
    #[prost(int32, tag = "25")]
    pub failure_code: i32,
    /// The launch stage as v2 numbers it.
    #[prost(int32, tag = "26")]
    pub launch_stage: i32,
}

/// A task that has begun.
#[derive(Clone, PartialEq, Message)]
pub struct Task {
    /// Which of the execution's tasks.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// A UUID.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// When its first attempt began.
    #[prost(message, optional, tag = "3")]
    pub started: Option<Timestamp>,
    /// When it ended for good.
    #[prost(message, optional, tag = "4")]
    pub ended: Option<Timestamp>,
    /// When it last changed.
    #[prost(message, optional, tag = "5")]
    pub updated: Option<Timestamp>,
    /// How far it is.
    #[prost(enumeration = "TaskState", tag = "6")]
    pub state: i32,
    /// How often it was tried again.
    #[prost(uint32, tag = "7")]
    pub retried: u32,
    /// How its last attempt ended, if one has.
    #[prost(message, optional, tag = "8")]
    pub last: Option<Attempt>,
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Message)]
pub struct Attempt {
    /// The container's exit code; 0 when it has none.
    #[prost(int32, tag = "1")]
    pub exit_code: i32,
    /// The signal that ended it; 0 when none did.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// One of Google's canonical codes; 0 when it succeeded.
    #[prost(int32, tag = "3")]
    pub code: i32,
    /// What went wrong, as a sentence.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// What is to become of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Wish {
    /// It runs to its end.
    Run = 0,
    /// It stops.
    Cancel = 1,
}

/// What a job waits for that asks for an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Until {
    /// That its first task has begun.
    Started = 0,
    /// That all its tasks have succeeded.
    Completed = 1,
}

/// How far a task is; the names are those of the label `run.googleapis.com/runningState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TaskState {
    /// It has not begun.
    Pending = 0,
    /// It runs, or is about to again.
    Running = 1,
    /// Its last attempt succeeded.
    Succeeded = 2,
    /// Its last attempt failed, and there are no more.
    Failed = 3,
    /// It was stopped.
    Cancelled = 4,
    /// It never began, and never will.
    Abandoned = 5,
}

impl Record for Job {
    const FORMAT: u8 = 1;
}

impl Record for Execution {
    const FORMAT: u8 = 1;
}

impl Record for Task {
    const FORMAT: u8 = 1;
}

impl Job {
    /// `projects/P/locations/R/jobs/J`.
    pub fn resource_name(&self) -> String {
        format!("projects/{}/locations/{}/jobs/{}", self.project, self.region, self.name)
    }

    /// What a change must name to be a change of this: new with each generation, and not with each execution.
    pub fn etag(&self) -> String {
        kernel::etag::of_content(format!("{} {}", self.uid, self.generation).as_bytes())
    }

    /// The job as permission checks see it.
    pub fn resource(&self) -> Resource {
        Resource::new(RUN, self.resource_name())
    }
}

impl JobTemplate {
    /// The template of its tasks.
    pub fn task(&self) -> Template {
        self.task.clone().unwrap_or_default()
    }
}

impl Execution {
    /// `projects/P/locations/R/jobs/J/executions/E`.
    pub fn resource_name(&self) -> String {
        format!("{}/executions/{}", self.job_name(), self.name)
    }

    /// Which execution it is, whatever its state.
    pub fn etag(&self) -> String {
        kernel::etag::of_content(self.uid.as_bytes())
    }

    /// The job's resource name.
    pub fn job_name(&self) -> String {
        format!("projects/{}/locations/{}/jobs/{}", self.project, self.region, self.job)
    }

    /// `projects/P/locations/R/jobs/J/executions/E/tasks/E-taskN`.
    pub fn task_name(&self, index: u32) -> String {
        format!("{}/tasks/{}", self.resource_name(), self.task_id(index))
    }

    /// `E-taskN`.
    pub fn task_id(&self, index: u32) -> String {
        format!("{}-task{index}", self.name)
    }

    /// The present template.
    pub fn template(&self) -> JobTemplate {
        self.template.clone().unwrap_or_default()
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> u32 {
        self.template.as_ref().map_or(0, |template| template.task_count)
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.completed.as_ref().is_some_and(|completed| completed.state() != State::Unknown)
    }

    /// A task that has not begun, as it would be stored.
    pub fn pending(&self, index: u32) -> Task {
        let state = if self.is_over() { TaskState::Abandoned } else { TaskState::Pending };
        Task { index, state: state.into(), updated: self.created, ..Task::default() }
    }
}
