//! What Cloud SQL says when it cannot do something, with the reasons that its clients look at.

use kernel::{Code, Error, error::Detail};

fn reasoned(code: Code, reason: &'static str, message: impl Into<String>) -> Error {
    Error::new(code, message).with(Detail::Info { reason, domain: "global", metadata: Vec::new() })
}

/// A request that is wrong, or wrong now: `invalid`.
pub(crate) fn invalid(why: impl std::fmt::Display) -> Error {
    reasoned(Code::InvalidArgument, "invalid", format!("Invalid request: {why}"))
}

pub(crate) fn no_instance() -> Error {
    reasoned(Code::NotFound, "instanceDoesNotExist", "The Cloud SQL instance does not exist.")
}

pub(crate) fn instance_exists() -> Error {
    reasoned(
        Code::AlreadyExists,
        "instanceAlreadyExists",
        "The Cloud SQL instance already exists. When you delete an instance, you can't reuse the name of the deleted \
         instance until one week from the deletion date.",
    )
}

pub(crate) fn busy() -> Error {
    reasoned(
        Code::Aborted,
        "operationInProgress",
        "Operation failed because another operation was already in progress. Try your request after the current \
         operation is complete.",
    )
}

pub(crate) fn not_running() -> Error {
    invalid("Invalid request since instance is not running.")
}

pub(crate) fn protected() -> Error {
    reasoned(
        Code::InvalidArgument,
        "deletionProtectionEnabled",
        "The instance is protected. Please disable the deletion protection and try again. To disable deletion \
         protection, update the instance settings with deletionProtectionEnabled set to false.",
    )
}

pub(crate) fn stale() -> Error {
    reasoned(
        Code::Aborted,
        "staleData",
        "The settings version given is not the current one: read the instance again.",
    )
}

pub(crate) fn no_operation(name: &str) -> Error {
    reasoned(
        Code::NotFound,
        "operationDoesNotExist",
        format!("The Cloud SQL operation {name} does not exist."),
    )
}

pub(crate) fn no_database(name: &str) -> Error {
    reasoned(Code::NotFound, "notFound", format!("Not Found: database \"{name}\" does not exist."))
}

pub(crate) fn no_user(name: &str) -> Error {
    reasoned(Code::NotFound, "notFound", format!("Not Found: user \"{name}\" does not exist."))
}

/// A request for what this Cloud SQL does not do. It is `invalid`, not `UNIMPLEMENTED`: gcloud tries again for
/// minutes after a 501.
pub(crate) fn unsupported(what: impl std::fmt::Display) -> Error {
    invalid(format_args!("{what} is not implemented here."))
}

/// A method that this Cloud SQL does not serve.
pub(crate) fn unimplemented(what: impl std::fmt::Display) -> Error {
    Error::unimplemented(format!("{what} is not implemented here."))
}
