//! What is stored of services, worker pools and revisions.
//!
//! A worker pool is a service that takes no requests: it has a template, revisions and shares of them, and is stored as
//! one, of another [`Kind`]. Its shares are of its instances.
//!
//! The records are ours, not Google's request types: both forms of the API (v2 and the Knative form) are read
//! into them and written from them, and an older haar that rewrites a record keeps what it does not know out of
//! harm's way by refusing newer data directories. Field numbers are never used again.

use std::collections::BTreeMap;

use prost::{Enumeration, Message};
use prost_types::Timestamp;

mod template;

pub use template::*;

/// A service or a worker pool: what was asked for, and what has become of it.
#[derive(Clone, PartialEq, Message)]
pub struct Service {
    /// The project's id.
    #[prost(string, tag = "1")]
    pub project: String,
    /// The region, such as `us-central1`.
    #[prost(string, tag = "2")]
    pub region: String,
    /// The service's own name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// A UUID that no other service ever has.
    #[prost(string, tag = "4")]
    pub uid: String,
    /// Counts changes of what is asked for.
    #[prost(int64, tag = "5")]
    pub generation: i64,
    /// When it was made.
    #[prost(message, optional, tag = "6")]
    pub created: Option<Timestamp>,
    /// When it was last changed.
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
    /// People's annotations; the system's own are fields of their own.
    #[prost(btree_map = "string, string", tag = "11")]
    pub annotations: BTreeMap<String, String>,
    /// A sentence for people.
    #[prost(string, tag = "12")]
    pub description: String,
    /// From where requests may come.
    #[prost(enumeration = "Ingress", tag = "13")]
    pub ingress: i32,
    /// Whether anybody may call it, whatever its policy says.
    #[prost(bool, tag = "14")]
    pub invoker_iam_disabled: bool,
    /// Whether it has no address of its own.
    #[prost(bool, tag = "15")]
    pub default_uri_disabled: bool,
    /// Audiences accepted in identity tokens, besides its address.
    #[prost(string, repeated, tag = "16")]
    pub custom_audiences: Vec<String>,
    /// What its next revision is made of.
    #[prost(message, optional, tag = "17")]
    pub template: Option<Template>,
    /// Where requests should go, or of which revisions instances should be. Empty: all to the latest revision.
    #[prost(message, repeated, tag = "18")]
    pub traffic: Vec<Traffic>,
    /// Instances over all revisions that are kept; Cloud Run's service-level scaling.
    #[prost(message, optional, tag = "19")]
    pub scaling: Option<Scaling>,
    /// What made the last change, such as `gcloud`, and its version.
    #[prost(string, tag = "20")]
    pub client: String,
    /// See `client`.
    #[prost(string, tag = "21")]
    pub client_version: String,
    /// `run.googleapis.com/launch-stage` as v2 numbers it.
    #[prost(int32, tag = "22")]
    pub launch_stage: i32,
    /// Which of the two it is.
    #[prost(enumeration = "Kind", tag = "23")]
    pub kind: i32,

    /// The generation that the rest speaks of.
    #[prost(int64, tag = "30")]
    pub observed_generation: i64,
    /// The newest revision.
    #[prost(string, tag = "31")]
    pub latest_created: String,
    /// The newest revision that could serve.
    #[prost(string, tag = "32")]
    pub latest_ready: String,
    /// The same as it really is.
    #[prost(message, repeated, tag = "33")]
    pub serving: Vec<Traffic>,
    /// Whether all is as asked for.
    #[prost(message, optional, tag = "34")]
    pub ready: Option<Condition>,
    /// Whether its latest revision could serve.
    #[prost(message, optional, tag = "35")]
    pub configurations_ready: Option<Condition>,
    /// Whether requests go where they should.
    #[prost(message, optional, tag = "36")]
    pub routes_ready: Option<Condition>,
    /// The number that the next generated revision name gets.
    #[prost(uint32, tag = "37")]
    pub next_revision: u32,
    /// The operation that is carrying out the last change.
    #[prost(string, tag = "38")]
    pub operation: String,
}

/// A revision: a template that was frozen, and whether it can serve.
#[derive(Clone, PartialEq, Message)]
pub struct Revision {
    /// The project's id.
    #[prost(string, tag = "1")]
    pub project: String,
    /// The region.
    #[prost(string, tag = "2")]
    pub region: String,
    /// The service it belongs to.
    #[prost(string, tag = "3")]
    pub service: String,
    /// Its own name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// A UUID.
    #[prost(string, tag = "5")]
    pub uid: String,
    /// The generation of the service that made it.
    #[prost(int64, tag = "6")]
    pub service_generation: i64,
    /// When it was made.
    #[prost(message, optional, tag = "7")]
    pub created: Option<Timestamp>,
    /// When its state last changed.
    #[prost(message, optional, tag = "8")]
    pub updated: Option<Timestamp>,
    /// Who made it.
    #[prost(string, tag = "9")]
    pub creator: String,
    /// What it runs.
    #[prost(message, optional, tag = "10")]
    pub template: Option<Template>,
    /// The digest of each container's image, in the containers' order, found when the revision was made: a tag
    /// that moves later never changes a revision.
    #[prost(string, repeated, tag = "11")]
    pub image_digests: Vec<String>,
    /// Whether it can serve.
    #[prost(message, optional, tag = "12")]
    pub ready: Option<Condition>,
    /// The service's UID, for owner references.
    #[prost(string, tag = "13")]
    pub service_uid: String,
    /// What it is a revision of.
    #[prost(enumeration = "Kind", tag = "14")]
    pub kind: i32,
}

/// What has revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// It takes requests, and has instances for as long as there are some.
    Service = 0,
    /// It takes none, and has as many instances as it was told.
    WorkerPool = 1,
}

impl Kind {
    /// What stands before its name in a resource's.
    pub fn collection(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::WorkerPool => "workerPools",
        }
    }
}

/// How many instances. `None` is not set.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Scaling {
    /// At least.
    #[prost(uint32, optional, tag = "1")]
    pub min: Option<u32>,
    /// At most.
    #[prost(uint32, optional, tag = "2")]
    pub max: Option<u32>,
    /// Exactly, when scaling is manual.
    #[prost(uint32, optional, tag = "3")]
    pub manual: Option<u32>,
}

/// A share of the requests.
#[derive(Clone, PartialEq, Message)]
pub struct Traffic {
    /// The revision; empty: the latest that is ready.
    #[prost(string, tag = "1")]
    pub revision: String,
    /// In percent; 0 for one that only has a tag.
    #[prost(uint32, tag = "2")]
    pub percent: u32,
    /// A name that gives the revision an address of its own.
    #[prost(string, tag = "3")]
    pub tag: String,
    /// In what really serves: whether the revision stands here because it is the latest.
    #[prost(bool, tag = "4")]
    pub latest: bool,
}

/// One of the states that clients wait for.
#[derive(Clone, PartialEq, Message)]
pub struct Condition {
    /// Which way it is.
    #[prost(enumeration = "State", tag = "1")]
    pub state: i32,
    /// Why, as a word: `HealthCheckContainerError`, `RevisionFailed`, …; empty when all is well.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Why, as a sentence.
    #[prost(string, tag = "3")]
    pub message: String,
    /// Since when.
    #[prost(message, optional, tag = "4")]
    pub since: Option<Timestamp>,
}

/// The state of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum State {
    /// Not known yet: still being worked on.
    Unknown = 0,
    /// As it should be.
    True = 1,
    /// Failed.
    False = 2,
}

/// From where requests may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Ingress {
    /// Not said: from everywhere.
    Unspecified = 0,
    /// From everywhere.
    All = 1,
    /// From workloads and from inside only.
    Internal = 2,
    /// Those and load balancers.
    InternalAndLoadBalancer = 3,
}
