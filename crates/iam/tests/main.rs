//! Identity from outside: what each file says.
//!
//! - `accounts`: service accounts and their keys, from made to gone
//! - `policies`: reading, replacing, inheriting, refusing; decisions against a naive reference
//! - `credentials`: tokens issued, checked, delegated, ended
//! - `web`: OAuth's endpoints and the metadata server

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod accounts;
mod credentials;
mod policies;
mod support;
mod web;
