//! Projects, and the services they may call: Resource Manager v1 and v3, and Service Usage v1.
//!
//! A project has an id that people choose and a number that is assigned: twelve digits that look random and are
//! made from the id, so that they are the same in every data directory. By default any well-formed id *is* a
//! project from its first use on ([`Mode::Open`]), so that nothing has to be prepared; [`Mode::Strict`] refuses
//! unknown ones as Google does. Every service is enabled until somebody disables it.
//!
//! Left out: folders and organizations (a project may name a parent, and has no ancestors but itself), tags,
//! liens, moving, and the purge of deleted projects after thirty days.

mod api;
mod engine;
mod record;
mod rules;
mod services;

pub use api::methods;
pub use engine::{Mode, Projects};
