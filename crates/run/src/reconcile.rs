//! Making true what was asked for.
//!
//! One task a service at a time: freeze the template as a revision, prove that an instance of it starts and
//! listens, then move the traffic. A later change overtakes an earlier one at once, wherever that is. Every step is
//! stored before the next begins, so that a haar that was killed goes on where it stopped.

use std::sync::Arc;

use kernel::{Error, Result, mirror::Record, ports::Image, store::Txn};

use crate::{
    Run, plan,
    record::{Condition, EnvSource, Revision, Service, State, Template, Traffic},
    rules, words,
};

/// Why a revision cannot serve: the reason as a word, and as a sentence.
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Failure { reason, message: message.into() }
    }
}

impl Run {
    /// Starts to make a service's present generation true.
    pub(crate) fn reconcile_later(self: &Arc<Self>, service: &Service) {
        let (run, name, generation) = (self.clone(), service.resource_name(), service.generation);
        tokio::spawn(async move {
            let turn = run.turn(&name);
            let _mine = turn.lock().await;
            tokio::select! {
                done = run.bring_about(&name, generation) => {
                    if let Err(error) = done {
                        tracing::error!("{name}: {error:?}");
                    }
                }
                () = run.overtaken(&name, generation) => tracing::debug!("{name}: generation {generation} was overtaken"),
            }
        });
    }

    /// Waits until a generation is as it was asked for, or has failed.
    ///
    /// # Errors
    /// `ABORTED` when a later change overtook it, `NOT_FOUND` when it was deleted, otherwise why it failed.
    pub(crate) async fn settled(&self, name: &str, generation: i64) -> Result<Service> {
        let mut changes = self.services.mirror().changes();
        loop {
            let service = self.services.get(name)?;
            if service.value.generation > generation {
                return Err(words::overtaken(&service.value.name, generation));
            }
            if service.value.observed_generation == generation {
                return outcome(service.value.clone());
            }
            if changes.changed().await.is_err() {
                return Err(Error::unavailable("The server is shutting down."));
            }
        }
    }

    /// Resolves when a generation is no longer the present one.
    async fn overtaken(&self, name: &str, generation: i64) {
        let mut changes = self.services.mirror().changes();
        while self.services.find(name).is_some_and(|service| service.value.generation == generation) {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn bring_about(self: &Arc<Self>, name: &str, generation: i64) -> Result<()> {
        let service = self.services.get(name)?.value.clone();
        if service.generation != generation {
            return Ok(());
        }
        let revision = self.freeze(&service).await?;
        let proven = match is(&revision.ready, State::True) {
            true => Ok(()),
            false => self.prove(&revision).await,
        };
        self.settle(name, generation, &revision, proven).await?;
        if let Some(service) = self.services.find(name) {
            self.route(&service.value);
        }
        Ok(())
    }

    /// The revision of the present template: the latest one, when nothing about it changed, or a new one.
    async fn freeze(&self, service: &Service) -> Result<Revision> {
        let template = service.template.clone().unwrap_or_default();
        let latest = self
            .revisions
            .find(&revision_name(service, &service.latest_created))
            .map(|held| held.value.clone());
        if let Some(latest) =
            latest.filter(|latest| same(latest, &template) && !is(&latest.ready, State::False))
        {
            return Ok(latest);
        }
        let revision = self.new_revision(service, template)?;
        let (key, stored) = (self.revisions.key(&revision.resource_name()), revision.to_stored());
        let txn = Txn::new().check(&*key, 0).put(&*key, stored);
        self.services
            .update_with(&service.resource_name(), "", |service| {
                service.latest_created = revision.name.clone();
                service.next_revision = service.next_revision.max(1) + 1;
                Ok(txn.clone())
            })
            .await?;
        Ok(revision)
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
        })
    }

    /// Finds out whether a revision can serve, by having it do so.
    async fn prove(self: &Arc<Self>, revision: &Revision) -> Result<(), Failure> {
        let images = self.find_images(revision).await?;
        self.check_secrets(revision).await?;
        self.pin(revision, &images).await?;
        let id = plan::revision_id(revision);
        self.fleet.prove(self, &id).await
    }

    async fn find_images(&self, revision: &Revision) -> Result<Vec<Image>, Failure> {
        let mut images = Vec::new();
        for container in &revision.template.clone().unwrap_or_default().containers {
            let found = self.ports.images.resolve(&container.image).await;
            images.push(found.map_err(|error| Failure::new("ContainerMissing", error.message()))?);
        }
        Ok(images)
    }

    /// Asks for every secret as the revision's account, so that a missing role fails the deploy and not the first
    /// request.
    async fn check_secrets(&self, revision: &Revision) -> Result<(), Failure> {
        let template = revision.template.clone().unwrap_or_default();
        for variable in template.containers.iter().flat_map(|container| &container.env) {
            if let Some(EnvSource::Secret(wanted)) = &variable.source {
                plan::read_secret(self, revision, wanted)
                    .await
                    .map_err(|message| Failure::new("SecretsAccessCheckFailed", message))?;
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
        &self,
        name: &str,
        generation: i64,
        revision: &Revision,
        proven: Result<(), Failure>,
    ) -> Result<()> {
        let now = Some(self.ports.clock.timestamp());
        let ready = match &proven {
            Ok(()) => Condition { state: State::True.into(), since: now, ..Condition::default() },
            Err(failure) => Condition {
                state: State::False.into(),
                reason: failure.reason.into(),
                message: failure.message.clone(),
                since: now,
            },
        };
        let condition = ready.clone();
        self.revisions
            .update(&revision.resource_name(), "", |revision| {
                revision.ready = Some(condition.clone());
                revision.updated = now;
                Ok(())
            })
            .await?;
        self.services
            .update(name, "", |service| {
                if service.generation == generation {
                    conclude(service, revision, &ready, generation);
                }
                Ok(())
            })
            .await
            .map(drop)
    }
}

/// Writes into a service what became of a generation.
fn conclude(service: &mut Service, revision: &Revision, ready: &Condition, generation: i64) {
    service.observed_generation = generation;
    if ready.state() == State::True {
        service.latest_ready = revision.name.clone();
        service.serving = serving(service);
        for condition in [&mut service.ready, &mut service.configurations_ready, &mut service.routes_ready] {
            *condition = Some(ready.clone());
        }
        return;
    }
    let failed = Condition {
        reason: "RevisionFailed".into(),
        message: words::revision_not_ready(&revision.name, &ready.message),
        ..ready.clone()
    };
    service.ready = Some(failed.clone());
    service.configurations_ready = Some(failed.clone());
    // What served before goes on serving.
    let routed = Condition { state: State::True.into(), since: ready.since, ..Condition::default() };
    service.routes_ready = Some(if service.serving.is_empty() { failed } else { routed });
}

/// Where requests go when the latest revision is ready.
fn serving(service: &Service) -> Vec<Traffic> {
    let all_to_latest = [Traffic { percent: 100, ..Traffic::default() }];
    let wanted = if service.traffic.is_empty() { &all_to_latest[..] } else { &service.traffic };
    wanted
        .iter()
        .map(|target| match target.revision.is_empty() {
            true => Traffic { revision: service.latest_ready.clone(), latest: true, ..target.clone() },
            false => target.clone(),
        })
        .collect()
}

fn outcome(service: Service) -> Result<Service> {
    match &service.ready {
        Some(ready) if ready.state() == State::False => {
            let code = if ready.message.contains("not found") {
                kernel::Code::NotFound
            } else {
                kernel::Code::FailedPrecondition
            };
            Err(Error::new(code, ready.message.clone()))
        }
        _ => Ok(service),
    }
}

fn is(condition: &Option<Condition>, state: State) -> bool {
    condition.as_ref().is_some_and(|condition| condition.state() == state)
}

/// Whether a revision is what a template would make.
fn same(revision: &Revision, template: &Template) -> bool {
    revision.template.as_ref().is_some_and(|frozen| {
        let name = if template.revision.is_empty() { String::new() } else { revision.name.clone() };
        *frozen == Template { revision: name, ..template.clone() }
    })
}

fn revision_name(service: &Service, revision: &str) -> String {
    format!("{}/revisions/{revision}", service.resource_name())
}
