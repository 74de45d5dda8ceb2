//! Creating, changing, listing and deleting secrets.

use apis::google::{
    cloud::secretmanager::v1::{self as proto, secret_manager_service as rpc},
    iam::v1::{Binding, GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest},
};
use kernel::Code;
use prost_types::{Duration, Timestamp};

use crate::world::*;

fn text(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn topics() -> Vec<proto::Topic> {
    vec![proto::Topic { name: format!("{P}/topics/rotated") }]
}

#[tokio::test]
async fn a_secret_is_created_and_shown_with_the_projects_number() {
    let world = World::new().await;
    let labels = text(&[("env", "prod")]);
    let made =
        world.create_with("db", proto::Secret { labels: labels.clone(), ..automatic() }).await.unwrap();
    assert_eq!((&made.name, &made.labels), (&shown("db"), &labels));
    assert_eq!(made.create_time, Some(Timestamp { seconds: START as i64, nanos: 0 }));
    assert_eq!(made.replication, automatic().replication);
    assert!(made.etag.starts_with('"') && made.etag.ends_with('"'), "{}", made.etag);

    assert_eq!(world.get("db").await.unwrap(), made);
    let by_number = proto::GetSecretRequest { name: shown("db") };
    assert_eq!(world.call(rpc::GET_SECRET, by_number).await.unwrap(), made);
}

#[tokio::test]
async fn what_google_refuses_to_create_is_refused() {
    let world = World::new().await;
    world.create("taken").await;
    let user_managed = |locations: &[&str]| {
        let replica = |location: &&str| proto::replication::user_managed::Replica {
            location: location.to_string(),
            customer_managed_encryption: None,
        };
        let replicas = locations.iter().map(replica).collect();
        let managed =
            proto::replication::Replication::UserManaged(proto::replication::UserManaged { replicas });
        let replication = Some(proto::Replication { replication: Some(managed) });
        proto::Secret { replication, ..Default::default() }
    };
    let key = proto::CustomerManagedEncryption { kms_key_name: "k".into() };
    let aliased = [("prod".to_owned(), 1)].into();
    for (id, secret, code, says) in [
        ("a b!", automatic(), Code::InvalidArgument, "not in a valid format"),
        ("", automatic(), Code::InvalidArgument, "not in a valid format"),
        (&*"x".repeat(256), automatic(), Code::InvalidArgument, "not in a valid format"),
        ("new", proto::Secret::default(), Code::InvalidArgument, "Secret.replication must be provided."),
        ("new", user_managed(&[]), Code::InvalidArgument, "replicas must be provided"),
        ("new", user_managed(&["us-east1", "us-east1"]), Code::InvalidArgument, "distinct"),
        ("new", user_managed(&["US East"]), Code::InvalidArgument, "US East"),
        ("new", proto::Secret { labels: text(&[("Env", "x")]), ..automatic() }, Code::InvalidArgument, "Env"),
        (
            "new",
            proto::Secret { version_aliases: aliased, ..automatic() },
            Code::InvalidArgument,
            "does not exist",
        ),
        (
            "new",
            proto::Secret { customer_managed_encryption: Some(key), ..automatic() },
            Code::InvalidArgument,
            "for regional secrets",
        ),
        (
            "new",
            proto::Secret { tags: text(&[("1/env", "x")]), ..automatic() },
            Code::Unimplemented,
            "not served",
        ),
        ("taken", automatic(), Code::AlreadyExists, &*format!("Secret [{}] already exists.", shown("taken"))),
    ] {
        let (refused, message) = refusal(world.create_with(id, secret).await);
        assert_eq!(refused, code, "{id}: {message}");
        assert!(message.contains(says), "{id}: {message}");
    }
    let nothing = proto::CreateSecretRequest { parent: P.into(), secret_id: "new".into(), secret: None };
    let (code, message) = refusal(world.call(rpc::CREATE_SECRET, nothing).await);
    assert_eq!((code, &*message), (Code::InvalidArgument, "Secret must be provided."));
    assert_eq!(world.list(0, "", "").await.unwrap().total_size, 1, "nothing of it was kept");
}

#[tokio::test]
async fn replication_is_kept_and_cannot_change() {
    let world = World::new().await;
    let replica = |location: &str| proto::replication::user_managed::Replica {
        location: location.into(),
        customer_managed_encryption: None,
    };
    let replicas = vec![replica("us-east1"), replica("europe-west1")];
    let managed = proto::replication::Replication::UserManaged(proto::replication::UserManaged { replicas });
    let replication = Some(proto::Replication { replication: Some(managed) });
    let made = world
        .create_with("s", proto::Secret { replication: replication.clone(), ..Default::default() })
        .await;
    assert_eq!(made.unwrap().replication, replication);
    let (code, message) = refusal(world.update("s", &["replication"], automatic()).await);
    assert_eq!((code, &*message), (Code::InvalidArgument, "Field [replication] cannot be updated."));
    let status = world.add("s", b"x").await.replication_status.unwrap().replication_status.unwrap();
    let proto::replication_status::ReplicationStatus::UserManaged(status) = status else {
        panic!("{status:?}")
    };
    assert_eq!(status.replicas[1].location, "europe-west1");
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let world = World::new().await;
    world.create_with("s", proto::Secret { labels: text(&[("env", "dev")]), ..automatic() }).await.unwrap();
    world.add("s", b"one").await;
    let changed = proto::Secret {
        labels: text(&[("env", "prod")]),
        annotations: text(&[("owner", "Ada L.")]),
        version_aliases: [("live".to_owned(), 1)].into(),
        topics: topics(),
        ..Default::default()
    };
    let updated = world.update("s", &["annotations", "version_aliases"], changed.clone()).await.unwrap();
    assert_eq!(updated.labels, text(&[("env", "dev")]));
    assert_eq!(updated.annotations, changed.annotations);
    assert_eq!(updated.version_aliases, changed.version_aliases);
    assert!(updated.topics.is_empty());
    assert_eq!(world.get("s").await.unwrap(), updated, "it was stored, not only answered");

    let updated = world.update("s", &["*"], changed.clone()).await.unwrap();
    assert_eq!((updated.labels, updated.topics), (changed.labels, changed.topics));
    let emptied = world.update("s", &["labels"], proto::Secret::default()).await.unwrap();
    assert!(emptied.labels.is_empty() && !emptied.annotations.is_empty());
}

#[tokio::test]
async fn an_update_without_a_good_mask_or_with_bad_values_is_refused() {
    let world = World::new().await;
    world.create("s").await;
    let aliased = proto::Secret { version_aliases: [("live".to_owned(), 1)].into(), ..Default::default() };
    for (mask, secret, says) in [
        (&[][..], proto::Secret::default(), "Field [update_mask] is required."),
        (&["colour"][..], proto::Secret::default(), "colour"),
        (&["name"][..], proto::Secret::default(), "cannot be updated"),
        (
            &["labels"][..],
            proto::Secret { labels: text(&[("A", "")]), ..Default::default() },
            "Label key [A]",
        ),
        (&["version_aliases"][..], aliased, "does not exist"),
    ] {
        let (code, message) = refusal(world.update("s", mask, secret).await);
        assert_eq!(code, Code::InvalidArgument, "{mask:?}: {message}");
        assert!(message.contains(says), "{mask:?}: {message}");
    }
}

#[tokio::test]
async fn a_stale_etag_stops_an_update_and_a_deletion() {
    let world = World::new().await;
    let first = world.create("s").await.etag;
    let labelled =
        |etag: &str| proto::Secret { etag: etag.into(), labels: text(&[("a", "b")]), ..Default::default() };
    let second = world.update("s", &["labels"], labelled(&first)).await.unwrap().etag;
    assert_ne!(first, second);
    assert_eq!(refusal(world.update("s", &["labels"], labelled(&first)).await).0, Code::FailedPrecondition);
    assert_eq!(refusal(world.delete("s", &first).await).0, Code::FailedPrecondition);
    assert_eq!(world.get("s").await.unwrap().etag, second, "neither left a trace");

    let third = world.update("s", &["labels"], labelled(&second)).await.unwrap().etag;
    assert_ne!(second, third, "a change to the same values is a change");
    world.add("s", b"x").await;
    assert_eq!(world.get("s").await.unwrap().etag, third, "a new version is no change to the secret");
    world.delete("s", &third).await.unwrap();
    assert_eq!(
        refusal(world.get("s").await),
        (Code::NotFound, format!("Secret [{}] not found.", shown("s")))
    );
}

#[tokio::test]
async fn rotation_is_kept_shown_and_taken_away() {
    let world = World::new().await;
    let rotation = proto::Rotation {
        next_rotation_time: Some(Timestamp { seconds: START as i64 + 86_400, nanos: 0 }),
        rotation_period: Some(Duration { seconds: 2_592_000, nanos: 0 }),
        managed_rotation_status: None,
    };
    let rotating = proto::Secret { rotation: Some(rotation.clone()), ..automatic() };
    let (code, message) = refusal(world.create_with("s", rotating.clone()).await);
    assert_eq!(
        (code, &*message),
        (Code::InvalidArgument, "Secret.topics must be set to configure rotation.")
    );

    let made = world.create_with("s", proto::Secret { topics: topics(), ..rotating }).await.unwrap();
    assert_eq!(made.rotation.as_ref(), Some(&rotation));
    assert_eq!(
        refusal(world.update("s", &["topics"], proto::Secret::default()).await).0,
        Code::InvalidArgument
    );
    let mask = ["rotation.next_rotation_time", "rotation.rotation_period"];
    let updated = world.update("s", &mask, proto::Secret::default()).await.unwrap();
    assert_eq!(updated.rotation, None);
}

#[tokio::test]
async fn secrets_are_listed_newest_first_filtered_and_page_by_page() {
    let world = World::new().await;
    for (id, env) in [("b-first", "dev"), ("a-second", "prod"), ("c-third", "prod"), ("d-fourth", "dev")] {
        world.create_with(id, proto::Secret { labels: text(&[("env", env)]), ..automatic() }).await.unwrap();
        world.advance(1);
    }
    let other = proto::CreateSecretRequest {
        parent: "projects/haar-other".into(),
        secret_id: "elsewhere".into(),
        secret: Some(automatic()),
    };
    world.call(rpc::CREATE_SECRET, other).await.unwrap();
    let ids = |page: &proto::ListSecretsResponse| -> Vec<String> {
        page.secrets.iter().map(|secret| secret.name.rsplit('/').next().unwrap().to_owned()).collect()
    };

    let all = world.list(0, "", "").await.unwrap();
    assert_eq!(ids(&all), ["d-fourth", "c-third", "a-second", "b-first"]);
    assert_eq!((all.total_size, &*all.next_page_token), (4, ""));

    let first = world.list(3, "", "").await.unwrap();
    assert_eq!((ids(&first).len(), first.total_size), (3, 4));
    let second = world.list(3, &first.next_page_token, "").await.unwrap();
    assert_eq!((ids(&second), &*second.next_page_token), (vec!["b-first".to_owned()], ""));

    let prod = world.list(1, "", "labels.env=prod").await.unwrap();
    assert_eq!((ids(&prod), prod.total_size), (vec!["c-third".to_owned()], 0));
    let rest = world.list(1, &prod.next_page_token, "labels.env=prod").await.unwrap();
    assert_eq!((ids(&rest), &*rest.next_page_token), (vec!["a-second".to_owned()], ""));
    assert_eq!(refusal(world.list(1, &prod.next_page_token, "").await).0, Code::InvalidArgument);

    for (filter, found) in [
        ("name:first", 1),
        ("name:secrets", 0),
        ("name:projects/haar-test/secrets/a", 1),
        ("name:a-second OR name:b-first", 2),
        ("labels.env=dev AND NOT name:b-", 1),
        ("create_time>=2026-01-01T00:00:02Z", 2),
        ("replication.automatic:*", 4),
        ("NOT rotation:*", 4),
        ("expireTime:*", 0),
    ] {
        assert_eq!(world.list(0, "", filter).await.unwrap().secrets.len(), found, "{filter}");
    }
    assert_eq!(refusal(world.list(0, "", "colour:red").await).0, Code::InvalidArgument);
    assert_eq!(refusal(world.list(-1, "", "").await).0, Code::InvalidArgument);
}

#[tokio::test]
async fn a_policy_goes_with_its_secret() {
    let world = World::new().await;
    world.create("s").await;
    let binding = Binding {
        role: "roles/secretmanager.secretAccessor".into(),
        members: vec!["user:ada@example.com".into()],
        condition: None,
    };
    let policy = Some(Policy { bindings: vec![binding], ..Default::default() });
    let request = SetIamPolicyRequest { resource: shown("s"), policy: policy.clone(), update_mask: None };
    let set = world.call(rpc::SET_IAM_POLICY, request).await.unwrap();
    let get = || GetIamPolicyRequest { resource: secret("s"), options: None };
    assert_eq!(world.call(rpc::GET_IAM_POLICY, get()).await.unwrap(), set);
    let permissions = vec!["secretmanager.versions.access".to_owned()];
    let test = TestIamPermissionsRequest { resource: secret("s"), permissions: permissions.clone() };
    assert_eq!(world.call(rpc::TEST_IAM_PERMISSIONS, test).await.unwrap().permissions, permissions);

    world.delete("s", "").await.unwrap();
    assert_eq!(refusal(world.call(rpc::GET_IAM_POLICY, get()).await).0, Code::NotFound);
    assert!(world.stored("policies/").await.is_empty());
    world.create("s").await;
    assert!(world.call(rpc::GET_IAM_POLICY, get()).await.unwrap().bindings.is_empty());
}

#[tokio::test]
async fn a_secret_with_many_versions_is_deleted_whole() {
    let world = World::new().await;
    world.create("s").await;
    for number in 0..130 {
        world.add("s", format!("payload {number}").as_bytes()).await;
    }
    world.add("s", &[7; 50_000]).await;
    world.delete("s", "").await.unwrap();
    let left: Vec<String> = world.stored("secrets/").await.into_iter().map(|entry| entry.key).collect();
    assert!(left.is_empty(), "{left:?}");

    world.create("s").await;
    assert_eq!(refusal(world.access("s", "1").await).0, Code::NotFound);
    assert_eq!(world.add("s", b"new").await.name, format!("{}/versions/1", shown("s")));
}
