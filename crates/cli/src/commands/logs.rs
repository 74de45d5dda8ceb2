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
                return Ok(ExitCode::SUCCESS);
            }
            lines = 1000;
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The newest entries, the newest first.
    fn entries(&self, running: &Running, token: &str, lines: u32, since: &str) -> Result<Vec<Value>> {
        let project = self.project.as_ref().unwrap_or(&running.project);
        let name = Value::from(self.name.as_str());
        let mut filter = format!(
            "((resource.type=\"cloud_run_revision\" AND resource.labels.service_name={name}) OR \
             (resource.type=\"cloud_run_job\" AND resource.labels.job_name={name}))"
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
    let payload = &entry["jsonPayload"];
    payload["message"].as_str().map_or_else(|| payload.to_string(), str::to_owned)
}
