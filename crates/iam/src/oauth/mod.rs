//! OAuth's endpoints, as plain functions: the gateway has the hosts.
//!
//! `oauth2.googleapis.com`, `www.googleapis.com/oauth2`, `accounts.google.com`, `openidconnect.googleapis.com` and
//! `sts.googleapis.com` share their paths here, since no path means two things. Errors have OAuth's form, in Google's words.
//!
//! Left out: registering clients of one's own; the ones that Google's tools name are known.

mod authorize;
pub(crate) mod form;
mod info;
mod page;
mod token;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{Iam, auth::ISSUER, auth::public};
pub(crate) use authorize::SignIns;
pub(crate) use form::Form;

/// A call to one of the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a Method,
    /// The path, such as `/token`.
    pub path: &'a str,
    /// What follows the question mark; empty if nothing does.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, at most 64 KiB of which are looked at.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The fields of the query and, of what is posted, of the body: a form, or the same as JSON.
    pub(crate) fn form(&self) -> Form {
        let query = Form::parse(self.query.as_bytes());
        match *self.method == Method::POST {
            true if self.is_json() => query.and_json(self.body),
            true => query.and(self.body),
            false => query,
        }
    }

    fn is_json(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    }

    /// The token in the `Authorization` header.
    fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }
}

impl Iam {
    /// Answers a call to one of OAuth's endpoints; `None` where none is.
    pub async fn oauth(&self, request: Request<'_>) -> Option<Response<Bytes>> {
        let post = *request.method == Method::POST;
        Some(match request.path {
            "/token" | "/oauth2/v4/token" | "/oauth2/v3/token" | "/o/oauth2/token" if post => {
                self.token(&request).await
            }
            "/o/oauth2/approve" if post => self.approve(&request).await,
            path if *request.method == Method::GET
                && path.starts_with("/o/oauth2/")
                && path.contains("/auth") =>
            {
                self.authorize(&request).await?
            }
            "/v1/token" if post => self.exchange_token(&request).await,
            "/v1/introspect" if post => self.introspect_token(&request),
            "/revoke" | "/o/oauth2/revoke" => self.revoke(&request).await,
            "/tokeninfo" | "/oauth2/v3/tokeninfo" => self.token_info(&request, info::Version::Three),
            "/oauth2/v1/tokeninfo" | "/oauth2/v2/tokeninfo" => self.token_info(&request, info::Version::Two),
            "/v1/userinfo" | "/oauth2/v3/userinfo" => self.user_info(&request, info::Version::Three),
            "/oauth2/v1/userinfo" | "/oauth2/v2/userinfo" | "/userinfo/v2/me" => {
                self.user_info(&request, info::Version::Two)
            }
            "/oauth2/v3/certs" => self.certs(Keys::Jwk).await,
            "/oauth2/v1/certs" => self.certs(Keys::X509).await,
            "/.well-known/openid-configuration" => answer(StatusCode::OK, &discovery()),
            path => self.account_certs(path)?,
        })
    }

    async fn certs(&self, form: Keys) -> Response<Bytes> {
        let shown = async {
            let signer = self.issuer().await?;
            Ok::<_, kernel::Error>(match form {
                Keys::Jwk => json!({"keys": [signer.public().jwk(signer.id())]}),
                Keys::X509 => {
                    json!({(signer.id()): signer.certificate("federated-signon.system.gserviceaccount.com")?})
                }
            })
        };
        match shown.await {
            Ok(keys) => cached(&keys),
            Err(error) => {
                tracing::error!("no signing key: {error:?}");
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal_failure", "Internal error encountered.")
            }
        }
    }

    /// The public keys of a service account, for whoever checks what it signed.
    fn account_certs(&self, path: &str) -> Option<Response<Bytes>> {
        let (form, name) =
            ACCOUNT_KEYS.iter().find_map(|(prefix, form)| Some((form, path.strip_prefix(prefix)?)))?;
        let Some(account) = self.find_account(&form::decode(name.as_bytes())) else {
            return Some(refuse(StatusCode::NOT_FOUND, "not_found", "Unknown service account"));
        };
        let keys = self.keys_of(&account.unique_id);
        let usable = keys.iter().filter(|key| !key.disabled);
        Some(cached(&match form {
            Keys::Jwk => json!({"keys": usable.map(|key| public(key).jwk(&key.id)).collect::<Vec<_>>()}),
            Keys::X509 => usable.map(|key| (key.id.clone(), Value::from(key.certificate.as_str()))).collect(),
        }))
    }
}

/// How public keys are shown.
#[derive(Clone, Copy)]
enum Keys {
    /// As a JSON Web Key set.
    Jwk,
    /// As certificates by key id.
    X509,
}

/// Where the public keys of a service account are found.
const ACCOUNT_KEYS: [(&str, Keys); 4] = [
    ("/service_accounts/v1/jwk/", Keys::Jwk),
    ("/service_accounts/v1/metadata/jwk/", Keys::Jwk),
    ("/service_accounts/v1/metadata/x509/", Keys::X509),
    ("/robot/v1/metadata/x509/", Keys::X509),
];

/// <https://openid.net/specs/openid-connect-discovery-1_0.html>
fn discovery() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
        "token_endpoint": "https://oauth2.googleapis.com/token",
        "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
        "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
        "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "claims_supported": ["aud", "email", "email_verified", "exp", "iat", "iss", "sub"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "grant_types_supported": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
    })
}

pub(crate) fn answer(status: StatusCode, value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{value:#}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-cache, no-store, max-age=0, must-revalidate"),
    );
    response
}

/// Keys may be kept for a while, but not so long that a test waits for it.
fn cached(value: &Value) -> Response<Bytes> {
    let mut response = answer(StatusCode::OK, value);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("public, max-age=300"));
    response
}

pub(crate) fn refuse(status: StatusCode, error: &str, description: &str) -> Response<Bytes> {
    answer(status, &json!({"error": error, "error_description": description}))
}
