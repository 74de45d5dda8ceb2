//! The composition root: products made, joined through their ports, and put behind the one port.
//!
//! Nothing else in the house knows more than its neighbours. The order is the order of dependence: the store, the
//! projects, identity, the products, the gateway. Settings are settled before anything is opened.

mod adapters;
mod audit;
mod builds;
mod control;
mod instances;
mod least;
pub mod listener;
mod oauth;
mod operations;
mod published;
mod room;
mod served;
mod tried;
mod way_out;
mod why;
mod workloads;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use gateway::{Anonymous, Ca, Gateway, Hosts, Listener, Upstream};
use iam::{Iam, Owner};
use ingress::Ingress;
use kernel::{
    clock::Clock,
    operations::Operations,
    ports,
    store::{Embedded, Store},
};
use logging::Logging;
use orgpolicy::OrgPolicies;
use projects::Projects;
use run::{Fleet, Run, local::way::Outbound};
use secrets::Secrets;
use serde_json::{Value, json};
use sql::Sql;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use instances::Instances;
use published::Published;
use way_out::WayOut;
use workloads::Workloads;

use crate::{
    commands::{sql::places, up},
    data::{DataDir, Running},
    report::{Doing, Result, Trouble},
    run_directory,
};

/// How long calls that are under way may still take when haar is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// When whoever started haar has made their first call.
const STARTED: Duration = Duration::from_millis(500);
/// When haar has started and whoever started it has made their first calls.
const SETTLED: Duration = Duration::from_secs(3);
/// How often what is deleted for good is forgotten.
const SWEEP: Duration = Duration::from_secs(600);

/// What haar is started with, settled.
pub struct Settings {
    /// Where state is kept.
    pub data: DataDir,
    /// The project that commands use when none is named.
    pub project: String,
    /// Whether a caller without credentials on the plain port is the owner.
    pub anonymous_is_owner: bool,
    /// How long a service keeps its last instance after its last request.
    pub idle_after: Duration,
    /// Whether only projects that were created exist.
    pub strict_projects: bool,
    /// Whether instances reach other networks.
    pub outbound: up::Outbound,
    /// The process that restarts this one.
    pub supervisor: Option<i32>,
    /// Where PostgreSQL is, if it is to be sought nowhere else.
    pub postgres: Option<PathBuf>,
}

/// The products.
pub struct Parts {
    /// What all of them stand on.
    store: Arc<Embedded>,
    pub(crate) iam: Arc<Iam>,
    projects: Arc<Projects>,
    policies: Arc<OrgPolicies>,
    secrets: Arc<Secrets>,
    sql: Arc<Sql>,
    logging: Arc<Logging>,
    run: Arc<Run>,
    fleet: Arc<Fleet>,
    ingress: Arc<Ingress>,
    workloads: Arc<Workloads>,
    operations: Operations,
    instances: Instances,
    images: images::Images,
    builds: build::Builds,
    /// Ports that are services' own; there once the gateway is.
    published: OnceLock<Published>,
    /// Where sockets are.
    run_directory: PathBuf,
}

/// Serves until told to stop. `ready` is called when the first call would be answered.
pub fn serve(settings: Settings, socket: TcpListener, ready: impl FnOnce(&Running)) -> Result<ExitCode> {
    start_log();
    let upstream = Upstream::from_variables(|name| std::env::var(name).ok()).map_err(|why| {
        Trouble::new(why).next("correct that variable, or unset it if there is no proxy here")
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().doing("start")?;
    let served = runtime.block_on(run(settings, socket, upstream, ready));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(
    settings: Settings,
    socket: TcpListener,
    upstream: Upstream,
    ready: impl FnOnce(&Running),
) -> Result<ExitCode> {
    let mut stop = Stop::new()?;
    let address = socket.local_addr().doing("look at the listening socket")?;
    let running = describe(&settings, address)?;
    let ca = Ca::open(&settings.data.make("ca")?).doing("open the certificate authority")?;
    let outbound = match settings.outbound {
        up::Outbound::On => Outbound::By(Arc::new(WayOut::new(upstream.clone(), address))),
        up::Outbound::Off => Outbound::Off,
    };
    let parts = Arc::new(Parts::open(&settings, &ca, address, outbound).await?);
    let gateway = join(&settings, &parts, &running, ca, upstream)?;
    parts.workloads.bind(gateway.clone());
    // Before the first connection is accepted: those that waited while haar was restarted find their service.
    parts.run.begin(parts.ingress.clone());
    parts.published.get_or_init(|| Published::open(&settings.data, gateway.clone(), parts.ingress.clone()));
    let opened = gateway.open(Listener::machine(socket)).doing("listen")?;
    settings.data.write_for_now("run.json", &serde_json::to_vec_pretty(&running).doing("write run.json")?)?;
    ready(&running);
    parts.operations.fail_unfinished().await.map_err(trouble)?;
    let housekeeping = tokio::spawn(keep_house(parts.iam.clone()));
    let watching = tokio::spawn(least::keep(parts.iam.clone()));
    let room = tokio::spawn(room::keep(parts.clone()));
    let ports = tokio::spawn(published::keep(parts.clone()));
    stop.asked().await;
    housekeeping.abort();
    for task in [watching, room, ports] {
        task.abort();
    }
    drop(opened);
    // Instances go first: while they finish, they may still need a token or an API.
    parts.fleet.shut_down().await;
    tokio::join!(parts.sql.shut_down(), gateway.close(DRAIN));
    least::write(&parts.iam).await;
    parts.logging.close();
    parts.store.close();
    // What was starting until now may have left secrets in memory.
    let _ = run::forget_volumes(&parts.run_directory.join(run_directory::VOLUMES));
    let _ = std::fs::remove_dir_all(&parts.run_directory);
    let _ = std::fs::remove_file(settings.data.join("run.json"));
    Ok(ExitCode::SUCCESS)
}

/// What need not be done while somebody waits for the first answer: the key that identity tokens are signed with, and
/// then, now and again, forgetting what nobody can ask for any more.
async fn keep_house(iam: Arc<Iam>) {
    let_go_of_the_start().await;
    tokio::time::sleep(SETTLED).await;
    iam.prepare();
    loop {
        if let Err(error) = iam.sweep().await {
            tracing::warn!("what is deleted for good could not be forgotten: {error:?}");
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// Most of what a start runs is not run again: a little later it is no longer held in memory.
pub async fn let_go_of_the_start() {
    tokio::time::sleep(STARTED).await;
    if let Err(error) = sandbox::pages::let_go() {
        tracing::debug!(%error, "what only the start needed stays in memory");
    }
}

/// The end of the log is read while the products' records are.
fn open_logging(
    directory: PathBuf,
    clock: Clock,
    projects: Arc<Projects>,
) -> JoinHandle<kernel::Result<Arc<Logging>>> {
    tokio::task::spawn_blocking(move || Logging::open(&directory, clock, projects))
}

impl Parts {
    /// Opens every product on one store.
    async fn open(settings: &Settings, ca: &Ca, listen: SocketAddr, outbound: Outbound) -> Result<Parts> {
        let data = &settings.data;
        let clock = Clock::system();
        let embedded = Arc::new(Embedded::open(data.path()).map_err(trouble)?);
        let store: Arc<dyn Store> = embedded.clone();
        let mode = if settings.strict_projects { projects::Mode::Strict } else { projects::Mode::Open };
        let projects = Projects::open(store.clone(), clock.clone(), mode).await.map_err(trouble)?;
        let iam =
            Iam::open(store.clone(), clock.clone(), projects.clone(), owner(data)?).await.map_err(trouble)?;
        projects.bind(&(iam.clone() as Arc<dyn ports::Policies>));
        let policies =
            OrgPolicies::open(store.clone(), clock.clone(), projects.clone()).await.map_err(trouble)?;
        iam.obey(policies.clone());
        let logging = open_logging(data.make("logs")?, clock.clone(), projects.clone());
        let operations = Operations::open(store.clone(), clock.clone()).await.map_err(trouble)?;
        let keys = data.make("keys")?;
        let secrets = Secrets::open(store.clone(), &keys, clock.clone(), projects.clone(), iam.clone())
            .await
            .map_err(trouble)?;
        projects.ensure(&settings.project).await.map_err(trouble)?;

        let run_directory = run_directory::make(data)?;
        let config = places(data, settings.postgres.clone(), run_directory.clone());
        let sql = Sql::open(config, store.clone(), clock.clone(), projects.clone(), operations.clone())
            .await
            .map_err(trouble)?;

        let logging = logging.await.doing("open the log")?.map_err(trouble)?;
        sql.obey(policies.clone());
        tried::report(&policies, logging.clone(), clock.clone());
        let workloads = Arc::new(Workloads::default());
        let instances = Instances::prepare(
            data,
            ca.pem().to_owned(),
            listen,
            workloads.clone(),
            logging.clone(),
            outbound,
        );
        let fleet = Fleet::new(Arc::new(instances.clone()));
        let registries = images::Registries::from_variables(|name| std::env::var(name).ok())
            .map_err(|why| Trouble::new(why).next("correct that variable, or unset it"))?;
        iam.reach_issuers_by(Arc::new(oauth::Issuers(registries.clone())));
        let images = images::Images::open_with(&data.make("images")?, registries)
            .map_err(|error| Trouble::new(error.to_string()))?;
        let builds = build::Builds::open(&data.make("builds")?, Arc::new(builds::Maker(images.clone())))
            .doing("open the directory of builds")?;
        let ports = run::Ports {
            store,
            clock: clock.clone(),
            projects: projects.clone(),
            authority: iam.clone(),
            policies: iam.clone(),
            identity: iam.clone(),
            secrets: secrets.clone(),
            images: Arc::new(adapters::LocalImages(images.clone())),
            logs: logging.clone(),
            databases: sql.clone(),
            run_directory: run_directory.join(run_directory::VOLUMES),
            public_port: listen.port(),
        };
        let run = Run::open(ports, fleet.clone(), operations.clone()).await.map_err(trouble)?;
        run.keep_idle(settings.idle_after);
        run.obey(policies.clone());
        let requests = Arc::new(adapters::Requests(logging.clone()));
        let callers = Arc::new(adapters::Callers { identity: iam.clone(), authority: iam.clone() });
        let ingress = Ingress::new(ingress::Config::default(), fleet.clone(), requests, callers, clock);
        Ok(Parts {
            store: embedded,
            iam,
            projects,
            policies,
            secrets,
            sql,
            logging,
            run,
            fleet,
            ingress,
            workloads,
            operations,
            instances,
            images,
            builds,
            published: OnceLock::new(),
            run_directory,
        })
    }

    /// What `haar status` lists.
    fn services(&self) -> Value {
        let one = |service: run::ServiceStatus| {
            json!({
                "name": service.name,
                "region": service.region,
                "url": service.url,
                "revision": service.revision,
                "instances": service.instances,
                "failure": service.failure,
            })
        };
        self.run.status().into_iter().map(one).collect()
    }

    /// The worker pools that `haar status` lists.
    fn worker_pools(&self) -> Value {
        let one = |pool: run::ServiceStatus| {
            json!({
                "name": pool.name,
                "region": pool.region,
                "revision": pool.revision,
                "instances": pool.instances,
                "failure": pool.failure,
            })
        };
        self.run.worker_pools().into_iter().map(one).collect()
    }

    /// The database instances that `haar status` lists.
    fn databases(&self) -> Value {
        let one = |instance: sql::InstanceStatus| {
            json!({
                "name": instance.name,
                "project": instance.project,
                "connection_name": instance.connection_name,
                "version": instance.version,
                "state": instance.state,
                "socket": instance.socket,
            })
        };
        self.sql.status().into_iter().map(one).collect()
    }
}

/// The person at the machine: whoever was when the data directory was new. Policies name that address, so it stays
/// the same when haar is started by another login, by `sudo` or at boot.
fn owner(data: &DataDir) -> Result<Owner> {
    let login = match std::fs::read_to_string(data.join("owner")) {
        Ok(login) => login,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let login = std::env::var("USER").unwrap_or_default();
            data.write("owner", login.as_bytes())?;
            login
        }
        Err(error) => return Err(error).doing("read who owns the data directory"),
    };
    Ok(Owner::named(login.trim()))
}

/// Every method of every product.
fn methods(parts: &Parts) -> Vec<kernel::Method> {
    let mut methods = secrets::methods(parts.secrets.clone());
    methods.extend(parts.iam.methods());
    methods.extend(projects::methods(parts.projects.clone()));
    methods.extend(orgpolicy::methods(parts.policies.clone()));
    methods.extend(logging::methods(parts.logging.clone()));
    methods.extend(run::methods(parts.run.clone()));
    methods.extend(sql::methods(parts.sql.clone()));
    methods.extend(operations::methods(parts.operations.clone()));
    methods
}

/// Puts the products behind the port.
fn join(
    settings: &Settings,
    parts: &Arc<Parts>,
    running: &Running,
    ca: Ca,
    upstream: Upstream,
) -> Result<Gateway> {
    let anonymous = match settings.anonymous_is_owner {
        true => Anonymous::Owner(parts.iam.owner().principal()),
        false => Anonymous::Deny,
    };
    let methods = methods(parts);
    let about = json!({
        "pid": running.pid,
        "listen": running.listen.to_string(),
        "version": running.version,
        "project": running.project,
        "data": settings.data.path(),
        "log": settings.data.join("haar.log"),
        "postgres_dir": settings.postgres,
    });
    let control = Arc::new(control::Control::new(
        parts.clone(),
        running.control_key.clone(),
        about,
        served::Served::new(&methods),
    ));
    let services = Arc::new(adapters::Services(parts.ingress.clone()));
    let run = parts.run.clone();
    let mapped: gateway::Changing = Arc::new(move |host| run.is_mapped(host));
    parts.workloads.resolve(mapped.clone());
    let metadata =
        Arc::new(workloads::Metadata { iam: parts.iam.clone(), workloads: parts.workloads.clone() });
    parts.workloads.describe_by(metadata.clone());
    let oauth = Arc::new(oauth::OAuth(parts.iam.clone()));
    let mut builder = Gateway::builder(parts.iam.clone(), parts.iam.clone(), parts.projects.clone())
        .anonymous(anonymous)
        .audit(Arc::new(audit::Audit { iam: parts.iam.clone(), logging: parts.logging.clone() }))
        .tls(Arc::new(ca))
        .upstream(upstream)
        .ours(gateway::Ours::google().with("*.run.localhost").and(mapped.clone()))
        // The hot path first: sites are looked through in this order.
        .site(Hosts::below(".run.localhost"), "/", services.clone())
        .site(Hosts::below(".run.app"), "/", services.clone())
        .site(Hosts::Any, "/_haar/", control)
        .methods(methods);
    for host in workloads::METADATA_HOSTS {
        builder = builder.site(Hosts::exact(host), "/", metadata.clone());
    }
    for (host, prefix) in oauth::PLACES {
        builder = builder.site(Hosts::exact(host), prefix, oauth.clone());
    }
    // Last: no mapping takes a host that is another's.
    builder = builder.site(Hosts::Changing(mapped), "/", services);
    builder.build().map_err(Trouble::new)
}

fn describe(settings: &Settings, listen: SocketAddr) -> Result<Running> {
    Ok(Running {
        pid: std::process::id() as i32,
        supervisor: settings.supervisor,
        listen,
        version: env!("CARGO_PKG_VERSION").into(),
        project: settings.project.clone(),
        control_key: control::new_key()?,
    })
}

/// The signals that end haar.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let wait_for = |kind| signal(kind).doing("wait for signals");
        Ok(Stop {
            terminate: wait_for(SignalKind::terminate())?,
            interrupt: wait_for(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What `HAAR_LOG` asks for (`warn` if nothing), to standard error.
fn start_log() {
    let asked = std::env::var("HAAR_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let targets = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // A second log in one process would be a mistake, but none worth dying of.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}

fn trouble(error: kernel::Error) -> Trouble {
    tracing::debug!("{error:?}");
    Trouble::new(error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_stays_who_it_was_first() {
        let path = std::env::temp_dir().join(format!("haar-owner-{}", std::process::id()));
        let data = DataDir::resolve(Some(path.clone())).unwrap();
        let first = owner(&data).unwrap();
        assert_eq!(owner(&data).unwrap(), first);
        data.write("owner", b"ada\n").unwrap();
        assert_eq!(owner(&data).unwrap().email(), "ada@haar.localhost");
        std::fs::remove_dir_all(path).unwrap();
    }
}
