//! Cloud Logging as its callers meet it: every test drives the methods with encoded messages, over real files
//! in a directory of its own.
//!
//! - `world`: the directory, the engine and the small neighbours it needs
//! - `entries`: writing, listing, paging and deleting
//! - `workloads`: lines of output and requests
//! - `durability`: what survives kills, torn files and caps

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod durability;
mod entries;
mod workloads;
mod world;
