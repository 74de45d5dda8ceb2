//! Cloud Run: services, revisions, traffic, and the reconciler.
//!
//! A service is what somebody asked for; a revision is one state of it, frozen. Both are [records](record) of our
//! own, read from and written to both forms of Google's API: v2, and the Knative form that `gcloud run` speaks. A
//! change of a service is stored first and answered at once; the reconciler then makes it true: it freezes a
//! revision, proves that an instance of it starts and listens, and only then moves the traffic. Requests never
//! come through here: they go through `ingress`, which asks the [`Fleet`] for instances.
//!
//! A *job* is a task that is run to its end, as often as somebody asks; see [`jobs`]. A *worker pool* is like a service
//! that takes no requests.
//!
//! Left out for now: volumes of buckets and of NFS, which are refused with a clear error.

mod api;
mod change;
mod cpu;
mod domains;
mod engine;
mod fleet;
mod images;
pub mod jobs;
mod liveness;
pub mod local;
mod plan;
mod probe;
mod readiness;
mod reconcile;
pub mod record;
mod reserved;
mod revisions;
mod route;
mod rules;
pub mod runtime;
mod started;
mod together;
mod usage;
mod volumes;
mod words;
mod workers;

pub use api::methods;
pub use engine::{Ports, Run, ServiceStatus};
pub use fleet::Fleet;
pub use reserved::remark_on;
pub use usage::{Billing, Usage};
pub use volumes::forget as forget_volumes;
