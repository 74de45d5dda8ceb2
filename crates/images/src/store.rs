//! The store: blobs, unpacked layers and references, in one directory.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Doing, Error, Image, Reference, Registries, Result, archive,
    blobs::{Blobs, digest_of, sync_directory},
    document::{Document, MAX_DOCUMENT, Manifest},
    hello,
    index::Index,
    layer::{self, Rights},
    pull::Remote,
    reference::Pick,
};

/// The images on this machine. Cheap to clone; safe to use from several threads.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// Held shared, also by other processes, while something is brought in or unpacked.
    lock: PathBuf,
    pub(crate) blobs: Blobs,
    layers: PathBuf,
    references: PathBuf,
    rights: Rights,
    /// The manifest of the built-in image, once it was made: this program does not change while it runs.
    hello: OnceLock<String>,
    /// Where to ask for what is not here.
    pub(crate) remote: Option<Remote>,
}

/// The content of a reference's file.
#[derive(Serialize, Deserialize)]
struct Named {
    reference: String,
    manifest: String,
}

impl Images {
    /// Opens the store in a directory, making it if needed. What an interrupted import left behind is removed,
    /// unless an import is under way, in whatever process.
    /// Only what is here is ever found.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_in(directory, None)
    }

    /// The same, but [`find`](Images::find) asks registries for what is not here.
    pub fn open_with(directory: &Path, registries: Registries) -> Result<Self> {
        Self::open_in(directory, Some(Remote::new(registries)))
    }

    fn open_in(directory: &Path, remote: Option<Remote>) -> Result<Self> {
        let (layers, references) = (directory.join("layers"), directory.join("references"));
        for part in [&layers, &references] {
            fs::create_dir_all(part).doing(format_args!("make {}", part.display()))?;
        }
        let blobs = Blobs::open(&directory.join("blobs"))?;
        let lock = directory.join("lock");
        let mine = open_lock(&lock)?;
        if flock(&mine, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_unfinished(&layers)?;
        }
        let rights = Rights::of_this_process();
        Ok(Images(Arc::new(Inner {
            lock,
            blobs,
            layers,
            references,
            rights,
            hello: OnceLock::new(),
            remote,
        })))
    }

    /// Keeps what is unfinished from being taken for left behind, until what is returned is dropped.
    pub(crate) fn hold(&self) -> Result<File> {
        let file = open_lock(&self.0.lock)?;
        flock(&file, FlockOperation::LockShared).doing("lock the images")?;
        Ok(file)
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
        if hello::is(&parsed) {
            return self.unpack(&self.hello()?);
        }
        let manifest = self.manifest_of(&parsed)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        self.unpack(&manifest)
    }

    fn hello(&self) -> Result<String> {
        match self.0.hello.get().filter(|manifest| self.0.blobs.has(manifest)) {
            Some(manifest) => Ok(manifest.clone()),
            None => {
                let manifest = hello::make(&self.0.blobs)?;
                Ok(self.0.hello.get_or_init(|| manifest).clone())
            }
        }
    }

    /// Points a reference at a manifest that is in the store.
    pub fn tag(&self, reference: &Reference, manifest: &str) -> Result<()> {
        let named = Named { reference: reference.to_string(), manifest: manifest.to_owned() };
        let text = serde_json::to_vec(&named).doing("write a reference")?;
        let mut staged = tempfile::NamedTempFile::new_in(&self.0.references).doing("write a reference")?;
        staged.write_all(&text).and_then(|()| staged.as_file().sync_all()).doing("write a reference")?;
        staged
            .persist(self.reference_path(reference))
            .map_err(|error| error.error)
            .doing("write a reference")?;
        sync_directory(&self.0.references)
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

    /// The digest that a reference names here, if the whole image behind it is here too.
    pub(crate) fn known(&self, reference: &Reference) -> Result<Option<String>> {
        Ok(self.manifest_of(reference)?.filter(|digest| self.is_whole(digest)))
    }

    fn is_whole(&self, digest: &str) -> bool {
        let blobs = &self.0.blobs;
        self.manifest(digest).is_ok_and(|(_, manifest)| {
            blobs.has(&manifest.config) && manifest.layers.iter().all(|layer| blobs.has(&layer.digest))
        })
    }

    /// The manifest behind a digest, and its own digest where an index leads to it.
    fn manifest(&self, digest: &str) -> Result<(String, Manifest)> {
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
        match fs::read(self.reference_path(reference)) {
            Ok(bytes) => {
                let named: Named = serde_json::from_slice(&bytes).doing("read a reference")?;
                Ok(Some(named.manifest))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("read a reference"),
        }
    }

    fn reference_path(&self, reference: &Reference) -> PathBuf {
        let digest = digest_of(Sha256::new_with_prefix(reference.to_string()));
        self.0.references.join(digest.trim_start_matches("sha256:"))
    }

    /// Makes every layer of an image a directory, and tells how the image is run.
    pub(crate) fn unpack(&self, digest: &str) -> Result<Image> {
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
        Ok(Image {
            digest,
            layers: layers.collect::<Result<_>>()?,
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            config: document.config,
        })
    }

    fn layer(&self, blob: &str, diff_id: &str) -> Result<PathBuf> {
        if !crate::reference::is_digest(diff_id) {
            return Err(Error::Malformed(format!("'{diff_id}' is not a SHA-256 digest")));
        }
        let place = self.0.layers.join(diff_id.trim_start_matches("sha256:"));
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
const STAGED: &str = ".unfinished-";

fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).doing(format_args!("open {}", path.display()))
}

fn remove_unfinished(layers: &Path) -> Result<()> {
    for entry in fs::read_dir(layers).doing("look for unfinished layers")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(STAGED) {
            fs::remove_dir_all(entry.path()).doing("remove an unfinished layer")?;
        }
    }
    Ok(())
}

/// The root of a layer becomes `/` of an instance, whose user must be able to enter it.
fn open_to_instances(root: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).doing("open a layer")
}
