//! Adding, reading and destroying versions.

use apis::google::cloud::secretmanager::v1::{
    self as proto, secret_manager_service as rpc, secret_version::State,
};
use kernel::Code;

use crate::world::*;

#[tokio::test]
async fn a_payload_comes_back_with_its_checksum() {
    let world = World::new().await;
    world.create("s").await;
    let crc = i64::from(crc32c::crc32c(b"correct horse"));
    let added = world.add_with("s", b"correct horse", Some(crc)).await.unwrap();
    assert_eq!(added.name, format!("{}/versions/1", shown("s")));
    assert_eq!((added.state(), added.client_specified_payload_checksum), (State::Enabled, true));
    assert!(added.replication_status.is_some() && added.destroy_time.is_none());

    for version in ["1", "latest"] {
        let accessed = world.access("s", version).await.unwrap();
        assert_eq!(accessed.name, added.name, "the answer names the version by number");
        let payload = accessed.payload.unwrap();
        assert_eq!((&payload.data[..], payload.data_crc32c), (&b"correct horse"[..], Some(crc)));
    }
    assert!(!world.add("s", b"x").await.client_specified_payload_checksum);
    let by_number = proto::AccessSecretVersionRequest { name: format!("{}/versions/1", shown("s")) };
    assert_eq!(world.call(rpc::ACCESS_SECRET_VERSION, by_number).await.unwrap().name, added.name);
}

#[tokio::test]
async fn what_google_refuses_to_add_is_refused() {
    let world = World::new().await;
    world.create("s").await;
    for (data, checksum, says) in [
        (&b"abc"[..], Some(1), "checksum"),
        (b"abc", Some(-1), "checksum"),
        (b"", None, "cannot be empty"),
        (&[0; 65_537], None, "65536 bytes"),
    ] {
        let (code, message) = refusal(world.add_with("s", data, checksum).await);
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.contains(says), "{message}");
    }
    let nothing = proto::AddSecretVersionRequest { parent: secret("s"), payload: None };
    let (code, message) = refusal(world.call(rpc::ADD_SECRET_VERSION, nothing).await);
    assert_eq!((code, &*message), (Code::InvalidArgument, "Field [payload] is required."));
    assert_eq!(world.list_versions("s", 0, "", "").await.unwrap().total_size, 0, "nothing of it was kept");
}

#[tokio::test]
async fn payloads_of_every_size_are_read_whole() {
    let world = World::new().await;
    world.create("s").await;
    for (number, size) in [1, 4095, 4096, 4097, 40_000, 65_536].into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|at| (at * 31 + number) as u8).collect();
        world.add("s", &payload).await;
        assert_eq!(world.read("s", "latest").await.unwrap(), payload, "{size} bytes");
    }
}

#[tokio::test]
async fn what_is_missing_is_named_as_google_names_it() {
    let world = World::new().await;
    let not_found = |text: String| (Code::NotFound, text);
    let none = not_found(format!("Secret [{}] not found or has no versions.", shown("s")));
    assert_eq!(refusal(world.access("s", "latest").await), none);
    world.create("s").await;
    assert_eq!(refusal(world.access("s", "latest").await), none);
    world.add("s", b"x").await;
    let missing =
        |version: &str| not_found(format!("Secret Version [{}/versions/{version}] not found.", shown("s")));
    assert_eq!(refusal(world.access("s", "2").await), missing("2"));
    assert_eq!(refusal(world.access("s", "live").await), missing("live"));
    assert_eq!(refusal(world.version("s", "2").await), missing("2"));
    assert_eq!(refusal(world.disable("s", "2", "").await), missing("2"));
    assert_eq!(
        refusal(world.add_with("t", b"x", None).await),
        not_found(format!("Secret [{}] not found.", shown("t")))
    );
    let odd = proto::AccessSecretVersionRequest { name: shown("s") };
    assert_eq!(
        refusal(world.call(rpc::ACCESS_SECRET_VERSION, odd).await),
        (Code::InvalidArgument, format!("Resource ID [{}] is not in a valid format.", shown("s")))
    );
    let elsewhere = proto::GetSecretRequest { name: "projects/unknown-project/secrets/s".into() };
    assert_eq!(refusal(world.call(rpc::GET_SECRET, elsewhere).await).0, Code::NotFound);
}

#[tokio::test]
async fn an_alias_reads_the_version_it_names() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", b"one").await;
    world.add("s", b"two").await;
    let point = |number| proto::Secret {
        version_aliases: [("live".to_owned(), number)].into(),
        ..Default::default()
    };
    world.update("s", &["version_aliases"], point(1)).await.unwrap();
    assert_eq!(world.read("s", "live").await.unwrap(), b"one");
    assert_eq!(world.version("s", "live").await.unwrap().name, format!("{}/versions/1", shown("s")));
    world.update("s", &["version_aliases"], point(2)).await.unwrap();
    assert_eq!(world.read("s", "live").await.unwrap(), b"two");
    // Aliases and `latest` are for reading.
    for version in ["live", "latest"] {
        assert_eq!(refusal(world.destroy("s", version, "").await).0, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_disabled_version_cannot_be_read_until_it_is_enabled() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", b"one").await;
    assert_eq!(world.disable("s", "1", "").await.unwrap().state(), State::Disabled);
    let refused = (
        Code::FailedPrecondition,
        format!("Secret Version [{}/versions/1] is in DISABLED state.", shown("s")),
    );
    assert_eq!(refusal(world.access("s", "1").await), refused);
    assert_eq!(
        refusal(world.access("s", "latest").await),
        refused,
        "latest is the newest, whatever its state"
    );
    assert_eq!(world.enable("s", "1", "").await.unwrap().state(), State::Enabled);
    assert_eq!(world.read("s", "1").await.unwrap(), b"one");
}

#[tokio::test]
async fn a_destroyed_version_never_comes_back() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", b"small").await;
    world.add("s", &[9; 10_000]).await;
    assert_eq!(world.stored("secrets/payloads/").await.len(), 1);
    for version in ["1", "2"] {
        let destroyed = world.destroy("s", version, "").await.unwrap();
        assert_eq!(destroyed.state(), State::Destroyed);
        assert!(destroyed.destroy_time.is_some());
        let refused = (
            Code::FailedPrecondition,
            format!("Secret Version [{}/versions/{version}] is in DESTROYED state.", shown("s")),
        );
        assert_eq!(refusal(world.access("s", version).await), refused);
        assert_eq!(refusal(world.enable("s", version, "").await), refused);
        assert_eq!(refusal(world.disable("s", version, "").await), refused);
        assert_eq!(refusal(world.destroy("s", version, "").await), refused);
        assert_eq!(world.version("s", version).await.unwrap(), destroyed, "it is remembered");
    }
    assert!(world.stored("secrets/payloads/").await.is_empty());
    let sizes: Vec<usize> =
        world.stored("secrets/versions/").await.iter().map(|entry| entry.value.len()).collect();
    assert!(sizes.iter().all(|size| *size < 60), "neither data key nor ciphertext is left: {sizes:?}");
    assert_eq!(
        world.add("s", b"three").await.name,
        format!("{}/versions/3", shown("s")),
        "nor is a number used again"
    );
}

#[tokio::test]
async fn a_stale_etag_stops_every_change_of_state() {
    let world = World::new().await;
    let secret_etag = world.create("s").await.etag;
    let first = world.add("s", b"x").await.etag;
    let second = world.enable("s", "1", &first).await.unwrap().etag;
    assert_ne!(first, second, "enabling what is enabled is a change");
    assert_eq!(refusal(world.enable("s", "1", &first).await).0, Code::FailedPrecondition);
    assert_eq!(refusal(world.disable("s", "1", &first).await).0, Code::FailedPrecondition);
    assert_eq!(refusal(world.destroy("s", "1", &first).await).0, Code::FailedPrecondition);
    assert_eq!(world.version("s", "1").await.unwrap().etag, second, "none left a trace");
    assert_eq!(world.read("s", "1").await.unwrap(), b"x");
    world.destroy("s", "1", &second).await.unwrap();
    assert_eq!(world.get("s").await.unwrap().etag, secret_etag, "a version's changes are not its secret's");
}

#[tokio::test]
async fn versions_are_listed_newest_first_filtered_and_page_by_page() {
    let world = World::new().await;
    world.create("s").await;
    for number in 1..=12 {
        world.add("s", format!("{number}").as_bytes()).await;
        world.advance(1);
    }
    world.disable("s", "3", "").await.unwrap();
    world.destroy("s", "10", "").await.unwrap();
    let numbers = |page: &proto::ListSecretVersionsResponse| -> Vec<u64> {
        page.versions
            .iter()
            .map(|version| version.name.rsplit('/').next().unwrap().parse().unwrap())
            .collect()
    };
    let all = world.list_versions("s", 0, "", "").await.unwrap();
    assert_eq!(numbers(&all), (1..=12).rev().collect::<Vec<_>>());
    assert_eq!(all.total_size, 12);

    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.list_versions("s", 5, &token, "").await.unwrap();
        seen.extend(numbers(&page));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, numbers(&all));

    for (filter, found) in [
        ("state:DISABLED", vec![3]),
        ("state=DESTROYED", vec![10]),
        ("state:(DISABLED OR DESTROYED)", vec![10, 3]),
        ("NOT state:ENABLED", vec![10, 3]),
        ("name:11", vec![11]),
        ("state:ENABLED AND create_time>=2026-01-01T00:00:09Z", vec![12, 11]),
        ("destroy_time:*", vec![10]),
    ] {
        let page = world.list_versions("s", 0, "", filter).await.unwrap();
        assert_eq!((numbers(&page), page.total_size), (found, 0), "{filter}");
    }
    assert_eq!(refusal(world.list_versions("s", 0, "", "labels.a=b").await).0, Code::InvalidArgument);
    assert_eq!(refusal(world.list_versions("t", 0, "", "").await).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_added_at_once_are_numbered_without_gaps_or_doubles() {
    let world = std::sync::Arc::new(World::new().await);
    world.create("s").await;
    let adding: Vec<_> = (0..40)
        .map(|number| {
            let world = world.clone();
            tokio::spawn(async move {
                let payload = format!("payload {number}");
                let added = world.add("s", payload.as_bytes()).await.name;
                let version = added.rsplit('/').next().unwrap().to_owned();
                // It can be read by whatever name, at once.
                assert_eq!(world.read("s", &version).await.unwrap(), payload.as_bytes());
                world.read("s", "latest").await.unwrap();
                version.parse::<u64>().unwrap()
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for one in adding {
        numbers.push(one.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}
