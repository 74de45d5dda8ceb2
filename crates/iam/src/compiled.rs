//! A policy in the form in which it is asked: by member, and what each may do.

use std::{collections::HashMap, sync::Arc};

use kernel::{Principal, call::Federation};

use crate::{
    cel::Program,
    conditions::Context,
    decide::Asker,
    members::Member,
    records::{BindingRecord, MemberRecord, PolicyRecord},
    roles::{Basic, Permission, PermissionSet, Role},
};

/// A policy, ready to be asked.
#[derive(Default)]
pub(crate) struct Compiled {
    everyone: Grants,
    authenticated: Grants,
    users: HashMap<String, Grants>,
    /// By unique id, or by address where the account is none of ours.
    accounts: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
    domains: HashMap<String, Grants>,
    federated: HashMap<String, Grants>,
    pools: Vec<(String, Grants)>,
    /// Whoever has a basic role on a project.
    conveniences: Vec<(Basic, String, Grants)>,
}

/// What one member may do.
#[derive(Default)]
struct Grants {
    set: PermissionSet,
    conditional: Vec<Conditional>,
    /// The basic roles among them. Whoever owns a resource also has the permissions that the table of roles does not
    /// know.
    basics: [bool; 3],
}

/// What one member may do while a condition holds.
struct Conditional {
    set: PermissionSet,
    condition: Arc<Program>,
}

impl Compiled {
    /// Compiles a stored policy. Roles and members that are not known grant nothing.
    pub(crate) fn new(policy: &PolicyRecord, permissions: impl Fn(&str) -> Option<PermissionSet>) -> Self {
        let mut compiled = Compiled::default();
        for binding in &policy.bindings {
            if let Some(set) = permissions(&binding.role) {
                compiled.bind(binding, &set);
            }
        }
        compiled
    }

    fn bind(&mut self, binding: &BindingRecord, set: &PermissionSet) {
        let condition = match &binding.condition {
            None => None,
            Some(condition) => match Program::compile(&condition.expression) {
                Ok(program) => Some(Arc::new(program)),
                // A condition that cannot be evaluated never holds.
                Err(_) => return,
            },
        };
        let basic = Role::named(&binding.role).and_then(Role::basic);
        for member in &binding.members {
            let Ok(parsed) = Member::parse(&member.name) else { continue };
            if let Some(grants) = self.grants(parsed, &member.unique_id) {
                grants.add(set, basic, condition.clone());
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
            Member::Group(email) => self.groups.entry(email).or_default(),
            Member::Domain(domain) => self.domains.entry(domain).or_default(),
            Member::Principal(name) => self.federated.entry(name).or_default(),
            Member::PrincipalSet(set) => {
                self.pools.push((set, Grants::default()));
                &mut self.pools.last_mut()?.1
            }
            Member::ProjectRole(basic, project) => {
                self.conveniences.push((basic, project, Grants::default()));
                &mut self.conveniences.last_mut()?.2
            }
            Member::Deleted => return None,
        })
    }

    /// Whether somebody has a permission by this policy; `None` for one that the table does not know.
    pub(crate) fn allows(&self, asker: &Asker<'_>, asked: Option<Permission>, context: &Context<'_>) -> bool {
        self.any(asker, &|grants| grants.allow(asked, context))
    }

    /// Whether somebody has a basic role by this policy, without a condition.
    pub(crate) fn has_basic(&self, asker: &Asker<'_>, basic: Basic) -> bool {
        self.any(asker, &|grants| grants.basics[basic as usize])
    }

    /// Whether any grant to somebody, by whichever name, is wanted.
    fn any(&self, asker: &Asker<'_>, wanted: &dyn Fn(&Grants) -> bool) -> bool {
        wanted(&self.everyone)
            || match asker.principal {
                Principal::Anonymous => false,
                Principal::User(_) => {
                    wanted(&self.authenticated)
                        || self.user(&asker.name, wanted)
                        || self.indirect(asker, wanted)
                }
                Principal::ServiceAccount(_) => {
                    wanted(&self.authenticated)
                        || self.service_account(asker, wanted)
                        || self.indirect(asker, wanted)
                }
                Principal::Federated(who) => self.federation(who, wanted),
            }
    }

    fn user(&self, email: &str, wanted: &dyn Fn(&Grants) -> bool) -> bool {
        let domain = || email.split_once('@').and_then(|(_, domain)| self.domains.get(domain));
        self.users.get(email).is_some_and(wanted)
            || (!self.domains.is_empty() && domain().is_some_and(wanted))
    }

    fn service_account(&self, asker: &Asker<'_>, wanted: &dyn Fn(&Grants) -> bool) -> bool {
        let by = |name: &str| self.accounts.get(name).is_some_and(wanted);
        asker.account.as_ref().is_some_and(|account| by(&account.unique_id)) || by(&asker.name)
    }

    /// By a group, or by a role on a project.
    fn indirect(&self, asker: &Asker<'_>, wanted: &dyn Fn(&Grants) -> bool) -> bool {
        let by_group = || asker.groups().iter().any(|group| self.groups.get(group).is_some_and(wanted));
        (!self.groups.is_empty() && by_group())
            || self
                .conveniences
                .iter()
                .any(|(basic, project, grants)| wanted(grants) && asker.has_basic(project, *basic))
    }

    fn federation(&self, who: &Federation, wanted: &dyn Fn(&Grants) -> bool) -> bool {
        self.federated.get(&**who).is_some_and(wanted)
            || self.pools.iter().any(|(set, grants)| wanted(grants) && who.is_in(set))
    }
}

impl Grants {
    fn add(&mut self, set: &PermissionSet, basic: Option<Basic>, condition: Option<Arc<Program>>) {
        if let Some(condition) = condition {
            self.conditional.push(Conditional { set: *set, condition });
            return;
        }
        self.set.add(set);
        if let Some(basic) = basic {
            self.basics[basic as usize] = true;
        }
    }

    fn allow(&self, asked: Option<Permission>, context: &Context<'_>) -> bool {
        match asked {
            None => self.basics[Basic::Owner as usize],
            Some(permission) => {
                self.set.contains(permission)
                    || self
                        .conditional
                        .iter()
                        .any(|one| one.set.contains(permission) && context.holds(&one.condition) == Ok(true))
            }
        }
    }
}

/// Whether a member of a policy is somebody, by whichever name.
pub(crate) fn is_named(member: &MemberRecord, asker: &Asker<'_>) -> bool {
    const MARK: usize = 0;
    let mut compiled = Compiled::default();
    let parsed = Member::parse(&member.name).ok();
    if let Some(grants) = parsed.and_then(|parsed| compiled.grants(parsed, &member.unique_id)) {
        grants.basics[MARK] = true;
    }
    compiled.any(asker, &|grants| grants.basics[MARK])
}
