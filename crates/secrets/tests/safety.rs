//! What is on the disk, what survives, and what is refused.

use std::{fs, time::Instant};

use apis::google::{
    cloud::secretmanager::v1::{self as proto, secret_manager_service as rpc},
    iam::v1::{Binding, Policy, SetIamPolicyRequest},
};
use kernel::{Code, ports::Secrets as _};
use prost::Message;

use crate::world::*;

const PLAINTEXT: &[u8] = b"a-needle-that-must-not-be-found-on-the-disk";

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_restart() {
    let world = World::new().await;
    let made = world.create("s").await;
    world.add("s", PLAINTEXT).await;
    world.add("s", &PLAINTEXT.repeat(500)).await;
    world.add("s", b"three").await;
    world.disable("s", "3", "").await.unwrap();
    let versions = world.list_versions("s", 0, "", "").await.unwrap();

    let world = world.reopen().await.unwrap();
    assert_eq!(world.get("s").await.unwrap(), made);
    assert_eq!(world.list_versions("s", 0, "", "").await.unwrap(), versions);
    assert_eq!(world.read("s", "1").await.unwrap(), PLAINTEXT);
    assert_eq!(world.read("s", "2").await.unwrap(), PLAINTEXT.repeat(500));
    assert_eq!(refusal(world.access("s", "3").await).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn no_payload_is_readable_on_the_disk() {
    let world = World::new().await;
    world.create("visible-name").await;
    world.add("visible-name", PLAINTEXT).await;
    world.add("visible-name", &PLAINTEXT.repeat(1000)).await;
    let (dir, _) = world.close().await;
    assert!(found_on_disk(dir.path(), b"visible-name"), "what is written can be found this way");
    assert!(!found_on_disk(dir.path(), PLAINTEXT));
}

#[tokio::test]
async fn without_the_right_key_nothing_opens() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", PLAINTEXT).await;
    let key = world.dir.path().join("keys/secrets.key");
    let saved = fs::read(&key).unwrap();
    let (dir, clock) = world.close().await;

    fs::remove_file(&key).unwrap();
    let path = dir.path().to_owned();
    let opened = World::open(dir, clock.clone()).await.map(|_| ());
    let (code, message) = refusal(opened);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("secrets.key is missing"), "{message}");
    // The directory went with the world that would not open: what follows is another one.
    assert!(!path.exists());

    let world = World::new().await;
    world.create("s").await;
    world.add("s", PLAINTEXT).await;
    let key = world.dir.path().join("keys/secrets.key");
    let (dir, clock) = world.close().await;
    fs::write(&key, &saved).unwrap();
    let (_, message) = refusal(World::open(dir, clock).await.map(|_| ()));
    assert!(message.contains("not the one"), "{message}");
}

#[tokio::test]
async fn a_workload_reads_what_its_account_may_read() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", PLAINTEXT).await;
    let on = "//secretmanager.googleapis.com/projects/haar-test/secrets/s/versions/latest";
    let may = caller(Allow::Only("secretmanager.versions.access", on));
    for name in [format!("{}/versions/latest", secret("s")), format!("{}/versions/latest", shown("s"))] {
        let payload = world.secrets.access(&may, &name).await.unwrap();
        assert_eq!(
            (&payload.data[..], &*payload.version),
            (PLAINTEXT, &*format!("{}/versions/1", shown("s")))
        );
        assert!(!format!("{payload:?}").contains("needle"), "printing it does not show it");
    }
    let may_not = caller(Allow::Only("secretmanager.versions.get", on));
    let (code, message) =
        refusal(world.secrets.access(&may_not, &format!("{}/versions/latest", secret("s"))).await);
    assert_eq!(code, Code::PermissionDenied);
    let named = on.trim_start_matches("//secretmanager.googleapis.com/");
    assert!(message.contains("'secretmanager.versions.access'") && message.contains(named), "{message}");
    let absent = world.secrets.access(&may_not, &format!("{}/versions/1", secret("none"))).await;
    assert_eq!(refusal(absent).0, Code::PermissionDenied, "who may not read does not learn what exists");
}

#[tokio::test]
async fn every_method_asks_for_its_own_permission_on_the_right_resource() {
    let world = World::new().await;
    for (method, permission, resource) in [
        ("ListSecrets", "secretmanager.secrets.list", "{parent}"),
        ("CreateSecret", "secretmanager.secrets.create", "{parent}"),
        ("GetSecret", "secretmanager.secrets.get", "{name}"),
        ("UpdateSecret", "secretmanager.secrets.update", "{secret.name}"),
        ("DeleteSecret", "secretmanager.secrets.delete", "{name}"),
        ("AddSecretVersion", "secretmanager.versions.add", "{parent}"),
        ("ListSecretVersions", "secretmanager.versions.list", "{parent}"),
        ("GetSecretVersion", "secretmanager.versions.get", "{name}"),
        ("AccessSecretVersion", "secretmanager.versions.access", "{name}"),
        ("EnableSecretVersion", "secretmanager.versions.enable", "{name}"),
        ("DisableSecretVersion", "secretmanager.versions.disable", "{name}"),
        ("DestroySecretVersion", "secretmanager.versions.destroy", "{name}"),
        ("GetIamPolicy", "secretmanager.secrets.getIamPolicy", "{resource}"),
        ("SetIamPolicy", "secretmanager.secrets.setIamPolicy", "{resource}"),
    ] {
        let grants = world.method(&format!("SecretManagerService.{method}")).grants;
        assert_eq!(grants.len(), 1, "{method}");
        assert_eq!((grants[0].permission, grants[0].resource), (permission, resource), "{method}");
    }
    assert!(world.method("SecretManagerService.TestIamPermissions").grants.is_empty());
}

#[tokio::test]
async fn a_request_that_is_no_message_is_refused() {
    let world = World::new().await;
    let method = world.method("SecretManagerService.AccessSecretVersion");
    let refused = (method.handler)(caller(Allow::Everything), vec![0x0a, 0xff].into()).await;
    assert_eq!(refusal(refused).0, Code::InvalidArgument);
}

#[tokio::test]
#[ignore = "a measurement: cargo test --release -p secrets -- --ignored --nocapture"]
async fn how_long_an_access_takes() {
    let world = World::new().await;
    world.create("s").await;
    world.add("s", &[7; 64]).await;
    let method = world.method("SecretManagerService.AccessSecretVersion");
    let caller = caller(Allow::Everything);
    for version in ["1", "latest"] {
        let name = format!("{}/versions/{version}", secret("s"));
        let request: bytes::Bytes = proto::AccessSecretVersionRequest { name }.encode_to_vec().into();
        let mut rounds: Vec<f64> = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            for _ in 0..20_000 {
                (method.handler)(caller.clone(), request.clone()).await.unwrap();
            }
            rounds.push(start.elapsed().as_nanos() as f64 / 20_000.0);
        }
        rounds.sort_by(f64::total_cmp);
        println!("AccessSecretVersion, 64 bytes, {version}: {:.0} ns (median of 9 x 20,000)", rounds[4]);
    }
}

#[tokio::test]
async fn a_secret_made_again_has_no_policy_of_before() {
    let world = World::new().await;
    for _ in 0..50 {
        world.create("s").await;
        let binding = Binding { role: "roles/viewer".into(), ..Binding::default() };
        let policy = Some(Policy { bindings: vec![binding], ..Policy::default() });
        let set = SetIamPolicyRequest { resource: secret("s"), policy, update_mask: None };
        world.call(rpc::SET_IAM_POLICY, set).await.unwrap();
        world.delete("s", "").await.unwrap();
        assert_eq!(world.policy("s"), Policy::default(), "nobody decides by it any more");
    }
}
