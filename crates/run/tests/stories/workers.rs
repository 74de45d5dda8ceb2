//! Worker pools: containers that nobody sends requests.

use std::{sync::Arc, time::Duration};

use apis::google::{
    cloud::run::v2::{self, revisions, services, worker_pools},
    discovery::run::v1::{self as knative, namespaces_revisions, namespaces_workerpools},
    longrunning::{Operation, operation},
};
use kernel::{Code, Error, Result};

use crate::{v2::PARENT, world::World};

fn pool(mode: &str) -> v2::WorkerPool {
    v2::WorkerPool {
        template: Some(v2::WorkerPoolRevisionTemplate {
            containers: vec![v2::Container { image: format!("demo/{mode}:v1"), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn name(id: &str) -> String {
    format!("{PARENT}/workerPools/{id}")
}

async fn create(world: &World, id: &str, pool: v2::WorkerPool) -> Result<Operation> {
    let request = v2::CreateWorkerPoolRequest {
        parent: PARENT.into(),
        worker_pool_id: id.into(),
        worker_pool: Some(pool),
        ..Default::default()
    };
    world.call(worker_pools::CREATE_WORKER_POOL, request).await
}

/// Creates one and waits for it.
async fn made(world: &World, id: &str, pool: v2::WorkerPool) -> v2::WorkerPool {
    let operation = create(world, id, pool).await.unwrap();
    finished(world, &operation).await.unwrap();
    read(world, id).await.unwrap()
}

async fn finished(world: &World, operation: &Operation) -> Result<()> {
    let operations = world.engine().operations;
    let ended = operations.wait(&operation.name, Duration::from_secs(30)).await.unwrap();
    match ended.result {
        Some(operation::Result::Response(_)) => Ok(()),
        Some(operation::Result::Error(status)) => Err(Error::precondition(status.message)),
        None => panic!("{} has not ended", operation.name),
    }
}

async fn read(world: &World, id: &str) -> Result<v2::WorkerPool> {
    world.call(worker_pools::GET_WORKER_POOL, v2::GetWorkerPoolRequest { name: name(id) }).await
}

async fn update(world: &World, pool: v2::WorkerPool, paths: &[&str]) -> Result<()> {
    let request = v2::UpdateWorkerPoolRequest {
        worker_pool: Some(pool),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| path.to_string()).collect(),
        }),
        ..Default::default()
    };
    let operation = world.call(worker_pools::UPDATE_WORKER_POOL, request).await?;
    finished(world, &operation).await
}

/// How many instances a pool has.
fn instances(world: &World, id: &str) -> usize {
    let pools = world.engine().run.worker_pools();
    pools.iter().find(|pool| pool.name == id).map_or(0, |pool| pool.instances)
}

/// How many lines with this text a revision wrote.
fn written(world: &World, revision: &str, text: &str) -> usize {
    let all = world.log.0.lock().unwrap();
    all.iter().filter(|(of, _, line)| **of == *revision && line.contains(text)).count()
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap()
}

fn scaled(manual: i32) -> Option<v2::WorkerPoolScaling> {
    Some(v2::WorkerPoolScaling { manual_instance_count: Some(manual) })
}

pub(crate) async fn a_worker_pool_works_without_requests(world: Arc<World>) {
    let made = made(&world, "tide", pool("work")).await;
    assert_eq!(made.scaling, scaled(1), "one, when nothing is said");
    let first = last(&made.latest_ready_revision).to_owned();
    assert_eq!(made.instance_split_statuses[0].revision, first);
    world.eventually("an instance works", || instances(&world, "tide") == 1).await;
    let said = format!("tide {first}, PORT unset, K_SERVICE unset");
    world.eventually("it says so", || written(&world, &first, &said) == 1).await;
    assert!(world.engine().run.status().is_empty(), "a pool is no service");

    let more = v2::WorkerPool { name: name("tide"), scaling: scaled(3), ..Default::default() };
    update(&world, more, &["scaling.manual_instance_count"]).await.unwrap();
    world.eventually("there are three", || instances(&world, "tide") == 3).await;
    assert_eq!(last(&read(&world, "tide").await.unwrap().latest_created_revision), first);

    let none = v2::WorkerPool { name: name("tide"), scaling: scaled(0), ..Default::default() };
    update(&world, none, &["scaling"]).await.unwrap();
    world.eventually("there are none", || instances(&world, "tide") == 0).await;
}

pub(crate) async fn instances_are_split_between_revisions(world: Arc<World>) {
    let asked = v2::WorkerPool { scaling: scaled(2), ..pool("work") };
    let first = last(&made(&world, "tide", asked).await.latest_ready_revision).to_owned();
    let next = v2::WorkerPool { name: name("tide"), ..pool("deaf") };
    update(&world, next, &["template"]).await.unwrap();
    let second = last(&read(&world, "tide").await.unwrap().latest_ready_revision).to_owned();
    assert_ne!(first, second);
    world.eventually("both instances are new", || instances(&world, "tide") == 2).await;
    let begun = written(&world, &first, "tide");

    let split = |revision: &str, percent| v2::InstanceSplit {
        r#type: v2::InstanceSplitAllocationType::Revision.into(),
        revision: revision.into(),
        percent,
    };
    let halves = v2::WorkerPool {
        name: name("tide"),
        instance_splits: vec![split(&first, 50), split(&second, 50)],
        ..Default::default()
    };
    update(&world, halves.clone(), &["instance_splits"]).await.unwrap();
    world.eventually("one works for the first again", || written(&world, &first, "tide") == begun + 1).await;
    world.eventually("there are still two", || instances(&world, "tide") == 2).await;

    let short = v2::WorkerPool { instance_splits: vec![split(&first, 50)], ..halves.clone() };
    let error = update(&world, short, &["instance_splits"]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    let lost = v2::WorkerPool { instance_splits: vec![split("tide-00009-xyz", 100)], ..halves };
    let error = update(&world, lost, &["instance_splits"]).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");

    let request = v2::DeleteRevisionRequest { name: made_name(&first), ..Default::default() };
    let error = world.call(revisions::DELETE_REVISION, request).await.unwrap_err();
    assert!(error.message().contains("actively serving"), "{error:?}");
}

fn made_name(revision: &str) -> String {
    format!("{}/revisions/{revision}", name("tide"))
}

pub(crate) async fn an_instance_that_ends_is_followed_by_another(world: Arc<World>) {
    let made = made(&world, "tide", pool("brief")).await;
    let revision = last(&made.latest_ready_revision).to_owned();
    world.eventually("it is started again", || written(&world, &revision, "begun") >= 2).await;
    assert!(written(&world, &revision, "Container called exit(4).") >= 1);
}

pub(crate) async fn what_ends_at_once_takes_no_place(world: Arc<World>) {
    made(&world, "tide", pool("work")).await;
    let before = read(&world, "tide").await.unwrap().latest_ready_revision;
    world.eventually("it works", || instances(&world, "tide") == 1).await;
    let broken = v2::WorkerPool { name: name("tide"), ..pool("exit") };
    let error = update(&world, broken, &["template"]).await.unwrap_err();
    assert!(error.message().contains("ended right after it was started"), "{error:?}");
    assert!(error.message().contains("no tide tables"), "{error:?}");
    let after = read(&world, "tide").await.unwrap();
    assert_eq!(after.latest_ready_revision, before);
    assert_ne!(after.latest_created_revision, before);
    assert_eq!(instances(&world, "tide"), 1, "what worked goes on");
    let failure = world.engine().run.worker_pools()[0].failure.clone();
    assert!(failure.is_some_and(|why| why.contains("ended right after")));
}

pub(crate) async fn worker_pools_outlive_haar_and_go_with_all_they_have(world: Arc<World>) {
    made(&world, "tide", v2::WorkerPool { scaling: scaled(2), ..pool("work") }).await;
    world.eventually("two work", || instances(&world, "tide") == 2).await;
    world.restart().await;
    world.eventually("two work again", || instances(&world, "tide") == 2).await;

    let forced = v2::UpdateWorkerPoolRequest {
        worker_pool: Some(read(&world, "tide").await.unwrap()),
        force_new_revision: true,
        ..Default::default()
    };
    let before = read(&world, "tide").await.unwrap().latest_created_revision;
    let operation = world.call(worker_pools::UPDATE_WORKER_POOL, forced).await.unwrap();
    finished(&world, &operation).await.unwrap();
    let pool = read(&world, "tide").await.unwrap();
    assert_ne!(pool.latest_created_revision, before, "a new revision, as it was forced");
    update(&world, pool.clone(), &["*"]).await.unwrap();
    let after = read(&world, "tide").await.unwrap();
    assert_eq!(after.latest_created_revision, pool.latest_created_revision, "and none, as nothing changed");

    for (parent, count) in [
        (name("tide"), 2),
        (name("-"), 2),
        ("projects/demo/locations/-/workerPools/tide".into(), 2),
        ("projects/demo/locations/-/workerPools/-".into(), 2),
        ("projects/demo/locations/-/workerPools/wave".into(), 0),
        ("projects/demo/locations/-/services/-".into(), 0),
    ] {
        let listed = v2::ListRevisionsRequest { parent: parent.clone(), ..Default::default() };
        let listed = world.call(revisions::LIST_REVISIONS, listed).await.unwrap();
        assert_eq!(listed.revisions.len(), count, "{parent}");
    }
    let request = v2::DeleteWorkerPoolRequest { name: name("tide"), ..Default::default() };
    world.call(worker_pools::DELETE_WORKER_POOL, request).await.unwrap();
    assert_eq!(read(&world, "tide").await.unwrap_err().code(), Code::NotFound);
    world
        .eventually("nobody works any more", || {
            written(&world, last(&before), "tide") >= 2 && world.engine().run.usage().len() == 2
        })
        .await;
    let usage = world.engine().run.usage();
    assert!(usage.iter().all(|one| one.billing == run::Billing::Instances), "{usage:?}");
}

pub(crate) async fn gcloud_reads_pools_in_another_form(world: Arc<World>) {
    let container = knative::Container { image: Some("demo/work:v1".into()), ..Default::default() };
    let template = knative::RevisionTemplate {
        spec: Some(knative::RevisionSpec { containers: vec![container], ..Default::default() }),
        ..Default::default()
    };
    let metadata = knative::ObjectMeta {
        name: Some("tide".into()),
        annotations: [("run.googleapis.com/manualInstanceCount".to_owned(), "2".to_owned())].into(),
        ..Default::default()
    };
    let body = knative::WorkerPool {
        metadata: Some(metadata),
        spec: Some(knative::WorkerPoolSpec { template: Some(template), ..Default::default() }),
        ..Default::default()
    };
    let dry = |dry_run: Option<&str>| knative::NamespacesWorkerpoolsCreateRequest {
        dry_run: dry_run.map(str::to_owned),
        parent: "namespaces/demo".into(),
        body: Some(body.clone()),
    };
    world.call(namespaces_workerpools::CREATE, dry(Some("all"))).await.unwrap();
    assert_eq!(read(&world, "tide").await.unwrap_err().code(), Code::NotFound, "it was only tried out");
    world.call(namespaces_workerpools::CREATE, dry(None)).await.unwrap();
    world.eventually("two work", || instances(&world, "tide") == 2).await;

    // They begin before it is stored that they do.
    world.eventually("that is stored", || !world.engine().run.worker_pools()[0].revision.is_empty()).await;

    let named = || "namespaces/demo/workerpools/tide".to_owned();
    let get = || {
        world.call(namespaces_workerpools::GET, knative::NamespacesWorkerpoolsGetRequest { name: named() })
    };
    let shown = get().await.unwrap();
    let annotations = shown.metadata.clone().unwrap().annotations;
    assert_eq!(annotations["run.googleapis.com/scalingMode"], "manual");
    let revision = shown.status.clone().unwrap().latest_ready_revision_name.unwrap();

    let replaced = knative::NamespacesWorkerpoolsReplaceWorkerPoolRequest {
        name: named(),
        body: Some(shown),
        ..Default::default()
    };
    world.call(namespaces_workerpools::REPLACE_WORKER_POOL, replaced).await.unwrap();
    let again = get().await.unwrap().status.unwrap();
    assert_eq!(again.latest_created_revision_name, Some(revision.clone()), "what is read means the same");

    let list = knative::NamespacesRevisionsListRequest {
        parent: "namespaces/demo".into(),
        label_selector: Some("run.googleapis.com/workerPool = tide".into()),
        ..Default::default()
    };
    let revisions = world.call(namespaces_revisions::LIST, list).await.unwrap().items;
    let metadata = revisions[0].metadata.clone().unwrap();
    assert_eq!((revisions.len(), metadata.name), (1, Some(revision)));
    assert!(!metadata.labels.contains_key("serving.knative.dev/service"));
    let conditions = revisions[0].status.clone().unwrap().conditions;
    let active = conditions.iter().find(|one| one.r#type.as_deref() == Some("Active")).unwrap();
    assert_eq!(active.status.as_deref(), Some("True"));

    let listed =
        knative::NamespacesWorkerpoolsListRequest { parent: "namespaces/demo".into(), ..Default::default() };
    assert_eq!(world.call(namespaces_workerpools::LIST, listed).await.unwrap().items.len(), 1);
    let delete = knative::NamespacesWorkerpoolsDeleteRequest { name: named(), ..Default::default() };
    world.call(namespaces_workerpools::DELETE, delete).await.unwrap();
    assert_eq!(get().await.unwrap_err().code(), Code::NotFound);
}

pub(crate) async fn a_pool_takes_no_requests_and_a_region_must_be_one(world: Arc<World>) {
    let mut listening = pool("work");
    let port = v2::ContainerPort { container_port: 8080, ..Default::default() };
    listening.template.as_mut().unwrap().containers[0].ports = vec![port];
    let error = create(&world, "tide", listening).await.unwrap_err();
    assert!(error.message().contains("must not expose a port"), "{error:?}");
    let validated = v2::CreateWorkerPoolRequest {
        parent: PARENT.into(),
        worker_pool_id: "tide".into(),
        worker_pool: Some(pool("work")),
        validate_only: true,
    };
    world.call(worker_pools::CREATE_WORKER_POOL, validated).await.unwrap();
    assert_eq!(read(&world, "tide").await.unwrap_err().code(), Code::NotFound);

    let nowhere = "projects/demo/locations/moon-east1".to_owned();
    let asked = v2::ListServicesRequest { parent: nowhere.clone(), ..Default::default() };
    let error = world.call(services::LIST_SERVICES, asked).await.unwrap_err();
    assert_eq!(error.message(), "Location 'moon-east1' is not found or access is unauthorized.");
    let asked = v2::ListWorkerPoolsRequest { parent: nowhere, ..Default::default() };
    assert_eq!(world.call(worker_pools::LIST_WORKER_POOLS, asked).await.unwrap_err().code(), Code::NotFound);
    let everywhere = "projects/demo/locations/-".to_owned();
    let asked = v2::ListServicesRequest { parent: everywhere, ..Default::default() };
    assert!(world.call(services::LIST_SERVICES, asked).await.unwrap().services.is_empty());
}
