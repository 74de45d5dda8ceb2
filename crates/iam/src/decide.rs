//! Who may do what: the policies there are, and the decision.
//!
//! A decision takes no lock. A policy is [compiled](crate::compiled) when it is first asked: for each member the union
//! of what its roles allow, so that a decision costs one look-up for the resource, one for each of its ancestors, and a
//! bit in each, however many bindings there are. Conditions are evaluated only where the bit of a conditional binding
//! is set and no unconditional one decided.
//!
//! Declined: walking bindings by role, as Google's documentation describes the evaluation (it comes to the same
//! and costs in proportion to the policy), and a cache of decisions (a decision is cheaper than finding one, and
//! conditions depend on the moment).

use std::{
    borrow::Cow,
    cell::OnceCell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use kernel::{
    Principal,
    mirror::Versioned,
    names::{RESOURCE_MANAGER, is_container},
};

use crate::{
    audit::Audited,
    compiled::Compiled,
    conditions::Context,
    groups::Directory,
    members::Member,
    records::{AccountRecord, MemberRecord, PolicyRecord, RoleRecord},
    roles::{Basic, Permission, PermissionSet, Role},
};

/// The policies there are by the resource they belong to, custom roles, and groups. Reads never wait.
#[derive(Default)]
pub(crate) struct Index {
    policies: papaya::HashMap<Box<str>, Arc<Held>>,
    /// What custom roles allow, by name; those that allow nothing now are not here.
    roles: papaya::HashMap<Box<str>, PermissionSet>,
    /// Who is in which group.
    pub(crate) groups: Directory,
    /// Which calls are written to the audit log.
    pub(crate) audited: Audited,
    /// How often a policy or a role has changed.
    generation: AtomicU64,
    /// How many policies give everybody something on a condition.
    momentary: AtomicUsize,
}

/// A policy in memory, compiled when it is first asked.
struct Held {
    record: Arc<Versioned<PolicyRecord>>,
    compiled: OnceLock<Compiled>,
}

impl Held {
    fn new(record: Arc<Versioned<PolicyRecord>>) -> Arc<Held> {
        Arc::new(Held { record, compiled: OnceLock::new() })
    }

    fn compiled(&self, index: &Index) -> &Compiled {
        self.compiled.get_or_init(|| Compiled::new(&self.record, |role| index.permissions_of(role)))
    }
}

impl Index {
    /// Puts, replaces or removes the policy under a [stored name](stored_name).
    pub(crate) fn put(&self, stored: &str, record: Option<Arc<Versioned<PolicyRecord>>>) {
        let key = index_key(stored);
        self.audited.put(key, record.as_deref().map_or(&[], |record| &record.audit));
        let now_momentary = record.as_deref().is_some_and(|record| is_momentary(record));
        let held = self.policies.pin();
        let before = match record {
            Some(record) => held.insert(key.into(), Held::new(record)),
            None => held.remove(key),
        };
        self.momentary.fetch_add(now_momentary.into(), Ordering::AcqRel);
        let was_momentary = before.is_some_and(|before| is_momentary(&before.record));
        self.momentary.fetch_sub(was_momentary.into(), Ordering::AcqRel);
        self.changed();
    }

    /// What was decided before may be decided otherwise now. Called after the change, so that nobody keeps what was
    /// decided before it under the new number.
    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// See [`Authority::generation`](kernel::ports::Authority::generation): what everybody may do depends on policies
    /// and roles, and on the moment where a condition stands before it.
    pub(crate) fn generation(&self) -> Option<u64> {
        let generation = self.generation.load(Ordering::Acquire);
        (self.momentary.load(Ordering::Acquire) == 0).then_some(generation)
    }

    /// Puts, replaces or removes a custom role. Policies that grant it are compiled anew when they are next asked.
    pub(crate) fn put_role(&self, name: &str, record: Option<&RoleRecord>) {
        match record.filter(|role| role.is_in_force()) {
            Some(role) => {
                self.roles.pin().insert(name.into(), PermissionSet::named(&role.permissions));
            }
            None => {
                self.roles.pin().remove(name);
            }
        }
        let policies = self.policies.pin();
        for (key, held) in policies.iter() {
            if held.record.bindings.iter().any(|binding| binding.role == name) {
                // One that was replaced meanwhile is compiled with the role as it is now.
                let _ = policies.compute(key.clone(), |now| match now {
                    Some((_, now)) if Arc::ptr_eq(now, held) => {
                        papaya::Operation::Insert(Held::new(held.record.clone()))
                    }
                    _ => papaya::Operation::<_, ()>::Abort(()),
                });
            }
        }
        self.changed();
    }

    /// What a role allows: predefined, or a custom one that is in force.
    pub(crate) fn permissions_of(&self, role: &str) -> Option<PermissionSet> {
        match Role::named(role) {
            Some(role) => Some(*role.permissions()),
            None => self.roles.pin().get(role).copied(),
        }
    }

    /// Whether the policy of the resource, or of anything above it, allows it. A permission that the table of
    /// roles does not know is its owners' alone.
    pub(crate) fn allows(
        &self,
        asker: &Asker<'_>,
        permission: &str,
        (service, name): (&str, &str),
        context: &Context<'_>,
    ) -> bool {
        let asked = Permission::named(permission);
        let whole = stored_name(service, name);
        let held = self.policies.pin();
        lineage(name).any(|level| {
            let key = if is_container(level) { level } else { &whole[..service.len() + 1 + level.len()] };
            held.get(key).is_some_and(|policy| policy.compiled(self).allows(asker, asked, context))
        })
    }

    /// Whether somebody has a basic role on a project by the project's own policy, without a condition.
    pub(crate) fn has_basic(&self, project: &str, basic: Basic, asker: &Asker<'_>) -> bool {
        let held = self.policies.pin();
        let policy = held.get(["projects/", project].concat().as_str());
        policy.is_some_and(|policy| policy.compiled(self).has_basic(asker, basic))
    }

    /// Whether the policy of a project was ever set.
    pub(crate) fn has_project(&self, id: &str) -> bool {
        self.policies.pin().contains_key(["projects/", id].concat().as_str())
    }

    /// The policies that bear on a resource: its own first, then those of what lies above it, each with the name of
    /// its level.
    pub(crate) fn bearing<'n>(
        &self,
        service: &str,
        name: &'n str,
    ) -> Vec<(&'n str, Option<Arc<Versioned<PolicyRecord>>>)> {
        let whole = stored_name(service, name);
        let held = self.policies.pin();
        lineage(name)
            .map(|level| {
                let key = if is_container(level) { level } else { &whole[..service.len() + 1 + level.len()] };
                (level, held.get(key).map(|policy| policy.record.clone()))
            })
            .collect()
    }
}

/// Whether a policy gives everybody something on a condition.
fn is_momentary(policy: &PolicyRecord) -> bool {
    let names_everybody = |member: &MemberRecord| matches!(Member::parse(&member.name), Ok(Member::Everyone));
    policy
        .bindings
        .iter()
        .any(|binding| binding.condition.is_some() && binding.members.iter().any(names_everybody))
}

/// The name that a resource's policy is stored under, after the prefix.
pub(crate) fn stored_name(service: &str, name: &str) -> String {
    let service = if is_container(name) { RESOURCE_MANAGER } else { service };
    [service, "/", name].concat()
}

/// Projects, folders and organizations stand in the index without their service: every service's names end there.
fn index_key(stored: &str) -> &str {
    stored
        .strip_prefix(RESOURCE_MANAGER)
        .and_then(|name| name.strip_prefix('/'))
        .filter(|name| is_container(name))
        .unwrap_or(stored)
}

/// A resource and what lies above it in its own name: `projects/p/secrets/s/versions/1`, then
/// `projects/p/secrets/s`, then the project. A level is a collection and an id, counted from the left, because the
/// ids of objects may hold slashes.
pub(crate) fn lineage(name: &str) -> impl Iterator<Item = &str> {
    let above = |name: &str| name.match_indices('/').map(|(at, _)| at).skip(1).step_by(2).last();
    std::iter::successors(Some(name), move |name| above(name).map(|at| &name[..at]))
}

/// Who asks, with everything that is looked up once.
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a Principal,
    /// The address in lowercase, or the federated name.
    pub(crate) name: Cow<'a, str>,
    /// The service account that lives under the address now, where it is one of ours.
    pub(crate) account: Option<Arc<Versioned<AccountRecord>>>,
    index: &'a Index,
    groups: OnceCell<Arc<[String]>>,
}

impl<'a> Asker<'a> {
    /// Somebody, and how to find the service account under an address in lowercase.
    pub(crate) fn new(
        index: &'a Index,
        principal: &'a Principal,
        find: impl FnOnce(&str) -> Option<Arc<Versioned<AccountRecord>>>,
    ) -> Self {
        let name = match principal {
            Principal::User(name) | Principal::ServiceAccount(name) => lowercase(name),
            Principal::Federated(name) => name.as_ref().into(),
            Principal::Anonymous => "".into(),
        };
        let account = matches!(principal, Principal::ServiceAccount(_)).then(|| find(&name)).flatten();
        Asker { principal, name, account, index, groups: OnceCell::new() }
    }

    /// The groups they are in, by address.
    pub(crate) fn groups(&self) -> &[String] {
        self.groups.get_or_init(|| match self.principal {
            Principal::User(_) | Principal::ServiceAccount(_) => self.index.groups.of(&self.name),
            _ => Arc::default(),
        })
    }

    /// Whether they have a basic role on a project.
    pub(crate) fn has_basic(&self, project: &str, basic: Basic) -> bool {
        self.index.has_basic(project, basic, self)
    }
}

/// An address as it is compared.
pub(crate) fn lowercase(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BindingRecord, ConditionRecord};

    #[test]
    fn a_name_has_its_ancestors() {
        let all = |name| lineage(name).collect::<Vec<_>>();
        assert_eq!(
            all("projects/p/secrets/s/versions/1"),
            ["projects/p/secrets/s/versions/1", "projects/p/secrets/s", "projects/p"]
        );
        assert_eq!(
            all("projects/_/buckets/b/objects/a/b/c"),
            [
                "projects/_/buckets/b/objects/a/b/c",
                "projects/_/buckets/b/objects/a",
                "projects/_/buckets/b",
                "projects/_"
            ]
        );
        assert_eq!(all("folders/1"), ["folders/1"]);
        assert_eq!(all(""), [""]);
    }

    #[test]
    fn what_everybody_may_do_is_kept_until_a_policy_changes_or_a_condition_decides() {
        let policy = |condition| {
            let everybody = MemberRecord { name: "allUsers".into(), unique_id: String::new() };
            let binding =
                BindingRecord { role: "roles/run.invoker".into(), members: vec![everybody], condition };
            let value = PolicyRecord { bindings: vec![binding], ..PolicyRecord::default() };
            Some(Arc::new(Versioned { value, revision: 1, created: 1 }))
        };
        let (index, name) = (Index::default(), "run.googleapis.com/projects/p/locations/l/services/s");
        let first = index.generation();
        assert!(first.is_some());
        index.put(name, policy(None));
        let second = index.generation();
        assert!(second.is_some() && second != first);
        index.put_role("projects/p/roles/r", None);
        assert!(index.generation().is_some() && index.generation() != second);
        for _ in 0..2 {
            index.put(name, policy(Some(ConditionRecord::default())));
            assert_eq!(index.generation(), None, "a condition looks at each request");
        }
        index.put(name, None);
        assert!(index.generation().is_some());
    }

    #[test]
    fn containers_belong_to_resource_manager_whoever_asks() {
        assert_eq!(
            stored_name("run.googleapis.com", "projects/p"),
            "cloudresourcemanager.googleapis.com/projects/p"
        );
        assert_eq!(index_key("cloudresourcemanager.googleapis.com/projects/p"), "projects/p");
        assert_eq!(index_key("run.googleapis.com/projects/p/x/y"), "run.googleapis.com/projects/p/x/y");
    }
}
