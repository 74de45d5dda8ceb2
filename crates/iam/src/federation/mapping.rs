//! From what an issuer asserts to an identity of the pool: attribute mapping and condition.
//!
//! An attribute whose claim the assertion lacks is left out, because tokens of one issuer differ (GitHub's have an
//! `environment` only where a job has one); the subject must be there.
//!
//! Limits and rules: <https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools.providers>.

use std::collections::BTreeMap;

use kernel::{Error, Result, call::Federation};
use serde_json::{Map, Value};

use super::{Name, record::ProviderRecord};
use crate::cel::{Failure, Formula};

/// The longest expression of a mapping, in bytes.
const LONGEST_MAPPING: usize = 2048;
/// The longest condition, in bytes.
const LONGEST_CONDITION: usize = 4096;
/// The most custom attributes.
const MOST_ATTRIBUTES: usize = 50;
/// The longest name of a custom attribute, in bytes.
const LONGEST_ATTRIBUTE: usize = 100;
/// The longest subject, in bytes.
const LONGEST_SUBJECT: usize = 127;
/// The most that everything that was mapped may have, in bytes.
const MOST_MAPPED: usize = 8 << 10;
/// What a set is known by in a token: one byte counts them.
const MOST_SETS: usize = 255;
const SUBJECT: &str = "google.subject";
const GROUPS: &str = "google.groups";
const CUSTOM: &str = "attribute.";

/// Issuers that sign for everybody: Google takes them only with a condition that looks at the assertion.
const SHARED: [&str; 3] =
    ["https://token.actions.githubusercontent.com", "https://gitlab.com", "https://app.terraform.io"];

/// Checks a mapping and a condition before they are stored.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub(super) fn check(provider: &ProviderRecord) -> Result<()> {
    for (attribute, expression) in &provider.mapping {
        check_attribute(attribute)?;
        read(expression, LONGEST_MAPPING, &["assertion"]).map_err(|why| {
            invalid("attribute_mapping", format!("The mapping of '{attribute}' is invalid: {why}"))
        })?;
    }
    if provider.mapping.keys().filter(|key| key.starts_with(CUSTOM)).count() > MOST_ATTRIBUTES {
        return Err(invalid(
            "attribute_mapping",
            format!("At most {MOST_ATTRIBUTES} custom attributes can be mapped."),
        ));
    }
    if !provider.mapping.contains_key(SUBJECT) {
        return Err(invalid("attribute_mapping", "The attribute mapping must map google.subject.".into()));
    }
    check_condition(provider)
}

fn check_condition(provider: &ProviderRecord) -> Result<()> {
    let is_shared = SHARED.contains(&provider.issuer.trim_end_matches('/'));
    let condition = match provider.condition.is_empty() {
        true => None,
        false => Some(
            read(&provider.condition, LONGEST_CONDITION, &["assertion", "google", "attribute"]).map_err(
                |why| invalid("attribute_condition", format!("The attribute condition is invalid: {why}")),
            )?,
        ),
    };
    let looks = |name| condition.as_ref().is_some_and(|condition| condition.uses(name));
    if is_shared && !["assertion", "google", "attribute"].into_iter().any(looks) {
        return Err(invalid(
            "attribute_condition",
            "The attribute condition must reference one of the provider's claims. For more information, see \
             https://cloud.google.com/iam/docs/workload-identity-federation-with-deployment-pipelines#conditions"
                .into(),
        ));
    }
    Ok(())
}

fn read(expression: &str, longest: usize, names: &[&str]) -> Result<Formula, String> {
    match expression.len() > longest {
        true => Err(format!("it is longer than {longest} characters.")),
        false => Formula::read(expression, names).map_err(|fault| format!("{fault} at {}.", fault.at)),
    }
}

fn check_attribute(attribute: &str) -> Result<()> {
    let is_name = |name: &str| {
        (1..=LONGEST_ATTRIBUTE).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match attribute {
        SUBJECT | GROUPS => Ok(()),
        _ if attribute.strip_prefix(CUSTOM).is_some_and(is_name) => Ok(()),
        _ => Err(invalid(
            "attribute_mapping",
            format!("'{attribute}' is not an attribute that can be mapped to."),
        )),
    }
}

fn invalid(field: &str, description: String) -> Error {
    Error::bad_field(format!("workload_identity_pool_provider.{field}"), description)
}

/// Why an assertion gives no identity, in Google's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unmapped {
    /// The mapping does not fit the assertion.
    Mapping(String),
    /// The condition does not hold.
    Condition,
}

/// The identity that a provider makes of an assertion.
///
/// # Errors
/// Why there is none.
pub(super) fn identity(
    name: &Name<'_>,
    provider: &ProviderRecord,
    assertion: &Map<String, Value>,
) -> Result<Federation, Unmapped> {
    let mapped = map(&provider.mapping, assertion)?;
    if !holds(&provider.condition, assertion, &mapped) {
        return Err(Unmapped::Condition);
    }
    let subject = subject(mapped.get(SUBJECT))?;
    let mut sets: Vec<Box<str>> = groups(mapped.get(GROUPS))?;
    for (attribute, value) in mapped.iter().filter(|(attribute, _)| attribute.starts_with(CUSTOM)) {
        match value {
            Value::String(value) => sets.push(format!("{attribute}/{value}").into()),
            _ => {
                return Err(Unmapped::Mapping(format!(
                    "The mapped attribute {attribute} must be of type STRING."
                )));
            }
        }
    }
    if sets.iter().map(|set| set.len()).sum::<usize>() > MOST_MAPPED || sets.len() > MOST_SETS {
        return Err(Unmapped::Mapping(format!(
            "The mapped attributes exceed the limit of {MOST_MAPPED} bytes."
        )));
    }
    Ok(Federation::new(format!("principal:{}/subject/{subject}", name.pool_resource()), sets))
}

fn map(
    mapping: &BTreeMap<String, String>,
    assertion: &Map<String, Value>,
) -> Result<Map<String, Value>, Unmapped> {
    let names = Map::from_iter([("assertion".to_owned(), Value::Object(assertion.clone()))]);
    let mut mapped = Map::new();
    for (attribute, expression) in mapping {
        let value = Formula::read(expression, &["assertion"])
            .map_err(|fault| Unmapped::Mapping(format!("The mapping of {attribute} is invalid: {fault}")))?
            .evaluate(&names);
        match value {
            Ok(Value::Null) | Err(Failure::Missing(_)) => {}
            Ok(value) => drop(mapped.insert(attribute.clone(), value)),
            Err(Failure::Wrong(_)) => return Err(no_value(attribute)),
        }
    }
    Ok(mapped)
}

fn no_value(attribute: &str) -> Unmapped {
    Unmapped::Mapping(format!("Could not obtain a value for {attribute} from the given credential."))
}

/// A condition that cannot be evaluated does not hold.
fn holds(condition: &str, assertion: &Map<String, Value>, mapped: &Map<String, Value>) -> bool {
    if condition.is_empty() {
        return true;
    }
    let below = |prefix: &str| {
        let inside = mapped
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone())));
        Value::Object(inside.collect())
    };
    let names = Map::from_iter([
        ("assertion".to_owned(), Value::Object(assertion.clone())),
        ("google".to_owned(), below("google.")),
        ("attribute".to_owned(), below(CUSTOM)),
    ]);
    let formula = Formula::read(condition, &["assertion", "google", "attribute"]);
    formula.is_ok_and(|formula| formula.evaluate(&names) == Ok(Value::Bool(true)))
}

fn subject(value: Option<&Value>) -> Result<&str, Unmapped> {
    match value {
        Some(Value::String(subject)) if subject.len() > LONGEST_SUBJECT => Err(Unmapped::Mapping(format!(
            "The size of mapped attribute google.subject exceeds the {LONGEST_SUBJECT} bytes limit. Either modify your \
             attribute mapping or the incoming assertion to produce a mapped attribute that is less than {LONGEST_SUBJECT} bytes."
        ))),
        // A line of a log must stay one.
        Some(Value::String(subject)) if !subject.is_empty() && !subject.contains(char::is_control) => {
            Ok(subject)
        }
        None | Some(Value::String(_)) => Err(no_value(SUBJECT)),
        Some(_) => Err(Unmapped::Mapping(format!("The mapped attribute {SUBJECT} must be of type STRING."))),
    }
}

fn groups(value: Option<&Value>) -> Result<Vec<Box<str>>, Unmapped> {
    let wrong =
        || Unmapped::Mapping(format!("The mapped attribute {GROUPS} must be of type LIST of STRING."));
    let group = |group: &str| format!("group/{group}").into();
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![group(one)]),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(group).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn provider(condition: &str) -> ProviderRecord {
        let mapping = [
            ("google.subject", "assertion.sub"),
            ("google.groups", "assertion.teams"),
            ("attribute.ref", "assertion.ref"),
            ("attribute.environment", "assertion.environment"),
        ];
        ProviderRecord {
            mapping: mapping.map(|(key, value)| (key.into(), value.into())).into(),
            condition: condition.into(),
            issuer: "https://token.actions.githubusercontent.com".into(),
            ..ProviderRecord::default()
        }
    }

    fn identify(provider: &ProviderRecord, assertion: Value) -> Result<Federation, Unmapped> {
        identity(&Name { project: 1, pool: "p", provider: "x" }, provider, assertion.as_object().unwrap())
    }

    #[test]
    fn an_assertion_becomes_an_identity_with_its_sets() {
        let who = identify(
            &provider("assertion.repository == 'haar/app' && attribute.ref.startsWith('refs/')"),
            json!({"sub": "repo:haar/app", "repository": "haar/app", "ref": "refs/heads/main", "teams": ["a", "b"]}),
        )
        .unwrap();
        assert_eq!(
            &*who,
            "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/repo:haar/app"
        );
        let sets: Vec<&str> = who.sets().iter().map(|set| &**set).collect();
        assert_eq!(sets, ["group/a", "group/b", "attribute.ref/refs/heads/main"], "no environment, no set");
    }

    #[test]
    fn what_does_not_fit_is_refused_in_googles_words() {
        let says =
            |provider: &ProviderRecord, assertion: Value| match identify(provider, assertion).unwrap_err() {
                Unmapped::Mapping(why) => why,
                Unmapped::Condition => "condition".into(),
            };
        assert_eq!(says(&provider("assertion.repository == 'haar/app'"), json!({"sub": "s"})), "condition");
        assert_eq!(
            says(&provider(""), json!({"ref": "x"})),
            "Could not obtain a value for google.subject from the given credential."
        );
        assert!(says(&provider(""), json!({"sub": "s".repeat(128)})).contains("exceeds the 127 bytes limit"));
        assert!(
            says(&provider(""), json!({"sub": "s", "ref": 1}))
                .contains("attribute.ref must be of type STRING")
        );
        assert!(says(&provider(""), json!({"sub": "s", "teams": [1]})).contains("google.groups"));
    }

    #[test]
    fn rules_are_checked_before_they_are_kept() {
        assert!(check(&provider("assertion.repository == 'haar/app'")).is_ok());
        let message = |provider: &ProviderRecord| check(provider).unwrap_err().message().to_owned();
        assert!(
            message(&provider("")).contains("must reference one of the provider's claims"),
            "GitHub signs for all"
        );
        assert!(message(&provider("true")).contains("must reference one of the provider's claims"));
        assert!(message(&provider("asertion.x == 1")).contains("undeclared reference to 'asertion'"));
        let with = |key: &str, value: &str| {
            let mut provider = provider("assertion.a == 'b'");
            provider.mapping.insert(key.into(), value.into());
            provider
        };
        assert!(message(&with("attribute.Ref", "assertion.ref")).contains("attribute.Ref"));
        assert!(message(&with("google.other", "assertion.ref")).contains("google.other"));
        assert!(message(&with("attribute.x", "assertion.")).contains("attribute.x"));
        assert!(message(&with("attribute.x", &"a".repeat(2049))).contains("2048"));
        let mut without = provider("assertion.a == 'b'");
        without.mapping.remove("google.subject");
        assert_eq!(message(&without), "The attribute mapping must map google.subject.");
    }
}
