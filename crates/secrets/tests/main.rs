//! Secret Manager as its callers meet it: every test drives the methods with encoded messages, over a real
//! store in a directory of its own.
//!
//! - `world`: the directory, the engine and the small neighbours it needs
//! - `secrets`: creating, changing, listing and deleting secrets
//! - `versions`: adding, reading and destroying versions
//! - `time`: what expires, and what is swept out
//! - `regional`: secrets in a region, customer-managed keys
//! - `safety`: what is on the disk, what survives, what is refused

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod regional;
mod safety;
mod secrets;
mod time;
mod versions;
mod world;
