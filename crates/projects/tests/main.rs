//! Projects as their callers meet them: every test drives the methods with encoded messages, over a real store in
//! a directory of its own.
//!
//! - `world`: the directory, the engine and its neighbour
//! - `manager`: Resource Manager, v1 and v3
//! - `usage`: Service Usage
//! - `ports`: what other products ask

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod manager;
mod ports;
mod usage;
mod world;
