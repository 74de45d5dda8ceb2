//! The security token service: an issuer's token in, one of ours out (`sts.googleapis.com`).
//!
//! The endpoint takes a form or the same as JSON, and its errors have OAuth's form, in Google's words. Nothing of a
//! token is ever written to the log.
//!
//! Left out: tokens with fewer rights (`options` with an access boundary), and exchanges for AWS, SAML and workforce
//! pools; each is refused with a sentence that says so.
//!
//! Source: <https://cloud.google.com/iam/docs/reference/sts/rest>, RFC 8693, RFC 7662.

use bytes::Bytes;
use http::{Response, StatusCode};
use kernel::{Principal, call::Federation};
use serde_json::{Value, json};

use super::{Name, issuer, mapping::Unmapped};
use crate::{
    Iam,
    auth::LIFETIME,
    jwt::{Claims, Fault, SKEW, Unverified},
    oauth::{Form, Request, answer, refuse},
    tokens::{self, Kind},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const SUBJECTS: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
/// The longest that a token of an issuer may be good for, in seconds.
const LONGEST: u64 = 24 * 3600;

/// A refusal: OAuth's word for it, and Google's sentence.
struct No(&'static str, String);

fn grant(why: impl Into<String>) -> No {
    No("invalid_grant", why.into())
}

fn request(why: impl Into<String>) -> No {
    No("invalid_request", why.into())
}

fn target() -> No {
    No(
        "invalid_target",
        "The target service indicated by the \"audience\" parameters is invalid. This might either be because the pool or \
         provider is disabled or deleted or because it doesn't exist."
            .into(),
    )
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        grant(match fault {
            Fault::Signature => "Invalid JWT Signature.",
            Fault::TooEarly => "ID Token is not valid yet.",
            Fault::Expired => "ID Token is expired.",
            Fault::TooLong => "The lifetime of the ID Token is longer than 24 hours.",
            Fault::Malformed | Fault::UnknownIssuer => "Unable to parse the ID Token.",
        })
    }
}

impl From<Unmapped> for No {
    fn from(unmapped: Unmapped) -> Self {
        match unmapped {
            Unmapped::Mapping(why) => request(why),
            Unmapped::Condition => No(
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.".into(),
            ),
        }
    }
}

/// A field by its name in forms, or in JSON.
fn field<'f>(form: &'f Form, name: &str, json_name: &str) -> &'f str {
    Some(form.get(name)).filter(|value| !value.is_empty()).unwrap_or_else(|| form.get(json_name))
}

impl Iam {
    /// `POST /v1/token`.
    pub(crate) async fn exchange_token(&self, call: &Request<'_>) -> Response<Bytes> {
        match self.exchanged(&call.form()).await {
            Ok(value) => answer(StatusCode::OK, &value),
            Err(No(error, why)) => refuse(StatusCode::BAD_REQUEST, error, &why),
        }
    }

    async fn exchanged(&self, form: &Form) -> Result<Value, No> {
        if field(form, "grant_type", "grantType") != EXCHANGE {
            return Err(No("unsupported_grant_type", format!("The grant type must be {EXCHANGE}.")));
        }
        let wanted = field(form, "requested_token_type", "requestedTokenType");
        if !["", ACCESS_TOKEN].contains(&wanted) {
            return Err(request(format!(
                "Invalid value for \"requestedTokenType\". It must be {ACCESS_TOKEN}."
            )));
        }
        let kind = field(form, "subject_token_type", "subjectTokenType");
        if !SUBJECTS.contains(&kind) {
            return Err(request(format!("The subject token type '{kind}' is not served here: send a JWT.")));
        }
        let scopes: Vec<String> = form.get("scope").split_ascii_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() {
            return Err(No("invalid_scope", "At least one scope is required.".into()));
        }
        let audience = form.get("audience");
        let token = field(form, "subject_token", "subjectToken");
        let who = self.federated(audience, token).await?;
        self.federated_token(who, audience, scopes)
    }

    fn federated_token(&self, who: Federation, audience: &str, scopes: Vec<String>) -> Result<Value, No> {
        let issued = self.clock.unix();
        let random =
            crate::random().map_err(|_| No("internal_failure", "Internal error encountered.".into()))?;
        let claims = tokens::Claims {
            principal: Principal::Federated(who),
            unique_id: audience.to_owned(),
            issued,
            expires: issued + LIFETIME.as_secs(),
            session: u64::from_be_bytes(random),
            scopes,
        };
        Ok(json!({
            "access_token": self.mint.make(Kind::Access, &claims),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": LIFETIME.as_secs() - 1,
        }))
    }

    /// Who an issuer's token stands for, by the provider that is asked.
    async fn federated(&self, audience: &str, token: &str) -> Result<Federation, No> {
        let misnamed = || {
            request(
                "Invalid value for \"audience\". This value should be the full resource name of the Identity Provider. See \
                 https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the list of possible formats.",
            )
        };
        let written = audience.strip_prefix("//iam.googleapis.com/").ok_or_else(misnamed)?;
        let (project, _, provider) = Name::split(written).ok_or_else(misnamed)?;
        if provider.is_empty() || !project.bytes().all(|b| b.is_ascii_digit()) {
            return Err(misnamed());
        }
        let name = Name::known(written, &*self.projects).ok_or_else(target)?;
        let provider = self.provider(&name).map_err(|_| target())?;
        let is_open =
            self.federation.is_open(name.project, name.pool) && provider.deleted == 0 && !provider.disabled;
        if !is_open {
            return Err(target());
        }
        let unverified = Unverified::parse_foreign(token)?;
        if unverified.issuer() != provider.issuer {
            return Err(grant(format!(
                "The issuer in ID Token {} does not match the expected ones: {}",
                shortened(unverified.issuer()),
                provider.issuer
            )));
        }
        let claims = self.asserted(unverified, &provider).await?;
        check_audience(&claims, &provider.audiences, &name)?;
        Ok(super::mapping::identity(&name, &provider, claims.as_map())?)
    }

    /// The claims of a token, once its signature and its times are checked.
    async fn asserted(&self, token: Unverified<'_>, provider: &super::ProviderRecord) -> Result<Claims, No> {
        let unreachable = |why: String| {
            tracing::warn!("the keys of {} cannot be had: {why}", provider.issuer);
            grant("Error connecting to the given credential's issuer.")
        };
        let keys = match provider.jwks.is_empty() {
            false => {
                issuer::read_keys(provider.jwks.as_bytes()).map_err(|why| unreachable(why.into()))?.into()
            }
            true => {
                let has = |key: &issuer::Key| key.signed(&token);
                self.federation.issuers.keys(&provider.issuer, has).await.map_err(unreachable)?
            }
        };
        if !keys.iter().any(|key| key.signed(&token)) {
            return Err(Fault::Signature.into());
        }
        let now = self.clock.unix();
        let claims = token.signed_claims(now).map_err(No::from)?;
        let (issued, expires) = (claims.time("iat")?, claims.time("exp")?);
        match expires - issued > LONGEST + SKEW {
            true => Err(Fault::TooLong.into()),
            false => Ok(claims),
        }
    }

    /// `POST /v1/introspect`: what a federated token says, for clients that name themselves.
    pub(crate) fn introspect_token(&self, call: &Request<'_>) -> Response<Bytes> {
        let form = call.form();
        let Ok(claims) = self.inspect(Kind::Access, form.get("token"), self.clock.unix()) else {
            return answer(StatusCode::OK, &json!({"active": false}));
        };
        let username = claims.principal.member().unwrap_or_default();
        answer(
            StatusCode::OK,
            &json!({
                "active": true, "client_id": claims.unique_id, "exp": claims.expires, "iat": claims.issued,
                "iss": "https://sts.googleapis.com/", "scope": claims.scopes.join(" "), "sub": username,
                "username": username,
            }),
        )
    }
}

fn check_audience(claims: &Claims, allowed: &[String], name: &Name<'_>) -> Result<(), No> {
    let own = format!("//iam.googleapis.com/{name}");
    let accepted = |audience: &str| match allowed.is_empty() {
        true => audience.strip_prefix("https:").unwrap_or(audience) == own,
        false => allowed.iter().any(|one| one == audience),
    };
    if claims.meant_for(accepted) {
        return Ok(());
    }
    let given =
        claims.as_map().get("aud").map(|aud| aud.as_str().map_or_else(|| aud.to_string(), str::to_owned));
    Err(grant(format!(
        "The audience in ID Token [{}] does not match the expected audience.",
        shortened(&given.unwrap_or_default())
    )))
}

/// What a stranger wrote, short enough for a sentence.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
