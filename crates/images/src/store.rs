//! The store: blobs, unpacked layers and references, in one directory.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Doing, Error, Image, Reference, Registries, Result, archive,
    blobs::{Blobs, digest_of, replace_file, sync_directory},
    document::{Document, MAX_DOCUMENT, Manifest},
    hello::{self, BuiltIn, Manifests},
    index::Index,
    layer::{self, Rights},
    machine::Machine,
    pull::Remote,
    reference::Pick,
};

/// The images on this machine. Cheap to clone; safe to use from several threads.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Held shared, also by other processes, while something is brought in or unpacked.
    pub(crate) lock: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) layers: PathBuf,
    references: PathBuf,
    /// Documents about what was made here.
    pub(crate) made: PathBuf,
    pub(crate) rights: Rights,
    /// What images that are made here stand on.
    pub(crate) machine: Machine,
    /// The manifest of the built-in image, once it was made: this program does not change while it runs.
    hello: OnceLock<Manifests>,
    /// Where to ask for what is not here.
    pub(crate) remote: Option<Remote>,
}

/// The store's lock, which others may have as well; see [`Images::hold`].
pub struct Held {
    _lock: File,
}

/// The content of a reference's file.
#[derive(Serialize, Deserialize)]
struct Named {
    reference: String,
    manifest: String,
    /// Whether its registry is this store, so that no other is asked whether it moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own: bool,
}

impl Images {
    /// Opens the store in a directory, making it if needed. What an interrupted import left behind is removed,
    /// unless an import is under way, in whatever process.
    /// Only what is here is ever found.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_in(directory, None, Path::new("/"))
    }

    /// The same, for a machine whose root is elsewhere.
    pub fn open_on(directory: &Path, machine: &Path) -> Result<Self> {
        Self::open_in(directory, None, machine)
    }

    /// The same, but [`find`](Images::find) asks registries for what is not here.
    pub fn open_with(directory: &Path, registries: Registries) -> Result<Self> {
        Self::open_in(directory, Some(Remote::new(registries)), Path::new("/"))
    }

    fn open_in(directory: &Path, remote: Option<Remote>, machine: &Path) -> Result<Self> {
        let [layers, references, made] = ["layers", "references", "made"].map(|part| directory.join(part));
        for part in [&layers, &references, &made] {
            fs::create_dir_all(part).doing(format_args!("make {}", part.display()))?;
        }
        let blobs = Blobs::open(&directory.join("blobs"))?;
        let lock = directory.join("lock");
        let mine = open_lock(&lock)?;
        if flock(&mine, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_unfinished(&layers);
            blobs.remove_unfinished();
        }
        let rights = Rights::of_this_process();
        Ok(Images(Arc::new(Inner {
            lock,
            blobs,
            layers,
            references,
            made,
            machine: Machine::at(machine),
            rights,
            hello: OnceLock::new(),
            remote,
        })))
    }

    /// Keeps everything: until what is returned is dropped nothing is collected, in whatever process, and what is
    /// unfinished is not taken for left behind. Whoever makes an image of several layers holds it from the first layer
    /// to the image's name. Blocks for as long as something is being collected.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn hold(&self) -> Result<Held> {
        let file = open_lock(&self.0.lock)?;
        flock(&file, FlockOperation::LockShared).doing("lock the images")?;
        Ok(Held { _lock: file })
    }

    /// Brings in the images of an OCI layout (a directory or an archive of one) or of an archive that
    /// `docker save` wrote, and gives the references they can now be found under.
    ///
    /// # Errors
    /// `Malformed` for anything else, also when no name is given and the archive holds none.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Reference>> {
        let _held = self.hold()?;
        let found = archive::read(path, &self.0.blobs)?;
        let mut references = Vec::new();
        for (reference, manifest) in found {
            let reference = name.cloned().or(reference).ok_or_else(|| {
                Error::Malformed("the archive names no image; give it a name such as us-docker.pkg.dev/project/repository/name:tag".into())
            })?;
            self.unpack(&manifest)?;
            self.tag(&reference, &manifest)?;
            references.push(reference);
        }
        Ok(references)
    }

    /// The image that a reference names. Blocks for as long as layers must still be unpacked.
    ///
    /// # Errors
    /// `NotFound` when it is not here, `Architecture` when this machine cannot run it.
    pub fn resolve(&self, reference: &str) -> Result<Image> {
        let parsed = Reference::parse(reference).map_err(|_| Error::NotFound(reference.to_owned()))?;
        let _held = self.hold()?;
        if let Some(image) = hello::which(&parsed) {
            return self.unpack(&self.built_in(image)?);
        }
        let manifest = self.manifest_of(&parsed)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        self.unpack(&manifest)
    }

    /// The manifests of the images that are always there, as far as they were asked for.
    pub(crate) fn built_in_manifests(&self) -> Vec<String> {
        let all = |manifests: &Manifests| BuiltIn::ALL.map(|image| manifests.of(image).to_owned());
        self.0.hello.get().map(all).into_iter().flatten().collect()
    }

    fn built_in(&self, image: BuiltIn) -> Result<String> {
        match self.0.hello.get().filter(|manifests| self.0.blobs.has(manifests.of(image))) {
            Some(manifests) => Ok(manifests.of(image).to_owned()),
            None => {
                let manifests = hello::make(&self.0.blobs)?;
                Ok(self.0.hello.get_or_init(|| manifests).of(image).to_owned())
            }
        }
    }

    /// Points a reference at a manifest that is in the store.
    pub fn tag(&self, reference: &Reference, manifest: &str) -> Result<()> {
        self.point(reference, manifest, false)
    }

    /// The same for an image whose registry is this store.
    pub(crate) fn tag_own(&self, reference: &Reference, manifest: &str) -> Result<()> {
        self.point(reference, manifest, true)
    }

    fn point(&self, reference: &Reference, manifest: &str, own: bool) -> Result<()> {
        let named = Named { reference: reference.to_string(), manifest: manifest.to_owned(), own };
        let text = serde_json::to_vec(&named).doing("write a reference")?;
        replace_file(&self.0.references, &reference_file(reference), &text)
    }

    /// Whether a reference is to an image whose registry is this store.
    pub(crate) fn is_own(&self, reference: &Reference) -> bool {
        self.named(reference).is_ok_and(|named| named.is_some_and(|named| named.own))
    }

    /// Every reference, with the digest of its manifest, in order.
    pub fn list(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.0.references).doing("list images")?.flatten() {
            let named =
                fs::read(file.path()).ok().and_then(|bytes| serde_json::from_slice::<Named>(&bytes).ok());
            found.extend(named.map(|named| (named.reference, named.manifest)));
        }
        found.sort();
        Ok(found)
    }

    /// The digest that a reference names here, if the whole image behind it is here too. From then on it counts as found.
    pub(crate) fn known(&self, reference: &Reference) -> Result<Option<String>> {
        let _held = self.hold()?;
        let known = self.manifest_of(reference)?.filter(|digest| self.is_whole(digest));
        known.iter().for_each(|digest| self.note_found(digest));
        Ok(known)
    }

    fn is_whole(&self, digest: &str) -> bool {
        let blobs = &self.0.blobs;
        self.manifest(digest).is_ok_and(|(_, manifest)| {
            let is_here = |digest: &str| blobs.has(digest) || self.record(digest).is_some();
            blobs.has(&manifest.config) && manifest.layers.iter().all(|layer| is_here(&layer.digest))
        })
    }

    /// The manifest behind a digest, and its own digest where an index leads to it.
    pub(crate) fn manifest(&self, digest: &str) -> Result<(String, Manifest)> {
        let bytes = self.0.blobs.read_small(digest, MAX_DOCUMENT)?;
        let Some(index) = Index::parse(&bytes) else {
            return Ok((digest.to_owned(), Manifest::parse(&bytes)?));
        };
        let chosen = index.this_platform()?;
        let manifest = Manifest::parse(&self.0.blobs.read_small(&chosen, MAX_DOCUMENT)?)?;
        Ok((chosen, manifest))
    }

    fn manifest_of(&self, reference: &Reference) -> Result<Option<String>> {
        if let Pick::Digest(digest) = &reference.pick {
            return Ok(self.0.blobs.has(digest).then(|| digest.clone()));
        }
        Ok(self.named(reference)?.map(|named| named.manifest))
    }

    fn named(&self, reference: &Reference) -> Result<Option<Named>> {
        match fs::read(self.0.references.join(reference_file(reference))) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).doing("read a reference"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("read a reference"),
        }
    }

    /// Makes every layer of an image a directory, and tells how the image is run.
    pub(crate) fn unpack(&self, digest: &str) -> Result<Image> {
        self.note_found(digest);
        let (digest, manifest) = self.manifest(digest)?;
        let document = Document::parse(&self.0.blobs.read_small(&manifest.config, MAX_DOCUMENT)?)?;
        document.check_architecture()?;
        if document.diff_ids.len() != manifest.layers.len() {
            return Err(Error::Malformed("its configuration and its manifest name different layers".into()));
        }
        let layers = manifest
            .layers
            .iter()
            .zip(&document.diff_ids)
            .map(|(layer, diff_id)| self.layer(&layer.digest, diff_id));
        let layers = layers.collect::<Result<_>>()?;
        let standing = document.diff_ids.first().map(|lowest| self.standing(lowest)).transpose()?;
        let standing = standing.unwrap_or_default();
        Ok(Image {
            digest,
            layers,
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            config: document.config,
            mounts: standing.mounts,
            remarks: standing.remarks,
        })
    }

    fn layer(&self, blob: &str, diff_id: &str) -> Result<PathBuf> {
        if !crate::reference::is_digest(diff_id) {
            return Err(Error::Malformed(format!("'{diff_id}' is not a SHA-256 digest")));
        }
        let place = self.layer_place(diff_id);
        if place.exists() {
            return Ok(place);
        }
        let staged =
            tempfile::Builder::new().prefix(STAGED).tempdir_in(&self.0.layers).doing("unpack a layer")?;
        let real = layer::unpack(self.0.blobs.open_blob(blob)?, staged.path(), self.0.rights)?;
        if real != diff_id {
            return Err(Error::Malformed(format!("a layer that should be {diff_id} is {real}")));
        }
        open_to_instances(staged.path())?;
        rustix::fs::syncfs(fs::File::open(staged.path()).doing("sync a layer")?).doing("sync a layer")?;
        match fs::rename(staged.keep(), &place) {
            // Somebody else unpacked the same layer meanwhile; theirs is as good.
            Err(_) if place.exists() => {}
            renamed => renamed.doing("keep a layer")?,
        }
        sync_directory(&self.0.layers)?;
        Ok(place)
    }
}

/// What a layer's directory is called before it is whole.
pub(crate) const STAGED: &str = ".unfinished-";

/// Any text can be a reference's, no text can be a file's name.
fn reference_file(reference: &Reference) -> String {
    let digest = digest_of(Sha256::new_with_prefix(reference.to_string()));
    digest.trim_start_matches("sha256:").to_owned()
}

pub(crate) fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).doing(format_args!("open {}", path.display()))
}

/// What cannot be removed stays: with subordinate ids, what a killed build left belongs to other users. It is in nobody's
/// way, and no reason not to start.
fn remove_unfinished(layers: &Path) {
    for entry in fs::read_dir(layers).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGED)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(%error, "{} could not be removed", entry.path().display());
        }
    }
}

/// The root of a layer becomes `/` of an instance, whose user must be able to enter it.
pub(crate) fn open_to_instances(root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).doing("open a layer")
}
