//! Adding, reading and destroying versions.

use bytes::Bytes;
use kernel::{
    Code, Error, Result,
    mirror::{Record, Versioned},
    store::Txn,
    time::Micros,
};
use zeroize::Zeroizing;

use super::{FoundSecret, FoundVersion, Secrets, refuse};
use crate::{
    names::{Pick, SecretPath, VersionPath},
    record::{self, SecretRecord, State, VersionRecord},
    rules,
};

/// The largest ciphertext, in bytes, that is kept in memory with its version: 4 KiB and the tag.
const INLINE: usize = 4096 + 16;

/// A payload, read.
pub(crate) struct Accessed {
    /// The version it is of.
    pub(crate) version: FoundVersion,
    /// The payload; its memory is wiped when it is dropped.
    pub(crate) payload: Zeroizing<Vec<u8>>,
}

/// What a caller asks of a version's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Let it be read.
    Enable,
    /// Let it not be read.
    Disable,
    /// Erase its payload, at once or after the secret's delay.
    Destroy,
}

/// Whether a caller sent a checksum with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksum {
    Given,
    Computed,
}

impl Secrets {
    /// Adds a version with this payload.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_ARGUMENT` for a payload that is empty, too large, or not what its checksum says.
    pub(crate) async fn add_version(
        &self,
        path: &SecretPath<'_>,
        payload: &[u8],
        checksum: Option<i64>,
    ) -> Result<FoundVersion> {
        let crc32c = rules::check_payload(payload, checksum)?;
        let given = if checksum.is_some() { Checksum::Given } else { Checksum::Computed };
        let FoundSecret { name, .. } = self.secret(path).await?;
        let mut added = VersionRecord::default();
        let append = |secret: &mut SecretRecord| {
            if secret.expired(self.now()) {
                return Err(refuse::no_secret(&name));
            }
            secret.versions += 1;
            let txn;
            (added, txn) = self.seal(&name, secret, payload, crc32c, given)?;
            Ok(txn)
        };
        let record = self.secrets.update_with(&name, "", append).await?;
        self.versions.mirror().wait_for(record.revision).await?;
        let version = Versioned { value: added, revision: record.revision, created: record.revision };
        Ok(FoundVersion {
            number: record.versions,
            record: version.into(),
            secret: FoundSecret { name, record },
        })
    }

    /// The payload of a version.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` for a version that is disabled or destroyed.
    pub(crate) async fn access(&self, path: &VersionPath<'_>) -> Result<Accessed> {
        let version = self.version(path).await?;
        match version.record.state_at(self.now()) {
            State::Enabled => {}
            state => return Err(refuse::wrong_state(&version.name(), state)),
        }
        let ciphertext = self.ciphertext(&version).await?;
        let name = sealed_name(&version.secret.name, &version.secret.record, version.number);
        let payload = self.vault.unseal(&name, &version.record.wrapped_key, ciphertext)?;
        if crc32c::crc32c(&payload) != version.record.crc32c {
            return Err(Error::new(Code::DataLoss, "The payload does not match its checksum."));
        }
        Ok(Accessed { version, payload })
    }

    /// Enables, disables or destroys a version.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` for a stale etag or a version that is destroyed.
    pub(crate) async fn change_version(
        &self,
        path: &VersionPath<'_>,
        etag: &str,
        change: Change,
    ) -> Result<FoundVersion> {
        if !matches!(path.version, Pick::Number(_)) {
            return Err(refuse::needs_number());
        }
        let found = self.version(path).await?;
        let name = found.name();
        let uid = found.secret.record.uid;
        let id = record::version_id(uid, found.number);
        let delay = found.secret.record.settings.destroy_delay.map(Micros);
        let apply = |version: &mut VersionRecord| {
            if version.state_at(self.now()) == State::Destroyed {
                return Err(refuse::wrong_state(&name, State::Destroyed));
            }
            transition(version, change, delay, self.now());
            Ok(match version.state() {
                State::Destroyed => Txn::new().delete(record::payload_key(uid, found.number)),
                _ => Txn::new(),
            })
        };
        match self.versions.update_with(&id, etag, apply).await {
            Ok(record) => Ok(FoundVersion { record, ..found }),
            Err(error) if error.code() == Code::NotFound => {
                Err(refuse::no_version(&found.secret.name, found.number))
            }
            Err(error) => Err(error),
        }
    }

    /// Destroys a version whose time has come. Says nothing where somebody was faster.
    pub(super) async fn destroy_due(&self, id: &str) -> Result<()> {
        let payload = [record::PAYLOADS, id].concat();
        let apply = |version: &mut VersionRecord| {
            match version.destroy_at {
                Some(at) if at <= self.now().0 => destroy(version, at),
                _ => return Err(refuse::stale()),
            }
            Ok(Txn::new().delete(payload.as_str()))
        };
        match self.versions.update_with(id, "", apply).await {
            Err(error) if !matches!(error.code(), Code::NotFound | Code::FailedPrecondition) => Err(error),
            _ => Ok(()),
        }
    }

    /// Encrypts a payload as the secret's newest version, and gives the writes that put it there.
    fn seal(
        &self,
        name: &str,
        secret: &SecretRecord,
        payload: &[u8],
        crc32c: u32,
        checksum: Checksum,
    ) -> Result<(VersionRecord, Txn)> {
        let sealed = self.vault.seal(&sealed_name(name, secret, secret.versions), payload)?;
        let mut version = VersionRecord {
            create_time: self.now().0,
            state: State::Enabled.into(),
            checksum_given: checksum == Checksum::Given,
            crc32c,
            master_key: self.vault.key_id(),
            wrapped_key: sealed.wrapped_key.into(),
            keys: secret.settings.keys.clone(),
            ..VersionRecord::default()
        };
        let mut txn = Txn::new();
        if sealed.ciphertext.len() <= INLINE {
            version.ciphertext = sealed.ciphertext.into();
        } else {
            txn = txn.put(record::payload_key(secret.uid, secret.versions), sealed.ciphertext);
        }
        let key = record::version_key(secret.uid, secret.versions);
        Ok((version.clone(), txn.put(key, version.to_stored())))
    }

    async fn ciphertext(&self, version: &FoundVersion) -> Result<Vec<u8>> {
        if !version.record.ciphertext.is_empty() {
            return Ok(version.record.ciphertext.to_vec());
        }
        let key = record::payload_key(version.secret.record.uid, version.number);
        match self.store.get(&key).await? {
            Some(entry) => Ok(entry.value.into()),
            // It was destroyed since it was looked up.
            None => Err(refuse::wrong_state(&version.name(), State::Destroyed)),
        }
    }
}

/// The name that is authenticated with a payload. The unique id is in it, so that a secret that was deleted
/// and made again shares nothing with its namesake.
fn sealed_name(secret: &str, record: &SecretRecord, number: u64) -> String {
    format!("{secret}/versions/{number}#{:016x}", record.uid)
}

/// Brings a version that is not destroyed into its next state.
fn transition(version: &mut VersionRecord, change: Change, delay: Option<Micros>, now: Micros) {
    match (change, delay) {
        (Change::Enable, _) => set_state(version, State::Enabled, None),
        (Change::Disable, _) => set_state(version, State::Disabled, None),
        (Change::Destroy, None) => destroy(version, now.0),
        (Change::Destroy, Some(delay)) => {
            let at = version.destroy_at.unwrap_or(now.later(delay).0);
            set_state(version, State::Disabled, Some(at));
        }
    }
}

fn set_state(version: &mut VersionRecord, state: State, destroy_at: Option<u64>) {
    version.set_state(state);
    version.destroy_at = destroy_at;
}

/// Forgets a version's payload: without its data key, no copy of the ciphertext opens either.
fn destroy(version: &mut VersionRecord, at: u64) {
    set_state(version, State::Destroyed, None);
    version.destroyed = Some(at);
    version.wrapped_key = Bytes::new();
    version.ciphertext = Bytes::new();
}
