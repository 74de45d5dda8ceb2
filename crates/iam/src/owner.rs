//! The person at the machine, and credentials in the form that Google's tools read.

use std::time::Duration;

use kernel::{Error, Principal, Result};
use serde_json::{Value, json};

use crate::{
    Iam,
    auth::LIFETIME,
    decide::lowercase,
    members::is_email,
    tokens::{Claims, Kind},
};

/// The OAuth client that our credentials name. Client libraries warn about the one of Google's SDK, so it is
/// another.
pub(crate) const CLIENT_ID: &str = "764000000000-haar.apps.googleusercontent.com";
/// Its secret, which is none: the refresh token alone counts, as with every installed application.
pub(crate) const CLIENT_SECRET: &str = "haar";
/// The client that gcloud signs people in with; its identity tokens open Cloud Run services to people.
pub(crate) const GCLOUD_CLIENT_ID: &str = "32555940559.apps.googleusercontent.com";
/// The client of `gcloud auth application-default login`.
pub(crate) const SDK_CLIENT_ID: &str =
    "764086051850-6qr4p6gpi6hn506pt8ejuq83di341hur.apps.googleusercontent.com";

/// Who `haar exec` acts as, and who owns each project unless its policy says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(String);

impl Owner {
    /// The owner with this login name: `ada` becomes `ada@haar.localhost`, an address that is well formed
    /// everywhere and can be nobody's mailbox (`localhost` is reserved, RFC 6761).
    pub fn named(login: &str) -> Self {
        let plain: String = login
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .take(64)
            .collect();
        Owner(format!("{}@haar.localhost", if plain.is_empty() { "owner" } else { &plain }))
    }

    /// The address.
    pub fn email(&self) -> &str {
        &self.0
    }

    /// The principal.
    pub fn principal(&self) -> Principal {
        Principal::User(self.0.as_str().into())
    }
}

impl Iam {
    /// The principal behind an address: a service account where one of ours has it, else a person.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it is no address, `NOT_FOUND` for a service account that does not exist.
    pub async fn principal(&self, email: &str) -> Result<Principal> {
        let email = lowercase(email);
        if !is_email(&email) {
            return Err(Error::invalid(format!("'{email}' is not an e-mail address.")));
        }
        if !email.ends_with(".gserviceaccount.com") {
            return Ok(Principal::User((&*email).into()));
        }
        self.settle_default(&email).await?;
        self.require_account(&email)?;
        Ok(Principal::ServiceAccount((&*email).into()))
    }

    /// Application default credentials for a principal: an `authorized_user` file, which every client library and
    /// gcloud can use. Its refresh token does not expire; `revoke` ends it.
    ///
    /// # Errors
    /// `INTERNAL` when the machine gives no randomness.
    pub fn credentials_file(&self, principal: &Principal) -> Result<Value> {
        let claims = Claims {
            principal: principal.clone(),
            unique_id: self.unique_id_of(principal),
            issued: self.clock.unix(),
            expires: 0,
            session: u64::from_be_bytes(crate::random()?),
            scopes: SCOPES.map(str::to_owned).to_vec(),
        };
        Ok(json!({
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": self.mint.make(Kind::Refresh, &claims),
            "account": principal.email().unwrap_or_default(),
            "universe_domain": "googleapis.com",
        }))
    }

    /// An access token of a principal with its lifetime, as a client would get it for those credentials.
    ///
    /// # Errors
    /// `INTERNAL` when the machine gives no randomness.
    pub fn access_token_for(&self, principal: &Principal) -> Result<(String, Duration)> {
        let issued = self.clock.unix();
        let claims = Claims {
            principal: principal.clone(),
            unique_id: self.unique_id_of(principal),
            issued,
            expires: issued + LIFETIME.as_secs(),
            session: u64::from_be_bytes(crate::random()?),
            scopes: SCOPES.map(str::to_owned).to_vec(),
        };
        Ok((self.mint.make(Kind::Access, &claims), LIFETIME))
    }
}

/// What `gcloud auth application-default login` asks for, and gcloud itself.
pub(crate) const SCOPES: [&str; 4] = [
    "openid",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/sqlservice.login",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_login_name_gives_an_address() {
        for (login, email) in [
            ("ada", "ada@haar.localhost"),
            ("Ada Lovelace", "adalovelace@haar.localhost"),
            ("", "owner@haar.localhost"),
            ("ÅÄ", "owner@haar.localhost"),
        ] {
            assert_eq!(Owner::named(login).email(), email);
            assert!(is_email(email));
        }
    }
}
