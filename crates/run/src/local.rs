//! Instances on this machine, over the sandbox.
//!
//! Adds to a container what Cloud Run has around it: the metadata server's address, Google's APIs at theirs, names
//! for both, trust in our certificates, and its output in the log. Who answers at those addresses is not known here:
//! the sockets are handed to an [`Inside`].
//!
//! Other networks are reached as this machine reaches them ([`way`]), unless that is switched off.
//!
//! # Known gaps
//! - Only TCP over IPv4, and names, go out.
//! - On a kernel without `nf_tables` there is no way out, and a container that listens on a port of ours (80, 443)
//!   finds it taken, because both share a loopback. Such an instance gets its port, and nothing of ours there; its log
//!   says so.

pub mod captured;
mod dns;
mod output;
mod outward;
mod placeholders;
mod platform;
mod resolver;
mod running;
mod sockets;
pub mod way;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use kernel::{
    BoxFuture,
    ports::{LogSource, LogStream, Logs},
};
use sandbox::{
    Config, Host, Instance, Isolation, Level, Sandbox, Spec,
    spec::{Access, Limits},
};
use tokio::net::TcpListener;

use crate::{
    runtime::{Held, Mount, MountKind, Plan, Running, Runtime, Secretive},
    words,
};
use outward::Outside;
use platform::Platform;
use running::{Attendants, Door, LocalRunning, Network};
use sockets::{Placing, Sockets};
use way::Outbound;

/// Where the metadata server and the name server are.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where Google's APIs are: `private.googleapis.com`.
const GOOGLE: Ipv4Addr = Ipv4Addr::new(199, 36, 153, 8);
/// Processes and threads of an instance: far above what servers use, far below what harms a machine.
const PIDS: u32 = 8192;

/// How to run instances on this machine.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// A directory that is the runtime's alone, on the filesystem where layers are; made if it is not there.
    pub directory: PathBuf,
    /// The data directory's id: 1 to 32 of `a-z`, `0-9` and `-`.
    pub data_id: String,
    /// The certificates that instances trust, as PEM: our CA and what the machine trusts.
    pub bundle: Vec<u8>,
    /// More files that every instance sees, by absolute path, such as Java's trust store.
    pub files: Vec<(String, Vec<u8>)>,
    /// More variables that every instance has unless its image or its service sets them.
    pub env: Vec<(String, String)>,
    /// Those of instances that are plain processes instead: how they find us through a proxy. A path of one of `files` in
    /// them becomes the one that it has on this machine.
    pub plain_env: Vec<(String, String)>,
    /// Whether instances may go without walls.
    pub isolation: Isolation,
    /// The port in the addresses of services, which works inside too.
    pub public_port: u16,
    /// How many instances are prepared before they are asked for; each costs two small processes.
    pub warm: usize,
    /// Whether instances reach other networks.
    pub outbound: Outbound,
}

/// Whose instance it is, for those who answer on its inside.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its project, region, service, revision and instance.
    pub source: LogSource,
    /// The project's number.
    pub project_number: u64,
    /// The account it runs as.
    pub service_account: Arc<str>,
}

/// Sockets on the inside, listening already. One that is missing would have been in the way of the container's own
/// port.
#[derive(Debug)]
pub struct InsideSockets {
    /// 169.254.169.254:80, the metadata server; for a plain process a port of this machine's loopback.
    pub metadata: Option<TcpListener>,
    /// 199.36.153.8:443, Google's APIs and services by their `run.app` names, over TLS.
    pub https: Option<TcpListener>,
    /// 199.36.153.8:80, the same without TLS.
    pub http: Option<TcpListener>,
    /// 199.36.153.8 at the public port, services by their `run.localhost` names.
    pub local: Option<TcpListener>,
}

/// Answers on the inside of instances.
pub trait Inside: Send + Sync + 'static {
    /// An instance has started. Called on a tokio worker; must not block. What it returns is dropped when the
    /// instance has ended, and must close the sockets then.
    fn open(&self, workload: &Workload, sockets: InsideSockets) -> Box<dyn Send + Sync>;

    /// Whether a host that is not Google's is answered at these sockets too, such as a domain that is mapped to a service.
    /// Asked in lower case, for every name that an instance looks up.
    fn leads_here(&self, host: &str) -> bool;
}

/// Runs instances on this machine.
pub struct LocalRuntime {
    sandbox: Sandbox,
    platform: Platform,
    inside: Arc<dyn Inside>,
    logs: Arc<dyn Logs>,
    env: Vec<(String, String)>,
    public_port: u16,
    placing: Placing,
    outbound: Outbound,
}

impl LocalRuntime {
    /// Clears what a dead haar left, finds out what the machine allows, and gets ready. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the directory cannot be written or the sandbox's helper cannot be started.
    pub fn open(
        config: LocalConfig,
        inside: Arc<dyn Inside>,
        logs: Arc<dyn Logs>,
    ) -> io::Result<Arc<LocalRuntime>> {
        let platform = Platform::write(&config.directory, &config.bundle, &config.files)?;
        let LocalConfig { data_id, directory: layers, isolation, warm, public_port, outbound, .. } = config;
        let wiring = sockets::wiring(public_port, &outbound);
        let sandbox = Sandbox::open(Config { data_id, layers, isolation, warm, wiring })?;
        let placing = Placing::on(sandbox.host());
        let mut env = config.env;
        env.extend(platform::variables());
        if sandbox.host().level == Level::Process {
            env = config.plain_env;
            for (path, _) in &config.files {
                env.iter_mut().for_each(|(_, value)| *value = value.replace(path, &platform.on_host(path)));
            }
            env.extend(platform.host_variables());
        }
        Ok(Arc::new(LocalRuntime { sandbox, platform, inside, logs, env, public_port, placing, outbound }))
    }

    /// What instances are on this machine, for `haar status`.
    pub fn host(&self) -> &Host {
        self.sandbox.host()
    }

    /// What runs them: steps of builds are run by the same.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Prepares the first instances, so that the first start is as fast as those after it.
    ///
    /// # Errors
    /// When the machine does not allow instances.
    pub async fn prepare(&self) -> io::Result<()> {
        Ok(self.sandbox.prepare().await?)
    }

    async fn run(self: Arc<Self>, plan: Plan) -> Result<Arc<dyn Running>, String> {
        let workload = Workload {
            source: plan.source.clone(),
            project_number: plan.project_number,
            service_account: plan.service_account.clone(),
        };
        let no_port = |error: io::Error| format!("No port is free for the container: {error}.");
        let mut door = self.door(plan.port).map_err(no_port)?;
        for remark in &plan.remarks {
            self.logs.line(&workload.source, LogStream::System, &words::warning(remark));
        }
        if self.is_plain() && !plan.mounts.is_empty() {
            self.logs.line(
                &workload.source,
                LogStream::System,
                &words::warning(&nothing_mounted(&plan.mounts)),
            );
        }
        if let Some(first) = plan.beside.0.clone() {
            return self.run_beside(first, plan, &workload, door).await;
        }
        let held = plan.held.clone();
        let metadata = if self.is_plain() { Some(free_port().await.map_err(no_port)?) } else { None };
        door.metadata = metadata.as_ref().and_then(|listener| listener.local_addr().ok());
        let started = self.sandbox.start(self.spec(plan, door)).await;
        let mut instance = started.map_err(|error| unstartable(&error))?;
        let mut sockets = Sockets::of(instance.take_listeners());
        sockets.for_inside.metadata = sockets.for_inside.metadata.or(metadata);
        if !self.is_plain() && self.placing == Placing::Loopback && matches!(door.port, 80 | 443) {
            self.logs.line(&workload.source, LogStream::System, &port_taken(door.port));
        }
        let attendants = self.attend(&workload, sockets, held, &mut instance);
        Ok(Arc::new(LocalRunning::new(instance, door, attendants)))
    }

    /// Starts a container in the network of another, which has all that serves an instance.
    async fn run_beside(
        &self,
        first: Arc<dyn Running>,
        plan: Plan,
        workload: &Workload,
        door: Door,
    ) -> Result<Arc<dyn Running>, String> {
        let any: &dyn std::any::Any = &*first;
        let beside = any.downcast_ref::<LocalRunning>().ok_or("The other container runs elsewhere.")?;
        let held = plan.held.clone();
        let door = Door { metadata: beside.door.metadata, ..door };
        let spec = Spec { listen: Vec::new(), ..self.spec(plan, door) };
        let started = self.sandbox.start_beside(&beside.instance, spec).await;
        let mut instance = started.map_err(|error| unstartable(&error))?;
        let output = self.follow(workload, &mut instance);
        let attendants = Attendants { output, network: None, held };
        Ok(Arc::new(LocalRunning::new(instance, door, attendants)))
    }

    /// Brings what a container writes into the log.
    fn follow(&self, workload: &Workload, instance: &mut Instance) -> tokio::task::JoinHandle<()> {
        let (stdout, stderr) = (instance.take_stdout(), instance.take_stderr());
        tokio::spawn(output::follow(stdout, stderr, self.logs.clone(), workload.source.clone()))
    }

    fn is_plain(&self) -> bool {
        self.host().level == Level::Process
    }

    /// Among plain processes each has a port of its own, which is its `$PORT`. Somebody may take it before the
    /// container does; the start fails then, and the next has another.
    fn door(&self, port: u16) -> io::Result<Door> {
        match self.is_plain() {
            false => {
                let addr = SocketAddr::new(self.placing.door().into(), port);
                Ok(Door { port, addr, metadata: None })
            }
            true => {
                let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                Ok(Door { port, addr: free.local_addr()?, metadata: None })
            }
        }
    }

    fn spec(&self, plan: Plan, door: Door) -> Spec {
        let Secretive(mut env) = plan.env;
        for (_, port) in env.iter_mut().filter(|(name, _)| name == "PORT") {
            *port = door.addr.port().to_string();
        }
        Spec {
            env: self.environment(env, door),
            cwd: absolute(plan.cwd),
            user: plan.user,
            limits: Limits {
                memory_bytes: Some(plan.memory),
                cpu_millis: Some(plan.boost),
                pids: Some(PIDS),
            },
            listen: self.placing.listens(self.public_port, plan.port),
            mounts: plan.mounts.into_iter().map(mount).collect(),
            // Nothing is written to the scratch directory while what instances write is kept in memory.
            ..Spec::new(
                &*plan.source.instance,
                self.platform.around(plan.layers),
                PathBuf::from("/nonexistent"),
                plan.argv,
            )
        }
    }

    /// The instance's variables, and ours that it lacks.
    fn environment(&self, mut env: Vec<(String, String)>, door: Door) -> Vec<(String, String)> {
        let metadata = door.metadata.into_iter().flat_map(platform::metadata_variables);
        for (name, value) in self.env.iter().cloned().chain(metadata) {
            if !env.iter().any(|(known, _)| *known == name) {
                env.push((name, value));
            }
        }
        env
    }

    /// The way out of an instance, if it has one.
    fn outside(&self) -> Option<Arc<Outside>> {
        let Outbound::By(way) = &self.outbound else { return None };
        let haar = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.public_port));
        (self.placing == Placing::Wired).then(|| Arc::new(Outside::new(way.clone(), haar)))
    }

    /// Takes connections out while an instance runs.
    fn lead_out(
        &self,
        workload: &Workload,
        listener: Option<TcpListener>,
        outside: Option<Arc<Outside>>,
    ) -> impl Future<Output = ()> + use<> {
        let (logs, source) = (self.logs.clone(), workload.source.clone());
        let tell = move |refusal: String| logs.line(&source, LogStream::System, &words::warning(&refusal));
        async move {
            if let (Some(listener), Some(outside)) = (listener, outside) {
                outward::serve(listener, outside, tell).await;
            }
        }
    }

    /// Starts what serves an instance.
    fn attend(
        &self,
        workload: &Workload,
        sockets: Sockets,
        held: Held,
        instance: &mut Instance,
    ) -> Attendants {
        let output = self.follow(workload, instance);
        let outside = self.outside();
        let inside = self.inside.clone();
        let leads_here = Arc::new(move |name: &str| inside.leads_here(name));
        let names = dns::serve(sockets.dns_udp, sockets.dns_tcp, leads_here, outside.clone());
        let outward = self.lead_out(workload, instance.take_outward(), outside);
        let outward = tokio::spawn(async move { tokio::join!(names, outward) }).abort_handle();
        let guard = self.inside.open(workload, sockets.for_inside);
        Attendants { output, network: Some(Network { outward, guard }), held }
    }
}

// For the handle, because instances outlive the call that starts them.
impl Runtime for Arc<LocalRuntime> {
    fn start(&self, plan: Plan) -> BoxFuture<'static, Result<Arc<dyn Running>, String>> {
        Box::pin(self.clone().run(plan))
    }
}

/// A port of this machine's own, for a program that runs as a plain process.
async fn free_port() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

/// A mount as the sandbox has it.
fn mount(Mount { target, what }: Mount) -> sandbox::spec::Mount {
    let what = match what {
        MountKind::Host(source) => sandbox::spec::MountKind::Bind { source, access: Access::ReadOnly },
        MountKind::Shared(source) => sandbox::spec::MountKind::Bind { source, access: Access::ReadWrite },
        MountKind::Memory { bytes } => sandbox::spec::MountKind::Tmpfs { bytes },
    };
    sandbox::spec::Mount { target, what }
}

/// Where an image says to run, as an absolute path.
fn absolute(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

fn unstartable(error: &sandbox::Error) -> String {
    match error.kind {
        sandbox::Kind::Host => format!("This machine could not start the container: {error}."),
        sandbox::Kind::WrongFormat => {
            format!(
                "Failed to load the container: {error}. Is the image built for this machine's architecture?"
            )
        }
        _ => format!("The container could not be started: {error}."),
    }
}

fn nothing_mounted(mounts: &[Mount]) -> String {
    let targets: Vec<&str> = mounts.iter().map(|mount| &*mount.target).collect();
    format!(
        "Instances are plain processes on this machine, which cannot mount anything: there is nothing of this instance's \
         own at {}.",
        targets.join(", ")
    )
}

fn port_taken(port: u16) -> String {
    let lost = if port == 80 { "the metadata server and Google's APIs without TLS" } else { "Google's APIs" };
    format!(
        "The container listens on port {port}, which is also where {lost} would be inside an instance; they cannot be \
         reached from this one. Another port, such as 8080, avoids this."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_absolute() {
        assert_eq!(["", "app", "/app"].map(|path| absolute(path.into())), ["/", "/app", "/app"]);
    }
}
