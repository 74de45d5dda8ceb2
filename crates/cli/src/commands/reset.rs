use std::{
    fs,
    io::{BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    commands::down::left_databases,
    data::DataDir,
    report::{Doing, Result, Trouble},
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
            eprintln!("nothing to forget: {} does not exist", data.path().display());
            return Ok(ExitCode::SUCCESS);
        }
        if !data.join("FORMAT").exists() && !data.join("store").exists() {
            return Err(Trouble::new(format!("{} is not a data directory of haar", data.path().display()))
                .next("name the right one with --data DIR"));
        }
        if !self.yes && !confirmed(data)? {
            return Err(
                Trouble::new("nothing was deleted").next("to delete without a question: haar reset --yes")
            );
        }
        left_databases(data)?;
        fs::remove_dir_all(data.path()).doing(format_args!("delete {}", data.path().display()))?;
        eprintln!("deleted {}", data.path().display());
        Ok(ExitCode::SUCCESS)
    }
}

fn confirmed(data: &DataDir) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Delete everything in {}? [y/N] ", data.path().display());
    std::io::stderr().flush().doing("ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).doing("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
