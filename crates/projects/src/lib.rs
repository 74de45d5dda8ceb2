//! Projects, what stands above them, and the services they may call: Resource Manager v1 and v3, and Service Usage v1.
//!
//! A project has an id that people choose and a number that is assigned: twelve digits that look random and are
//! made from the id, so that they are the same in every data directory. By default any well-formed id *is* a
//! project from its first use on ([`Mode::Open`]), so that nothing has to be prepared; [`Mode::Strict`] refuses
//! unknown ones as Google does. Every service is enabled until somebody disables it.
//!
//! There is one organization, always the same ([`kernel::names::ORGANIZATION`]); folders stand between it and the
//! projects, and a project that names no parent is in the organization itself.
//!
//! Left out: tags, liens, queries for folders, and the purge of deleted projects and folders after thirty days.

mod api;
mod engine;
mod record;
mod rules;

pub use api::methods;
pub use engine::{Mode, Projects};
