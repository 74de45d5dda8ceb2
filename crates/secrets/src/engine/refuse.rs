//! What is refused, in Google's words.

use std::fmt::Display;

use kernel::Error;

use crate::record::State;

/// The name of a version.
pub(super) fn version_name(secret: &str, version: impl Display) -> String {
    format!("{secret}/versions/{version}")
}

/// A secret that is not there.
pub(super) fn no_secret(name: &str) -> Error {
    Error::not_found(format!("Secret [{name}] not found."))
}

/// A secret that is not there, where one of its versions was asked for.
pub(super) fn no_secret_or_versions(name: &str) -> Error {
    Error::not_found(format!("Secret [{name}] not found or has no versions."))
}

/// A version that is not there.
pub(super) fn no_version(secret: &str, version: impl Display) -> Error {
    Error::not_found(format!("Secret Version [{}] not found.", version_name(secret, version)))
}

/// A secret that is there already.
pub(super) fn exists(name: &str) -> Error {
    Error::already_exists(format!("Secret [{name}] already exists."))
}

/// A version that its state keeps from being read or changed.
pub(super) fn wrong_state(version: &str, state: State) -> Error {
    Error::precondition(format!("Secret Version [{version}] is in {} state.", state.name()))
}

/// A change to what was changed since its caller read it.
pub(super) fn stale() -> Error {
    Error::precondition(
        "The etag does not match the current one: the resource was changed since it was read.",
    )
}

/// A version to be changed that is not named by its number.
pub(super) fn needs_number() -> Error {
    Error::invalid("Versions are enabled, disabled and destroyed by number, not by 'latest' or an alias.")
}
