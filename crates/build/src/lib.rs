//! Cloud Build: from source to an image.
//!
//! What is here today is the engine behind source deploys: a folder comes in ([`source`]), is looked at ([`detect`]),
//! its dependencies are installed and its files prepared by steps in the sandbox, and what they leave behind becomes the
//! layers of an image in our own store (`kernel::ports::ImageMaker`). The Cloud Build API will stand on it.
//!
//! Images stand on the machine base: this machine's `/usr`, for reading only. Steps see the same, as an unprivileged
//! user, with the machine's own network and its settings for pip and proxies ([`Settings`]); what they may take of the
//! machine is limited, and a build ends after ten minutes. Dependencies are a layer of their own, kept under the hash of
//! what declares them, so that a build whose dependencies are known installs nothing.
//!
//! Declined: Dockerfiles and other languages than Python (not yet), buildpacks' own builders (they are images of
//! registries), and builds where the machine allows no namespaces: a step would be a plain process of the user's.

mod disk;
mod engine;
mod failure;
mod files;
mod output;
mod plan;
mod python;
mod settings;
pub mod source;
mod step;
mod tree;

pub use engine::{Builds, Built, Order};
pub use failure::Failure;
pub use output::Event;
pub use plan::{Framework, Install, Plan, detect};
pub use settings::Settings;
