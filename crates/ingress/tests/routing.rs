//! Hosts, tags, splits, affinity, and changes of all of them under load.

use std::{collections::HashMap, sync::atomic::Ordering::SeqCst};

use http::Request;
use http_body_util::BodyExt;
use ingress::{Affinity, RevisionId, RevisionSpec, ServiceRoute};

use crate::harness::*;

fn two(first: u32, second: u32) -> ServiceRoute {
    let tags = vec![("green".into(), RevisionId::new("app-2"))];
    let traffic = vec![(RevisionId::new("app-1"), first), (RevisionId::new("app-2"), second)];
    ServiceRoute { tags, traffic, ..service() }
}

async fn world(affinity: Affinity) -> World {
    let world = World::with(who(), quick(), RevisionSpec { affinity, ..revision() }, two(75, 25)).await;
    let second = RevisionSpec { affinity, ..RevisionSpec::new(RevisionId::new("app-2")) };
    world.ingress.set_revision(second);
    world
}

#[test]
fn a_host_is_found_whatever_its_case_and_port_and_no_other_is() {
    test(async {
        let world = World::new(who()).await;
        for host in [HOST, &HOST.to_ascii_uppercase(), &format!("{HOST}:4560"), &format!("{HOST}.")] {
            let request = Request::get("/").header("host", host).body(empty()).unwrap();
            assert_eq!(world.send(request).await.0, 200, "{host}");
        }
        for host in ["", "app", "run.localhost", "x---app-1.r.run.localhost", "[::1]:80"] {
            let request = Request::get("/x").header("host", host).body(empty()).unwrap();
            let (status, _, page) = world.send(request).await;
            assert_eq!(status, 404, "{host}");
            assert!(page.contains("<h1>Error: Page not found</h1>"), "{page}");
        }
        world.ingress.remove_service("p", "r", "app");
        assert_eq!(world.get("/").await.0, 404);
    });
}

#[test]
fn a_request_through_a_services_own_door_needs_no_host_of_it() {
    test(async {
        let world = World::new(who()).await;
        let request = |host: &str, door: &str| {
            Request::get("/").header("host", host).header("test-door", door).body(empty()).unwrap()
        };
        assert_eq!(world.send(request("127.0.0.1:8080", HOST)).await.0, 200);
        assert_eq!(world.send(request(HOST, "gone.r.run.localhost")).await.0, 404, "the door decides");
    });
}

#[test]
fn traffic_is_split_as_set_and_tags_go_past_the_split() {
    test(async {
        let world = world(Affinity::None).await;
        let mut client = world.http1().await;
        let mut count = HashMap::new();
        for _ in 0..2000 {
            let response = client.send_request(get("/").body(empty()).unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            *count.entry(body).or_insert(0) += 1;
        }
        // Five standard deviations around 1,500.
        let first: i32 =
            count.iter().filter(|(who, _)| who.starts_with(b"app-1")).map(|(_, count)| count).sum();
        assert!((1403..=1597).contains(&first), "{count:?}");
        for _ in 0..20 {
            let tagged = Request::get("/").header("host", format!("green---{HOST}")).body(empty()).unwrap();
            assert!(world.send(tagged).await.2.starts_with("app-2"));
        }
        world.ingress.set_service(two(0, 100));
        for _ in 0..20 {
            assert!(world.get("/").await.2.starts_with("app-2"));
        }
    });
}

#[test]
fn a_cookie_binds_a_client_to_its_instance() {
    test(async {
        let world = world(Affinity::Cookie).await;
        let (_, headers, first) = world.get("/").await;
        let cookie = headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.starts_with("GAESA=") && cookie.ends_with("; Max-Age=2592000; Path=/"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap();
        for _ in 0..50 {
            let request = get("/").header("cookie", format!("a=b; {cookie}")).body(empty()).unwrap();
            let (_, headers, who) = world.send(request).await;
            assert_eq!(who, first);
            assert!(!headers.contains_key("set-cookie"));
        }
    });
}

#[test]
fn requests_under_way_finish_on_a_revision_that_lost_its_traffic_or_is_removed() {
    test(async {
        let world = World::with(echo(), quick(), revision(), two(100, 0)).await;
        world.ingress.set_revision(RevisionSpec::new(RevisionId::new("app-2")));
        let (sender, body) = feed();
        let request = Request::post("/").header("host", HOST).body(body).unwrap();
        let mut client = world.http1().await;
        let call = tokio::spawn(async move { client.send_request(request).await.unwrap() });
        sender.send(http_body::Frame::data("a".into())).unwrap();
        let response = call.await.unwrap();
        world.ingress.set_service(two(0, 100));
        world.ingress.remove_revision(&RevisionId::new("app-1"));
        assert_eq!(world.get("/").await.0, 200, "new requests go to the other revision");
        assert_eq!(world.fleet.stopped.load(SeqCst), 0, "the instance is not stopped under its request");
        sender.send(http_body::Frame::data("b".into())).unwrap();
        drop(sender);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ab");
        until(|| (world.fleet.stopped.load(SeqCst) == 1).then_some(())).await;
    });
}

#[test]
fn a_request_that_waits_on_a_revision_that_is_removed_goes_where_traffic_goes() {
    test(async {
        let crowded = RevisionSpec { concurrency: 1, max: 1, ..revision() };
        let world = World::with(echo(), quick(), crowded, two(100, 0)).await;
        world.ingress.set_revision(RevisionSpec::new(RevisionId::new("app-2")));
        let (sender, body) = feed();
        let request = Request::post("/").header("host", HOST).body(body).unwrap();
        let mut client = world.http1().await;
        let first = tokio::spawn(async move { client.send_request(request).await.unwrap() });
        sender.send(http_body::Frame::data("a".into())).unwrap();
        let first = first.await.unwrap();
        let mut client = world.http1().await;
        let second = get("/").body(empty()).unwrap();
        let second = tokio::spawn(async move { client.send_request(second).await.unwrap().status() });
        until(|| (world.counters().waiting == 1).then_some(())).await;
        world.ingress.set_service(two(0, 100));
        world.ingress.remove_revision(&RevisionId::new("app-1"));
        assert_eq!(second.await.unwrap(), 200);
        drop(sender);
        assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "a");
    });
}
