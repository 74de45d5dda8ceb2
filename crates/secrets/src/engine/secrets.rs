//! Creating, changing and deleting secrets.

use kernel::{
    Code, Error, Resource, Result,
    collection::Held,
    mirror::Record,
    ports::Project,
    store::{Key, Txn},
};

use super::{FoundSecret, Secrets, refuse};
use crate::{
    SERVICE,
    names::SecretPath,
    record::{self, GoneRecord, SecretRecord, Settings},
    rules::{self, Field},
};

/// The most versions that are erased in one transaction: two keys each, and room for the other operations
/// below the store's limit.
const ERASED_AT_ONCE: u64 = 60;

impl Secrets {
    /// Creates a secret without versions.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `INVALID_ARGUMENT` for settings that are not allowed.
    pub(crate) async fn create(
        &self,
        project: &Project,
        path: &SecretPath<'_>,
        settings: Settings,
    ) -> Result<FoundSecret> {
        let now = self.now();
        let location = path.place.location.map(str::to_owned);
        rules::check_replicas(&settings.replicas)?;
        rules::check_keys(&settings, location.as_deref())?;
        rules::check(&settings, &Field::ALL, now)?;
        check_aliases(&settings, 0)?;
        let name = self.name(path).await?;
        self.make_room(&name).await?;
        let uid = random_id()?;
        let project = project.id.to_string();
        let secret =
            SecretRecord { uid, create_time: now.0, stamp: now.0, versions: 0, settings, project, location };
        match self.secrets.create(&name, secret).await {
            Ok(record) => Ok(FoundSecret { name, record }),
            Err(error) if error.code() == Code::AlreadyExists => Err(refuse::exists(&name)),
            Err(error) => Err(error),
        }
    }

    /// Sets fields of a secret.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` for a stale etag; `INVALID_ARGUMENT` for settings that are not allowed.
    pub(crate) async fn update(
        &self,
        path: &SecretPath<'_>,
        etag: &str,
        fields: &[Field],
        chosen: &Settings,
    ) -> Result<FoundSecret> {
        let FoundSecret { name, .. } = self.secret(path).await?;
        let change = |secret: &mut SecretRecord| {
            self.may_change(&name, secret, etag)?;
            fields.iter().for_each(|field| field.copy(chosen, &mut secret.settings));
            if fields.contains(&Field::Replication) && chosen.replicas != secret.settings.replicas {
                return Err(Error::bad_field("update_mask", "Field [replication] cannot be updated."));
            }
            rules::check(&secret.settings, fields, self.now())?;
            if fields.iter().any(|field| matches!(field, Field::Replication | Field::Key)) {
                rules::check_keys(&secret.settings, secret.location.as_deref())?;
            }
            check_aliases(&secret.settings, secret.versions)?;
            secret.touch(self.now());
            Ok(())
        };
        let record = self.secrets.update(&name, "", change).await?;
        Ok(FoundSecret { name, record })
    }

    /// Deletes a secret, its versions and its policy. None of it is to be seen afterwards; what does not fit
    /// one transaction is erased in further ones, which a crash cannot forget.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` for a stale etag.
    pub(crate) async fn delete(&self, path: &SecretPath<'_>, etag: &str) -> Result<()> {
        let FoundSecret { name, .. } = self.secret(path).await?;
        self.remove(&name, |secret| self.may_change(&name, secret, etag)).await
    }

    /// Takes away an expired secret of this name: its time has come, whether or not it was swept out yet.
    pub(super) async fn make_room(&self, name: &str) -> Result<()> {
        let is_expired = |secret: &SecretRecord| secret.expired(self.now());
        if !self.secrets.mirror().get(name).is_some_and(|secret| is_expired(&secret)) {
            return Ok(());
        }
        let still_expired = |secret: &SecretRecord| match is_expired(secret) {
            true => Ok(()),
            false => Err(refuse::exists(name)),
        };
        match self.remove(name, still_expired).await {
            Err(error) if error.code() == Code::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Erases the versions of a deleted secret that did not fit the transaction that deleted it.
    pub(super) async fn erase_gone(&self, uid: u64, versions: u64) -> Result<()> {
        for first in (1..=versions).step_by(ERASED_AT_ONCE as usize) {
            let last = versions.min(first + ERASED_AT_ONCE - 1);
            self.store.txn(erasure(uid, first, last)).await?;
        }
        self.gone.mirror().commit(Txn::new().delete(record::gone_key(uid))).await.map(drop)
    }

    async fn remove(
        &self,
        name: &str,
        allow: impl Fn(&SecretRecord) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let removed: Held<SecretRecord> = self
            .secrets
            .delete_with(name, "", |secret| {
                allow(secret)?;
                Ok(erase_or_bury(secret).delete(self.policy_key(name, secret)))
            })
            .await?;
        // What is created under the same name at once has no policy.
        self.policies.catch_up().await?;
        match removed.versions {
            0..=ERASED_AT_ONCE => Ok(()),
            many => self.erase_gone(removed.uid, many).await,
        }
    }

    fn may_change(&self, name: &str, secret: &SecretRecord, etag: &str) -> Result<()> {
        if secret.expired(self.now()) {
            return Err(refuse::no_secret(name));
        }
        if kernel::etag::allows(etag, &secret.secret_etag()) { Ok(()) } else { Err(refuse::stale()) }
    }

    fn policy_key(&self, name: &str, secret: &SecretRecord) -> Key {
        let id = name.rsplit('/').next().unwrap_or_default();
        self.policies.key(&Resource::new(SERVICE, secret.name_of(id)))
    }
}

/// Erases a secret's versions if they are few; else leaves word that they are to be erased.
fn erase_or_bury(secret: &SecretRecord) -> Txn {
    match secret.versions {
        few @ 0..=ERASED_AT_ONCE => erasure(secret.uid, 1, few),
        versions => Txn::new().put(record::gone_key(secret.uid), GoneRecord { versions }.to_stored()),
    }
}

fn erasure(uid: u64, first: u64, last: u64) -> Txn {
    (first..=last).fold(Txn::new(), |txn, number| {
        txn.delete(record::version_key(uid, number)).delete(record::payload_key(uid, number))
    })
}

/// Every alias must name a version that was added.
fn check_aliases(settings: &Settings, versions: u64) -> Result<()> {
    match settings.aliases.iter().find(|(_, number)| **number > versions) {
        Some((alias, number)) => Err(Error::bad_field(
            "secret.version_aliases",
            format!("Version alias [{alias}] names version [{number}], which does not exist."),
        )),
        None => Ok(()),
    }
}

fn random_id() -> Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(Error::internal)?;
    Ok(u64::from_be_bytes(bytes))
}
