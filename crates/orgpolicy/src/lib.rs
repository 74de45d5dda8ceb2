//! Organization policies: what may be done at all, whoever does it.
//!
//! A *constraint* is a rule that Google knows; a *policy* sets it for an organization, a folder or a project, and what
//! lies below inherits it. Served are `google.cloud.orgpolicy.v2` and the organization policies of Resource Manager v1,
//! over the same policies. The products ask [`kernel::ports::Constraints`] before they make something; this crate knows
//! none of them.
//!
//! Only constraints that are [known](constraints) can be set: a policy that nothing obeys would be a lie. Declined:
//! custom and managed constraints, parameters, and conditions on tags, of which no resource here has any.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use kernel::{clock::Clock, ports::Projects, store::Store};
//! # async fn example(store: Arc<dyn Store>, projects: Arc<dyn Projects>) -> kernel::Result<()> {
//! let policies = orgpolicy::OrgPolicies::open(store, Clock::system(), projects).await?;
//! let served: Vec<kernel::Method> = orgpolicy::methods(policies);
//! # Ok(()) }
//! ```

mod api;
mod constraints;
mod effective;
mod engine;
mod record;
mod rules;

pub use api::methods;
pub use engine::{OrgPolicies, Tried};

/// The service that organization policies belong to.
pub const SERVICE: &str = "orgpolicy.googleapis.com";
