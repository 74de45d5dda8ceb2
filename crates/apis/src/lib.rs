//! Google's interface tables and the message types generated from them; no logic.
pub mod schema;
