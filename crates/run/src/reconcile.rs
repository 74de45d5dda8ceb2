//! Making true what was asked for.
//!
//! One task a service at a time: freeze the template as a revision, prove that an instance of it starts and
//! listens, then move the traffic. A later change overtakes an earlier one at once, wherever that is. Every step is
//! stored before the next begins, so that a haar that was killed goes on where it stopped.

use std::{sync::Arc, time::Duration};

use kernel::{Code, Error, Result, mirror::Record, ports::Image, store::Txn};

use crate::{
    Run,
    plan::{self, IMAGE_MISSING},
    record::{Condition, EnvSource, Revision, SecretVersion, Service, State, Template, Traffic, VolumeKind},
    rules, volumes, words,
};

/// Why a revision failed whose image cannot run here.
const IMAGE_UNFIT: &str = "ContainerImageUnsupported";
/// How often a step is tried that the store refuses, and how long to wait after the first time.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);

/// Why a revision cannot serve: the reason as a word, and as a sentence.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Failure { reason, message: message.into() }
    }

    pub(crate) fn into_condition(self) -> Condition {
        Condition {
            state: State::False.into(),
            reason: self.reason.into(),
            message: self.message,
            since: None,
        }
    }
}

impl Run {
    /// Starts to make a service's present generation true.
    pub(crate) fn reconcile_later(self: &Arc<Self>, service: &Service) {
        let (run, name, generation) = (self.clone(), service.resource_name(), service.generation);
        tokio::spawn(async move {
            let work = run.work(&name);
            {
                let _mine = work.turn.lock().await;
                let mut deletions = work.deletions.subscribe();
                tokio::select! {
                    () = run.persist(&name, generation) => {}
                    () = run.overtaken(&name, generation) => {}
                    _ = deletions.wait_for(|waiting| *waiting > 0) => {}
                }
            }
            run.leave(&name, work);
        });
    }

    /// Brings a generation about, however often the store refuses; gives up when it goes on refusing.
    async fn persist(self: &Arc<Self>, name: &str, generation: i64) {
        for attempt in 0..ATTEMPTS {
            let Err(error) = self.bring_about(name, generation).await else { return };
            tracing::warn!("{name}: attempt {attempt}: {error:?}");
            tokio::time::sleep(PAUSE * (1 << attempt)).await;
        }
        let why = Failure::new("Internal", "What became of the revision could not be stored.");
        if let Err(error) = self.conclude(name, generation, "", condition(&Err(why), self)).await {
            tracing::error!("{name}: given up until the next start: {error:?}");
        }
    }

    /// Waits until a generation is as it was asked for, or has failed.
    ///
    /// # Errors
    /// `ABORTED` when a later change overtook it, `NOT_FOUND` when it was deleted, otherwise why it failed.
    pub(crate) async fn settled(&self, name: &str, generation: i64) -> Result<Service> {
        let mut changes = self.services.mirror().changes();
        loop {
            changes.borrow_and_update();
            let service = self.services.get(name)?;
            if service.value.generation > generation {
                return Err(words::overtaken(&service.value.name, generation));
            }
            if service.value.observed_generation == generation {
                return self.outcome(&service.value);
            }
            if changes.changed().await.is_err() {
                return Err(Error::unavailable("The server is shutting down."));
            }
        }
    }

    /// Resolves when a generation is no longer the present one.
    async fn overtaken(&self, name: &str, generation: i64) {
        let mut changes = self.services.mirror().changes();
        loop {
            changes.borrow_and_update();
            if self.services.find(name).is_none_or(|service| service.value.generation != generation) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn bring_about(self: &Arc<Self>, name: &str, generation: i64) -> Result<()> {
        let Some(service) = self.services.find(name).filter(|held| held.value.generation == generation)
        else {
            return Ok(());
        };
        if service.value.observed_generation == generation {
            return Ok(());
        }
        let (revision, age) = self.freeze(&service.value).await?;
        if age == Age::Known {
            // Only traffic was moved, it seems: that does not wait for what a failed revision would take again.
            self.move_traffic(name, generation).await?;
        }
        let proven = match is(&revision.ready, State::True) {
            true => Ok(()),
            false => self.prove(&revision).await,
        };
        if self.fleet.is_closed() && proven.is_err() {
            // Haar is stopping, which says nothing about the revision. The next start goes on.
            std::future::pending::<()>().await;
        }
        self.settle(name, generation, &revision, proven).await?;
        self.route(name);
        self.collect(name).await
    }

    /// The revision of the present template: the one that has its name or is the latest, when nothing about it
    /// changed, or a new one.
    async fn freeze(&self, service: &Service) -> Result<(Revision, Age)> {
        let template = service.template.clone().unwrap_or_default();
        let name = if template.revision.is_empty() { &service.latest_created } else { &template.revision };
        let known = self.revisions.find(&revision_name(service, name)).map(|held| held.value.clone());
        if let Some(known) = known.filter(|known| same(known, &template)) {
            self.announce(service, &known.name, Txn::new()).await?;
            return Ok((known, Age::Known));
        }
        let revision = self.new_revision(service, template)?;
        let (key, stored) = (self.revisions.key(&revision.resource_name()), revision.to_stored());
        self.announce(service, &revision.name, Txn::new().check(&*key, 0).put(&*key, stored)).await?;
        Ok((revision, Age::New))
    }

    /// Says in the service which revision is its latest.
    async fn announce(&self, service: &Service, revision: &str, also: Txn) -> Result<()> {
        if service.latest_created == revision {
            return Ok(());
        }
        let (uid, generation) = (&service.uid, service.generation);
        let announced = self
            .services
            .update_with(&service.resource_name(), "", |service| {
                if (&service.uid, service.generation) != (uid, generation) {
                    return Err(words::overtaken(&service.name, generation));
                }
                service.latest_created = revision.to_owned();
                service.next_revision = service.next_revision.max(1) + 1;
                Ok(also.clone())
            })
            .await?;
        // The two kinds are mirrored apart: the new revision may not be in its mirror yet.
        self.revisions.mirror().wait_for(announced.revision).await
    }

    fn new_revision(&self, service: &Service, template: Template) -> Result<Revision> {
        let now = Some(self.ports.clock.timestamp());
        let name = match template.revision.is_empty() {
            true => format!("{}-{:05}-{}", service.name, service.next_revision.max(1), rules::suffix()?),
            false => template.revision.clone(),
        };
        Ok(Revision {
            project: service.project.clone(),
            region: service.region.clone(),
            service: service.name.clone(),
            name,
            uid: rules::new_uid()?,
            service_generation: service.generation,
            created: now,
            updated: now,
            creator: service.last_modifier.clone(),
            template: Some(template),
            image_digests: Vec::new(),
            ready: Some(Condition { state: State::Unknown.into(), since: now, ..Condition::default() }),
            service_uid: service.uid.clone(),
            kind: service.kind,
        })
    }

    /// Finds out whether a revision can serve, by having it do so.
    async fn prove(self: &Arc<Self>, revision: &Revision) -> Result<(), Failure> {
        let template = revision.template.clone().unwrap_or_default();
        let images = self.find_images(&template).await?;
        self.check_secrets(&revision.project, &template).await?;
        self.pin(revision, &images).await?;
        let id = plan::revision_id(revision);
        self.fleet.prove(self, &id).await
    }

    /// The images of a template's containers, in their order.
    ///
    /// # Errors
    /// As Cloud Run words it for one that is not there or does not run here.
    pub(crate) async fn find_images(&self, template: &Template) -> Result<Vec<Image>, Failure> {
        let mut images = Vec::new();
        for container in &template.containers {
            let found = self.ports.images.resolve(&container.image).await;
            images.push(found.map_err(|error| image_failure(&container.image, &error))?);
        }
        Ok(images)
    }

    /// Asks for every secret as the account that instances run as, so that a missing role fails the deploy and not the
    /// first request.
    ///
    /// # Errors
    /// As Cloud Run words it.
    pub(crate) async fn check_secrets(&self, project: &str, template: &Template) -> Result<(), Failure> {
        let read = async |wanted: &SecretVersion| {
            plan::read_secret(self, project, &template.service_account, wanted).await
        };
        for variable in template.containers.iter().flat_map(|container| &container.env) {
            if let Some(EnvSource::Secret(wanted)) = &variable.source {
                plan::text(&read(wanted).await?)?;
            }
        }
        for volume in &template.volumes {
            if let Some(VolumeKind::Secret(files)) = &volume.kind {
                for wanted in volumes::versions(files) {
                    read(&wanted).await?;
                }
            }
        }
        Ok(())
    }

    /// Freezes the digests: what a tag means later is of no concern to this revision.
    async fn pin(&self, revision: &Revision, images: &[Image]) -> Result<(), Failure> {
        let digests: Vec<String> = images.iter().map(|image| image.digest.clone()).collect();
        self.revisions
            .update(&revision.resource_name(), "", |revision| {
                revision.image_digests = digests.clone();
                Ok(())
            })
            .await
            .map(drop)
            .map_err(|error| Failure::new("Internal", error.message()))
    }

    /// Writes down how it went, in the revision and in the service.
    async fn settle(
        self: &Arc<Self>,
        name: &str,
        generation: i64,
        revision: &Revision,
        proven: Result<(), Failure>,
    ) -> Result<()> {
        let ready = condition(&proven, self);
        self.revisions
            .update(&revision.resource_name(), "", |revision| {
                revision.ready = Some(ready.clone());
                revision.updated = ready.since;
                Ok(())
            })
            .await?;
        self.conclude(name, generation, &revision.name, ready).await
    }

    /// Writes into a service what became of a generation.
    async fn conclude(
        self: &Arc<Self>,
        name: &str,
        generation: i64,
        revision: &str,
        ready: Condition,
    ) -> Result<()> {
        let change = |service: &mut Service| {
            if service.generation == generation {
                service.observed_generation = generation;
                let configured = configured(service, revision, &ready);
                let routed = self.routed(service, &configured);
                let failed = [&configured, &routed].into_iter().find(|c| c.state() == State::False);
                service.ready = Some(failed.unwrap_or(&configured).clone());
                service.configurations_ready = Some(configured);
                service.routes_ready = Some(routed);
            }
            Ok(())
        };
        if let Some(current) = self.services.find(name) {
            let mut next = current.value.clone();
            change(&mut next)?;
            self.route_ahead(&next);
        }
        self.services.update(name, "", change).await.map(drop)
    }

    /// Moves the traffic of a service as far as it goes to revisions that are ready.
    async fn move_traffic(self: &Arc<Self>, name: &str, generation: i64) -> Result<()> {
        let change = |service: &mut Service| {
            if service.generation == generation
                && let Ok(serving) = self.serving(service)
            {
                service.serving = serving;
            }
            Ok(())
        };
        self.services.update(name, "", change).await?;
        self.route(name);
        Ok(())
    }

    /// Points the traffic where it should go, or leaves it where it was and says why.
    fn routed(&self, service: &mut Service, configured: &Condition) -> Condition {
        match self.serving(service) {
            Ok(serving) => {
                service.serving = serving;
                Condition { state: State::True.into(), since: configured.since, ..Condition::default() }
            }
            Err(_) if configured.state() == State::False => configured.clone(),
            Err(failure) => Condition { since: configured.since, ..failure.into_condition() },
        }
    }

    /// Where requests go, given which revisions are ready.
    fn serving(&self, service: &Service) -> Result<Vec<Traffic>, Failure> {
        let all_to_latest = [Traffic { percent: 100, ..Traffic::default() }];
        let wanted = if service.traffic.is_empty() { &all_to_latest[..] } else { &service.traffic };
        wanted.iter().map(|target| self.serving_target(service, target)).collect()
    }

    fn serving_target(&self, service: &Service, target: &Traffic) -> Result<Traffic, Failure> {
        let latest = target.revision.is_empty();
        let name = if latest { &service.latest_ready } else { &target.revision };
        let Some(revision) = self.revisions.find(&revision_name(service, name)) else {
            return Err(Failure::new("RevisionMissing", words::no_such_revision(name)));
        };
        match &revision.value.ready {
            Some(ready) if ready.state() == State::True => {
                Ok(Traffic { revision: name.clone(), latest, ..target.clone() })
            }
            ready => {
                let why = ready.as_ref().map_or("", |ready| &ready.message);
                Err(Failure::new("RevisionFailed", words::revision_not_ready(name, why)))
            }
        }
    }

    fn outcome(&self, service: &Service) -> Result<Service> {
        let Some(ready) = service.ready.as_ref().filter(|ready| ready.state() == State::False) else {
            return Ok(service.clone());
        };
        let latest = self.revisions.find(&revision_name(service, &service.latest_created));
        let reason = latest.and_then(|latest| latest.value.ready.clone()).unwrap_or_default().reason;
        Err(Error::new(plan::code_of(&reason), ready.message.clone()))
    }
}

/// Whether a revision is new.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    Known,
}

/// Why a revision has no image: there is none, or none that runs here.
fn image_failure(image: &str, error: &Error) -> Failure {
    match error.code() {
        Code::InvalidArgument => Failure::new(IMAGE_UNFIT, words::image_unfit(image, error.message())),
        _ => Failure::new(IMAGE_MISSING, error.message()),
    }
}

/// What is said of a revision.
fn condition(proven: &Result<(), Failure>, run: &Run) -> Condition {
    let since = Some(run.ports.clock.timestamp());
    match proven {
        Ok(()) => Condition { state: State::True.into(), since, ..Condition::default() },
        Err(failure) => Condition { since, ..failure.clone().into_condition() },
    }
}

/// What is said of a service's latest revision.
fn configured(service: &mut Service, revision: &str, ready: &Condition) -> Condition {
    if ready.state() == State::True {
        service.latest_ready = revision.to_owned();
        return ready.clone();
    }
    Condition {
        reason: "RevisionFailed".into(),
        message: words::revision_not_ready(revision, &ready.message),
        ..ready.clone()
    }
}

fn is(condition: &Option<Condition>, state: State) -> bool {
    condition.as_ref().is_some_and(|condition| condition.state() == state)
}

/// Whether a revision is what a template would make.
pub(crate) fn same(revision: &Revision, template: &Template) -> bool {
    revision.template.as_ref() == Some(template)
}

fn revision_name(service: &Service, revision: &str) -> String {
    format!("{}/revisions/{revision}", service.resource_name())
}
