use std::time::Duration;

use apis::google::discovery::iam::v1::{
    self as proto, Oidc, WorkloadIdentityPool, WorkloadIdentityPoolProvider,
    projects_locations_workload_identity_pools as pools,
    projects_locations_workload_identity_pools_providers as providers,
};
use kernel::{Code, ports::Policies, store::Txn};

use crate::{
    policies::{binding, set},
    support::{
        iam::{DELETE_SERVICE_ACCOUNT, UNDELETE_SERVICE_ACCOUNT},
        *,
    },
};
use apis::google::iam::admin::v1::{DeleteServiceAccountRequest, UndeleteServiceAccountRequest};

const LOCATION: &str = "projects/demo-project/locations/global";

fn pool(id: &str) -> String {
    format!("{LOCATION}/workloadIdentityPools/{id}")
}

async fn create_pool(world: &World, id: &str) {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsCreateRequest {
        parent: LOCATION.into(),
        workload_identity_pool_id: Some(id.into()),
        body: Some(WorkloadIdentityPool::default()),
    };
    world.call(world.owner(), pools::CREATE, request).await.unwrap();
}

async fn delete_pool(world: &World, id: &str) {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsDeleteRequest { name: pool(id) };
    world.call(world.owner(), pools::DELETE, request).await.unwrap();
}

fn creation(
    pool_id: &str,
    id: String,
) -> proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
    let issuer_uri = Some("https://token.actions.githubusercontent.com".into());
    let body = WorkloadIdentityPoolProvider {
        attribute_mapping: [("google.subject".into(), "assertion.sub".into())].into(),
        attribute_condition: Some("assertion.repository == 'haar/app'".into()),
        oidc: Some(Oidc { issuer_uri, ..Oidc::default() }),
        ..WorkloadIdentityPoolProvider::default()
    };
    proto::ProjectsLocationsWorkloadIdentityPoolsProvidersCreateRequest {
        parent: pool(pool_id),
        workload_identity_pool_provider_id: Some(id),
        body: Some(body),
    }
}

/// Makes many providers together, so that they are written in a few groups.
async fn create_providers(world: &World, pool_id: &str, count: usize) {
    let method = world.iam.methods().into_iter().find(|method| method.id == providers::CREATE.id()).unwrap();
    let mut making = tokio::task::JoinSet::new();
    for n in 0..count {
        let request = prost::Message::encode_to_vec(&creation(pool_id, format!("prov{n}")));
        let answer = (method.handler)(world.owner(), request.into());
        making.spawn(async move { drop(answer.await.unwrap()) });
    }
    making.join_all().await;
}

async fn providers_of(world: &World, pool_id: &str) -> usize {
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersListRequest {
        parent: pool(pool_id),
        page_size: Some(1000),
        ..Default::default()
    };
    let listed = world.call(world.owner(), providers::LIST, request).await.unwrap();
    listed.workload_identity_pool_providers.len()
}

#[tokio::test]
async fn a_pool_that_is_made_anew_has_no_provider_of_the_old_one_however_many_there_were() {
    let world = World::new().await;
    create_pool(&world, "github").await;
    create_providers(&world, "github", 130).await;
    delete_pool(&world, "github").await;
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    create_pool(&world, "github").await;
    assert_eq!(providers_of(&world, "github").await, 0);
    world.call(world.owner(), providers::CREATE, creation("github", "prov7".into())).await.unwrap();
}

#[tokio::test]
async fn pools_and_providers_that_cannot_come_back_are_swept() {
    let world = World::new().await;
    create_pool(&world, "gone").await;
    create_providers(&world, "gone", 70).await;
    create_pool(&world, "kept").await;
    create_providers(&world, "kept", 2).await;
    delete_pool(&world, "gone").await;
    let name = format!("{}/providers/prov0", pool("kept"));
    let request = proto::ProjectsLocationsWorkloadIdentityPoolsProvidersDeleteRequest { name };
    world.call(world.owner(), providers::DELETE, request).await.unwrap();
    world.iam.sweep().await.unwrap();
    assert_eq!(world.stored("iam/providers/").await, 72, "they can still come back");
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    world.iam.sweep().await.unwrap();
    assert_eq!((world.stored("iam/pools/").await, world.stored("iam/providers/").await), (1, 1));
    assert_eq!(providers_of(&world, "kept").await, 1);
}

/// Each step reads what the one before wrote under another prefix of the store.
#[tokio::test]
async fn a_deleted_account_can_be_brought_back_at_once() {
    let world = World::new().await;
    let account = world.account("my-app-sa").await;
    for _ in 0..50 {
        let request = DeleteServiceAccountRequest { name: account.name.clone() };
        world.call(world.owner(), DELETE_SERVICE_ACCOUNT, request).await.unwrap();
        let name = format!("projects/-/serviceAccounts/{}", account.unique_id);
        let undelete = UndeleteServiceAccountRequest { name };
        world.call(world.owner(), UNDELETE_SERVICE_ACCOUNT, undelete.clone()).await.unwrap();
        let again = world.call(world.owner(), UNDELETE_SERVICE_ACCOUNT, undelete).await.unwrap_err();
        assert_eq!(again.code(), Code::NotFound, "what was set aside is gone too");
    }
}

/// A secret and its policy are deleted by whoever keeps secrets, in a transaction of its own.
#[tokio::test]
async fn a_policy_that_another_deleted_is_out_of_every_decision() {
    let world = World::new().await;
    let ada = user("ada@example.com");
    let viewer = || vec![binding("roles/secretmanager.viewer", &["user:ada@example.com"])];
    for _ in 0..50 {
        set(&world, &secret(), viewer()).await.unwrap();
        assert!(world.allows(&ada, "secretmanager.secrets.get", &secret()));
        world.write(Txn::new().delete(world.iam.key(&secret()))).await;
        world.iam.catch_up().await.unwrap();
        assert!(!world.allows(&ada, "secretmanager.secrets.get", &secret()));
    }
}
