//! What is stored of a template: what instances are made of.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use super::Scaling;

/// What instances are made of.
#[derive(Clone, PartialEq, Message)]
pub struct Template {
    /// The name that the revision shall have; empty: one is generated.
    #[prost(string, tag = "1")]
    pub revision: String,
    /// People's labels.
    #[prost(btree_map = "string, string", tag = "2")]
    pub labels: BTreeMap<String, String>,
    /// People's annotations, and those of the platform that have no meaning here but must come back.
    #[prost(btree_map = "string, string", tag = "3")]
    pub annotations: BTreeMap<String, String>,
    /// How many instances.
    #[prost(message, optional, tag = "4")]
    pub scaling: Option<Scaling>,
    /// How long a request may take, in seconds.
    #[prost(uint32, tag = "5")]
    pub timeout_seconds: u32,
    /// The account that instances run as, by e-mail address. Never empty once stored.
    #[prost(string, tag = "6")]
    pub service_account: String,
    /// The containers; exactly one has a port, and a worker pool's have none.
    #[prost(message, repeated, tag = "7")]
    pub containers: Vec<Container>,
    /// How many requests an instance takes at once.
    #[prost(uint32, tag = "8")]
    pub concurrency: u32,
    /// Whether a client's requests go to the same instance while they can.
    #[prost(bool, tag = "9")]
    pub session_affinity: bool,
    /// The execution environment as v2 numbers it: 0 unspecified, 1 first, 2 second generation.
    #[prost(int32, tag = "10")]
    pub execution_environment: i32,
    /// What containers can mount.
    #[prost(message, repeated, tag = "11")]
    pub volumes: Vec<Volume>,
    /// Tells templates apart that are alike otherwise, when a new revision is asked for without a change.
    #[prost(int64, tag = "12")]
    pub edition: i64,
}

/// One container of an instance.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its name; empty where there is only one.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The image as it was asked for.
    #[prost(string, tag = "2")]
    pub image: String,
    /// Replaces the image's entrypoint, if not empty.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Replaces the image's command, if not empty.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// Its environment, in order.
    #[prost(message, repeated, tag = "5")]
    pub env: Vec<EnvVar>,
    /// CPU, as it was written: `1`, `500m`.
    #[prost(string, tag = "6")]
    pub cpu: String,
    /// Memory, as it was written: `512Mi`.
    #[prost(string, tag = "7")]
    pub memory: String,
    /// Whether CPU is only there during requests.
    #[prost(bool, tag = "8")]
    pub cpu_idle: bool,
    /// Whether more CPU is there while it starts.
    #[prost(bool, tag = "9")]
    pub startup_cpu_boost: bool,
    /// The port that requests come to; 0: this container takes none.
    #[prost(uint32, tag = "10")]
    pub port: u32,
    /// `h2c` when the port speaks HTTP/2 from the start; else empty or `http1`.
    #[prost(string, tag = "11")]
    pub port_name: String,
    /// When it counts as started.
    #[prost(message, optional, tag = "12")]
    pub startup_probe: Option<Probe>,
    /// When it counts as dead.
    #[prost(message, optional, tag = "13")]
    pub liveness_probe: Option<Probe>,
    /// Where it runs; empty: as the image says.
    #[prost(string, tag = "14")]
    pub working_dir: String,
    /// Containers that must have started before.
    #[prost(string, repeated, tag = "15")]
    pub depends_on: Vec<String>,
    /// What it mounts: (volume, path).
    #[prost(message, repeated, tag = "16")]
    pub mounts: Vec<Mount>,
    /// When it is to get no new requests for a while.
    #[prost(message, optional, tag = "17")]
    pub readiness_probe: Option<Probe>,
}

/// A variable of a container's environment.
#[derive(Clone, PartialEq, Message)]
pub struct EnvVar {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where its value comes from.
    #[prost(oneof = "EnvSource", tags = "2, 3")]
    pub source: Option<EnvSource>,
}

/// Where a variable's value comes from.
#[derive(Clone, PartialEq, Oneof)]
pub enum EnvSource {
    /// As written.
    #[prost(string, tag = "2")]
    Value(String),
    /// A version of a secret, read when an instance starts.
    #[prost(message, tag = "3")]
    Secret(SecretVersion),
}

/// A version of a secret.
#[derive(Clone, PartialEq, Message)]
pub struct SecretVersion {
    /// The secret: its id, or `projects/P/secrets/S` for another project's.
    #[prost(string, tag = "1")]
    pub secret: String,
    /// A number, an alias or `latest`.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Something that containers can mount.
#[derive(Clone, PartialEq, Message)]
pub struct Volume {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is.
    #[prost(oneof = "VolumeKind", tags = "2, 3, 4")]
    pub kind: Option<VolumeKind>,
}

/// What a volume is.
#[derive(Clone, PartialEq, Oneof)]
pub enum VolumeKind {
    /// Sockets of these Cloud SQL instances.
    #[prost(message, tag = "2")]
    CloudSql(CloudSql),
    /// Memory that the instance's containers share.
    #[prost(message, tag = "3")]
    Memory(Memory),
    /// Versions of a secret as files.
    #[prost(message, tag = "4")]
    Secret(SecretFiles),
}

/// Versions of a secret as files.
#[derive(Clone, PartialEq, Message)]
pub struct SecretFiles {
    /// The secret: its id, or `projects/P/secrets/S` for another project's.
    #[prost(string, tag = "1")]
    pub secret: String,
    /// The files. Empty: the latest version, in a file named like the secret.
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<SecretFile>,
    /// Permission bits of files that have none of their own; 0: everybody may read.
    #[prost(uint32, tag = "3")]
    pub default_mode: u32,
}

/// A version of a secret as a file.
#[derive(Clone, PartialEq, Message)]
pub struct SecretFile {
    /// Where, below where the volume is mounted.
    #[prost(string, tag = "1")]
    pub path: String,
    /// A number, an alias or `latest`.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Permission bits; 0: the volume's.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
}

/// Sockets of Cloud SQL instances.
#[derive(Clone, PartialEq, Message)]
pub struct CloudSql {
    /// Connection names, `project:region:instance`.
    #[prost(string, repeated, tag = "1")]
    pub instances: Vec<String>,
}

/// Shared memory.
#[derive(Clone, PartialEq, Message)]
pub struct Memory {
    /// Its size limit as it was written; empty: the instance's memory.
    #[prost(string, tag = "1")]
    pub size_limit: String,
}

/// Where a container mounts a volume.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// The volume's name.
    #[prost(string, tag = "1")]
    pub volume: String,
    /// The path inside.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// A check of a container. All times are seconds.
#[derive(Clone, PartialEq, Message)]
pub struct Probe {
    /// How long to wait before the first.
    #[prost(uint32, tag = "1")]
    pub initial_delay: u32,
    /// How long one may take.
    #[prost(uint32, tag = "2")]
    pub timeout: u32,
    /// How long between two.
    #[prost(uint32, tag = "3")]
    pub period: u32,
    /// After how many failures in a row it has failed.
    #[prost(uint32, tag = "4")]
    pub failure_threshold: u32,
    /// What is asked.
    #[prost(oneof = "ProbeKind", tags = "5, 6, 7")]
    pub kind: Option<ProbeKind>,
    /// After how many successes in a row it has succeeded again; 0 where that is not asked for, which means 1.
    #[prost(uint32, tag = "8")]
    pub success_threshold: u32,
}

/// What a probe asks.
#[derive(Clone, PartialEq, Oneof)]
pub enum ProbeKind {
    /// Whether a GET is answered with 2xx or 3xx.
    #[prost(message, tag = "5")]
    Http(HttpProbe),
    /// Whether a port accepts.
    #[prost(message, tag = "6")]
    Tcp(TcpProbe),
    /// Whether gRPC's health service says SERVING.
    #[prost(message, tag = "7")]
    Grpc(GrpcProbe),
}

/// A GET; port 0 is the container's own.
#[derive(Clone, PartialEq, Message)]
pub struct HttpProbe {
    /// The path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// More headers.
    #[prost(btree_map = "string, string", tag = "3")]
    pub headers: BTreeMap<String, String>,
}

/// A connection; port 0 is the container's own.
#[derive(Clone, PartialEq, Message)]
pub struct TcpProbe {
    /// The port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
}

/// A health check over gRPC; port 0 is the container's own.
#[derive(Clone, PartialEq, Message)]
pub struct GrpcProbe {
    /// The port.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// The service to ask for.
    #[prost(string, tag = "2")]
    pub service: String,
}
