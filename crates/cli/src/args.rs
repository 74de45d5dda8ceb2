//! What can be typed.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{commands, data::DataDir, report::Result};

/// What a newcomer types first.
const BEGIN: &str = "Begin with: haar up --detach, and then haar exec -- gcloud secrets list";

/// Google Cloud's serverless stack on your own machine.
#[derive(Parser)]
#[command(name = "haar", version, max_term_width = 100, after_help = BEGIN)]
pub struct Haar {
    /// Where state is kept [default: /var/lib/haar for root, $XDG_DATA_HOME/haar otherwise]
    #[arg(long, global = true, value_name = "DIR", env = "HAAR_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(commands::up::Up),
    Down(commands::down::Down),
    Status(commands::status::Status),
    Deploy(commands::deploy::Deploy),
    Rollout(commands::rollout::Rollout),
    Exec(commands::exec::Exec),
    Env(commands::env::Env),
    Api(commands::api::Api),
    Iam(commands::iam::Iam),
    Images(commands::images::Images),
    Logs(commands::logs::Logs),
    Sql(commands::sql::Sql),
    Reset(commands::reset::Reset),
}

impl Haar {
    /// Carries out what was typed.
    pub fn run(self) -> Result<ExitCode> {
        let data = DataDir::resolve(self.data)?;
        match self.command {
            Command::Up(args) => args.run(&data),
            Command::Down(args) => args.run(&data),
            Command::Status(args) => args.run(&data),
            Command::Deploy(args) => args.run(&data),
            Command::Rollout(args) => args.run(&data),
            Command::Exec(args) => args.run(&data),
            Command::Env(args) => args.run(&data),
            Command::Api(args) => args.run(&data),
            Command::Iam(args) => args.run(&data),
            Command::Images(args) => args.run(&data),
            Command::Logs(args) => args.run(&data),
            Command::Sql(args) => args.run(&data),
            Command::Reset(args) => args.run(&data),
        }
    }
}
