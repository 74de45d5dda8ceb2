//! What Cloud Run says when something is wrong, in its own words.

use kernel::{Error, collection::Wording};

use crate::{
    record::{Kind, Revision},
    revisions::Need,
};

/// What is said around resources.
pub(crate) fn missing(kind: &'static str) -> Wording {
    Wording::of(kind).not_found(not_found).exists(|_, name| exists(last(name))).stale(|_, name| stale(name))
}

/// What has the name already that something new is to have.
pub(crate) fn exists(name: &str) -> Error {
    Error::already_exists(format!("Resource '{name}' already exists."))
}

/// An etag that does not match.
pub(crate) fn stale(name: &str) -> Error {
    Error::aborted(format!(
        "Conflict for resource '{}': version was specified but current version is different.",
        last(name)
    ))
}

/// A resource that is not there. Its kind is what its name says where services and worker pools are kept together.
pub(crate) fn not_found(kind: &str, name: &str) -> Error {
    let kind = if part(name, 4) == Kind::WorkerPool.collection() { "WorkerPool" } else { kind };
    Error::not_found(format!(
        "Resource '{}' of kind '{}' in region '{}' in project '{}' does not exist.",
        last(name),
        kind.to_ascii_uppercase(),
        part(name, 3),
        part(name, 1)
    ))
}

/// What should be a service's or a worker pool's name and is not.
pub(crate) fn not_a_name(kind: Kind, name: &str) -> Error {
    let (whose, collection) = match kind {
        Kind::Service => ("service", "services/SERVICE"),
        Kind::WorkerPool => ("worker pool", "workerPools/WORKER_POOL"),
    };
    Error::invalid(format!(
        "'{name}' is not a {whose}'s name: use projects/PROJECT/locations/REGION/{collection}."
    ))
}

/// A region that is none, or none of Cloud Run's.
pub(crate) fn no_such_region(region: &str) -> Error {
    Error::not_found(format!("Location '{region}' is not found or access is unauthorized."))
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn part(name: &str, index: usize) -> &str {
    name.split('/').nth(index).unwrap_or_default()
}

/// A change of a state that is no longer the present one.
pub(crate) fn conflict(name: &str, given: &str, current: &str) -> Error {
    let (given, current) = (given.trim_matches('"'), current.trim_matches('"'));
    Error::aborted(format!(
        "Conflict for resource '{name}': version '{given}' was specified but current version is '{current}'."
    ))
}

/// A change that a later one overtook while it was carried out.
pub(crate) fn overtaken(name: &str, generation: i64) -> Error {
    Error::aborted(format!(
        "Conflict for resource '{name}': version '{generation}' was overtaken by a later change."
    ))
}

/// An image that is for another processor, or is none.
pub(crate) fn image_unfit(image: &str, why: &str) -> String {
    format!("Cloud Run does not support image '{image}': {}.", why.trim_end_matches('.'))
}

/// A container that did not listen on its port in time, or ended before.
pub(crate) fn not_listening(port: u16) -> String {
    format!(
        "The user-provided container failed to start and listen on the port defined provided by the PORT={port} \
         environment variable within the allocated timeout. This can happen when the container port is misconfigured \
         or if the timeout is too short. The health check timeout can be extended. Logs for this revision might \
         contain more information."
    )
}

/// A container whose own startup probe failed, or one beside that with the port that ended before.
pub(crate) fn not_started(container: &str) -> String {
    let name = if container.is_empty() { String::new() } else { format!(" '{container}'") };
    format!(
        "The user-provided container{name} failed the configured startup probe checks. Logs for this revision might \
         contain more information."
    )
}

/// A worker pool's container that ended as soon as it had started.
pub(crate) fn not_steady(container: &str) -> String {
    format!(
        "The user-provided container{} ended right after it was started. Logs for this revision might contain more \
         information.",
        if container.is_empty() { String::new() } else { format!(" '{container}'") }
    )
}

/// The same in the log of the instance.
pub(crate) fn startup_failed(container: &str) -> String {
    format!("STARTUP probe failed for container \"{container}\". The instance was not started.")
}

/// A container that did not listen, in the log of the instance.
pub(crate) fn probe_failed(container: &str, port: u16) -> String {
    format!(
        "Default STARTUP TCP probe failed 1 time consecutively for container \"{container}\" on port {port}. The instance \
         was not started."
    )
}

/// A container whose own startup probe failed, in the log of the instance.
pub(crate) fn own_probe_failed(container: &str, kind: &str, asked: &str, times: u32) -> String {
    let unit = if times == 1 { "time" } else { "times" };
    format!(
        "STARTUP {kind} probe failed {times} {unit} consecutively for container \"{container}\" on {asked}. The instance was \
         not started."
    )
}

/// An instance that was ended because it was no longer well, in its log.
pub(crate) fn not_live(kind: &str, times: u32, container: &str, port: u16, why: &str) -> String {
    let unit = if times == 1 { "time" } else { "times" };
    format!(
        "LIVENESS {kind} probe failed {times} {unit} consecutively for container \"{container}-1\" on port {port}. The instance \
         has been shut down. {why}."
    )
}

/// An instance that gets no new requests for now, in its log.
pub(crate) fn not_ready(kind: &str, times: u32, container: &str, port: u16, why: &str) -> String {
    let unit = if times == 1 { "time" } else { "times" };
    format!(
        "READINESS {kind} probe failed {times} {unit} consecutively for container \"{container}-1\" on port {port}. The instance \
         gets no new requests until it succeeds. {why}."
    )
}

/// An instance that gets requests again, in its log.
pub(crate) fn ready_again(kind: &str, times: u32, container: &str, port: u16) -> String {
    let unit = if times == 1 { "time" } else { "times" };
    format!(
        "READINESS {kind} probe succeeded {times} {unit} consecutively for container \"{container}-1\" on port {port}. The \
         instance gets requests again."
    )
}

/// A remark for an instance's log that the log shows as a warning: structured, as workloads write theirs
/// (<https://cloud.google.com/logging/docs/structured-logging>).
pub(crate) fn warning(remark: &str) -> String {
    serde_json::json!({ "severity": "WARNING", "message": remark }).to_string()
}

/// The same as an error.
pub(crate) fn error(remark: &str) -> String {
    serde_json::json!({ "severity": "ERROR", "message": remark }).to_string()
}

/// What Cloud Run's proxy says first of every connection that comes to nothing.
const CLOUD_SQL_FAILED: &str = "Cloud SQL connection failed. Please see \
     https://cloud.google.com/sql/docs/mysql/connect-run, https://cloud.google.com/sql/docs/postgres/connect-run, or \
     https://cloud.google.com/sql/docs/sqlserver/connect-run for additional details: ";
/// What Cloud SQL answers for an instance that does not exist.
pub(crate) const CLOUD_SQL_MISSING: &str =
    "googleapi: Error 404: The Cloud SQL instance does not exist., instanceDoesNotExist";

/// A connection to a database about which Cloud SQL gave no information.
pub(crate) fn cloud_sql_metadata(connection: &str, answer: &str) -> String {
    format!(
        "{CLOUD_SQL_FAILED}failed to get instance metadata (connection name = \"{connection}\"): {answer}"
    )
}

/// A connection that its database did not take.
pub(crate) fn cloud_sql_dial(connection: &str, why: &str) -> String {
    format!("{CLOUD_SQL_FAILED}dial error: failed to dial (connection name = \"{connection}\"): {why}")
}

/// What Cloud SQL answers an account that lacks a permission.
pub(crate) fn cloud_sql_denied(connection: &str, permission: &str) -> String {
    let instance = connection.rsplit(':').next().unwrap_or_default();
    format!(
        "googleapi: Error 403: boss::NOT_AUTHORIZED: Not authorized to access resource. Possibly missing permission \
         {permission} on resource instances/{instance}., forbidden"
    )
}

/// What Cloud SQL answers a project that has not enabled its API.
pub(crate) fn cloud_sql_disabled(project: &str) -> String {
    format!(
        "googleapi: Error 403: Cloud SQL Admin API has not been used in project {project} before or it is disabled. \
         Enable it by visiting https://console.developers.google.com/apis/api/sqladmin.googleapis.com/overview?project={project} \
         then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and \
         retry., accessNotConfigured"
    )
}

/// Traffic that is to go to a revision that is not there.
pub(crate) fn no_such_revision(revision: &str) -> String {
    format!(
        "Revision '{revision}' does not exist or is deleted. Update all traffic to route to currently available revisions."
    )
}

/// A name that was given to a revision already.
pub(crate) fn revision_exists(revision: &str) -> Error {
    Error::already_exists(format!("Revision named '{revision}' with different configuration already exists."))
}

/// A revision that is to be deleted, and cannot be.
pub(crate) fn revision_needed(need: Need, revision: &Revision) -> Error {
    let whose = match revision.kind() {
        Kind::Service => format!("service \"{}\"", revision.service),
        Kind::WorkerPool => format!("worker pool \"{}\"", revision.service),
    };
    let revision = &revision.name;
    Error::precondition(match need {
        Need::Serving => {
            format!("Revision \"{revision}\" cannot be directly deleted because it is actively serving.")
        }
        Need::Only => {
            format!(
                "Revision \"{revision}\" cannot be directly deleted because it is the only revision of {whose}."
            )
        }
        Need::Latest => {
            format!(
                "Revision \"{revision}\" cannot be directly deleted because it is the latest revision of {whose}."
            )
        }
    })
}

/// A revision that cannot serve, and why.
pub(crate) fn revision_not_ready(revision: &str, why: &str) -> String {
    format!("Revision '{revision}' is not ready and cannot serve traffic. {why}")
}

/// A secret that the revision's account may not read.
pub(crate) fn secret_denied(secret: &str, account: &str) -> String {
    format!(
        "Permission denied on secret: {secret} for Revision service account {account}. The service account used must be \
         granted the 'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project or \
         higher level."
    )
}

/// A secret or version that does not exist.
pub(crate) fn secret_missing(secret: &str) -> String {
    format!("Secret {secret} was not found")
}

/// Volumes that this machine could not make.
pub(crate) fn no_volumes(error: &std::io::Error) -> String {
    format!("The volumes of the container could not be made: {error}.")
}

/// A volume of a kind that is not served here.
pub(crate) fn volume_not_served(name: &str, kind: &str) -> Error {
    let why = format!(
        "Volume '{name}' is a {kind} volume, which is not supported here: use a secret, Cloud SQL or in-memory volume."
    );
    Error::bad_field("spec.template.spec.volumes", why)
}

/// A container listens on one port, if any.
pub(crate) fn at_most_one_port(field: &str, ports: usize) -> Result<(), Error> {
    let why = "ports should contain 0 or 1 port.";
    if ports > 1 { Err(Error::bad_field(field, format!("{field}: {why}"))) } else { Ok(()) }
}

/// A mount of a part of a volume.
pub(crate) fn no_sub_paths(volume: &str) -> Error {
    let why = format!("The mount of volume '{volume}' has a sub path, which is not supported here.");
    Error::bad_field("spec.template.spec.containers.volume_mounts", why)
}

/// An ingress that an organization policy does not allow.
pub(crate) fn ingress_forbidden(project: &str, service: &str, value: &str) -> Error {
    let constraint = "constraints/run.allowedIngress";
    let why = format!(
        "Constraint {constraint} violated for {project} attempting to create or update service {service} with ingress \
         set to \"{value}\"."
    );
    let violation =
        (constraint.to_owned(), format!("orgpolicy:projects/{project}?configvalue={value}"), why.clone());
    Error::precondition(why).with(kernel::error::Detail::Precondition(vec![violation]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let error = not_found("Execution", "projects/p/locations/r/jobs/j/executions/j-abcde");
        let said = "Resource 'j-abcde' of kind 'EXECUTION' in region 'r' in project 'p' does not exist.";
        assert_eq!(error.message(), said);
        let error = not_found("Service", "projects/p/locations/r/workerPools/w");
        assert!(error.message().contains("'w' of kind 'WORKERPOOL'"), "{error:?}");
    }
}
