//! What people ask for: a service created, replaced, deleted.
//!
//! A change is stored with the operation that will carry it out, and answered; nothing waits for containers.

use std::{collections::BTreeMap, sync::Arc};

use kernel::{Caller, Resource, Result, collection::Held, store::Txn};

use crate::{
    Run,
    record::{Condition, Scaling, Service, State, Template, Traffic},
    rules,
};

/// What somebody asks a service to be: everything but what the system finds out.
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
}

/// Where a service is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) project: String,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn resource_name(&self) -> String {
        format!("projects/{}/locations/{}/services/{}", self.project, self.region, self.name)
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
            .await?;
        self.reconcile_later(&held.value);
        Ok(held)
    }

    /// Deletes a service with its revisions and its policy; its instances finish what they are doing.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` for an etag that does not match.
    pub(crate) async fn delete(self: &Arc<Self>, place: &Place, etag: &str) -> Result<Held<Service>> {
        let name = place.resource_name();
        let turn = self.turn(&name);
        let _mine = turn.lock().await;
        let service = self.services.get(&name)?;
        self.unroute(&service.value);
        let policy = self.ports.policies.key(&service.value.resource());
        let deleted = self.services.delete_with(&name, etag, |_| Ok(Txn::new().delete(policy.clone()))).await;
        if deleted.is_err() {
            self.route(&service.value);
        }
        let deleted = deleted?;
        for revision in self.revisions_of(&deleted.value) {
            let _ = self.revisions.delete(&revision.value.resource_name(), "").await;
        }
        Ok(deleted)
    }

    /// Checks a change without making it.
    ///
    /// # Errors
    /// Those that making it would give.
    pub(crate) fn try_out(&self, caller: &Caller, place: &Place, desired: Desired) -> Result<()> {
        self.complete(caller, place, desired).map(drop)
    }

    /// Fills in defaults and checks everything that does not depend on containers.
    fn complete(&self, caller: &Caller, place: &Place, mut desired: Desired) -> Result<Desired> {
        let number = self.ports.projects.known(&place.project).map_or(0, |project| project.number);
        rules::complete(&mut desired.template, number);
        rules::check(place, &desired)?;
        let account = &desired.template.service_account;
        let resource = Resource::new(
            "iam.googleapis.com",
            format!("projects/{}/serviceAccounts/{account}", rules::project_of(account, &place.project)),
        );
        caller.require("iam.serviceaccounts.actAs", &resource)?;
        Ok(desired)
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

fn who(caller: &Caller) -> String {
    caller.principal().email().unwrap_or_default().to_owned()
}
