//! Images come from registries: asked politely, verified, and only once.

use std::{fs, sync::Arc, time::Duration};

use http::StatusCode;
use images::{Credentials, Error, Images, Proxy, Registries};
use proptest::prelude::*;
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::{
    Item, layer,
    registry::{Blobs, Registry, proxy},
};

fn layers(version: &str) -> Vec<Vec<u8>> {
    vec![layer(&[Item::File("base", "always the same")]), layer(&[Item::File("app", version)])]
}

/// Short of patience, so that nobody waits for a test.
fn hasty() -> Registries {
    let (short, long) = (Duration::from_millis(400), Duration::from_secs(20));
    Registries { connect: long, idle: short, recheck: long, deadline: long, ..Registries::default() }
}

fn store(registries: Registries) -> (TempDir, Images) {
    let directory = tempfile::tempdir().unwrap();
    let images = Images::open_with(directory.path(), registries).unwrap();
    (directory, images)
}

async fn pull(registry: &Registry) -> Result<(), Error> {
    let (_directory, images) = store(hasty());
    let outcome = images.pull(&registry.name(":v1"), &hasty()).await;
    assert_eq!(outcome.is_ok(), !images.list().unwrap().is_empty(), "only what is whole has a name");
    outcome
}

fn why(outcome: Result<(), Error>, name: &str) -> String {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Unreachable(..)), "{error:?}");
    let text = error.to_string();
    text.strip_prefix(&format!("Image '{name}' not found. ")).expect(&text).to_owned()
}

#[tokio::test]
async fn an_image_comes_once_and_its_tag_is_followed() {
    let registry = Registry::start().await;
    let (index, manifest) = registry.shelve("v1", &layers("1"));
    let (_directory, images) = store(hasty());
    let image = images.find(&registry.name(":v1")).await.unwrap();
    assert_eq!(image.digest, manifest);
    assert_eq!(fs::read_to_string(image.layers[1].join("app")).unwrap(), "1");
    assert_eq!(registry.asked("/blobs/"), 3);

    // The tag still means the same: one question, nothing fetched.
    let before = registry.asked("");
    images.find(&registry.name(":v1")).await.unwrap();
    assert_eq!((registry.asked(""), registry.asked("HEAD")), (before + 1, 1));
    // What is pinned is not asked for, neither by its own digest nor by the index's.
    for digest in [&manifest, &index] {
        assert_eq!(images.find(&registry.name(&format!("@{digest}"))).await.unwrap().digest, manifest);
    }
    assert_eq!(registry.asked(""), before + 1);

    // The tag moves: what is new comes, what is here does not come again.
    let (_, moved) = registry.shelve("v1", &layers("2"));
    assert_eq!(images.find(&registry.name(":v1")).await.unwrap().digest, moved);
    assert_eq!(registry.asked("/blobs/"), 5);

    // The registry forgets it, then is gone: what is here serves.
    registry.set(|shelf| shelf.status = Some(StatusCode::NOT_FOUND));
    assert_eq!(images.find(&registry.name(":v1")).await.unwrap().digest, moved);
    registry.set(|shelf| shelf.status = Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(images.find(&registry.name(":v1")).await.unwrap().digest, moved);
    let silent = registry.asked("");
    assert_eq!(images.find(&registry.name(":v1")).await.unwrap().digest, moved);
    assert_eq!(registry.asked(""), silent, "a registry that fails is left alone for a while");
}

#[tokio::test]
async fn an_image_can_be_asked_for_by_digest() {
    let registry = Registry::start().await;
    let (_, manifest) = registry.shelve("v1", &layers("1"));
    let (_directory, images) = store(hasty());
    let name = registry.name(&format!("@{manifest}"));
    assert_eq!(images.find(&name).await.unwrap().digest, manifest);
    registry.set(|shelf| {
        let other = shelf.manifests["v1"].clone();
        shelf.manifests.insert(manifest.clone(), other);
    });
    let (_other, images) = store(hasty());
    assert!(matches!(images.find(&name).await, Err(Error::Malformed(_))));
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_wait_for_one_pull() {
    let registry = Registry::start().await;
    registry.shelve("v1", &layers("1"));
    let (_directory, images) = store(hasty());
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (images, name) = (images.clone(), registry.name(":v1"));
            tokio::spawn(async move { images.find(&name).await })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(registry.asked("/blobs/"), 3);
}

#[tokio::test]
async fn a_token_is_fetched_where_one_is_wanted() {
    let registry = Registry::start().await;
    registry.shelve("v1", &layers("1"));
    registry.set(|shelf| shelf.guarded = true);
    pull(&registry).await.unwrap();
    assert_eq!(registry.asked("/token?"), 1);

    registry.set(|shelf| shelf.user = Some("Basic Zm9nOmh1bnRlcjI="));
    assert!(matches!(pull(&registry).await, Err(Error::NotFound(_))));
    let known = Credentials {
        host: format!("127.0.0.1:{}", registry.address.port()),
        user: "fog".into(),
        password: "hunter2".into(),
    };
    assert!(!format!("{known:?}").contains("hunter2"));
    let (_directory, images) = store(hasty());
    let registries = Registries { credentials: vec![known], ..hasty() };
    images.pull(&registry.name(":v1"), &registries).await.unwrap();
}

#[tokio::test]
async fn what_the_registry_has_not_is_not_found() {
    let registry = Registry::start().await;
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
        registry.set(|shelf| shelf.status = Some(status));
        let error = pull(&registry).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)));
        assert_eq!(error.to_string(), format!("Image '{}' not found.", registry.name(":v1")));
    }
    registry.set(|shelf| shelf.status = Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(why(pull(&registry).await, &registry.name(":v1")), "Its registry answered 429.");
}

#[tokio::test]
async fn a_registry_that_is_not_there_says_so_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_directory, images) = store(hasty());
    for name in [
        format!("{free}/fog/app:v1"),
        "registry.invalid/fog/app:v1".into(),
        "169.254.169.254/fog/app:v1".into(),
    ] {
        let text = why(images.find(&name).await.map(drop), &name);
        assert!(text.contains("cannot be reached"), "{text}");
    }
    let offline = Images::open(_directory.path()).unwrap();
    assert!(matches!(offline.find("registry.invalid/fog/app:v1").await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn redirects_are_followed_without_what_proves_who_we_are() {
    let (registry, store_of_blobs) = (Registry::start().await, Registry::start().await);
    registry.shelve("v1", &layers("1"));
    store_of_blobs.shelve("v1", &layers("1"));
    let place = format!("http://127.0.0.1:{}/signed/", store_of_blobs.address.port());
    registry.set(|shelf| (shelf.guarded, shelf.manners) = (true, Blobs::Elsewhere(place)));
    pull(&registry).await.unwrap();
    assert_eq!(store_of_blobs.asked("/signed/"), 3);
    let seen = &store_of_blobs.shelf.lock().unwrap().seen;
    assert!(seen.iter().all(|(_, authorization)| authorization.is_none()));
}

#[tokio::test]
async fn redirects_without_end_or_to_where_they_must_not_lead_are_refused() {
    let registry = Registry::start().await;
    registry.shelve("v1", &layers("1"));
    for (place, reason) in [
        ("/v2/fog/app/blobs/", "redirects without end"),
        ("http://registry.example/", "Plain HTTP to registry.example is refused"),
        ("https://169.254.169.254/", "link-local"),
        ("file:///etc/", "not an address"),
        ("blobs/", "not an address"),
    ] {
        registry.set(|shelf| shelf.manners = Blobs::Elsewhere(place.into()));
        let text = why(pull(&registry).await, &registry.name(":v1"));
        assert!(text.contains(reason), "{place}: {text}");
    }
}

#[tokio::test]
async fn what_comes_wrong_is_refused() {
    let registry = Registry::start().await;
    registry.shelve("v1", &layers("1"));
    registry.set(|shelf| shelf.manners = Blobs::Wrongly);
    assert!(matches!(pull(&registry).await, Err(Error::Malformed(text)) if text.contains("should be")));
    registry.set(|shelf| shelf.manners = Blobs::Half);
    assert!(why(pull(&registry).await, &registry.name(":v1")).contains("broke off"));
    registry.set(|shelf| shelf.manners = Blobs::Hanging);
    assert!(why(pull(&registry).await, &registry.name(":v1")).contains("fell silent"));
    let impatient =
        Registries { deadline: Duration::from_millis(100), idle: Duration::from_secs(60), ..hasty() };
    let (_directory, images) = store(hasty());
    let late = images.pull(&registry.name(":v1"), &impatient).await;
    assert!(why(late, &registry.name(":v1")).contains("did not come within"));
    registry.set(|shelf| shelf.blobs.clear());
    assert!(why(pull(&registry).await, &registry.name(":v1")).contains("does not give out"));
}

#[tokio::test]
async fn manifests_that_are_no_good_are_refused() {
    let registry = Registry::start().await;
    let (_, manifest) = registry.shelve("v1", &layers("1"));
    let good = String::from_utf8(registry.shelf.lock().unwrap().manifests[&manifest].to_vec()).unwrap();
    let long = good.replace("\"size\":", "\"size\":1");
    let short = good.replacen("\"size\":", "\"size\":0.", 1);
    for (bytes, large) in [
        (vec![b' '; (4 << 20) + 1], true),
        (b"{}".to_vec(), false),
        (short.into_bytes(), false),
        (good.replace("sha256:", "sha256:../").into_bytes(), false),
        (br#"{"manifests":[{"digest":"../../secret"}]}"#.to_vec(), false),
    ] {
        registry.set(|shelf| drop(shelf.manifests.insert("v1".into(), bytes.into())));
        match pull(&registry).await.unwrap_err() {
            Error::TooLarge(_) => assert!(large),
            Error::Malformed(_) => assert!(!large),
            other => panic!("{other}"),
        }
    }
    // A size that is larger than what comes is no harm; one that is smaller ends the fetching.
    registry.set(|shelf| drop(shelf.manifests.insert("v1".into(), long.into())));
    pull(&registry).await.unwrap();
    let tiny = of_one_byte(&good);
    registry.set(|shelf| drop(shelf.manifests.insert("v1".into(), tiny.into())));
    assert!(matches!(pull(&registry).await, Err(Error::TooLarge(_))));
    let other = r#"{"manifests":[{"digest":"x","platform":{"architecture":"s390x","os":"linux"}}]}"#;
    registry.set(|shelf| drop(shelf.manifests.insert("v1".into(), other.into())));
    assert!(matches!(pull(&registry).await, Err(Error::Architecture(theirs, _)) if theirs == "s390x"));
}

/// A manifest whose layers claim to be of one byte.
fn of_one_byte(manifest: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(manifest).unwrap();
    for layer in value["layers"].as_array_mut().unwrap() {
        layer["size"] = 1.into();
    }
    value.to_string()
}

#[tokio::test]
async fn tls_goes_through_the_proxy_and_is_verified_against_the_roots_given() {
    let registry = Registry::start().await;
    registry.shelve("v1", &layers("1"));
    registry.set(|shelf| shelf.guarded = true);
    let certified = rcgen::generate_simple_self_signed(vec!["registry.example".to_owned()]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&certified)));
    let behind = registry.clone();
    let (address, asked) = proxy(move |stream| {
        let (acceptor, behind) = (acceptor.clone(), behind.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                behind.serve(stream).await;
            }
        }
    })
    .await;
    let (directory, images) = store(hasty());
    let roots = directory.path().join("roots.pem");
    fs::write(&roots, certified.cert.pem()).unwrap();
    let through = Proxy::parse(&format!("http://us%65r:hunter2@{address}")).unwrap();
    let registries = Registries { proxy: Some(through), roots: Some(roots.clone()), ..hasty() };
    images.pull("registry.example/fog/app:v1", &registries).await.unwrap();
    let heads = asked.lock().unwrap().clone();
    assert!(heads.iter().all(|head| head.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n")));
    assert!(heads[0].contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"));

    // Another name, and another authority, are not believed.
    for (name, roots) in [
        ("other.example/fog/app:v1", Some(roots)),
        ("registry.example/fog/app:v2", Some(self_made(&directory))),
    ] {
        let text = why(images.pull(name, &Registries { roots, ..registries.clone() }).await, name);
        assert!(text.contains("certificate"), "{text}");
    }
    // From TLS nothing leads to plain HTTP or to this machine.
    for place in ["http://127.0.0.1:1/", "https://localhost:1/"] {
        registry.set(|shelf| shelf.manners = Blobs::Elsewhere(place.into()));
        let (_other, images) = store(hasty());
        let outcome = images.pull("registry.example/fog/app:v1", &registries).await;
        assert!(why(outcome, "registry.example/fog/app:v1").contains("leads to"), "{place}");
    }
}

fn server_config(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> ServerConfig {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap()
}

fn self_made(directory: &TempDir) -> std::path::PathBuf {
    let other = rcgen::generate_simple_self_signed(vec!["registry.example".to_owned()]).unwrap();
    let path = directory.path().join("other.pem");
    fs::write(&path, other.cert.pem()).unwrap();
    path
}

#[test]
fn variables_say_how_registries_are_reached() {
    let variables = [
        ("https_proxy", "http://user:hunter2@proxy:3128"),
        ("SSL_CERT_FILE", "/roots.pem"),
        ("HTTPS_PROXY", "http://other:1"),
    ];
    let get =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let registries = Registries::from_variables(get).unwrap();
    let shown = format!("{registries:?}");
    assert!(shown.contains("proxy:3128") && shown.contains("/roots.pem") && !shown.contains("hunter2"));
    let wrong =
        Registries::from_variables(|name| (name == "ALL_PROXY").then(|| "socks5://u:hunter2@p:1".into()));
    let wrong = wrong.unwrap_err();
    assert!(wrong.starts_with("ALL_PROXY: ") && !wrong.contains("hunter2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_manifest_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), json in "\\{(\"(manifests|layers|config|digest|size)\":(\\[|\\{|1|\"\"|,|\\]|\\}){1,4}){0,6}\\}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for bytes in [bytes, json.into_bytes()] {
            runtime.block_on(async {
                let registry = Registry::start().await;
                registry.set(|shelf| drop(shelf.manifests.insert("v1".into(), bytes.into())));
                assert!(pull(&registry).await.is_err());
            });
        }
    }
}
