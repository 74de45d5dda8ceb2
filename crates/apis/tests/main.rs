//! The tables, and whether the run-time schema says what they say. `prost-reflect` is the judge: it reads the same
//! descriptors in its own way.

mod bindings;
mod schema;
mod tables;
