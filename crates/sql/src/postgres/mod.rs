//! PostgreSQL on this machine: finding it, making clusters, running servers, administering them.
//!
//! Knows directories, processes and SQL; knows nothing of Cloud SQL's requests. The user that servers run as is
//! settled once: PostgreSQL refuses to run as root, so root runs it as `postgres`, or else `nobody`.

pub(crate) mod admin;
mod cluster;
mod find;
mod install;
mod process;
mod server;
mod user;

use std::path::PathBuf;

pub(crate) use admin::Admin;
pub(crate) use cluster::random_hex;
pub use find::{Installation, installations};
pub use install::install;
pub use server::stop_left_behind;
pub(crate) use server::{Host, Server, Stop};

/// Where things are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clusters are kept. It is private, and so may be what is above it, also when PostgreSQL runs as another
    /// user.
    pub directory: PathBuf,
    /// Where sockets are. Short: with 17 more characters and `.s.PGSQL.5432` it must fit into 107 bytes, and
    /// PostgreSQL's user must be able to pass through what is above it. It may vanish when the machine restarts.
    pub run_directory: PathBuf,
    /// Where PostgreSQL is (the directory of its programs, or one above), if a person has said so: then it is sought
    /// nowhere else.
    pub postgres_directory: Option<PathBuf>,
    /// Where haar installs PostgreSQL itself: `DIR/*/bin` is looked through after the machine's own.
    pub installed_directory: Option<PathBuf>,
}
