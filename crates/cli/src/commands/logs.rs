use std::{collections::HashSet, process::ExitCode, time::Duration};

use clap::Args;
use serde_json::Value;

use super::{deploy::google::Google, entries};
use crate::{
    data::DataDir,
    report::{self, Reader, Result, tell},
};

/// Show what a service, a job or a worker pool wrote, and the requests that services answered
#[derive(Args)]
pub struct Logs {
    /// The service, the job or the worker pool
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
            tell!("no service, job or worker pool named {name} has written anything");
            tell!("      see what there is: haar status; another project's: --project ID");
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
    let time = to_the_millisecond(entry["timestamp"].as_str().unwrap_or_default());
    let severity = entry["severity"].as_str().unwrap_or("DEFAULT");
    format!("{time} {severity:<8} {}", entries::text(entry))
}

/// A time as people read it: `2026-01-02T03:04:05.678Z`, always of the same length.
fn to_the_millisecond(time: &str) -> String {
    let (second, rest) =
        time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    let digits: String = rest.chars().chain("000".chars()).take(3).collect();
    format!("{second}.{digits}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_one_length() {
        for (time, shown) in [
            ("2026-01-02T03:04:05.678901234Z", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T03:04:05.6Z", "2026-01-02T03:04:05.600Z"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ] {
            assert_eq!(to_the_millisecond(time), shown);
        }
    }
}
