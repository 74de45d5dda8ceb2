//! Why somebody may do something, or may not: every binding that bears on it, and what each says.
//!
//! The decision itself knows only unions of bits; this walks the bindings as Google's documentation describes the
//! evaluation, which is slow and names what decided. Both come to the same, which a test holds.

use std::{net::IpAddr, time::SystemTime};

use kernel::{
    Principal,
    names::{RESOURCE_MANAGER, in_project, is_container},
};

use crate::{
    Iam,
    cel::{Missing, Program},
    compiled::is_named,
    conditions::{Context, Named},
    decide::Asker,
    members::Member,
    records::{BindingRecord, PolicyRecord},
    roles::{Basic, Permission, Role},
    usage,
};

/// A question about somebody's rights.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who.
    pub principal: Principal,
    /// What.
    pub permission: String,
    /// The service of the resource, such as `secretmanager.googleapis.com`.
    pub service: String,
    /// The resource, such as `projects/p/secrets/s`, its project by id or number.
    pub name: String,
    /// When it would be; conditions may depend on it.
    pub time: SystemTime,
    /// Where it would go to, for conditions that ask.
    pub destination: Option<(IpAddr, u16)>,
    /// What conditions are told of the resource (service, type, name) instead of what is known of it.
    pub resource: Option<(String, String, String)>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Whether they may.
    pub allowed: bool,
    /// The resource, its project by id.
    pub name: String,
    /// What was looked at: the resource's own policy first, then those above it.
    pub levels: Vec<Level>,
    /// Predefined roles that have the permission and can be granted there, the smallest first.
    pub roles: Vec<String>,
}

/// A policy that bears on a question.
#[derive(Clone, Debug)]
pub struct Level {
    /// Whose policy, as a full name: `//cloudresourcemanager.googleapis.com/projects/p`.
    pub resource: String,
    /// Whether it was ever set; the default one of a project counts as set.
    pub is_set: bool,
    /// Its bindings.
    pub bindings: Vec<ExplainedBinding>,
}

/// A binding, and what it says to a question.
#[derive(Clone, Debug)]
pub struct ExplainedBinding {
    /// The role.
    pub role: String,
    /// Whether the role has the permission.
    pub has_permission: bool,
    /// The members, and whether each is who was asked about.
    pub members: Vec<(String, bool)>,
    /// The condition, if there is one.
    pub condition: Option<ExplainedCondition>,
}

/// A condition, and whether it holds.
#[derive(Clone, Debug)]
pub struct ExplainedCondition {
    /// Its title.
    pub title: String,
    /// Its description.
    pub description: String,
    /// The expression.
    pub expression: String,
    /// Whether it holds, or which attribute it needs that the request does not have.
    pub holds: Result<bool, String>,
}

impl ExplainedBinding {
    /// Whether it gives the permission.
    pub fn grants(&self) -> bool {
        self.has_permission && self.names() && self.condition.as_ref().is_none_or(|one| one.holds == Ok(true))
    }

    /// Whether it is about who was asked about.
    pub fn names(&self) -> bool {
        self.members.iter().any(|(_, is_named)| *is_named)
    }
}

impl Iam {
    /// Answers why somebody may do something, or may not.
    pub fn explain(&self, question: &Question) -> Explanation {
        let name = self.projects.identified(&question.name);
        let canonical = self.canonical(&question.service, &name);
        let asker = self.asker(&question.principal);
        let given = question.resource.clone();
        let given = given.map(|(service, kind, name)| Named { service, kind, name });
        let context = Context::new(question.time, &question.service, &name, &*self.projects)
            .destination(question.destination)
            .resource(given);
        let above: Vec<_> = self.above(&canonical).collect();
        let policies = self.index.bearing(&question.service, &canonical);
        let above = above.iter().flat_map(|container| self.index.bearing(RESOURCE_MANAGER, container));
        // A location or a revision has no policy, and so none that could be hidden.
        let bears = |(level, policy): &(&str, Option<_>)| {
            policy.is_some() || usage::level(&question.service, level) == *level
        };
        let levels: Vec<Level> = policies
            .into_iter()
            .chain(above)
            .filter(bears)
            .map(|(level, policy)| {
                let resource = self.full_name(&question.service, level);
                match policy.map(|policy| policy.value.clone()).or_else(|| self.default_record(level)) {
                    None => Level { resource, is_set: false, bindings: Vec::new() },
                    Some(policy) => {
                        let explain =
                            |binding| self.explain_binding(binding, &question.permission, &asker, &context);
                        let bindings = policy.bindings.iter().map(explain).collect();
                        Level { resource, is_set: true, bindings }
                    }
                }
            })
            .collect();
        let allowed = levels.iter().flat_map(|level| &level.bindings).any(ExplainedBinding::grants)
            || self.owns(&question.principal, &question.permission, &canonical);
        let roles = smallest_roles(&question.permission, &question.service);
        Explanation { allowed, name, levels, roles }
    }

    fn explain_binding(
        &self,
        binding: &BindingRecord,
        permission: &str,
        asker: &Asker<'_>,
        context: &Context<'_>,
    ) -> ExplainedBinding {
        let has_permission = match Permission::named(permission) {
            Some(asked) => self.index.permissions_of(&binding.role).is_some_and(|set| set.contains(asked)),
            None => Role::named(&binding.role).and_then(Role::basic) == Some(Basic::Owner),
        };
        let condition = binding.condition.as_ref().map(|condition| ExplainedCondition {
            title: condition.title.clone(),
            description: condition.description.clone(),
            expression: condition.expression.clone(),
            holds: match Program::compile(&condition.expression) {
                Ok(program) => context.holds(&program).map_err(|Missing(what)| what.to_owned()),
                Err(fault) => Err(fault.why),
            },
        });
        let members = binding.members.iter();
        let members = members.map(|member| (self.shown_member(member), is_named(member, asker))).collect();
        ExplainedBinding { role: binding.role.clone(), has_permission, members, condition }
    }

    /// The policy that a project has which was never set.
    fn default_record(&self, level: &str) -> Option<PolicyRecord> {
        let (id, "") = in_project(level)? else { return None };
        self.projects.known(id)?;
        Some(self.record_of_default(&kernel::Resource::project(id)))
    }

    /// The full name of a level, a service account by its address.
    pub(crate) fn full_name(&self, service: &str, level: &str) -> String {
        let service = if is_container(level) { RESOURCE_MANAGER } else { service };
        let shown = level.split_once("/serviceAccounts/").and_then(|(project, id)| {
            let account = self.find_account(id)?;
            Some(format!("{project}/serviceAccounts/{}", account.email))
        });
        format!("//{service}/{}", shown.as_deref().unwrap_or(level))
    }

    /// Somebody by what a person types: an address, or a member of a policy.
    pub fn principal_called(&self, name: &str) -> Principal {
        let bare = name.split_once(':').filter(|(kind, _)| matches!(*kind, "user" | "serviceAccount"));
        let email = bare.map_or(name, |(_, email)| email);
        match Member::parse(name) {
            Ok(Member::Everyone) => Principal::Anonymous,
            Ok(Member::Principal(name)) => Principal::Federated(name.into()),
            _ if email.ends_with(".gserviceaccount.com") => Principal::ServiceAccount(email.into()),
            _ => Principal::User(email.into()),
        }
    }
}

/// Up to three predefined roles with a permission that can be granted on a service's resources, the smallest first.
fn smallest_roles(permission: &str, service: &str) -> Vec<String> {
    let Some(asked) = Permission::named(permission) else { return vec!["roles/owner".into()] };
    let mut found: Vec<(usize, &Role)> = Role::all()
        .iter()
        .filter(|role| role.basic().is_none() && role.concerns(service) && role.permissions().contains(asked))
        .map(|role| (role.permissions().iter().count(), role))
        .collect();
    found.sort_by_key(|(size, role)| (*size, role.name.as_str()));
    found.into_iter().take(3).map(|(_, role)| role.name.clone()).collect()
}
