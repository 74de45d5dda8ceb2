//! A request's way to an instance: routing, activation, autoscaling, limits, request log.
//!
//! The gateway hands every request for a service's host to [`Ingress::serve`] and gets a response; whoever
//! reconciles services says with [`Ingress::set_service`] and [`Ingress::set_revision`] where requests go;
//! instances are started through [`Instances`] when requests need them. Nothing here knows what an instance
//! is beyond something to connect to.
//!
//! The way of a request, a module each: [`routes`](ServiceRoute) find the service and choose a revision,
//! `invoke` checks who calls, `revision` finds room on an instance or waits for one, `exchange` (HTTP/1) or
//! `h2c` carries the bytes, [`Body`] streams the answer, and [`RequestRecord`] tells the log.
//!
//! The connection to an instance is spoken by hand rather than by hyper's client: the exchange is polled by
//! the very task that serves the client's connection, so a request costs no task, no channel and, once a
//! connection is warm, next to no allocation. What comes from outside is parsed by hyper alone; what comes
//! from an instance by `httparse` under limits, and anything ambiguous is refused.
//!
//! Declined: buffering of bodies, retries of what may have been executed, and caching.

mod affinity;
mod autoscale;
mod body;
mod chunked;
mod config;
mod conn;
mod counters;
mod exchange;
mod flight;
mod forward;
mod h2c;
mod headers;
mod instance;
mod invoke;
mod log;
mod pages;
mod queue;
mod random;
mod readiness;
mod response;
mod revision;
mod routes;
pub mod scale;
mod serve;
mod syntax;
mod trace;
mod tunnel;

pub use body::{Body, BoxError};
pub use config::Config;
pub use counters::{LATENCY_BOUNDS, Snapshot};
pub use instance::{Instance, Instances, StartError, Stream};
pub use invoke::{Invokers, Verdict};
pub use log::{Batch, RequestLog, RequestRecord};
pub use routes::{
    Access, Affinity, Cpu, Invoker, Protocol, QueueLimits, RevisionId, RevisionSpec, ServiceRoute,
};
pub use serve::{FromWorkload, Ingress, RoutedTo};
