use apis::google::iam::admin::v1::{iam::*, list_service_account_keys_request::KeyType, *};
use kernel::{Code, error::Detail, ports::Identity};

use crate::support::*;

const EMAIL: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";

#[tokio::test]
async fn an_account_is_made_found_changed_deleted_and_brought_back() {
    let world = World::new().await;
    let made = world.account("my-app-sa").await;
    assert_eq!(made.email, EMAIL);
    assert_eq!(made.name, format!("projects/demo-project/serviceAccounts/{EMAIL}"));
    assert!(made.unique_id.len() == 21 && made.unique_id.starts_with('1'));

    for name in [
        made.name.clone(),
        format!("projects/-/serviceAccounts/{EMAIL}"),
        format!("projects/-/serviceAccounts/{}", made.unique_id),
        format!("projects/{NUMBER}/serviceAccounts/{}", EMAIL.to_uppercase()),
    ] {
        let found = world.call(world.owner(), GET_SERVICE_ACCOUNT, GetServiceAccountRequest { name }).await;
        assert_eq!(found.unwrap().unique_id, made.unique_id);
    }

    let request = PatchServiceAccountRequest {
        service_account: Some(ServiceAccount {
            name: made.name.clone(),
            display_name: "My App".into(),
            description: "not in the mask".into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".into()] }),
    };
    let patched = world.call(world.owner(), PATCH_SERVICE_ACCOUNT, request).await.unwrap();
    assert_eq!((patched.display_name.as_str(), patched.description.as_str()), ("My App", ""));

    let request = DeleteServiceAccountRequest { name: made.name.clone() };
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, request).await.unwrap();
    let request = GetServiceAccountRequest { name: made.name.clone() };
    let gone = world.call(world.owner(), GET_SERVICE_ACCOUNT, request).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert!(!world.iam.exists(EMAIL));

    let name = format!("projects/-/serviceAccounts/{}", made.unique_id);
    let request = UndeleteServiceAccountRequest { name };
    let back = world.call(world.owner(), UNDELETE_SERVICE_ACCOUNT, request).await.unwrap();
    assert_eq!(back.restored_account.unwrap(), patched);
    assert!(world.reopened().await.exists(EMAIL), "and a restart remembers it");
}

#[tokio::test]
async fn after_thirty_days_a_deleted_account_is_gone_for_good() {
    let world = World::new().await;
    let made = world.account("my-app-sa").await;
    let delete = DeleteServiceAccountRequest { name: made.name.clone() };
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, delete).await.unwrap();
    let undelete =
        UndeleteServiceAccountRequest { name: format!("projects/-/serviceAccounts/{}", made.unique_id) };
    world.clock.advance(std::time::Duration::from_secs(30 * 24 * 3600));
    world.iam.sweep().await.unwrap();
    let gone = world.call(world.owner(), UNDELETE_SERVICE_ACCOUNT, undelete).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn ids_that_are_none_or_taken_are_refused_in_googles_words() {
    let world = World::new().await;
    world.account("my-app-sa").await;
    let create = |id: &str| CreateServiceAccountRequest {
        name: "projects/demo-project".into(),
        account_id: id.into(),
        service_account: None,
    };
    let taken = world.call(world.owner(), CREATE_SERVICE_ACCOUNT, create("my-app-sa")).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert_eq!(
        taken.message(),
        "Service account my-app-sa already exists within project projects/demo-project."
    );
    assert!(matches!(&taken.details()[0], Detail::Resource(_, name, ..) if name.ends_with(EMAIL)));
    let short = world.call(world.owner(), CREATE_SERVICE_ACCOUNT, create("solv")).await.unwrap_err();
    assert_eq!(short.message(), "The account ID \"solv\" does not have a length between 6 and 30.");
}

#[tokio::test]
async fn a_project_has_its_default_account_and_lists_it() {
    let world = World::new().await;
    let default = format!("{NUMBER}-compute@developer.gserviceaccount.com");
    assert!(world.iam.exists(&default));
    for id in ["account-one", "account-two"] {
        world.account(id).await;
    }
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListServiceAccountsRequest { name: "projects/demo-project".into(), page_size: 2, page_token };
        let page = world.call(world.owner(), LIST_SERVICE_ACCOUNTS, request).await.unwrap();
        found.extend(page.accounts.into_iter().map(|account| account.email));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], default);

    let name = format!("projects/demo-project/serviceAccounts/{default}");
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT, DeleteServiceAccountRequest { name }).await.unwrap();
    assert!(!world.iam.exists(&default), "deleted, it is not made again");
    assert!(world.iam.access_token(&default, &[]).await.is_err());
}

#[tokio::test]
async fn the_private_half_of_a_key_is_shown_once() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let request = CreateServiceAccountKeyRequest { name: account.name.clone(), ..Default::default() };
    let made = world.call(world.owner(), CREATE_SERVICE_ACCOUNT_KEY, request).await.unwrap();
    let file: serde_json::Value = serde_json::from_slice(&made.private_key_data).unwrap();
    assert_eq!(file["type"], "service_account");
    assert_eq!(file["client_email"], EMAIL);
    assert!(file["private_key"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----\nMII"));

    let request = ListServiceAccountKeysRequest {
        name: account.name.clone(),
        key_types: vec![KeyType::UserManaged as i32],
    };
    let listed = world.call(world.owner(), LIST_SERVICE_ACCOUNT_KEYS, request).await.unwrap().keys;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, made.name);
    assert!(listed[0].private_key_data.is_empty());
    assert_eq!(listed[0].valid_before_time.as_ref().unwrap().to_string(), "9999-12-31T23:59:59Z");

    let all = ListServiceAccountKeysRequest { name: account.name.clone(), key_types: Vec::new() };
    for _ in 0..2 {
        let all = world.call(world.owner(), LIST_SERVICE_ACCOUNT_KEYS, all.clone()).await.unwrap().keys;
        let ours: Vec<_> = all.iter().filter(|key| key.key_type() == KeyType::SystemManaged).collect();
        assert!(all.len() == 2 && ours.len() == 1, "every account has a key that nobody made: {all:?}");
        assert!(
            ours[0].valid_before_time.as_ref().unwrap().seconds
                < listed[0].valid_before_time.as_ref().unwrap().seconds
        );
    }

    let request = DeleteServiceAccountKeyRequest { name: made.name.clone() };
    world.call(world.owner(), DELETE_SERVICE_ACCOUNT_KEY, request.clone()).await.unwrap();
    let again = world.call(world.owner(), DELETE_SERVICE_ACCOUNT_KEY, request).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn predefined_roles_can_be_looked_at_page_by_page() {
    let world = World::new().await;
    let get = |name: &str| GetRoleRequest { name: name.into() };
    let role = world.call(world.owner(), GET_ROLE, get("roles/run.invoker")).await.unwrap();
    assert_eq!(role.title, "Cloud Run Invoker");
    assert!(role.included_permissions.contains(&"run.routes.invoke".to_owned()));
    let missing = world.call(world.owner(), GET_ROLE, get("roles/none")).await.unwrap_err();
    assert_eq!(missing.message(), "The role named roles/none was not found.");

    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRolesRequest { page_size: 40, page_token, ..Default::default() };
        let page = world.call(world.owner(), LIST_ROLES, request).await.unwrap();
        names.extend(page.roles.into_iter().map(|role| role.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), ::iam::Role::all().len());
    let request = QueryGrantableRolesRequest {
        full_resource_name: "//secretmanager.googleapis.com/projects/demo-project/secrets/s".into(),
        ..Default::default()
    };
    let roles = world.call(world.owner(), QUERY_GRANTABLE_ROLES, request).await.unwrap().roles;
    assert!(roles.iter().any(|role| role.name == "roles/secretmanager.secretAccessor"));
    assert!(!roles.iter().any(|role| role.name == "roles/run.admin"));
}

#[tokio::test]
async fn a_key_made_elsewhere_is_uploaded_and_signs() {
    use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use kernel::ports::Authenticator;
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2027, 6, 1);
    let certificate = parameters.self_signed(&pair).unwrap().pem();
    let upload = async |pem: String| {
        let request =
            UploadServiceAccountKeyRequest { name: account.name.clone(), public_key_data: pem.into() };
        world.call(world.owner(), UPLOAD_SERVICE_ACCOUNT_KEY, request).await
    };
    let key = upload(certificate.clone()).await.unwrap();
    assert_eq!(key.key_origin(), ServiceAccountKeyOrigin::UserProvided);
    assert_eq!(key.key_type(), list_service_account_keys_request::KeyType::UserManaged);
    assert_eq!(key.valid_before_time.unwrap().seconds, 1_811_808_000, "as the certificate says");
    assert!(key.private_key_data.is_empty(), "it was never here");
    assert_eq!(upload(certificate).await.unwrap_err().code(), Code::AlreadyExists);
    for wrong in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
        assert_eq!(upload(wrong.into()).await.unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    parameters.not_after = rcgen::date_time_ymd(2026, 6, 1);
    let over = parameters.self_signed(&pair).unwrap().pem();
    assert!(upload(over).await.unwrap_err().message().contains("expired"));

    let id = key.name.rsplit('/').next().unwrap();
    let signer = KeyPair::from_pkcs8(&pair.serialize_der()).unwrap();
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let token = format!(
        "{}.{}",
        part(format!("{{\"alg\":\"RS256\",\"kid\":\"{id}\"}}")),
        part(format!(
            "{{\"iss\":\"{0}\",\"sub\":\"{0}\",\"scope\":\"https://www.googleapis.com/auth/cloud-platform\",\"iat\":{NOW},\"exp\":{1}}}",
            account.email,
            NOW + 3600
        ))
    );
    let mut signature = vec![0; signer.public_modulus_len()];
    signer.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature).unwrap();
    let token = format!("{token}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_eq!(world.iam.authenticate(&token).unwrap(), machine(&account.email));
    let disable = DisableServiceAccountKeyRequest { name: key.name.clone() };
    world.call(world.owner(), DISABLE_SERVICE_ACCOUNT_KEY, disable).await.unwrap();
    assert!(world.iam.authenticate(&token).is_err(), "a disabled key opens nothing");
    let enable = EnableServiceAccountKeyRequest { name: key.name };
    world.call(world.owner(), ENABLE_SERVICE_ACCOUNT_KEY, enable).await.unwrap();
    assert!(world.iam.authenticate(&token).is_ok());
}
