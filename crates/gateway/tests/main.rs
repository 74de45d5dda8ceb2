//! The gateway over real sockets: every way in, and every way to be turned away.
//!
//! - `grpc`: calls by gRPC, with and without TLS, and how they fail
//! - `json`: the same calls in JSON
//! - `callers`: who may stand for the owner, and who may not
//! - `proxy`: the forward proxy and what it refuses
//! - `abuse`: garbage, floods, slow and half-open connections
//! - `ending`: how a gateway closes
//! - `trust`: what programs are told to trust

// A helper that fails fails its test.
#![allow(clippy::unwrap_used)]

mod abuse;
mod callers;
mod client;
mod ending;
mod grpc;
mod json;
mod proxy;
mod trust;
mod world;
