//! `google.cloud.orgpolicy.v2.OrgPolicy`.

use std::sync::Arc;

use apis::google::cloud::orgpolicy::v2::{
    self as proto, Policy, PolicySpec, constraint as kinds, org_policy as rpc,
    policy_spec::{PolicyRule, policy_rule},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use kernel::{
    Caller, Error, Method, Mount, Result, etag, grant,
    paging::{Limits, Page},
    time::Micros,
};

use crate::{
    OrgPolicies,
    constraints::{ALL, Constraint, Default as Fallback, Kind},
    engine::{Before, Container, Held, etag_of, not_found},
    record::{PolicyRecord, RuleRecord, Says, SpecRecord},
};

const PAGES: Limits = Limits { usual: 100, most: 1000 };

pub(super) fn methods(policies: Arc<OrgPolicies>) -> Vec<Method> {
    Mount::new(policies)
        .unary(
            rpc::LIST_CONSTRAINTS,
            const { &[grant("orgpolicy.constraints.list", "{parent}")] },
            list_constraints,
        )
        .unary(rpc::LIST_POLICIES, const { &[grant("orgpolicy.policies.list", "{parent}")] }, list)
        .unary(rpc::GET_POLICY, const { &[grant("orgpolicy.policy.get", "{name}")] }, get)
        .unary(rpc::GET_EFFECTIVE_POLICY, const { &[grant("orgpolicy.policy.get", "{name}")] }, get_effective)
        .unary(rpc::CREATE_POLICY, const { &[grant("orgpolicy.policies.create", "{parent}")] }, create)
        .unary(rpc::UPDATE_POLICY, const { &[grant("orgpolicy.policies.update", "{policy.name}")] }, update)
        .unary(rpc::DELETE_POLICY, const { &[grant("orgpolicy.policies.delete", "{name}")] }, delete)
        .done()
}

async fn list_constraints(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: proto::ListConstraintsRequest,
) -> Result<proto::ListConstraintsResponse> {
    let container = policies.container(&request.parent).await?;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&request.parent])?;
    let rest = ALL.iter().filter(|one| one.name > page.after()).take(page.size() + 1).collect();
    let (found, next_page_token) = page.cut(rest, |one| one.name);
    let constraints = found.into_iter().map(|one| show_constraint(&container, one)).collect();
    Ok(proto::ListConstraintsResponse { constraints, next_page_token })
}

async fn list(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: proto::ListPoliciesRequest,
) -> Result<proto::ListPoliciesResponse> {
    let container = policies.container(&request.parent).await?;
    let page = Page::new(PAGES, request.page_size, &request.page_token, &[&request.parent])?;
    let mut rest = policies.list(&container);
    rest.retain(|(constraint, _)| constraint.name > page.after());
    let (found, next_page_token) = page.cut(rest, |(constraint, _)| constraint.name);
    let policies = found.iter().map(|(constraint, held)| show(&container, constraint, held)).collect();
    Ok(proto::ListPoliciesResponse { policies, next_page_token })
}

async fn get(policies: Arc<OrgPolicies>, _: Caller, request: proto::GetPolicyRequest) -> Result<Policy> {
    let (container, constraint) = named(&policies, &request.name).await?;
    let held = policies.find(&container, constraint).ok_or_else(not_found)?;
    Ok(show(&container, constraint, &held))
}

async fn get_effective(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: proto::GetEffectivePolicyRequest,
) -> Result<Policy> {
    let (container, constraint) = named(&policies, &request.name).await?;
    let rules = policies.effective(&container, constraint).rules();
    let spec = PolicySpec { rules: rules.iter().map(show_rule).collect(), ..PolicySpec::default() };
    Ok(Policy { name: name(&container, constraint), spec: Some(spec), ..Policy::default() })
}

async fn create(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: proto::CreatePolicyRequest,
) -> Result<Policy> {
    let Some(policy) = request.policy else { return Err(missing()) };
    let parent = policies.container(&request.parent).await?;
    let (container, constraint) = named(&policies, &policy.name).await?;
    if container != parent {
        return Err(Error::bad_field("policy.name", "The policy's name is not below the parent."));
    }
    let given = read(&policies, &policy)?;
    let held = policies.put(&container, constraint, Before::Nothing, |_| true, |_| given).await?;
    Ok(show(&container, constraint, &held))
}

async fn update(
    policies: Arc<OrgPolicies>,
    _: Caller,
    request: proto::UpdatePolicyRequest,
) -> Result<Policy> {
    let Some(policy) = request.policy else { return Err(missing()) };
    let (container, constraint) = named(&policies, &policy.name).await?;
    let mask = Mask::of(&request.update_mask.unwrap_or_default().paths)?;
    let given = read(&policies, &policy)?;
    let etag = [&policy.etag, policy.spec.as_ref().map_or(&policy.etag, |spec| &spec.etag)];
    let expected = |revision: u64| etag.iter().all(|given| accepts(given, revision));
    let change = |now: PolicyRecord| PolicyRecord {
        spec: if mask.spec { given.spec } else { now.spec },
        dry_run: if mask.dry_run { given.dry_run } else { now.dry_run },
    };
    let held = policies.put(&container, constraint, Before::Something, expected, change).await?;
    Ok(show(&container, constraint, &held))
}

async fn delete(policies: Arc<OrgPolicies>, _: Caller, request: proto::DeletePolicyRequest) -> Result<()> {
    let (container, constraint) = named(&policies, &request.name).await?;
    policies.delete(&container, constraint, |revision| accepts(&request.etag, revision)).await
}

/// Which parts of a policy an update replaces: all, unless it says otherwise.
struct Mask {
    spec: bool,
    dry_run: bool,
}

impl Mask {
    fn of(paths: &[String]) -> Result<Self> {
        let mut mask = Mask { spec: paths.is_empty(), dry_run: paths.is_empty() };
        for path in paths {
            match path.strip_prefix("policy.").unwrap_or(path) {
                "*" | "policy" => mask = Mask { spec: true, dry_run: true },
                "spec" => mask.spec = true,
                "dry_run_spec" | "dryRunSpec" => mask.dry_run = true,
                other => {
                    let text = format!(
                        "Field [{other}] cannot be updated: use policy.spec, policy.dry_run_spec or *."
                    );
                    return Err(Error::bad_field("update_mask", text));
                }
            }
        }
        Ok(mask)
    }
}

fn accepts(given: &str, revision: u64) -> bool {
    given.is_empty() || STANDARD.decode(given).is_ok_and(|given| etag::allows_bytes(&given, revision))
}

fn missing() -> Error {
    Error::bad_field("policy", "Field [policy] is required.")
}

/// The container and the constraint of `CONTAINER/policies/CONSTRAINT`.
async fn named(policies: &OrgPolicies, name: &str) -> Result<(Container, &'static Constraint)> {
    let Some((container, constraint)) = name.split_once("/policies/") else {
        return Err(Error::bad_field("name", format!("Name [{name}] is not of the form */*/policies/*.")));
    };
    let container = policies.container(container).await?;
    Ok((container, Constraint::named(constraint).ok_or_else(not_found)?))
}

fn name(container: &Container, constraint: &Constraint) -> String {
    format!("{}/policies/{}", container.shown, constraint.name)
}

fn read(policies: &OrgPolicies, policy: &Policy) -> Result<PolicyRecord> {
    let now = policies.now();
    let spec = |spec: &Option<PolicySpec>| spec.as_ref().map(|spec| read_spec(spec, now)).transpose();
    Ok(PolicyRecord { spec: spec(&policy.spec)?, dry_run: spec(&policy.dry_run_spec)? })
}

fn read_spec(spec: &PolicySpec, now: Micros) -> Result<SpecRecord> {
    Ok(SpecRecord {
        update_time: now.0,
        rules: spec.rules.iter().map(read_rule).collect::<Result<_>>()?,
        inherit: spec.inherit_from_parent,
        reset: spec.reset,
    })
}

fn read_rule(rule: &PolicyRule) -> Result<RuleRecord> {
    if rule.condition.is_some() {
        return Err(Error::unimplemented("Conditions of organization policies are not served."));
    }
    if rule.parameters.is_some() {
        return Err(Error::unimplemented("Parameters of managed constraints are not served."));
    }
    let rule_of = |says: Says| RuleRecord { says: says.into(), ..RuleRecord::default() };
    match &rule.kind {
        Some(policy_rule::Kind::Values(values)) => Ok(RuleRecord {
            allowed: values.allowed_values.clone(),
            denied: values.denied_values.clone(),
            ..rule_of(Says::Values)
        }),
        Some(policy_rule::Kind::AllowAll(true)) => Ok(rule_of(Says::AllowAll)),
        Some(policy_rule::Kind::DenyAll(true)) => Ok(rule_of(Says::DenyAll)),
        Some(policy_rule::Kind::Enforce(true)) => Ok(rule_of(Says::Enforce)),
        Some(policy_rule::Kind::Enforce(false)) => Ok(rule_of(Says::Leave)),
        _ => Err(Error::bad_field("policy.spec.rules", "A rule must say something.")),
    }
}

fn show(container: &Container, constraint: &Constraint, held: &Held) -> Policy {
    let etag = STANDARD.encode(etag_of(held.revision));
    let spec = |spec: &SpecRecord| PolicySpec {
        etag: etag.clone(),
        update_time: Some(Micros(spec.update_time).into()),
        rules: spec.rules.iter().map(show_rule).collect(),
        inherit_from_parent: spec.inherit,
        reset: spec.reset,
    };
    Policy {
        name: name(container, constraint),
        spec: held.spec.as_ref().map(spec),
        dry_run_spec: held.dry_run.as_ref().map(spec),
        etag: etag.clone(),
        ..Policy::default()
    }
}

fn show_rule(rule: &RuleRecord) -> PolicyRule {
    let kind = match rule.says() {
        Says::Values => policy_rule::Kind::Values(policy_rule::StringValues {
            allowed_values: rule.allowed.clone(),
            denied_values: rule.denied.clone(),
        }),
        Says::AllowAll => policy_rule::Kind::AllowAll(true),
        Says::DenyAll => policy_rule::Kind::DenyAll(true),
        Says::Enforce => policy_rule::Kind::Enforce(true),
        Says::Leave => policy_rule::Kind::Enforce(false),
    };
    PolicyRule { kind: Some(kind), ..PolicyRule::default() }
}

fn show_constraint(container: &Container, constraint: &Constraint) -> proto::Constraint {
    let (kind, default) = match constraint.kind {
        Kind::Boolean => {
            (kinds::ConstraintType::BooleanConstraint(kinds::BooleanConstraint::default()), Fallback::Allow)
        }
        Kind::List { default, .. } => {
            (kinds::ConstraintType::ListConstraint(kinds::ListConstraint::default()), default)
        }
    };
    let default = match default {
        Fallback::Allow => kinds::ConstraintDefault::Allow,
        Fallback::Deny => kinds::ConstraintDefault::Deny,
    };
    proto::Constraint {
        name: format!("{}/constraints/{}", container.shown, constraint.name),
        display_name: constraint.display_name.to_owned(),
        description: constraint.description.to_owned(),
        constraint_default: default.into(),
        supports_dry_run: true,
        constraint_type: Some(kind),
        ..proto::Constraint::default()
    }
}
