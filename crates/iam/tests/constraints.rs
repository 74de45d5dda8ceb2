use std::sync::Arc;

use apis::google::iam::{
    admin::v1::UploadServiceAccountKeyRequest,
    credentials::v1::{GenerateAccessTokenRequest, iam_credentials::GENERATE_ACCESS_TOKEN},
};
use kernel::{Code, Principal, Resource, names::ORGANIZATION, ports::Constraints};

use crate::{
    policies::{binding, set},
    support::{iam::UPLOAD_SERVICE_ACCOUNT_KEY, *},
};

const APP: &str = "my-app-sa@demo-project.iam.gserviceaccount.com";
const TWELVE_HOURS: i64 = 12 * 3600;

/// What organization policies say: which are enforced, and what a list allows.
struct Set {
    enforced: &'static [&'static str],
    allowed: &'static [(&'static str, &'static str)],
}

impl Constraints for Set {
    fn enforces(&self, constraint: &str, _: &Resource) -> bool {
        self.enforced.contains(&constraint)
    }

    fn allows(&self, constraint: &str, _: &Resource, names: &[&str]) -> bool {
        let mut listed = self.allowed.iter().filter(|(known, _)| *known == constraint);
        listed.any(|(_, value)| names.contains(value))
    }
}

#[tokio::test]
async fn keys_from_elsewhere_are_refused_where_that_is_enforced() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    world.iam.obey(Arc::new(Set { enforced: &["iam.disableServiceAccountKeyUpload"], allowed: &[] }));
    let request = UploadServiceAccountKeyRequest { name: account.name, public_key_data: "no key".into() };
    let refused = world.call(world.owner(), UPLOAD_SERVICE_ACCOUNT_KEY, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.message(),
        format!(
            "Constraint `constraints/iam.disableServiceAccountKeyUpload` violated for service account \
             projects/demo-project/serviceAccounts/{APP} attempting to upload public key."
        )
    );
}

#[tokio::test]
async fn tokens_live_long_where_the_account_is_listed() {
    for (allowed, is_long) in [
        (&[("iam.allowServiceAccountCredentialLifetimeExtension", APP)][..], true),
        (&[("iam.allowServiceAccountCredentialLifetimeExtension", "other@x.com")], false),
        (&[], false),
    ] {
        let world = World::new().await;
        let account = world.account("my-app-sa").await;
        let resource = Resource::new("iam.googleapis.com", account.name.clone());
        let creators = vec![binding("roles/iam.serviceAccountTokenCreator", &["user:bob@example.com"])];
        set(&world, &resource, creators).await.unwrap();
        world.iam.obey(Arc::new(Set { enforced: &[], allowed }));
        let request = |seconds| GenerateAccessTokenRequest {
            name: format!("projects/-/serviceAccounts/{APP}"),
            delegates: Vec::new(),
            scope: vec!["https://www.googleapis.com/auth/cloud-platform".into()],
            lifetime: Some(prost_types::Duration { seconds, nanos: 0 }),
        };
        let bob = || world.caller(user("bob@example.com"));
        assert_eq!(
            world.call(bob(), GENERATE_ACCESS_TOKEN, request(TWELVE_HOURS)).await.is_ok(),
            is_long,
            "{allowed:?}"
        );
        assert!(world.call(bob(), GENERATE_ACCESS_TOKEN, request(TWELVE_HOURS + 1)).await.is_err());
        assert!(world.call(bob(), GENERATE_ACCESS_TOKEN, request(3600)).await.is_ok());
    }
}

#[tokio::test]
async fn members_are_of_the_organization_by_its_set_or_its_customer() {
    let set_of_all = "principalSet://iam.googleapis.com/organizations/440056207318";
    for value in [set_of_all, "C0haar000", "C0other00"] {
        let world = World::new().await;
        world.account("my-app-sa").await;
        let allowed: &'static [(&str, &str)] = match value {
            "C0haar000" => &[("iam.allowedPolicyMemberDomains", "C0haar000")],
            "C0other00" => &[("iam.allowedPolicyMemberDomains", "C0other00")],
            _ => &[(
                "iam.allowedPolicyMemberDomains",
                "principalSet://iam.googleapis.com/organizations/440056207318",
            )],
        };
        world.iam.obey(Arc::new(Set { enforced: &[], allowed }));
        let pool = "iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/p";
        for (member, is_ours) in [
            ("user:ada@haar.localhost".to_owned(), true),
            (format!("serviceAccount:{APP}"), true),
            (format!("principalSet://{pool}/*"), true),
            (format!("principal://{}/subject/s", pool.replace("123456789012", "999999999999")), false),
            ("user:eve@example.com".to_owned(), false),
            ("allUsers".to_owned(), false),
        ] {
            let viewers = vec![binding("roles/secretmanager.viewer", &[&member])];
            let is_taken = set(&world, &secret(), viewers).await.is_ok();
            assert_eq!(is_taken, is_ours && value != "C0other00", "{member} where {value} is allowed");
        }
    }
}

#[tokio::test]
async fn a_role_on_a_folder_or_the_organization_holds_below() {
    let world = World::in_a_folder().await;
    let (ada, bob) = (user("ada@example.com"), user("bob@example.com"));
    let folder = Resource::new(kernel::names::RESOURCE_MANAGER, "folders/5");
    let organization = Resource::new(kernel::names::RESOURCE_MANAGER, ORGANIZATION);
    let viewer = "roles/secretmanager.viewer";
    set(&world, &folder, vec![binding(viewer, &["user:ada@example.com"])]).await.unwrap();
    set(&world, &organization, vec![binding(viewer, &["user:bob@example.com"])]).await.unwrap();
    let sees =
        |who: &Principal, resource: &Resource| world.allows(who, "secretmanager.secrets.get", resource);
    let other = Resource::new("secretmanager.googleapis.com", "projects/other-project/secrets/s");
    assert!(sees(&ada, &secret()) && sees(&bob, &secret()));
    assert!(!sees(&ada, &other) && !sees(&bob, &other), "that project is in no folder");
    let refused = world.allows(&ada, "secretmanager.versions.access", &secret());
    assert!(!refused, "a role is not more above than below");

    let explained = world.iam.explain(&::iam::Question {
        principal: ada.clone(),
        permission: "secretmanager.secrets.get".into(),
        service: secret().service.into(),
        name: secret().name,
        time: world.clock.now(),
        destination: None,
        resource: None,
    });
    let levels: Vec<&str> = explained.levels.iter().map(|level| level.resource.as_str()).collect();
    assert_eq!(levels[2..], [folder.full_name(), organization.full_name()]);
    set(&world, &folder, Vec::new()).await.unwrap();
    assert!(!sees(&ada, &secret()) && sees(&bob, &secret()), "with the next call");
}
