//! Secret Manager: small values that few may read, in numbered versions that never change.
//!
//! A *secret* is a name with settings (labels, replication, expiry, rotation, IAM policy); its *versions* hold
//! the payloads, up to 64 KiB each, and are enabled, disabled or destroyed one by one. Payloads are encrypted
//! under a master key that lies beside the store (envelope encryption, see `vault`). What is served is
//! `google.cloud.secretmanager.v1`, its messages to the letter where Google documents them; regional secrets are the
//! same in a region. The names of customer-managed keys are kept and shown, and encrypt nothing: there is no Cloud KMS.
//! Declined: tags and managed rotation are answered with `UNIMPLEMENTED`, never ignored; rotation schedules and topics
//! are kept and shown, but nothing is published to them yet.
//!
//! The crate is laid out as every product here is: this file says what it is and makes it, `api` has the
//! methods (validate, call, answer), `engine` has what it does and knows no request types.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use kernel::{clock::Clock, ports::{Policies, Projects}, store::Store};
//! # async fn example(store: Arc<dyn Store>, projects: Arc<dyn Projects>, policies: Arc<dyn Policies>)
//! # -> kernel::Result<()> {
//! let keys = Path::new("/var/lib/haar/keys");
//! let secrets = secrets::Secrets::open(store, keys, Clock::system(), projects, policies).await?;
//! let served: Vec<kernel::Method> = secrets::methods(secrets);
//! # Ok(()) }
//! ```

mod api;
mod engine;
mod names;
mod record;
mod rules;
mod vault;

pub use api::methods;
pub use engine::Secrets;

/// The service that secrets and versions belong to.
pub const SERVICE: &str = "secretmanager.googleapis.com";
