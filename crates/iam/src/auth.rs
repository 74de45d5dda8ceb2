//! The ports of identity: decisions, authentication, and tokens for workloads.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use kernel::{
    BoxFuture, Error, Principal, Resource, Result,
    call::RequestInfo,
    error::Detail,
    names::{RESOURCE_MANAGER, container},
    ports::{Authenticator, Authority, Identity},
};
use serde_json::json;

use crate::{
    Iam, SERVICE,
    conditions::{Context, Modified},
    decide::Asker,
    federation::Name,
    jwt::{self, Unverified},
    members::is_email,
    owner::{CLIENT_ID, GCLOUD_CLIENT_ID},
    records::AccountRecord,
    roles::{Permission, Role},
    tokens::{Claims, Kind, Refusal},
};

/// How long a token of ours is good for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
/// Who signs identity tokens.
pub(crate) const ISSUER: &str = "https://accounts.google.com";

/// More levels than can stand above a project.
const MOST_ABOVE: usize = 16;

/// The right to run something as an account, and how Cloud Run spells it in its errors.
const ACT_AS: &str = "iam.serviceAccounts.actAs";
const ACT_AS_IN_RUN: &str = "iam.serviceaccounts.actAs";

impl Authority for Iam {
    fn allows(
        &self,
        principal: &Principal,
        permission: &str,
        resource: &Resource,
        request: &RequestInfo,
    ) -> bool {
        let is_allowed = self.may(principal, permission, resource, request.time);
        if let (true, Principal::ServiceAccount(account)) = (is_allowed, principal) {
            let now = request.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            self.usage.note(account, spelled(permission), (resource.service, &resource.name), now);
        }
        is_allowed
    }

    fn generation(&self) -> Option<u64> {
        self.index.generation()
    }
}

/// A permission as the table of roles spells it.
fn spelled(permission: &str) -> &str {
    if permission == ACT_AS_IN_RUN { ACT_AS } else { permission }
}

impl Iam {
    /// The decision, for somebody who only asks: nothing is noted as used.
    pub(crate) fn may(
        &self,
        principal: &Principal,
        permission: &str,
        resource: &Resource,
        time: SystemTime,
    ) -> bool {
        // Which roles a new policy changes is not known before the method runs.
        let modified =
            if permission.ends_with(".setIamPolicy") { Modified::Unknown } else { Modified::Nothing };
        self.decides(principal, permission, resource, |context| context.modified(modified), time)
    }

    /// The decision, for a request that conditions know more of.
    pub(crate) fn decides<'r>(
        &'r self,
        principal: &Principal,
        permission: &str,
        resource: &'r Resource,
        knowing: impl FnOnce(Context<'r>) -> Context<'r>,
        time: SystemTime,
    ) -> bool {
        let asker = self.asker(principal);
        let permission = spelled(permission);
        let name = self.canonical(resource.service, &resource.name);
        let context = Context::new(time, resource.service, &resource.name, &*self.projects);
        let context = knowing(context);
        let allowed = |service, name: &str| self.index.allows(&asker, permission, (service, name), &context);
        allowed(resource.service, &name)
            || self.owns(principal, permission, &name)
            || self.above(&name).any(|container| allowed(RESOURCE_MANAGER, &container))
    }

    /// What stands above the project or folder that a name begins with: folders, and the organization.
    pub(crate) fn above(&self, name: &str) -> impl Iterator<Item = Arc<str>> {
        let first = container(name).and_then(|container| self.projects.parent(container));
        std::iter::successors(first, |container| self.projects.parent(container)).take(MOST_ABOVE)
    }

    /// Somebody, as policies know them.
    pub(crate) fn asker<'a>(&'a self, principal: &'a Principal) -> Asker<'a> {
        Asker::new(&self.index, principal, |email| self.accounts.get(email))
    }
}

impl Iam {
    /// The name that a resource's policy is found under. A service account is named by its address or its unique
    /// id, in its project or in `-`; its policy belongs to the unique id, so that an account made again under the
    /// same address starts with none. Named in a project that is not its own it is nobody's: what somebody may do
    /// in that project says nothing about it.
    pub(crate) fn canonical<'a>(&self, service: &str, name: &'a str) -> Cow<'a, str> {
        if service != SERVICE {
            return name.into();
        }
        let Some((project, (account, rest))) = split_account(name) else { return name.into() };
        // One that was deleted still has its project: whoever may bring it back is asked there.
        let aside = || self.deleted.get(account).map(|found| found.value.clone());
        match self.find_account(account).or_else(aside) {
            Some(found) if project == "-" || project == found.project => {
                format!("projects/{}/serviceAccounts/{}{rest}", found.project, found.unique_id).into()
            }
            Some(_) => format!("projects/-/serviceAccounts/{account}{rest}").into(),
            None => match self.project_said(account) {
                Some(said) if project == "-" => {
                    format!("projects/{said}/serviceAccounts/{account}{rest}").into()
                }
                Some(said) if said != project => format!("projects/-/serviceAccounts/{account}{rest}").into(),
                _ => name.into(),
            },
        }
    }

    /// The project that an address says it belongs to: by its id, or for a default account by its number.
    fn project_said(&self, email: &str) -> Option<String> {
        let number = || email.strip_suffix("-compute@developer.gserviceaccount.com");
        project_of(email).or_else(|| Some(self.projects.known(number()?)?.id.to_string()))
    }

    /// The default policy: the person at the machine owns each project whose policy was never set, and what stands
    /// above the projects.
    pub(crate) fn owns(&self, principal: &Principal, permission: &str, name: &str) -> bool {
        let is_owner =
            matches!(principal, Principal::User(email) if email.eq_ignore_ascii_case(self.owner.email()));
        is_owner
            && match Resource::new(SERVICE, name).project_id() {
                Some(project) => {
                    let owner = || Role::named("roles/owner").map(Role::permissions);
                    let holds = |asked| owner().is_some_and(|set| set.contains(asked));
                    // Owners of projects do not decide about these, but whoever has the organization does.
                    let is_above = permission.starts_with("orgpolicy.");
                    let owns = || {
                        Permission::named(permission).is_none_or(holds) && !self.index.has_project(project)
                    };
                    (is_above || owns()) && self.has_project(project)
                }
                None => true,
            }
    }
}

impl Iam {
    /// Whether there is such a project. One that was deleted still is somebody's, who may bring it back.
    fn has_project(&self, project: &str) -> bool {
        let named = || ["projects/", project].concat();
        self.projects.known(project).is_some() || self.projects.parent(&named()).is_some()
    }
}

/// Takes `projects/P/serviceAccounts/A` and what follows apart.
fn split_account(name: &str) -> Option<(&str, (&str, &str))> {
    let (project, rest) = name.strip_prefix("projects/")?.split_once("/serviceAccounts/")?;
    let end = rest.find('/').unwrap_or(rest.len());
    (!project.contains('/')).then_some((project, rest.split_at(end)))
}

/// The project that an address says it belongs to.
pub(crate) fn project_of(email: &str) -> Option<String> {
    let domain = email.split_once('@')?.1.strip_suffix(".iam.gserviceaccount.com")?;
    Some(match domain.split_once('.') {
        Some((project, organization)) => format!("{organization}:{project}"),
        None => domain.to_owned(),
    })
}

impl Authenticator for Iam {
    fn authenticate(&self, token: &str) -> Result<Principal, Error> {
        let now = self.clock.unix();
        if let Some(principal) = self.checked.get(token, now) {
            return Ok(principal);
        }
        let generation = self.checked.generation();
        let (principal, expires) = self.check(token, now)?;
        self.checked.put(token, principal.clone(), expires, generation);
        Ok(principal)
    }

    fn authenticate_for(&self, token: &str, host: &str) -> Result<Principal, Error> {
        let principal = self.authenticate(token)?;
        match token.starts_with("ya29.") || is_for(token, host) {
            true => Ok(principal),
            false => Err(refused("ACCESS_TOKEN_TYPE_UNSUPPORTED")),
        }
    }
}

/// Whether a self-signed token that was checked may be used at a host: with scopes it may at all of them, with an
/// audience at that API, regional hosts included.
fn is_for(token: &str, host: &str) -> bool {
    let Ok(claims) = Unverified::parse(token).map(Unverified::checked_before) else { return false };
    let is_scoped = claims.text("scope").is_some_and(|scope| !scope.is_empty());
    let is_there = |audience: &str| {
        let api =
            audience.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        host.strip_suffix(api).is_some_and(|region| region.is_empty() || region.ends_with('-'))
    };
    // Addressed by the address of the port, a call names no API.
    is_scoped || !host.ends_with(".googleapis.com") || claims.meant_for(is_there)
}

impl Iam {
    fn check(&self, token: &str, now: u64) -> Result<(Principal, u64)> {
        if token.starts_with("ya29.") {
            let claims = self.inspect(Kind::Access, token, now).map_err(|refusal| match refusal {
                Refusal::Unknown => refused("ACCESS_TOKEN_TYPE_UNSUPPORTED"),
                Refusal::Expired => refused("ACCESS_TOKEN_EXPIRED"),
                Refusal::Ended => refused("ACCOUNT_STATE_INVALID"),
            })?;
            return Ok((claims.principal, claims.expires));
        }
        self.self_signed(token, now).ok_or_else(|| refused("ACCESS_TOKEN_TYPE_UNSUPPORTED"))
    }

    /// What a token of ours says, if it is good now.
    pub(crate) fn inspect(&self, kind: Kind, token: &str, now: u64) -> Result<Claims, Refusal> {
        let claims = self.mint.read(kind, token)?;
        if claims.expires != 0 && claims.expires <= now {
            return Err(Refusal::Expired);
        }
        let session = session_name(claims.session);
        let ended = self.revoked.get(&session).is_some() || !self.is_good(&claims);
        if ended { Err(Refusal::Ended) } else { Ok(claims) }
    }

    fn is_good(&self, claims: &Claims) -> bool {
        match &claims.principal {
            Principal::ServiceAccount(email) => self
                .accounts
                .get(email)
                .is_some_and(|account| !account.disabled && account.unique_id == claims.unique_id),
            Principal::Federated(who) => who
                .pool()
                .strip_prefix("//iam.googleapis.com/")
                .and_then(|pool| Name::known(pool, &*self.projects))
                .is_some_and(|name| self.federation.is_open(name.project, name.pool)),
            _ => true,
        }
    }

    /// A JSON Web Token that a service account signed itself, for one API or with scopes: what client libraries
    /// send instead of fetching an access token (<https://google.aip.dev/auth/4111>).
    fn self_signed(&self, token: &str, now: u64) -> Option<(Principal, u64)> {
        let (account, claims) = self.assertion(token, now).ok()?;
        let is_api = |audience: &str| {
            let host = audience.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or(rest));
            host.is_some_and(|host| host.ends_with(".googleapis.com") && host != "oauth2.googleapis.com")
        };
        let is_bearer =
            claims.meant_for(is_api) || claims.text("scope").is_some_and(|scope| !scope.is_empty());
        let is_its_own =
            claims.text("sub") == Some(&account.email) && !claims.meant_for(|aud| aud.ends_with("/token"));
        let expires = claims.time("exp").ok()?;
        (is_bearer && is_its_own)
            .then(|| (Principal::ServiceAccount(account.email.as_str().into()), expires + jwt::SKEW))
    }

    /// A token that a service account signed with one of its keys.
    pub(crate) fn assertion(
        &self,
        token: &str,
        now: u64,
    ) -> Result<(AccountRecord, jwt::Claims), jwt::Fault> {
        let unverified = Unverified::parse(token)?;
        let account = self.find_account(unverified.issuer()).filter(|account| !account.disabled);
        let account = account.ok_or(jwt::Fault::UnknownIssuer)?;
        let usable = |key: &crate::records::KeyRecord| {
            !key.disabled && key.after <= now + jwt::SKEW && now < key.before
        };
        let keys = self.keys_of(&account.unique_id);
        // Old libraries name no key: then any of the account's may have signed.
        let named = keys.iter().filter(|key| unverified.key_id.is_empty() || key.id == unverified.key_id);
        if !named.filter(|key| usable(key)).any(|key| unverified.is_by(&public(key))) {
            // A key that was deleted made signatures that nobody's are now.
            return Err(jwt::Fault::Signature);
        }
        let claims = unverified.signed_claims(now)?;
        let (issued, expires) = (claims.time("iat")?, claims.time("exp")?);
        let is_short = expires.saturating_sub(issued) <= LIFETIME.as_secs();
        if is_short { Ok((account, claims)) } else { Err(jwt::Fault::TooLong) }
    }
}

/// The public half of a stored key.
pub(crate) fn public(key: &crate::records::KeyRecord) -> jwt::Public {
    jwt::Public { modulus: key.modulus.clone(), exponent: key.exponent.clone() }
}

/// The name of a revoked session.
pub(crate) fn session_name(session: u64) -> String {
    format!("{session:016x}")
}

/// What Google answers to credentials that it does not accept.
fn refused(reason: &'static str) -> Error {
    Error::unauthenticated(
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
         authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )
    .with(Detail::Info { reason, domain: "googleapis.com", metadata: Vec::new() })
}

impl Identity for Iam {
    fn access_token(&self, email: &str, scopes: &[&str]) -> BoxFuture<'_, Result<(String, Duration)>> {
        let (email, scopes) = (email.to_owned(), scopes.iter().map(|scope| (*scope).to_owned()).collect());
        Box::pin(async move {
            let account = self.usable_account(&email).await?;
            Ok((self.issue(&account, scopes, LIFETIME)?, LIFETIME))
        })
    }

    fn identity_token(&self, email: &str, audience: &str, full: bool) -> BoxFuture<'_, Result<String>> {
        let (email, audience) = (email.to_owned(), audience.to_owned());
        Box::pin(async move {
            let account = self.usable_account(&email).await?;
            let shape = if full { IdToken::Full } else { IdToken::Email };
            self.issue_identity(&account, &audience, shape).await
        })
    }

    fn verify_identity(&self, token: &str, audiences: &[&str]) -> Result<Principal> {
        let refuse = || refused("ACCESS_TOKEN_TYPE_UNSUPPORTED");
        let unverified = Unverified::parse(token).map_err(|_| refuse())?;
        let signer = self.signers.issuer_now(&unverified.key_id).ok_or_else(refuse)?;
        let claims = unverified.verify(&signer.public(), self.clock.unix()).map_err(|_| refuse())?;
        let email = claims.text("email").map(str::to_owned);
        let is_person = email.as_deref().is_some_and(|email| !email.ends_with(".gserviceaccount.com"));
        // Cloud Run takes what `gcloud auth print-identity-token` gives people, which is meant for gcloud itself.
        let is_accepted = |aud: &str| {
            audiences.contains(&aud) || (is_person && [GCLOUD_CLIENT_ID, CLIENT_ID].contains(&aud))
        };
        if claims.text("iss") != Some(ISSUER) || !claims.meant_for(is_accepted) {
            return Err(refuse());
        }
        match claims.text("sub").and_then(|sub| self.find_account(sub)) {
            Some(account) if account.disabled => Err(refuse()),
            Some(account) => Ok(Principal::ServiceAccount(account.email.as_str().into())),
            None if is_person => Ok(Principal::User(email.unwrap_or_default().into())),
            None => Err(refuse()),
        }
    }

    fn exists(&self, email: &str) -> bool {
        match self.accounts.get(email) {
            Some(account) => !account.disabled,
            None => self.is_default_to_be(email),
        }
    }
}

/// What an identity token says of whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdToken {
    /// The unique id and nothing else.
    Bare,
    /// The address too.
    Email,
    /// The address and the instance, as a virtual machine's metadata server has it.
    Full,
}

impl Iam {
    /// Makes an access token of a service account.
    pub(crate) fn issue(
        &self,
        account: &AccountRecord,
        scopes: Vec<String>,
        lifetime: Duration,
    ) -> Result<String> {
        let issued = self.clock.unix();
        let claims = Claims {
            principal: Principal::ServiceAccount(account.email.as_str().into()),
            unique_id: account.unique_id.clone(),
            issued,
            expires: issued + lifetime.as_secs(),
            session: u64::from_be_bytes(crate::random()?),
            scopes,
        };
        Ok(self.mint.make(Kind::Access, &claims))
    }

    /// Makes an identity token of a service account.
    pub(crate) async fn issue_identity(
        &self,
        account: &AccountRecord,
        audience: &str,
        shape: IdToken,
    ) -> Result<String> {
        let now = self.clock.unix();
        let mut claims = json!({
            "aud": audience, "azp": account.unique_id, "exp": now + LIFETIME.as_secs(), "iat": now, "iss": ISSUER,
            "sub": account.unique_id,
        });
        if shape != IdToken::Bare {
            claims["email"] = account.email.as_str().into();
            claims["email_verified"] = true.into();
        }
        if shape == IdToken::Full {
            let number = self.projects.known(&account.project).map_or(0, |project| project.number);
            claims["google"] =
                json!({"compute_engine": {"project_id": account.project, "project_number": number}});
        }
        self.issuer().await?.token(&claims)
    }

    /// Makes an identity token of a person.
    pub(crate) async fn issue_person(&self, email: &str, audience: &str) -> Result<String> {
        let now = self.clock.unix();
        let claims = json!({
            "aud": audience, "azp": audience, "email": email, "email_verified": true,
            "exp": now + LIFETIME.as_secs(), "iat": now, "iss": ISSUER, "sub": subject(email),
        });
        self.issuer().await?.token(&claims)
    }

    /// The unique id that a principal's tokens carry.
    pub(crate) fn unique_id_of(&self, principal: &Principal) -> String {
        match principal {
            Principal::ServiceAccount(email) => {
                self.accounts.get(email).map_or_else(String::new, |account| account.unique_id.clone())
            }
            _ => String::new(),
        }
    }

    /// The signer of identity tokens, made on first use.
    pub(crate) async fn issuer(&self) -> Result<Arc<jwt::Signer>> {
        self.signers.issuer(&self.store).await
    }
}

/// The 21 digits that stand for a person: always the same for an address, and nobody else's.
pub(crate) fn subject(email: &str) -> String {
    debug_assert!(is_email(email));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, email.to_ascii_lowercase().as_bytes());
    let number = digest.as_ref().iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    format!("1{:020}", number % 10u128.pow(20))
}
