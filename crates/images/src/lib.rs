//! Container images: the content-addressed store that instances start from.
//!
//! An image is a manifest, a configuration and layers, each named by the SHA-256 of its bytes and verified when it
//! comes in. A layer is unpacked once, into a directory named by its diff id, and from then on every image and
//! every instance that has it shares that directory as an overlay's lower layer: starting an instance copies
//! nothing. A reference such as `us-docker.pkg.dev/p/r/app:v1` is a small file that names a manifest.
//!
//! An image that is not here is asked of its registry (`pull`), where that can be reached. Others are made here, of
//! layers that were directories (`made`, `seal`), on a base that is this machine (`machine`).
//!
//! Everything that comes from outside (archives, manifests, file names inside layers) is untrusted: sizes are
//! capped, and layers are unpacked through descriptors that cannot leave their directory.

mod archive;
mod blobs;
mod collect;
mod document;
mod hello;
mod index;
mod layer;
mod machine;
mod made;
mod packages;
mod pull;
mod reference;
mod seal;
mod store;

pub use collect::{Bounds, Collected, Mode};
pub use document::{Config, Image};
pub use hello::{HELLO, JOB, serve_if_asked};
pub use machine::{Base, Mount};
pub use made::{Layer, Limits, Staging};
pub use pull::{Credentials, Proxy, Registries};
pub use reference::Reference;
pub use store::{Held, Images};

use std::fmt;

/// Why an image could not be brought in or found.
#[derive(Debug)]
pub enum Error {
    /// No image has this reference.
    NotFound(String),
    /// The reference, and why nobody could be asked for its image: a registry that cannot be reached or that fails.
    Unreachable(String, String),
    /// The image is for another processor; its architecture and what this machine runs.
    Architecture(String, &'static str),
    /// What came in is not what it claims to be, or not an image at all.
    Malformed(String),
    /// It was built on something of this machine that is gone; a sentence without an end.
    Unfit(String),
    /// It is larger than a limit; which.
    TooLarge(&'static str),
    /// The disk, or what lies on it, failed.
    Io(String, std::io::Error),
}

/// The result of anything with images.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound(reference) => write!(f, "Image '{reference}' not found."),
            Error::Unreachable(reference, why) => write!(f, "Image '{reference}' not found. {why}"),
            Error::Architecture(theirs, ours) => {
                write!(
                    f,
                    "the image is built for {theirs}, but this machine runs {ours}; build it with --platform linux/{ours}"
                )
            }
            Error::Unfit(why) => write!(f, "{why}"),
            Error::Malformed(what) => write!(f, "not a valid image: {what}"),
            Error::TooLarge(what) => write!(f, "too large: {what}"),
            Error::Io(doing, error) => write!(f, "cannot {doing}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The same again, for another who waited for the same outcome.
    pub(crate) fn copy(&self) -> Error {
        match self {
            Error::NotFound(reference) => Error::NotFound(reference.clone()),
            Error::Unreachable(reference, why) => Error::Unreachable(reference.clone(), why.clone()),
            Error::Architecture(theirs, ours) => Error::Architecture(theirs.clone(), ours),
            Error::Malformed(what) => Error::Malformed(what.clone()),
            Error::Unfit(why) => Error::Unfit(why.clone()),
            Error::TooLarge(what) => Error::TooLarge(what),
            Error::Io(doing, error) => {
                Error::Io(doing.clone(), std::io::Error::new(error.kind(), error.to_string()))
            }
        }
    }
}

/// Adds what was being done to an error of the disk.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::Io(doing.to_string(), error.into()))
    }
}
