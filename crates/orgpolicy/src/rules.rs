//! What a policy may say.
//!
//! Source: the reference of `google.cloud.orgpolicy.v2.PolicySpec`.

use kernel::{Error, Result};

use crate::{
    constraints::{Constraint, Kind, Values},
    record::{RuleRecord, Says, SpecRecord},
};

/// The most rules of a policy.
const MOST_RULES: usize = 10;
/// The most values of a policy.
const MOST_VALUES: usize = 500;

/// Checks what a policy is to say of a constraint.
///
/// # Errors
/// `INVALID_ARGUMENT` naming what is wrong.
pub(crate) fn check(constraint: &Constraint, spec: &SpecRecord) -> Result<()> {
    if spec.reset {
        return match spec.rules.is_empty() && !spec.inherit {
            true => Ok(()),
            false => wrong("A policy that resets the constraint has no rules and does not inherit."),
        };
    }
    if spec.rules.len() > MOST_RULES {
        return wrong(format!("A policy has at most {MOST_RULES} rules."));
    }
    match constraint.kind {
        Kind::Boolean => check_boolean(spec),
        Kind::List { values, .. } => check_list(spec, values),
    }
}

fn check_boolean(spec: &SpecRecord) -> Result<()> {
    if spec.inherit {
        return wrong("inheritFromParent can be set for list constraints only.");
    }
    match spec.rules.as_slice() {
        [rule] if matches!(rule.says(), Says::Enforce | Says::Leave) => Ok(()),
        _ => wrong("The policy of a boolean constraint has one rule, which says whether it is enforced."),
    }
}

fn check_list(spec: &SpecRecord, values: Values) -> Result<()> {
    if spec.rules.is_empty() && !spec.inherit {
        return wrong("A policy needs a rule, unless it inherits or resets.");
    }
    if spec.rules.iter().any(|rule| matches!(rule.says(), Says::Enforce | Says::Leave)) {
        return wrong("A list constraint cannot be enforced: its rules allow or deny values.");
    }
    let says_nothing =
        |rule: &RuleRecord| rule.says() == Says::Values && rule.allowed.is_empty() && rule.denied.is_empty();
    if spec.rules.iter().any(says_nothing) {
        return wrong("A rule must allow or deny something.");
    }
    check_values(spec, values)
}

fn check_values(spec: &SpecRecord, values: Values) -> Result<()> {
    let given: Vec<&str> = spec
        .rules
        .iter()
        .flat_map(|rule| rule.allowed.iter().chain(&rule.denied))
        .map(|one| &**one)
        .collect();
    if given.len() > MOST_VALUES {
        return wrong(format!("A policy has at most {MOST_VALUES} values."));
    }
    let bad: Vec<&str> = given.into_iter().filter(|value| values.meant(value).is_none()).collect();
    match bad.is_empty() {
        true => Ok(()),
        false => wrong(format!(
            "The policy contains invalid list value(s): [{}]. Please fix the values in the policy and try again.",
            bad.join(", ")
        )),
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::bad_field("policy.spec", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(says: Says, allowed: &[&str]) -> SpecRecord {
        let allowed = allowed.iter().map(|value| (*value).to_owned()).collect();
        let rule = RuleRecord { says: says.into(), allowed, denied: Vec::new() };
        SpecRecord { rules: vec![rule], ..SpecRecord::default() }
    }

    #[test]
    fn each_kind_of_constraint_has_its_rules() {
        let ingress = Constraint::named("run.allowedIngress").unwrap();
        let keys = Constraint::named("iam.disableServiceAccountKeyCreation").unwrap();
        assert!(check(keys, &spec(Says::Enforce, &[])).is_ok());
        assert!(check(keys, &spec(Says::AllowAll, &[])).is_err());
        assert!(check(keys, &SpecRecord::default()).is_err());
        assert!(check(ingress, &spec(Says::Values, &["internal"])).is_ok());
        assert!(check(ingress, &spec(Says::Enforce, &[])).is_err());
        assert!(check(ingress, &spec(Says::Values, &[])).is_err());
        assert!(check(ingress, &SpecRecord { inherit: true, ..SpecRecord::default() }).is_ok());
        let error = check(ingress, &spec(Says::Values, &["internal", "nobody"])).unwrap_err();
        assert!(error.message().contains("invalid list value(s): [nobody]"), "{error}");
        let reset = SpecRecord { reset: true, ..SpecRecord::default() };
        assert!(check(ingress, &reset).is_ok() && check(keys, &reset).is_ok());
        assert!(check(keys, &SpecRecord { reset: true, ..spec(Says::Enforce, &[]) }).is_err());
    }
}
