//! What is stored of an operation, and what callers see of that.

use apis::google::{
    longrunning::{Operation, operation},
    rpc::Status,
};
use bytes::Bytes;
use prost::Message;
use prost_types::{Any, Timestamp};

use crate::{Error, Result, mirror::Record};

/// What is stored of an operation.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stored {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<Any>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) memo: Bytes,
    #[prost(message, optional, tag = "4")]
    pub(super) started: Option<Timestamp>,
    #[prost(message, optional, tag = "5")]
    pub(super) ended: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub(super) response: Option<Any>,
    #[prost(message, optional, tag = "7")]
    pub(super) failure: Option<Failure>,
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Failure {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

impl Record for Stored {
    const FORMAT: u8 = 1;
}

/// Whether it has ended.
pub(super) fn is_done(stored: &Stored) -> bool {
    stored.ended.is_some()
}

/// When it ended, in seconds since 1970; the far future while it has not.
pub(super) fn ended_at(stored: &Stored) -> i64 {
    stored.ended.as_ref().map_or(i64::MAX, |ended| ended.seconds)
}

/// Changes an operation that has not ended.
pub(super) fn unended(stored: &mut Stored, change: impl FnOnce(&mut Stored)) -> Result<()> {
    if is_done(stored) {
        return Err(Error::precondition("The operation has ended."));
    }
    change(stored);
    Ok(())
}

/// The operation as callers see it.
pub(super) fn to_operation(name: &str, stored: &Stored) -> Operation {
    let failure = stored.failure.clone().map(|Failure { code, message, details }| {
        operation::Result::Error(Status { code, message, details })
    });
    Operation {
        name: name.to_owned(),
        metadata: stored.metadata.clone(),
        done: is_done(stored),
        result: failure.or_else(|| stored.response.clone().map(operation::Result::Response)),
    }
}
