use std::{fmt::Write, process::ExitCode};

use clap::Args;
use serde_json::Value;

use crate::{
    client,
    data::DataDir,
    report::{self, Result},
};

/// Show what is running
#[derive(Args)]
pub struct Status {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let status = client::control(&data.require_running()?, "GET", "status", None)?;
        report::print(match self.json {
            true => format!("{status:#}\n"),
            false => for_people(&status),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn for_people(status: &Value) -> String {
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    let mut shown = format!("haar {} on {} (pid {})\n", text("version"), text("listen"), status["pid"]);
    for key in ["project", "data", "level"] {
        let _ = writeln!(shown, "  {key:7}  {}", text(key));
    }
    shown.push_str(&services(status));
    shown.push_str(&databases(status));
    shown
}

fn databases(status: &Value) -> String {
    let mut shown = String::new();
    for database in status["databases"].as_array().into_iter().flatten() {
        let text = |key: &str| database[key].as_str().unwrap_or_default();
        let _ = writeln!(shown, "  {}  {}  {}", text("connection_name"), text("version"), text("state"));
    }
    shown
}

/// The services and the worker pools; below one whose newest revision does not serve, why.
fn services(status: &Value) -> String {
    let mut shown = String::new();
    let of = |kind: &str| status[kind].as_array().map(Vec::as_slice).unwrap_or_default();
    let (services, pools) = (of("services"), of("worker_pools"));
    if services.is_empty() && pools.is_empty() {
        shown.push_str("  no services yet\n");
    }
    let all = || services.iter().chain(pools);
    let width = all().filter_map(|s| s["name"].as_str()).map(str::len).max().unwrap_or(0);
    for service in all() {
        let text = |key: &str| service[key].as_str().unwrap_or_default();
        let instances = match service["instances"].as_u64() {
            Some(1) => "1 instance ".to_owned(),
            count => format!("{} instances", count.unwrap_or(0)),
        };
        let place = service["url"].as_str().unwrap_or("worker pool");
        let _ = writeln!(shown, "  {:width$}  {instances}  {place}", text("name"));
        if let Some(why) = service["failure"].as_str() {
            let _ = writeln!(shown, "  {:width$}  failed: {}", "", why.lines().next().unwrap_or_default());
        }
    }
    shown
}
