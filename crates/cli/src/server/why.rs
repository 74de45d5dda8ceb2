//! What `haar iam why` asks: the explanation of a decision, as JSON.

use std::time::SystemTime;

use iam::{ExplainedBinding, ExplainedCondition, Explanation, Iam, Level, Question};
use serde_json::{Value, json};

/// Answers a question; `None` when it does not say who, what and on which resource.
pub fn answer(iam: &Iam, asked: &Value, project: &str) -> Option<Value> {
    let text = |name: &str| asked[name].as_str().filter(|text| !text.is_empty());
    let (principal, permission) = (text("principal")?, text("permission")?);
    let (service, name) = resource(text("resource")?, permission, text("project").unwrap_or(project));
    let question = Question {
        principal: iam.principal_called(principal),
        permission: permission.to_owned(),
        service,
        name,
        time: SystemTime::now(),
        destination: None,
        resource: None,
    };
    Some(shown(&question, &iam.explain(&question)))
}

/// The service and the relative name of what was typed: a full name, a relative one, or what follows the project.
fn resource(typed: &str, permission: &str, project: &str) -> (String, String) {
    if let Some((service, name)) = typed.strip_prefix("//").and_then(|full| full.split_once('/')) {
        return (service.to_owned(), name.to_owned());
    }
    let prefix = permission.split('.').next().unwrap_or_default();
    let service = match prefix {
        "resourcemanager" => "cloudresourcemanager",
        "cloudsql" => "sqladmin",
        prefix => prefix,
    };
    let is_rooted = ["projects/", "folders/", "organizations/"].iter().any(|root| typed.starts_with(root));
    let name = if is_rooted { typed.to_owned() } else { format!("projects/{project}/{typed}") };
    (format!("{service}.googleapis.com"), name)
}

fn shown(question: &Question, explanation: &Explanation) -> Value {
    json!({
        "allowed": explanation.allowed,
        "principal": question.principal.member().unwrap_or_else(|| "allUsers".into()),
        "permission": question.permission,
        "resource": format!("//{}/{}", question.service, explanation.name),
        "policies": explanation.levels.iter().map(level).collect::<Vec<_>>(),
        "roles": explanation.roles,
    })
}

fn level(level: &Level) -> Value {
    json!({
        "resource": level.resource,
        "set": level.is_set,
        "bindings": level.bindings.iter().map(binding).collect::<Vec<_>>(),
    })
}

fn binding(binding: &ExplainedBinding) -> Value {
    let member = |(name, is_named): &(String, bool)| json!({ "member": name, "matches": is_named });
    json!({
        "role": binding.role,
        "hasPermission": binding.has_permission,
        "members": binding.members.iter().map(member).collect::<Vec<_>>(),
        "condition": binding.condition.as_ref().map(condition),
        "grants": binding.grants(),
    })
}

fn condition(condition: &ExplainedCondition) -> Value {
    json!({
        "title": condition.title,
        "expression": condition.expression,
        "holds": condition.holds.as_ref().ok(),
        "needs": condition.holds.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_may_be_typed_in_three_ways() {
        let secret = ("secretmanager.googleapis.com".to_owned(), "projects/p/secrets/s".to_owned());
        for typed in
            ["//secretmanager.googleapis.com/projects/p/secrets/s", "projects/p/secrets/s", "secrets/s"]
        {
            assert_eq!(resource(typed, "secretmanager.versions.access", "p"), secret, "{typed}");
        }
        assert_eq!(resource("projects/p", "cloudsql.instances.get", "q").0, "sqladmin.googleapis.com");
    }
}
