//! What products need of each other, as small traits. The binary plugs the real ones in.

use std::{sync::Arc, time::Duration};

use crate::{BoxFuture, Error, Principal, Resource, Result, call::RequestInfo, store::Key};

/// Decides what principals may do. Reads only memory: it never waits.
pub trait Authority: Send + Sync {
    /// Whether the principal has the permission on the resource, by its policy or an ancestor's.
    fn allows(
        &self,
        principal: &Principal,
        permission: &str,
        resource: &Resource,
        request: &RequestInfo,
    ) -> bool;

    /// A number that is another one whenever what somebody may do who is not signed in ([`Principal::Anonymous`]) may
    /// have changed: their decisions hold as long as it stays, for any moment and request. `None` when none is to be
    /// kept. Ask for it before the decision.
    fn generation(&self) -> Option<u64> {
        None
    }
}

/// Turns credentials into a principal. Reads only memory: it never waits.
pub trait Authenticator: Send + Sync {
    /// The principal behind an access token (without the `Bearer` prefix).
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, in Google's words, for a token that is unknown, malformed, expired or revoked.
    fn authenticate(&self, token: &str) -> Result<Principal, Error>;

    /// The same for a call to a host: a token that names the API it is for is good for no other.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`].
    fn authenticate_for(&self, token: &str, host: &str) -> Result<Principal, Error> {
        let _ = host;
        self.authenticate(token)
    }
}

/// Issues credentials to workloads: what a metadata server hands out.
pub trait Identity: Send + Sync {
    /// A fresh access token of a service account, with its lifetime.
    fn access_token(&self, email: &str, scopes: &[&str]) -> BoxFuture<'_, Result<(String, Duration)>>;
    /// A signed identity token of a service account for an audience.
    fn identity_token(&self, email: &str, audience: &str, full: bool) -> BoxFuture<'_, Result<String>>;
    /// Checks an identity token against the audiences that are accepted, and says whose it is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is not ours, malformed, expired or meant for somebody else.
    fn verify_identity(&self, token: &str, audiences: &[&str]) -> Result<Principal>;
    /// Whether such a service account exists and is enabled.
    fn exists(&self, email: &str) -> bool;
}

/// The policies of resources: products forward their `getIamPolicy`, `setIamPolicy` and
/// `testIamPermissions` here once they have made sure that the resource exists.
pub trait Policies: Send + Sync {
    /// The policy of a resource; an empty one with an etag where none was set.
    fn get(&self, resource: &Resource, requested_version: i32) -> Result<apis::google::iam::v1::Policy>;
    /// Replaces the policy of a resource.
    ///
    /// # Errors
    /// `ABORTED` on a stale etag, `INVALID_ARGUMENT` for bad roles or members, in Google's words.
    fn set(
        &self,
        resource: &Resource,
        request: apis::google::iam::v1::SetIamPolicyRequest,
    ) -> BoxFuture<'_, Result<apis::google::iam::v1::Policy>>;
    /// Which of these permissions the caller has.
    fn test(
        &self,
        caller: &crate::Caller,
        resource: &Resource,
        permissions: Vec<String>,
    ) -> Result<Vec<String>>;
    /// The key a resource's policy is stored under, to be deleted in the transaction that deletes the
    /// resource.
    fn key(&self, resource: &Resource) -> Key;
    /// Waits until decisions know what was written to policies before this call. To be awaited after a transaction
    /// that deleted the policy under a [`Policies::key`], before the caller is told: else what is created under the
    /// same name at once could be seen by those that the old policy let in.
    ///
    /// # Errors
    /// Those of the store.
    fn catch_up(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// A project, under both of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The id that people choose, such as `my-project`.
    pub id: Arc<str>,
    /// The number that Google assigns.
    pub number: u64,
}

/// The projects there are.
pub trait Projects: Send + Sync {
    /// The project with this id or number. By default an id that is well formed and not yet known becomes a
    /// project on first use, so this may write.
    ///
    /// # Errors
    /// As Google answers for a project that does not exist or an id that cannot be one.
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>>;
    /// The same, from memory only: `None` when it is not known yet.
    fn known(&self, id_or_number: &str) -> Option<Project>;
    /// Whether the project may call this service.
    fn enabled(&self, project_id: &str, service: &str) -> bool;
    /// What a project (`projects/ID`) or a folder (`folders/N`) belongs to: `folders/N` or `organizations/N`. From
    /// memory; `None` for what is not known and for what belongs to nothing.
    fn parent(&self, container: &str) -> Option<Arc<str>> {
        let _ = container;
        None
    }
}

impl dyn Projects + '_ {
    /// The project with this id or number: from memory where it is known, else as [`Projects::resolve`] finds it.
    ///
    /// # Errors
    /// As [`Projects::resolve`].
    pub async fn find(&self, id_or_number: &str) -> Result<Project> {
        match self.known(id_or_number) {
            Some(project) => Ok(project),
            None => self.resolve(id_or_number).await,
        }
    }

    /// A name with its project's number in place of its id; the name itself where it is in no project that is known.
    pub fn numbered(&self, name: &str) -> String {
        let known = |(id, rest)| Some((self.known(id)?.number, rest));
        match crate::names::in_project(name).and_then(known) {
            Some((number, rest)) => format!("projects/{number}{rest}"),
            None => name.to_owned(),
        }
    }

    /// The same the other way round: with the project's id in place of its number.
    pub fn identified(&self, name: &str) -> String {
        let known = |(number, rest)| Some((self.known(number)?.id, rest));
        match crate::names::in_project(name).and_then(known) {
            Some((id, rest)) => format!("projects/{id}{rest}"),
            None => name.to_owned(),
        }
    }
}

/// What organization policies say, asked before something is made that they may forbid. Reads only memory. Policies
/// that are only tried out are asked too, and what they would have forbidden is written down.
pub trait Constraints: Send + Sync {
    /// Whether a boolean constraint, such as `iam.disableServiceAccountKeyCreation`, is enforced where the resource is.
    fn enforces(&self, constraint: &str, resource: &Resource) -> bool;
    /// Whether a list constraint, such as `run.allowedIngress`, allows there what is known by these names, any of which
    /// a policy may have listed.
    fn allows(&self, constraint: &str, resource: &Resource, names: &[&str]) -> bool;
}

/// A container image that is on this machine, as a runtime needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Its unpacked layers, the lowest first.
    pub layers: Vec<std::path::PathBuf>,
    /// What always runs, before the command.
    pub entrypoint: Vec<String>,
    /// What runs, or the arguments of the entrypoint.
    pub command: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Where it runs; empty means `/`.
    pub working_dir: String,
    /// `user`, `user:group` or numbers; empty means root.
    pub user: String,
    /// Directories of this machine that the image stands on, mounted over its layers in this order.
    pub mounts: Vec<HostMount>,
    /// What whoever runs it should know, a sentence each, such as that the machine under it was upgraded.
    pub remarks: Vec<String>,
}

/// A directory of this machine, seen inside for reading only, without set-user-id and device nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMount {
    /// Where it is on this machine.
    pub source: std::path::PathBuf,
    /// Where it is inside.
    pub target: String,
}

/// The images that instances start from.
pub trait Images: Send + Sync {
    /// The image that a reference names, unpacked.
    ///
    /// # Errors
    /// `NOT_FOUND` as Cloud Run words it, `INVALID_ARGUMENT` for one that this machine cannot run.
    fn resolve<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image>>;
}

/// A layer that was made on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeLayer {
    /// The digest of its archive, uncompressed, `sha256:…`: what images name it by.
    pub digest: String,
    /// Its files.
    pub directory: std::path::PathBuf,
}

/// A base for images that needs no registry: this machine's programs and libraries, for reading only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineBase {
    /// What is not the machine's own: `/etc`, and where the machine's directories go.
    pub layer: MadeLayer,
    /// The machine's directories.
    pub mounts: Vec<HostMount>,
    /// The minor version of `/usr/bin/python3`, such as `3.11`; `None` where there is none.
    pub python: Option<String>,
}

/// A directory to be filled, on the disk where layers are. It is removed when this is dropped.
pub struct Staged {
    /// Where it is.
    pub path: std::path::PathBuf,
    /// Removes it, and keeps others from doing so before.
    pub guard: Box<dyn Send + Sync>,
}

/// How an image is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// What always runs, before the command.
    pub entrypoint: Vec<String>,
    /// What runs, or the arguments of the entrypoint.
    pub command: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Where it runs.
    pub working_dir: String,
    /// `uid:gid`.
    pub user: String,
}

/// The most that an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: usize,
}

/// Makes images out of directories. Everything here blocks: call it where that is allowed.
pub trait ImageMaker: Send + Sync {
    /// The base that stands on this machine as it is now.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be read or kept.
    fn machine(&self) -> Result<MachineBase>;
    /// The layer that was kept under this key, if it is still there.
    fn made(&self, key: &str) -> Option<MadeLayer>;
    /// An empty directory.
    ///
    /// # Errors
    /// `INTERNAL` when the disk refuses.
    fn stage(&self) -> Result<Staged>;
    /// Unpacks an archive from outside into an empty directory, which nothing in it can leave. Gives the digest of what
    /// was read, to the end.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no archive or larger than the limits.
    fn unpack(&self, archive: &mut dyn std::io::Read, into: &Staged, limits: ArchiveLimits)
    -> Result<String>;
    /// Makes a layer of a directory, all of it owned by this user and group, and keeps it under a key that stands for
    /// whatever it was made from. Files' times are not kept, so the same content is the same layer.
    ///
    /// # Errors
    /// `INTERNAL` when the disk refuses.
    fn keep(&self, staged: Staged, key: &str, owner: u32) -> Result<MadeLayer>;
    /// Makes an image of layers that were made here, the lowest first, and points the reference at it. Gives the
    /// image's digest.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a reference that is none, `NOT_FOUND` for a layer that was not made here.
    fn publish(&self, reference: &str, layers: &[String], config: &ImageConfig) -> Result<String>;
}

/// Where a line of output comes from. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The project's id.
    pub project: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// What it is an instance of.
    pub owner: Owner,
    /// The instance.
    pub instance: Arc<str>,
    /// Which of the instance's containers, by its name; empty for one that has none.
    pub container: Arc<str>,
}

/// What an instance is one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A service's revision.
    Revision {
        /// The service.
        service: Arc<str>,
        /// The revision.
        revision: Arc<str>,
    },
    /// A task of a job's execution.
    Task {
        /// The job.
        job: Arc<str>,
        /// The execution.
        execution: Arc<str>,
        /// Which of the execution's tasks, from 0 on.
        index: u32,
        /// Which of the task's attempts, from 0 on.
        attempt: u32,
    },
    /// A worker pool's revision.
    Worker {
        /// The worker pool.
        pool: Arc<str>,
        /// The revision.
        revision: Arc<str>,
    },
}

impl Owner {
    /// The name of the service, job or worker pool.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Owner::Revision { service, .. } => service,
            Owner::Task { job, .. } => job,
            Owner::Worker { pool, .. } => pool,
        }
    }

    /// The name of the revision or execution.
    pub fn part(&self) -> &Arc<str> {
        match self {
            Owner::Revision { revision, .. } | Owner::Worker { revision, .. } => revision,
            Owner::Task { execution, .. } => execution,
        }
    }
}

/// Which output a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform's own remarks on an instance.
    System,
}

/// The longest line that a log takes whole, in bytes: Google's entries have at most 256 KiB, of which the rest of an
/// entry needs some (<https://cloud.google.com/logging/quotas>).
pub const LONGEST_LINE: usize = 250 << 10;

/// Takes in what workloads write. Never waits.
pub trait Logs: Send + Sync {
    /// One line, without its end.
    fn line(&self, source: &LogSource, stream: LogStream, line: &str);
    /// The last lines of a revision or of an attempt at a task, the oldest first, for error messages.
    fn tail(&self, source: &LogSource, lines: usize) -> Vec<String>;
}

/// The payload of a secret. Whoever keeps it keeps a secret: it is not shown when printed.
#[derive(Clone)]
pub struct SecretPayload {
    /// The version that was read, with the project's number and its own: `projects/1/secrets/s/versions/2`.
    pub version: String,
    /// The payload. Its memory is wiped when the last handle is dropped.
    pub data: bytes::Bytes,
}

impl std::fmt::Debug for SecretPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretPayload({}, {} bytes)", self.version, self.data.len())
    }
}

/// Reads secrets for workloads.
pub trait Secrets: Send + Sync {
    /// The payload of a version, named `projects/P/secrets/S/versions/V` with P an id or a number and V a number,
    /// an alias or `latest`, as this caller may read it.
    ///
    /// # Errors
    /// As `AccessSecretVersion` answers: `PERMISSION_DENIED`, `NOT_FOUND`, `FAILED_PRECONDITION` for a version
    /// that is disabled or destroyed, `INVALID_ARGUMENT` for a name that is none.
    fn access<'a>(&'a self, caller: &'a crate::Caller, name: &'a str)
    -> BoxFuture<'a, Result<SecretPayload>>;
}

/// The database servers that workloads reach through a socket, at `/cloudsql/P:R:I`.
pub trait Databases: Send + Sync {
    /// The directory of this machine that holds `.s.PGSQL.5432` of the instance with this connection name, `P:R:I`:
    /// the same one as long as the instance exists, while servers in it come and go. `None` where no such instance
    /// runs. Mounting it into a workload is for those who have `cloudsql.instances.connect` on
    /// [`Databases::resource`].
    fn socket_dir(&self, connection_name: &str) -> Option<std::path::PathBuf>;
    /// What `cloudsql.instances.connect` is asked on, whether or not the instance exists; `None` for a name that is
    /// none.
    fn resource(&self, connection_name: &str) -> Option<Resource>;
}

/// The audit log. Never waits.
pub trait Audit: Send + Sync {
    /// Whether a call of this kind may have to be written. Asked before each call, so it reads no more than a word of
    /// memory; what it says yes to is still looked at by [`Audit::write`].
    fn wants(&self, access: crate::audit::Access) -> bool;
    /// Writes a call down, if whoever owns the resource wants that.
    fn write(&self, call: &crate::audit::Call<'_>);
}
