//! Making room: what nothing refers to any more is removed.
//!
//! Three things keep a layer or a blob: a reference that people know an image by, whoever uses an image by its digest
//! (revisions and executions of Cloud Run, which the caller names), and the entry that a build left so that the next one
//! finds the layer again. Those entries have an age and, together, a size; the first two have neither.
//!
//! Whatever is being brought in, unpacked or made holds the store's lock, in whatever process, from its first layer to
//! the name of its image, and nothing is collected meanwhile. What is kept is found out under the lock, and nothing that
//! was known before is believed. The lock is held for as long as names take to go: what takes long, to measure layers and
//! to delete them, comes before and after. An image that was found within the last minutes is kept as well: a revision
//! may just be made of it. That it was found is noted in the time of its manifest's file.
//!
//! Left out: the archives of layers that were unpacked, which are kept as long as their images.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Doing, Images, Result,
    blobs::sync_directory,
    document::{Document, MAX_DOCUMENT},
    made::{Keyed, layer_file},
    store::{STAGED, open_lock},
};

/// For how long an image that was found is kept, whoever uses it.
const FOUND: Duration = Duration::from_mins(10);
/// For how long a layer that a build used is kept, however large all of them are.
const FRESH: Duration = Duration::from_hours(1);

/// What builds may keep for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For how long a layer is kept that no build used.
    pub age: Duration,
    /// The most bytes of layers that only builds keep; what was used longest ago goes first.
    pub bytes: u64,
}

impl Default for Bounds {
    /// Thirty days and 20 GiB.
    fn default() -> Self {
        Bounds { age: Duration::from_hours(30 * 24), bytes: 20 << 30 }
    }
}

/// Whether things are removed, or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are removed.
    Remove,
    /// They would be.
    Look,
}

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers.
    pub layers: usize,
    /// Manifests, configurations and archives of layers.
    pub blobs: usize,
    /// What they took of the disk.
    pub bytes: u64,
}

/// Everything that is kept.
#[derive(Default)]
struct Kept {
    blobs: BTreeSet<String>,
    layers: BTreeSet<String>,
}

/// An entry that a build left.
struct Entry {
    file: PathBuf,
    layer: String,
    used: SystemTime,
}

/// What layers take of the disk. To find that out takes long, so it is found out before the lock is taken.
struct Sizes(BTreeMap<PathBuf, u64>);

impl Sizes {
    fn of(layers: &Path) -> Result<Sizes> {
        let all = others(layers, &BTreeSet::new())?;
        Ok(Sizes(all.into_iter().map(|layer| (layer.clone(), size_of(&layer))).collect()))
    }

    /// A layer never changes, so only one that has come since is looked at.
    fn size(&self, layer: &Path) -> u64 {
        self.0.get(layer).copied().unwrap_or_else(|| size_of(layer))
    }
}

impl Kept {
    /// Keeps what builds used lately, the last first; gives the entries that are to be forgotten. One whose layer is kept
    /// anyway takes no room.
    fn take_entries(
        &mut self,
        entries: Vec<Entry>,
        bounds: Bounds,
        size: impl Fn(&str) -> u64,
    ) -> Vec<Entry> {
        let (mut bytes, mut forgotten) = (0, Vec::new());
        for entry in entries {
            if self.layers.contains(&entry.layer) {
                continue;
            }
            let age = entry.used.elapsed().unwrap_or_default();
            let more = size(&entry.layer);
            if age > bounds.age || (bytes + more > bounds.bytes && age > FRESH) {
                forgotten.push(entry);
            } else {
                bytes += more;
                self.layers.insert(entry.layer);
            }
        }
        forgotten
    }
}

impl Images {
    /// Removes what no reference, none of the images in use (by the digests of their manifests) and no build refers to.
    /// What is in use is asked once nothing can be brought in any more. `None` when something is being brought in or made
    /// just now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn collect(
        &self,
        in_use: impl FnOnce() -> Vec<String>,
        bounds: Bounds,
        mode: Mode,
    ) -> Result<Option<Collected>> {
        let sizes = Sizes::of(&self.0.layers)?;
        let lock = open_lock(&self.0.lock)?;
        if mode == Mode::Remove && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let mut kept = self.kept_by_images(&in_use())?;
        let size = |layer: &str| sizes.size(&self.layer_place(layer));
        let forgotten = kept.take_entries(self.entries()?, bounds, size);
        let blobs = others(self.0.blobs.directory(), &kept.blobs)?;
        let layers = others(&self.0.layers, &kept.layers)?;
        let bytes = layers.iter().map(|layer| sizes.size(layer)).sum::<u64>()
            + blobs.iter().map(|blob| size_of(blob)).sum::<u64>();
        if mode == Mode::Look {
            return Ok(Some(Collected { layers: layers.len(), blobs: blobs.len(), bytes }));
        }
        // Entries before what they name, so that none names what is gone.
        forgotten.iter().for_each(|entry| remove_file(&entry.file));
        let layers: Vec<PathBuf> = layers.iter().filter_map(|layer| self.put_aside(layer)).collect();
        blobs.iter().for_each(|blob| remove_file(blob));
        for directory in [self.0.blobs.directory(), &self.0.layers, &self.0.made] {
            sync_directory(directory)?;
        }
        drop(lock);
        layers.iter().for_each(|layer| remove_layer(layer));
        Ok(Some(Collected { layers: layers.len(), blobs: blobs.len(), bytes }))
    }

    fn kept_by_images(&self, in_use: &[String]) -> Result<Kept> {
        let mut kept = Kept::default();
        for (_, manifest) in self.list()? {
            self.keep_image(&manifest, &mut kept);
        }
        in_use.iter().for_each(|digest| self.keep_image(digest, &mut kept));
        self.built_in_manifests().iter().for_each(|digest| self.keep_image(digest, &mut kept));
        for found in self.found_lately()? {
            self.keep_image(&format!("sha256:{found}"), &mut kept);
        }
        Ok(kept)
    }

    /// The blobs that are new, and the manifests of images that were found lately.
    fn found_lately(&self) -> Result<Vec<String>> {
        let blobs = fs::read_dir(self.0.blobs.directory()).doing("list the blobs")?.flatten();
        let is_new = |blob: &fs::DirEntry| {
            let time = blob.metadata().and_then(|found| found.modified());
            time.is_ok_and(|time| time.elapsed().unwrap_or_default() < FOUND)
        };
        Ok(blobs.filter(is_new).map(|blob| blob.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Keeps an image with all that it is made of, as far as that can be read.
    fn keep_image(&self, digest: &str, kept: &mut Kept) {
        kept.blobs.insert(file_of(digest));
        let Ok((chosen, manifest)) = self.manifest(digest) else { return };
        kept.blobs.extend([chosen, manifest.config.clone()].iter().map(|digest| file_of(digest)));
        kept.blobs.extend(manifest.layers.iter().map(|layer| file_of(&layer.digest)));
        let document = self.0.blobs.read_small(&manifest.config, MAX_DOCUMENT);
        if let Ok(document) = document.and_then(|bytes| Document::parse(&bytes)) {
            kept.layers.extend(document.diff_ids.iter().map(|layer| file_of(layer)));
        }
    }

    /// What builds left, what was used last first.
    fn entries(&self) -> Result<Vec<Entry>> {
        let files = fs::read_dir(&self.0.made).doing("list what builds made")?.flatten();
        let keys = files.filter(|file| file.file_name().to_string_lossy().starts_with("key-"));
        let entries = keys.filter_map(|file| {
            let keyed: Keyed = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
            let used = file.metadata().ok()?.modified().ok()?;
            Some(Entry { file: file.path(), layer: file_of(&keyed.layer), used })
        });
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// Gives a layer the name of one that is not whole, so that nobody finds it and a start removes it, should this
    /// process end before.
    fn put_aside(&self, layer: &Path) -> Option<PathBuf> {
        let name = layer.file_name()?.to_str()?;
        remove_file(&self.0.made.join(layer_file(name)));
        let aside = layer.with_file_name(format!("{STAGED}removed-{name}"));
        fs::rename(layer, &aside).inspect_err(|error| tracing::warn!(%error, "a layer stays")).ok()?;
        Some(aside)
    }

    /// Notes that an image was found.
    pub(crate) fn note_found(&self, manifest: &str) {
        if let Ok(file) = self.0.blobs.path(manifest) {
            note_used(&file);
        }
    }
}

/// Makes a file's time the present one.
pub(crate) fn note_used(file: &Path) {
    let noted = File::open(file).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = noted {
        tracing::debug!(%error, "{} seems to be used less than it is", file.display());
    }
}

/// What a digest's file or directory is called.
fn file_of(digest: &str) -> String {
    digest.trim_start_matches("sha256:").to_owned()
}

/// What else is in a directory of files and directories that are named after digests; whatever has another name is left
/// alone.
fn others(directory: &Path, kept: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).doing(format_args!("list {}", directory.display()))?.flatten();
    let is_other = |entry: &fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        crate::reference::is_digest(&format!("sha256:{name}")) && !kept.contains(&name)
    };
    Ok(entries.filter(is_other).map(|entry| entry.path()).collect())
}

/// What a file, or a directory with all in it, takes of the disk.
fn size_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let inner = if found.is_dir() { fs::read_dir(path).ok() } else { None };
    let inner: u64 = inner.into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum();
    found.blocks() * 512 + inner
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "{} stays", path.display());
    }
}

/// Removes a layer, whatever its directories allow.
fn remove_layer(layer: &Path) {
    let removed = fs::remove_dir_all(layer).or_else(|_| {
        open_up(layer);
        fs::remove_dir_all(layer)
    });
    if let Err(error) = removed {
        tracing::warn!(%error, "{} stays", layer.display());
    }
}

/// Lets us into every directory, so that what is in it can be removed.
fn open_up(directory: &Path) {
    if fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.for_each(|entry| open_up(&entry.path()));
    }
}
