//! Instances: inserted, changed, deleted, listed.

use std::sync::Arc;

use apis::google::cloud::sql::v1beta4::{Settings, operation::SqlOperationType as Kind};
use kernel::{
    Caller, Resource, Result,
    mirror::Record,
    paging::{Limits, Page},
    store::Txn,
};
use prost::Message;

use super::{Found, Job, Sql, settings};
use crate::{
    names,
    postgres::admin,
    record::{InstanceRecord, State},
    refuse,
};

/// What forbids public addresses, where it is enforced.
const NO_PUBLIC_ADDRESS: &str = "sql.restrictPublicIp";
/// How many instances a page has.
const PAGE: Limits = Limits { usual: 500, most: 1000 };
/// Where an instance is when nobody says where.
const REGION: &str = "us-central1";

/// What a client asks for.
pub(crate) struct NewInstance {
    /// Its id.
    pub(crate) id: String,
    /// Its region; empty for the usual one.
    pub(crate) region: String,
    /// PostgreSQL's major version.
    pub(crate) major: u32,
    /// Its settings.
    pub(crate) settings: Settings,
    /// The password of `postgres`; empty for none.
    pub(crate) root_password: String,
}

/// How a client's settings meet those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// PATCH.
    Merge,
    /// PUT.
    Replace,
}

impl Sql {
    /// Starts to make an instance.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, and `INVALID_ARGUMENT` for whatever it may not be.
    pub(crate) async fn insert(
        self: &Arc<Self>,
        caller: &Caller,
        project: &str,
        new: NewInstance,
    ) -> Result<Job> {
        let project = self.project(project).await?;
        names::check_instance(&project.id, &new.id)?;
        let name = names::instance(&project.id, &new.id);
        let record = self.record(project.number, new)?;
        self.check_addresses(&name, &settings::decode(&record.settings))?;
        if self.instances.find(&name).is_some() {
            return Err(refuse::instance_exists());
        }
        let key = self.instances.key(&name);
        let also = Txn::new().check(&*key, 0).put(&*key, record.to_stored());
        self.begin(caller, Kind::Create, &name, also).await
    }

    /// Changes an instance's settings. New flags restart its server.
    pub(crate) async fn change(
        self: &Arc<Self>,
        caller: &Caller,
        found: &Found,
        given: &Settings,
        how: Change,
    ) -> Result<Job> {
        self.check_idle(found)?;
        if found.record.state() != State::Runnable {
            return Err(refuse::not_running());
        }
        if given.settings_version.is_some_and(|version| version != found.record.settings_version) {
            return Err(refuse::stale());
        }
        let before = settings::decode(&found.record.settings);
        let after = changed(&found.record, &before, given, how)?;
        if !settings::is_public(&before) {
            self.check_addresses(&found.name, &after)?;
        }
        let mut record = found.record.value.clone();
        record.settings = after.encode_to_vec();
        record.settings_version += 1;
        let key = self.instances.key(&found.name);
        let also = Txn::new().check(&*key, found.record.revision).put(&*key, record.to_stored());
        if settings::flags(&before) != settings::flags(&after) {
            return self.begin(caller, Kind::Update, &found.name, also).await;
        }
        match self.instances.mirror().commit(also).await? {
            kernel::store::Outcome::Committed(_) => self.done(caller, Kind::Update, &found.name).await,
            kernel::store::Outcome::Conflict(_) => Err(refuse::busy()),
        }
    }

    /// Restarts an instance's server.
    pub(crate) async fn restart_instance(self: &Arc<Self>, caller: &Caller, found: &Found) -> Result<Job> {
        self.check_idle(found)?;
        if found.record.state() != State::Runnable {
            return Err(refuse::not_running());
        }
        self.begin(caller, Kind::Restart, &found.name, Txn::new()).await
    }

    /// Starts to delete an instance.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for one that is protected, `ABORTED` while another operation works on it.
    pub(crate) async fn remove(self: &Arc<Self>, caller: &Caller, found: &Found) -> Result<Job> {
        if settings::decode(&found.record.settings).deletion_protection_enabled == Some(true) {
            return Err(refuse::protected());
        }
        self.check_idle(found)?;
        let mut record = found.record.value.clone();
        record.set_state(State::Deleting);
        let key = self.instances.key(&found.name);
        let also = Txn::new().check(&*key, found.record.revision).put(&*key, record.to_stored());
        self.begin(caller, Kind::Delete, &found.name, also).await
    }

    /// A page of a project's instances, and the token of the next.
    pub(crate) async fn instances(
        &self,
        project: &str,
        size: u32,
        token: &str,
    ) -> Result<(Vec<Found>, String)> {
        let project = self.project(project).await?;
        let prefix = names::instance(&project.id, "");
        let page = Page::new(PAGE, i32::try_from(size).unwrap_or(i32::MAX), token, &[&prefix])?;
        let (found, next) = self.instances.list(&prefix, &page, |_, _| true);
        let found = found.into_iter().map(|(name, record)| Found { name: name.to_string(), record });
        Ok((found.collect(), next))
    }

    /// Refuses a public address where an organization policy forbids those.
    fn check_addresses(&self, name: &str, settings: &Settings) -> Result<()> {
        let resource = Resource::new(crate::SERVICE, name);
        let enforced =
            || self.constraints.get().is_some_and(|policies| policies.enforces(NO_PUBLIC_ADDRESS, &resource));
        if !settings::is_public(settings) || !enforced() {
            return Ok(());
        }
        let project = resource.project_id().unwrap_or_default();
        let number = self.projects.known(project).map_or(0, |project| project.number);
        Err(refuse::invalid(format_args!(
            "Organization Policy check failure: the external IP of this instance violates the \
             constraints/{NO_PUBLIC_ADDRESS} enforced at the {number} project."
        )))
    }

    fn record(&self, project_number: u64, new: NewInstance) -> Result<InstanceRecord> {
        let NewInstance { region, major, mut settings, root_password, .. } = new;
        let region = if region.is_empty() { REGION.to_owned() } else { region };
        names::check_region(&region)?;
        let asked = settings.location_preference.as_ref().map_or("", |location| &*location.zone);
        let zone = if asked.is_empty() { format!("{region}-c") } else { asked.to_owned() };
        settings::fill(&mut settings, major, &zone);
        settings::check(&settings)?;
        settings.settings_version = None;
        let tag = crate::postgres::random_hex::<3>()?;
        Ok(InstanceRecord {
            uid: crate::postgres::random_hex::<8>()?,
            region,
            zone,
            major,
            settings: settings.encode_to_vec(),
            settings_version: 1,
            state: State::Creating as i32,
            created: Some(self.clock.timestamp()),
            service_account: format!("p{project_number}-{tag}@gcp-sa-cloud-sql.iam.gserviceaccount.com"),
            root_verifier: if root_password.is_empty() {
                String::new()
            } else {
                admin::verifier(&root_password)
            },
            installed: String::new(),
        })
    }
}

fn changed(record: &InstanceRecord, before: &Settings, given: &Settings, how: Change) -> Result<Settings> {
    let mut after = match how {
        Change::Merge => before.clone(),
        Change::Replace => {
            Settings { tier: before.tier.clone(), edition: before.edition, ..Default::default() }
        }
    };
    settings::merge(&mut after, given)?;
    settings::fill(&mut after, record.major, &record.zone);
    settings::check(&after)?;
    after.settings_version = None;
    Ok(after)
}
