//! Tokens for refresh tokens and for what service accounts sign; and their end.

use bytes::Bytes;
use http::{Response, StatusCode};
use kernel::{Error, Principal, mirror::Record, store::Txn};
use serde_json::{Value, json};

use super::{Request, answer, authorize::CodeFault, form::Form, refuse};
use crate::{
    Iam,
    auth::{IdToken, LIFETIME, session_name},
    jwt::Fault,
    owner::{CLIENT_ID, GCLOUD_CLIENT_ID, SDK_CLIENT_ID},
    records::{AccountRecord, RevokedRecord},
    tokens::{Claims, Kind, Refusal},
};

/// The audiences that an assertion may name: the endpoint, under each of the addresses it ever had.
const AUDIENCES: [&str; 4] = [
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://www.googleapis.com/oauth2/v3/token",
    "https://accounts.google.com/o/oauth2/token",
];
/// What Google says of a token that is good for an hour.
const SECONDS: u64 = LIFETIME.as_secs() - 1;

/// A refusal: its status, OAuth's word for it, and Google's sentence.
struct No(StatusCode, &'static str, String);

impl No {
    fn grant(description: impl Into<String>) -> Self {
        No(StatusCode::BAD_REQUEST, "invalid_grant", description.into())
    }
}

impl From<Error> for No {
    fn from(error: Error) -> Self {
        tracing::error!("token endpoint: {error:?}");
        No(StatusCode::INTERNAL_SERVER_ERROR, "internal_failure", "Internal error encountered.".into())
    }
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        No::grant(match fault {
            Fault::Malformed => "Invalid JWT: Failed to parse the assertion.",
            Fault::UnknownIssuer => "Invalid grant: account not found",
            Fault::Signature => "Invalid JWT Signature.",
            Fault::TooEarly | Fault::Expired | Fault::TooLong => {
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your \
                 iat and exp values in the JWT claim."
            }
        })
    }
}

/// The client that a form names.
fn known_client(form: &Form) -> Result<&str, No> {
    let client = form.get("client_id");
    match [CLIENT_ID, GCLOUD_CLIENT_ID, SDK_CLIENT_ID].contains(&client) {
        true => Ok(client),
        false => {
            Err(No(StatusCode::UNAUTHORIZED, "invalid_client", "The OAuth client was not found.".into()))
        }
    }
}

/// Where the names of Google's scopes begin.
const SCOPE: &str = "https://www.googleapis.com/auth/";
/// What stands for all of Google Cloud.
const WHOLE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// How the names of those begin that are a part of it, and that libraries ask for when they hold the whole.
const PARTS: [&str; 16] = [
    "appengine.",
    "bigquery",
    "bigtable.",
    "cloud-platform",
    "cloud.",
    "cloud_",
    "cloudkms",
    "compute",
    "datastore",
    "devstorage.",
    "iam",
    "logging.",
    "monitoring",
    "pubsub",
    "sqlservice.",
    "trace.",
];

/// The scopes of a refreshed token: those that were granted, or fewer where the client asks for fewer. A part of Google
/// Cloud is fewer than the whole.
///
/// # Errors
/// `invalid_scope` for one that was not granted (RFC 6749, section 6).
fn narrowed(granted: &[String], asked: &str) -> Result<Vec<String>, No> {
    let asked: Vec<String> = asked.split_ascii_whitespace().map(str::to_owned).collect();
    let has_whole = granted.iter().any(|scope| scope == WHOLE);
    let is_part = |scope: &String| {
        let name = scope.strip_prefix(SCOPE);
        has_whole && name.is_some_and(|name| PARTS.iter().any(|part| name.starts_with(part)))
    };
    match asked.iter().all(|scope| granted.contains(scope) || is_part(scope)) {
        _ if asked.is_empty() => Ok(granted.to_vec()),
        true => Ok(asked),
        false => Err(No(StatusCode::BAD_REQUEST, "invalid_scope", "Bad Request".into())),
    }
}

impl Iam {
    /// `POST /token`.
    pub(super) async fn token(&self, request: &Request<'_>) -> Response<Bytes> {
        let form = request.form();
        let granted = match form.get("grant_type") {
            "authorization_code" => self.redeem(&form).await,
            "refresh_token" => self.refresh(&form).await,
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => self.exchange(&form).await,
            other => Err(No(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                format!("Invalid grant_type: {other}"),
            )),
        };
        match granted {
            Ok(value) => answer(StatusCode::OK, &value),
            Err(No(status, error, description)) => refuse(status, error, &description),
        }
    }

    /// The tokens for a code that a person approved.
    async fn redeem(&self, form: &Form) -> Result<Value, No> {
        let client = known_client(form)?;
        let now = self.clock.unix();
        let granted = match self.sign_ins.redeem(form, now) {
            Ok(granted) => granted,
            Err(CodeFault::Replayed(session)) => {
                // Whoever was first may be a thief.
                self.end(session, 0).await?;
                return Err(No::grant("Malformed auth code."));
            }
            Err(CodeFault::Malformed) => return Err(No::grant("Malformed auth code.")),
            Err(CodeFault::NoVerifier) => return Err(No::grant("Missing code verifier.")),
            Err(CodeFault::WrongVerifier) => return Err(No::grant("Invalid code verifier.")),
        };
        let held = Claims {
            unique_id: self.unique_id_of(&granted.principal),
            principal: granted.principal,
            issued: now,
            expires: 0,
            session: granted.session,
            scopes: granted.scopes,
        };
        let mut answer = self.access_of(&held, held.scopes.clone(), client).await?;
        answer["refresh_token"] = self.mint.make(Kind::Refresh, &held).into();
        Ok(answer)
    }

    async fn refresh(&self, form: &Form) -> Result<Value, No> {
        let client = known_client(form)?;
        let now = self.clock.unix();
        let held =
            self.inspect(Kind::Refresh, form.get("refresh_token"), now).map_err(|refusal| match refusal {
                Refusal::Unknown => No::grant("Bad Request"),
                Refusal::Expired | Refusal::Ended => No::grant("Token has been expired or revoked."),
            })?;
        let scopes = narrowed(&held.scopes, form.get("scope"))?;
        self.access_of(&held, scopes, client).await
    }

    /// What a session gives now: an access token, and an identity token where one was asked for.
    async fn access_of(&self, held: &Claims, scopes: Vec<String>, client: &str) -> Result<Value, No> {
        let now = self.clock.unix();
        let mut answer = json!({
            "access_token": self.mint.make(Kind::Access, &Claims {
                issued: now, expires: now + LIFETIME.as_secs(), scopes: scopes.clone(), ..held.clone()
            }),
            "expires_in": SECONDS, "scope": scopes.join(" "), "token_type": "Bearer",
        });
        if scopes.iter().any(|scope| scope == "openid") {
            answer["id_token"] = self.identity_of(&held.principal, client).await?.into();
        }
        Ok(answer)
    }

    async fn identity_of(&self, principal: &Principal, audience: &str) -> Result<String, No> {
        Ok(match principal {
            Principal::ServiceAccount(email) => {
                let account = self.require_account(email)?;
                self.issue_identity(&account, audience, IdToken::Email).await?
            }
            other => self.issue_person(other.email().unwrap_or_default(), audience).await?,
        })
    }

    async fn exchange(&self, form: &Form) -> Result<Value, No> {
        let (account, claims) = self.assertion(form.get("assertion"), self.clock.unix())?;
        if !claims.meant_for(|audience| AUDIENCES.contains(&audience)) {
            let right = AUDIENCES[0];
            return Err(No::grant(format!(
                "Invalid JWT: Failed audience check. The right audience is {right}"
            )));
        }
        if claims.text("sub").is_some_and(|sub| !sub.is_empty() && sub != account.email) {
            return Err(No(
                StatusCode::UNAUTHORIZED,
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any \
                 of the scopes requested."
                    .into(),
            ));
        }
        match (claims.text("target_audience"), claims.text("scope")) {
            (Some(audience), _) if !audience.is_empty() => {
                Ok(json!({"id_token": self.issue_identity(&account, audience, IdToken::Email).await?}))
            }
            (_, Some(scope)) if !scope.trim().is_empty() => self.granted(&account, scope),
            _ => {
                let description = "Invalid OAuth scope or ID token audience provided.";
                Err(No(StatusCode::BAD_REQUEST, "invalid_scope", description.into()))
            }
        }
    }

    fn granted(&self, account: &AccountRecord, scope: &str) -> Result<Value, No> {
        let scopes = scope.split_ascii_whitespace().map(str::to_owned).collect();
        let token = self.issue(account, scopes, LIFETIME)?;
        Ok(json!({"access_token": token, "expires_in": SECONDS, "token_type": "Bearer"}))
    }

    /// `POST /revoke`: ends the session that a token belongs to.
    pub(super) async fn revoke(&self, request: &Request<'_>) -> Response<Bytes> {
        let form = request.form();
        let token = form.get("token");
        let now = self.clock.unix();
        let read = |kind| self.inspect(kind, token, now);
        match read(Kind::Access).or_else(|_| read(Kind::Refresh)) {
            Ok(claims) => match self.end_session(&claims).await {
                Ok(()) => answer(StatusCode::OK, &json!({})),
                Err(No(status, error, description)) => refuse(status, error, &description),
            },
            Err(_) => refuse(StatusCode::BAD_REQUEST, "invalid_token", "Token expired or revoked"),
        }
    }

    async fn end_session(&self, claims: &Claims) -> Result<(), No> {
        // A refresh token may be of the same session, and it never expires.
        let until = if matches!(claims.principal, Principal::Federated(_)) { claims.expires } else { 0 };
        self.end(claims.session, until).await
    }

    async fn end(&self, session: u64, until: u64) -> Result<(), No> {
        let key = self.revoked.key(&session_name(session));
        let record = RevokedRecord { until };
        self.revoked.commit(Txn::new().put(key, record.to_stored())).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_never_widens() {
        let granted = ["openid".to_owned(), WHOLE.to_owned()];
        let is_good = |granted: &[String], asked: &str| narrowed(granted, asked).is_ok();
        for asked in ["", "openid", WHOLE, &format!("{SCOPE}devstorage.read_only openid")] {
            assert!(is_good(&granted, asked), "{asked}");
        }
        for asked in ["email", &format!("{SCOPE}drive"), &format!("openid {SCOPE}userinfo.email")] {
            assert!(!is_good(&granted, asked), "{asked}");
        }
        assert!(
            !is_good(&granted[..1], &format!("{SCOPE}devstorage.read_only")),
            "a part of what was not granted"
        );
        let part = [format!("{SCOPE}logging.read")];
        assert!(!is_good(&part, WHOLE) && is_good(&part, ""));
    }
}
