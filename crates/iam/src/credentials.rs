//! Short-lived credentials of service accounts, for whoever may have them (`iamcredentials.googleapis.com`).
//!
//! A caller may go through other accounts: each of the chain must be allowed to delegate to the next, and the last
//! to have the credential. The account asked for is named without its project (`projects/-/serviceAccounts/A`).
//!
//! Source: <https://cloud.google.com/iam/docs/reference/credentials/rest>.

use std::{sync::Arc, time::Duration};

use kernel::{Caller, Error, Principal, Resource, Result, error::Detail, ports::Authority};
use serde_json::{Map, Value};

use crate::{Iam, SERVICE, auth::IdToken, jwt::Signer, records::AccountRecord};

/// The longest life that may be asked for, and what is given where none is.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest life that an organization policy may extend it to.
const EXTENDED: Duration = Duration::from_secs(12 * 3600);
/// The most accounts that a caller may go through.
const MOST_DELEGATES: usize = 20;
/// The largest payload that is signed, in bytes.
const MAX_PAYLOAD: usize = 1 << 20;

impl Iam {
    /// An access token of an account, and when it expires in seconds.
    pub(crate) async fn generate_access_token(
        &self,
        caller: &Caller,
        target: Target<'_>,
        scopes: Vec<String>,
        lifetime: Option<Duration>,
    ) -> Result<(String, u64)> {
        let account = self.reach(caller, target, "iam.serviceAccounts.getAccessToken").await?;
        if scopes.is_empty() {
            return Err(Error::bad_field("scope", "At least one scope is required."));
        }
        let lifetime = check_lifetime(lifetime, &account.email, || {
            self.may_live_long(&account.project, &account.email)
        })?;
        let token = self.issue(&account, scopes, lifetime)?;
        Ok((token, self.clock.unix() + lifetime.as_secs()))
    }

    /// An identity token of an account.
    pub(crate) async fn generate_id_token(
        &self,
        caller: &Caller,
        target: Target<'_>,
        audience: &str,
        shape: IdToken,
    ) -> Result<String> {
        let account = self.reach(caller, target, "iam.serviceAccounts.getOpenIdToken").await?;
        if audience.is_empty() {
            return Err(Error::bad_field("audience", "The audience must not be empty."));
        }
        self.issue_identity(&account, audience, shape).await
    }

    /// Bytes signed as an account: the key's id and the signature.
    pub(crate) async fn sign_blob(
        &self,
        caller: &Caller,
        target: Target<'_>,
        payload: &[u8],
    ) -> Result<(String, Vec<u8>)> {
        let account = self.reach(caller, target, "iam.serviceAccounts.signBlob").await?;
        if payload.len() > MAX_PAYLOAD {
            return Err(Error::bad_field("payload", "The payload is too large."));
        }
        let signer = self.signer_of(&account).await?;
        let signature = on_worker(signer.clone(), payload.to_vec()).await?;
        Ok((signer.id().to_owned(), signature))
    }

    /// Claims signed as an account: the key's id and the token.
    pub(crate) async fn sign_jwt(
        &self,
        caller: &Caller,
        target: Target<'_>,
        payload: &str,
    ) -> Result<(String, String)> {
        let account = self.reach(caller, target, "iam.serviceAccounts.signJwt").await?;
        let claims: Map<String, Value> = serde_json::from_str(payload).map_err(|_| {
            Error::bad_field("payload", "The payload is not a JSON object with the claims of a token.")
        })?;
        self.check_expiry(&claims)?;
        let signer = self.signer_of(&account).await?;
        let token = {
            let signer = signer.clone();
            tokio::task::spawn_blocking(move || signer.token(&Value::Object(claims)))
        };
        Ok((signer.id().to_owned(), token.await.map_err(Error::internal)??))
    }

    /// Google signs no claim of an expiry more than twelve hours away.
    fn check_expiry(&self, claims: &Map<String, Value>) -> Result<()> {
        let latest = self.clock.unix() + 12 * 3600;
        match claims.get("exp").map(Value::as_u64) {
            None => Ok(()),
            Some(Some(expires)) if expires <= latest => Ok(()),
            Some(_) => Err(Error::bad_field(
                "payload",
                "The 'exp' claim must be a time no more than 12 hours from now.",
            )),
        }
    }

    /// The account at the end of a chain, if the caller may have its credentials.
    async fn reach(
        &self,
        caller: &Caller,
        target: Target<'_>,
        permission: &'static str,
    ) -> Result<AccountRecord> {
        if target.delegates.len() > MOST_DELEGATES {
            return Err(Error::bad_field(
                "delegates",
                format!("At most {MOST_DELEGATES} delegates can be named."),
            ));
        }
        let mut holder = caller.principal().clone();
        for delegate in target.delegates {
            holder = self.step(caller, &holder, delegate, "iam.serviceAccounts.implicitDelegation").await?.1;
        }
        let (account, _) = self.step(caller, &holder, target.name, permission).await?;
        if account.disabled {
            return Err(Error::precondition(format!("Service account {} is disabled.", account.email)));
        }
        Ok(account)
    }

    async fn step(
        &self,
        caller: &Caller,
        holder: &Principal,
        name: &str,
        permission: &'static str,
    ) -> Result<(AccountRecord, Principal)> {
        if *holder == Principal::Anonymous {
            return Err(kernel::call::missing_credentials());
        }
        let resource = Resource::new(SERVICE, name);
        let known = self.account_named(name).await;
        match known {
            Ok(account) if self.allows(holder, permission, &resource, caller.request()) => {
                let next = Principal::ServiceAccount(account.email.as_str().into());
                Ok((account.value.clone(), next))
            }
            Err(error) if error.code() == kernel::Code::InvalidArgument => Err(error),
            _ => Err(refusal(permission)),
        }
    }
}

/// Whose credential is asked for, and through whom.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// The account.
    pub name: &'a str,
    /// The accounts in between, the caller's neighbour first.
    pub delegates: &'a [String],
}

/// How long a token is to be good for, in Google's words where it must not be so long.
fn check_lifetime(
    asked: Option<Duration>,
    email: &str,
    is_extended: impl FnOnce() -> bool,
) -> Result<Duration> {
    let lifetime = asked.unwrap_or(LONGEST);
    match () {
        () if lifetime.as_secs() == 0 || lifetime > EXTENDED => Err(Error::bad_field(
            "lifetime",
            format!("The lifetime must be at least 1s and at most {}s.", EXTENDED.as_secs()),
        )),
        () if lifetime > LONGEST && !is_extended() => Err(Error::bad_field(
            "lifetime",
            format!(
                "Access tokens for service account {email} can not have lifetimes of more than 1 hour. Use the Org Policy \
                 Constraint constraints/iam.allowServiceAccountCredentialLifetimeExtension to allow up to 12 hours."
            ),
        )),
        () => Ok(lifetime),
    }
}

/// RSA takes a millisecond: not on an async worker.
async fn on_worker(signer: Arc<Signer>, bytes: Vec<u8>) -> Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || signer.sign(&bytes)).await.map_err(Error::internal)?
}

fn refusal(permission: &'static str) -> Error {
    Error::denied(format!("Permission '{permission}' denied on resource (or it may not exist).")).with(
        Detail::Info {
            reason: "IAM_PERMISSION_DENIED",
            domain: "iam.googleapis.com",
            metadata: vec![("permission", permission.to_owned())],
        },
    )
}
