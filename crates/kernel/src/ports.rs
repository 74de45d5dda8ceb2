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
}

/// Turns credentials into a principal. Reads only memory: it never waits.
pub trait Authenticator: Send + Sync {
    /// The principal behind an access token (without the `Bearer` prefix).
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, in Google's words, for a token that is unknown, malformed, expired or revoked.
    fn authenticate(&self, token: &str) -> Result<Principal, Error>;
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

/// Where a line of output comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The project's id.
    pub project: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// The service.
    pub service: Arc<str>,
    /// The revision.
    pub revision: Arc<str>,
    /// The instance.
    pub instance: Arc<str>,
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

/// Takes in what workloads write. Never waits.
pub trait Logs: Send + Sync {
    /// One line, without its end.
    fn line(&self, source: &LogSource, stream: LogStream, line: &str);
    /// The last lines of a revision, the oldest first, for error messages.
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
