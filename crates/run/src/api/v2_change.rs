//! Changes in v2, of services and of worker pools alike: they differ in what is written, not in how it is changed.
//!
//! A change answers with an operation, which ends when it is true or has failed.

use std::sync::Arc;

use apis::{google::longrunning::Operation, schema::Message};
use kernel::{
    Caller, Code, Error, Resource, Result,
    collection::Held,
    mask,
    mirror::Versioned,
    operations::{Plan, Progress, to_any},
};
use prost_types::{Any, FieldMask, Timestamp};

use super::v2_read;
use crate::{
    Run,
    change::{Desired, NewRevision, Place},
    engine::RUN,
    record::{Kind, Service},
};

/// What operations of Cloud Run are resumed by.
const KIND: &str = "run.service";
/// How often a change of some fields is merged anew with what changed meanwhile.
const MERGES: u32 = 8;

/// How v2 writes what has revisions.
pub(super) trait Form: prost::Message + Clone + Default {
    /// Which of the two it is.
    const KIND: Kind;
    /// The message's full name.
    const NAME: &'static str;
    /// Our record as it is shown.
    fn of(run: &Run, held: &Versioned<Service>) -> Self;
    /// What it asks for.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for values that cannot be read.
    fn desired(&self) -> Result<Desired>;
    /// Its resource name.
    fn name(&self) -> &str;
    /// The state that it was read in.
    fn etag(&mut self) -> &mut String;
    /// Notes that it is gone.
    fn set_deleted(&mut self, at: Timestamp);
}

/// How a change is asked for.
pub(super) struct Asked {
    pub(super) mask: Option<FieldMask>,
    pub(super) purpose: Purpose,
    pub(super) absent: Absent,
    pub(super) revision: NewRevision,
}

/// Whether something is done or only tried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Do,
    Validate,
}

/// What happens when there is nothing to change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Fails,
    IsCreated,
}

impl Purpose {
    pub(super) fn of(validate_only: bool) -> Purpose {
        if validate_only { Purpose::Validate } else { Purpose::Do }
    }
}

impl Absent {
    pub(super) fn of(allow_missing: bool) -> Absent {
        if allow_missing { Absent::IsCreated } else { Absent::Fails }
    }
}

pub(super) async fn create<F: Form>(
    run: &Arc<Run>,
    caller: &Caller,
    place: &Place,
    asked: F,
    purpose: Purpose,
) -> Result<Operation> {
    let desired = asked.desired()?;
    if purpose == Purpose::Validate {
        run.try_out(caller, place, desired)?;
        return finished(run, place, &asked).await;
    }
    let held = run.create(caller, place, desired).await?;
    run.operation(&held).await
}

pub(super) async fn update<F: Form>(
    run: &Arc<Run>,
    caller: &Caller,
    mut patch: F,
    asked: &Asked,
) -> Result<Operation> {
    let is_merged = asked.mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
    let has_etag = !patch.etag().is_empty();
    for _ in 0..MERGES {
        match try_update(run, caller, patch.clone(), asked).await {
            // What was merged with has changed since; without an etag of the client's that is no concern of its.
            Err(error) if is_merged && !has_etag && error.code() == Code::Aborted => {}
            outcome => return outcome,
        }
    }
    try_update(run, caller, patch, asked).await
}

/// Updates what nobody else changes meanwhile.
async fn try_update<F: Form>(
    run: &Arc<Run>,
    caller: &Caller,
    mut patch: F,
    asked: &Asked,
) -> Result<Operation> {
    let place = run.place(F::KIND, patch.name()).await?;
    let paths = asked.mask.as_ref().map(|mask| &mask.paths[..]).unwrap_or_default();
    let current = run.services.find(&place.resource_name());
    if let (Some(current), true, false) = (&current, patch.etag().is_empty(), paths.is_empty()) {
        *patch.etag() = current.etag();
    }
    let whole = match (&current, paths.is_empty()) {
        (Some(current), false) => merge(&F::of(run, current), &patch, paths)?,
        _ => patch.clone(),
    };
    let mut desired = Desired { revision: asked.revision, ..whole.desired()? };
    if let Some(template) = current.as_ref().and_then(|current| current.value.template.as_ref()) {
        v2_read::keep_unsaid(&mut desired.template, template);
    }
    if asked.purpose == Purpose::Validate {
        run.try_out(caller, &place, desired)?;
        return finished(run, &place, &whole).await;
    }
    let creates = current.is_none() && asked.absent == Absent::IsCreated;
    if creates {
        let permission = format!("run.{}.create", permission_noun(F::KIND));
        caller.require(&permission, &Resource::new(RUN, place.location()))?;
    }
    let held = match creates {
        true => run.create(caller, &place, desired).await?,
        false => run.replace(caller, &place, patch.etag(), desired).await?,
    };
    run.operation(&held).await
}

pub(super) async fn delete<F: Form>(
    run: &Arc<Run>,
    name: &str,
    etag: &str,
    purpose: Purpose,
) -> Result<Operation> {
    let place = run.place(F::KIND, name).await?;
    if purpose == Purpose::Validate {
        let held = run.services.get(&place.resource_name())?;
        return finished(run, &place, &F::of(run, &held)).await;
    }
    let held = run.delete(&place, etag).await?;
    let mut deleted = F::of(run, &held);
    deleted.set_deleted(run.ports.clock.timestamp());
    finished(run, &place, &deleted).await
}

/// An operation that is done: nothing has to be brought about.
async fn finished<F: Form>(run: &Arc<Run>, place: &Place, shown: &F) -> Result<Operation> {
    let any = to_any(F::NAME, shown);
    run.operations.finished(plan(place).metadata(any.clone()), any).await
}

/// What permissions call it.
fn permission_noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::WorkerPool => "workerpools",
    }
}

pub(super) fn plan(place: &Place) -> Plan {
    Plan::new(place.location(), KIND)
}

/// The current state with the masked fields of a patch.
fn merge<F: Form>(current: &F, patch: &F, paths: &[String]) -> Result<F> {
    let message =
        Message::by_name(F::NAME).ok_or_else(|| Error::internal("the interface tables lack Cloud Run"))?;
    mask::merge(message, current, patch, paths)
}

impl Run {
    /// The operation that ends when a change is true.
    async fn operation(self: &Arc<Self>, held: &Held<Service>) -> Result<Operation> {
        let service = &held.value;
        let plan = Plan::new(format!("projects/{}/locations/{}", service.project, service.region), KIND);
        let memo = format!("{}\n{}", service.resource_name(), service.generation);
        let (run, name, generation) = (self.clone(), service.resource_name(), service.generation);
        let work = move |progress| async move { run.finished_change(&progress, &name, generation).await };
        self.operations.start(plan.metadata(self.shown(held)).memo(memo), work).await
    }

    async fn finished_change(&self, progress: &Progress, name: &str, generation: i64) -> Result<Any> {
        self.settled(name, generation).await?;
        let shown = self.shown(&*self.services.get(name)?);
        // gcloud reads the name of the new revision there.
        progress.metadata(shown.clone()).await?;
        Ok(shown)
    }

    fn shown(&self, held: &Versioned<Service>) -> Any {
        use apis::google::cloud::run::v2::{Service, WorkerPool};
        match held.value.kind() {
            Kind::Service => to_any(Service::NAME, &Service::of(self, held)),
            Kind::WorkerPool => to_any(WorkerPool::NAME, &WorkerPool::of(self, held)),
        }
    }

    /// Goes on with the operations that a restart interrupted.
    pub(crate) fn resume_operations(self: &Arc<Self>) {
        for left in self.operations.unfinished(KIND) {
            let memo = String::from_utf8_lossy(&left.memo).into_owned();
            let Some((name, generation)) = memo.split_once('\n') else { continue };
            let (run, name, generation) = (self.clone(), name.to_owned(), generation.parse().unwrap_or(0));
            let work = move |progress| async move { run.finished_change(&progress, &name, generation).await };
            if let Err(error) = self.operations.resume(&left.name, work) {
                tracing::warn!("{} is not resumed: {error:?}", left.name);
            }
        }
    }
}
