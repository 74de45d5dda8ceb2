//! Instances that get no requests for a while, and what is said of that.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{
        self as run, HttpGetAction, Probe, RevisionScaling, jobs, probe::ProbeType, worker_pools,
    },
    discovery::run::v1 as knative,
    longrunning::Operation,
};
use kernel::{Code, Result};

use crate::{knative as manifests, v2, world::World};

fn get(path: &str, failures: i32) -> Probe {
    Probe {
        period_seconds: 1,
        failure_threshold: failures,
        probe_type: Some(ProbeType::HttpGet(HttpGetAction { path: path.into(), ..Default::default() })),
        ..Default::default()
    }
}

/// A service that always has so many instances, and never more.
fn fixed(count: i32) -> run::Service {
    let mut service = v2::service("serve");
    let template = service.template.as_mut().unwrap();
    template.scaling = Some(RevisionScaling { min_instance_count: count, max_instance_count: count });
    template.containers[0].readiness_probe = Some(get("/ready", 1));
    service
}

impl World {
    fn is_told(&self, start: &str) -> bool {
        self.log.0.lock().unwrap().iter().any(|(_, _, line)| line.starts_with(start))
    }

    /// Waits until an answer comes, and is one.
    async fn who(&self) -> String {
        loop {
            match self.get("tide", "/who").await {
                (200, who) => return who,
                (status, said) => assert_eq!(status, 429, "{said}"),
            }
        }
    }
}

const GONE: &str = "READINESS HTTP probe failed 1 time consecutively for container \"tide-1\" on port 8080. The instance \
                    gets no new requests until it succeeds. GET /ready was answered with status 500.";
const BACK: &str =
    "READINESS HTTP probe succeeded 2 times consecutively for container \"tide-1\" on port 8080.";

pub(crate) async fn an_instance_that_is_not_ready_gets_no_requests_until_it_is(world: Arc<World>) {
    let made = v2::create(&world, "tide", fixed(2)).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    world.eventually("both are there", || world.instances() == 2).await;
    world.get("tide", "/busy/3").await;
    world.eventually("it is found out", || world.is_told(GONE)).await;
    let other = world.who().await;
    for _ in 0..20 {
        let who = world.who().await;
        assert!(who == other || world.is_told(BACK), "{who} is not ready");
    }
    world.eventually("it is back", || world.is_told(BACK)).await;
    let mut both = [other.clone(), world.who().await];
    // Where both may, the one that has been there for longer answers a lone request.
    while both[0] == both[1] {
        both[1] = world.who().await;
    }
    assert_eq!(world.instances(), 2, "neither was ended, and nothing was started");
}

pub(crate) async fn what_is_not_ready_is_not_ended_and_what_is_not_well_is(world: Arc<World>) {
    let mut service = fixed(1);
    service.template.as_mut().unwrap().containers[0].liveness_probe = Some(get("/health", 1));
    let made = v2::create(&world, "tide", service).await.unwrap();
    v2::end(&world, &made).await.unwrap();
    let first = world.who().await;
    world.get("tide", "/busy/3").await;
    world.eventually("it is found out", || world.is_told(GONE)).await;
    assert_eq!(world.who().await, first, "the request waits for the only one there may be");
    assert!(world.is_told(BACK));
    world.get("tide", "/sick").await;
    let ended = "LIVENESS HTTP probe failed 1 time consecutively for container \"tide-1\" on port 8080.";
    world.eventually("it is found out", || world.is_told(ended)).await;
    let mut now = world.get("tide", "/who").await;
    while now.0 != 200 || now.1 == first {
        now = world.get("tide", "/who").await;
    }
    assert!(world.instances() <= 1);
}

pub(crate) async fn a_readiness_probe_is_read_back_in_both_forms(world: Arc<World>) {
    let mut service = manifests::manifest("tide", "serve");
    manifests::container(&mut service).readiness_probe = Some(knative::Probe {
        success_threshold: Some(5),
        period_seconds: Some(30),
        http_get: Some(knative::HttpGetAction { path: Some("/ready".into()), ..Default::default() }),
        ..Default::default()
    });
    let mut made = manifests::deploy(&world, service).await;
    let revision = manifests::latest(&made);
    let shown = manifests::container(&mut made).readiness_probe.clone().unwrap();
    let times =
        [shown.timeout_seconds, shown.period_seconds, shown.failure_threshold, shown.success_threshold];
    assert_eq!(times, [1, 30, 3, 5].map(Some));
    assert_eq!(shown.initial_delay_seconds, None);
    // v2 has no word for how many successes it takes: what it leaves out stays.
    let mut service = v2::read(&world, "tide").await.unwrap();
    let probe = service.template.clone().unwrap().containers[0].readiness_probe.clone().unwrap();
    assert_eq!((probe.period_seconds, probe.failure_threshold), (30, 3));
    service.labels.insert("sea".into(), "north".into());
    let changed = v2::update(&world, service.clone(), &["labels"]).await.unwrap();
    let changed = v2::end(&world, &changed).await.unwrap();
    assert!(changed.latest_ready_revision.ends_with(&revision), "{}", changed.latest_ready_revision);
    service.etag = String::new();
    let changed = v2::update(&world, service, &[]).await.unwrap();
    let changed = v2::end(&world, &changed).await.unwrap();
    assert!(changed.latest_ready_revision.ends_with(&revision), "{}", changed.latest_ready_revision);
    let mut shown = manifests::read(&world, "tide").await.unwrap();
    let probe = manifests::container(&mut shown).readiness_probe.take().unwrap();
    assert_eq!(probe.success_threshold, Some(5));
    let mut without = manifests::settle(&world, "tide").await;
    manifests::container(&mut without).readiness_probe = None;
    manifests::replace(&world, without).await.unwrap();
    let mut without = manifests::settle(&world, "tide").await;
    assert!(manifests::container(&mut without).readiness_probe.is_none());
    assert_ne!(manifests::latest(&without), revision);
}

pub(crate) async fn a_readiness_probe_where_no_requests_come_is_refused(world: Arc<World>) {
    let containers = vec![run::Container {
        image: "demo/work:v1".into(),
        readiness_probe: Some(get("/ready", 1)),
        ..Default::default()
    }];
    let template = run::WorkerPoolRevisionTemplate { containers: containers.clone(), ..Default::default() };
    let pool = run::CreateWorkerPoolRequest {
        parent: v2::PARENT.into(),
        worker_pool_id: "crew".into(),
        worker_pool: Some(run::WorkerPool { template: Some(template), ..Default::default() }),
        ..Default::default()
    };
    refused(world.call(worker_pools::CREATE_WORKER_POOL, pool).await);
    let task = run::TaskTemplate { containers, ..Default::default() };
    let template = run::ExecutionTemplate { template: Some(task), ..Default::default() };
    let job = run::CreateJobRequest {
        parent: v2::PARENT.into(),
        job_id: "haul".into(),
        job: Some(run::Job { template: Some(template), ..Default::default() }),
        ..Default::default()
    };
    refused(world.call(jobs::CREATE_JOB, job).await);
}

fn refused(outcome: Result<Operation>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let said = "containers[0].readiness_probe: is only supported for services";
    assert!(error.message().contains(said), "{error:?}");
}
