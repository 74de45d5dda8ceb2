//! Masks over real messages: a secret (maps, a oneof, lists) and a Cloud Run service (nesting).

use apis::google::cloud::{
    run::v2::{RevisionScaling, RevisionTemplate, Service},
    secretmanager::v1::{Replication, Rotation, Secret, Topic, replication, secret::Expiration},
};
use proptest::prelude::*;

use super::*;

fn secret_schema() -> Message {
    Message::by_name("google.cloud.secretmanager.v1.Secret").unwrap()
}

fn service_schema() -> Message {
    Message::by_name("google.cloud.run.v2.Service").unwrap()
}

fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn current() -> Secret {
    Secret {
        name: "projects/p/secrets/s".into(),
        labels: [("a".into(), "1".into()), ("b.c".into(), "2".into())].into(),
        topics: vec![Topic { name: "t1".into() }, Topic { name: "t2".into() }],
        rotation: Some(Rotation {
            rotation_period: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        }),
        expiration: Some(Expiration::ExpireTime(prost_types::Timestamp { seconds: 9, nanos: 0 })),
        etag: "e".into(),
        ..Default::default()
    }
}

fn updated(patch: &Secret, mask: &[&str]) -> Secret {
    merge(secret_schema(), &current(), patch, &paths(mask)).unwrap()
}

#[test]
fn only_what_the_mask_names_changes() {
    let patch =
        Secret { name: "other".into(), topics: vec![Topic { name: "t3".into() }], ..Default::default() };
    assert_eq!(updated(&patch, &["topics"]), Secret { topics: patch.topics.clone(), ..current() });
    assert_eq!(
        updated(&patch, &["etag"]),
        Secret { etag: String::new(), ..current() },
        "named and missing: cleared"
    );
    assert_eq!(updated(&patch, &["topics", "labels"]).labels.len(), 0);
    assert_eq!(updated(&patch, &["*"]), patch);
}

#[test]
fn without_a_mask_what_the_patch_has_is_merged() {
    let next = Some(prost_types::Timestamp { seconds: 77, nanos: 0 });
    let patch = Secret {
        rotation: Some(Rotation { next_rotation_time: next, ..Default::default() }),
        labels: [("z".into(), "9".into())].into(),
        ..Default::default()
    };
    let merged = updated(&patch, &[]);
    let rotation = merged.rotation.clone().unwrap();
    assert_eq!((rotation.next_rotation_time, rotation.rotation_period.unwrap().seconds), (next, 5));
    assert_eq!(merged.labels, patch.labels, "maps are replaced as a whole");
    assert_eq!(merged.topics, current().topics);
    let automatic =
        Some(Replication { replication: Some(replication::Replication::Automatic(Default::default())) });
    let patch = Secret { replication: automatic.clone(), ..Default::default() };
    assert_eq!(updated(&patch, &[]).replication, automatic, "an empty message that is there counts");
}

#[test]
fn one_label_can_be_named() {
    let patch =
        Secret { labels: [("a".into(), "9".into()), ("x".into(), "8".into())].into(), ..Default::default() };
    let labels = |mask: &[&str]| {
        let mut labels: Vec<_> = updated(&patch, mask).labels.into_iter().collect();
        labels.sort();
        labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(labels(&["labels.a"]), ["a=9", "b.c=2"]);
    assert_eq!(labels(&["labels.`b.c`"]), ["a=1"], "named and missing: removed");
    assert_eq!(labels(&["labels.x", "labels.a"]), ["a=9", "b.c=2", "x=8"]);
    assert_eq!(labels(&["labels.x", "labels"]), ["a=9", "x=8"], "the wider path counts");
}

#[test]
fn members_of_a_oneof_replace_each_other() {
    let ttl = Some(Expiration::Ttl(prost_types::Duration { seconds: 60, nanos: 0 }));
    let patch = Secret { expiration: ttl, ..Default::default() };
    assert_eq!(updated(&patch, &["ttl"]).expiration, patch.expiration);
    let nothing = Secret::default();
    assert_eq!(updated(&nothing, &["ttl"]).expiration, current().expiration, "clearing another member");
    assert_eq!(updated(&nothing, &["expire_time"]).expiration, None);
}

#[test]
fn paths_go_into_messages() {
    let scaling = |min, max| RevisionScaling { min_instance_count: min, max_instance_count: max };
    let service = |scaling| Service {
        template: Some(RevisionTemplate { scaling, service_account: "sa".into(), ..Default::default() }),
        ..Default::default()
    };
    let merged = |current: &Service, patch: &Service, mask: &[&str]| {
        merge(service_schema(), current, patch, &paths(mask)).unwrap()
    };
    let (before, patch) = (service(Some(scaling(1, 10))), service(Some(scaling(2, 20))));
    let max = merged(&before, &patch, &["template.scaling.max_instance_count"]);
    assert_eq!(max, service(Some(scaling(1, 20))));
    let camel = merged(&before, &patch, &["template.scaling.maxInstanceCount"]);
    assert_eq!(camel, max);
    assert_eq!(merged(&before, &service(None), &["template.scaling"]), service(None));
    let fresh = merged(&Service::default(), &patch, &["template.scaling.min_instance_count"]);
    let template = RevisionTemplate { scaling: Some(scaling(2, 0)), ..Default::default() };
    assert_eq!(fresh.template, Some(template), "what is missing on the way is made");
    assert_eq!(merged(&Service::default(), &Service::default(), &["template.scaling"]), Service::default());
}

#[test]
fn paths_that_name_nothing_are_refused() {
    for path in [
        "nope",
        "labels.a.b",
        "topics.name",
        "topics.0",
        "name.x",
        "expire_time.seconds",
        "",
        ".",
        "labels.",
        "a..b",
        "labels.`x",
        "*",
        "version_aliases.k.x",
    ] {
        let refusal = update(secret_schema(), &[], &[], &paths(&["etag", path])).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{path}");
        assert!(refusal.message().contains(&format!("'{path}'")), "{refusal}");
    }
}

#[test]
fn a_mask_is_held_against_what_may_change() {
    let allowed = ["labels", "rotation.rotation_period", "*"];
    let check = |mask: &[&str]| check(secret_schema(), &paths(mask), &allowed);
    assert_eq!(
        check(&["labels.a", "rotation.rotationPeriod"]).unwrap(),
        ["labels.a", "rotation.rotation_period"]
    );
    assert_eq!(check(&["labels.`b.c`"]).unwrap(), ["labels.`b.c`"]);
    assert_eq!(check(&["*"]).unwrap(), ["*"]);
    assert_eq!(
        check(&["rotation"]).unwrap_err().message(),
        "The field 'rotation' in update_mask cannot be updated."
    );
    assert!(check(&["name"]).is_err() && check(&["labelsx"]).is_err() && check(&["*", "labels"]).is_err());
}

#[test]
fn what_the_types_do_not_know_is_kept() {
    let mut unknown = current_bytes();
    wire::put_bytes(&mut unknown, 999, b"from the future");
    let merged = update(secret_schema(), &unknown, &[], &paths(&["etag"])).unwrap();
    assert!(wire::items(&merged).unwrap().iter().any(|item| item.number == 999));
}

fn current_bytes() -> Vec<u8> {
    prost::Message::encode_to_vec(&current())
}

proptest! {
    #[test]
    fn no_bytes_and_no_path_panic(current in prop::collection::vec(any::<u8>(), 0..60), patch in prop::collection::vec(any::<u8>(), 0..60), path in "[a-z_.`*]{0,20}") {
        let _ = update(secret_schema(), &current, &patch, &[]);
        let _ = update(secret_schema(), &current, &patch, &paths(&["labels.a", "rotation.rotation_period"]));
        let _ = update(secret_schema(), &current, &patch, &[path]);
    }
}
