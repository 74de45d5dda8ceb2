//! Forgetting pools and providers that cannot come back any more, a part at a time: a pool may have more providers than
//! a transaction has room for.

use kernel::{
    Result,
    store::{MAX_OPERATIONS, Txn},
};

use super::Name;
use crate::Iam;

/// How many records are forgotten in one transaction, each with a check and a deletion.
const PART: usize = MAX_OPERATIONS / 2;

impl Iam {
    /// Forgets a part of the pools and providers that were deleted too long ago; a pool goes after its providers.
    ///
    /// # Errors
    /// Those of the store, and `ABORTED` when one of them was made anew meanwhile.
    pub(crate) async fn forget_federation(&self) -> Result<()> {
        let providers = self.federation.providers.mirror();
        let gone = providers.scan("", "", PART, |_, provider| self.is_gone(provider.deleted));
        self.forget(gone.iter().map(|(key, found)| (providers.key(key), found.revision))).await?;
        let pools = self.federation.pools.mirror();
        for (key, found) in pools.scan("", "", 1, |_, pool| self.is_gone(pool.deleted)) {
            self.forget_providers(&format!("{key}/")).await?;
            self.forget([(pools.key(&key), found.revision)].into_iter()).await?;
        }
        Ok(())
    }

    /// Forgets a pool whose id is taken again, with everything in it.
    ///
    /// # Errors
    /// As [`Iam::forget_federation`].
    pub(super) async fn forget_pool(&self, name: &Name<'_>) -> Result<()> {
        self.forget_providers(&format!("{}/", name.pool_key())).await?;
        let pools = self.federation.pools.mirror();
        let found = pools.get(&name.pool_key());
        self.forget(found.into_iter().map(|found| (pools.key(&name.pool_key()), found.revision))).await
    }

    async fn forget_providers(&self, prefix: &str) -> Result<()> {
        let providers = self.federation.providers.mirror();
        loop {
            let inside = providers.range(prefix, "", PART);
            if inside.is_empty() {
                return Ok(());
            }
            self.forget(inside.iter().map(|(key, found)| (providers.key(key), found.revision))).await?;
        }
    }

    async fn forget(&self, records: impl Iterator<Item = (String, u64)>) -> Result<()> {
        let txn = records.fold(Txn::new(), |txn, (key, revision)| txn.check(&*key, revision).delete(&*key));
        if txn.deletes.is_empty() { Ok(()) } else { self.commit(txn).await }
    }
}
