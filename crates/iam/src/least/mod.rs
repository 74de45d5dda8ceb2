//! The least that a service account needs: what it used of its rights, the smallest predefined roles that allow it, each
//! where it is used and nowhere above, and what of its bindings that makes superfluous.
//!
//! Each permission that was [used](crate::usage) is traced to what gives it now. What a group or everybody gives, and what
//! a condition gives that does not depend on the moment, stays as it is. What the account's own bindings give has to be
//! given again, by the roles that [`cover`] finds for each resource. A permission that no predefined role has but the
//! basic ones keeps the binding that gives it, and what the account lost since it used it is not given back.
//!
//! A database instance has no policy of its own: a role for one is granted on the project, with a condition on its name.
//!
//! Declined: making custom roles (the answer is to be read and judged, and predefined roles are what people know), and
//! guessing what a service will do that has not done it while it was watched.

mod cover;

use std::collections::{BTreeMap, BTreeSet};

use kernel::{
    Principal, Result,
    names::{RESOURCE_MANAGER, container, is_container},
};

use crate::{
    Explanation, Iam, Level, Question,
    members::Member,
    records::{AccountRecord, ConditionRecord, MemberRecord},
    roles::{Permission, PermissionSet, Role},
    usage::UseRecord,
};
use cover::Candidate;

/// Where instances of databases are.
const DATABASES: &str = "sqladmin.googleapis.com";

/// What an account needs at the least, and what it has.
#[derive(Clone, Debug)]
pub struct Least {
    /// The account's address.
    pub account: String,
    /// What it used, in the order of resources and permissions.
    pub uses: Vec<Use>,
    /// What it has, by its own name.
    pub has: Vec<Standing>,
    /// What it is to be given.
    pub gives: Vec<Grant>,
    /// Whether it used more than is noted of one account.
    pub is_partial: bool,
}

/// A permission that was used on a resource.
#[derive(Clone, Debug)]
pub struct Use {
    /// The permission.
    pub permission: String,
    /// The resource, in full.
    pub resource: String,
    /// When it was first noted, in seconds.
    pub first: u64,
    /// When it was last noted, in seconds.
    pub last: u64,
    /// How often it was noted.
    pub count: u64,
    /// What gives it now.
    pub origin: Origin,
}

/// What gives a permission now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The account's own bindings.
    Own,
    /// A conditional binding of the account.
    Conditional,
    /// A binding of another member, such as a group or everybody.
    Other(String),
    /// Nothing any more.
    Lost,
}

/// A role on a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The resource whose policy holds it, in full.
    pub resource: String,
    /// The role.
    pub role: String,
    /// When it holds, by title and expression; always, if absent.
    pub condition: Option<(String, String)>,
    /// What the condition is described as; empty without one.
    pub description: String,
}

/// A binding that an account has, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The binding.
    pub grant: Grant,
    /// How many permissions its role has.
    pub permissions: u32,
    /// Which of them were used by it.
    pub used: Vec<String>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Keep,
    /// Nothing was ever used by it.
    Unused,
    /// Narrower ones take its place.
    Replaced,
}

/// A binding of the account while the answer is made.
struct Own {
    grant: Grant,
    used: BTreeSet<String>,
    /// Whether it stays whatever else is found.
    is_kept: bool,
}

/// What is needed, by the resource that it is to be granted on.
type Needs = BTreeMap<(String, String), PermissionSet>;

impl Iam {
    /// Works out the least that an account needs.
    ///
    /// # Errors
    /// `NOT_FOUND` for an account that does not exist; those of the store.
    pub async fn least(&self, email: &str) -> Result<Least> {
        let account = self.require_account(email)?;
        let (records, is_partial) = self.used_by(&account.email).await?;
        let mut own = self.own_bindings(&account);
        let mut needs = Needs::new();
        let uses = records.iter().map(|used| self.traced(&account, used, &mut own, &mut needs)).collect();
        let gives = self.given(&needs, &mut own);
        let has: Vec<Standing> = own.into_iter().map(|one| self.standing(one, &gives)).collect();
        let is_there = |give: &Grant| has.iter().any(|one| one.fate == Fate::Keep && one.grant.is_same(give));
        let gives = gives.into_iter().filter(|give| !is_there(give)).collect();
        Ok(Least { account: account.email, uses, has, gives, is_partial })
    }

    /// The bindings that name the account itself, on any resource.
    fn own_bindings(&self, account: &AccountRecord) -> Vec<Own> {
        let is_it = |member: &MemberRecord| {
            matches!(Member::parse(&member.name), Ok(Member::ServiceAccount(email)) if email == account.email)
                && (member.unique_id.is_empty() || member.unique_id == account.unique_id)
        };
        let mut own = Vec::new();
        for (name, policy) in self.policies.list() {
            let Some((service, level)) = name.split_once('/') else { continue };
            for binding in policy.bindings.iter().filter(|binding| binding.members.iter().any(is_it)) {
                let grant =
                    Grant::of(self.full_name(service, level), &binding.role, binding.condition.as_ref());
                own.push(Own { grant, used: BTreeSet::new(), is_kept: false });
            }
        }
        own.sort_by(|a, b| a.grant.cmp(&b.grant));
        own
    }

    /// Says what gives a permission that was used, and notes it where it has to be given again.
    fn traced(&self, account: &AccountRecord, used: &UseRecord, own: &mut [Own], needs: &mut Needs) -> Use {
        let question = Question {
            principal: Principal::ServiceAccount(account.email.as_str().into()),
            permission: used.permission.clone(),
            service: used.service.clone(),
            name: used.name.clone(),
            time: self.clock.now(),
            destination: None,
            resource: None,
        };
        let explained = self.explain(&question);
        let origin = self.origin(account, &explained, used, own);
        if origin == Origin::Own {
            self.need(used, &explained.name, own, needs);
        }
        Use {
            permission: used.permission.clone(),
            resource: self.full_name(&used.service, &explained.name),
            first: used.first,
            last: used.last,
            count: used.count,
            origin,
        }
    }

    fn origin(
        &self,
        account: &AccountRecord,
        explained: &Explanation,
        used: &UseRecord,
        own: &mut [Own],
    ) -> Origin {
        let its_name = format!("serviceAccount:{}", account.email);
        let (mut plain, mut conditional, mut other) = (Vec::new(), Vec::new(), None);
        for (level, binding) in bindings(&explained.levels).filter(|(_, binding)| binding.has_permission) {
            let named = binding.members.iter().filter(|(_, is_named)| *is_named);
            for (member, _) in named {
                let condition = binding.condition.as_ref();
                if !member.eq_ignore_ascii_case(&its_name) {
                    if binding.grants() {
                        other.get_or_insert_with(|| member.clone());
                    }
                    continue;
                }
                let expression = condition.map(|one| one.expression.as_str());
                let found =
                    own.iter().position(|one| one.grant.is(&level.resource, &binding.role, expression));
                let Some(index) = found else { continue };
                match condition {
                    None => plain.push(index),
                    Some(one) if !is_momentary(&one.expression) && one.holds == Ok(true) => {
                        conditional.push(index)
                    }
                    Some(_) if plain.is_empty() => conditional.push(index),
                    Some(_) => {}
                }
            }
        }
        let is_held = |index: &usize| {
            let condition = own[*index].grant.condition.as_ref();
            condition.is_some_and(|(_, expression)| !is_momentary(expression))
        };
        let by_condition = !conditional.is_empty() && (plain.is_empty() || conditional.iter().any(is_held));
        let mut mark = |indices: &[usize], is_kept: bool| {
            for index in indices {
                own[*index].used.insert(used.permission.clone());
                own[*index].is_kept |= is_kept;
            }
        };
        match (by_condition, plain.is_empty(), other) {
            (true, ..) => {
                mark(&conditional, true);
                mark(&plain, false);
                Origin::Conditional
            }
            (false, false, _) => {
                mark(&plain, false);
                Origin::Own
            }
            (false, true, Some(member)) => Origin::Other(member),
            (false, true, None) => Origin::Lost,
        }
    }

    /// Notes what has to be given again; what only a basic role has keeps its bindings.
    fn need(&self, used: &UseRecord, name: &str, own: &mut [Own], needs: &mut Needs) {
        let known = Permission::named(&used.permission);
        let place = (service_of_level(&used.service, name).to_owned(), name.to_owned());
        let candidates = known.map(|known| (known, self.candidates(&place, own)));
        match candidates {
            Some((known, found)) if found.iter().any(|(_, one)| one.set.contains(known)) => {
                needs.entry(place).or_default().insert(known);
            }
            _ => {
                for one in own.iter_mut().filter(|one| one.used.contains(&used.permission)) {
                    one.is_kept = true;
                }
            }
        }
    }

    /// The roles that can be granted on a resource: predefined ones but for the basic, and custom ones that the account
    /// has there.
    fn candidates(&self, (service, name): &(String, String), own: &[Own]) -> Vec<(String, Candidate)> {
        let at = self.place_of_grant(service, name);
        let granted_on = if at.condition.is_some() { RESOURCE_MANAGER } else { service };
        let is_held = |role: &str| own.iter().any(|one| one.grant.is_same(&at.with(role)));
        let predefined =
            Role::all().iter().filter(|role| role.basic().is_none() && role.concerns(granted_on));
        let predefined = predefined.map(|role| (role.name.clone(), *role.permissions(), is_held(&role.name)));
        let custom = own.iter().map(|one| &one.grant.role).filter(|role| Role::named(role).is_none());
        let custom = custom.filter(|role| is_held(role));
        let custom = custom.filter_map(|role| Some((role.clone(), self.index.permissions_of(role)?, true)));
        predefined.chain(custom).map(|(role, set, is_held)| (role, Candidate { set, is_held })).collect()
    }

    /// The roles for all that is needed: on what stands above first, since that holds below too.
    fn given(&self, needs: &Needs, own: &mut [Own]) -> Vec<Grant> {
        let mut places: Vec<_> = needs.iter().collect();
        places.sort_by_key(|((_, name), _)| (name.matches('/').count(), name.clone()));
        let mut above: BTreeMap<&str, PermissionSet> = BTreeMap::new();
        let mut given = Vec::new();
        for (place, needed) in places {
            let project = container(&place.1).unwrap_or(&place.1);
            let inherited = above.get(project).copied().unwrap_or_default();
            let mut missing = PermissionSet::default();
            needed.iter().filter(|one| !inherited.contains(*one)).for_each(|one| missing.insert(one));
            let (roles, candidates): (Vec<_>, Vec<_>) = self.candidates(place, own).into_iter().unzip();
            let chosen = cover::cover(&missing, &candidates);
            if place.0 == RESOURCE_MANAGER {
                let union = above.entry(project).or_default();
                chosen.iter().for_each(|index| union.add(&candidates[*index].set));
            }
            let at = self.place_of_grant(&place.0, &place.1);
            given.extend(chosen.into_iter().map(|index| at.with(&roles[index])));
        }
        given
    }

    /// Where a role for a resource is granted: on itself, or for a database on its project, by its name.
    fn place_of_grant(&self, service: &str, name: &str) -> Grant {
        let instance = name.rsplit('/').next().unwrap_or_default();
        let condition = (service == DATABASES).then(|| {
            let expression = format!("resource.service == \"{DATABASES}\" && resource.name == \"{name}\"");
            (format!("only {instance}"), expression)
        });
        let resource = match condition {
            Some(_) => format!("//{RESOURCE_MANAGER}/{}", container(name).unwrap_or(name)),
            None => self.full_name(service, &self.canonical(service, name)),
        };
        Grant { resource, condition, ..Grant::default() }
    }

    fn standing(&self, own: Own, gives: &[Grant]) -> Standing {
        let is_given = gives.iter().any(|give| give.is_same(&own.grant));
        let fate = match () {
            () if own.is_kept || is_given => Fate::Keep,
            () if own.used.is_empty() => Fate::Unused,
            () => Fate::Replaced,
        };
        let permissions = self.index.permissions_of(&own.grant.role).map_or(0, |set| set.len());
        Standing { grant: own.grant, permissions, used: own.used.into_iter().collect(), fate }
    }
}

impl Grant {
    fn of(resource: String, role: &str, condition: Option<&ConditionRecord>) -> Self {
        Grant {
            resource,
            role: role.to_owned(),
            description: condition.map_or_else(String::new, |one| one.description.clone()),
            condition: condition.map(|one| (one.title.clone(), one.expression.clone())),
        }
    }

    fn with(&self, role: &str) -> Self {
        Grant { role: role.to_owned(), ..self.clone() }
    }

    /// Whether it is the binding of a role, by its condition's expression.
    fn is(&self, resource: &str, role: &str, expression: Option<&str>) -> bool {
        let its = self.condition.as_ref().map(|(_, expression)| expression.as_str());
        self.resource == resource && self.role == role && its == expression
    }

    /// Whether two say the same, whatever their conditions are called.
    fn is_same(&self, other: &Grant) -> bool {
        self.is(
            &other.resource,
            &other.role,
            other.condition.as_ref().map(|(_, expression)| expression.as_str()),
        )
    }
}

fn bindings(levels: &[Level]) -> impl Iterator<Item = (&Level, &crate::ExplainedBinding)> {
    levels.iter().flat_map(|level| level.bindings.iter().map(move |binding| (level, binding)))
}

/// Whether a condition may hold today and not tomorrow.
fn is_momentary(expression: &str) -> bool {
    expression.contains("request.") || expression.contains("destination.")
}

/// The service whose policy a level has: containers are Resource Manager's.
fn service_of_level<'s>(service: &'s str, name: &str) -> &'s str {
    if is_container(name) { RESOURCE_MANAGER } else { service }
}
