//! What Secret Manager does: it keeps secrets and their versions, and hands payloads out.
//!
//! Reads are answered from memory, where the store's records are mirrored; only payloads above
//! 4 KiB are fetched. Every change is one transaction, which holds only if what it was
//! decided on is still so. Time passes in two steps: from its moment on, an expired secret or a version due for
//! destruction *is* gone to every reader; the [sweep](sweep) then erases it.

use std::{path::Path, sync::Arc};

use kernel::{
    Error, Result,
    clock::Clock,
    collection::{Collection, Held, Wording},
    ports::{Policies, Projects},
    store::Store,
    time::Micros,
};

use crate::{
    names::{Pick, SecretPath, VersionPath},
    record::{self, GoneRecord, SecretRecord, State, VersionRecord},
    vault::{IfMissing, Vault},
};

mod list;
mod refuse;
mod secrets;
mod sweep;
mod versions;

pub(crate) use list::Query;
pub(crate) use versions::Change;

/// Secret Manager. Made by [`Secrets::open`]; served by [`methods`](crate::methods).
pub struct Secrets {
    store: Arc<dyn Store>,
    secrets: Collection<SecretRecord>,
    versions: Collection<VersionRecord>,
    gone: Collection<GoneRecord>,
    vault: Vault,
    clock: Clock,
    projects: Arc<dyn Projects>,
    policies: Arc<dyn Policies>,
}

/// A secret that exists.
#[derive(Clone, Debug)]
pub(crate) struct FoundSecret {
    /// Its name as Google shows it, with the project's number.
    pub(crate) name: String,
    /// What is known of it.
    pub(crate) record: Held<SecretRecord>,
}

/// A version that exists, perhaps only as the memory of one that was destroyed.
#[derive(Clone, Debug)]
pub(crate) struct FoundVersion {
    /// The secret it belongs to.
    pub(crate) secret: FoundSecret,
    /// Its number.
    pub(crate) number: u64,
    /// What is known of it.
    pub(crate) record: Held<VersionRecord>,
}

impl Secrets {
    /// Starts Secret Manager on a store, with its master key in `keys_dir` (made there when nothing was ever
    /// encrypted). A task of its own sweeps out what time has ended, until the last handle is dropped.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`, for a person to read, when the master key is missing, malformed, readable by
    /// others, or not the one that payloads were encrypted under; whatever the store answers.
    pub async fn open(
        store: Arc<dyn Store>,
        keys_dir: &Path,
        clock: Clock,
        projects: Arc<dyn Projects>,
        policies: Arc<dyn Policies>,
    ) -> Result<Arc<Self>> {
        let (secrets, versions, gone) = tokio::try_join!(
            Collection::open(store.clone(), record::NAMED, Wording::of("Secret")),
            Collection::open(store.clone(), record::VERSIONS, version_wording()),
            Collection::open(store.clone(), record::GONE, Wording::of("Secret")),
        )?;
        let vault = open_vault(keys_dir, &versions)?;
        let secrets = Arc::new(Secrets { store, secrets, versions, gone, vault, clock, projects, policies });
        secrets.keep_sweeping();
        Ok(secrets)
    }

    /// The projects that secrets are in.
    pub(crate) fn projects(&self) -> &dyn Projects {
        &*self.projects
    }

    /// The policies of secrets.
    pub(crate) fn policies(&self) -> &dyn Policies {
        &*self.policies
    }

    /// The time now.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now().into()
    }

    /// A secret.
    ///
    /// # Errors
    /// `NOT_FOUND`, also once it has expired.
    pub(crate) async fn secret(&self, path: &SecretPath<'_>) -> Result<FoundSecret> {
        let name = self.name(path).await?;
        match self.living(&name) {
            Some(record) => Ok(FoundSecret { name, record }),
            None => Err(refuse::no_secret(&name)),
        }
    }

    /// A version, by number, alias or as the latest.
    ///
    /// # Errors
    /// `NOT_FOUND`, in Google's words for what exactly is missing.
    pub(crate) async fn version(&self, path: &VersionPath<'_>) -> Result<FoundVersion> {
        let name = self.name(&path.secret).await?;
        let Some(record) = self.living(&name) else { return Err(refuse::no_secret_or_versions(&name)) };
        let secret = FoundSecret { name, record };
        let number = number_of(&secret, path.version)?;
        match self.version_record(&secret.record, number).await? {
            Some(record) => Ok(FoundVersion { secret, number, record }),
            None => Err(refuse::no_version(&secret.name, number)),
        }
    }

    /// The name of a secret as Google shows it, and as it is stored.
    async fn name(&self, path: &SecretPath<'_>) -> Result<String> {
        let project = self.projects.find(path.place.project).await?;
        Ok([&*path.place.secrets(project.number), path.secret].concat())
    }

    /// The secret with this name, if its time has not come.
    fn living(&self, name: &str) -> Option<Held<SecretRecord>> {
        self.secrets.mirror().get(name).filter(|record| !record.expired(self.now()))
    }

    /// The record of a version. It is mirrored on its own, so it may arrive a moment after its secret's.
    async fn version_record(
        &self,
        secret: &Held<SecretRecord>,
        number: u64,
    ) -> Result<Option<Held<VersionRecord>>> {
        if !(1..=secret.versions).contains(&number) {
            return Ok(None);
        }
        let id = record::version_id(secret.uid, number);
        if let Some(record) = self.versions.mirror().get(&id) {
            return Ok(Some(record));
        }
        self.versions.mirror().wait_for(secret.revision).await?;
        Ok(self.versions.mirror().get(&id))
    }
}

impl FoundSecret {
    /// Its id: the end of its name.
    pub(crate) fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

impl FoundVersion {
    /// Its name as Google shows it, with the project's number.
    pub(crate) fn name(&self) -> String {
        refuse::version_name(&self.secret.name, self.number)
    }
}

/// How Secret Manager answers a stale etag, where most services answer `ABORTED`:
/// <https://cloud.google.com/secret-manager/docs/etags>.
fn version_wording() -> Wording {
    Wording::of("Secret Version").stale(|_, _| refuse::stale())
}

/// Opens the master key, and makes sure that it is the one that the stored payloads were encrypted under.
fn open_vault(keys_dir: &Path, versions: &Collection<VersionRecord>) -> Result<Vault> {
    let stored = versions.mirror().list();
    let mut sealed = stored.iter().filter(|(_, version)| version.state() != State::Destroyed).peekable();
    let if_missing = if sealed.peek().is_some() { IfMissing::Refuse } else { IfMissing::Create };
    let vault = Vault::open(keys_dir, if_missing)?;
    match sealed.find(|(_, version)| version.master_key != vault.key_id()) {
        None => Ok(vault),
        Some(_) => Err(Error::precondition(format!(
            "the master key in {} is not the one that stored secrets were encrypted under: restore that one",
            keys_dir.display()
        ))),
    }
}

fn number_of(secret: &FoundSecret, pick: Pick<'_>) -> Result<u64> {
    let latest = secret.record.versions;
    match pick {
        Pick::Number(number) => Ok(number),
        Pick::Latest if latest > 0 => Ok(latest),
        Pick::Latest => Err(refuse::no_secret_or_versions(&secret.name)),
        Pick::Alias(alias) => {
            let aliases = &secret.record.settings.aliases;
            aliases.get(alias).copied().ok_or_else(|| refuse::no_version(&secret.name, alias))
        }
    }
}
