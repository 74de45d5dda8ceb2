//! `haar iam least`: what an account used of what it may, and the change that leaves it just that.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    Colours,
    gcloud::{Change, command},
    items, text,
};
use crate::{
    client,
    data::Running,
    report::{Result, Trouble},
};

/// How the address of a project's default account ends.
const DEFAULT: &str = "-compute@developer.gserviceaccount.com";

/// Whose rights are looked at.
pub struct Whose {
    /// A service, a job or a worker pool, or an account's address.
    pub name: String,
    /// The region of the service.
    pub region: String,
    /// The project of the service.
    pub project: String,
}

/// What an account needs at the least, with the commands that make it so.
pub fn ask(running: &Running, whose: &Whose) -> Result<Value> {
    let account = match whose.name.contains('@') {
        true => whose.name.clone(),
        false => account_of(running, whose)?,
    };
    let asked = client::control(running, "POST", "least", Some(json!({ "account": account })));
    let mut answer = asked.map_err(|trouble| match account.ends_with(DEFAULT) {
        true => trouble.next(format!(
            "{} runs as its project's default account; give it one of its own: gcloud run services update {} \
             --service-account EMAIL",
            whose.name, whose.name
        )),
        false => trouble,
    })?;
    answer["commands"] = commands(&answer).into();
    Ok(answer)
}

/// The account that a service runs as, or a job or a worker pool of that name.
fn account_of(running: &Running, Whose { name, region, project }: &Whose) -> Result<String> {
    let token = client::access_token(running, None)?;
    for (kind, account) in [
        ("services", "/template/serviceAccount"),
        ("jobs", "/template/template/serviceAccount"),
        ("workerPools", "/template/serviceAccount"),
    ] {
        let path = format!("/v2/projects/{project}/locations/{region}/{kind}/{name}");
        let found = client::call(running, "GET", "run.googleapis.com", &path, &token, Vec::new())?;
        let found: Value = serde_json::from_slice(&found.body).unwrap_or_default();
        if let Some(account) = found.pointer(account).and_then(Value::as_str) {
            return Ok(account.to_owned());
        }
    }
    Err(Trouble::new(format!("there is no service, job or worker pool {name} in {region} of {project}"))
        .next("name its --region and --project, or the address of its service account"))
}

/// What is given comes first, so that nothing is missing in between. Nothing is taken from an account that was never
/// seen to use anything (it was not watched yet), whose record is incomplete, or to which something must be given that
/// gcloud has no command for.
fn commands(answer: &Value) -> Vec<String> {
    if items(&answer["used"]).next().is_none() {
        return Vec::new();
    }
    let member = format!("serviceAccount:{}", text(&answer["account"]));
    let gives: Vec<Option<String>> =
        items(&answer["gives"]).map(|grant| command(Change::Add, grant, &member)).collect();
    let is_whole = answer["partial"] != true && gives.iter().all(Option::is_some);
    let taken = items(&answer["has"]).filter(|one| is_whole && one["fate"] != "keep");
    let takes = taken.filter_map(|grant| command(Change::Remove, grant, &member));
    gives.into_iter().flatten().chain(takes).collect()
}

/// The answer for people. Writing to a string cannot fail.
pub(super) fn told(answer: &Value, colours: Colours) -> String {
    let Colours { dim, off, .. } = colours;
    let mut out = format!("{}\n", text(&answer["account"]));
    used(&mut out, answer, colours);
    if items(&answer["used"]).next().is_some() {
        changes(&mut out, answer, colours);
    }
    let lines: Vec<&str> = items(&answer["commands"]).map(text).collect();
    if !lines.is_empty() {
        let _ = writeln!(
            out,
            "\n{dim}apply it with these, here each after: haar exec --{off}\n{}",
            lines.join("\n")
        );
    }
    out
}

fn used(out: &mut String, answer: &Value, Colours { dim, off, .. }: Colours) {
    if items(&answer["used"]).next().is_none() {
        out.push_str("     has used nothing since it is watched: let it do its work, and ask again\n");
        return;
    }
    let _ = writeln!(out, "\n{dim}it used:{off}");
    for one in items(&answer["used"]) {
        let (count, last) = (&one["count"], text(&one["last"]));
        let how = match text(&one["by"]) {
            "other" => format!(", by {}", text(&one["member"])),
            "conditional" => ", on a condition".into(),
            "lost" => ", and may not any more".into(),
            _ => String::new(),
        };
        let (permission, resource) = (text(&one["permission"]), text(&one["resource"]));
        let _ = writeln!(out, "     {permission} on {resource}  {dim}{count}×, last {last}{how}{off}");
    }
    if answer["partial"] == true {
        out.push_str("     and more than is noted of one account: what is left out is not in the answer\n");
    }
}

fn changes(out: &mut String, answer: &Value, Colours { yes, no, dim, off }: Colours) {
    let _ = writeln!(out, "\n{dim}what it has, and what would do:{off}");
    for one in items(&answer["gives"]) {
        let _ = writeln!(out, "  {yes}+{off}  {}", granted(one));
    }
    for one in items(&answer["has"]) {
        let (used, of) = (items(&one["used"]).count(), &one["permissions"]);
        match text(&one["fate"]) {
            "keep" => {
                let _ =
                    writeln!(out, "     {}  {dim}stays: {used} of {of} permissions used{off}", granted(one));
            }
            "unused" => {
                let _ = writeln!(out, "  {no}-{off}  {}  {dim}never used{off}", granted(one));
            }
            _ => {
                let _ = writeln!(
                    out,
                    "  {no}-{off}  {}  {dim}{used} of {of} permissions used{off}",
                    granted(one)
                );
            }
        }
    }
    let is_less = |one: &Value| one["fate"] != "keep";
    if items(&answer["gives"]).next().is_none() && !items(&answer["has"]).any(is_less) {
        out.push_str("     nothing to change\n");
    }
}

/// `ROLE on RESOURCE`, with its condition.
fn granted(grant: &Value) -> String {
    let condition = match grant["condition"]["expression"].as_str() {
        Some(expression) => format!(" if {expression}"),
        None => String::new(),
    };
    format!("{} on {}{condition}", text(&grant["role"]), text(&grant["resource"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "//secretmanager.googleapis.com/projects/p/secrets/s";
    const PROJECT: &str = "//cloudresourcemanager.googleapis.com/projects/p";

    fn answer(used: Value) -> Value {
        let grant =
            |resource: &str, role: &str| json!({ "resource": resource, "role": role, "condition": null });
        let mut has = grant(PROJECT, "roles/editor");
        (has["fate"], has["used"], has["permissions"]) = ("unused".into(), json!([]), 400.into());
        let mut answer = json!({
            "account": "app@p.iam.gserviceaccount.com", "used": used, "has": [has],
            "gives": [grant(SECRET, "roles/secretmanager.secretAccessor")], "partial": false,
        });
        answer["commands"] = commands(&answer).into();
        answer
    }

    #[test]
    fn what_is_given_comes_before_what_is_taken() {
        let used = json!([{ "permission": "secretmanager.versions.access", "resource": SECRET, "count": 2, "by": "own" }]);
        let answer = answer(used);
        let commands: Vec<&str> = items(&answer["commands"]).map(text).collect();
        assert!(commands[0].starts_with("gcloud secrets add-iam-policy-binding s"), "{commands:?}");
        assert!(commands[1].starts_with("gcloud projects remove-iam-policy-binding p"), "{commands:?}");
        let told = told(&answer, Colours::default());
        assert!(
            told.contains("+  roles/secretmanager.secretAccessor on") && told.contains("never used"),
            "{told}"
        );
    }

    #[test]
    fn nothing_is_taken_from_whom_nobody_watched() {
        let answer = answer(json!([]));
        assert_eq!(answer["commands"], json!([]));
        assert!(told(&answer, Colours::default()).contains("has used nothing"));
    }
}
