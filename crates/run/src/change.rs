//! What people ask for: a service or a worker pool created, replaced, deleted.
//!
//! A change is stored with the operation that will carry it out, and answered; nothing waits for containers.

use std::{collections::BTreeMap, sync::Arc};

use kernel::{Caller, Code, Error, Resource, Result, collection::Held, store::Txn};

use crate::{
    Run,
    engine::RUN,
    reconcile::same,
    record::{Condition, Ingress, Kind, Scaling, Service, State, Template, Traffic},
    rules, words,
};

/// What a deployer needs on the account that instances run as; Cloud Run spells it like this.
pub(crate) const ACT_AS: &str = "iam.serviceaccounts.actAs";

/// What somebody asks a service or a worker pool to be: everything but what the system finds out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) description: String,
    pub(crate) ingress: i32,
    pub(crate) invoker_iam_disabled: bool,
    pub(crate) default_uri_disabled: bool,
    pub(crate) custom_audiences: Vec<String>,
    pub(crate) template: Template,
    pub(crate) traffic: Vec<Traffic>,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) client: String,
    pub(crate) client_version: String,
    pub(crate) launch_stage: i32,
    pub(crate) revision: NewRevision,
}

/// When a change makes a new revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NewRevision {
    /// When the template changes.
    #[default]
    IfChanged,
    /// Always.
    Always,
}

/// Where a service or a worker pool is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    pub(crate) project: String,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn resource_name(&self) -> String {
        format!("{}/{}/{}", self.location(), self.kind.collection(), self.name)
    }

    /// `projects/P/locations/R`.
    pub(crate) fn location(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.region)
    }

    /// The service or worker pool as permission checks see it.
    pub(crate) fn resource(&self) -> Resource {
        Resource::new(RUN, self.resource_name())
    }
}

impl Run {
    /// Stores a new service and starts to make it true.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming all bad fields, `PERMISSION_DENIED` without `actAs` on its account,
    /// `ALREADY_EXISTS`.
    pub(crate) async fn create(
        self: &Arc<Self>,
        caller: &Caller,
        place: &Place,
        desired: Desired,
    ) -> Result<Held<Service>> {
        let desired = self.complete(caller, place, desired)?;
        let now = Some(self.ports.clock.timestamp());
        let mut service = Service {
            project: place.project.clone(),
            region: place.region.clone(),
            name: place.name.clone(),
            uid: rules::new_uid()?,
            created: now,
            creator: who(caller),
            next_revision: 1,
            kind: place.kind.into(),
            ..Service::default()
        };
        self.ask(&mut service, desired, who(caller));
        let held = self.services.create(&place.resource_name(), service).await?;
        self.reconcile_later(&held.value);
        Ok(held)
    }

    /// Stores what a service shall become and starts to make it true.
    ///
    /// # Errors
    /// Those of [`Run::create`]; `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn replace(
        self: &Arc<Self>,
        caller: &Caller,
        place: &Place,
        etag: &str,
        desired: Desired,
    ) -> Result<Held<Service>> {
        self.services.get(&place.resource_name())?;
        let desired = self.complete(caller, place, desired)?;
        let held = self
            .services
            .update(&place.resource_name(), etag, |service| {
                self.ask(service, desired.clone(), who(caller));
                Ok(())
            })
            .await
            .map_err(|error| self.conflict(place, etag, error))?;
        self.reconcile_later(&held.value);
        Ok(held)
    }

    /// Deletes a service with its revisions and its policy; its instances finish what they are doing.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn delete(self: &Arc<Self>, place: &Place, etag: &str) -> Result<Held<Service>> {
        let (run, name, etag) = (self.clone(), place.resource_name(), etag.to_owned());
        // Goes on when the caller leaves: half a deletion helps nobody.
        tokio::spawn(async move {
            let work = run.work(&name);
            work.deletions.send_modify(|waiting| *waiting += 1);
            let deleted = {
                let _mine = work.turn.lock().await;
                run.delete_now(&name, &etag).await
            };
            work.deletions.send_modify(|waiting| *waiting -= 1);
            run.leave(&name, work);
            deleted
        })
        .await
        .map_err(Error::internal)?
    }

    async fn delete_now(self: &Arc<Self>, name: &str, etag: &str) -> Result<Held<Service>> {
        let service = self.services.get(name)?;
        let policy = self.ports.policies.key(&service.value.resource());
        let deleted = self.services.delete_with(name, etag, |_| Ok(Txn::new().delete(policy.clone()))).await;
        if deleted.is_err() && service.value.observed_generation < service.value.generation {
            // Work on it gave way to us.
            self.reconcile_later(&service.value);
        }
        let deleted = deleted?;
        self.unroute(&deleted.value);
        for revision in self.revisions_of(&deleted.value) {
            let name = revision.value.resource_name();
            if let Err(error) = self.revisions.delete(&name, "").await {
                // The next start sweeps it away.
                tracing::warn!("{name} is not deleted: {error:?}");
            }
        }
        // What is created under the same name at once has no policy.
        self.ports.policies.catch_up().await?;
        Ok(deleted)
    }

    /// Checks a change without making it.
    ///
    /// # Errors
    /// Those that making it would give.
    pub(crate) fn try_out(&self, caller: &Caller, place: &Place, desired: Desired) -> Result<()> {
        self.complete(caller, place, desired).map(drop)
    }

    /// Says of an etag that does not match which one would have.
    fn conflict(&self, place: &Place, etag: &str, error: Error) -> Error {
        match self.services.find(&place.resource_name()) {
            Some(current) if error.code() == Code::Aborted && !etag.is_empty() => {
                words::conflict(&place.name, etag, &current.etag())
            }
            _ => error,
        }
    }

    /// Fills in defaults and checks everything that does not depend on containers.
    fn complete(&self, caller: &Caller, place: &Place, mut desired: Desired) -> Result<Desired> {
        let number = self.ports.projects.known(&place.project).map_or(0, |project| project.number);
        rules::complete(place.kind, &mut desired.template, number);
        if place.kind == Kind::WorkerPool {
            desired.scaling.get_or_insert_default().manual.get_or_insert(1);
        }
        rules::name_containers(&mut desired.template, &place.name);
        desired.template.edition = self.edition(place, desired.revision);
        rules::check(place, &desired)?;
        self.check_revisions(place, &desired)?;
        self.check_ingress(place, &desired)?;
        let account = &desired.template.service_account;
        let resource = Resource::new("iam.googleapis.com", format!("projects/-/serviceAccounts/{account}"));
        caller.require(ACT_AS, &resource)?;
        if !self.ports.identity.exists(account) {
            return Err(caller.refusal(ACT_AS, &resource));
        }
        Ok(desired)
    }

    /// What tells the template from one that is alike.
    fn edition(&self, place: &Place, wanted: NewRevision) -> i64 {
        let Some(current) = self.services.find(&place.resource_name()) else { return 0 };
        match wanted {
            NewRevision::Always => current.generation,
            NewRevision::IfChanged => current.template.as_ref().map_or(0, |template| template.edition),
        }
    }

    /// Refuses an ingress that an organization policy does not allow.
    fn check_ingress(&self, place: &Place, desired: &Desired) -> Result<()> {
        let Some(policies) = self.constraints.get().filter(|_| place.kind == Kind::Service) else {
            return Ok(());
        };
        let value = match Ingress::try_from(desired.ingress) {
            Ok(Ingress::Internal) => "internal",
            Ok(Ingress::InternalAndLoadBalancer) => "internal-and-cloud-load-balancing",
            _ => "all",
        };
        match policies.allows("run.allowedIngress", &place.resource(), &[value]) {
            true => Ok(()),
            false => Err(words::ingress_forbidden(&place.project, &place.name, value)),
        }
    }

    /// Refuses a name that another revision has, and traffic to revisions that are not there.
    fn check_revisions(&self, place: &Place, desired: &Desired) -> Result<()> {
        let find =
            |revision: &str| self.revisions.find(&format!("{}/revisions/{revision}", place.resource_name()));
        let new = &desired.template.revision;
        if let Some(taken) = find(new).filter(|taken| !same(&taken.value, &desired.template)) {
            return Err(words::revision_exists(&taken.value.name));
        }
        let missing = desired
            .traffic
            .iter()
            .map(|target| &target.revision)
            .find(|revision| !revision.is_empty() && *revision != new && find(revision).is_none());
        missing.map_or(Ok(()), |revision| Err(Error::precondition(words::no_such_revision(revision))))
    }

    /// Writes into a service what it shall be, as its next generation.
    fn ask(&self, service: &mut Service, desired: Desired, modifier: String) {
        let now = self.ports.clock.timestamp();
        service.labels = desired.labels;
        service.annotations = desired.annotations;
        service.description = desired.description;
        service.ingress = desired.ingress;
        service.invoker_iam_disabled = desired.invoker_iam_disabled;
        service.default_uri_disabled = desired.default_uri_disabled;
        service.custom_audiences = desired.custom_audiences;
        service.template = Some(desired.template);
        service.traffic = desired.traffic;
        service.scaling = desired.scaling;
        service.client = desired.client;
        service.client_version = desired.client_version;
        service.launch_stage = desired.launch_stage;
        service.generation += 1;
        service.updated = Some(now);
        service.last_modifier = modifier;
        let unknown =
            Some(Condition { state: State::Unknown.into(), since: Some(now), ..Condition::default() });
        service.ready = unknown.clone();
        service.configurations_ready = unknown.clone();
        service.routes_ready = unknown;
    }
}

pub(crate) fn who(caller: &Caller) -> String {
    caller.principal().email().unwrap_or_default().to_owned()
}
