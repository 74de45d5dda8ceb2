//! What is stored of secrets and versions, in messages of our own.
//!
//! A secret's record lies under its name, as Google shows it; its versions lie under an id that no other secret
//! ever had. So deleting a secret is one write whatever it holds, and nothing of it can appear under a later
//! namesake:
//!
//! | key | value |
//! | --- | --- |
//! | `secrets/named/projects/NUMBER/secrets/SECRET` | [`SecretRecord`]; a regional one's name has its region |
//! | `secrets/versions/UID/NUMBER` | [`VersionRecord`], with the ciphertext if that is small |
//! | `secrets/payloads/UID/NUMBER` | the ciphertext of a larger payload |
//! | `secrets/gone/UID` | [`GoneRecord`]: a deleted secret whose versions are still to be erased |
//!
//! Fields may be added, never renumbered or given another meaning.

use std::collections::BTreeMap;

use bytes::Bytes;
use kernel::{mirror::Record, store::Key, time::Micros};

use crate::names::Place;

/// Where secrets lie, by name.
pub(crate) const NAMED: &str = "secrets/named/";
/// Where versions lie.
pub(crate) const VERSIONS: &str = "secrets/versions/";
/// Where payloads lie that are too large to stand in a version's record.
pub(crate) const PAYLOADS: &str = "secrets/payloads/";
/// Where deleted secrets wait for their versions to be erased.
pub(crate) const GONE: &str = "secrets/gone/";

/// The name of a version's record below [`VERSIONS`]. Numbers are padded, so that they sort.
pub(crate) fn version_id(uid: u64, number: u64) -> String {
    format!("{uid:016x}/{number:020}")
}

/// The number at the end of such a name.
pub(crate) fn number_in(version_id: &str) -> Option<u64> {
    version_id.rsplit('/').next()?.parse().ok()
}

/// The beginning of the names of all versions of a secret.
pub(crate) fn versions_of(uid: u64) -> String {
    format!("{uid:016x}/")
}

/// The key of a version's record.
pub(crate) fn version_key(uid: u64, number: u64) -> Key {
    [VERSIONS, &version_id(uid, number)].concat()
}

/// The key of a version's payload, where it is large.
pub(crate) fn payload_key(uid: u64, number: u64) -> Key {
    [PAYLOADS, &version_id(uid, number)].concat()
}

/// The key that says that a secret is gone.
pub(crate) fn gone_key(uid: u64) -> Key {
    format!("{GONE}{uid:016x}")
}

/// A secret, without its versions.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SecretRecord {
    /// Its id in other keys; never used again.
    #[prost(fixed64, tag = "1")]
    pub(crate) uid: u64,
    /// When it was created, in microseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub(crate) create_time: u64,
    /// Grows with every change to the secret itself, and with nothing else: adding a version writes this
    /// record too, but is no change to the secret.
    #[prost(uint64, tag = "3")]
    pub(crate) stamp: u64,
    /// How many versions were ever added: the number of the newest.
    #[prost(uint64, tag = "4")]
    pub(crate) versions: u64,
    /// What the caller chose.
    #[prost(message, required, tag = "5")]
    pub(crate) settings: Settings,
    /// The id of its project.
    #[prost(string, tag = "6")]
    pub(crate) project: String,
    /// The region it is in, of a regional one.
    #[prost(string, optional, tag = "7")]
    pub(crate) location: Option<String>,
}

impl Record for SecretRecord {
    const FORMAT: u8 = 1;
}

/// What a caller chooses of a secret. Times and lengths are in microseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Settings {
    /// Labels.
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Other names for versions.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub(crate) aliases: BTreeMap<String, u64>,
    /// Pub/Sub topics that are told of changes.
    #[prost(string, repeated, tag = "4")]
    pub(crate) topics: Vec<String>,
    /// Where the data is kept; empty for wherever Google likes. Chosen once.
    #[prost(string, repeated, tag = "5")]
    pub(crate) replicas: Vec<String>,
    /// When the secret goes away by itself.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) expires: Option<u64>,
    /// When the owner wants to be reminded to rotate it.
    #[prost(message, optional, tag = "7")]
    pub(crate) rotation: Option<Rotation>,
    /// How long a version that is to be destroyed stays recoverable.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) destroy_delay: Option<u64>,
    /// What the secret is, as a number of `Secret.SecretType`.
    #[prost(int32, tag = "9")]
    pub(crate) kind: i32,
    /// The names of the customer's keys: one for each replica, or one for a secret that has none; empty for Google's.
    #[prost(string, repeated, tag = "10")]
    pub(crate) keys: Vec<String>,
}

/// When to rotate.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Rotation {
    /// The next time.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) next: Option<u64>,
    /// How long after that each time.
    #[prost(uint64, optional, tag = "2")]
    pub(crate) period: Option<u64>,
}

impl Rotation {
    /// Whether a time that repeats has come.
    pub(crate) fn is_due(&self, now: Micros) -> bool {
        self.period.is_some_and(|period| period > 0) && self.next.is_some_and(|next| next <= now.0)
    }

    /// Moves a time that has come to the first of its repetitions that is to come.
    pub(crate) fn advance(&mut self, now: Micros) {
        if let (true, Some(next), Some(period)) = (self.is_due(now), self.next, self.period) {
            let passed = (now.0 - next) / period + 1;
            self.next = Some(next.saturating_add(passed.saturating_mul(period)));
        }
    }
}

/// A version.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct VersionRecord {
    /// When it was added, in microseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub(crate) create_time: u64,
    /// Whether it can be read.
    #[prost(enumeration = "State", tag = "2")]
    pub(crate) state: i32,
    /// When it was destroyed.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) destroyed: Option<u64>,
    /// When it will be destroyed.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) destroy_at: Option<u64>,
    /// Whether the caller sent a checksum with the payload.
    #[prost(bool, tag = "5")]
    pub(crate) checksum_given: bool,
    /// CRC32C of the payload.
    #[prost(fixed32, tag = "6")]
    pub(crate) crc32c: u32,
    /// Which master key the data key is wrapped under.
    #[prost(fixed64, tag = "7")]
    pub(crate) master_key: u64,
    /// The data key, wrapped; empty once destroyed.
    #[prost(bytes = "bytes", tag = "8")]
    pub(crate) wrapped_key: Bytes,
    /// The payload, encrypted, where it is small; else it lies under [`payload_key`].
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) ciphertext: Bytes,
    /// The customer's keys that the secret named when it was added.
    #[prost(string, repeated, tag = "10")]
    pub(crate) keys: Vec<String>,
}

impl Record for VersionRecord {
    const FORMAT: u8 = 1;
}

/// A deleted secret whose versions are still to be erased.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct GoneRecord {
    /// How many versions it had.
    #[prost(uint64, tag = "1")]
    pub(crate) versions: u64,
}

impl Record for GoneRecord {
    const FORMAT: u8 = 1;
}

/// What can be done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum State {
    /// A record of a later time than this program.
    Unknown = 0,
    /// It can be read.
    Enabled = 1,
    /// It cannot be read until it is enabled.
    Disabled = 2,
    /// It cannot be read, ever: its payload is gone.
    Destroyed = 3,
}

impl State {
    /// The name, as Google writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Unknown => "STATE_UNSPECIFIED",
            State::Enabled => "ENABLED",
            State::Disabled => "DISABLED",
            State::Destroyed => "DESTROYED",
        }
    }
}

impl Rotation {
    /// The same with another next time; `None` when nothing is left of it.
    pub(crate) fn with_next(self, next: Option<u64>) -> Option<Self> {
        Rotation { next, ..self }.some()
    }

    /// The same with another period; `None` when nothing is left of it.
    pub(crate) fn with_period(self, period: Option<u64>) -> Option<Self> {
        Rotation { period, ..self }.some()
    }

    fn some(self) -> Option<Self> {
        (self != Rotation::default()).then_some(self)
    }
}

impl SecretRecord {
    /// The name of a secret of this id where this one is, with the project's id: how policies know it.
    pub(crate) fn name_of(&self, id: &str) -> String {
        let place = Place { project: &self.project, location: self.location.as_deref() };
        [&*place.secrets(&self.project), id].concat()
    }

    /// The etag, with its quotes. Not the one that the record has from its revision, which a new version changes.
    pub(crate) fn secret_etag(&self) -> String {
        kernel::etag::quoted(self.stamp)
    }

    /// Marks a change made now: the stamp grows, whatever the clock does.
    pub(crate) fn touch(&mut self, now: Micros) {
        self.stamp = now.0.max(self.stamp + 1);
    }

    /// Whether its time has come.
    pub(crate) fn expired(&self, now: Micros) -> bool {
        self.settings.expires.is_some_and(|at| at <= now.0)
    }
}

impl VersionRecord {
    /// The state at this moment: a version whose time has come is destroyed, also before it is erased.
    pub(crate) fn state_at(&self, now: Micros) -> State {
        match self.destroy_at {
            Some(at) if at <= now.0 => State::Destroyed,
            _ => self.state(),
        }
    }
}

impl std::fmt::Debug for VersionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VersionRecord({})", self.state().name())
    }
}
