//! Worker pools in v2, which `gcloud run worker-pools deploy`, client libraries and Terraform speak.

use std::sync::Arc;

use apis::google::{
    cloud::run::v2::{self, worker_pools},
    longrunning::Operation,
};
use kernel::{Caller, Error, Mount, Result, grant, mirror::Versioned, paging::Page};
use prost_types::Timestamp;

use super::{
    authorization, policy,
    shared::{count, location, shown_stage},
    v2::PAGE,
    v2_change::{self, Absent, Asked, Form, Purpose},
    v2_read, v2_write,
};
use crate::{
    Run,
    change::{Desired, NewRevision},
    record::{Kind, Scaling, Service, Template, Traffic},
};

pub(super) fn mount(mount: Mount<Run>) -> Mount<Run> {
    mount
        .unary(
            worker_pools::CREATE_WORKER_POOL,
            const { &[grant("run.workerpools.create", "{parent}")] },
            create,
        )
        .unary(worker_pools::GET_WORKER_POOL, const { &[grant("run.workerpools.get", "{name}")] }, get)
        .unary(worker_pools::LIST_WORKER_POOLS, const { &[grant("run.workerpools.list", "{parent}")] }, list)
        .unary(
            worker_pools::UPDATE_WORKER_POOL,
            const { &[grant("run.workerpools.update", "{worker_pool.name}")] },
            update,
        )
        .unary(
            worker_pools::DELETE_WORKER_POOL,
            const { &[grant("run.workerpools.delete", "{name}")] },
            delete,
        )
        .unary(
            worker_pools::GET_IAM_POLICY,
            const { &[grant("run.workerpools.getIamPolicy", "{resource}")] },
            policy::get::<v2::WorkerPool>,
        )
        .unary(
            worker_pools::SET_IAM_POLICY,
            const { &[grant("run.workerpools.setIamPolicy", "{resource}")] },
            policy::set::<v2::WorkerPool>,
        )
        .unary(worker_pools::TEST_IAM_PERMISSIONS, &[], policy::test::<v2::WorkerPool>)
}

async fn create(run: Arc<Run>, caller: Caller, request: v2::CreateWorkerPoolRequest) -> Result<Operation> {
    let [project, region] = location(&request.parent)?;
    let place = run.place_of(Kind::WorkerPool, project, region, &request.worker_pool_id).await?;
    let asked = request.worker_pool.unwrap_or_default();
    v2_change::create(&run, &caller, &place, asked, Purpose::of(request.validate_only)).await
}

async fn update(run: Arc<Run>, caller: Caller, request: v2::UpdateWorkerPoolRequest) -> Result<Operation> {
    let asked = Asked {
        mask: request.update_mask,
        purpose: Purpose::of(request.validate_only),
        absent: Absent::of(request.allow_missing),
        revision: match request.force_new_revision {
            true => NewRevision::Always,
            false => NewRevision::IfChanged,
        },
    };
    v2_change::update(&run, &caller, request.worker_pool.unwrap_or_default(), &asked).await
}

async fn delete(run: Arc<Run>, _: Caller, request: v2::DeleteWorkerPoolRequest) -> Result<Operation> {
    let purpose = Purpose::of(request.validate_only);
    v2_change::delete::<v2::WorkerPool>(&run, &request.name, &request.etag, purpose).await
}

async fn get(run: Arc<Run>, _: Caller, request: v2::GetWorkerPoolRequest) -> Result<v2::WorkerPool> {
    let place = run.place(Kind::WorkerPool, &request.name).await?;
    Ok(v2::WorkerPool::of(&run, &*run.services.get(&place.resource_name())?))
}

async fn list(
    run: Arc<Run>,
    _: Caller,
    request: v2::ListWorkerPoolsRequest,
) -> Result<v2::ListWorkerPoolsResponse> {
    let prefix = run.listed(Kind::WorkerPool, &request.parent).await?;
    let page = Page::new(PAGE, request.page_size, &request.page_token, &[&prefix])?;
    let (found, next_page_token) =
        run.services.list(&prefix, &page, |_, held| held.value.kind() == Kind::WorkerPool);
    let worker_pools = found.iter().map(|(_, held)| v2::WorkerPool::of(&run, held)).collect();
    Ok(v2::ListWorkerPoolsResponse { worker_pools, next_page_token })
}

impl Form for v2::WorkerPool {
    const KIND: Kind = Kind::WorkerPool;
    const NAME: &'static str = "google.cloud.run.v2.WorkerPool";

    fn of(_: &Run, held: &Versioned<Service>) -> Self {
        let mut pool = held.value.clone();
        let binary_authorization = authorization::shown(&mut pool.annotations);
        let revision = |name: &str| match name {
            "" => String::new(),
            name => format!("{}/revisions/{name}", pool.resource_name()),
        };
        v2::WorkerPool {
            name: pool.resource_name(),
            latest_ready_revision: revision(&pool.latest_ready),
            latest_created_revision: revision(&pool.latest_created),
            instance_splits: splits(&pool.traffic),
            instance_split_statuses: pool.serving.iter().map(status).collect(),
            terminal_condition: Some(v2_write::condition("Ready", &pool.ready)),
            template: pool.template.as_ref().map(template),
            scaling: pool.scaling.map(scaling),
            launch_stage: shown_stage(pool.launch_stage),
            reconciling: pool.observed_generation != pool.generation,
            binary_authorization,
            description: pool.description,
            uid: pool.uid,
            generation: pool.generation,
            labels: pool.labels,
            annotations: pool.annotations,
            create_time: pool.created,
            update_time: pool.updated,
            creator: pool.creator,
            last_modifier: pool.last_modifier,
            client: pool.client,
            client_version: pool.client_version,
            observed_generation: pool.observed_generation,
            etag: held.etag(),
            ..Default::default()
        }
    }

    fn desired(&self) -> Result<Desired> {
        let mut pool = self.clone();
        authorization::keep(pool.binary_authorization.take(), &mut pool.annotations)?;
        let manual = pool.scaling.and_then(|scaling| scaling.manual_instance_count);
        let manual = manual.map(|manual| count("scaling.manual_instance_count", manual)).transpose()?;
        Ok(Desired {
            labels: pool.labels,
            annotations: pool.annotations,
            description: pool.description,
            template: read_template(pool.template.unwrap_or_default())?,
            traffic: pool.instance_splits.into_iter().map(split).collect::<Result<_>>()?,
            scaling: Some(Scaling { manual, ..Scaling::default() }),
            client: pool.client,
            client_version: pool.client_version,
            launch_stage: pool.launch_stage,
            ..Desired::default()
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn etag(&mut self) -> &mut String {
        &mut self.etag
    }

    fn set_deleted(&mut self, at: Timestamp) {
        self.delete_time = Some(at);
    }
}

/// What a pool's template has in common with a service's is read and written as that.
fn read_template(template: v2::WorkerPoolRevisionTemplate) -> Result<Template> {
    v2_read::template(v2::RevisionTemplate {
        revision: template.revision,
        labels: template.labels,
        annotations: template.annotations,
        vpc_access: template.vpc_access,
        encryption_key: template.encryption_key,
        node_selector: template.node_selector,
        service_mesh: template.service_mesh,
        service_account: template.service_account,
        containers: template.containers,
        volumes: template.volumes,
        ..Default::default()
    })
}

fn template(template: &Template) -> v2::WorkerPoolRevisionTemplate {
    let shared = v2_write::template(template);
    v2::WorkerPoolRevisionTemplate {
        revision: shared.revision,
        labels: shared.labels,
        annotations: shared.annotations,
        service_account: shared.service_account,
        containers: shared.containers,
        volumes: shared.volumes,
        ..Default::default()
    }
}

fn scaling(scaling: Scaling) -> v2::WorkerPoolScaling {
    v2::WorkerPoolScaling { manual_instance_count: scaling.manual.map(|manual| manual as i32) }
}

fn split(split: v2::InstanceSplit) -> Result<Traffic> {
    let is_latest = split.r#type() != v2::InstanceSplitAllocationType::Revision;
    if is_latest != split.revision.is_empty() {
        let why = "An instance split names either a revision or the latest one.";
        return Err(Error::bad_field("instance_splits", why));
    }
    // Clients give the name alone or in full.
    let revision = split.revision.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(Traffic { revision, percent: count("instance_splits.percent", split.percent)?, ..Traffic::default() })
}

fn splits(asked: &[Traffic]) -> Vec<v2::InstanceSplit> {
    let split = |target: &Traffic| v2::InstanceSplit {
        r#type: kind(target.revision.is_empty()),
        revision: target.revision.clone(),
        percent: target.percent as i32,
    };
    match asked {
        [] => vec![v2::InstanceSplit { r#type: kind(true), percent: 100, ..Default::default() }],
        asked => asked.iter().map(split).collect(),
    }
}

fn status(target: &Traffic) -> v2::InstanceSplitStatus {
    v2::InstanceSplitStatus {
        r#type: kind(target.latest),
        revision: target.revision.clone(),
        percent: target.percent as i32,
    }
}

fn kind(is_latest: bool) -> i32 {
    match is_latest {
        true => v2::InstanceSplitAllocationType::Latest.into(),
        false => v2::InstanceSplitAllocationType::Revision.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Clients read a pool, change a part and write all of it.
        #[test]
        fn what_is_asked_for_comes_back(percents in prop::collection::vec(0u32..101, 1..4), manual in 0u32..9) {
            let target = |(index, percent)| Traffic {
                revision: if index == 0 { String::new() } else { format!("pool-{index}") },
                percent,
                ..Traffic::default()
            };
            let traffic: Vec<_> = percents.into_iter().enumerate().map(target).collect();
            let written = v2::WorkerPool {
                instance_splits: splits(&traffic),
                scaling: Some(scaling(Scaling { manual: Some(manual), ..Scaling::default() })),
                ..Default::default()
            };
            let desired = written.desired().unwrap();
            prop_assert_eq!((desired.traffic, desired.scaling.unwrap().manual), (traffic, Some(manual)));
        }
    }
}
