//! What is stored: instances, the servers that run them, and what an operation is about.

use kernel::mirror::Record;
use prost_types::Timestamp;

/// Where instances are kept.
pub(crate) const INSTANCES: &str = "sql/instances/";
/// Where the servers that were started are remembered.
pub(crate) const SERVERS: &str = "sql/servers/";

/// An instance, under `projects/P/instances/I`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InstanceRecord {
    /// Names its directories: 16 hex digits, never used twice.
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(string, tag = "2")]
    pub(crate) region: String,
    #[prost(string, tag = "3")]
    pub(crate) zone: String,
    /// PostgreSQL's major version.
    #[prost(uint32, tag = "4")]
    pub(crate) major: u32,
    /// `google.cloud.sql.v1beta4.Settings` as the client gave it with the defaults filled in, in its bytes: what is not
    /// changed is never decoded and encoded again.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) settings: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) settings_version: i64,
    #[prost(enumeration = "State", tag = "7")]
    pub(crate) state: i32,
    #[prost(message, optional, tag = "8")]
    pub(crate) created: Option<Timestamp>,
    #[prost(string, tag = "9")]
    pub(crate) service_account: String,
    /// The SCRAM verifier of `postgres`, until the role exists.
    #[prost(string, tag = "10")]
    pub(crate) root_verifier: String,
    /// As PostgreSQL states it, such as `15.18`.
    #[prost(string, tag = "11")]
    pub(crate) installed: String,
}

impl Record for InstanceRecord {
    const FORMAT: u8 = 1;
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum State {
    /// Its cluster is being made.
    Creating = 0,
    /// It runs, or is started again.
    Runnable = 1,
    /// It is being deleted.
    Deleting = 2,
    /// Its cluster could not be made.
    Failed = 3,
}

impl State {
    /// What Cloud SQL calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Creating => "PENDING_CREATE",
            State::Runnable => "RUNNABLE",
            State::Deleting => "PENDING_DELETE",
            State::Failed => "FAILED",
        }
    }
}

/// A server that was started: enough to know it again.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServerRecord {
    #[prost(int32, tag = "1")]
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the machine did.
    #[prost(uint64, tag = "2")]
    pub(crate) started: u64,
}

impl Record for ServerRecord {
    const FORMAT: u8 = 1;
}

/// What an operation is about; the metadata that is kept with it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JobRecord {
    /// `google.cloud.sql.v1beta4.Operation.SqlOperationType`.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, tag = "3")]
    pub(crate) instance: String,
    #[prost(string, tag = "4")]
    pub(crate) user: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) inserted: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub(crate) ended: Option<Timestamp>,
}

/// What a job's message is called inside its `Any`.
pub(crate) const JOB: &str = "haar.sql.Job";
