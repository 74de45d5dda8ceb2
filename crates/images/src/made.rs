//! What is made here: layers out of directories, kept under keys, and images out of such layers.
//!
//! Beside the layers lies a small document for each that was made here (`made/layer-…`), with what its archive needs
//! and, for a machine base, what it stands on. Only a layer that has one can be published, and only one whose document
//! says so is a machine base: an image that was imported or pulled has no way to write such a document.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    Config, Doing, Error, Images, Reference, Result,
    archive::put_manifest,
    blobs::{digest_of, replace_file, sync_directory},
    collect::note_used,
    document::MAX_DOCUMENT,
    layer, machine, seal,
    store::{Held, STAGED, open_to_instances},
};

pub use crate::layer::Limits;

/// A layer that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its archive.
    pub digest: String,
    /// Its files.
    pub directory: PathBuf,
}

/// A directory to be filled; dropped, it is removed.
pub struct Staging {
    directory: TempDir,
    /// Held so that nobody takes it for left behind.
    _held: Held,
}

impl Staging {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// What is known of a layer that was made here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The size of its archive.
    size: u64,
    /// Whose its files are.
    owner: u32,
    /// What it stands on, if it is a machine base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<machine::Record>,
}

/// The content of a key's file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Keyed {
    key: String,
    pub(crate) layer: String,
}

impl Images {
    /// An empty directory on the disk where layers are.
    pub fn stage(&self) -> Result<Staging> {
        let _held = self.hold()?;
        let directory = tempfile::Builder::new().prefix(STAGED).tempdir_in(&self.0.layers);
        Ok(Staging { directory: directory.doing("make a directory for a layer")?, _held })
    }

    /// Unpacks an archive from outside into an empty directory; gives the digest of what was read, to its end.
    ///
    /// # Errors
    /// `Malformed` for what is no archive or leads out of it, `TooLarge` beyond the limits.
    pub fn unpack_into(&self, archive: impl Read, into: &Path, limits: Limits) -> Result<String> {
        layer::unpack_within(archive, into, self.0.rights, limits)
    }

    /// Makes a layer of what a [`Staging`] holds, named by its path, and keeps it under a key. Nothing is left at that path.
    pub fn keep_layer(&self, staged: &Path, key: &str, owner: u32) -> Result<Layer> {
        self.keep_with(staged, key, owner, None)
    }

    pub(crate) fn keep_with(
        &self,
        staged: &Path,
        key: &str,
        owner: u32,
        machine: Option<machine::Record>,
    ) -> Result<Layer> {
        let _held = self.hold()?;
        open_to_instances(staged)?;
        let sealed = seal::seal(staged, owner, self.0.rights)?;
        let layer = self.place(staged, &sealed.digest)?;
        self.write_record(&layer.digest, &Record { size: sealed.size, owner, machine })?;
        let keyed = Keyed { key: key.to_owned(), layer: layer.digest.clone() };
        let text = serde_json::to_vec(&keyed).doing("keep a layer")?;
        replace_file(&self.0.made, &key_file(key), &text)?;
        note_used(&self.0.made.join(key_file(key)));
        Ok(layer)
    }

    /// Moves a layer to its place, or away if it is there.
    fn place(&self, staged: &Path, digest: &str) -> Result<Layer> {
        let place = self.layer_place(digest);
        if !place.exists() {
            match fs::rename(staged, &place) {
                // Somebody else made the same layer meanwhile.
                Err(_) if place.exists() => {}
                renamed => renamed.doing("keep a layer")?,
            }
            sync_directory(&self.0.layers)?;
        }
        Ok(Layer { digest: digest.to_owned(), directory: place })
    }

    /// The layer that was kept under a key, if it is still here.
    pub fn made(&self, key: &str) -> Option<Layer> {
        // Noted before it is looked for: from then on it is not collected.
        let _held = self.hold().ok()?;
        let file = self.0.made.join(key_file(key));
        let keyed: Keyed = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let layer = (keyed.key == key).then(|| self.made_layer(&keyed.layer)).flatten()?;
        note_used(&file);
        Some(layer)
    }

    fn made_layer(&self, digest: &str) -> Option<Layer> {
        self.record(digest)?;
        let directory = self.layer_place(digest);
        directory.exists().then(|| Layer { digest: digest.to_owned(), directory })
    }

    /// Where a layer is, or would be. The digest has been looked at.
    pub(crate) fn layer_place(&self, digest: &str) -> PathBuf {
        self.0.layers.join(digest.trim_start_matches("sha256:"))
    }

    pub(crate) fn record(&self, digest: &str) -> Option<Record> {
        if !crate::reference::is_digest(digest) {
            return None;
        }
        serde_json::from_slice(&fs::read(self.0.made.join(layer_file(digest))).ok()?).ok()
    }

    pub(crate) fn write_record(&self, digest: &str, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).doing("keep a layer")?;
        replace_file(&self.0.made, &layer_file(digest), &text)
    }

    /// Makes an image of layers that were made here, the lowest first, and points a reference at it. The same layers
    /// and configuration are the same image. Gives its digest.
    ///
    /// # Errors
    /// `NotFound` for a layer that was not made here.
    pub fn publish(&self, reference: &Reference, layers: &[String], config: &Config) -> Result<String> {
        let _held = self.hold()?;
        let described = layers.iter().map(|digest| {
            let record = self.made_layer(digest).and_then(|layer| self.record(&layer.digest));
            let record = record.ok_or_else(|| Error::NotFound(digest.clone()))?;
            Ok(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": record.size,
            }))
        });
        let described = described.collect::<Result<_>>()?;
        let document = document(layers, config).to_string();
        let document = self.0.blobs.put_small(document.as_bytes(), MAX_DOCUMENT)?;
        let manifest = put_manifest(&document, described, &self.0.blobs)?;
        self.tag_own(reference, &manifest)?;
        // Should another build move the tag at once, this image can still be deployed by its digest.
        self.note_found(&manifest);
        Ok(manifest)
    }

    /// Writes the archive of a layer that was made here: it is not kept, but it comes out the same each time.
    ///
    /// # Errors
    /// `NotFound` for any other layer.
    pub fn export_layer(&self, digest: &str, into: impl Write) -> Result<()> {
        let missing = || Error::NotFound(digest.to_owned());
        let record = self.record(digest).ok_or_else(missing)?;
        let layer = self.made_layer(digest).ok_or_else(missing)?;
        seal::write_archive(&layer.directory, record.owner, into)
    }
}

fn document(layers: &[String], config: &Config) -> serde_json::Value {
    json!({
        "created": "1980-01-01T00:00:01Z",
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {
            "User": config.user,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "WorkingDir": config.working_dir,
        },
        "rootfs": { "type": "layers", "diff_ids": layers },
    })
}

pub(crate) fn layer_file(digest: &str) -> String {
    format!("layer-{}", digest.trim_start_matches("sha256:"))
}

fn key_file(key: &str) -> String {
    format!("key-{}", digest_of(Sha256::new_with_prefix(key)).trim_start_matches("sha256:"))
}
