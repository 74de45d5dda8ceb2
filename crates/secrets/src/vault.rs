//! How payloads are encrypted at rest: an envelope.
//!
//! Every version has a data key of its own (AES-256-GCM) that encrypts its payload once and nothing else. The
//! data key is stored wrapped under the master key, which lies beside the store, not in it
//! (`keys/secrets.key`, mode 0600). Destroying a version deletes its wrapped key together with the ciphertext.
//! The version's own name is authenticated with both, so that a ciphertext moved to another name does not open.
//!
//! Rotation of the master key and hardware-backed keys are left out until somebody needs them: each record
//! says which key wrapped it, so both can be added without touching what is stored.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, rand,
};
use kernel::{Error, Result};
use zeroize::Zeroizing;

/// The name of the master key's file.
const KEY_FILE: &str = "secrets.key";
/// Bytes of an AES-256 key.
const KEY_LEN: usize = 32;
/// Bytes that GCM adds to what it encrypts.
const TAG_LEN: usize = 16;
/// A data key encrypts exactly one message, so its nonce need not vary.
const ONLY_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Whether a missing master key may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Nothing was ever encrypted: make one.
    Create,
    /// There are payloads that only the missing key opens.
    Refuse,
}

/// A payload as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The data key under the master key: nonce, ciphertext, tag.
    pub(crate) wrapped_key: Vec<u8>,
    /// The payload under the data key: ciphertext, tag.
    pub(crate) ciphertext: Vec<u8>,
}

/// Encrypts and decrypts payloads under the master key.
pub(crate) struct Vault {
    master: LessSafeKey,
    id: u64,
}

impl Vault {
    /// Reads the master key from this directory, or makes it there, durably and readable by its owner only.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` when the key is missing and may not be made, malformed, or open to others.
    pub(crate) fn open(dir: &Path, if_missing: IfMissing) -> Result<Self> {
        let path = dir.join(KEY_FILE);
        let key = match (read_key(&path)?, if_missing) {
            (Some(key), _) => key,
            (None, IfMissing::Create) => create_key(dir, &path)?,
            (None, IfMissing::Refuse) => return Err(missing(&path)),
        };
        Ok(Vault { master: cipher(&key[..])?, id: fingerprint(&key[..]) })
    }

    /// Says which master key this is, without saying anything about it.
    pub(crate) fn key_id(&self) -> u64 {
        self.id
    }

    /// Encrypts a payload for the version of this name.
    pub(crate) fn seal(&self, name: &str, payload: &[u8]) -> Result<Sealed> {
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        rand::fill(&mut data_key[..]).map_err(failed)?;
        Ok(Sealed {
            wrapped_key: self.wrap(name, &data_key)?,
            ciphertext: encrypt(&cipher(&data_key[..])?, ONLY_NONCE, name, payload)?,
        })
    }

    /// Decrypts what [`seal`](Vault::seal) made for the same name. The ciphertext's buffer becomes the
    /// plaintext's, and is wiped when it is dropped.
    ///
    /// # Errors
    /// `INTERNAL` when key, name or any bit differs.
    pub(crate) fn unseal(
        &self,
        name: &str,
        wrapped_key: &[u8],
        ciphertext: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let data_key = self.unwrap(name, wrapped_key)?;
        let nonce = Nonce::assume_unique_for_key(ONLY_NONCE);
        let mut buffer = Zeroizing::new(ciphertext);
        let len =
            cipher(&data_key[..])?.open_in_place(nonce, Aad::from(name), &mut buffer).map_err(failed)?.len();
        buffer.truncate(len);
        Ok(buffer)
    }

    fn wrap(&self, name: &str, data_key: &[u8; KEY_LEN]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(failed)?;
        Ok([&nonce[..], &encrypt(&self.master, nonce, name, data_key)?].concat())
    }

    fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
        let (nonce, key) =
            wrapped.split_at_checked(NONCE_LEN).ok_or_else(|| failed("a wrapped key is cut short"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(failed)?;
        let mut buffer = Zeroizing::new([0; KEY_LEN + TAG_LEN]);
        if key.len() != buffer.len() {
            return Err(failed("a wrapped key has the wrong length"));
        }
        buffer.copy_from_slice(key);
        self.master.open_in_place(nonce, Aad::from(name), &mut buffer[..]).map_err(failed)?;
        let mut data_key = Zeroizing::new([0; KEY_LEN]);
        data_key.copy_from_slice(&buffer[..KEY_LEN]);
        Ok(data_key)
    }
}

fn encrypt(key: &LessSafeKey, nonce: [u8; NONCE_LEN], name: &str, plaintext: &[u8]) -> Result<Vec<u8>> {
    // With room for the tag the buffer never moves, which would leave plaintext behind.
    let mut buffer = Vec::with_capacity(plaintext.len() + TAG_LEN);
    buffer.extend_from_slice(plaintext);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut buffer)
        .map_err(failed)?;
    Ok(buffer)
}

fn cipher(key: &[u8]) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(failed)
}

fn fingerprint(key: &[u8]) -> u64 {
    let digest = digest::digest(&digest::SHA256, key);
    digest.as_ref().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(path, error)),
    };
    let mode = file.metadata().map_err(|error| unreadable(path, error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::precondition(format!(
            "{} can be read by others; run: chmod 600 {0}",
            path.display()
        )));
    }
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_LEN + 1));
    let limit = KEY_LEN as u64 + 1;
    (&mut file).take(limit).read_to_end(&mut key).map_err(|error| unreadable(path, error))?;
    match key.len() {
        KEY_LEN => Ok(Some(key)),
        _ => Err(Error::precondition(format!(
            "{} is not a master key: it must hold {KEY_LEN} bytes",
            path.display()
        ))),
    }
}

/// Written whole under another name, flushed, then renamed: a crash leaves either no key or all of it.
fn create_key(dir: &Path, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new(vec![0; KEY_LEN]);
    rand::fill(&mut key).map_err(failed)?;
    let temporary = dir.join(format!("{KEY_FILE}.new"));
    write_key(dir, &temporary, &key)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|error| unreadable(path, error))?;
    Ok(key)
}

fn write_key(dir: &Path, temporary: &PathBuf, key: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let _ = fs::remove_file(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(key)?;
    file.sync_all()
}

fn missing(path: &Path) -> Error {
    let path = path.display();
    Error::precondition(format!(
        "{path} is missing, and stored secrets cannot be read without it: restore it"
    ))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::precondition(format!("{}: {error}", path.display()))
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal(cause)
}

#[cfg(test)]
mod tests {
    use kernel::Code;

    use super::*;

    const NAME: &str = "projects/p/secrets/s/versions/1";

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), IfMissing::Create).unwrap();
        (dir, vault)
    }

    #[test]
    fn what_is_sealed_opens_under_its_own_name_only() {
        let (_dir, vault) = vault();
        let sealed = vault.seal(NAME, b"correct horse").unwrap();
        assert!(!sealed.ciphertext.windows(7).any(|w| w == b"correct"));
        let open = |name, sealed: &Sealed| vault.unseal(name, &sealed.wrapped_key, sealed.ciphertext.clone());
        assert_eq!(open(NAME, &sealed).unwrap()[..], *b"correct horse");
        assert!(open("projects/p/secrets/s/versions/2", &sealed).is_err());
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (_dir, vault) = vault();
        let sealed = vault.seal(NAME, b"x").unwrap();
        for at in 0..sealed.wrapped_key.len() + sealed.ciphertext.len() {
            let mut bad = sealed.clone();
            let key_len = bad.wrapped_key.len();
            let byte =
                if at < key_len { &mut bad.wrapped_key[at] } else { &mut bad.ciphertext[at - key_len] };
            *byte ^= 1;
            assert_eq!(
                vault.unseal(NAME, &bad.wrapped_key, bad.ciphertext).unwrap_err().code(),
                Code::Internal
            );
        }
    }

    #[test]
    fn short_records_are_refused_not_read() {
        let (_dir, vault) = vault();
        for len in 0..70 {
            assert!(vault.unseal(NAME, &vec![7; len], vec![7; len]).is_err());
        }
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let (dir, first) = vault();
        let path = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = first.seal(NAME, b"kept").unwrap();
        let second = Vault::open(dir.path(), IfMissing::Refuse).unwrap();
        assert_eq!(second.key_id(), first.key_id());
        assert_eq!(second.unseal(NAME, &sealed.wrapped_key, sealed.ciphertext).unwrap()[..], *b"kept");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Vault::open(dir.path(), IfMissing::Refuse).err().unwrap();
        assert!(error.message().contains("chmod 600"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = Vault::open(dir.path(), IfMissing::Refuse).err().unwrap();
        assert!(error.message().contains("missing"), "{error}");
    }
}
