use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::{client, data::DataDir, report::Result};

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
        if self.json {
            println!("{status:#}");
        } else {
            print_for_people(&status);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_for_people(status: &Value) {
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    println!("haar {} on {} (pid {})", text("version"), text("listen"), status["pid"]);
    println!("  project  {}", text("project"));
    println!("  data     {}", text("data"));
    println!("  level    {}", text("level"));
    let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    if services.is_empty() {
        println!("  no services yet");
        return;
    }
    let width = services.iter().filter_map(|s| s["name"].as_str()).map(str::len).max().unwrap_or(0);
    for service in services {
        let text = |key: &str| service[key].as_str().unwrap_or_default();
        println!("  {:width$}  {} instances  {}", text("name"), service["instances"], text("url"));
    }
}
