//! Identity: who calls, and what they may do.
//!
//! Service accounts and their keys, predefined and custom roles, policies with conditions, groups, workload identity
//! federation, access and identity tokens, OAuth's endpoints, explanations, what accounts use of their rights, the audit
//! log and what a metadata server says. [`Iam`] is all of it around one store; it stands behind the ports
//! [`Authority`](kernel::ports::Authority), [`Authenticator`](kernel::ports::Authenticator),
//! [`Identity`](kernel::ports::Identity) and [`Policies`](kernel::ports::Policies), so the other crates never see
//! this one. Everything a request needs is in memory; the store is only written.
//!
//! **Projects.** [`Iam`] asks the `Projects` port for names and numbers, so the projects are made first, without
//! policies, and are told of [`Iam`] afterwards. Nothing has to be written for a new project's policy: a project
//! whose policy was never set has the [default one](Iam::default_policy), in which the person at the machine is
//! owner. Its default service account is written by [`Iam::ensure_project`], or when it is first used.
//!
//! Left out so far: deny policies, principal access boundaries.

mod accounts;
mod api;
mod audit;
mod auth;
mod cel;
mod commit;
mod compiled;
mod conditions;
mod constraints;
mod credentials;
mod custom;
mod decide;
mod explain;
mod federation;
mod groups;
mod jwt;
mod keys;
mod least;
mod members;
mod metadata;
mod oauth;
mod owner;
mod policies;
mod records;
mod remarks;
mod roles;
mod tokens;
mod usage;
mod x509;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use kernel::{
    Error, Result,
    clock::Clock,
    mirror::{Change, Mirror, Record},
    ports::{Constraints, Projects},
    store::{Outcome, Store, Txn},
};

pub use accounts::default_account;
pub use explain::{ExplainedBinding, ExplainedCondition, Explanation, Level, Question};
pub use federation::Fetch;
pub use least::{Fate, Grant, Least, Origin, Standing, Use};
pub use metadata::Instance;
pub use oauth::Request;
pub use owner::Owner;
pub use roles::{Basic, Permission, PermissionSet, Role};

use records::{
    ACCOUNTS, AccountRecord, DELETED, GROUPS, GroupRecord, KEYS, KeyRecord, POLICIES, PolicyRecord, REVOKED,
    ROLES, RevokedRecord, RoleRecord, SYSTEM,
};

/// The service that service accounts and roles belong to.
pub const SERVICE: &str = "iam.googleapis.com";

/// Identity, whole.
pub struct Iam {
    clock: Clock,
    projects: Arc<dyn Projects>,
    owner: Owner,
    constraints: OnceLock<Arc<dyn Constraints>>,
    store: Arc<dyn Store>,
    index: Arc<decide::Index>,
    policies: Mirror<PolicyRecord>,
    custom: Mirror<RoleRecord>,
    groups: Mirror<GroupRecord>,
    accounts: Mirror<AccountRecord>,
    deleted: Mirror<AccountRecord>,
    keys: Mirror<KeyRecord>,
    revoked: Mirror<RevokedRecord>,
    federation: federation::Pools,
    sign_ins: oauth::SignIns,
    checked: tokens::Checked,
    mint: tokens::Mint,
    signers: keys::Signers,
    usage: usage::Usage,
}

impl Iam {
    /// Reads what the store has and keeps it in memory from then on. The owner is who `haar exec` acts as.
    ///
    /// # Errors
    /// Those of the store, and `INTERNAL` for records that a newer haar wrote.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Clock,
        projects: Arc<dyn Projects>,
        owner: Owner,
    ) -> Result<Arc<Self>> {
        let index = Arc::new(decide::Index::default());
        let generation = Arc::new(AtomicU64::new(0));
        let fill = index.clone();
        let policies =
            Mirror::open_with(store.clone(), POLICIES, move |changes: &[Change<PolicyRecord>]| {
                changes.iter().for_each(|change| fill.put(&change.name, change.after.clone()));
            });
        let fill = index.clone();
        let custom = Mirror::open_with(store.clone(), ROLES, move |changes: &[Change<RoleRecord>]| {
            changes.iter().for_each(|change| {
                fill.put_role(&change.name, change.after.as_deref().map(|role| &role.value))
            });
        });
        let fill = index.clone();
        let groups = Mirror::open_with(store.clone(), GROUPS, move |changes: &[Change<GroupRecord>]| {
            fill.groups.put_all(
                changes
                    .iter()
                    .map(|change| (&*change.name, change.after.as_deref().map(|group| &group.value))),
            );
        });
        Ok(Arc::new(Iam {
            custom: custom.await?,
            groups: groups.await?,
            policies: policies.await?,
            accounts: counted::<AccountRecord>(&store, ACCOUNTS, &generation).await?,
            deleted: Mirror::open(store.clone(), DELETED).await?,
            keys: counted::<KeyRecord>(&store, KEYS, &generation).await?,
            revoked: counted::<RevokedRecord>(&store, REVOKED, &generation).await?,
            federation: federation::Pools::open(&store, &generation).await?,
            sign_ins: oauth::SignIns::default(),
            checked: tokens::Checked::new(generation),
            mint: tokens::Mint::new(&token_secret(&*store).await?),
            signers: keys::Signers::open(&*store).await?,
            clock,
            projects,
            constraints: OnceLock::new(),
            usage: usage::Usage::default(),
            owner,
            store,
            index,
        }))
    }

    /// The person at the machine.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }
}

/// A mirror of records whose change can end a token.
async fn counted<T: Record>(
    store: &Arc<dyn Store>,
    prefix: &str,
    generation: &Arc<AtomicU64>,
) -> Result<Mirror<T>> {
    let generation = generation.clone();
    Mirror::open_with(store.clone(), prefix, move |_| {
        generation.fetch_add(1, Ordering::AcqRel);
    })
    .await
}

/// The secret that tokens are made with, made on first use. It lies in the store, which is private to its user.
async fn token_secret(store: &dyn Store) -> Result<Vec<u8>> {
    let key = format!("{SYSTEM}token");
    if let Some(entry) = store.get(&key).await? {
        return Ok(entry.value.to_vec());
    }
    let fresh = random::<32>()?.to_vec();
    match store.txn(Txn::new().check(&key, 0).put(&key, fresh.clone())).await? {
        Outcome::Committed(_) => Ok(fresh),
        // Another one was first: its secret counts.
        Outcome::Conflict(_) => match store.get(&key).await? {
            Some(entry) => Ok(entry.value.to_vec()),
            None => Err(Error::internal("the token secret is gone")),
        },
    }
}

/// Random bytes.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("the machine gives no randomness"))?;
    Ok(bytes)
}
