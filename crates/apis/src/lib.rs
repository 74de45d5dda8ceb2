//! Google's interface tables and the message types generated from them; no logic.

pub mod schema;

mod types {
    #![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

pub use schema::{MethodId, Rpc};
pub use types::google;
