//! The policies there are, and what they come to.
//!
//! All of them are in memory. What is asked before a write costs a look-up for each ancestor of the resource.

use std::sync::{Arc, OnceLock};

use kernel::{
    Code, Error, Resource, Result,
    clock::Clock,
    etag,
    mirror::{Mirror, Record, Versioned},
    names::{ORGANIZATION, container},
    ports::{Constraints, Projects},
    store::{Outcome, Store, Txn},
    time::Micros,
};

use crate::{
    constraints::Constraint,
    effective::{self, Effective},
    record::{POLICIES, PolicyRecord, SpecRecord},
    rules,
};

/// How far above a resource policies are looked for: folders are nested ten deep.
const DEEPEST: usize = 16;

/// Organization policies. Made by [`OrgPolicies::open`]; served by [`methods`](crate::methods).
pub struct OrgPolicies {
    policies: Mirror<PolicyRecord>,
    clock: Clock,
    projects: Arc<dyn Projects>,
    tried: OnceLock<Report>,
}

/// Who is told of what is tried out.
type Report = Box<dyn Fn(&Tried<'_>) + Send + Sync>;

/// What a policy that is only tried out would have forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried<'a> {
    /// The constraint, with `constraints/`.
    pub constraint: &'a str,
    /// What it was asked about.
    pub resource: &'a Resource,
    /// The values that were asked about, for a list constraint.
    pub values: &'a [&'a str],
}

/// What a policy can be set on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// Its name with a project's id: how it is stored.
    pub(crate) key: String,
    /// Its name with a project's number: how it is shown.
    pub(crate) shown: String,
}

/// A policy as it is kept in memory.
pub(crate) type Held = Arc<Versioned<PolicyRecord>>;

/// What there must be before a policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// No policy.
    Nothing,
    /// A policy.
    Something,
    /// Either.
    Anything,
}

/// Which of a policy's parts is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Enforced,
    TriedOut,
}

impl OrgPolicies {
    /// Reads the policies of a store and follows it from then on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(store: Arc<dyn Store>, clock: Clock, projects: Arc<dyn Projects>) -> Result<Arc<Self>> {
        let policies = Mirror::open(store, POLICIES).await?;
        Ok(Arc::new(OrgPolicies { policies, clock, projects, tried: OnceLock::new() }))
    }

    /// Says who is told of what policies would have forbidden that are only tried out. The first call counts.
    pub fn report_by(&self, report: impl Fn(&Tried<'_>) + Send + Sync + 'static) {
        let _ = self.tried.set(Box::new(report));
    }

    /// The time now.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now().into()
    }

    /// The container of this name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no container's name, `NOT_FOUND` for one that is not there, and as projects
    /// answer.
    pub(crate) async fn container(&self, name: &str) -> Result<Container> {
        match name.split_once('/') {
            Some(("projects", id)) if !id.contains('/') => {
                let project = self.projects.resolve(id).await?;
                let (key, shown) =
                    (format!("projects/{}", project.id), format!("projects/{}", project.number));
                Ok(Container { key, shown })
            }
            Some(("folders" | "organizations", id)) if !id.contains('/') => {
                match name == ORGANIZATION || self.projects.parent(name).is_some() {
                    true => Ok(Container { key: name.to_owned(), shown: name.to_owned() }),
                    false => Err(not_found()),
                }
            }
            _ => Err(Error::invalid("Request contains an invalid argument.")),
        }
    }

    /// The policy of a container for a constraint, if it has one.
    pub(crate) fn find(&self, container: &Container, constraint: &Constraint) -> Option<Held> {
        self.policies.get(&format!("{}/{}", container.key, constraint.name))
    }

    /// The policies of a container, by constraint.
    pub(crate) fn list(&self, container: &Container) -> Vec<(&'static Constraint, Held)> {
        let prefix = format!("{}/", container.key);
        let found = self.policies.range(&prefix, "", usize::MAX).into_iter();
        let named = |name: &str| Constraint::named(name.rsplit('/').next().unwrap_or_default());
        found.filter_map(|(name, held)| Some((named(&name)?, held))).collect()
    }

    /// Writes a policy, as `change` makes it from what is there.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` or `NOT_FOUND` where that is not as it must be; `ABORTED` when it is not the one that `expected`
    /// accepts by its revision, or changes meanwhile; `INVALID_ARGUMENT`.
    pub(crate) async fn put(
        &self,
        container: &Container,
        constraint: &Constraint,
        before: Before,
        expected: impl Fn(u64) -> bool,
        change: impl FnOnce(PolicyRecord) -> PolicyRecord,
    ) -> Result<Held> {
        let found = self.find(container, constraint);
        match (&found, before) {
            (Some(_), Before::Nothing) => {
                return Err(Error::already_exists("Requested entity already exists"));
            }
            (None, Before::Something) => return Err(not_found()),
            _ => {}
        }
        let revision = found.as_ref().map_or(0, |held| held.revision);
        if !expected(revision) {
            return Err(stale());
        }
        let record = change(found.map(|held| held.value.clone()).unwrap_or_default());
        for spec in [&record.spec, &record.dry_run].into_iter().flatten() {
            rules::check(constraint, spec)?;
        }
        let key = self.policies.key(&format!("{}/{}", container.key, constraint.name));
        let txn = Txn::new().check(&*key, revision).put(&*key, record.to_stored());
        match self.policies.commit(txn).await? {
            Outcome::Committed(revision) => {
                Ok(Arc::new(Versioned { value: record, revision, created: revision }))
            }
            Outcome::Conflict(_) => Err(stale()),
        }
    }

    /// Deletes a policy.
    ///
    /// # Errors
    /// `NOT_FOUND`; `ABORTED` as [`OrgPolicies::put`].
    pub(crate) async fn delete(
        &self,
        container: &Container,
        constraint: &Constraint,
        expected: impl Fn(u64) -> bool,
    ) -> Result<()> {
        let Some(found) = self.find(container, constraint) else { return Err(not_found()) };
        if !expected(found.revision) {
            return Err(stale());
        }
        let key = self.policies.key(&format!("{}/{}", container.key, constraint.name));
        let txn = Txn::new().check(&*key, found.revision).delete(&*key);
        match self.policies.commit(txn).await? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict(_) => Err(stale()),
        }
    }

    /// What holds in a container.
    pub(crate) fn effective(&self, container: &Container, constraint: &Constraint) -> Effective {
        let held = self.bearing(&container.key, constraint);
        effective::of(constraint, held.iter().filter_map(|held| held.spec.as_ref()))
    }

    /// The policies that bear on a container, the topmost first.
    fn bearing(&self, container: &str, constraint: &Constraint) -> Vec<Held> {
        let above = |name: &Arc<str>| self.projects.parent(name);
        let line = std::iter::successors(Some(Arc::from(container)), above).take(DEEPEST);
        let held = line.filter_map(|name| self.policies.get(&format!("{name}/{}", constraint.name)));
        let mut held: Vec<Held> = held.collect();
        held.reverse();
        held
    }

    /// Whether what holds where the resource is satisfies `fine`. What is only tried out is asked too.
    fn asks(
        &self,
        constraint: &str,
        resource: &Resource,
        values: &[&str],
        fine: impl Fn(&Effective) -> bool,
    ) -> bool {
        let (Some(constraint), Some(container)) = (Constraint::named(constraint), container(&resource.name))
        else {
            return true;
        };
        let held = self.bearing(container, constraint);
        let come_to =
            |part: Part| effective::of(constraint, held.iter().filter_map(|held| spec_of(held, part)));
        let is_fine = fine(&come_to(Part::Enforced));
        let is_trying = held.iter().any(|held| held.dry_run.is_some());
        if is_fine && is_trying && !fine(&come_to(Part::TriedOut)) {
            self.report(constraint, resource, values);
        }
        is_fine
    }

    fn report(&self, constraint: &Constraint, resource: &Resource, values: &[&str]) {
        if let Some(report) = self.tried.get() {
            report(&Tried { constraint: &format!("constraints/{}", constraint.name), resource, values });
        }
    }
}

impl Constraints for OrgPolicies {
    fn enforces(&self, constraint: &str, resource: &Resource) -> bool {
        !self.asks(constraint, resource, &[], |holds| !holds.enforced())
    }

    fn allows(&self, constraint: &str, resource: &Resource, names: &[&str]) -> bool {
        self.asks(constraint, resource, names, |holds| holds.allows(names))
    }
}

/// What is tried out is what would be enforced; where nothing is tried out, what is enforced stays.
fn spec_of(held: &Held, part: Part) -> Option<&SpecRecord> {
    match part {
        Part::Enforced => held.spec.as_ref(),
        Part::TriedOut => held.dry_run.as_ref().or(held.spec.as_ref()),
    }
}

/// Whether an error says that there is no policy.
pub(crate) fn is_missing(error: &Error) -> bool {
    error.code() == Code::NotFound
}

/// A policy, a constraint or a container that is not there.
pub(crate) fn not_found() -> Error {
    Error::not_found("Requested entity was not found.")
}

fn stale() -> Error {
    Error::aborted(
        "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
    )
}

/// The etag of a policy written by this revision, as bytes.
pub(crate) fn etag_of(revision: u64) -> Vec<u8> {
    etag::bytes(revision)
}
