//! `haar deploy`: from a folder to an address.
//!
//! Everything but the build is done with Google's own APIs, as the owner, so what it makes looks and behaves like what
//! gcloud or Terraform would have made, and can be changed by them. What exists is used as it is: a second deploy
//! makes a revision and nothing else.

mod account;
mod database;
pub mod google;
mod migration;
pub mod screen;
pub mod service;
pub mod source;
pub mod wanted;

use std::{path::PathBuf, process::ExitCode};

use build::Built;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::{
    database::Database,
    google::Google,
    screen::Screen,
    service::{Callers, Extras},
    wanted::Wanted,
};
use crate::{
    address, client,
    data::DataDir,
    report::{self, Result, Trouble},
};

/// Build a folder and run it as a Cloud Run service
#[derive(Args)]
pub struct Deploy {
    /// The folder with the app
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The service [default: the folder's name]
    #[arg(long)]
    name: Option<String>,
    /// The region
    #[arg(long, default_value = "us-central1")]
    region: String,
    /// The project, if not the usual one
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Also serve it on this port of 127.0.0.1, from now on; `none` takes the port back
    #[arg(long, value_name = "PORT", value_parser = port)]
    publish: Option<Port>,
    /// What it needs: made if it is not there, and wired
    #[arg(long = "with", value_enum, value_name = "WHAT")]
    needs: Vec<Need>,
    /// The service account it runs as
    #[arg(long, value_name = "EMAIL")]
    service_account: Option<String>,
    /// A variable of its environment; can be given more than once
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// What starts it, instead of what is found out
    #[arg(long, value_name = "COMMAND")]
    start: Option<String>,
    /// Only callers with roles/run.invoker may call it, not everybody
    #[arg(long)]
    private: bool,
    /// Make this the next revision of a service that was deployed in another way
    #[arg(long)]
    replace: bool,
    /// Show all that the build says
    #[arg(long, short)]
    verbose: bool,
    /// What was made, as JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What a service can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Need {
    /// A database in Cloud SQL for PostgreSQL
    Postgres,
}

/// What is asked for with `--publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// This one.
    Number(u16),
    /// Not any more.
    None,
}

fn port(text: &str) -> Result<Port, String> {
    match text.parse() {
        Ok(0) => Err("0 is no port; give one of 1 to 65535, or none".into()),
        Ok(port) => Ok(Port::Number(port)),
        Err(_) if text == "none" => Ok(Port::None),
        Err(_) => Err("give a port of 1 to 65535, or none".into()),
    }
}

/// What came of a deploy.
struct Deployed {
    service: Value,
    built: Built,
    made: Vec<String>,
    published: Option<u16>,
}

impl Deploy {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        let running = data.require_running()?;
        let wanted = Wanted::settle(&self.directory, self.name.clone(), self.region.clone())?;
        let google = Google::new(&running, self.project.clone())?;
        let deployed = self.deploy(data, &google, &wanted)?;
        report::print(match self.json {
            true => format!("{:#}\n", deployed.as_json()),
            false => deployed.for_people(&wanted),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn deploy(&self, data: &DataDir, google: &Google<'_>, wanted: &Wanted) -> Result<Deployed> {
        let screen = Screen::new();
        // Before anything is made: is the region one, and is the name free?
        let before = service::find(google, wanted)?;
        if let Some(service) = before.as_ref().filter(|_| !self.replace) {
            service::check_is_ours(service, wanted)?;
        }
        let built = source::build(google, wanted, &screen, self.start.clone(), self.verbose)?;
        let mut made = Vec::new();
        let (account, database) = self.provide(data, google, wanted, &screen, &mut made)?;
        let extras =
            Extras { account: account.as_deref(), variables: &self.variables, database: database.as_ref() };
        let template = service::template(before.as_ref(), &built.image, &extras);
        let has_database = database.is_some() || before.as_ref().is_some_and(service::has_database);
        if let Some(command) = built.migrate.as_ref().filter(|_| has_database) {
            migrate(google, wanted, &screen, &template, command)?;
        }
        let service = self.release(google, wanted, &screen, before.as_ref(), template, &mut made)?;
        let published = match self.publish {
            None => None,
            Some(Port::None) => unpublish(google, &service).map(|()| None)?,
            Some(Port::Number(port)) => publish(google, &service, port).map(|()| Some(port))?,
        };
        Ok(Deployed { service, built, made, published })
    }

    fn callers(&self) -> Callers {
        if self.private { Callers::Invited } else { Callers::Everybody }
    }

    /// Deploys the revision and waits until it serves; gives the service.
    fn release(
        &self,
        google: &Google<'_>,
        wanted: &Wanted,
        screen: &Screen,
        before: Option<&Value>,
        template: Value,
        made: &mut Vec<String>,
    ) -> Result<Value> {
        let step = screen.step("deploy");
        step.now("waiting until it serves");
        let outcome = match service::begin(google, wanted, before, template)? {
            Ok(operation) => {
                // Before its revision is known to serve: the next deploy, which finds a service, leaves this as it is.
                if before.is_none() && self.callers() == Callers::Everybody && service::open(google, wanted)?
                {
                    made.push("roles/run.invoker for everybody; --private leaves that out".into());
                }
                google.finish_run(&wanted.host(), operation)?
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let refusal = match outcome {
            Ok(service) => {
                step.done(last_part(&service["latestReadyRevision"]));
                return Ok(service);
            }
            Err(refusal) => refusal,
        };
        screen.quote(&service::last_words(google, wanted));
        // Its last words are there already.
        let message = refusal.message.split("\n\n").next().unwrap_or_default();
        Err(Trouble::new(message).next(match before.and_then(service::serving) {
            Some(revision) => format!("{revision} keeps serving; mend the app and deploy again"),
            None => format!("mend the app and deploy again; see all it said with: haar logs {}", wanted.name),
        }))
    }

    /// What the service needs beside its image: an account of its own and a database, if that was asked for.
    fn provide(
        &self,
        data: &DataDir,
        google: &Google<'_>,
        wanted: &Wanted,
        screen: &Screen,
        made: &mut Vec<String>,
    ) -> Result<(Option<String>, Option<Database>)> {
        if !self.needs.contains(&Need::Postgres) {
            return Ok((self.service_account.clone(), None));
        }
        let step = screen.step("database");
        step.now("looking at what is there");
        let account = match &self.service_account {
            Some(email) => email.clone(),
            None => {
                let (email, is_new) = account::ensure(google, wanted)?;
                made.extend(is_new.then(|| format!("service account {email}")));
                email
            }
        };
        let database = database::ensure(data, google, wanted, &account)?;
        let news = if database.made.is_empty() { "as before" } else { "made" };
        step.done(&format!("{} on {}, {news}", database.name, database.connection_name));
        made.extend(database.made.iter().cloned());
        Ok((Some(account), Some(database)))
    }
}

fn migrate(
    google: &Google<'_>,
    wanted: &Wanted,
    screen: &Screen,
    template: &Value,
    command: &[String],
) -> Result<()> {
    let step = screen.step("migrate");
    step.now(&command.join(" "));
    match migration::run(google, wanted, template, command)? {
        Ok(()) => {
            step.done(&command.join(" "));
            Ok(())
        }
        Err(refusal) => {
            screen.quote(&migration::last_words(google, wanted));
            Err(Trouble::new(format!("the migration failed: {}", refusal.message))
                .next("nothing was deployed: mend the migration and deploy again"))
        }
    }
}

fn publish(google: &Google<'_>, service: &Value, port: u16) -> Result<()> {
    let asked = json!({ "port": port, "host": host_of(service) });
    client::control(google.running, "POST", "publish", Some(asked))
        .map(drop)
        .map_err(|trouble| trouble.next("it serves at its own address; choose another port with --publish"))
}

fn unpublish(google: &Google<'_>, service: &Value) -> Result<()> {
    let asked = json!({ "host": host_of(service) });
    client::control(google.running, "POST", "unpublish", Some(asked)).map(drop)
}

/// What the service is known by.
fn host_of(service: &Value) -> &str {
    address::host(service["uri"].as_str().unwrap_or_default())
}

/// The name of a thing without what it is in.
pub fn last_part(name: &Value) -> &str {
    name.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

impl Deployed {
    fn addresses(&self) -> Vec<String> {
        let own = self.service["uri"].as_str().unwrap_or_default().to_owned();
        let published = self.published.map(|port| format!("http://127.0.0.1:{port}"));
        std::iter::once(own).chain(published).collect()
    }

    fn as_json(&self) -> Value {
        let addresses = self.addresses();
        json!({
            "url": addresses.first(),
            "published": addresses.get(1),
            "revision": last_part(&self.service["latestReadyRevision"]),
            "image": self.built.image,
            "start": self.built.start,
            "made": self.made,
        })
    }

    /// The address first, then what it took, then what to do with it.
    fn for_people(&self, wanted: &Wanted) -> String {
        let mut lines = self.addresses();
        lines.extend(self.made.iter().map(|made| format!("  made  {made}")));
        lines.push(format!("  runs  {}", self.built.start.join(" ")));
        lines.push(format!("  logs  haar logs {} --follow", wanted.name));
        lines.join("\n") + "\n"
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("give a name and a value, such as LOG_LEVEL=DEBUG".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_names() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=b").is_err() && variable("A").is_err());
    }
}
