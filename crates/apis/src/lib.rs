//! Google's interface tables and the message types generated from them; no logic.
//!
//! Everything here is made from the descriptor sets under `tables`, which are themselves made from what Google
//! publishes. The types live under [`google`], in modules that follow Google's packages
//! (`google::cloud::run::v2::Service`); beside them each service has a module of constants, such as
//! `google::cloud::run::v2::services::CREATE_SERVICE`, that tie a method to its types. [`schema`] is what the same
//! tables say at run time, for those who handle messages without knowing their types.
//!
//! Interfaces that Google publishes only as discovery documents are under `google::discovery`, and have
//! REST bindings but no gRPC path.
//!
//! **Adding a product** takes one line in `xtask/src/list.rs` and `cargo xtask apis`; commit the table it writes.
//! `cargo xtask apis --check` tells whether the committed tables are what the pinned packages give.

mod layout;
pub mod schema;

mod types {
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

pub use schema::{MethodId, Rpc};
pub use types::google;
