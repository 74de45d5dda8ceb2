use ::iam::{Instance, Request};
use apis::google::iam::admin::v1::{iam::*, *};
use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{
    HeaderMap, Method, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use kernel::ports::{Authenticator, Identity, Project};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::*;

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

async fn post(world: &World, path: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
    let escape =
        |text: &str| text.replace('%', "%25").replace('&', "%26").replace('+', "%2B").replace(':', "%3A");
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    ask(world, Method::POST, path, "", body.join("&").as_bytes(), None).await
}

async fn post_json(world: &World, path: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
    let body: Value = fields.iter().map(|(name, value)| (name.to_string(), Value::from(*value))).collect();
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let body = body.to_string();
    let request =
        Request { method: &Method::POST, path, query: "", headers: &headers, body: body.as_bytes() };
    let response = world.iam.oauth(request).await.expect("an endpoint");
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

async fn ask(
    world: &World,
    method: Method,
    path: &str,
    query: &str,
    body: &[u8],
    bearer: Option<&str>,
) -> (StatusCode, Value) {
    let mut headers = HeaderMap::new();
    if let Some(token) = bearer {
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let request = Request { method: &method, path, query, headers: &headers, body };
    let response = world.iam.oauth(request).await.expect("an endpoint");
    (response.status(), serde_json::from_slice(response.body()).unwrap())
}

#[tokio::test]
async fn a_refresh_token_gives_access_and_identity_until_it_is_revoked() {
    let world = World::new().await;
    let file = world.iam.credentials_file(&world.iam.owner().principal()).unwrap();
    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    let (id, secret, refresh) = (text("client_id"), text("client_secret"), text("refresh_token"));
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &id),
        ("client_secret", &secret),
        ("refresh_token", &refresh),
    ];
    let (status, answer) = post(&world, "/token", &fields).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((answer["expires_in"].as_u64(), answer["token_type"].as_str()), (Some(3599), Some("Bearer")));
    let access = answer["access_token"].as_str().unwrap();
    assert_eq!(world.iam.authenticate(access).unwrap(), world.iam.owner().principal());
    let posted = post_json(&world, "/token", &fields).await;
    assert_eq!(posted.0, StatusCode::OK, "as Google's Rust library asks: {}", posted.1);
    let identity = answer["id_token"].as_str().unwrap();
    let person = world.iam.verify_identity(identity, &["https://any.run.app"]).unwrap();
    assert_eq!(person, world.iam.owner().principal(), "as gcloud's identity tokens open Cloud Run to people");

    let (_, info) =
        ask(&world, Method::GET, "/tokeninfo", &format!("access_token={access}"), b"", None).await;
    assert_eq!(
        (info["email"].as_str(), info["expires_in"].as_str()),
        (Some("ada@haar.localhost"), Some("3600"))
    );
    let (_, info) = ask(&world, Method::GET, "/tokeninfo", &format!("id_token={identity}"), b"", None).await;
    assert_eq!(
        (info["iss"].as_str(), info["alg"].as_str()),
        (Some("https://accounts.google.com"), Some("RS256"))
    );
    let (_, who) = ask(&world, Method::GET, "/v1/userinfo", "alt=json", b"", Some(access)).await;
    assert_eq!(who["email"], "ada@haar.localhost");
    assert_eq!(who["sub"].as_str().unwrap().len(), 21);
    let (status, _) = ask(&world, Method::GET, "/oauth2/v2/userinfo", "", b"", Some("ya29.x")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    assert_eq!(post(&world, "/revoke", &[("token", &refresh)]).await.0, StatusCode::OK);
    assert!(world.iam.authenticate(access).is_err(), "the whole session ends");
    let (status, answer) = post(&world, "/token", &fields).await;
    assert_eq!((status, answer["error"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_grant")));
    assert_eq!(answer["error_description"], "Token has been expired or revoked.");
}

struct Key {
    file: Value,
    pair: KeyPair,
}

impl Key {
    async fn make(world: &World, account: &ServiceAccount) -> (Self, String) {
        let request = CreateServiceAccountKeyRequest { name: account.name.clone(), ..Default::default() };
        let made = world.call(world.owner(), CREATE_SERVICE_ACCOUNT_KEY, request).await.unwrap();
        let file: Value = serde_json::from_slice(&made.private_key_data).unwrap();
        let pem = file["private_key"].as_str().unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let pair = KeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap();
        (Key { file, pair }, made.name)
    }

    fn sign(&self, claims: Value) -> String {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.file["private_key_id"]});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; 256];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn exchange(world: &World, assertion: &str) -> (StatusCode, Value) {
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    post(world, "/token", &[("grant_type", grant), ("assertion", assertion)]).await
}

#[tokio::test]
async fn a_key_file_gives_tokens_until_it_is_deleted() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let (key, name) = Key::make(&world, &account).await;
    let claims = json!({"iss": APP, "aud": TOKEN_URL, "scope": "https://www.googleapis.com/auth/cloud-platform", "iat": NOW, "exp": NOW + 3600});
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        key.sign(claims)
    };
    let (status, answer) = exchange(&world, &key.sign(claims.clone())).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(world.iam.authenticate(answer["access_token"].as_str().unwrap()).unwrap(), machine(APP));

    let (_, answer) = exchange(&world, &with("target_audience", "https://hello.run.app".into())).await;
    let identity = answer["id_token"].as_str().unwrap();
    assert_eq!(world.iam.verify_identity(identity, &["https://hello.run.app"]).unwrap(), machine(APP));

    let description = async |assertion: String| {
        let (status, answer) = exchange(&world, &assertion).await;
        assert_ne!(status, StatusCode::OK);
        answer["error_description"].as_str().unwrap().to_owned()
    };
    assert!(
        description(with("exp", (NOW + 3601).into()))
            .await
            .starts_with("Invalid JWT: Token must be a short-lived token")
    );
    assert!(description(with("iat", (NOW + 301).into())).await.starts_with("Invalid JWT: Token must be"));
    assert!(
        description(with("aud", "https://example.com".into()))
            .await
            .starts_with("Invalid JWT: Failed audience check.")
    );
    assert!(description(with("sub", "eve@example.com".into())).await.starts_with("Client is unauthorized"));
    assert_eq!(
        description(with("iss", "nobody@demo-project.iam.gserviceaccount.com".into())).await,
        "Invalid grant: account not found"
    );
    assert_eq!(
        description(with("scope", "".into())).await,
        "Invalid OAuth scope or ID token audience provided."
    );
    let tampered = key.sign(claims.clone());
    let tampered = tampered
        .replace(tampered.split('.').nth(1).unwrap(), &URL_SAFE_NO_PAD.encode(claims.to_string() + " "));
    assert_eq!(description(tampered).await, "Invalid JWT Signature.");
    assert!(
        world.iam.authenticate(&key.sign(claims.clone())).is_err(),
        "an assertion for the token endpoint is no bearer token"
    );

    let other =
        json!({"iss": APP, "sub": APP, "aud": "https://run.googleapis.com/", "iat": NOW, "exp": NOW + 3600});
    let bearer = key.sign(other);
    assert_eq!(world.iam.authenticate(&bearer).unwrap(), machine(APP));
    world
        .call(world.owner(), DELETE_SERVICE_ACCOUNT_KEY, DeleteServiceAccountKeyRequest { name })
        .await
        .unwrap();
    assert!(world.iam.authenticate(&bearer).is_err());
    assert_eq!(description(key.sign(claims.clone())).await, "Invalid JWT Signature.");
}

#[tokio::test]
async fn the_endpoints_that_libraries_look_up_are_there() {
    let world = World::new().await;
    let (_, discovery) = ask(&world, Method::GET, "/.well-known/openid-configuration", "", b"", None).await;
    assert_eq!(discovery["jwks_uri"], "https://www.googleapis.com/oauth2/v3/certs");
    let (_, keys) = ask(&world, Method::GET, "/oauth2/v3/certs", "", b"", None).await;
    assert_eq!((keys["keys"][0]["kty"].as_str(), keys["keys"][0]["e"].as_str()), (Some("RSA"), Some("AQAB")));
    let (_, certificates) = ask(&world, Method::GET, "/oauth2/v1/certs", "", b"", None).await;
    let id = keys["keys"][0]["kid"].as_str().unwrap();
    assert!(certificates[id].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    let account = world.account("my-app-sa").await;
    let (_, name) = Key::make(&world, &account).await;
    let id = name.rsplit('/').next().unwrap();
    let path = format!("/robot/v1/metadata/x509/{}", APP.replace('@', "%40"));
    let (_, certificates) = ask(&world, Method::GET, &path, "", b"", None).await;
    assert!(certificates[id].is_string());
    let path = format!("/service_accounts/v1/jwk/{APP}");
    let (_, keys) = ask(&world, Method::GET, &path, "", b"", None).await;
    assert_eq!(keys["keys"][0]["kid"], id);
    let (status, answer) = post(&world, "/token", &[("grant_type", "password")]).await;
    assert_eq!((status, answer["error"].as_str()), (StatusCode::BAD_REQUEST, Some("unsupported_grant_type")));
    let headers = HeaderMap::new();
    let request = Request { method: &Method::GET, path: "/nothing", query: "", headers: &headers, body: b"" };
    assert!(world.iam.oauth(request).await.is_none());
}

fn instance() -> Instance {
    Instance {
        email: APP.into(),
        project: Project { id: "demo-project".into(), number: NUMBER },
        region: "us-central1".into(),
        id: "0069c7a988".into(),
    }
}

async fn metadata(world: &World, path: &str, query: &str) -> (StatusCode, String) {
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", "Google".parse().unwrap());
    let response: Response<Bytes> = world.iam.metadata(&instance(), &headers, path, query).await;
    assert_eq!(response.headers()["metadata-flavor"], "Google");
    (response.status(), String::from_utf8(response.body().to_vec()).unwrap())
}

#[tokio::test]
async fn an_instance_learns_who_and_where_it_is() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let region = format!("projects/{NUMBER}/regions/us-central1");
    for (path, query, expected) in [
        ("/", "", "computeMetadata/\n"),
        ("/computeMetadata/v1/", "", "instance/\nproject/\nuniverse/\n"),
        ("/computeMetadata/v1/project/project-id", "", "demo-project"),
        ("/computeMetadata/v1/project/numeric-project-id", "", "123456789012"),
        ("/computeMetadata/v1/instance/region", "", region.as_str()),
        ("/computeMetadata/v1/instance/region", "alt=json", &format!("\"{region}\"")),
        ("/computeMetadata/v1/instance/service-accounts/default/email", "", APP),
        (
            "/computeMetadata/v1/instance/service-accounts/my-app-sa%40demo-project.iam.gserviceaccount.com/aliases",
            "",
            "default\n",
        ),
        ("/computeMetadata/v1/universe/universe-domain", "", "googleapis.com"),
        (
            "/computeMetadata/v1/project/",
            "recursive=true",
            "{\"numericProjectId\":123456789012,\"projectId\":\"demo-project\"}",
        ),
        (
            "/computeMetadata/v1/project/",
            "recursive=true&alt=text",
            "numeric-project-id 123456789012\nproject-id demo-project\n",
        ),
    ] {
        assert_eq!(
            metadata(&world, path, query).await,
            (StatusCode::OK, expected.to_owned()),
            "{path}?{query}"
        );
    }
    let (_, account) =
        metadata(&world, "/computeMetadata/v1/instance/service-accounts/default/", "recursive=true").await;
    let account: Value = serde_json::from_str(&account).unwrap();
    assert_eq!((account["email"].as_str(), account["aliases"][0].as_str()), (Some(APP), Some("default")));
    assert_eq!(metadata(&world, "/computeMetadata/v1/instance", "").await.0, StatusCode::MOVED_PERMANENTLY);
    for path in [
        "/computeMetadata/v1/instance/x",
        "/computeMetadata/v1/instance/service-accounts/eve@x.y/email",
        "/x",
    ] {
        assert_eq!(metadata(&world, path, "").await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_instance_gets_tokens_of_its_account() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let accounts = "/computeMetadata/v1/instance/service-accounts";
    let (_, answer) = metadata(&world, &format!("{accounts}/default/token"), "scopes=openid").await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["expires_in"], 3599);
    assert_eq!(world.iam.authenticate(answer["access_token"].as_str().unwrap()).unwrap(), machine(APP));
    let (_, token) =
        metadata(&world, &format!("{accounts}/{APP}/identity"), "audience=https://a.run.app&format=full")
            .await;
    assert_eq!(world.iam.verify_identity(&token, &["https://a.run.app"]).unwrap(), machine(APP));
    let (status, body) = metadata(&world, &format!("{accounts}/default/identity"), "").await;
    assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, "non-empty audience parameter required"));
}

#[tokio::test]
async fn no_page_and_no_proxy_gets_an_answer() {
    let world = World::new().await;
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let mut headers = HeaderMap::new();
    assert_eq!(world.iam.metadata(&instance(), &headers, path, "").await.status(), StatusCode::FORBIDDEN);
    headers.insert("metadata-flavor", "Google".parse().unwrap());
    headers.insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
    assert_eq!(world.iam.metadata(&instance(), &headers, path, "").await.status(), StatusCode::FORBIDDEN);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_request_makes_it_panic(path in "/.{0,60}", query in ".{0,60}", body in proptest::collection::vec(any::<u8>(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let headers = HeaderMap::new();
            for path in [path.as_str(), "/token", "/revoke", "/tokeninfo", "/v1/userinfo"] {
                let request = Request { method: &Method::POST, path, query: &query, headers: &headers, body: &body };
                let _ = world.iam.oauth(request).await;
            }
            let _ = metadata(&world, &format!("/computeMetadata/v1/instance{path}"), &query).await;
        });
    }
}
