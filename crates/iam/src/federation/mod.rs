//! Workload identity federation: pools, their OpenID Connect providers, and the exchange of an issuer's token for one
//! of ours.
//!
//! Pools and providers are kept by the number of their project, as their names have it. Deleted ones keep their id
//! for thirty days and can come back. A pool that is disabled or deleted ends the tokens of its identities at once; a
//! provider only issues no more of them, as on Google.
//!
//! Left out: SAML, AWS and X.509 providers, managed identities (pools in trust-domain mode), and policies on pools.
//!
//! Source: <https://cloud.google.com/iam/docs/workload-identity-federation>.

mod exchange;
mod forget;
mod issuer;
mod mapping;
mod record;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use kernel::{
    Error, Result,
    collection::{Collection, Held, Wording},
    mirror::Versioned,
    paging::Page,
    ports::Projects,
    store::Store,
};

use crate::{Iam, counted};
pub use issuer::Fetch;
pub(crate) use record::{PoolRecord, ProviderRecord};

/// How long a deleted pool or provider can be brought back, in seconds.
pub(crate) const KEPT: u64 = 30 * 24 * 3600;
/// The longest display name, in characters.
const LONGEST_DISPLAY_NAME: usize = 32;
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 256;
/// The most audiences of a provider.
const MOST_AUDIENCES: usize = 10;
/// The longest audience, in bytes.
const LONGEST_AUDIENCE: usize = 256;
/// The longest issuer, in bytes.
const LONGEST_ISSUER: usize = 2000;

/// The name of a pool, or of a provider in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'n> {
    /// The project's number.
    pub project: u64,
    /// The pool's id.
    pub pool: &'n str,
    /// The provider's id; empty for the pool itself.
    pub provider: &'n str,
}

impl<'n> Name<'n> {
    /// Takes `projects/P/locations/global/workloadIdentityPools/POOL` apart, with `/providers/X` after it or not.
    /// Gives the project as it is written.
    pub(crate) fn split(name: &'n str) -> Option<(&'n str, &'n str, &'n str)> {
        let pool = |name| kernel::names::parse(name, ["projects", "locations", "workloadIdentityPools"]);
        let provider = |name| {
            kernel::names::parse(name, ["projects", "locations", "workloadIdentityPools", "providers"])
        };
        match (pool(name), provider(name)) {
            (Some([project, "global", pool]), _) => Some((project, pool, "")),
            (_, Some([project, "global", pool, provider])) => Some((project, pool, provider)),
            _ => None,
        }
    }

    /// The name of a provider by its number, from memory: what an exchange asks for.
    pub(crate) fn known(name: &'n str, projects: &dyn Projects) -> Option<Name<'n>> {
        let (project, pool, provider) = Self::split(name)?;
        Some(Name { project: projects.known(project)?.number, pool, provider })
    }

    /// The key of the pool.
    fn pool_key(&self) -> String {
        format!("{}/{}", self.project, self.pool)
    }

    /// The key of the provider.
    fn provider_key(&self) -> String {
        format!("{}/{}/{}", self.project, self.pool, self.provider)
    }

    /// The pool's full name: `//iam.googleapis.com/projects/…`.
    pub(crate) fn pool_resource(&self) -> String {
        let Name { project, pool, .. } = self;
        format!("//iam.googleapis.com/projects/{project}/locations/global/workloadIdentityPools/{pool}")
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/locations/global/workloadIdentityPools/{}", self.project, self.pool)?;
        if self.provider.is_empty() { Ok(()) } else { write!(f, "/providers/{}", self.provider) }
    }
}

/// Pools, providers, and the keys of their issuers.
pub(crate) struct Pools {
    pub(crate) pools: Collection<PoolRecord>,
    pub(crate) providers: Collection<ProviderRecord>,
    pub(crate) issuers: issuer::Issuers,
}

impl Pools {
    /// Reads what the store has. A pool that changes ends checked tokens.
    pub(crate) async fn open(store: &Arc<dyn Store>, generation: &Arc<AtomicU64>) -> Result<Self> {
        let pools = counted::<PoolRecord>(store, record::POOLS, generation).await?;
        Ok(Pools {
            pools: Collection::over(pools, wording()),
            providers: Collection::open(store.clone(), record::PROVIDERS, wording()).await?,
            issuers: issuer::Issuers::default(),
        })
    }

    /// The providers that let identities into a pool now.
    pub(crate) fn providers_of(&self, pool: &Name<'_>) -> Vec<Held<ProviderRecord>> {
        let lets_in = |provider: &ProviderRecord| provider.deleted == 0 && !provider.disabled;
        let below = format!("{}/", pool.pool_key());
        let found = self.providers.mirror().scan(&below, "", usize::MAX, |_, provider| lets_in(provider));
        found.into_iter().map(|(_, provider)| provider).collect()
    }

    /// Whether identities of a pool are good: it is there and enabled.
    pub(crate) fn is_open(&self, project: u64, pool: &str) -> bool {
        let found = self.pools.find(&Name { project, pool, provider: "" }.pool_key());
        found.is_some_and(|pool| pool.deleted == 0 && !pool.disabled)
    }
}

/// Google's words for pools and providers.
fn wording() -> Wording {
    Wording::of("")
        .not_found(|_, _| Error::not_found("Requested entity was not found."))
        .exists(|_, _| Error::already_exists("Requested entity already exists"))
}

fn failed_precondition() -> Error {
    Error::precondition("Precondition check failed.")
}

impl Iam {
    /// Says how the documents of issuers are got. Without it, only providers with their keys written down work.
    pub fn reach_issuers_by(&self, fetch: Arc<dyn Fetch>) {
        self.federation.issuers.reach_by(fetch);
    }

    /// A pool, deleted ones included while they are kept.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn pool(&self, name: &Name<'_>) -> Result<Held<PoolRecord>> {
        let found = self.federation.pools.get(&name.pool_key())?;
        if self.is_gone(found.deleted) {
            Err(Error::not_found("Requested entity was not found."))
        } else {
            Ok(found)
        }
    }

    /// A provider, deleted ones included while they and their pools are kept.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn provider(&self, name: &Name<'_>) -> Result<Held<ProviderRecord>> {
        self.pool(name)?;
        let found = self.federation.providers.get(&name.provider_key())?;
        if self.is_gone(found.deleted) {
            Err(Error::not_found("Requested entity was not found."))
        } else {
            Ok(found)
        }
    }

    /// Whether what was deleted then cannot come back any more.
    fn is_gone(&self, deleted: u64) -> bool {
        deleted != 0 && deleted + KEPT <= self.clock.unix()
    }

    /// Makes a pool.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `ALREADY_EXISTS`.
    pub(crate) async fn create_pool(&self, name: &Name<'_>, pool: PoolRecord) -> Result<Held<PoolRecord>> {
        check_id("workload_identity_pool_id", name.pool)?;
        check_pool(&pool)?;
        let pools = &self.federation.pools;
        let key = name.pool_key();
        if pools.find(&key).is_some_and(|pool| self.is_gone(pool.deleted)) {
            self.forget_pool(name).await?;
        }
        pools.create(&key, pool).await
    }

    /// Makes a provider.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `ALREADY_EXISTS`, `NOT_FOUND` for its pool.
    pub(crate) async fn create_provider(
        &self,
        name: &Name<'_>,
        provider: ProviderRecord,
    ) -> Result<Held<ProviderRecord>> {
        check_id("workload_identity_pool_provider_id", name.provider)?;
        check_provider(&provider)?;
        if self.pool(name)?.deleted != 0 {
            return Err(failed_precondition());
        }
        let providers = &self.federation.providers;
        let key = name.provider_key();
        if providers.find(&key).is_some_and(|provider| self.is_gone(provider.deleted)) {
            providers.delete(&key, "").await?;
        }
        providers.create(&key, provider).await
    }

    /// Changes a pool that is not deleted.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION`, `INVALID_ARGUMENT`.
    pub(crate) async fn change_pool(
        &self,
        name: &Name<'_>,
        change: impl Fn(&PoolRecord) -> Result<PoolRecord>,
    ) -> Result<Held<PoolRecord>> {
        self.pool(name)?;
        let change = |pool: &mut PoolRecord| {
            live(pool.deleted)?;
            *pool = change(pool)?;
            check_pool(pool)
        };
        self.federation.pools.update(&name.pool_key(), "", change).await
    }

    /// Changes a provider that is not deleted.
    ///
    /// # Errors
    /// `NOT_FOUND`, `FAILED_PRECONDITION`, `INVALID_ARGUMENT`.
    pub(crate) async fn change_provider(
        &self,
        name: &Name<'_>,
        change: impl Fn(&ProviderRecord) -> Result<ProviderRecord>,
    ) -> Result<Held<ProviderRecord>> {
        self.provider(name)?;
        let change = |provider: &mut ProviderRecord| {
            live(provider.deleted)?;
            *provider = change(provider)?;
            check_provider(provider)
        };
        self.federation.providers.update(&name.provider_key(), "", change).await
    }

    /// Deletes a pool, or brings it back.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` when it is so already.
    pub(crate) async fn switch_pool(&self, name: &Name<'_>, to: Life) -> Result<Held<PoolRecord>> {
        self.pool(name)?;
        let now = self.clock.unix();
        self.federation.pools.update(&name.pool_key(), "", |pool| to.apply(&mut pool.deleted, now)).await
    }

    /// Deletes a provider, or brings it back.
    ///
    /// # Errors
    /// `NOT_FOUND`; `FAILED_PRECONDITION` when it is so already.
    pub(crate) async fn switch_provider(&self, name: &Name<'_>, to: Life) -> Result<Held<ProviderRecord>> {
        self.provider(name)?;
        let now = self.clock.unix();
        let switch = |provider: &mut ProviderRecord| to.apply(&mut provider.deleted, now);
        self.federation.providers.update(&name.provider_key(), "", switch).await
    }

    /// A page of the pools of a project, by id, and the token of the next.
    pub(crate) fn pools(
        &self,
        project: u64,
        page: &Page,
        which: Which,
    ) -> (Vec<(String, PoolRecord)>, String) {
        let shown =
            |_: &str, pool: &Versioned<PoolRecord>| which.shows(pool.deleted) && !self.is_gone(pool.deleted);
        let (found, next) = self.federation.pools.list(&format!("{project}/"), page, shown);
        (found.into_iter().map(|(key, pool)| (last(&key), pool.value.clone())).collect(), next)
    }

    /// A page of the providers of a pool, by id, and the token of the next.
    ///
    /// # Errors
    /// `NOT_FOUND` for the pool.
    pub(crate) fn providers(
        &self,
        name: &Name<'_>,
        page: &Page,
        which: Which,
    ) -> Result<(Vec<(String, ProviderRecord)>, String)> {
        self.pool(name)?;
        let shown = |_: &str, provider: &Versioned<ProviderRecord>| {
            which.shows(provider.deleted) && !self.is_gone(provider.deleted)
        };
        let (found, next) = self.federation.providers.list(&format!("{}/", name.pool_key()), page, shown);
        Ok((found.into_iter().map(|(key, provider)| (last(&key), provider.value.clone())).collect(), next))
    }
}

fn last(key: &str) -> String {
    key.rsplit('/').next().unwrap_or(key).to_owned()
}

/// Which of them a listing shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that live.
    Live,
    /// Deleted ones too.
    All,
}

impl Which {
    fn shows(self, deleted: u64) -> bool {
        self == Which::All || deleted == 0
    }
}

/// What becomes of a pool or a provider.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is deleted.
    Delete,
    /// It comes back.
    Undelete,
}

impl Life {
    fn apply(self, deleted: &mut u64, now: u64) -> Result<()> {
        match (self, *deleted) {
            (Life::Delete, 0) => *deleted = now,
            (Life::Undelete, then) if then != 0 => *deleted = 0,
            _ => return Err(failed_precondition()),
        }
        Ok(())
    }
}

fn live(deleted: u64) -> Result<()> {
    if deleted == 0 { Ok(()) } else { Err(failed_precondition()) }
}

/// Google's rule: 4 to 32 lowercase letters, digits and hyphens; `gcp-` is reserved.
fn check_id(field: &str, id: &str) -> Result<()> {
    let plain = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match (4..=32).contains(&id.len()) && plain && !id.starts_with("gcp-") {
        true => Ok(()),
        false => Err(Error::bad_field(
            field,
            format!(
                "'{id}' is not valid: use 4 to 32 lowercase letters, digits and hyphens, and do not begin with 'gcp-'."
            ),
        )),
    }
}

fn check_texts(at: &str, display_name: &str, description: &str) -> Result<()> {
    let longer = |text: &str, most: usize| text.chars().count() > most;
    match () {
        () if longer(display_name, LONGEST_DISPLAY_NAME) => Err(Error::bad_field(
            format!("{at}.display_name"),
            format!("The display name is longer than {LONGEST_DISPLAY_NAME} characters."),
        )),
        () if longer(description, LONGEST_DESCRIPTION) => Err(Error::bad_field(
            format!("{at}.description"),
            format!("The description is longer than {LONGEST_DESCRIPTION} characters."),
        )),
        () => Ok(()),
    }
}

fn check_pool(pool: &PoolRecord) -> Result<()> {
    match pool.mode.as_str() {
        "" | "MODE_UNSPECIFIED" | "FEDERATION_ONLY" => {}
        other => return Err(Error::unimplemented(format!("Pools in {other} mode are not served here."))),
    }
    check_texts("workload_identity_pool", &pool.display_name, &pool.description)
}

fn check_provider(provider: &ProviderRecord) -> Result<()> {
    let wrong = |field: &str, why: String| {
        Error::bad_field(format!("workload_identity_pool_provider.oidc.{field}"), why)
    };
    check_texts("workload_identity_pool_provider", &provider.display_name, &provider.description)?;
    check_issuer(&provider.issuer).map_err(|why| wrong("issuer_uri", why.into()))?;
    if provider.audiences.len() > MOST_AUDIENCES
        || provider.audiences.iter().any(|one| one.len() > LONGEST_AUDIENCE)
    {
        let why = format!(
            "At most {MOST_AUDIENCES} audiences of at most {LONGEST_AUDIENCE} characters can be allowed."
        );
        return Err(wrong("allowed_audiences", why));
    }
    if !provider.jwks.is_empty() {
        issuer::read_keys(provider.jwks.as_bytes()).map_err(|why| wrong("jwks_json", why.into()))?;
    }
    mapping::check(provider)
}

/// An issuer is an https address; plain http is taken on this machine, where no certificate is to be had.
fn check_issuer(issuer: &str) -> Result<(), &'static str> {
    let plain = issuer.len() <= LONGEST_ISSUER
        && issuer.bytes().all(|b| b.is_ascii_graphic())
        && !issuer.contains(['?', '#', '@']);
    let uri = issuer.parse::<http::Uri>().ok().filter(|_| plain).ok_or("The issuer must be a URI.")?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if is_local => Ok(()),
        _ => Err("The issuer must be a URI with the https scheme; http is accepted for this machine only."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let pool = "projects/p/locations/global/workloadIdentityPools/pool";
        assert_eq!(Name::split(pool), Some(("p", "pool", "")));
        assert_eq!(Name::split(&format!("{pool}/providers/x")), Some(("p", "pool", "x")));
        for wrong in [
            "",
            "projects/p",
            &format!("{pool}/"),
            &format!("{pool}/keys/x"),
            &pool.replace("global", "here"),
        ] {
            assert_eq!(Name::split(wrong), None, "{wrong}");
        }
        let name = Name { project: 1, pool: "pool", provider: "x" };
        assert_eq!(name.to_string(), "projects/1/locations/global/workloadIdentityPools/pool/providers/x");
    }

    #[test]
    fn issuers_are_https_or_on_this_machine() {
        for good in [
            "https://token.actions.githubusercontent.com",
            "http://127.0.0.1:8080",
            "http://localhost:1/x",
            "http://[::1]:2",
        ] {
            assert!(check_issuer(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://example.com",
            "ftp://x",
            "https://a@b",
            "https://x?y",
            "token.actions",
            "http://169.254.169.254",
        ] {
            assert!(check_issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_follow_googles_rule() {
        assert!(check_id("f", "github-pool").is_ok());
        for bad in ["", "abc", "gcp-pool", "Pool", "a_bcd", &"a".repeat(33)] {
            assert!(check_id("f", bad).is_err(), "{bad}");
        }
    }
}
