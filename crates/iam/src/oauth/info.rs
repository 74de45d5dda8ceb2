//! What a token says, for whoever holds it.

use bytes::Bytes;
use http::{Response, StatusCode};
use kernel::Principal;
use serde_json::{Map, Value, json};

use super::{Request, answer, refuse};
use crate::{
    Iam,
    auth::subject,
    jwt::Unverified,
    owner::CLIENT_ID,
    tokens::{Claims, Kind},
};

/// Which names the fields have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// `user_id`, `verified_email`.
    Two,
    /// OpenID's: `sub`, `email_verified`.
    Three,
}

impl Iam {
    /// `GET /tokeninfo`.
    pub(super) fn token_info(&self, request: &Request<'_>, version: Version) -> Response<Bytes> {
        let form = request.form();
        let now = self.clock.unix();
        if !form.get("id_token").is_empty() {
            return match self.identity_claims(form.get("id_token"), now) {
                Some(claims) => answer(StatusCode::OK, &Value::Object(claims)),
                None => invalid(),
            };
        }
        let token =
            Some(form.get("access_token")).filter(|token| !token.is_empty()).or_else(|| request.bearer());
        match token.map(|token| self.inspect(Kind::Access, token, now)) {
            Some(Ok(claims)) => answer(StatusCode::OK, &self.described(&claims, now, version)),
            _ => invalid(),
        }
    }

    /// `GET /userinfo`.
    pub(super) fn user_info(&self, request: &Request<'_>, version: Version) -> Response<Bytes> {
        let form = request.form();
        let token = request.bearer().unwrap_or_else(|| form.get("access_token"));
        let Ok(claims) = self.inspect(Kind::Access, token, self.clock.unix()) else {
            return refuse(StatusCode::UNAUTHORIZED, "invalid_request", "Invalid Credentials");
        };
        let (id, email) = (self.subject_of(&claims), claims.principal.email());
        answer(
            StatusCode::OK,
            &match version {
                Version::Two => json!({"id": id, "email": email, "verified_email": true}),
                Version::Three => json!({"sub": id, "email": email, "email_verified": true}),
            },
        )
    }

    fn subject_of(&self, claims: &Claims) -> String {
        match &claims.principal {
            Principal::User(email) => subject(email),
            _ => claims.unique_id.clone(),
        }
    }

    fn described(&self, claims: &Claims, now: u64, version: Version) -> Value {
        let (id, email) = (self.subject_of(claims), claims.principal.email());
        let client = if claims.unique_id.is_empty() { CLIENT_ID } else { &claims.unique_id };
        let (scope, left) = (claims.scopes.join(" "), claims.expires - now);
        match version {
            Version::Two => json!({
                "issued_to": client, "audience": client, "user_id": id, "scope": scope, "expires_in": left,
                "email": email, "verified_email": true, "access_type": "online",
            }),
            Version::Three => json!({
                "azp": client, "aud": client, "sub": id, "scope": scope, "exp": claims.expires.to_string(),
                "expires_in": left.to_string(), "email": email, "email_verified": "true", "access_type": "online",
            }),
        }
    }

    /// The claims of an identity token of ours, all of them as text, and its header's `alg` and `kid`.
    fn identity_claims(&self, token: &str, now: u64) -> Option<Map<String, Value>> {
        let unverified = Unverified::parse(token).ok()?;
        let signer = self.signers.issuer_now(&unverified.key_id)?;
        let claims = unverified.verify(&signer.public(), now).ok()?;
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut shown: Map<String, Value> =
            claims.as_map().iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
        shown.insert("alg".into(), "RS256".into());
        shown.insert("kid".into(), signer.id().into());
        shown.insert("typ".into(), "JWT".into());
        Some(shown)
    }
}

fn invalid() -> Response<Bytes> {
    refuse(StatusCode::BAD_REQUEST, "invalid_token", "Invalid Value")
}
