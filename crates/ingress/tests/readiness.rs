//! Instances that are not ready: who gets their requests, and what happens when nobody can.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use http::Response;
use ingress::{Affinity, QueueLimits, RevisionSpec};
use tokio::sync::Semaphore;

use crate::harness::*;

impl World {
    /// An instance is away from now on.
    fn leaves(&self, instance: &str) {
        self.fleet.away.lock().unwrap().insert(instance.into());
        self.ingress.readiness_changed(&revision().id, instance);
    }

    /// It is back.
    fn returns(&self, instance: &str) {
        self.fleet.away.lock().unwrap().remove(instance);
        self.ingress.readiness_changed(&revision().id, instance);
    }

    async fn who(&self) -> String {
        let (status, _, who) = self.get("/").await;
        assert_eq!(status, 200, "{who}");
        who
    }
}

/// One instance at most.
fn alone() -> RevisionSpec {
    RevisionSpec { max: 1, ..revision() }
}

#[test]
fn an_instance_that_is_not_ready_gets_nothing_until_it_is() {
    test(async {
        let spec = RevisionSpec { min: 2, ..revision() };
        let world = World::with(who(), quick(), spec, service()).await;
        until(|| (world.counters().instances == 2).then_some(())).await;
        let first = world.who().await;
        let other = if first == "app-1/0" { "app-1/1" } else { "app-1/0" };
        for _ in 0..3 {
            world.leaves(&first);
            for _ in 0..20 {
                assert_eq!(world.who().await, other);
            }
            world.returns(&first);
            assert_eq!(world.who().await, first);
        }
        assert_eq!(world.counters().instances, 2);
        assert_eq!((world.fleet.attempts.load(SeqCst), world.fleet.stopped.load(SeqCst)), (2, 0));
    });
}

#[test]
fn requests_under_way_go_on_and_new_ones_get_an_instance_of_their_own() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let held = gate.clone();
        let world = Arc::new(
            World::new(server(move |request, id| {
                let gate = held.clone();
                async move {
                    if request.uri().path() == "/held" {
                        gate.acquire().await.unwrap().forget();
                    }
                    Response::new(full(id))
                }
            }))
            .await,
        );
        let caller = world.clone();
        let under_way = tokio::spawn(async move { caller.get("/held").await.2 });
        until(|| (world.counters().running == 1).then_some(())).await;
        world.leaves("app-1/0");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.fleet.attempts.load(SeqCst), 1, "nobody asks for another");
        // It left right after its start, so the next start waits a moment; the request waits for it.
        assert_eq!(world.who().await, "app-1/1");
        assert_eq!(world.who().await, "app-1/1");
        gate.add_permits(1);
        assert_eq!(under_way.await.unwrap(), "app-1/0");
        assert_eq!(world.fleet.attempts.load(SeqCst), 2);
    });
}

#[test]
fn where_no_other_may_be_started_requests_wait_until_it_is_ready() {
    test(async {
        let world = Arc::new(World::with(who(), quick(), alone(), service()).await);
        world.who().await;
        world.leaves("app-1/0");
        let caller = world.clone();
        let waiting = tokio::spawn(async move { caller.who().await });
        until(|| (world.counters().waiting == 1).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((world.counters().waiting, world.fleet.attempts.load(SeqCst)), (1, 1));
        world.returns("app-1/0");
        assert_eq!(waiting.await.unwrap(), "app-1/0");

        let queue = QueueLimits { wait: Duration::from_millis(200), ..alone().queue };
        let world = World::with(who(), quick(), RevisionSpec { queue, ..alone() }, service()).await;
        world.who().await;
        world.leaves("app-1/0");
        let (status, _, text) = world.get("/").await;
        assert_eq!((status, text.as_str()), (429, "Rate exceeded."), "it waited too long");
    });
}

#[test]
fn who_is_bound_to_an_instance_stays_with_it() {
    test(async {
        let spec = RevisionSpec { min: 2, affinity: Affinity::Cookie, ..revision() };
        let world = World::with(who(), quick(), spec.clone(), service()).await;
        until(|| (world.counters().instances == 2).then_some(())).await;
        let (_, headers, mine) = world.get("/").await;
        let cookie = headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        world.leaves(&mine);
        assert_ne!(world.who().await, mine);
        let bound = || get("/").header("cookie", &cookie).body(empty()).unwrap();
        assert_eq!(world.send(bound()).await.2, mine);
        // Nor does it wait behind those that get no instance.
        let world = Arc::new(world);
        world.ingress.set_revision(RevisionSpec { max: 2, ..spec });
        let other = world.who().await;
        world.leaves(&other);
        let caller = world.clone();
        let waiting = tokio::spawn(async move { caller.who().await });
        until(|| (world.counters().waiting == 1).then_some(())).await;
        assert_eq!(world.send(bound()).await.2, mine);
        world.returns(&other);
        assert_eq!(waiting.await.unwrap(), other);
    });
}

#[test]
fn an_idle_instance_that_is_not_ready_is_retired_before_one_that_is() {
    test(async {
        let idle_after = Duration::from_millis(500);
        let spec = RevisionSpec { min: 2, idle_after, ..revision() };
        let world = World::with(who(), quick(), spec.clone(), service()).await;
        until(|| (world.counters().instances == 2).then_some(())).await;
        world.leaves("app-1/0");
        world.ingress.set_revision(RevisionSpec { min: 1, ..spec });
        until(|| (world.fleet.stopped.load(SeqCst) == 1).then_some(())).await;
        assert_eq!(world.who().await, "app-1/1");
        assert_eq!((world.counters().instances, world.fleet.attempts.load(SeqCst)), (1, 2));
    });
}

#[test]
fn instances_that_are_never_ready_for_long_are_started_ever_more_slowly() {
    test(async {
        let queue = QueueLimits { wait: Duration::from_millis(100), ..revision().queue };
        let world = World::with(who(), quick(), RevisionSpec { queue, ..revision() }, service()).await;
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(900) {
            let (status, _, who) = world.get("/").await;
            match status {
                200 => world.leaves(&who),
                _ => assert_eq!(status, 429, "{who}"),
            }
        }
        // At once, after 0.1 s, and then a second and more apart.
        let attempts = world.fleet.attempts.load(SeqCst) as u64;
        assert!(attempts <= 2 + begun.elapsed().as_secs(), "{attempts}");
    });
}
