//! Manifests and configurations: what an image says of itself.

use std::path::PathBuf;

use oci_spec::image::{ImageConfiguration, ImageManifest};

use crate::{Error, Result};

/// The largest manifest or configuration that is read; registries allow 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// The most layers; overlay mounts take 500, Docker makes at most 127.
const MAX_LAYERS: usize = 128;

/// What an instance needs of an image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What always runs, before the command.
    pub entrypoint: Vec<String>,
    /// What runs, or the arguments of the entrypoint.
    pub command: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    /// Where it runs; empty means `/`.
    pub working_dir: String,
    /// `user`, `user:group` or numbers; empty means root.
    pub user: String,
}

/// An image that is here, whole.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: String,
    /// How it is run.
    pub config: Config,
    /// Its unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// The sum of its compressed layers, in bytes.
    pub size: u64,
    /// What of this machine it stands on, in the order of mounting.
    pub mounts: Vec<crate::Mount>,
    /// What whoever runs it should know, a sentence each.
    pub remarks: Vec<String>,
}

/// A manifest, as far as it matters here.
pub(crate) struct Manifest {
    pub(crate) config: String,
    pub(crate) layers: Vec<Layer>,
}

pub(crate) struct Layer {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: ImageManifest = serde_json::from_slice(bytes)
            .map_err(|error| Error::Malformed(format!("its manifest: {error}")))?;
        if manifest.layers().len() > MAX_LAYERS {
            return Err(Error::TooLarge("more than 128 layers"));
        }
        let layers = manifest
            .layers()
            .iter()
            .map(|layer| Layer { digest: layer.digest().to_string(), size: layer.size() });
        Ok(Manifest { config: manifest.config().digest().to_string(), layers: layers.collect() })
    }
}

/// A configuration with what is needed to unpack the layers it speaks of.
pub(crate) struct Document {
    pub(crate) config: Config,
    pub(crate) architecture: String,
    pub(crate) diff_ids: Vec<String>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let document: ImageConfiguration = serde_json::from_slice(bytes)
            .map_err(|error| Error::Malformed(format!("its configuration: {error}")))?;
        let run = document.config().clone().unwrap_or_default();
        Ok(Document {
            config: Config {
                entrypoint: run.entrypoint().clone().unwrap_or_default(),
                command: run.cmd().clone().unwrap_or_default(),
                env: run.env().clone().unwrap_or_default(),
                working_dir: run.working_dir().clone().unwrap_or_default(),
                user: run.user().clone().unwrap_or_default(),
            },
            architecture: document.architecture().to_string(),
            diff_ids: document.rootfs().diff_ids().to_vec(),
        })
    }

    /// Refuses an image that this machine's processor cannot run.
    pub(crate) fn check_architecture(&self) -> Result<()> {
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        if self.architecture == ours {
            Ok(())
        } else {
            Err(Error::Architecture(self.architecture.clone(), ours))
        }
    }
}
