//! Organization policies as Resource Manager v1 has them, for `gcloud resource-manager org-policies` and Terraform's
//! older resources. They are the same policies: of what this version cannot say (several rules, trying out), it shows
//! what comes to the same and keeps the rest.

use std::sync::Arc;

use apis::google::discovery::cloudresourcemanager::v1::{
    self as proto, BooleanPolicy, ListPolicy, OrgPolicy, RestoreDefault, folders, organizations, projects,
};
use kernel::{
    Caller, Error, Method, Mount, Result, etag, grant,
    method::Grant,
    paging::{Limits, Page},
    time::Micros,
};
use prost_types::Timestamp;

use crate::{
    OrgPolicies,
    constraints::{ALL, Constraint, Default as Fallback, Kind},
    engine::{Before, Held, etag_of, is_missing, not_found},
    record::{PolicyRecord, RuleRecord, Says, SpecRecord},
};

const PAGES: Limits = Limits { usual: 100, most: 1000 };

const MAY_GET: &[Grant] = &[grant("orgpolicy.policy.get", "{resource}")];
const MAY_SET: &[Grant] = &[grant("orgpolicy.policy.set", "{resource}")];
const MAY_LIST: &[Grant] = &[grant("orgpolicy.policies.list", "{resource}")];
const MAY_LIST_CONSTRAINTS: &[Grant] = &[grant("orgpolicy.constraints.list", "{resource}")];

/// The methods of one kind of container.
macro_rules! serve {
    ($mount:expr, $of:ident) => {
        $mount
            .unary($of::GET_ORG_POLICY, MAY_GET, get)
            .unary($of::GET_EFFECTIVE_ORG_POLICY, MAY_GET, get_effective)
            .unary($of::SET_ORG_POLICY, MAY_SET, set)
            .unary($of::CLEAR_ORG_POLICY, MAY_SET, clear)
            .unary($of::LIST_ORG_POLICIES, MAY_LIST, list)
            .unary($of::LIST_AVAILABLE_ORG_POLICY_CONSTRAINTS, MAY_LIST_CONSTRAINTS, list_constraints)
    };
}

pub(super) fn methods(policies: Arc<OrgPolicies>) -> Vec<Method> {
    let mount = serve!(Mount::new(policies), projects);
    serve!(serve!(mount, folders), organizations).done()
}

/// A request about a container: which one, and what of it. There is one for each kind of container, and they differ in
/// nothing but their names.
trait Asked<B>: Send + 'static {
    fn taken(self) -> (String, B);
}

macro_rules! asked {
    ($($body:ident: $($request:ident),*;)*) => { $($(
        impl Asked<proto::$body> for proto::$request {
            fn taken(self) -> (String, proto::$body) {
                (self.resource, self.body.unwrap_or_default())
            }
        }
    )*)* };
}

asked! {
    GetOrgPolicyRequest:
        ProjectsGetOrgPolicyRequest, FoldersGetOrgPolicyRequest, OrganizationsGetOrgPolicyRequest;
    GetEffectiveOrgPolicyRequest: ProjectsGetEffectiveOrgPolicyRequest, FoldersGetEffectiveOrgPolicyRequest,
        OrganizationsGetEffectiveOrgPolicyRequest;
    SetOrgPolicyRequest:
        ProjectsSetOrgPolicyRequest, FoldersSetOrgPolicyRequest, OrganizationsSetOrgPolicyRequest;
    ClearOrgPolicyRequest:
        ProjectsClearOrgPolicyRequest, FoldersClearOrgPolicyRequest, OrganizationsClearOrgPolicyRequest;
    ListOrgPoliciesRequest:
        ProjectsListOrgPoliciesRequest, FoldersListOrgPoliciesRequest, OrganizationsListOrgPoliciesRequest;
    ListAvailableOrgPolicyConstraintsRequest: ProjectsListAvailableOrgPolicyConstraintsRequest,
        FoldersListAvailableOrgPolicyConstraintsRequest, OrganizationsListAvailableOrgPolicyConstraintsRequest;
}

async fn get(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::GetOrgPolicyRequest>,
) -> Result<OrgPolicy> {
    let (resource, body) = request.taken();
    let container = policies.container(&resource).await?;
    let constraint = named(&body.constraint)?;
    Ok(policies
        .find(&container, constraint)
        .map_or_else(|| unset(constraint), |held| show(constraint, &held)))
}

async fn get_effective(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::GetEffectiveOrgPolicyRequest>,
) -> Result<OrgPolicy> {
    let (resource, body) = request.taken();
    let container = policies.container(&resource).await?;
    let constraint = named(&body.constraint)?;
    let rules = policies.effective(&container, constraint).rules();
    let spec = SpecRecord { rules, ..SpecRecord::default() };
    Ok(OrgPolicy { etag: None, update_time: None, ..show_spec(constraint, &spec) })
}

async fn set(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::SetOrgPolicyRequest>,
) -> Result<OrgPolicy> {
    let (resource, body) = request.taken();
    let Some(policy) = body.policy else {
        return Err(Error::bad_field("policy", "Field [policy] is required."));
    };
    let container = policies.container(&resource).await?;
    let constraint = named(&policy.constraint)?;
    let spec = read(&policy, policies.now())?;
    let given = policy.etag.unwrap_or_default();
    let expected = |revision: u64| etag::allows_bytes(&given, revision);
    let change = |now: PolicyRecord| PolicyRecord { spec: Some(spec), ..now };
    let held = policies.put(&container, constraint, Before::Anything, expected, change).await?;
    Ok(show(constraint, &held))
}

async fn clear(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::ClearOrgPolicyRequest>,
) -> Result<proto::Empty> {
    let (resource, body) = request.taken();
    let container = policies.container(&resource).await?;
    let constraint = named(&body.constraint)?;
    let given = body.etag.unwrap_or_default();
    match policies.delete(&container, constraint, |revision| etag::allows_bytes(&given, revision)).await {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(proto::Empty {}),
    }
}

async fn list(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::ListOrgPoliciesRequest>,
) -> Result<proto::ListOrgPoliciesResponse> {
    let (resource, body) = request.taken();
    let container = policies.container(&resource).await?;
    let token = body.page_token.unwrap_or_default();
    let page = Page::new(PAGES, body.page_size.unwrap_or_default(), &token, &[&resource])?;
    let mut rest = policies.list(&container);
    rest.retain(|(constraint, _)| constraint.name > page.after());
    let (found, next) = page.cut(rest, |(constraint, _)| constraint.name);
    Ok(proto::ListOrgPoliciesResponse {
        next_page_token: (!next.is_empty()).then_some(next),
        policies: found.iter().map(|(constraint, held)| show(constraint, held)).collect(),
    })
}

async fn list_constraints(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: impl Asked<proto::ListAvailableOrgPolicyConstraintsRequest>,
) -> Result<proto::ListAvailableOrgPolicyConstraintsResponse> {
    let (resource, body) = request.taken();
    policies.container(&resource).await?;
    let token = body.page_token.unwrap_or_default();
    let page = Page::new(PAGES, body.page_size.unwrap_or_default(), &token, &[&resource])?;
    let rest = ALL.iter().filter(|one| one.name > page.after()).take(page.size() + 1).collect();
    let (found, next) = page.cut(rest, |one| one.name);
    Ok(proto::ListAvailableOrgPolicyConstraintsResponse {
        constraints: found.into_iter().map(show_constraint).collect(),
        next_page_token: (!next.is_empty()).then_some(next),
    })
}

/// The constraint of `constraints/NAME`.
fn named(name: &Option<String>) -> Result<&'static Constraint> {
    let name = name.as_deref().unwrap_or_default();
    name.strip_prefix("constraints/").and_then(Constraint::named).ok_or_else(not_found)
}

fn read(policy: &OrgPolicy, now: Micros) -> Result<SpecRecord> {
    let spec = SpecRecord { update_time: now.0, ..SpecRecord::default() };
    match (&policy.boolean_policy, &policy.list_policy, &policy.restore_default) {
        (Some(boolean), None, None) => {
            let says = if boolean.enforced == Some(true) { Says::Enforce } else { Says::Leave };
            Ok(SpecRecord { rules: vec![RuleRecord { says: says.into(), ..RuleRecord::default() }], ..spec })
        }
        (None, Some(list), None) => {
            let inherit = list.inherit_from_parent == Some(true);
            Ok(SpecRecord { rules: read_list(list)?.into_iter().collect(), inherit, ..spec })
        }
        (None, None, Some(_)) => Ok(SpecRecord { reset: true, ..spec }),
        _ => Err(Error::bad_field(
            "policy",
            "A policy has one of booleanPolicy, listPolicy and restoreDefault.",
        )),
    }
}

/// The rule of a list; none where it only inherits.
fn read_list(list: &ListPolicy) -> Result<Option<RuleRecord>> {
    let values = (list.allowed_values.clone(), list.denied_values.clone());
    let (says, (allowed, denied)) = match (list.all_values.as_deref().unwrap_or_default(), values) {
        ("" | "ALL_VALUES_UNSPECIFIED", values) => (Says::Values, values),
        ("ALLOW", none) if none == Default::default() => (Says::AllowAll, none),
        ("DENY", none) if none == Default::default() => (Says::DenyAll, none),
        _ => {
            let text = "allValues is ALLOW or DENY, and then no values are listed.";
            return Err(Error::bad_field("policy.list_policy.all_values", text));
        }
    };
    let says_something = says != Says::Values || !allowed.is_empty() || !denied.is_empty();
    Ok(says_something.then(|| RuleRecord { says: says.into(), allowed, denied }))
}

fn unset(constraint: &Constraint) -> OrgPolicy {
    OrgPolicy {
        constraint: Some(format!("constraints/{}", constraint.name)),
        etag: Some(etag_of(0).into()),
        ..OrgPolicy::default()
    }
}

fn show(constraint: &Constraint, held: &Held) -> OrgPolicy {
    let etag = Some(etag_of(held.revision).into());
    match &held.spec {
        Some(spec) => OrgPolicy { etag, ..show_spec(constraint, spec) },
        None => OrgPolicy { etag, ..unset(constraint) },
    }
}

fn show_spec(constraint: &Constraint, spec: &SpecRecord) -> OrgPolicy {
    let says = |says: Says| spec.rules.iter().any(|rule| rule.says() == says);
    let is_boolean = constraint.kind == Kind::Boolean;
    let boolean = || BooleanPolicy { enforced: says(Says::Enforce).then_some(true) };
    OrgPolicy {
        update_time: Some(Timestamp::from(Micros(spec.update_time)).to_string()),
        restore_default: spec.reset.then_some(RestoreDefault {}),
        boolean_policy: (is_boolean && !spec.reset).then(boolean),
        list_policy: (!is_boolean && !spec.reset).then(|| show_list(spec)),
        ..unset(constraint)
    }
}

fn show_list(spec: &SpecRecord) -> ListPolicy {
    let says = |says: Says| spec.rules.iter().any(|rule| rule.says() == says);
    let all = match () {
        () if says(Says::DenyAll) => Some("DENY"),
        () if says(Says::AllowAll) => Some("ALLOW"),
        () => None,
    };
    ListPolicy {
        all_values: all.map(str::to_owned),
        allowed_values: spec.rules.iter().flat_map(|rule| rule.allowed.clone()).collect(),
        denied_values: spec.rules.iter().flat_map(|rule| rule.denied.clone()).collect(),
        inherit_from_parent: spec.inherit.then_some(true),
        suggested_value: None,
    }
}

fn show_constraint(constraint: &Constraint) -> proto::Constraint {
    let (is_boolean, default) = match constraint.kind {
        Kind::Boolean => (true, Fallback::Allow),
        Kind::List { default, .. } => (false, default),
    };
    let default = if default == Fallback::Allow { "ALLOW" } else { "DENY" };
    proto::Constraint {
        boolean_constraint: is_boolean.then(proto::BooleanConstraint::default),
        constraint_default: Some(default.into()),
        description: Some(constraint.description.into()),
        display_name: Some(constraint.display_name.into()),
        list_constraint: (!is_boolean).then(proto::ListConstraint::default),
        name: Some(format!("constraints/{}", constraint.name)),
        version: Some(1),
    }
}
