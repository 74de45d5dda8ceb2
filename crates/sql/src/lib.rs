//! Cloud SQL for PostgreSQL: each instance is a real cluster, behind a private socket.
//!
//! An *instance* is a PostgreSQL cluster made with `initdb` from the binaries that this machine has, run as a user
//! without rights in a session of its own. It listens on a Unix socket only, asks everybody for a SCRAM password,
//! outlives haar and is adopted when haar comes back. Databases and users are PostgreSQL's own: what is listed is what
//! the cluster has. What is served is `google.cloud.sql.v1beta4` and `v1`, which are one on the wire but for the settings of backups.
//!
//! Declined: other engines than PostgreSQL, replicas, backups, import and export, IAM database users, and the TLS
//! certificates of connectors. What a request asks of them is refused as invalid, their methods are `UNIMPLEMENTED`.
//! A deleted instance's name is free at once, where Google keeps it for a week. `postgres` is no superuser, as at
//! Google; PostgreSQL is not patched, so it can create trusted extensions only.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use kernel::{clock::Clock, operations::Operations, ports::Projects, store::Store};
//! # async fn example(store: Arc<dyn Store>, projects: Arc<dyn Projects>, operations: Operations)
//! # -> kernel::Result<()> {
//! let config = sql::Config {
//!     directory: "/var/lib/haar/sql".into(),
//!     run_directory: "/run/haar/1234/sql".into(),
//!     postgres_directory: None,
//!     installed_directory: None,
//! };
//! let sql = sql::Sql::open(config, store, Clock::system(), projects, operations).await?;
//! let served: Vec<kernel::Method> = sql::methods(sql.clone());
//! sql.shut_down().await;
//! # Ok(()) }
//! ```

mod api;
mod engine;
mod names;
mod postgres;
mod record;
mod refuse;

pub use api::methods;
pub use engine::{InstanceStatus, Sql};
pub use postgres::{Config, Installation, install, installations, stop_left_behind};

/// The service that instances belong to.
pub const SERVICE: &str = "sqladmin.googleapis.com";
