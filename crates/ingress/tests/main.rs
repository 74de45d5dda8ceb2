//! The ingress over real sockets: clients on one side, instances made by the tests on the other.

mod harness;
mod identity;
mod limits;
mod protocols;
mod raw;
mod routing;
mod scaling;
