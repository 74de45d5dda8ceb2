//! A change and what must know of it: one transaction may touch several mirrors, and who made it reads all of them next.
//!
//! A mirror's own commit waits for that mirror alone. Here a write returns when every mirror has it that it concerns, so
//! that the next call sees all of a change or none.

use kernel::{
    Error, Result,
    mirror::{Mirror, Record},
    store::{Outcome, Revision, Txn},
};

use crate::Iam;

impl Iam {
    /// Carries out a transaction, and returns when every mirror has it whose keys it writes or checks; after a conflict,
    /// when they have what it conflicted with.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn transact(&self, txn: Txn) -> Result<Outcome> {
        let concerned = Concerned::by(&txn);
        let outcome = self.store.txn(txn).await?;
        let revision = match outcome {
            Outcome::Committed(revision) => revision,
            Outcome::Conflict(_) => self.store.range("iam/", "", 0).await?.1,
        };
        tokio::try_join!(
            concerned.wait(&self.policies, revision),
            concerned.wait(&self.custom, revision),
            concerned.wait(&self.groups, revision),
            concerned.wait(&self.accounts, revision),
            concerned.wait(&self.deleted, revision),
            concerned.wait(&self.keys, revision),
            concerned.wait(&self.revoked, revision),
            concerned.wait(self.federation.pools.mirror(), revision),
            concerned.wait(self.federation.providers.mirror(), revision),
        )?;
        Ok(outcome)
    }

    /// Carries out a change that may lose against another.
    ///
    /// # Errors
    /// `ABORTED` when it lost; those of the store.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<()> {
        match self.transact(txn).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict(_) => Err(Error::aborted("There were concurrent changes. Please retry.")),
        }
    }
}

/// The keys that a transaction is about.
struct Concerned(Vec<String>);

impl Concerned {
    fn by(txn: &Txn) -> Self {
        let checked = txn.checks.iter().map(|check| check.key.as_str());
        Concerned(txn.changed_keys().chain(checked).map(str::to_owned).collect())
    }

    async fn wait<T: Record>(&self, mirror: &Mirror<T>, revision: Revision) -> Result<()> {
        let prefix = mirror.key("");
        match self.0.iter().any(|key| key.starts_with(&prefix)) {
            true => mirror.wait_for(revision).await,
            false => Ok(()),
        }
    }
}
