//! Who may do what: policies, compiled.
//!
//! A decision takes no lock. A policy is compiled when it is first asked: for each member the union of what its
//! roles allow, so that a decision costs one look-up for the resource, one for each of its ancestors, and a bit in
//! each, however many bindings there are.
//!
//! Declined: walking bindings by role, as Google's documentation describes the evaluation (it comes to the same
//! and costs in proportion to the policy), and a cache of decisions (a decision is cheaper than finding one).

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use kernel::{Principal, mirror::Versioned, names::RESOURCE_MANAGER};

use crate::{
    members::Member,
    records::{AccountRecord, BindingRecord, PolicyRecord},
    roles::{Basic, Permission, PermissionSet, Role},
};

/// The policies there are, by the resource they belong to. Reads never wait.
#[derive(Default)]
pub(crate) struct Index(papaya::HashMap<Box<str>, Arc<Held>>);

/// A policy in memory, compiled when it is first asked.
struct Held {
    record: Arc<Versioned<PolicyRecord>>,
    compiled: OnceLock<Compiled>,
}

impl Index {
    /// Puts, replaces or removes the policy under a [stored name](stored_name).
    pub(crate) fn put(&self, stored: &str, record: Option<Arc<Versioned<PolicyRecord>>>) {
        let key = index_key(stored);
        match record {
            Some(record) => {
                self.0.pin().insert(key.into(), Arc::new(Held { record, compiled: OnceLock::new() }));
            }
            None => {
                self.0.pin().remove(key);
            }
        }
    }

    /// Whether the policy of the resource, or of anything above it, allows it. A permission that the table of
    /// roles does not know is its owners' alone.
    pub(crate) fn allows(&self, asker: &Asker<'_>, permission: &str, service: &str, name: &str) -> bool {
        let asked = Permission::named(permission);
        let whole = stored_name(service, name);
        let held = self.0.pin();
        lineage(name).any(|level| {
            let key = if is_container(level) { level } else { &whole[..service.len() + 1 + level.len()] };
            held.get(key).is_some_and(|policy| policy.compiled().allows(asker, asked))
        })
    }
}

impl Index {
    /// Whether the policy of a project was ever set.
    pub(crate) fn has_project(&self, id: &str) -> bool {
        self.0.pin().contains_key(["projects/", id].concat().as_str())
    }
}

impl Held {
    fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| Compiled::new(&self.record))
    }
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

/// Whether a name is that of a project, a folder or an organization.
fn is_container(name: &str) -> bool {
    ["projects/", "folders/", "organizations/"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .is_some_and(|id| !id.contains('/'))
}

/// Who asks, with everything that is looked up once.
pub(crate) struct Asker<'a> {
    principal: &'a Principal,
    /// The address in lowercase, or the federated name.
    name: Cow<'a, str>,
    /// The service account that lives under the address now, where it is one of ours.
    account: Option<Arc<Versioned<AccountRecord>>>,
}

impl<'a> Asker<'a> {
    /// Somebody, and how to find the service account under an address in lowercase.
    pub(crate) fn new(
        principal: &'a Principal,
        find: impl FnOnce(&str) -> Option<Arc<Versioned<AccountRecord>>>,
    ) -> Self {
        let name = match principal {
            Principal::User(name) | Principal::ServiceAccount(name) => lowercase(name),
            Principal::Federated(name) => name.as_ref().into(),
            Principal::Anonymous => "".into(),
        };
        let account = matches!(principal, Principal::ServiceAccount(_)).then(|| find(&name)).flatten();
        Asker { principal, name, account }
    }
}

/// An address as it is compared.
pub(crate) fn lowercase(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| b.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name.into(),
    }
}

/// A policy, ready to be asked.
#[derive(Default)]
pub(crate) struct Compiled {
    everyone: Grants,
    authenticated: Grants,
    users: HashMap<String, Grants>,
    /// By unique id, or by address where the account is none of ours.
    accounts: HashMap<String, Grants>,
    domains: HashMap<String, Grants>,
    federated: HashMap<String, Grants>,
    pools: Vec<(String, Grants)>,
}

/// What one member may do.
#[derive(Default)]
struct Grants {
    set: PermissionSet,
    /// Whoever owns a resource also has the permissions that the table of roles does not know.
    is_owner: bool,
}

impl Compiled {
    /// Compiles a stored policy. Roles and members that are not known grant nothing.
    pub(crate) fn new(policy: &PolicyRecord) -> Self {
        let mut compiled = Compiled::default();
        policy.bindings.iter().for_each(|binding| compiled.bind(binding));
        compiled
    }

    fn bind(&mut self, binding: &BindingRecord) {
        // A condition that cannot be evaluated never holds.
        let Some(role) = Role::named(&binding.role).filter(|_| binding.condition.is_none()) else {
            return;
        };
        for member in &binding.members {
            if let Some(grants) =
                Member::parse(&member.name).ok().and_then(|parsed| self.grants(parsed, &member.unique_id))
            {
                grants.add(role);
            }
        }
    }

    fn grants(&mut self, member: Member, unique_id: &str) -> Option<&mut Grants> {
        Some(match member {
            Member::Everyone => &mut self.everyone,
            Member::Authenticated => &mut self.authenticated,
            Member::User(email) => self.users.entry(email).or_default(),
            Member::ServiceAccount(email) if unique_id.is_empty() => self.accounts.entry(email).or_default(),
            Member::ServiceAccount(_) => self.accounts.entry(unique_id.to_owned()).or_default(),
            Member::Domain(domain) => self.domains.entry(domain).or_default(),
            Member::Principal(name) => self.federated.entry(name).or_default(),
            Member::PrincipalSet(set) => {
                self.pools.push((set, Grants::default()));
                &mut self.pools.last_mut()?.1
            }
            Member::Group(_) | Member::ProjectRole(..) | Member::Deleted => return None,
        })
    }

    /// Whether somebody has a permission by this policy; `None` for one that the table does not know.
    pub(crate) fn allows(&self, asker: &Asker<'_>, asked: Option<Permission>) -> bool {
        self.everyone.allow(asked)
            || match asker.principal {
                Principal::Anonymous => false,
                Principal::User(_) => self.authenticated.allow(asked) || self.user(&asker.name, asked),
                Principal::ServiceAccount(_) => {
                    self.authenticated.allow(asked) || self.service_account(asker, asked)
                }
                Principal::Federated(_) => self.federation(&asker.name, asked),
            }
    }

    fn user(&self, email: &str, asked: Option<Permission>) -> bool {
        let domain = || email.split_once('@').and_then(|(_, domain)| self.domains.get(domain));
        self.users.get(email).is_some_and(|grants| grants.allow(asked))
            || (!self.domains.is_empty() && domain().is_some_and(|grants| grants.allow(asked)))
    }

    fn service_account(&self, asker: &Asker<'_>, asked: Option<Permission>) -> bool {
        let by = |name: &str| self.accounts.get(name).is_some_and(|grants| grants.allow(asked));
        asker.account.as_ref().is_some_and(|account| by(&account.unique_id)) || by(&asker.name)
    }

    fn federation(&self, name: &str, asked: Option<Permission>) -> bool {
        self.federated.get(name).is_some_and(|grants| grants.allow(asked))
            || self.pools.iter().any(|(set, grants)| grants.allow(asked) && Member::pool_holds(set, name))
    }
}

impl Grants {
    fn add(&mut self, role: &Role) {
        self.set.add(role.permissions());
        self.is_owner |= role.basic() == Some(Basic::Owner);
    }

    fn allow(&self, asked: Option<Permission>) -> bool {
        match asked {
            Some(permission) => self.set.contains(permission),
            None => self.is_owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn containers_belong_to_resource_manager_whoever_asks() {
        assert_eq!(
            stored_name("run.googleapis.com", "projects/p"),
            "cloudresourcemanager.googleapis.com/projects/p"
        );
        assert_eq!(index_key("cloudresourcemanager.googleapis.com/projects/p"), "projects/p");
        assert_eq!(index_key("run.googleapis.com/projects/p/x/y"), "run.googleapis.com/projects/p/x/y");
    }
}
