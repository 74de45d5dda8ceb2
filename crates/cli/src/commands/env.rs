use std::process::ExitCode;

use clap::Args;

use crate::{
    data::DataDir,
    environment::Environment,
    report::{self, Result},
};

/// Print the environment that `haar exec` gives, for: eval "$(haar env)"
#[derive(Args)]
pub struct Env {
    /// Act as this user or service account instead of the owner
    #[arg(long = "as", value_name = "EMAIL", value_parser = super::address)]
    principal: Option<String>,
    /// As a JSON object, for scripts
    #[arg(long)]
    json: bool,
}

impl Env {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let environment = Environment::prepare(data, self.principal.as_deref())?;
        report::print(match self.json {
            true => format!("{:#}\n", environment.as_json()),
            false => environment.as_exports(),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
