//! Google's APIs, called as the owner: what a deploy is made of are the same calls that anybody could make.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client,
    commands::entries,
    data::Running,
    report::{Result, Trouble},
};

/// How long an operation may take.
const OPERATION_TIME: Duration = Duration::from_secs(30 * 60);
/// How often an operation is looked at, at first and at last.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The APIs of a project.
pub struct Google<'a> {
    pub running: &'a Running,
    pub project: String,
    token: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Refusal {
    /// Its HTTP status; 0 where an operation failed.
    pub code: u16,
    /// Google's sentence.
    pub message: String,
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        Trouble::new(refusal.message)
    }
}

impl<'a> Google<'a> {
    pub fn new(running: &'a Running, project: Option<String>) -> Result<Self> {
        let project = project.unwrap_or_else(|| running.project.clone());
        Ok(Google { running, project, token: client::access_token(running, None)? })
    }

    /// A call that must succeed.
    pub fn call(&self, method: &str, url: &str, body: Option<Value>) -> Result<Value> {
        self.ask(method, url, body)?.map_err(Trouble::from)
    }

    /// A call whose refusal is looked at. `url` has no scheme.
    pub fn ask(&self, method: &str, url: &str, body: Option<Value>) -> Result<Result<Value, Refusal>> {
        let (host, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = client::call(self.running, method, host, path, &self.token, body.into_bytes())?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(match answer.status {
            200..300 => Ok(value),
            code => Err(Refusal {
                code,
                message: value["error"]["message"]
                    .as_str()
                    .map_or_else(|| format!("{host} answered {code}"), str::to_owned),
            }),
        })
    }

    /// What is there, if it is.
    pub fn find(&self, url: &str) -> Result<Option<Value>> {
        match self.ask("GET", url, None)? {
            Ok(value) => Ok(Some(value)),
            Err(refusal) if refusal.code == 404 => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Waits for an operation of Cloud Run's; gives what it answers, or how it failed.
    pub fn finish_run(&self, host: &str, operation: Value) -> Result<Result<Value, Refusal>> {
        let name = operation["name"].as_str().unwrap_or_default().to_owned();
        let done = self.watch(operation, &format!("{host}/v2/{name}"), |now| now["done"] == json!(true))?;
        Ok(match done["error"]["message"].as_str() {
            None => Ok(done["response"].clone()),
            Some(message) => Err(Refusal { code: 0, message: message.into() }),
        })
    }

    /// Waits for an operation of Cloud SQL's.
    pub fn finish_sql(&self, operation: Value) -> Result<()> {
        let name = operation["name"].as_str().unwrap_or_default();
        let url = format!("sqladmin.googleapis.com/v1/projects/{}/operations/{name}", self.project);
        let done = self.watch(operation, &url, |now| now["status"] == json!("DONE"))?;
        match done["error"]["errors"][0]["message"].as_str() {
            None => Ok(()),
            Some(message) => Err(Trouble::new(message)),
        }
    }

    fn watch(&self, mut now: Value, url: &str, is_done: impl Fn(&Value) -> bool) -> Result<Value> {
        let begun = Instant::now();
        let mut pause = LOOK.0;
        while !is_done(&now) {
            if begun.elapsed() > OPERATION_TIME {
                return Err(Trouble::new("the operation has not ended in 30 minutes")
                    .next(format!("look at it with: haar api GET {url}")));
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(LOOK.1);
            now = self.call("GET", url, None)?;
        }
        Ok(now)
    }

    /// Gives a member a role on a resource, unless it has it. `url` is the resource's, without a verb. Says whether
    /// that was news.
    pub fn grant(&self, url: &str, role: &str, member: &str) -> Result<bool> {
        // Resource Manager asks for its policy by POST, everybody else by GET.
        let is_project = url.starts_with("cloudresourcemanager.");
        let (method, body) = if is_project { ("POST", Some(json!({}))) } else { ("GET", None) };
        let mut policy = self.call(method, &format!("{url}:getIamPolicy"), body)?;
        let mut bindings = policy["bindings"].as_array().cloned().unwrap_or_default();
        let of_role = |binding: &&mut Value| binding["role"] == role && binding["condition"].is_null();
        match bindings.iter_mut().find(of_role) {
            Some(binding) => {
                let mut members = binding["members"].as_array().cloned().unwrap_or_default();
                if members.iter().any(|known| known == member) {
                    return Ok(false);
                }
                members.push(member.into());
                binding["members"] = members.into();
            }
            None => bindings.push(json!({ "role": role, "members": [member] })),
        }
        policy["bindings"] = bindings.into();
        self.call("POST", &format!("{url}:setIamPolicy"), Some(json!({ "policy": policy })))?;
        Ok(true)
    }

    /// The last lines that match a filter of Cloud Logging, the oldest first.
    pub fn last_lines(&self, filter: &str, lines: u32) -> Vec<String> {
        let newest = entries::newest(self, filter, lines).unwrap_or_default();
        newest.iter().rev().map(entries::text).collect()
    }
}
