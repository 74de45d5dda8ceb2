//! Images as files: OCI layouts, and what `docker save` writes.
//!
//! Both are a heap of blobs and a document that says which are an image. The heap is taken into the store first,
//! then the document is read; blobs that nothing names are garbage for later, not an error.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    path::Path,
};

use serde::Deserialize;
use serde_json::json;
use tar::{Archive, EntryType};

use crate::{
    Doing, Error, Reference, Result,
    blobs::Blobs,
    document::{Document, MAX_DOCUMENT},
    index::{Index, Pointer},
};

/// The largest blob of an archive: 10 GiB, Artifact Registry's own limit for a layer is 5 TB, a laptop's is not.
const MAX_BLOB: u64 = 10 << 30;
/// The most files in an archive of an image.
const MAX_FILES: usize = 4096;

/// Images found: the name that the archive gives, if any, and the digest of the manifest.
pub(crate) type Found = Vec<(Option<Reference>, String)>;

/// Reads whichever of the forms this is.
pub(crate) fn read(path: &Path, blobs: &Blobs) -> Result<Found> {
    let holds = |name: &str| path.join(name).is_file();
    if path.is_dir() && !(holds("index.json") && holds("oci-layout")) && !holds("manifest.json") {
        // Looked at before everything below the directory becomes a blob: it might be somebody's home.
        return Err(unknown(path));
    }
    let heap = if path.is_dir() { Heap::of_directory(path, blobs)? } else { Heap::of_archive(path, blobs)? };
    if heap.digest("index.json").is_ok() && heap.digest("oci-layout").is_ok() {
        return oci_layout(&heap, blobs);
    }
    if heap.digest("manifest.json").is_ok() {
        return docker_archive(&heap, blobs);
    }
    Err(unknown(path))
}

fn unknown(path: &Path) -> Error {
    Error::Malformed(format!("{} is neither an OCI layout nor an archive of docker save", path.display()))
}

/// The files of an archive, each now a blob.
struct Heap {
    digests: HashMap<String, String>,
    /// `docker save` used to link equal layers to each other.
    links: HashMap<String, String>,
}

impl Heap {
    fn of_directory(root: &Path, blobs: &Blobs) -> Result<Self> {
        let mut heap = Heap { digests: HashMap::new(), links: HashMap::new() };
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in
                fs::read_dir(&directory).doing(format_args!("read {}", directory.display()))?.flatten()
            {
                let kind = entry.file_type().doing("look at a file")?;
                if kind.is_dir() {
                    waiting.push(entry.path());
                } else if kind.is_file() {
                    let path = entry.path();
                    let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                    heap.add(name, File::open(&path).doing(format_args!("read {}", path.display()))?, blobs)?;
                }
            }
        }
        Ok(heap)
    }

    fn of_archive(path: &Path, blobs: &Blobs) -> Result<Self> {
        let mut heap = Heap { digests: HashMap::new(), links: HashMap::new() };
        let file = File::open(path).doing(format_args!("read {}", path.display()))?;
        let broken = |error: std::io::Error| {
            Error::Malformed(format!("{} is not an archive: {error}", path.display()))
        };
        for entry in Archive::new(file).entries().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let name = entry.path().map_err(broken)?.to_string_lossy().trim_start_matches("./").to_owned();
            match entry.header().entry_type() {
                EntryType::Regular => heap.add(name, entry, blobs)?,
                EntryType::Symlink | EntryType::Link => {
                    let target = entry
                        .link_name()
                        .map_err(broken)?
                        .map(|target| target.to_string_lossy().trim_start_matches("../").to_owned());
                    heap.links.extend(target.map(|target| (name, target)));
                }
                _ => {}
            }
        }
        Ok(heap)
    }

    fn add(&mut self, name: String, content: impl Read, blobs: &Blobs) -> Result<()> {
        if self.digests.len() == MAX_FILES {
            return Err(Error::TooLarge("an archive of more than 4,096 files"));
        }
        let digest = blobs.put(content, None, MAX_BLOB)?;
        self.digests.insert(name, digest);
        Ok(())
    }

    fn digest(&self, name: &str) -> Result<&str> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.digests
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Error::Malformed(format!("{name} is missing")))
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str, blobs: &Blobs) -> Result<T> {
        read_json(self.digest(name)?, blobs)
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(digest: &str, blobs: &Blobs) -> Result<T> {
    serde_json::from_slice(&blobs.read_small(digest, MAX_DOCUMENT)?)
        .map_err(|error| Error::Malformed(format!("a document of the image: {error}")))
}

fn oci_layout(heap: &Heap, blobs: &Blobs) -> Result<Found> {
    let index: Index = heap.json("index.json", blobs)?;
    let mut found = Vec::new();
    for pointer in index.manifests {
        let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"].iter().find_map(|key| {
            Reference::parse(pointer.annotations.get(*key)?)
                .ok()
                .filter(|reference| reference.path.contains('/'))
        });
        found.push((name, this_platform(pointer, blobs)?));
    }
    Ok(found)
}

/// An index of several platforms is followed, one level, to the one that this machine runs.
fn this_platform(pointer: Pointer, blobs: &Blobs) -> Result<String> {
    if !pointer.media_type.contains("index") && !pointer.media_type.contains("manifest.list") {
        return Ok(pointer.digest);
    }
    read_json::<Index>(&pointer.digest, blobs)?.this_platform()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn docker_archive(heap: &Heap, blobs: &Blobs) -> Result<Found> {
    let saved: Vec<Saved> = heap.json("manifest.json", blobs)?;
    let mut found = Vec::new();
    for image in saved {
        let manifest = manifest_of(&image, heap, blobs)?;
        let names: Vec<Reference> =
            image.repo_tags.unwrap_or_default().iter().flat_map(|tag| Reference::parse(tag)).collect();
        if names.is_empty() {
            found.push((None, manifest.clone()));
        }
        found.extend(names.into_iter().map(|name| (Some(name), manifest.clone())));
    }
    Ok(found)
}

/// What `docker save` leaves out: the manifest that a registry would have.
fn manifest_of(image: &Saved, heap: &Heap, blobs: &Blobs) -> Result<String> {
    let config = heap.digest(&image.config)?;
    Document::parse(&blobs.read_small(config, MAX_DOCUMENT)?)?;
    let layers = image.layers.iter().map(|layer| {
        let digest = heap.digest(layer)?;
        Ok(json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size(digest, blobs)? }))
    });
    put_manifest(config, layers.collect::<Result<_>>()?, blobs)
}

/// Writes a manifest over a configuration and layers that are in the store.
pub(crate) fn put_manifest(config: &str, layers: Vec<serde_json::Value>, blobs: &Blobs) -> Result<String> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size(config, blobs)? },
        "layers": layers,
    });
    blobs.put_small(manifest.to_string().as_bytes(), MAX_DOCUMENT)
}

fn size(digest: &str, blobs: &Blobs) -> Result<u64> {
    blobs.path(digest)?.metadata().map(|meta| meta.len()).doing(format_args!("look at the blob {digest}"))
}
