//! Google's REST surface over the methods of the interface tables: which method a request calls, and the way
//! from its parts to request bytes and from response bytes to an answer.
//!
//! Plain functions over what `http` and the tables define; no server and no body streams. What is not described
//! by a binding stays out: uploads, downloads (`alt=media`), batches.

mod answer;
mod host;
mod mixins;
mod query;
mod request;
mod router;
mod template;
#[cfg(test)]
mod tests;

pub use answer::{Answer, ErrorStyle, Format, respond_error, respond_ok};
pub use query::{Alt, SystemParams, verb};
pub use request::decode_request;
pub use router::{Match, NoMatch, Router};
