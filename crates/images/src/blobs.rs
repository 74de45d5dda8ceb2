//! Blobs: bytes under the name of their own SHA-256.
//!
//! A blob is written beside its place, verified, synced and renamed, so that what can be read under a digest is
//! always whole and always right, whatever was killed when.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Doing, Error, Result, reference::is_digest};

/// How the name of a blob begins that is not whole.
const STAGED: &str = ".unfinished-";

/// The directory of blobs.
pub(crate) struct Blobs(PathBuf);

impl Blobs {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).doing(format_args!("make {}", directory.display()))?;
        Ok(Blobs(directory.to_owned()))
    }

    /// Removes what was not written to its end. Nobody may be writing.
    pub(crate) fn remove_unfinished(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(STAGED)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, "{} could not be removed", entry.path().display());
            }
        }
    }

    /// Where blobs are.
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    /// Where a blob lies, whether it is there or not.
    pub(crate) fn path(&self, digest: &str) -> Result<PathBuf> {
        if !is_digest(digest) {
            return Err(Error::Malformed(format!("'{digest}' is not a SHA-256 digest")));
        }
        Ok(self.0.join(digest.trim_start_matches("sha256:")))
    }

    pub(crate) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    /// Reads a small blob, a manifest or a configuration.
    pub(crate) fn read_small(&self, digest: &str, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(digest)?;
        let file = File::open(&path).doing(format_args!("read the blob {digest}"))?;
        read_capped(file, limit, "a manifest or configuration")
    }

    pub(crate) fn open_blob(&self, digest: &str) -> Result<File> {
        File::open(self.path(digest)?).doing(format_args!("read the blob {digest}"))
    }

    /// Takes a small blob in; one that is here is left alone.
    pub(crate) fn put_small(&self, bytes: &[u8], limit: u64) -> Result<String> {
        let digest = digest_of(Sha256::new_with_prefix(bytes));
        if self.has(&digest) { Ok(digest) } else { self.put(bytes, None, limit) }
    }

    /// Takes a blob in. With an expected digest, anything else is refused.
    pub(crate) fn put(&self, source: impl Read, expected: Option<&str>, limit: u64) -> Result<String> {
        let mut staged =
            tempfile::Builder::new().prefix(STAGED).tempfile_in(&self.0).doing("stage a blob")?;
        let mut hashing = Hashing { inner: staged.as_file_mut(), sha: Sha256::new() };
        let written = io::copy(&mut source.take(limit + 1), &mut hashing).doing("write a blob")?;
        let digest = digest_of(hashing.sha);
        if written > limit {
            return Err(Error::TooLarge("a layer"));
        }
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::Malformed(format!(
                "a blob that should be {} is {digest}",
                expected.unwrap_or_default()
            )));
        }
        staged.as_file().sync_all().doing("sync a blob")?;
        staged.persist(self.path(&digest)?).map_err(|error| error.error).doing("keep a blob")?;
        sync_directory(&self.0)?;
        Ok(digest)
    }
}

/// Reads everything, refusing more than a limit.
pub(crate) fn read_capped(source: impl Read, limit: u64, what: &'static str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).doing(format_args!("read {what}"))?;
    if bytes.len() as u64 > limit { Err(Error::TooLarge(what)) } else { Ok(bytes) }
}

/// Replaces a small file in one step that lasts; one that says the same already is left alone.
pub(crate) fn replace_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    if fs::read(&path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let doing = format!("write {}", path.display());
    let mut staged = tempfile::NamedTempFile::new_in(directory).doing(&doing)?;
    staged.write_all(bytes).and_then(|()| staged.as_file().sync_all()).doing(&doing)?;
    staged.persist(path).map_err(|error| error.error).doing(&doing)?;
    sync_directory(directory)
}

/// Makes a rename in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .doing(format_args!("sync {}", directory.display()))
}

/// The digest of what a hasher has seen.
pub(crate) fn digest_of(sha: Sha256) -> String {
    use std::fmt::Write as _;
    sha.finalize().iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Passes bytes on and remembers their hash.
pub(crate) struct Hashing<T> {
    pub(crate) inner: T,
    pub(crate) sha: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.sha.update(&buffer[..read]);
        Ok(read)
    }
}
