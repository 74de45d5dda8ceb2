//! The gcloud commands that give a role and take it away, for each kind of resource that has a policy here and commands
//! there. Every form of them is run in `tests/tests/least.rs`.

use serde_json::Value;

/// What becomes of a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is added.
    Add,
    /// It is removed.
    Remove,
}

/// The command for a binding as haar shows it; `None` for a resource that gcloud has none for.
pub fn command(change: Change, grant: &Value, member: &str) -> Option<String> {
    let (group, rest) = place(grant["resource"].as_str()?)?;
    let verb = match change {
        Change::Add => "add-iam-policy-binding",
        Change::Remove => "remove-iam-policy-binding",
    };
    let role = grant["role"].as_str()?;
    let condition = condition(&grant["condition"])?;
    let gcloud = gcloud_for(&grant["resource"]);
    let mut line =
        format!("{gcloud} {group} {verb} {rest} --member={} --role={}", quoted(member), quoted(role));
    // gcloud has no such flag for jobs: a condition that is there cannot be said.
    if group == "run jobs" {
        return (condition == "None").then_some(line);
    }
    line.push_str(" --condition=");
    line.push_str(&quoted(&condition));
    Some(line)
}

/// gcloud, told which host has the policies of regional secrets: for those alone it asks the global one, which has not.
fn gcloud_for(resource: &Value) -> String {
    let parts: Vec<&str> = resource.as_str().unwrap_or_default().split('/').collect();
    match parts[..] {
        [.., "secretmanager.googleapis.com", "projects", _, "locations", location, "secrets", _] => {
            let host = format!("https://secretmanager.{location}.rep.googleapis.com/");
            format!("env CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER={} gcloud", quoted(&host))
        }
        _ => "gcloud".into(),
    }
}

/// The group of commands for a resource, and how they name it.
fn place(full: &str) -> Option<(&'static str, String)> {
    let (service, name) = full.strip_prefix("//")?.split_once('/')?;
    let parts: Vec<&str> = name.split('/').collect();
    Some(match (service, &parts[..]) {
        (_, ["projects", project]) => ("projects", quoted(project)),
        (_, ["folders", folder]) => ("resource-manager folders", quoted(folder)),
        (_, ["organizations", organization]) => ("organizations", quoted(organization)),
        ("secretmanager.googleapis.com", ["projects", project, "secrets", secret]) => {
            ("secrets", format!("{} --project={}", quoted(secret), quoted(project)))
        }
        ("secretmanager.googleapis.com", ["projects", project, "locations", location, "secrets", secret]) => {
            (
                "secrets",
                format!("{} --location={} --project={}", quoted(secret), quoted(location), quoted(project)),
            )
        }
        ("run.googleapis.com", ["projects", project, "locations", region, kind, name]) => {
            let group = match *kind {
                "services" => "run services",
                "jobs" => "run jobs",
                _ => return None,
            };
            (group, format!("{} --region={} --project={}", quoted(name), quoted(region), quoted(project)))
        }
        ("iam.googleapis.com", ["projects", project, "serviceAccounts", account]) => {
            ("iam service-accounts", format!("{} --project={}", quoted(account), quoted(project)))
        }
        _ => return None,
    })
}

/// A condition as gcloud's flag takes it: the word `None`, or its parts, set apart by a sign that none of them has.
/// Nothing where every sign is taken.
fn condition(condition: &Value) -> Option<String> {
    let part = |name: &str| condition[name].as_str().filter(|text| !text.is_empty());
    let Some(expression) = part("expression") else { return Some("None".into()) };
    let mut parts = vec![format!("expression={expression}")];
    parts.extend(["title", "description"].iter().filter_map(|name| Some(format!("{name}={}", part(name)?))));
    let is_free = |sign: &str| !parts.iter().any(|part| part.contains(sign));
    Some(match [",", ":", ";", "#", "~", "@@"].into_iter().find(|sign| is_free(sign))? {
        "," => parts.join(","),
        sign => format!("^{sign}^{}", parts.join(sign)),
    })
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MEMBER: &str = "serviceAccount:app@p.iam.gserviceaccount.com";

    fn added(resource: &str, condition: Value) -> Option<String> {
        let grant = json!({ "resource": resource, "role": "roles/x.y", "condition": condition });
        command(Change::Add, &grant, MEMBER)
    }

    #[test]
    fn each_resource_has_its_command() {
        let end = format!("--member={MEMBER} --role=roles/x.y");
        for (resource, group, name) in [
            ("//cloudresourcemanager.googleapis.com/projects/p", "projects", "p"),
            ("//secretmanager.googleapis.com/projects/p/secrets/s", "secrets", "s --project=p"),
            (
                "//run.googleapis.com/projects/p/locations/l/services/s",
                "run services",
                "s --region=l --project=p",
            ),
            (
                "//iam.googleapis.com/projects/p/serviceAccounts/a@p.iam.gserviceaccount.com",
                "iam service-accounts",
                "a@p.iam.gserviceaccount.com --project=p",
            ),
        ] {
            let expected = format!("gcloud {group} add-iam-policy-binding {name} {end} --condition=None");
            assert_eq!(added(resource, Value::Null), Some(expected));
        }
        let regional = "//secretmanager.googleapis.com/projects/p/locations/l/secrets/s";
        let expected = format!(
            "env CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER=https://secretmanager.l.rep.googleapis.com/ \
             gcloud secrets add-iam-policy-binding s --location=l --project=p {end} --condition=None"
        );
        assert_eq!(added(regional, Value::Null), Some(expected));
        let job = "//run.googleapis.com/projects/p/locations/l/jobs/j";
        let expected = format!("gcloud run jobs add-iam-policy-binding j --region=l --project=p {end}");
        assert_eq!(added(job, Value::Null), Some(expected));
        assert_eq!(added(job, json!({ "title": "now", "expression": "true" })), None);
        let pool = "//run.googleapis.com/projects/p/locations/l/workerPools/w";
        assert_eq!(added(pool, Value::Null), None, "gcloud has no commands for their policies");
        assert_eq!(added("//sqladmin.googleapis.com/projects/p/instances/i", Value::Null), None);
    }

    #[test]
    fn conditions_survive_the_shell_and_gclouds_lists() {
        let project = "//cloudresourcemanager.googleapis.com/projects/p";
        let line =
            added(project, json!({ "title": "only i", "expression": "resource.name == \"i\"" })).unwrap();
        assert!(line.ends_with("--condition='expression=resource.name == \"i\",title=only i'"), "{line}");
        let line = added(project, json!({ "title": "it's", "expression": "x in ['a','b']" })).unwrap();
        assert!(
            line.ends_with(r"--condition='^:^expression=x in ['\''a'\'','\''b'\'']:title=it'\''s'"),
            "{line}"
        );
    }
}
