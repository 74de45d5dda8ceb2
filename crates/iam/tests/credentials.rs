use std::time::Duration;

use apis::google::iam::{
    admin::v1::{self as admin, iam::*},
    credentials::v1::{iam_credentials, *},
    v1::{Binding, Policy, SetIamPolicyRequest},
};
use kernel::{
    Code, Error, Principal, Resource, Result,
    error::Detail,
    ports::{Authenticator, Identity, Policies},
};
use serde_json::{Value, json};

use crate::support::*;

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

fn reason(error: &Error) -> &'static str {
    match error.details() {
        [Detail::Info { reason, .. }, ..] => reason,
        _ => "",
    }
}

async fn grant(world: &World, account: &str, role: &str, member: &str) {
    let bindings = vec![Binding { role: role.into(), members: vec![member.into()], condition: None }];
    let request =
        SetIamPolicyRequest { policy: Some(Policy { bindings, ..Policy::default() }), ..Default::default() };
    let name = format!("projects/-/serviceAccounts/{account}");
    world.iam.set(&Resource::new("iam.googleapis.com", name), request).await.unwrap();
}

#[tokio::test]
async fn an_access_token_is_good_for_an_hour_and_for_its_account_only() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let (token, life) = world.iam.access_token(APP, &[SCOPE]).await.unwrap();
    assert_eq!(life, Duration::from_secs(3600));
    assert_eq!(world.iam.authenticate(&token).unwrap(), machine(APP));
    assert_eq!(world.iam.authenticate(&token).unwrap(), machine(APP), "warm");
    assert_eq!(world.reopened().await.authenticate(&token).unwrap(), machine(APP), "after a restart");

    let disable = admin::DisableServiceAccountRequest { name: account.name.clone() };
    world.call(world.owner(), DISABLE_SERVICE_ACCOUNT, disable).await.unwrap();
    assert_eq!(reason(&world.iam.authenticate(&token).unwrap_err()), "ACCOUNT_STATE_INVALID");
    let enable = admin::EnableServiceAccountRequest { name: account.name.clone() };
    world.call(world.owner(), ENABLE_SERVICE_ACCOUNT, enable).await.unwrap();
    assert!(world.iam.authenticate(&token).is_ok());

    let delete = admin::DeleteServiceAccountRequest { name: account.name };
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, delete).await.unwrap();
    world.account("my-app-sa").await;
    let error = world.iam.authenticate(&token).unwrap_err();
    assert_eq!(reason(&error), "ACCOUNT_STATE_INVALID", "another account under the same address");
    assert!(
        error
            .message()
            .starts_with("Request had invalid authentication credentials. Expected OAuth 2 access token")
    );
}

#[tokio::test]
async fn expired_and_foreign_tokens_are_told_apart() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let (token, _) = world.iam.access_token(APP, &[SCOPE]).await.unwrap();
    world.iam.authenticate(&token).unwrap();
    world.clock.advance(Duration::from_secs(3600));
    let error = world.iam.authenticate(&token).unwrap_err();
    assert_eq!((error.code(), reason(&error)), (Code::Unauthenticated, "ACCESS_TOKEN_EXPIRED"));
    for token in ["", "ya29.", "ya29.abc", "garbage", "a.b.c", &token[1..], &format!("{token}A")] {
        assert_eq!(
            reason(&world.iam.authenticate(token).unwrap_err()),
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "{token}"
        );
    }
}

#[tokio::test]
async fn an_identity_token_is_believed_by_whom_it_is_for() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let url = "https://hello-123456789012.us-central1.run.app";
    let token = world.iam.identity_token(APP, url, true).await.unwrap();
    assert_eq!(world.iam.verify_identity(&token, &["https://x", url]).unwrap(), machine(APP));
    assert!(world.iam.verify_identity(&token, &["https://x"]).is_err(), "wrong audience");
    assert!(world.iam.authenticate(&token).is_err(), "it is no access token");
    assert_eq!(
        world.reopened().await.verify_identity(&token, &[url]).unwrap(),
        machine(APP),
        "the key stays"
    );
    let (access, _) = world.iam.access_token(APP, &[]).await.unwrap();
    assert!(world.iam.verify_identity(&access, &[url]).is_err());
    world.clock.advance(Duration::from_secs(3600 + 299));
    assert!(world.iam.verify_identity(&token, &[url]).is_ok(), "clocks may differ by five minutes");
    world.clock.advance(Duration::from_secs(1));
    assert!(world.iam.verify_identity(&token, &[url]).is_err());
}

async fn token_for(
    world: &World,
    caller: Principal,
    name: &str,
    delegates: &[&str],
) -> Result<GenerateAccessTokenResponse> {
    let request = GenerateAccessTokenRequest {
        name: format!("projects/-/serviceAccounts/{name}"),
        delegates: delegates.iter().map(|name| format!("projects/-/serviceAccounts/{name}")).collect(),
        scope: vec![SCOPE.into()],
        lifetime: None,
    };
    world.call(world.caller(caller), iam_credentials::GENERATE_ACCESS_TOKEN, request).await
}

#[tokio::test]
async fn impersonation_needs_the_role_even_of_an_owner() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let owner = world.iam.owner().principal();
    let error = token_for(&world, owner.clone(), APP, &[]).await.unwrap_err();
    assert_eq!(
        error.message(),
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."
    );
    assert_eq!(reason(&error), "IAM_PERMISSION_DENIED");
    grant(&world, APP, "roles/iam.serviceAccountTokenCreator", "user:ada@haar.localhost").await;
    let answer = token_for(&world, owner, APP, &[]).await.unwrap();
    assert_eq!(world.iam.authenticate(&answer.access_token).unwrap(), machine(APP));
    assert_eq!(answer.expire_time.unwrap().seconds as u64, NOW + 3600);
    assert_eq!(
        token_for(&world, Principal::Anonymous, APP, &[]).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_chain_of_delegates_holds_only_if_each_link_does() {
    let world = World::new().await;
    let email = |id: &str| format!("{id}@demo-project.iam.gserviceaccount.com");
    for id in ["account-a", "account-b", "account-c"] {
        world.account(id).await;
    }
    let (a, b, c) = (email("account-a"), email("account-b"), email("account-c"));
    let role = "roles/iam.serviceAccountTokenCreator";
    grant(&world, &a, role, "user:bob@example.com").await;
    grant(&world, &b, role, &format!("serviceAccount:{a}")).await;
    let bob = || user("bob@example.com");
    assert!(token_for(&world, bob(), &c, &[&a, &b]).await.is_err());
    grant(&world, &c, role, &format!("serviceAccount:{b}")).await;
    assert!(token_for(&world, bob(), &c, &[&a, &b]).await.is_ok());
    assert!(token_for(&world, bob(), &c, &[&b]).await.is_err());
    assert!(token_for(&world, bob(), &c, &[]).await.is_err());
}

#[tokio::test]
async fn what_an_account_signs_can_be_checked_and_is_no_identity_token() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    grant(&world, APP, "roles/iam.serviceAccountTokenCreator", "user:bob@example.com").await;
    let bob = || world.caller(user("bob@example.com"));
    let name = format!("projects/-/serviceAccounts/{APP}");
    let request = SignBlobRequest { name: name.clone(), payload: "hello".into(), ..Default::default() };
    let blob = world.call(bob(), iam_credentials::SIGN_BLOB, request).await.unwrap();
    assert_eq!(blob.signed_blob.len(), 256);

    let claims = json!({"iss": "https://accounts.google.com", "aud": "a", "sub": "1", "email": "eve@example.com", "iat": NOW, "exp": NOW + 3600});
    let request = SignJwtRequest { name: name.clone(), payload: claims.to_string(), ..Default::default() };
    let forged = world.call(bob(), iam_credentials::SIGN_JWT, request).await.unwrap();
    assert_eq!(forged.key_id, blob.key_id);
    world.iam.identity_token(APP, "a", false).await.unwrap();
    assert!(world.iam.verify_identity(&forged.signed_jwt, &["a"]).is_err());

    let claims = json!({"iss": APP, "sub": APP, "aud": "https://secretmanager.googleapis.com/", "iat": NOW, "exp": NOW + 3600});
    let request = SignJwtRequest { name, payload: claims.to_string(), ..Default::default() };
    let own = world.call(bob(), iam_credentials::SIGN_JWT, request).await.unwrap();
    assert_eq!(
        world.iam.authenticate(&own.signed_jwt).unwrap(),
        machine(APP),
        "a self-signed token opens the API"
    );
    for (host, opens) in [
        ("secretmanager.googleapis.com", true),
        ("us-central1-secretmanager.googleapis.com", true),
        ("127.0.0.1", true),
        ("run.googleapis.com", false),
        ("xsecretmanager.googleapis.com", false),
    ] {
        assert_eq!(world.iam.authenticate_for(&own.signed_jwt, host).is_ok(), opens, "{host}");
    }
    world.clock.advance(Duration::from_secs(3901));
    assert!(world.iam.authenticate(&own.signed_jwt).is_err());
}

#[tokio::test]
async fn a_lifetime_is_at_most_an_hour_and_a_scope_is_needed() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    grant(&world, APP, "roles/iam.serviceAccountTokenCreator", "user:bob@example.com").await;
    for (scope, seconds, ok) in [
        (vec![SCOPE.to_owned()], 600, true),
        (vec![SCOPE.to_owned()], 3601, false),
        (vec![SCOPE.to_owned()], -1, false),
        (vec![], 600, false),
    ] {
        let request = GenerateAccessTokenRequest {
            name: format!("projects/-/serviceAccounts/{APP}"),
            scope,
            lifetime: Some(prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let answer = world
            .call(world.caller(user("bob@example.com")), iam_credentials::GENERATE_ACCESS_TOKEN, request)
            .await;
        assert_eq!(answer.is_ok(), ok, "{seconds}");
    }
}

#[tokio::test]
async fn credentials_are_made_for_people_and_for_accounts() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let file: Value =
        world.iam.credentials_file(&world.iam.principal("Bob@example.com").await.unwrap()).unwrap();
    assert_eq!(
        (file["type"].as_str(), file["account"].as_str()),
        (Some("authorized_user"), Some("bob@example.com"))
    );
    let (token, _) = world.iam.access_token_for(&user("bob@example.com")).unwrap();
    assert_eq!(world.iam.authenticate(&token).unwrap(), user("bob@example.com"));
    assert!(file["refresh_token"].as_str().unwrap().starts_with("1//0"));
    assert_eq!(world.iam.principal(APP).await.unwrap(), machine(APP));
    assert_eq!(
        world.iam.principal("x@demo-project.iam.gserviceaccount.com").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(world.iam.principal("nonsense").await.unwrap_err().code(), Code::InvalidArgument);
}
