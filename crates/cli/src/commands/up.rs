use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    commands::sql::places,
    data::{DataDir, Running},
    report::{Doing, Result, Trouble, tell},
    server::{self, Settings, listener},
    supervisor::{self, Role},
};

/// Start haar
#[derive(Args)]
pub struct Up {
    /// Run in the background; returns when the first call would be answered
    #[arg(long)]
    detach: bool,
    /// The project that commands use when none is named
    #[arg(long, value_name = "ID", default_value = "haar-local", value_parser = project_id)]
    project: String,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4560", value_parser = address)]
    listen: SocketAddr,
    /// Who calls without credentials on the plain port: the owner, or nobody
    #[arg(long, value_enum, default_value_t = Anonymous::Owner)]
    anonymous: Anonymous,
    /// How many seconds a service keeps its last instance after its last request
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    idle_after: u32,
    /// Whether a project that nobody created exists on first use
    #[arg(long, value_enum, default_value_t = Projects::Open)]
    projects: Projects,
    /// Whether instances reach other networks: the internet, and this machine's
    #[arg(long, value_enum, default_value_t = Outbound::On)]
    outbound: Outbound,
    /// Where PostgreSQL is: the directory of its programs, or one above [default: looked for on this machine]
    #[arg(long, value_name = "DIR")]
    postgres_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Anonymous {
    /// The owner, as emulators do
    Owner,
    /// Nobody: every call needs credentials
    Deny,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Outbound {
    /// As this machine does, through its proxy if it has one
    On,
    /// Nothing but Google's services, from haar
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Projects {
    /// Any well-formed project id exists
    Open,
    /// Only projects that were created exist
    Strict,
}

impl Up {
    pub fn run(self, data: &DataDir) -> Result<ExitCode> {
        match Role::of_this_process() {
            Role::Supervisor => supervisor::supervise(data),
            Role::Supervised => self.serve(data, supervisor::inherited_listener()?),
            Role::Foreground => {
                listener::refuse_second(data)?;
                data.tighten()?;
                self.check_postgres(data)?;
                warn_of_others(self.listen);
                let socket = listener::open(self.listen)?;
                if self.detach { self.detach(data, socket) } else { self.serve(data, socket) }
            }
        }
    }

    /// A directory that was named has PostgreSQL in it, or no database would ever start.
    fn check_postgres(&self, data: &DataDir) -> Result<()> {
        let Some(directory) = &self.postgres_dir else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
        let directory = std::path::absolute(directory).doing("find the directory of PostgreSQL")?;
        let places = places(data, Some(directory.clone()), PathBuf::new());
        match runtime.block_on(sql::installations(&places)).is_empty() {
            false => Ok(()),
            true => Err(Trouble::new(format!("there is no PostgreSQL in {}", directory.display()))
                .next("name the directory of initdb and postgres, such as /usr/lib/postgresql/16/bin")),
        }
    }

    fn detach(&self, data: &DataDir, socket: TcpListener) -> Result<ExitCode> {
        let running = supervisor::detach(data, socket)?;
        announce(data, &running);
        Ok(ExitCode::SUCCESS)
    }

    fn serve(self, data: &DataDir, socket: TcpListener) -> Result<ExitCode> {
        let supervised = matches!(Role::of_this_process(), Role::Supervised);
        let postgres = self.postgres_dir.map(std::path::absolute).transpose();
        let settings = Settings {
            postgres: postgres.doing("find the directory of PostgreSQL")?,
            data: data.clone(),
            project: self.project,
            anonymous_is_owner: matches!(self.anonymous, Anonymous::Owner),
            idle_after: Duration::from_secs(self.idle_after.into()),
            strict_projects: matches!(self.projects, Projects::Strict),
            outbound: self.outbound,
            supervisor: supervised
                .then(|| rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get())),
        };
        server::serve(settings, socket, |running| {
            if !supervised {
                announce(data, running);
            }
        })
    }
}

fn announce(data: &DataDir, running: &Running) {
    tell!("haar {} is up on {}, project {}", running.version, running.listen, running.project);
    tell!("  data  {}", data.path().display());
    tell!("  try   haar exec -- gcloud secrets list");
}

/// What listening to other machines means.
fn warn_of_others(listen: SocketAddr) {
    if !listen.ip().is_loopback() {
        tell!(
            "haar: {listen} can be reached by other machines: they call services and, with credentials, APIs"
        );
        tell!(
            "      without credentials no caller from another machine is anybody; a firewall keeps all out"
        );
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let with_host = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    with_host.parse().map_err(|_| "give an address and a port, such as 127.0.0.1:4560 or :0".to_owned())
}

fn project_id(text: &str) -> Result<String, String> {
    kernel::names::check_project_id(text)
        .map(|()| text.to_owned())
        .map_err(|error| error.message().to_owned())
}
