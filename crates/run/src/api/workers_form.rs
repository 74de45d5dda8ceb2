//! Worker pools in the Knative form, read and written. Their templates are those of services.

use std::collections::BTreeMap;

use apis::google::discovery::run::v1 as knative;
use kernel::{Error, Result, mirror::Versioned};

use super::{
    authorization,
    jobs_knative_write::{API_VERSION, metadata},
    knative_read::{self, OURS, positive},
    knative_write::{condition, template, text, time, version},
    shared::{launch_stage, stage_name},
};
use crate::{
    Run,
    change::Desired,
    record::{Scaling, Service, Traffic},
};

/// How many instances, and what says that this is not left to Cloud Run.
const COUNT: &str = "run.googleapis.com/manualInstanceCount";
const MODE: &str = "run.googleapis.com/scalingMode";

/// What a manifest asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for values that cannot be read; limits are checked by the engine.
pub(super) fn desired(pool: &knative::WorkerPool) -> Result<Desired> {
    let metadata = pool.metadata.clone().unwrap_or_default();
    let spec = pool.spec.clone().unwrap_or_default();
    let (mut labels, mut annotations) = (metadata.labels, metadata.annotations);
    authorization::check(&annotations)?;
    labels.remove("cloud.googleapis.com/location");
    annotations.retain(|key, _| !OURS.contains(&key.as_str()));
    check_mode(annotations.remove(MODE).as_deref())?;
    let manual = knative_read::count(COUNT, annotations.remove(COUNT))?;
    let mut take = |key: &str| annotations.remove(&format!("run.googleapis.com/{key}"));
    Ok(Desired {
        description: take("description").unwrap_or_default(),
        client: take("client-name").unwrap_or_default(),
        client_version: take("client-version").unwrap_or_default(),
        launch_stage: launch_stage(take("launch-stage").as_deref()),
        scaling: Some(Scaling { manual, ..Scaling::default() }),
        template: knative_read::template(spec.template.unwrap_or_default())?,
        traffic: spec.instance_splits.into_iter().map(split).collect::<Result<_>>()?,
        labels,
        annotations,
        ..Desired::default()
    })
}

fn check_mode(mode: Option<&str>) -> Result<()> {
    match mode {
        None | Some("" | "manual") => Ok(()),
        Some(other) => Err(Error::bad_field(
            format!("metadata.annotations[{MODE}]"),
            format!("'{other}' is not served here: worker pools are scaled manually"),
        )),
    }
}

fn split(split: knative::InstanceSplit) -> Result<Traffic> {
    let revision = split.revision_name.unwrap_or_default();
    if split.latest_revision.unwrap_or(false) && !revision.is_empty() {
        let why = "An instance split names either a revision or the latest one.";
        return Err(Error::bad_field("spec.instanceSplits", why));
    }
    Ok(Traffic { revision, percent: positive("percent", split.percent)?, ..Traffic::default() })
}

/// A pool as it is shown.
pub(super) fn pool(run: &Run, held: &Versioned<Service>) -> knative::WorkerPool {
    let pool = &held.value;
    let mut labels = pool.labels.clone();
    labels.insert("cloud.googleapis.com/location".into(), pool.region.clone());
    knative::WorkerPool {
        api_version: Some(API_VERSION.into()),
        kind: Some("WorkerPool".into()),
        metadata: Some(knative::ObjectMeta {
            uid: text(&pool.uid),
            resource_version: Some(version(held.revision)),
            generation: Some(pool.generation as i32),
            creation_timestamp: time(&pool.created),
            labels,
            annotations: annotations(pool),
            ..metadata(run, &pool.project, "workerpools", &pool.name)
        }),
        spec: Some(knative::WorkerPoolSpec {
            template: pool.template.as_ref().map(template),
            instance_splits: asked_splits(&pool.traffic),
        }),
        status: Some(status(pool)),
    }
}

fn annotations(pool: &Service) -> BTreeMap<String, String> {
    let manual = pool.scaling.and_then(|scaling| scaling.manual).unwrap_or(1).to_string();
    let mut all = pool.annotations.clone();
    for (key, value) in [
        ("serving.knative.dev/creator", pool.creator.as_str()),
        ("serving.knative.dev/lastModifier", &pool.last_modifier),
        ("run.googleapis.com/client-name", &pool.client),
        ("run.googleapis.com/client-version", &pool.client_version),
        ("run.googleapis.com/description", &pool.description),
        ("run.googleapis.com/launch-stage", stage_name(pool.launch_stage)),
        (MODE, "manual"),
        (COUNT, &manual),
    ] {
        if !value.is_empty() {
            all.insert(key.to_owned(), value.to_owned());
        }
    }
    all
}

fn status(pool: &Service) -> knative::WorkerPoolStatus {
    knative::WorkerPoolStatus {
        observed_generation: Some(pool.generation as i32),
        conditions: vec![condition("Ready", &pool.ready)],
        latest_created_revision_name: text(&pool.latest_created),
        latest_ready_revision_name: text(&pool.latest_ready),
        instance_splits: pool.serving.iter().map(|target| shown(target, target.latest)).collect(),
    }
}

fn asked_splits(asked: &[Traffic]) -> Vec<knative::InstanceSplit> {
    let latest = Traffic { percent: 100, ..Traffic::default() };
    let asked = if asked.is_empty() { std::slice::from_ref(&latest) } else { asked };
    asked.iter().map(|target| shown(target, target.revision.is_empty())).collect()
}

fn shown(target: &Traffic, is_latest: bool) -> knative::InstanceSplit {
    knative::InstanceSplit {
        latest_revision: is_latest.then_some(true),
        revision_name: text(&target.revision),
        percent: Some(target.percent as i32),
    }
}
