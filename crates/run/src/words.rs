//! What Cloud Run says when something is wrong, in its own words.

use kernel::{Error, collection::Wording};

/// Around services.
pub(crate) fn service() -> Wording {
    Wording::of("Service")
        .not_found(|_, name| {
            Error::not_found(format!(
                "Resource '{}' of kind 'SERVICE' in region '{}' in project '{}' does not exist.",
                last(name),
                part(name, 3),
                part(name, 1)
            ))
        })
        .exists(|_, name| Error::already_exists(format!("Resource '{}' already exists.", last(name))))
        .stale(|_, name| {
            Error::aborted(format!(
                "Conflict for resource '{}': version was specified but current version is different.",
                last(name)
            ))
        })
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn part(name: &str, index: usize) -> &str {
    name.split('/').nth(index).unwrap_or_default()
}

/// A change that a later one overtook while it was carried out.
pub(crate) fn overtaken(name: &str, generation: i64) -> Error {
    Error::aborted(format!(
        "Conflict for resource '{name}': version '{generation}' was overtaken by a later change."
    ))
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

/// The same in the log of the instance.
pub(crate) fn probe_failed(container: &str, port: u16) -> String {
    format!(
        "Default STARTUP TCP probe failed 1 time consecutively for container \"{container}-1\" on port {port}. The instance \
         was not started."
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

/// A remark for an instance's log that the log shows as a warning: structured, as workloads write theirs
/// (<https://cloud.google.com/logging/docs/structured-logging>).
pub(crate) fn warning(remark: &str) -> String {
    serde_json::json!({ "severity": "WARNING", "message": remark }).to_string()
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
