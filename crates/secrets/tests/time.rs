//! What expires, and what is swept out.

use apis::google::cloud::secretmanager::v1::{self as proto, secret::Expiration, secret_version::State};
use kernel::{Code, store::Txn};
use prost_types::{Duration, Timestamp};

use crate::world::*;

const DAY: i64 = 86_400;

fn living(seconds: i64) -> proto::Secret {
    proto::Secret { expiration: Some(Expiration::Ttl(Duration { seconds, nanos: 0 })), ..automatic() }
}

#[tokio::test]
async fn an_expired_secret_is_gone_at_once_and_swept_out_later() {
    let world = World::new().await;
    let made = world.create_with("s", living(3600)).await.unwrap();
    let at = Timestamp { seconds: START as i64 + 3600, nanos: 0 };
    assert_eq!(made.expiration, Some(Expiration::ExpireTime(at)), "a lifetime is shown as its end");
    world.add("s", b"short-lived").await;
    world.advance(3599);
    assert_eq!(world.read("s", "1").await.unwrap(), b"short-lived");

    world.advance(1);
    assert_eq!(refusal(world.get("s").await).0, Code::NotFound);
    assert_eq!(refusal(world.access("s", "1").await).0, Code::NotFound);
    assert_eq!(refusal(world.add_with("s", b"x", None).await).0, Code::NotFound);
    assert_eq!(refusal(world.update("s", &["labels"], proto::Secret::default()).await).0, Code::NotFound);
    assert_eq!(refusal(world.delete("s", "").await).0, Code::NotFound);
    assert!(world.list(0, "", "").await.unwrap().secrets.is_empty());

    world.secrets.sweep().await.unwrap();
    assert!(world.stored("secrets/").await.is_empty());
}

#[tokio::test]
async fn a_rotation_time_that_has_come_moves_by_its_period() {
    let world = World::new().await;
    let next = |day: i64| Some(Timestamp { seconds: START as i64 + day * DAY, nanos: 0 });
    let rotating = |rotation_period| proto::Secret {
        rotation: Some(proto::Rotation {
            next_rotation_time: next(1),
            rotation_period,
            managed_rotation_status: None,
        }),
        topics: vec![proto::Topic { name: "projects/fog-bank/topics/tides".into() }],
        ..automatic()
    };
    world.create_with("weekly", rotating(Some(Duration { seconds: 7 * DAY, nanos: 0 }))).await.unwrap();
    world.create_with("once", rotating(None)).await.unwrap();
    let next_of = async |id| world.get(id).await.unwrap().rotation.unwrap().next_rotation_time;
    world.advance(DAY as u64 - 1);
    world.secrets.sweep().await.unwrap();
    assert_eq!(next_of("weekly").await, next(1), "not yet");
    world.advance(1);
    world.secrets.sweep().await.unwrap();
    assert_eq!((next_of("weekly").await, next_of("once").await), (next(8), next(1)));
    world.advance(30 * DAY as u64);
    world.secrets.sweep().await.unwrap();
    assert_eq!(next_of("weekly").await, next(36), "what was missed is not made up for");
}

#[tokio::test]
async fn the_name_of_an_expired_secret_is_free() {
    let world = World::new().await;
    world.create_with("s", living(60)).await.unwrap();
    world.add("s", b"old").await;
    world.advance(60);
    let again = world.create("s").await;
    assert_eq!(again.expiration, None);
    assert_eq!(refusal(world.access("s", "1").await).0, Code::NotFound);
    world.secrets.sweep().await.unwrap();
    assert_eq!(world.get("s").await.unwrap(), again);
}

#[tokio::test]
async fn an_expiration_can_be_moved_and_taken_away() {
    let world = World::new().await;
    world.create_with("s", living(60)).await.unwrap();
    let until = |seconds: i64| proto::Secret {
        expiration: Some(Expiration::ExpireTime(Timestamp { seconds, nanos: 0 })),
        ..Default::default()
    };
    world.update("s", &["expire_time"], until(START as i64 + 7200)).await.unwrap();
    world.advance(61);
    assert!(world.get("s").await.is_ok());
    assert_eq!(refusal(world.update("s", &["expire_time"], until(5)).await).0, Code::InvalidArgument);
    world.update("s", &["expire_time"], proto::Secret::default()).await.unwrap();
    world.advance(10_000);
    assert!(world.get("s").await.is_ok());
}

#[tokio::test]
async fn destruction_can_be_put_off_and_called_off() {
    let world = World::new().await;
    let delay = Some(Duration { seconds: 2 * DAY, nanos: 0 });
    let made =
        world.create_with("s", proto::Secret { version_destroy_ttl: delay, ..automatic() }).await.unwrap();
    assert_eq!(made.version_destroy_ttl, delay);
    world.add("s", b"one").await;
    let put_off = world.destroy("s", "1", "").await.unwrap();
    assert_eq!(put_off.state(), State::Disabled);
    assert_eq!(put_off.scheduled_destroy_time.unwrap().seconds, START as i64 + 2 * DAY);
    assert!(put_off.destroy_time.is_none());
    assert_eq!(refusal(world.access("s", "1").await).0, Code::FailedPrecondition);

    let saved = world.enable("s", "1", "").await.unwrap();
    assert_eq!((saved.state(), saved.scheduled_destroy_time), (State::Enabled, None));
    world.destroy("s", "1", "").await.unwrap();
    world.advance(2 * DAY as u64);
    let refused = (
        Code::FailedPrecondition,
        format!("Secret Version [{}/versions/1] is in DESTROYED state.", shown("s")),
    );
    assert_eq!(refusal(world.enable("s", "1", "").await), refused, "its time has come, swept or not");
    let before = world.version("s", "1").await.unwrap();
    assert_eq!(before.destroy_time.unwrap().seconds, START as i64 + 2 * DAY);

    world.secrets.sweep().await.unwrap();
    let after = world.version("s", "1").await.unwrap();
    assert_eq!((after.state(), after.destroy_time), (State::Destroyed, before.destroy_time));
    assert!(world.stored("secrets/versions/").await[0].value.len() < 60, "the payload is gone");
}

#[tokio::test]
async fn a_deletion_that_a_crash_interrupted_is_finished() {
    let world = World::new().await;
    world.create("s").await;
    for _ in 0..70 {
        world.add("s", b"x").await;
    }
    // What the first of the deletion's transactions leaves when nothing comes after it.
    let versions = world.stored("secrets/versions/").await;
    let uid = versions[0].key.split('/').nth(2).unwrap();
    let named = world.stored("secrets/named/").await.remove(0).key;
    let gone = Txn::new().delete(named).put(format!("secrets/gone/{uid}"), vec![1, 0x08, 70]);
    world.store.txn(gone).await.unwrap();

    let world = world.reopen().await.unwrap();
    assert_eq!(refusal(world.get("s").await).0, Code::NotFound);
    world.create("s").await;
    assert_eq!(refusal(world.access("s", "1").await).0, Code::NotFound);
    world.secrets.sweep().await.unwrap();
    assert!(world.stored("secrets/versions/").await.is_empty());
    assert!(world.stored("secrets/gone/").await.is_empty());
}
