use std::{collections::HashSet, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    client,
    data::{DataDir, Running},
    report::{Result, Trouble},
};

/// Show what a service or a job wrote, and the requests that a service answered
#[derive(Args)]
pub struct Logs {
    /// The service or job
    name: String,
    /// The project, if not the usual one
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// How many of the last lines
    #[arg(long, default_value_t = 50)]
    lines: u32,
}

/// How often `--follow` looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Logs {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let mut shown = HashSet::new();
        let mut newest = String::new();
        let mut lines = self.lines;
        loop {
            let token = client::access_token(&running, None)?;
            for entry in self.entries(&running, &token, lines, &newest)?.iter().rev() {
                let id = entry["insertId"].as_str().unwrap_or_default().to_owned();
                if shown.insert(id) {
                    newest = entry["timestamp"].as_str().unwrap_or_default().to_owned();
                    println!("{}", line(entry));
                }
            }
            if !self.follow {
                self.tell_if_nothing(&shown);
                return Ok(ExitCode::SUCCESS);
            }
            lines = 1000;
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Silence may be a name that is wrong.
    fn tell_if_nothing(&self, shown: &HashSet<String>) {
        if shown.is_empty() {
            let name = &self.name;
            eprintln!("no service or job named {name} has written anything; all services: haar status");
        }
    }

    /// The newest entries, the newest first.
    fn entries(&self, running: &Running, token: &str, lines: u32, since: &str) -> Result<Vec<Value>> {
        let project = self.project.as_ref().unwrap_or(&running.project);
        let name = Value::from(self.name.as_str());
        let mut filter = format!(
            "((resource.type=\"cloud_run_revision\" AND resource.labels.service_name={name}) OR \
             (resource.type=\"cloud_run_job\" AND resource.labels.job_name={name}) OR \
             (resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name={name}))"
        );
        if !since.is_empty() {
            filter.push_str(&format!(" AND timestamp>=\"{since}\""));
        }
        let body = json!({
            "resourceNames": [format!("projects/{project}")],
            "filter": filter,
            "orderBy": "timestamp desc",
            "pageSize": lines,
        });
        let host = "logging.googleapis.com";
        let answer =
            client::call(running, "POST", host, "/v2/entries:list", token, body.to_string().into_bytes())?;
        let answered: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match answered["error"]["message"].as_str() {
            Some(message) => Err(Trouble::new(message)),
            None => Ok(answered["entries"].as_array().cloned().unwrap_or_default()),
        }
    }
}

/// One entry as one line: when, how bad, what.
fn line(entry: &Value) -> String {
    let time = entry["timestamp"].as_str().unwrap_or_default();
    let severity = entry["severity"].as_str().unwrap_or("DEFAULT");
    format!("{time} {severity:<8} {}", text(entry))
}

fn text(entry: &Value) -> String {
    if let Some(text) = entry["textPayload"].as_str() {
        return text.to_owned();
    }
    if let Some(request) = entry["httpRequest"].as_object() {
        let part =
            |name: &str| request.get(name).map_or(String::new(), |value| value.to_string().replace('"', ""));
        return format!(
            "{} {} {} {}",
            part("requestMethod"),
            part("requestUrl"),
            part("status"),
            part("latency")
        );
    }
    if let Some(method) = entry["protoPayload"]["methodName"].as_str() {
        let audit = &entry["protoPayload"];
        let who = audit["authenticationInfo"]["principalEmail"].as_str().unwrap_or("somebody");
        let outcome = audit["status"]["message"].as_str().map_or(String::new(), |why| format!(": {why}"));
        return format!("{who} called {method}{outcome}");
    }
    let payload = &entry["jsonPayload"];
    payload["message"].as_str().map_or_else(|| payload.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_a_line() {
        let audit = |status: Value| {
            let who = json!({ "principalEmail": "a@b" });
            let call =
                json!({ "authenticationInfo": who, "methodName": "Services.Delete", "status": status });
            text(&json!({ "protoPayload": call }))
        };
        assert_eq!(audit(json!({})), "a@b called Services.Delete");
        assert_eq!(audit(json!({ "code": 7, "message": "denied" })), "a@b called Services.Delete: denied");
        assert_eq!(text(&json!({ "textPayload": "tide" })), "tide");
        assert_eq!(text(&json!({ "jsonPayload": { "message": "high", "n": 1 } })), "high");
        assert_eq!(text(&json!({ "jsonPayload": { "n": 1 } })), r#"{"n":1}"#);
        let request =
            json!({ "requestMethod": "GET", "requestUrl": "http://x/", "status": 200, "latency": "1s" });
        assert_eq!(text(&json!({ "httpRequest": request })), "GET http://x/ 200 1s");
    }
}
