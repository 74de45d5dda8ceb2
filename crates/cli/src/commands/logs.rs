use std::{collections::HashSet, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::{deploy::google::Google, entries};
use crate::{
    data::DataDir,
    report::{self, Reader, Result, tell},
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
            let google = Google::new(&running, self.project.clone())?;
            for entry in entries::newest(&google, &self.filter(&newest), lines)?.iter().rev() {
                let id = entry["insertId"].as_str().unwrap_or_default().to_owned();
                if shown.insert(id) {
                    newest = entry["timestamp"].as_str().unwrap_or_default().to_owned();
                    if report::print(line(entry) + "\n")? == Reader::Gone {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
            if self.follow && report::reader() == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
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
            tell!("no service or job named {name} has written anything; all services: haar status");
        }
    }

    /// What belongs to the service, the job or the worker pool, from a time on if one is given.
    fn filter(&self, since: &str) -> String {
        let name = Value::from(self.name.as_str());
        let mut filter = format!(
            "((resource.type=\"cloud_run_revision\" AND resource.labels.service_name={name}) OR \
             (resource.type=\"cloud_run_job\" AND resource.labels.job_name={name}) OR \
             (resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name={name}))"
        );
        if !since.is_empty() {
            filter.push_str(&format!(" AND timestamp>=\"{since}\""));
        }
        filter
    }
}

/// One entry as one line: when, how bad, what.
fn line(entry: &Value) -> String {
    let time = entry["timestamp"].as_str().unwrap_or_default();
    let severity = entry["severity"].as_str().unwrap_or("DEFAULT");
    format!("{time} {severity:<8} {}", entries::text(entry))
}
