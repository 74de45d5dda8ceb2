//! Cloud SQL, told through its methods, with a real PostgreSQL where one is found.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crashes;
mod instances;
mod world;
