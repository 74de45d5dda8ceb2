//! What can be set for the whole ingress, apart from services and revisions.

use std::time::Duration;

use crate::scale::Tuning;

/// Settings of an [`Ingress`](crate::Ingress). The defaults are Cloud Run's documented limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// How large a request over HTTP/1 may be, in bytes; over HTTP/2 there is no limit. 32 MiB.
    pub max_request: u64,
    /// How large a response may be over HTTP/1 that announces its length, in bytes. 32 MiB; streams have none.
    pub max_response: u64,
    /// How many records of requests may wait to be logged before new ones are dropped and counted.
    pub log_capacity: usize,
    /// How long records are gathered before they go to the log together.
    pub log_delay: Duration,
    /// How instances are scaled.
    pub tuning: Tuning,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_request: 32 << 20,
            max_response: 32 << 20,
            log_capacity: 16 << 10,
            log_delay: Duration::from_millis(50),
            tuning: Tuning::default(),
        }
    }
}
