use std::{
    io::ErrorKind,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use clap::Args;

use crate::{
    capture,
    data::DataDir,
    environment::Environment,
    report::{Result, Trouble},
};

/// Run any command against haar: gcloud, Terraform, a test suite, an app
#[derive(Args)]
pub struct Exec {
    /// Act as this user or service account instead of the owner
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::address)]
    principal: Option<String>,
    /// In a network of its own, for programs that heed no proxy (aiohttp, Node's fetch, wget); localhost is another one
    /// in there
    #[arg(long)]
    capture: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let (program, arguments) =
            self.command.split_first().unwrap_or_else(|| unreachable!("clap asks for one"));
        let environment = Environment::prepare(data, self.principal.as_deref())?.of_command(&self.command);
        if self.capture {
            return capture::run(data, &environment, &self.command);
        }
        let mut command = Command::new(program);
        command.args(arguments);
        environment.apply(&mut command);
        // The command takes this process's place: its signals, exit code and terminal are its own.
        let error = command.exec();
        Err(match error.kind() {
            ErrorKind::NotFound => Trouble::new(format!("there is no command '{program}'"))
                .next("check the spelling, or install it; haar runs it unmodified"),
            _ => Trouble::new(format!("cannot run {program}: {error}")),
        })
    }
}
