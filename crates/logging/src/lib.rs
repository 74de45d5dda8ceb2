//! Cloud Logging: what workloads write and what clients send, kept in files and searched.
//!
//! An *entry* is a line of text or a JSON object with a moment, a severity and the resource it comes from; it
//! belongs to a *log*, such as `projects/p/logs/run.googleapis.com%2Fstdout`. Entries come from workloads
//! ([`kernel::ports::Logs`], which never waits), from the request log ([`Logging::request`]) and from clients
//! (`google.logging.v2`), and are found by Google's query language. They lie beside the store in files of their
//! own, which have a cap: the oldest go first. An entry that a client wrote is on the disk when the call
//! returns; a workload's line is in the file within 50 ms and synced within a second.
//!
//! Declined, and answered with `UNIMPLEMENTED`: tailing, buckets and views other than `_AllLogs` of `_Default`,
//! sinks, metrics, logs of folders and organizations. Entries have no retention but the cap.
//!
//! The crate is laid out as every product here is: `api` has the methods (validate, call, answer), `engine`
//! what it does; `disk` keeps records, `filter` reads queries, `lines` understands structured logging.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use kernel::{clock::Clock, ports::Projects};
//! # fn example(projects: Arc<dyn Projects>) -> kernel::Result<()> {
//! let logging = logging::Logging::open(Path::new("/var/lib/haar/logs"), Clock::system(), projects)?;
//! let lines: Arc<dyn kernel::ports::Logs> = logging.clone();
//! let served: Vec<kernel::Method> = logging::methods(logging);
//! # Ok(()) }
//! ```

mod api;
mod disk;
mod engine;
mod filter;
mod lines;
mod names;
mod queue;
mod record;
mod request;
mod search;
mod tails;
mod wire;
mod writer;

pub use api::methods;
pub use engine::{Logging, Options};
pub use request::RequestEntry;

/// The service that logs belong to.
pub const SERVICE: &str = "logging.googleapis.com";
