//! What every product stands on: the store, names, errors, operations, paging and the clock.
//!
//! A product crate sees this crate and `apis`, and where it runs programs `sandbox` and `ingress`: not the gateway that
//! brings its calls, and not the other products. What one product needs of another is a small trait in [`ports`]; the binary plugs
//! the real ones in. No Google type appears here beyond `google.rpc.Status`, long-running
//! operations and IAM's policies, because those are the same for every product.

pub mod audit;
pub mod call;
pub mod clock;
pub mod collection;
mod disabled;
pub mod error;
pub mod etag;
pub mod filter;
pub mod mask;
pub mod method;
pub mod mirror;
pub mod names;
pub mod operations;
pub mod paging;
pub mod ports;
pub mod regions;
pub mod services;
pub mod store;
pub mod time;

pub use call::{Caller, Principal};
pub use disabled::service_disabled;
pub use error::{Code, Error, Result};
pub use method::{Method, Mount, grant};
pub use names::Resource;

use std::pin::Pin;

/// A boxed future that may move between worker threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
