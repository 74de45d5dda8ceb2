mod gcloud;
mod least;

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    client,
    data::DataDir,
    report::{self, Doing, Result},
};

/// Ask who may do what, and why
#[derive(Args)]
pub struct Iam {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Say why somebody may do something or may not: which binding, on which resource, under which condition
    Why {
        /// Who: an address, or a member of a policy such as allUsers or principal://…
        #[arg(value_parser = member)]
        email: String,
        /// What, such as secretmanager.versions.access
        #[arg(value_parser = permission)]
        permission: String,
        /// Where: projects/p/secrets/s, secrets/s in the usual project, or a full name that begins with //
        resource: String,
        /// The project, if not the usual one
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Say what a service needs at the least, and the gcloud commands that leave it with that
    ///
    /// What its account used of its rights since haar watches, and the narrowest roles that allow that. A job, a worker
    /// pool or a service account can be asked about in the same way.
    Least {
        /// A service, a job or a worker pool of Cloud Run, or the address of a service account
        service: String,
        /// The region of the service, the job or the worker pool
        #[arg(long, default_value = "us-central1")]
        region: String,
        /// The project, if not the usual one
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
}

impl Iam {
    /// Carries it out. The exit code says the answer to `why`: 0 for yes, 1 for no.
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let usual = |project: Option<String>| project.unwrap_or_else(|| running.project.clone());
        match self.what {
            What::Why { email, permission, resource, project, json } => {
                let asked = json!({
                    "principal": email, "permission": permission, "resource": resource, "project": usual(project),
                });
                let answer = client::control(&running, "POST", "why", Some(asked))?;
                print(&answer, json, told)?;
                Ok(if answer["allowed"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            What::Least { service, region, project, json } => {
                let whose = least::Whose { name: service, region, project: usual(project) };
                print(&least::ask(&running, &whose)?, json, least::told)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Somebody who can be in a policy.
fn member(text: &str) -> Result<String, String> {
    let is_one = text.contains(['@', ':']) || text == "allUsers" || text == "allAuthenticatedUsers";
    if is_one { Ok(text.into()) } else { Err("give an address, such as ada@example.com".into()) }
}

/// `SERVICE.KIND.VERB`.
fn permission(text: &str) -> Result<String, String> {
    let parts = text.split('.').filter(|part| !part.is_empty()).count();
    match parts >= 3 {
        true => Ok(text.into()),
        false => {
            Err("give a permission, such as secretmanager.versions.access; haar api --list names them".into())
        }
    }
}

/// Prints an answer as JSON, or as people read it.
fn print(answer: &Value, json: bool, told: fn(&Value, Colours) -> String) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(answer).doing("write JSON")? + "\n",
        false => told(answer, Colours::of_terminal()),
    };
    report::print(text).map(drop)
}

/// What makes an answer easy to see on a terminal.
#[derive(Clone, Copy, Default)]
struct Colours {
    yes: &'static str,
    no: &'static str,
    dim: &'static str,
    off: &'static str,
}

impl Colours {
    fn of_terminal() -> Self {
        match io::stdout().is_terminal() {
            true => Colours { yes: "\x1b[1;32m", no: "\x1b[1;31m", dim: "\x1b[2m", off: "\x1b[0m" },
            false => Colours::default(),
        }
    }
}

/// The answer for people. Writing to a string cannot fail.
fn told(answer: &Value, colours: Colours) -> String {
    let Colours { yes, no, dim, off } = colours;
    let is_allowed = answer["allowed"] == true;
    let verdict = if is_allowed { format!("{yes}yes{off}") } else { format!("{no}no{off}") };
    let (who, what) = (text(&answer["principal"]), text(&answer["permission"]));
    let mut out = format!("{verdict}  {who}\n     {what} on {}\n\n", text(&answer["resource"]));
    let bindings = || {
        let policies = answer["policies"].as_array().into_iter().flatten();
        policies.flat_map(|policy| items(&policy["bindings"]).map(move |binding| (policy, binding)))
    };
    for (policy, binding) in bindings().filter(|(_, binding)| binding["grants"] == true) {
        let _ = writeln!(out, "by   {}", granted(policy, binding));
        condition(&mut out, binding, colours);
    }
    if is_allowed && !bindings().any(|(_, binding)| binding["grants"] == true) {
        out.push_str("by   owning what stands above the projects, as the person at the machine\n");
    }
    if !is_allowed {
        let close = |binding: &Value| binding["hasPermission"] == true && is_named(binding);
        for (policy, binding) in bindings().filter(|(_, binding)| close(binding)) {
            let _ = writeln!(out, "but  {}", granted(policy, binding));
            condition(&mut out, binding, colours);
        }
        refused(&mut out, answer, colours);
    }
    let _ = writeln!(out, "\n{dim}policies that count, the nearest first:{off}");
    for policy in items(&answer["policies"]) {
        let count = items(&policy["bindings"]).count();
        let bindings = match (policy["set"] == true, count) {
            (false, _) => "no policy".into(),
            (true, 1) => "1 binding".into(),
            (true, count) => format!("{count} bindings"),
        };
        let _ = writeln!(out, "     {}  {dim}{bindings}{off}", text(&policy["resource"]));
    }
    out
}

/// What somebody who was refused has, and what would help.
fn refused(out: &mut String, answer: &Value, Colours { dim, off, .. }: Colours) {
    let policies = || items(&answer["policies"]);
    let mut has = Vec::new();
    for policy in policies() {
        for binding in items(&policy["bindings"]).filter(|binding| is_named(binding)) {
            if binding["hasPermission"] != true {
                has.push(format!("     {}, without the permission", granted(policy, binding)));
            }
        }
    }
    if has.is_empty() && !policies().any(|policy| items(&policy["bindings"]).any(is_named)) {
        out.push_str("     no policy that counts names this principal\n");
    } else if !has.is_empty() {
        let _ = writeln!(out, "{dim}what is granted:{off}\n{}", has.join("\n"));
    }
    let roles: Vec<&str> = items(&answer["roles"]).map(text).collect();
    if !roles.is_empty() {
        let _ = writeln!(out, "\n{dim}roles that have the permission, the smallest first:{off}");
        for role in roles {
            let _ = writeln!(out, "     {role}");
        }
    }
}

/// `ROLE for MEMBER on RESOURCE`.
fn granted(policy: &Value, binding: &Value) -> String {
    let members = items(&binding["members"]).filter(|member| member["matches"] == true);
    let members: Vec<&str> = members.map(|member| text(&member["member"])).collect();
    format!("{} for {} on {}", text(&binding["role"]), members.join(", "), text(&policy["resource"]))
}

fn condition(out: &mut String, binding: &Value, Colours { yes, no, off, .. }: Colours) {
    let condition = &binding["condition"];
    if condition.is_null() {
        return;
    }
    let state = match (condition["holds"].as_bool(), condition["needs"].as_str()) {
        (Some(true), _) => format!("{yes}holds now{off}"),
        (Some(false), _) => format!("{no}does not hold now{off}"),
        (None, what) => {
            format!("{no}cannot be evaluated{off}: the request has no {}", what.unwrap_or("such attribute"))
        }
    };
    let (title, expression) = (text(&condition["title"]), text(&condition["expression"]));
    let _ = writeln!(out, "     if \"{title}\": {expression}\n     which {state}");
}

fn is_named(binding: &Value) -> bool {
    items(&binding["members"]).any(|member| member["matches"] == true)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
