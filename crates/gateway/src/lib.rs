//! How a call gets in: one port, TLS, forward proxy, gRPC, JSON, authentication, dispatch.
//!
//! A connection is accepted by [`Gateway::open`], told apart by its first bytes, and comes out as HTTP requests;
//! each request is a call of the method table, by gRPC or by JSON, or goes to a [`Site`]. Before a method's handler
//! runs, its caller is known, its API enabled and its permissions granted. Products know nothing of this crate: they
//! give the binary their `kernel::Method`s, and the binary gives them here.
//!
//! Left out on purpose: HTTP/3 (no Google client needs it), `axum` and `tower` (one table and one order of steps
//! need no router and no layers), and any caching or decrypting of traffic that is not for Google's hosts.

mod answer;
mod callers;
mod detect;
mod dispatch;
mod gateway;
mod grpc;
mod guard;
mod h2;
mod hosts;
pub mod json;
mod listen;
mod neighbour;
mod patience;
mod permits;
mod proxy;
pub mod rest;
mod site;
mod tls;
mod transcode;
mod trust;
mod turn;
mod upstream;

pub use callers::Anonymous;
pub use gateway::{Builder, Gateway};
pub use hosts::{Changing, Ours, is_loopback, is_metadata};
pub use listen::{Door, Instance, Limits, Listener, Opened};
pub use neighbour::is_of_our_user;
pub use site::{Body, BoxError, Hosts, Site, full, text};
pub use tls::Ca;
pub use trust::{bundle, java_store};
pub use upstream::Upstream;
