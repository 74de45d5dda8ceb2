//! Indexes: one name for the images of several platforms.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{Error, Result};

/// The most architectures that an error lists.
const LISTED: usize = 8;

/// An OCI index, or a manifest list as Docker calls it, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Pointer>,
}

/// One manifest of an index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pointer {
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) media_type: String,
    platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Index {
    /// Reads an index; `None` when the bytes are something else, such as a manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Index> {
        serde_json::from_slice(bytes).ok()
    }

    /// The digest of the manifest for Linux on this processor.
    pub(crate) fn this_platform(self) -> Result<String> {
        let ours = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let platforms = self.manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
        let others: Vec<&str> =
            platforms.map(|platform| platform.architecture.as_str()).take(LISTED).collect();
        let others = others.join(", ");
        self.manifests
            .into_iter()
            .find(|manifest| {
                manifest.platform.as_ref().is_none_or(|p| p.architecture == ours && p.os == "linux")
            })
            .map(|manifest| manifest.digest)
            .ok_or(Error::Architecture(others, ours))
    }
}
