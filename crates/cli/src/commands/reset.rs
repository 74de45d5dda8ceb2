use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use sandbox::{Config, Isolation, Sandbox, wiring::Wiring};

use crate::{
    commands::down::left_databases,
    data::DataDir,
    report::{self, Doing, Result, Trouble, tell},
};

/// Forget everything: projects, services, secrets, databases
#[derive(Args)]
pub struct Reset {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Reset {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        if let Some(running) = data.running() {
            return Err(Trouble::new(format!(
                "haar (pid {}) is running on {}",
                running.pid,
                data.path().display()
            ))
            .next("stop it first with: haar down"));
        }
        if !data.path().exists() {
            tell!("nothing to forget: {} does not exist", data.path().display());
            return Ok(ExitCode::SUCCESS);
        }
        if !data.was_started_on() {
            return Err(Trouble::new(format!("{} is not a data directory of haar", data.path().display()))
                .next("name the right one with --data DIR"));
        }
        if !self.yes && !confirmed(data)? {
            return Err(
                Trouble::new("nothing was deleted").next("to delete without a question: haar reset --yes")
            );
        }
        left_databases(data)?;
        remove(data).doing(format_args!("delete {}", data.path().display()))?;
        tell!("deleted {}", data.path().display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes all of it. Where instances have subordinate ids of this user's, what a killed build left belongs to those,
/// and has to be taken back first.
fn remove(data: &DataDir) -> io::Result<()> {
    match fs::remove_dir_all(data.path()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            take_back(data)?;
            fs::remove_dir_all(data.path())
        }
        outcome => outcome,
    }
}

fn take_back(data: &DataDir) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sandbox = Sandbox::open(Config {
        data_id: data.id(),
        layers: data.path().to_owned(),
        isolation: Isolation::Best,
        warm: 0,
        wiring: Wiring::default(),
    })?;
    for part in ["builds", "images", "instances"].map(|part| data.join(part)) {
        if part.exists() {
            runtime.block_on(sandbox.reclaim_directory(&part))?;
        }
    }
    Ok(())
}

fn confirmed(data: &DataDir) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    report::say(format_args!("Delete everything in {}? [y/N] ", data.path().display()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).doing("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
