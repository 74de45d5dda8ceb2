//! Regional secrets, and the names of customers' keys.

use apis::google::cloud::secretmanager::v1::{self as proto, secret_manager_service as rpc};
use kernel::Code;

use crate::world::*;

const REGION: &str = "projects/haar-test/locations/europe-west1";

fn key(location: &str) -> proto::CustomerManagedEncryption {
    let kms_key_name = format!("projects/haar-test/locations/{location}/keyRings/r/cryptoKeys/k");
    proto::CustomerManagedEncryption { kms_key_name }
}

async fn create(world: &World, parent: &str, secret: proto::Secret) -> kernel::Result<proto::Secret> {
    let request =
        proto::CreateSecretRequest { parent: parent.into(), secret_id: "s".into(), secret: Some(secret) };
    world.call(rpc::CREATE_SECRET, request).await
}

async fn add(world: &World, parent: &str) -> proto::SecretVersion {
    let payload = proto::SecretPayload { data: (&b"tide"[..]).into(), data_crc32c: None };
    let request = proto::AddSecretVersionRequest { parent: parent.into(), payload: Some(payload) };
    world.call(rpc::ADD_SECRET_VERSION, request).await.unwrap()
}

fn with_key(location: &str) -> proto::Secret {
    let customer_managed_encryption = Some(key(location));
    let automatic = proto::replication::Automatic { customer_managed_encryption };
    let replication = proto::replication::Replication::Automatic(automatic);
    let replication = Some(proto::Replication { replication: Some(replication) });
    proto::Secret { replication, ..Default::default() }
}

#[tokio::test]
async fn a_regional_secret_lives_in_its_region() {
    let world = World::new().await;
    assert_eq!(refusal(create(&world, REGION, automatic()).await).0, Code::InvalidArgument);
    let made = create(&world, REGION, proto::Secret::default()).await.unwrap();
    assert_eq!(made.name, format!("projects/{NUMBER}/locations/europe-west1/secrets/s"));
    assert!(made.replication.is_none());
    world.create("s").await;
    let version = add(&world, &format!("{REGION}/secrets/s")).await;
    assert_eq!(version.name, format!("{}/versions/1", made.name));
    assert!(version.replication_status.is_none());
    let access = proto::AccessSecretVersionRequest { name: format!("{REGION}/secrets/s/versions/latest") };
    let payload = world.call(rpc::ACCESS_SECRET_VERSION, access).await.unwrap().payload.unwrap();
    assert_eq!(&payload.data[..], b"tide");
    let global = proto::AccessSecretVersionRequest { name: format!("{P}/secrets/s/versions/latest") };
    assert_eq!(refusal(world.call(rpc::ACCESS_SECRET_VERSION, global).await).0, Code::NotFound);
    for (parent, found) in
        [(REGION, 1), ("projects/haar-test", 1), ("projects/haar-test/locations/us-east1", 0)]
    {
        let request = proto::ListSecretsRequest { parent: parent.into(), ..Default::default() };
        assert_eq!(world.call(rpc::LIST_SECRETS, request).await.unwrap().secrets.len(), found, "{parent}");
    }
    let world = world.reopen().await.unwrap();
    let delete = proto::DeleteSecretRequest { name: format!("{REGION}/secrets/s"), etag: String::new() };
    world.call(rpc::DELETE_SECRET, delete.clone()).await.unwrap();
    assert_eq!(refusal(world.call(rpc::DELETE_SECRET, delete).await).0, Code::NotFound);
    assert_eq!(world.list(0, "", "").await.unwrap().total_size, 1, "its namesake is still there");
}

#[tokio::test]
async fn the_names_of_keys_are_kept_and_checked() {
    let world = World::new().await;
    for location in ["us-east1", "Global"] {
        assert_eq!(
            refusal(create(&world, P, with_key(location)).await).0,
            Code::InvalidArgument,
            "{location}"
        );
    }
    let made = create(&world, P, with_key("global")).await.unwrap();
    assert_eq!(made.replication, with_key("global").replication);
    let version = add(&world, &made.name).await;
    let status = version.replication_status.unwrap().replication_status.unwrap();
    let proto::replication_status::ReplicationStatus::Automatic(status) = status else {
        panic!("{status:?}")
    };
    let shown = status.customer_managed_encryption.unwrap().kms_key_version_name;
    assert_eq!(shown, format!("{}/cryptoKeyVersions/1", key("global").kms_key_name));

    let update = |secret: proto::Secret| {
        let update_mask = Some(prost_types::FieldMask { paths: vec!["replication".into()] });
        let request = proto::UpdateSecretRequest { secret: Some(secret), update_mask };
        world.call(rpc::UPDATE_SECRET, request)
    };
    let without = update(proto::Secret { name: made.name.clone(), ..automatic() }).await.unwrap();
    assert_eq!(without.replication, automatic().replication);

    let regional =
        |location| proto::Secret { customer_managed_encryption: Some(key(location)), ..Default::default() };
    assert_eq!(refusal(create(&world, REGION, regional("global")).await).0, Code::InvalidArgument);
    let made = create(&world, REGION, regional("europe-west1")).await.unwrap();
    assert_eq!(made.customer_managed_encryption, Some(key("europe-west1")));
}
