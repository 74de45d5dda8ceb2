//! Policy Troubleshooter: why somebody may do something, or may not, for those who may see the policies.
//!
//! Deny policies do not exist here, so none denies. What the caller may not see (no `getIamPolicy` there) is answered as
//! unknown, as Google answers it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use apis::google::{
    cloud::policytroubleshooter::iam::v3::{
        allow_binding_explanation::AnnotatedAllowMembership, condition_explanation::EvaluationState,
        policy_troubleshooter::TROUBLESHOOT_IAM_POLICY, troubleshoot_iam_policy_response::OverallAccessState,
        *,
    },
    iam::v1::Policy,
    rpc::Status,
    r#type::Expr,
};
use kernel::{Caller, Error, Mount, Resource, Result, names::RESOURCE_MANAGER, ports::Policies};

use super::roles::resource_of;
use crate::{
    Explanation, Iam, Level,
    explain::{ExplainedBinding, ExplainedCondition, Question},
    policies::is_permission,
};

pub(super) fn mount(mount: Mount<Iam>) -> Mount<Iam> {
    mount.unary(TROUBLESHOOT_IAM_POLICY, &[], troubleshoot)
}

async fn troubleshoot(
    iam: Arc<Iam>,
    caller: Caller,
    request: TroubleshootIamPolicyRequest,
) -> Result<TroubleshootIamPolicyResponse> {
    let mut tuple = request.access_tuple.unwrap_or_default();
    let question = question(&iam, &tuple)?;
    let explained = iam.explain(&question);
    let policies: Vec<ExplainedAllowPolicy> =
        explained.levels.iter().map(|level| policy(&iam, &caller, level)).collect();
    let overall = overall(&explained, &policies);
    tuple.permission_fqdn = fqdn(&tuple.permission);
    Ok(TroubleshootIamPolicyResponse {
        overall_access_state: overall as i32,
        access_tuple: Some(tuple),
        allow_policy_explanation: Some(AllowPolicyExplanation {
            allow_access_state: match overall {
                OverallAccessState::CanAccess => AllowAccessState::Granted,
                OverallAccessState::UnknownInfo => AllowAccessState::UnknownInfo,
                OverallAccessState::UnknownConditional => AllowAccessState::UnknownConditional,
                _ => AllowAccessState::NotGranted,
            } as i32,
            explained_policies: policies,
            relevance: HeuristicRelevance::High as i32,
        }),
        deny_policy_explanation: Some(DenyPolicyExplanation {
            deny_access_state: DenyAccessState::NotDenied as i32,
            relevance: HeuristicRelevance::Normal as i32,
            permission_deniable: true,
            explained_resources: Vec::new(),
        }),
    })
}

fn question(iam: &Iam, tuple: &AccessTuple) -> Result<Question> {
    let missing =
        |field: &str| Error::bad_field(format!("access_tuple.{field}"), format!("{field} is required."));
    if tuple.principal.is_empty() {
        return Err(missing("principal"));
    }
    if !is_permission(&tuple.permission) {
        let what = format!("Permission {} is not valid.", tuple.permission);
        return Err(Error::bad_field("access_tuple.permission", what));
    }
    let (service, name) = resource_of(&tuple.full_resource_name)?;
    let context = tuple.condition_context.clone().unwrap_or_default();
    let time = context.request.and_then(|request| request.receive_time);
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    let destination = context
        .destination
        .and_then(|peer| Some((peer.ip.parse::<IpAddr>().ok()?, u16::try_from(peer.port).ok()?)));
    let given = context.resource.filter(|given| !(given.name.is_empty() && given.r#type.is_empty()));
    Ok(Question {
        principal: iam.principal_called(&tuple.principal),
        permission: tuple.permission.clone(),
        service: service.to_owned(),
        name: name.to_owned(),
        time: time.unwrap_or_else(|| iam.clock.now()),
        destination,
        resource: given.map(|given| (given.service, given.r#type, given.name)),
    })
}

/// `secretmanager.googleapis.com/versions.access` for `secretmanager.versions.access`.
fn fqdn(permission: &str) -> String {
    match permission.split_once('.') {
        Some((service, rest)) if !rest.starts_with("googleapis.com/") => {
            let service = match service {
                "resourcemanager" => "cloudresourcemanager",
                other => other,
            };
            format!("{service}.googleapis.com/{rest}")
        }
        _ => permission.to_owned(),
    }
}

fn overall(explained: &Explanation, policies: &[ExplainedAllowPolicy]) -> OverallAccessState {
    let is =
        |state: AllowAccessState| policies.iter().any(|policy| policy.allow_access_state == state as i32);
    match () {
        () if is(AllowAccessState::Granted) => OverallAccessState::CanAccess,
        () if is(AllowAccessState::UnknownInfo) => OverallAccessState::UnknownInfo,
        () if explained.allowed => OverallAccessState::CanAccess,
        () if is(AllowAccessState::UnknownConditional) => OverallAccessState::UnknownConditional,
        () => OverallAccessState::CannotAccess,
    }
}

/// What a policy says, if the caller may see it.
fn policy(iam: &Iam, caller: &Caller, level: &Level) -> ExplainedAllowPolicy {
    let hidden = ExplainedAllowPolicy {
        allow_access_state: AllowAccessState::UnknownInfo as i32,
        full_resource_name: level.resource.clone(),
        relevance: HeuristicRelevance::Normal as i32,
        ..ExplainedAllowPolicy::default()
    };
    let Some((resource, permission)) = sight(&level.resource) else { return hidden };
    if !caller.may(&permission, &resource) {
        return hidden;
    }
    let state = level.bindings.iter().map(binding_state).max_by_key(|state| rank(*state));
    let state = state.unwrap_or(AllowAccessState::NotGranted);
    ExplainedAllowPolicy {
        allow_access_state: state as i32,
        binding_explanations: level.bindings.iter().map(explanation).collect(),
        relevance: relevance(state == AllowAccessState::Granted),
        policy: Some(if level.is_set {
            iam.get(&resource, 3).unwrap_or_default()
        } else {
            Policy::default()
        }),
        ..hidden
    }
}

/// What is asked of who wants to see a policy.
fn sight(full: &str) -> Option<(Resource, String)> {
    const SERVICES: [&str; 8] = [
        RESOURCE_MANAGER,
        "secretmanager.googleapis.com",
        "run.googleapis.com",
        "iam.googleapis.com",
        "storage.googleapis.com",
        "artifactregistry.googleapis.com",
        "sqladmin.googleapis.com",
        "pubsub.googleapis.com",
    ];
    let (service, name) = resource_of(full).ok()?;
    let service = SERVICES.into_iter().find(|known| *known == service).unwrap_or(RESOURCE_MANAGER);
    let kind = name.rsplit('/').nth(1)?;
    let prefix = match service {
        RESOURCE_MANAGER => "resourcemanager",
        service => service.split('.').next()?,
    };
    let asked = match (service, kind) {
        ("secretmanager.googleapis.com", "versions") => "secrets",
        (_, kind) => kind,
    };
    Some((Resource::new(service, name), format!("{prefix}.{asked}.getIamPolicy")))
}

fn binding_state(binding: &ExplainedBinding) -> AllowAccessState {
    match &binding.condition {
        _ if !(binding.has_permission && binding.names()) => AllowAccessState::NotGranted,
        Some(ExplainedCondition { holds: Err(_), .. }) => AllowAccessState::UnknownConditional,
        Some(ExplainedCondition { holds: Ok(false), .. }) => AllowAccessState::NotGranted,
        _ => AllowAccessState::Granted,
    }
}

fn rank(state: AllowAccessState) -> u8 {
    match state {
        AllowAccessState::Granted => 2,
        AllowAccessState::UnknownConditional => 1,
        _ => 0,
    }
}

fn relevance(is_high: bool) -> i32 {
    if is_high { HeuristicRelevance::High as i32 } else { HeuristicRelevance::Normal as i32 }
}

fn explanation(binding: &ExplainedBinding) -> AllowBindingExplanation {
    let membership = |is_named: bool| AnnotatedAllowMembership {
        membership: match is_named {
            true => MembershipMatchingState::MembershipMatched as i32,
            false => MembershipMatchingState::MembershipNotMatched as i32,
        },
        relevance: relevance(is_named),
    };
    AllowBindingExplanation {
        allow_access_state: binding_state(binding) as i32,
        role: binding.role.clone(),
        role_permission: match binding.has_permission {
            true => RolePermissionInclusionState::RolePermissionIncluded as i32,
            false => RolePermissionInclusionState::RolePermissionNotIncluded as i32,
        },
        role_permission_relevance: relevance(binding.has_permission),
        combined_membership: Some(membership(binding.names())),
        memberships: binding
            .members
            .iter()
            .map(|(member, is_named)| (member.clone(), membership(*is_named)))
            .collect::<BTreeMap<_, _>>(),
        relevance: relevance(binding.has_permission && binding.names()),
        condition: binding.condition.as_ref().map(|condition| Expr {
            expression: condition.expression.clone(),
            title: condition.title.clone(),
            description: condition.description.clone(),
            ..Expr::default()
        }),
        condition_explanation: binding.condition.as_ref().map(condition),
    }
}

fn condition(condition: &ExplainedCondition) -> ConditionExplanation {
    let value = |held: bool| prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(held)) };
    let value = condition.holds.as_ref().ok().map(|held| value(*held));
    let error = condition.holds.as_ref().err().map(|what| Status {
        code: kernel::Code::InvalidArgument as i32,
        message: format!("no such attribute: {what}"),
        details: Vec::new(),
    });
    let errors: Vec<Status> = error.into_iter().collect();
    ConditionExplanation {
        value: value.clone(),
        errors: errors.clone(),
        evaluation_states: vec![EvaluationState {
            start: 0,
            end: i32::try_from(condition.expression.len()).unwrap_or(i32::MAX),
            value,
            errors,
        }],
    }
}
