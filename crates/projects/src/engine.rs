//! What is known of projects, and how it changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, Weak},
};

use aws_lc_rs::digest;
use kernel::{
    BoxFuture, Caller, Code, Error, Principal, Resource, Result,
    clock::Clock,
    collection::{Collection, Held, Wording},
    error::Detail,
    mirror::{Change, Mirror},
    names::{RESOURCE_MANAGER, check_project_id},
    ports::{self, Policies, Project},
    store::{Store, Txn},
    time::Micros,
};

use crate::{
    record::{FOLDERS, FolderRecord, Lifecycle, NUMBERS, PROJECTS, ProjectRecord, Switch},
    rules,
};

mod folders;
mod list;

pub(crate) use folders::{FolderSettings, organization_made};
pub(crate) use list::Seen;

/// How often another number is tried when one is taken: numbers clash once in many thousand projects.
const ATTEMPTS: u32 = 64;

/// The service that enables the others: switched off, nothing could be switched on again.
const ALWAYS_ENABLED: &str = "serviceusage.googleapis.com";

/// What becomes of an id that nobody has used yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It becomes a project, if it is well formed.
    #[default]
    Open,
    /// It is refused, as Google refuses it.
    Strict,
}

/// The projects there are. Made by [`Projects::open`]; served by [`methods`](crate::methods).
pub struct Projects {
    projects: Collection<ProjectRecord>,
    folders: Collection<FolderRecord>,
    known: Arc<Known>,
    clock: Clock,
    mode: Mode,
    policies: OnceLock<Weak<dyn Policies>>,
}

/// Projects by id and by number, to be read without waiting.
type Known = papaya::HashMap<Box<str>, Arc<Entry>>;

struct Entry {
    project: Project,
    parent: Arc<str>,
    lifecycle: Lifecycle,
    disabled: BTreeSet<String>,
}

/// Where a project comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Somebody asked for it.
    Asked,
    /// Somebody used it.
    Used,
}

/// What a caller chooses of a project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// What it is called; the id, where this is empty.
    pub(crate) display_name: String,
    /// Its labels.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// What it belongs to; empty for nothing.
    pub(crate) parent: String,
}

impl Projects {
    /// Reads the projects of a store and follows it from then on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Arc<dyn Store>, clock: Clock, mode: Mode) -> Result<Arc<Self>> {
        let known = Arc::new(Known::new());
        let index = known.clone();
        let folders = Collection::open(store.clone(), FOLDERS, Wording::of("Folder")).await?;
        let mirror = Mirror::open_with(store, PROJECTS, move |changes| {
            changes.iter().for_each(|change| note(&index, change));
        });
        let wording = Wording::of("Project").exists(|_, _| exists());
        let projects = Collection::over(mirror.await?, wording);
        Ok(Arc::new(Projects { projects, folders, known, clock, mode, policies: OnceLock::new() }))
    }

    /// Tells the projects of the policies, which are made after them: policies ask for projects' names. They are
    /// not kept alive by this.
    pub fn bind(&self, policies: &Arc<dyn Policies>) {
        // A second binding would be to the same policies: there is one set of them.
        let _ = self.policies.set(Arc::downgrade(policies));
    }

    /// The policies of projects.
    pub(crate) fn policies(&self) -> Result<Arc<dyn Policies>> {
        let bound = self.policies.get().and_then(Weak::upgrade);
        bound.ok_or_else(|| Error::internal("policies were not bound to the projects"))
    }

    /// The time now.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now().into()
    }

    /// Makes sure that a project exists, in either mode: the one that `haar up` was told of.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an id that cannot be one, and those of the store.
    pub async fn ensure(&self, id: &str) -> Result<()> {
        if self.entry(id).is_some() {
            return Ok(());
        }
        match self.add(id, Chosen::default(), Origin::Asked).await {
            Err(error) if error.code() == Code::AlreadyExists => Ok(()),
            added => added.map(drop),
        }
    }

    /// Creates a project, and makes its creator an owner of it.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, also for the id of a deleted project; `PERMISSION_DENIED`; `INVALID_ARGUMENT`.
    pub(crate) async fn create(
        &self,
        caller: &Caller,
        id: &str,
        chosen: Chosen,
    ) -> Result<Held<ProjectRecord>> {
        may_create(caller, &chosen.parent)?;
        self.check_parent(&chosen.parent)?;
        let made = match self.add(id, chosen.clone(), Origin::Asked).await {
            Err(error) if error.code() == Code::AlreadyExists => self.adopt(caller, id, chosen).await?,
            added => added?,
        };
        self.make_owner(caller, &made).await?;
        Ok(made)
    }

    /// Creates a project that came by being used: to who creates it, it was not there. Only whoever may decide
    /// about it already can: it may hold somebody else's secrets, and its creator becomes its owner.
    async fn adopt(&self, caller: &Caller, id: &str, chosen: Chosen) -> Result<Held<ProjectRecord>> {
        if !caller.may("resourcemanager.projects.setIamPolicy", &Resource::project(id)) {
            return Err(exists());
        }
        let apply = |project: &mut ProjectRecord| {
            if !project.implicit || project.lifecycle() != Lifecycle::Active {
                return Err(exists());
            }
            project.implicit = false;
            project.create_time = self.now().0;
            project.touch(self.now());
            chosen.clone().apply(project);
            Ok(())
        };
        self.projects.update(id, "", apply).await
    }

    /// A project, deleted ones included. An id that was never used becomes one, where that is the mode.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a project that does not exist; `INVALID_ARGUMENT` for an id that cannot be one.
    pub(crate) async fn find(&self, id_or_number: &str) -> Result<Held<ProjectRecord>> {
        if let Some(entry) = self.entry(id_or_number) {
            return self.projects.get(&entry.project.id);
        }
        if is_number(id_or_number) || self.mode == Mode::Strict {
            return Err(unknown(id_or_number));
        }
        match self.add(id_or_number, Chosen::default(), Origin::Used).await {
            // Another call was first.
            Err(error) if error.code() == Code::AlreadyExists => self.projects.get(id_or_number),
            added => added,
        }
    }

    /// Changes what a caller chose of a project.
    ///
    /// # Errors
    /// As [`Projects::find`]; `FAILED_PRECONDITION` for a deleted project; `INVALID_ARGUMENT`.
    pub(crate) async fn update(
        &self,
        id_or_number: &str,
        etag: &str,
        change: impl Fn(&mut ProjectRecord) + Send + Sync,
    ) -> Result<Held<ProjectRecord>> {
        let found = self.find(id_or_number).await?;
        let apply = |project: &mut ProjectRecord| {
            require(project, Lifecycle::Active)?;
            let parent = project.parent.clone();
            let name = project.display_name.clone();
            change(project);
            if project.display_name != name {
                rules::check_display_name(&project.display_name)?;
            }
            rules::check_labels(&project.labels)?;
            if project.parent != parent {
                self.check_parent(&project.parent)?;
            }
            project.touch(self.now());
            Ok(())
        };
        self.projects.update(&found.id, etag, apply).await
    }

    /// A project, deleted ones included, on which the caller has a permission. For methods that are of use on
    /// deleted projects: what stands beside a method is asked for projects in use only.
    ///
    /// # Errors
    /// As [`Projects::find`]; `PERMISSION_DENIED` without the permission.
    pub(crate) async fn allowed(
        &self,
        caller: &Caller,
        permission: &str,
        id_or_number: &str,
    ) -> Result<Held<ProjectRecord>> {
        let found = self.find(id_or_number).await?;
        caller.require(permission, &Resource::project(&found.id))?;
        Ok(found)
    }

    /// Marks a project as deleted, or takes that back.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a project that does not exist; `FAILED_PRECONDITION` when it is so already.
    pub(crate) async fn set_lifecycle(
        &self,
        id_or_number: &str,
        to: Lifecycle,
    ) -> Result<Held<ProjectRecord>> {
        let entry = self.entry(id_or_number).ok_or_else(|| unknown(id_or_number))?;
        let apply = |project: &mut ProjectRecord| {
            let now = self.now();
            match to {
                Lifecycle::DeleteRequested => require(project, Lifecycle::Active)?,
                Lifecycle::Active => require(project, Lifecycle::DeleteRequested)?,
            }
            project.delete_time = (to == Lifecycle::DeleteRequested).then_some(now.0);
            project.touch(now);
            Ok(())
        };
        self.projects.update(&entry.project.id, "", apply).await
    }

    /// Switches services of a project on or off; gives the project, and whether anything changed.
    ///
    /// # Errors
    /// As [`Projects::find`]; `PERMISSION_DENIED` for a deleted project.
    pub(crate) async fn switch(
        &self,
        id_or_number: &str,
        services: &[&str],
        to: Switch,
    ) -> Result<(Held<ProjectRecord>, bool)> {
        let found = self.find(id_or_number).await?;
        usable(&found.names(), found.lifecycle())?;
        let mut probe = found.value.clone();
        if !probe.switch(services, to) {
            return Ok((found, false));
        }
        let apply = |project: &mut ProjectRecord| {
            project.switch(services, to);
            Ok(())
        };
        Ok((self.projects.update(&found.id, "", apply).await?, true))
    }

    fn entry(&self, id_or_number: &str) -> Option<Arc<Entry>> {
        self.known.pin().get(id_or_number).cloned()
    }

    async fn add(&self, id: &str, chosen: Chosen, origin: Origin) -> Result<Held<ProjectRecord>> {
        check_project_id(id)?;
        chosen.check()?;
        let now = self.now().0;
        let mut record = ProjectRecord {
            id: id.to_owned(),
            create_time: now,
            update_time: now,
            implicit: origin == Origin::Used,
            ..ProjectRecord::default()
        };
        chosen.apply(&mut record);
        self.assign_number(record).await
    }

    /// Stores a new project under the first of its numbers that nobody has.
    async fn assign_number(&self, mut record: ProjectRecord) -> Result<Held<ProjectRecord>> {
        for attempt in 0..ATTEMPTS {
            record.number = number_for(&record.id, attempt);
            let key = format!("{NUMBERS}{}", record.number);
            let claim = Txn::new().check(&*key, 0).put(key, record.id.clone());
            match self.projects.create_with(&record.id, record.clone(), claim).await {
                Err(error) if error.code() == Code::Aborted => {}
                made => return made,
            }
        }
        Err(Error::exhausted("There is no project number left to assign."))
    }

    /// Whoever creates a project owns it, beside those who own every project here.
    async fn make_owner(&self, caller: &Caller, project: &ProjectRecord) -> Result<()> {
        let Some(member) = caller.principal().member() else { return Ok(()) };
        let policies = self.policies()?;
        let resource = Resource::project(&project.id);
        let mut policy = policies.get(&resource, 3)?;
        let owners = policy.bindings.iter_mut().find(|b| b.role == "roles/owner" && b.condition.is_none());
        match owners {
            Some(owners) if owners.members.contains(&member) => return Ok(()),
            Some(owners) => owners.members.push(member),
            None => policy.bindings.push(apis::google::iam::v1::Binding {
                role: "roles/owner".into(),
                members: vec![member],
                condition: None,
            }),
        }
        let request = apis::google::iam::v1::SetIamPolicyRequest {
            resource: resource.name.clone(),
            policy: Some(policy),
            update_mask: None,
        };
        policies.set(&resource, request).await.map(drop)
    }
}

impl Chosen {
    fn check(&self) -> Result<()> {
        if !self.display_name.is_empty() {
            rules::check_display_name(&self.display_name)?;
        }
        rules::check_labels(&self.labels)?;
        rules::check_parent(&self.parent)
    }

    fn apply(self, project: &mut ProjectRecord) {
        let Chosen { display_name, labels, parent } = self;
        project.display_name = if display_name.is_empty() { project.id.clone() } else { display_name };
        project.labels = labels;
        project.parent = parent;
    }
}

impl ports::Projects for Projects {
    fn resolve<'a>(&'a self, id_or_number: &'a str) -> BoxFuture<'a, Result<Project>> {
        Box::pin(async move {
            if let Some(entry) = self.entry(id_or_number) {
                return usable(&entry.project, entry.lifecycle).map(|()| entry.project.clone());
            }
            let found = self.find(id_or_number).await?;
            usable(&found.names(), found.lifecycle())?;
            Ok(found.names())
        })
    }

    fn known(&self, id_or_number: &str) -> Option<Project> {
        let known = self.known.pin();
        let entry = known.get(id_or_number).filter(|entry| entry.lifecycle == Lifecycle::Active)?;
        Some(entry.project.clone())
    }

    fn parent(&self, container: &str) -> Option<Arc<str>> {
        match container.split_once('/')? {
            ("projects", id) => Some(self.known.pin().get(id)?.parent.clone()),
            ("folders", number) => Some(self.folders.find(number)?.parent.as_str().into()),
            _ => None,
        }
    }

    fn enabled(&self, project_id: &str, service: &str) -> bool {
        if service == ALWAYS_ENABLED {
            return true;
        }
        let known = self.known.pin();
        known.get(project_id).is_none_or(|entry| !entry.disabled.contains(service))
    }
}

fn note(known: &Known, change: &Change<ProjectRecord>) {
    let known = known.pin();
    if let Some(project) = &change.after {
        let entry = Arc::new(Entry {
            project: project.names(),
            parent: project.parent_name().into(),
            lifecycle: project.lifecycle(),
            disabled: project.disabled.iter().cloned().collect(),
        });
        known.insert(project.id.as_str().into(), entry.clone());
        known.insert(project.number.to_string().into(), entry);
    } else if let Some(project) = &change.before {
        known.remove(project.id.as_str());
        known.remove(project.number.to_string().as_str());
    }
}

/// A number of twelve digits, made from the id: it looks random and is always the same.
fn number_for(id: &str, attempt: u32) -> u64 {
    let digest = digest::digest(&digest::SHA256, format!("haar project number {attempt} {id}").as_bytes());
    let bits = digest.as_ref().iter().take(8).fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    100_000_000_000 + bits % 900_000_000_000
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn require(project: &ProjectRecord, lifecycle: Lifecycle) -> Result<()> {
    match project.lifecycle() {
        actual if actual == lifecycle => Ok(()),
        actual => Err(Error::precondition(format!(
            "Project [{}] is in state {}; it must be {}.",
            project.id,
            actual.name(),
            lifecycle.name()
        ))),
    }
}

fn usable(project: &Project, lifecycle: Lifecycle) -> Result<()> {
    match lifecycle {
        Lifecycle::Active => Ok(()),
        Lifecycle::DeleteRequested => {
            Err(invalid_consumer(format!("Project #{} has been deleted.", project.number), &project.id))
        }
    }
}

/// People may create projects of their own, and below a parent whoever has the permission there
/// (<https://cloud.google.com/resource-manager/docs/creating-managing-projects>).
fn may_create(caller: &Caller, parent: &str) -> Result<()> {
    match (parent, caller.principal()) {
        ("", Principal::User(_)) => Ok(()),
        ("", _) => Err(Error::denied("Service accounts cannot create projects without a parent.")),
        _ => caller.require("resourcemanager.projects.create", &Resource::new(RESOURCE_MANAGER, parent)),
    }
}

fn exists() -> Error {
    Error::already_exists("Requested entity already exists")
}

/// What Google answers where a project does not exist, or is none of the caller's business.
fn unknown(id_or_number: &str) -> Error {
    invalid_consumer(format!("Permission denied on resource project {id_or_number}."), id_or_number)
}

fn invalid_consumer(message: String, project: &str) -> Error {
    Error::denied(message.clone())
        .with(Detail::Info {
            reason: "CONSUMER_INVALID",
            domain: "googleapis.com",
            metadata: vec![
                ("consumer", format!("projects/{project}")),
                ("containerInfo", project.to_owned()),
            ],
        })
        .with(Detail::Localized(message))
        .with(Detail::Help(vec![(
            "Google developers console".to_owned(),
            "https://console.developers.google.com".to_owned(),
        )]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_twelve_digits_and_are_always_the_same() {
        for id in ["my-project", "another-one", "x12345"] {
            let number = number_for(id, 0);
            assert_eq!(number.to_string().len(), 12);
            assert_eq!(number, number_for(id, 0));
            assert_ne!(number, number_for(id, 1));
        }
        assert_ne!(number_for("my-project", 0), number_for("my-projects", 0));
    }
}
