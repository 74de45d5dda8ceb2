//! Instances come and go: activation, concurrency, queues, failures, idleness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use http::Response;
use ingress::{QueueLimits, RevisionSpec};
use tokio::sync::Semaphore;

use crate::harness::*;

/// Requests that end when the test says so, and the most that ever ran at once on one instance.
fn held(gate: Arc<Semaphore>) -> Program {
    server(move |_, id| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Response::new(full(id))
        }
    })
}

async fn many(world: &Arc<World>, count: usize) -> Vec<tokio::task::JoinHandle<(u16, String)>> {
    let mut calls = Vec::new();
    for _ in 0..count {
        let world = world.clone();
        calls.push(tokio::spawn(async move {
            let (status, _, body) = world.get("/").await;
            (status, body)
        }));
    }
    calls
}

async fn answers(calls: Vec<tokio::task::JoinHandle<(u16, String)>>) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[test]
fn a_burst_at_zero_instances_loses_nothing_and_starts_no_more_than_it_needs() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let world = Arc::new(World::new(held(gate.clone())).await);
        world.fleet.starts.forget_permits(usize::MAX);
        let calls = many(&world, 1000).await;
        until(|| (world.counters().waiting == 1000).then_some(())).await;
        world.fleet.starts.add_permits(1000);
        until(|| (world.counters().running == 1000).then_some(())).await;
        assert_eq!(world.fleet.started.load(SeqCst), 13, "1,000 requests at 80 an instance");
        gate.add_permits(1000);
        let answers = answers(calls).await;
        assert!(answers.iter().all(|(status, _)| *status == 200));
        let mut per_instance = std::collections::HashMap::new();
        answers.iter().for_each(|(_, who)| *per_instance.entry(who.clone()).or_insert(0) += 1);
        assert!(per_instance.values().all(|count| *count <= 80), "{per_instance:?}");
        world.log.line(" cold ").await;
    });
}

#[test]
fn concurrency_and_the_maximum_hold_and_the_rest_waits_its_turn() {
    test(async {
        let running = Arc::new(AtomicUsize::new(0));
        let peak = Arc::new(AtomicUsize::new(0));
        let (counter, most) = (running.clone(), peak.clone());
        let program = server(move |_, _| {
            let (counter, most) = (counter.clone(), most.clone());
            async move {
                most.fetch_max(counter.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                counter.fetch_sub(1, SeqCst);
                Response::new(empty())
            }
        });
        let spec = RevisionSpec { concurrency: 3, max: 2, ..revision() };
        let world = Arc::new(World::with(program, quick(), spec, service()).await);
        let answers = answers(many(&world, 300).await).await;
        assert!(answers.iter().all(|(status, _)| *status == 200));
        assert_eq!(world.fleet.started.load(SeqCst), 2);
        assert!(peak.load(SeqCst) <= 6, "{}", peak.load(SeqCst));
    });
}

#[test]
fn a_full_queue_and_a_long_wait_are_answered_429() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let queue = QueueLimits { requests: 2, wait: Duration::from_millis(200) };
        let spec = RevisionSpec { concurrency: 1, max: 1, queue, ..revision() };
        let world = Arc::new(World::with(held(gate.clone()), quick(), spec, service()).await);
        let first = many(&world, 1).await;
        until(|| (world.counters().running == 1).then_some(())).await;
        let waiting = many(&world, 2).await;
        until(|| (world.counters().waiting == 2).then_some(())).await;
        let (status, _, text) = world.get("/").await;
        assert_eq!((status, text.as_str()), (429, "Rate exceeded."), "the queue is full");
        assert!(answers(waiting).await.iter().all(|(status, _)| *status == 429), "they waited too long");
        world.log.line("no available instance").await;
        gate.add_permits(1);
        assert_eq!(answers(first).await[0].0, 200);
    });
}

#[test]
fn a_client_that_leaves_the_queue_makes_room() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let spec = RevisionSpec { concurrency: 1, max: 1, ..revision() };
        let world = Arc::new(World::with(held(gate.clone()), quick(), spec, service()).await);
        let first = many(&world, 1).await;
        until(|| (world.counters().running == 1).then_some(())).await;
        let waiting = many(&world, 5).await;
        until(|| (world.counters().waiting == 5).then_some(())).await;
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        until(|| (world.counters().waiting == 0).then_some(())).await;
        gate.add_permits(2);
        assert_eq!(answers(first).await[0].0, 200);
        assert_eq!(world.get("/").await.0, 200);
    });
}

#[test]
fn one_failed_start_is_tried_again_and_a_crash_loop_is_answered_503() {
    test(async {
        let world = World::new(who()).await;
        world.fleet.failures.store(1, SeqCst);
        assert_eq!(world.get("/").await.0, 200, "the second start succeeds");
        assert_eq!(world.fleet.attempts.load(SeqCst), 2);

        let world = World::new(who()).await;
        world.fleet.failures.store(2, SeqCst);
        let (status, _, text) = world.get("/").await;
        assert_eq!((status, text.as_str()), (503, "Service Unavailable"));
        let attempts = world.fleet.attempts.load(SeqCst);
        assert_eq!(world.get("/").await.0, 503, "at once, without another start");
        assert_eq!(world.fleet.attempts.load(SeqCst), attempts);
        // After the back-off (1 s) a request finds it mended.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(world.get("/").await.0, 200);
    });
}

#[test]
fn idle_instances_freeze_thaw_and_retire_and_the_minimum_stays() {
    test(async {
        let spec = RevisionSpec { idle_after: Duration::from_millis(300), ..revision() };
        let world = World::with(who(), quick(), spec.clone(), service()).await;
        assert_eq!(world.get("/").await.0, 200);
        let events = || world.fleet.events.lock().unwrap().clone();
        until(|| (events() == ["freeze"]).then_some(())).await;
        assert_eq!(world.get("/").await.0, 200);
        until(|| (events() == ["freeze", "thaw", "freeze"]).then_some(())).await;
        until(|| (world.fleet.stopped.load(SeqCst) == 1).then_some(())).await;
        assert_eq!(world.counters().instances, 0);
        assert_eq!(world.get("/").await.0, 200, "it starts again");
        world.ingress.set_revision(RevisionSpec { min: 2, ..spec });
        until(|| (world.counters().instances == 2).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(world.counters().instances, 2);
    });
}

#[test]
fn an_instance_that_died_is_replaced_and_loses_no_request_that_was_not_sent() {
    test(async {
        let world = World::new(who()).await;
        assert_eq!(world.get("/").await.2, "app-1/0");
        // Told of it.
        world.ingress.instance_ended(&revision().id, "app-1/0");
        assert_eq!(world.get("/").await.2, "app-1/1");
        assert_eq!(world.fleet.stopped.load(SeqCst), 1);
        // Found out by a request, which goes elsewhere.
        let world = World::new(server(|_, id| async move {
            Response::builder().header("connection", "close").body(full(id)).unwrap()
        }))
        .await;
        assert_eq!(world.get("/").await.2, "app-1/0");
        world.fleet.listeners.lock().unwrap().drain(..).for_each(|listener| listener.abort());
        let post = http::Request::post("/").header("host", HOST).body(full("x")).unwrap();
        assert_eq!(world.send(post).await.2, "app-1/1");
    });
}

#[test]
fn an_instance_that_ends_right_after_its_start_is_a_crash_loop_too() {
    test(async {
        let world = World::new(who()).await;
        for turn in 0..2 {
            assert_eq!(world.get("/").await.2, format!("app-1/{turn}"));
            world.ingress.instance_ended(&revision().id, &format!("app-1/{turn}"));
        }
        assert_eq!(world.get("/").await.0, 503, "at once");
        assert_eq!(world.fleet.attempts.load(SeqCst), 2);
    });
}

#[test]
fn a_raised_concurrency_lets_in_those_that_wait() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let spec = RevisionSpec { concurrency: 1, max: 1, ..revision() };
        let world = Arc::new(World::with(held(gate.clone()), quick(), spec.clone(), service()).await);
        let calls = many(&world, 5).await;
        until(|| (world.counters().waiting == 4 && world.counters().running == 1).then_some(())).await;
        world.ingress.set_revision(RevisionSpec { concurrency: 5, ..spec });
        until(|| (world.counters().running == 5).then_some(())).await;
        gate.add_permits(5);
        assert!(answers(calls).await.iter().all(|(status, _)| *status == 200));
    });
}

#[test]
fn busy_cpus_start_instances_without_a_request_where_cpu_is_always_given() {
    test(async {
        let mut config = quick();
        (config.tuning.stable, config.tuning.panic) = (Duration::from_millis(600), Duration::from_millis(60));
        let idle_after = Duration::from_millis(200);
        let spec = RevisionSpec { min: 1, max: 4, cpu: ingress::Cpu::Always, idle_after, ..revision() };
        let world = World::with(who(), config, spec, service()).await;
        world.fleet.cpu.store(10, SeqCst);
        until(|| (world.counters().instances == 1).then_some(())).await;
        world.fleet.cpu.store(1000, SeqCst);
        until(|| (world.counters().instances == 4).then_some(())).await;
        world.fleet.cpu.store(10, SeqCst);
        until(|| (world.counters().instances == 1).then_some(())).await;
        assert_eq!(world.counters().requests, [0; 6]);
    });
}

#[test]
fn a_thousand_idle_services_are_small_and_still() {
    test(async {
        let world = World::new(who()).await;
        let before = memory();
        let services = (0..1000).map(|i| ingress::ServiceRoute {
            name: format!("app-{i}").into(),
            hosts: vec![format!("app-{i}.r.run.localhost").into(), format!("app-{i}.a.run.app").into()],
            traffic: vec![(ingress::RevisionId::new(format!("app-{i}-1")), 100)],
            ..service()
        });
        world.ingress.set_services(services.collect());
        for i in 0..1000 {
            world.ingress.set_revision(RevisionSpec::new(ingress::RevisionId::new(format!("app-{i}-1"))));
        }
        assert_eq!(world.fleet.attempts.load(SeqCst), 0);
        // Other tests of this process run at the same time: this is an upper bound.
        let grown = memory().saturating_sub(before);
        assert!(grown < 100 << 20, "{grown} bytes");
        let request = http::Request::get("/").header("host", "app-999.a.run.app").body(empty()).unwrap();
        assert_eq!(world.send(request).await.2, "app-999-1/0");
    });
}

/// Resident memory of this process, in bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn work_can_be_told_while_it_goes_on() {
    test(async {
        let gate = Arc::new(Semaphore::new(0));
        let world = Arc::new(World::new(held(gate.clone())).await);
        let begun = Instant::now();
        let calls = many(&world, 2).await;
        until(|| (world.counters().running == 2).then_some(())).await;
        world.ingress.tell_work();
        let (first, requests) = *world.fleet.worked.lock().unwrap();
        assert!(!first.is_zero() && requests == 2, "{first:?} {requests}");
        world.ingress.tell_work();
        gate.add_permits(2);
        answers(calls).await;
        until(|| (world.counters().running == 0).then_some(())).await;
        let (all, requests) = *world.fleet.worked.lock().unwrap();
        assert!(all > first && all < begun.elapsed() && requests == 2, "nothing twice: {all:?} {requests}");
        world.ingress.tell_work();
        assert_eq!(world.fleet.worked.lock().unwrap().0, all, "nothing is done");
    });
}
