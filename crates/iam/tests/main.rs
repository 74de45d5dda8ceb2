//! Identity from outside: what each file says.
//!
//! - `accounts`: service accounts and their keys, from made to gone
//! - `policies`: reading, replacing, inheriting, refusing; decisions against a naive reference
//! - `least`: what is left of rights when only what was used stays
//! - `explain`: why somebody may do something, or may not
//! - `audit`: which calls are written down, and what is said of them
//! - `constraints`: what organization policies forbid, and what is inherited from above projects
//! - `directory`: groups by Cloud Identity's API
//! - `conditions`: bindings that hold sometimes, and clients that do not know of them
//! - `roles`: custom roles, and what can be granted where
//! - `groups`: who is granted something through a group
//! - `credentials`: tokens issued, checked, delegated, ended
//! - `forget`: what is deleted for good, and who knows of it at once
//! - `federation`: pools, providers, and what an issuer's token becomes
//! - `remarks`: what is said in the log of what a policy gives away
//! - `sign_in`: a person signs in, and what is refused on the way
//! - `web`: OAuth's endpoints and the metadata server

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod accounts;
mod audit;
mod conditions;
mod constraints;
mod credentials;
mod directory;
mod explain;
mod federation;
mod forget;
mod groups;
mod least;
mod policies;
mod remarks;
mod roles;
mod sign_in;
mod support;
mod web;
