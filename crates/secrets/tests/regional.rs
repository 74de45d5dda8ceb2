//! Regional secrets, and the names of customers' keys.

use apis::google::cloud::{
    location::{GetLocationRequest, locations},
    secretmanager::v1::{self as proto, secret_manager_service as rpc},
};
use kernel::Code;

use crate::world::*;

const REGION: &str = "projects/haar-test/locations/europe-west1";
/// The host of that region.
const HOST: &str = "secretmanager.europe-west1.rep.googleapis.com";

fn key(location: &str) -> proto::CustomerManagedEncryption {
    let kms_key_name = format!("projects/haar-test/locations/{location}/keyRings/r/cryptoKeys/k");
    proto::CustomerManagedEncryption { kms_key_name }
}

async fn create(world: &World, parent: &str, secret: proto::Secret) -> kernel::Result<proto::Secret> {
    let request =
        proto::CreateSecretRequest { parent: parent.into(), secret_id: "s".into(), secret: Some(secret) };
    world.call_at(host_of(parent), rpc::CREATE_SECRET, request).await
}

fn host_of(name: &str) -> &'static str {
    if name.contains("/locations/") { HOST } else { "secretmanager.googleapis.com" }
}

async fn add(world: &World, parent: &str) -> proto::SecretVersion {
    let payload = proto::SecretPayload { data: (&b"tide"[..]).into(), data_crc32c: None };
    let request = proto::AddSecretVersionRequest { parent: parent.into(), payload: Some(payload) };
    world.call_at(host_of(parent), rpc::ADD_SECRET_VERSION, request).await.unwrap()
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
    let payload = world.call_at(HOST, rpc::ACCESS_SECRET_VERSION, access).await.unwrap().payload.unwrap();
    assert_eq!(&payload.data[..], b"tide");
    let global = proto::AccessSecretVersionRequest { name: format!("{P}/secrets/s/versions/latest") };
    assert_eq!(refusal(world.call(rpc::ACCESS_SECRET_VERSION, global).await).0, Code::NotFound);
    for (parent, found) in
        [(REGION, 1), ("projects/haar-test", 1), ("projects/haar-test/locations/us-east1", 0)]
    {
        let request = proto::ListSecretsRequest { parent: parent.into(), ..Default::default() };
        assert_eq!(
            world.call_at(HOST, rpc::LIST_SECRETS, request).await.unwrap().secrets.len(),
            found,
            "{parent}"
        );
    }
    let world = world.reopen().await.unwrap();
    let delete = proto::DeleteSecretRequest { name: format!("{REGION}/secrets/s"), etag: String::new() };
    world.call_at(HOST, rpc::DELETE_SECRET, delete.clone()).await.unwrap();
    assert_eq!(refusal(world.call_at(HOST, rpc::DELETE_SECRET, delete).await).0, Code::NotFound);
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

#[tokio::test]
async fn keys_are_set_by_the_field_that_holds_them() {
    let world = World::new().await;
    let in_region =
        proto::Secret { customer_managed_encryption: Some(key("europe-west1")), ..Default::default() };
    let global = create(&world, P, with_key("global")).await.unwrap();
    let regional = create(&world, REGION, in_region.clone()).await.unwrap();
    let update = async |name: &str, mask: &str, secret: proto::Secret| {
        let secret = Some(proto::Secret { name: name.into(), ..secret });
        let update_mask = Some(prost_types::FieldMask { paths: vec![mask.into()] });
        let request = proto::UpdateSecretRequest { secret, update_mask };
        world.call_at(host_of(name), rpc::UPDATE_SECRET, request).await
    };
    let in_all = proto::Secret { customer_managed_encryption: Some(key("global")), ..Default::default() };
    for (name, mask, secret, says) in [
        (&global.name, "customer_managed_encryption", in_all, "cannot be updated"),
        (&global.name, "replication", proto::Secret::default(), "must be provided"),
        (&regional.name, "replication", with_key("europe-west1"), "cannot be updated"),
    ] {
        let (code, why) = refusal(update(name, mask, secret).await);
        assert!(code == Code::InvalidArgument && why.contains(says), "{name} {mask}: {why}");
    }
    let replaced = update(&regional.name, "customer_managed_encryption", with_key("europe-west1")).await;
    assert_eq!(replaced.unwrap().customer_managed_encryption, None, "replication is not where its key is");
    let again = update(&regional.name, "customer_managed_encryption", in_region).await.unwrap();
    assert_eq!(again.customer_managed_encryption, Some(key("europe-west1")));
}

#[tokio::test]
async fn regions_are_googles_and_have_hosts_of_their_own() {
    let world = World::new().await;
    for nowhere in ["atlantis-west1", "europe-west1-b", "global", "eu"] {
        let parent = format!("projects/haar-test/locations/{nowhere}");
        let made = create(&world, &parent, proto::Secret::default()).await;
        assert_eq!(refusal(made).0, Code::InvalidArgument, "{nowhere}");
        let replica =
            proto::replication::user_managed::Replica { location: nowhere.into(), ..Default::default() };
        let managed = proto::replication::UserManaged { replicas: vec![replica] };
        let replication = Some(proto::replication::Replication::UserManaged(managed));
        let secret =
            proto::Secret { replication: Some(proto::Replication { replication }), ..Default::default() };
        assert_eq!(refusal(create(&world, P, secret).await).0, Code::InvalidArgument, "{nowhere}");
    }
    create(&world, REGION, proto::Secret::default()).await.unwrap();
    let access = proto::AccessSecretVersionRequest { name: format!("{REGION}/secrets/s/versions/latest") };
    let said = "The provided Secret ID [projects/haar-test/locations/europe-west1/secrets/s/versions/latest] does not \
                match the expected format [projects/*/secrets/*/versions/*]";
    let at_all = world.call(rpc::ACCESS_SECRET_VERSION, access).await;
    assert_eq!(refusal(at_all), (Code::InvalidArgument, said.to_owned()));
    let get = proto::GetSecretRequest { name: format!("{REGION}/secrets/s") };
    world.call_at("localhost", rpc::GET_SECRET, get).await.unwrap();
}

#[tokio::test]
async fn locations_are_told_at_every_address_of_secret_manager() {
    let world = World::new().await;
    let get = GetLocationRequest { name: REGION.into() };
    for host in
        ["secretmanager.googleapis.com", HOST, "europe-west1-secretmanager.googleapis.com", "localhost"]
    {
        let found = world.call_at(host, locations::GET_LOCATION, get.clone()).await.unwrap();
        assert_eq!(found.location_id, "europe-west1", "{host}");
    }
    let other = world.call_at("run.googleapis.com", locations::GET_LOCATION, get).await;
    assert_eq!(refusal(other).0, Code::Unimplemented);
}
