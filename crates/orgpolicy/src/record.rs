//! What is stored of policies, under `orgpolicy/CONTAINER/CONSTRAINT`, with a project by its id:
//! `orgpolicy/projects/my-project/run.allowedIngress`. Fields may be added, never renumbered or given another meaning.

use kernel::mirror::Record;

/// Where policies lie.
pub(crate) const POLICIES: &str = "orgpolicy/";

/// A policy: what it says, and what it would say.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PolicyRecord {
    /// What is enforced.
    #[prost(message, optional, tag = "1")]
    pub(crate) spec: Option<SpecRecord>,
    /// What is only tried out.
    #[prost(message, optional, tag = "2")]
    pub(crate) dry_run: Option<SpecRecord>,
}

impl Record for PolicyRecord {
    const FORMAT: u8 = 1;
}

/// What a policy says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SpecRecord {
    /// When it was set, in microseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub(crate) update_time: u64,
    /// The rules.
    #[prost(message, repeated, tag = "2")]
    pub(crate) rules: Vec<RuleRecord>,
    /// Whether what stands above counts too.
    #[prost(bool, tag = "3")]
    pub(crate) inherit: bool,
    /// Whether the constraint is as if nobody had set it.
    #[prost(bool, tag = "4")]
    pub(crate) reset: bool,
}

/// A rule.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RuleRecord {
    /// What it says.
    #[prost(enumeration = "Says", tag = "1")]
    pub(crate) says: i32,
    /// The values it allows, as they were given.
    #[prost(string, repeated, tag = "2")]
    pub(crate) allowed: Vec<String>,
    /// The values it denies, as they were given.
    #[prost(string, repeated, tag = "3")]
    pub(crate) denied: Vec<String>,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Says {
    /// Some values are allowed, or denied.
    Values = 0,
    /// All values are allowed.
    AllowAll = 1,
    /// All values are denied.
    DenyAll = 2,
    /// A boolean constraint is enforced.
    Enforce = 3,
    /// A boolean constraint is not enforced.
    Leave = 4,
}
