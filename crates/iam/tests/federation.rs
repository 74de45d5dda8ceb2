use std::time::Duration;

use ::iam::Request;
use apis::google::{
    discovery::iam::v1::{
        self as proto, Oidc, Operation, WorkloadIdentityPool, WorkloadIdentityPoolProvider,
        projects_locations_workload_identity_pools as pools,
        projects_locations_workload_identity_pools_operations as operations,
        projects_locations_workload_identity_pools_providers as providers,
    },
    iam::{
        credentials::v1::{
            GenerateAccessTokenRequest, GenerateAccessTokenResponse, iam_credentials::GENERATE_ACCESS_TOKEN,
        },
        v1::Binding,
    },
};
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method};
use kernel::{Code, Error, Principal, Resource, Result, ports::Authenticator};
use serde_json::{Value, json};

use crate::{policies::set, support::*};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const LOCATION: &str = "projects/demo-project/locations/global";
const POOL: &str = "projects/123456789012/locations/global/workloadIdentityPools/github";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// An issuer, as GitHub Actions has one.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Self {
        Issuer(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn jwks(&self) -> String {
        let key = self.0.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (key.modulus(), key.exponent());
        json!({"keys": [{
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1",
            "n": part(n.big_endian_without_leading_zero()), "e": part(e.big_endian_without_leading_zero()),
        }]})
        .to_string()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "RS256", "kid": "k1", "typ": "JWT"}), claims)
    }
}

/// What GitHub asserts of a job on a branch.
fn job(branch: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": format!("https://iam.googleapis.com/{POOL}/providers/actions"), "iat": NOW, "nbf": NOW - 600,
        "exp": NOW + 300, "sub": format!("repo:haar/app:ref:refs/heads/{branch}"), "repository": "haar/app",
        "ref": format!("refs/heads/{branch}"), "actor": "ada",
    })
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn provider(issuer: &Issuer) -> WorkloadIdentityPoolProvider {
    let mapping = [
        ("google.subject", "assertion.sub"),
        ("attribute.repository", "assertion.repository"),
        ("attribute.ref", "assertion.ref"),
        ("attribute.environment", "assertion.environment"),
    ];
    WorkloadIdentityPoolProvider {
        attribute_mapping: mapping.map(|(key, value)| (key.into(), value.into())).into(),
        attribute_condition: Some("assertion.repository == 'haar/app'".into()),
        oidc: Some(Oidc {
            issuer_uri: Some(ISSUER.into()),
            jwks_json: Some(issuer.jwks()),
            ..Oidc::default()
        }),
        ..WorkloadIdentityPoolProvider::default()
    }
}

async fn create_pool(world: &World, id: &str) -> Result<Operation> {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsCreateRequest {
        parent: LOCATION.into(),
        workload_identity_pool_id: Some(id.into()),
        body: Some(WorkloadIdentityPool { display_name: Some("GitHub".into()), ..Default::default() }),
    };
    world.call(world.owner(), pools::CREATE, request).await
}

async fn create_provider(world: &World, body: WorkloadIdentityPoolProvider) -> Result<Operation> {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
        parent: format!("{LOCATION}/workloadIdentityPools/github"),
        workload_identity_pool_provider_id: Some("actions".into()),
        body: Some(body),
    };
    world.call(world.owner(), providers::CREATE, request).await
}

async fn patch_pool(world: &World, mask: &str, body: WorkloadIdentityPool) -> Result<Operation> {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsPatchRequest {
        name: POOL.into(),
        update_mask: Some(mask.into()),
        body: Some(body),
    };
    world.call(world.owner(), pools::PATCH, request).await
}

/// A world with GitHub's pool and provider, and the issuer.
async fn federated() -> (World, Issuer) {
    let (world, issuer) = (World::new().await, Issuer::new());
    create_pool(&world, "github").await.unwrap();
    create_provider(&world, provider(&issuer)).await.unwrap();
    (world, issuer)
}

async fn exchange_with(world: &World, audience: &str, token: &str) -> Value {
    let body = json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": audience, "scope": SCOPE,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token", "subjectToken": token,
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    })
    .to_string();
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    let request = Request {
        method: &Method::POST,
        path: "/v1/token",
        query: "",
        headers: &headers,
        body: body.as_bytes(),
    };
    serde_json::from_slice(world.iam.oauth(request).await.unwrap().body()).unwrap()
}

async fn exchange(world: &World, token: &str) -> Value {
    exchange_with(world, &format!("//iam.googleapis.com/{POOL}/providers/actions"), token).await
}

/// The word and the sentence of a refusal.
fn refusal(answer: &Value) -> (&str, &str) {
    (answer["error"].as_str().unwrap_or_default(), answer["error_description"].as_str().unwrap_or_default())
}

async fn principal(world: &World, token: &str) -> Principal {
    let answer = exchange(world, token).await;
    world.iam.authenticate(answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

#[tokio::test]
async fn a_pool_and_its_provider_live_and_die() {
    let (world, issuer) = federated().await;
    let get = async || {
        let request = proto::ProjectsLocationsWorkloadIdentityPoolsGetRequest { name: POOL.into() };
        world.call(world.owner(), pools::GET, request).await.unwrap()
    };
    let pool = get().await;
    assert_eq!(
        (pool.name.as_deref(), pool.state.as_deref()),
        (Some(POOL), Some("ACTIVE")),
        "the number, not the id"
    );
    assert_eq!(create_pool(&world, "github").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(create_pool(&world, "gcp-x").await.unwrap_err().code(), Code::InvalidArgument);

    let done = patch_pool(
        &world,
        "description,disabled",
        WorkloadIdentityPool { description: Some("CI".into()), disabled: Some(true), ..Default::default() },
    );
    let name = done.await.unwrap().name.unwrap();
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsOperationsGetRequest { name };
    assert_eq!(world.call(world.owner(), operations::GET, request).await.unwrap().done, Some(true));
    let pool = get().await;
    assert_eq!(
        (pool.display_name.as_deref(), pool.description.as_deref(), pool.disabled),
        (Some("GitHub"), Some("CI"), Some(true))
    );
    assert_eq!(
        patch_pool(&world, "name", WorkloadIdentityPool::default()).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let delete = || proto::ProjectsLocationsWorkloadIdentityPoolsDeleteRequest { name: POOL.into() };
    world.call(world.owner(), pools::DELETE, delete()).await.unwrap();
    assert_eq!(get().await.state.as_deref(), Some("DELETED"));
    assert!(get().await.expire_time.is_some());
    let list = async |show_deleted| {
        let request = proto::ProjectsLocationsWorkloadIdentityPoolsListRequest {
            parent: LOCATION.into(),
            show_deleted,
            ..Default::default()
        };
        world.call(world.owner(), pools::LIST, request).await.unwrap().workload_identity_pools.len()
    };
    assert_eq!((list(None).await, list(Some(true)).await), (0, 1));
    assert_eq!(
        world.call(world.owner(), pools::DELETE, delete()).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(
        create_pool(&world, "github").await.unwrap_err().code(),
        Code::AlreadyExists,
        "its id is kept"
    );
    assert_eq!(
        create_provider(&world, provider(&issuer)).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let undelete =
        proto::ProjectsLocationsWorkloadIdentityPoolsUndeleteRequest { name: POOL.into(), body: None };
    world.call(world.owner(), pools::UNDELETE, undelete).await.unwrap();
    assert_eq!(get().await.state.as_deref(), Some("ACTIVE"));

    world.call(world.owner(), pools::DELETE, delete()).await.unwrap();
    world.clock.advance(Duration::from_secs(30 * 24 * 3600));
    create_pool(&world, "github").await.unwrap();
    create_provider(&world, provider(&issuer)).await.expect("it went with its pool");
}

#[tokio::test]
async fn a_provider_is_changed_in_parts_and_other_kinds_are_refused() {
    let (world, _) = federated().await;
    let name = format!("{POOL}/providers/actions");
    let patch = async |mask: &str, body: WorkloadIdentityPoolProvider| {
        let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersPatchRequest {
            name: name.clone(),
            update_mask: Some(mask.into()),
            body: Some(body),
        };
        world.call(world.owner(), providers::PATCH, request).await
    };
    let oidc = Oidc { allowed_audiences: vec!["haar".into()], ..Oidc::default() };
    let body = WorkloadIdentityPoolProvider { oidc: Some(oidc), ..Default::default() };
    patch("oidc.allowedAudiences", body).await.unwrap();
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersGetRequest { name: name.clone() };
    let now = world.call(world.owner(), providers::GET, request).await.unwrap();
    let oidc = now.oidc.unwrap();
    assert_eq!((oidc.issuer_uri.as_deref(), oidc.allowed_audiences), (Some(ISSUER), vec!["haar".to_owned()]));
    assert_eq!(now.attribute_mapping.len(), 4);

    let condition = |text: &str| WorkloadIdentityPoolProvider {
        attribute_condition: Some(text.into()),
        ..Default::default()
    };
    let message = |result: Result<Operation>| {
        result.map(drop).map_err(|error: Error| (error.code(), error.message().to_owned()))
    };
    let error = message(patch("attributeCondition", condition("assertion.")).await).unwrap_err();
    assert!(error.1.starts_with("The attribute condition is invalid: "), "{error:?}");
    let error = message(patch("attributeCondition", condition("")).await).unwrap_err();
    assert!(
        error.1.starts_with("The attribute condition must reference one of the provider's claims."),
        "{error:?}"
    );
    let saml = WorkloadIdentityPoolProvider { saml: Some(proto::Saml::default()), ..Default::default() };
    assert_eq!(message(patch("saml", saml.clone()).await).unwrap_err().0, Code::InvalidArgument);
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
        parent: POOL.into(),
        workload_identity_pool_provider_id: Some("saml-one".into()),
        body: Some(saml),
    };
    let error = world.call(world.owner(), providers::CREATE, request).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unimplemented, "SAML providers are not served here; OpenID Connect providers are.")
    );
}

#[tokio::test]
async fn staging_is_for_one_branch_and_production_for_another() {
    let (world, issuer) = federated().await;
    for (id, branch) in [("deploy-staging", "develop"), ("deploy-production", "main")] {
        let account = world.account(id).await;
        let members =
            vec![format!("principalSet://iam.googleapis.com/{POOL}/attribute.ref/refs/heads/{branch}")];
        let bindings =
            vec![Binding { role: "roles/iam.workloadIdentityUser".into(), members, condition: None }];
        set(&world, &Resource::new("iam.googleapis.com", account.name), bindings).await.unwrap();
    }
    let impersonate = async |who: Principal, id: &str| -> Result<GenerateAccessTokenResponse> {
        let name = format!("projects/-/serviceAccounts/{id}@demo-project.iam.gserviceaccount.com");
        let request = GenerateAccessTokenRequest { name, scope: vec![SCOPE.into()], ..Default::default() };
        world.call(world.caller(who), GENERATE_ACCESS_TOKEN, request).await
    };
    for (branch, allowed, refused) in
        [("develop", "deploy-staging", "deploy-production"), ("main", "deploy-production", "deploy-staging")]
    {
        let who = principal(&world, &issuer.token(&job(branch))).await;
        let token = impersonate(who.clone(), allowed).await.unwrap().access_token;
        assert_eq!(
            world.iam.authenticate(&token).unwrap(),
            machine(&format!("{allowed}@demo-project.iam.gserviceaccount.com"))
        );
        assert_eq!(impersonate(who, refused).await.unwrap_err().code(), Code::PermissionDenied, "{branch}");
    }
    let who = principal(&world, &issuer.token(&job("topic"))).await;
    assert!(
        impersonate(who.clone(), "deploy-staging").await.is_err()
            && impersonate(who, "deploy-production").await.is_err()
    );
}

#[tokio::test]
async fn a_federated_identity_is_granted_roles_itself_while_its_pool_is_open() {
    let (world, issuer) = federated().await;
    let access = "secretmanager.versions.access";
    let read = async |member: &str| {
        let members = vec![member.to_owned()];
        let bindings =
            vec![Binding { role: "roles/secretmanager.secretAccessor".into(), members, condition: None }];
        set(&world, &secret(), bindings).await.unwrap();
        let who = principal(&world, &issuer.token(&job("main"))).await;
        world.allows(&who, access, &secret())
    };
    let pool = format!("//iam.googleapis.com/{POOL}");
    assert!(read(&format!("principal:{pool}/subject/repo:haar/app:ref:refs/heads/main")).await);
    assert!(read(&format!("principalSet:{pool}/attribute.repository/haar/app")).await);
    assert!(read(&format!("principalSet:{pool}/*")).await);
    assert!(!read(&format!("principalSet:{pool}/attribute.repository/haar/other")).await);
    assert!(!read(&format!("principalSet:{pool}/group/admins")).await);
    assert!(!read("allAuthenticatedUsers").await, "no Google identity");
    assert!(read("allUsers").await);

    let answer = exchange(&world, &issuer.token(&job("main"))).await;
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(answer["expires_in"], 3599);
    assert!(world.iam.authenticate(token).is_ok());
    let disabled = |disabled| WorkloadIdentityPool { disabled: Some(disabled), ..Default::default() };
    patch_pool(&world, "disabled", disabled(true)).await.unwrap();
    assert!(world.iam.authenticate(token).is_err(), "at once, though it was checked before");
    assert_eq!(refusal(&exchange(&world, &issuer.token(&job("main"))).await).0, "invalid_target");
    patch_pool(&world, "disabled", disabled(false)).await.unwrap();
    assert!(world.iam.authenticate(token).is_ok());
    world.clock.advance(Duration::from_secs(3600));
    assert!(world.iam.authenticate(token).is_err());
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_in_googles_words() {
    let (world, issuer) = federated().await;
    let good = job("main");
    let says = async |claims: Value| {
        let answer = exchange(&world, &issuer.token(&claims)).await;
        let (error, why) = refusal(&answer);
        (error.to_owned(), why.to_owned())
    };
    for (claims, error, sentence) in [
        (
            with(&good, "repository", "evil/app".into()),
            "unauthorized_client",
            "The given credential is rejected by the attribute condition.",
        ),
        (
            with(&good, "iss", "https://evil.example".into()),
            "invalid_grant",
            "The issuer in ID Token https://evil.example does not match the expected ones: https://token.actions.githubusercontent.com",
        ),
        (
            with(&good, "aud", "https://github.com/haar".into()),
            "invalid_grant",
            "The audience in ID Token [https://github.com/haar] does not match the expected audience.",
        ),
        (with(&good, "exp", (NOW - 300).into()), "invalid_grant", "ID Token is expired."),
        (with(&good, "iat", (NOW + 301).into()), "invalid_grant", "ID Token is not valid yet."),
        (with(&good, "nbf", (NOW + 301).into()), "invalid_grant", "ID Token is not valid yet."),
        (
            with(&good, "exp", (NOW + 25 * 3600).into()),
            "invalid_grant",
            "The lifetime of the ID Token is longer than 24 hours.",
        ),
        (
            with(&good, "sub", Value::Null),
            "invalid_request",
            "Could not obtain a value for google.subject from the given credential.",
        ),
    ] {
        assert_eq!(says(claims).await, (error.to_owned(), sentence.to_owned()));
    }
    let within_skew = with(&with(&good, "iat", (NOW + 300).into()), "nbf", (NOW + 300).into());
    assert!(exchange(&world, &issuer.token(&within_skew)).await["access_token"].is_string(), "clocks differ");

    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mac = |header: &Value| {
        // The key that everybody can read, used as if it were a secret.
        let public = issuer.0.public_key().as_der().unwrap();
        let text = format!("{}.{}", part(header), part(&good));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_ref());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, text.as_bytes())))
    };
    let honest = issuer.token(&good);
    let (signed, signature) = honest.rsplit_once('.').unwrap();
    let other = with(&good, "repository", "haar/app2".into());
    for (what, token) in [
        ("alg none", format!("{}.{}.", part(&json!({"alg": "none"})), part(&good))),
        ("key confusion", mac(&json!({"alg": "HS256", "kid": "k1"}))),
        ("tampered", format!("{}.{}.{signature}", signed.split('.').next().unwrap(), part(&other))),
        ("unknown kid", issuer.sign(&json!({"alg": "RS256", "kid": "k2"}), &good)),
        ("another issuer's key", Issuer::new().token(&good)),
        ("no signature", format!("{signed}.")),
        ("no token", "nothing".into()),
    ] {
        assert_eq!(refusal(&exchange(&world, &token).await).0, "invalid_grant", "{what}");
    }

    for (audience, error) in [
        ("", "invalid_request"),
        (POOL, "invalid_request"),
        (&format!("//iam.googleapis.com/{POOL}"), "invalid_request"),
        (&format!("//iam.googleapis.com/{POOL}/providers/other"), "invalid_target"),
        (
            &format!("//iam.googleapis.com/{}/providers/actions", POOL.replace("github", "gitlab")),
            "invalid_target",
        ),
        (
            &format!("//iam.googleapis.com/{}/providers/actions", POOL.replace("123456789012", "1")),
            "invalid_target",
        ),
    ] {
        assert_eq!(refusal(&exchange_with(&world, audience, &honest).await).0, error, "{audience}");
    }
}

#[tokio::test]
async fn an_issuer_that_cannot_be_asked_is_said_to_be() {
    let (world, issuer) = (World::new().await, Issuer::new());
    create_pool(&world, "github").await.unwrap();
    let mut asked = provider(&issuer);
    asked.oidc.as_mut().unwrap().jwks_json = None;
    create_provider(&world, asked).await.unwrap();
    let answer = exchange(&world, &issuer.token(&job("main"))).await;
    assert_eq!(refusal(&answer), ("invalid_grant", "Error connecting to the given credential's issuer."));
}
