//! The ingress over real sockets: clients on one side, instances made by the tests on the other.

// Helpers of tests, where a panic is how a failure is told.
#![allow(clippy::unwrap_used)]

mod frames;
mod front;
mod h2spec;
mod harness;
mod identity;
mod limits;
mod memory;
mod mutated;
mod protocols;
mod raw;
mod readiness;
mod routing;
mod scaling;
mod slow;
mod smuggling;
mod streaming;
mod wire;
