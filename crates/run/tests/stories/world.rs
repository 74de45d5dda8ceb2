//! An engine with everything around it, and how to call it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use apis::Rpc;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingress::{Config, Ingress, scale::Tuning};
use kernel::{
    Caller, Error, Principal, Result,
    call::RequestInfo,
    clock::Clock,
    operations::Operations,
    store::{Embedded, Store},
};
use prost::Message;
use run::{
    Fleet, Ports, Run,
    local::{LocalConfig, LocalRuntime, way::Outbound},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    outside::Pilot,
    ports::{self, Desk, Notebook, Shelf},
};

pub(crate) const BUNDLE: &str = "-- certificates --\n";
const REGIONAL: &str = "us-central1-run.googleapis.com";

pub(crate) struct World {
    pub(crate) others: Arc<ports::World>,
    pub(crate) log: Arc<Notebook>,
    pub(crate) databases: Arc<ports::Databases>,
    store: Arc<dyn Store>,
    runtime: Arc<LocalRuntime>,
    data_id: String,
    now: Mutex<Option<Engine>>,
    home: tempfile::TempDir,
}

/// What is new after a restart.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) run: Arc<Run>,
    pub(crate) operations: Operations,
    fleet: Arc<Fleet>,
    address: SocketAddr,
}

impl World {
    /// A world, or why there cannot be one on this host.
    pub(crate) async fn open_with(isolation: sandbox::Isolation) -> Result<World, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let home = tempfile::tempdir().unwrap();
        let data_id = format!("run-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let log = Arc::new(Notebook::default());
        let config = LocalConfig {
            directory: home.path().join("instances"),
            data_id: data_id.clone(),
            bundle: BUNDLE.into(),
            files: vec![("/etc/java/store".into(), b"java".to_vec())],
            env: vec![("FROM_HAAR".into(), "yes".into())],
            plain_env: vec![("JAVA_TOOL_OPTIONS".into(), "-Dstore=/etc/java/store".into())],
            isolation,
            public_port: 4560,
            warm: 1,
            outbound: Outbound::By(Arc::new(Pilot)),
        };
        let runtime = LocalRuntime::open(config, Arc::new(Desk), log.clone()).unwrap();
        match runtime.host().level {
            sandbox::Level::Process if isolation == sandbox::Isolation::None => {}
            sandbox::Level::Process | sandbox::Level::UserNamespaces { limits: false } => {
                return Err(runtime.host().sentence.clone());
            }
            _ => {}
        }
        make_layer(&home.path().join("layer"));
        let databases = Arc::new(ports::Databases { run: home.path().join("sql") });
        let store = Arc::new(Embedded::open(&home.path().join("store")).unwrap());
        let world = World {
            others: Arc::default(),
            log,
            databases,
            store,
            runtime,
            data_id,
            now: Mutex::default(),
            home,
        };
        world.begin().await;
        Ok(world)
    }

    /// Starts an engine over what is stored.
    async fn begin(&self) {
        let operations = Operations::open(self.store.clone(), Clock::system()).await.unwrap();
        let ports = Ports {
            store: self.store.clone(),
            clock: Clock::system(),
            projects: self.others.clone(),
            authority: self.others.clone(),
            policies: self.others.clone(),
            identity: self.others.clone(),
            secrets: self.others.clone(),
            images: Arc::new(Shelf { layer: self.home.path().join("layer") }),
            logs: self.log.clone(),
            databases: self.databases.clone(),
            run_directory: self.home.path().join("run"),
            public_port: 4560,
        };
        let fleet = Fleet::new(Arc::new(self.runtime.clone()));
        let run = Run::open(ports, fleet.clone(), operations.clone()).await.unwrap();
        run.keep_idle(Duration::from_millis(300));
        let tuning = Tuning { tick: Duration::from_millis(50), ..Tuning::default() };
        let ingress = Ingress::new(
            Config { tuning, ..Config::default() },
            fleet.clone(),
            self.others.clone(),
            self.others.clone(),
            Clock::system(),
        );
        run.begin(ingress.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen(listener, ingress));
        *self.now.lock().unwrap() = Some(Engine { run, operations, fleet, address });
    }

    /// Whether instances have a way out.
    pub(crate) fn is_wired(&self) -> bool {
        self.runtime.host().redirection == sandbox::Redirection::Works
    }

    pub(crate) fn engine(&self) -> Engine {
        self.now.lock().unwrap().clone().unwrap()
    }

    /// Ends the engine with all its instances, and starts another.
    pub(crate) async fn restart(&self) {
        self.engine().fleet.shut_down().await;
        self.begin().await;
    }

    /// Calls a method as its clients do: bytes in, bytes out.
    pub(crate) async fn call<Q: Message, S: Message + Default>(
        &self,
        rpc: Rpc<Q, S>,
        request: Q,
    ) -> Result<S> {
        let methods = run::methods(self.engine().run);
        let method = methods.iter().find(|method| method.id == rpc.id()).expect("a method that is served");
        let info = RequestInfo {
            time: std::time::SystemTime::now(),
            peer: None,
            host: REGIONAL.into(),
            user_agent: "".into(),
        };
        let caller = Caller::new(Principal::User("ada@example.com".into()), info, self.others.clone());
        let answer = (method.handler)(caller, request.encode_to_vec().into()).await?;
        S::decode(answer.as_slice()).map_err(Error::internal)
    }

    /// The status and the body that a service answers with.
    pub(crate) async fn get(&self, service: &str, path: &str) -> (u16, String) {
        self.get_host(&format!("{service}-7.us-central1.run.localhost:4560"), path).await
    }

    /// The same of whoever has a host.
    pub(crate) async fn get_host(&self, host: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.engine().address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
    }

    /// How many instances all services have.
    pub(crate) fn instances(&self) -> usize {
        self.engine().run.status().iter().map(|service| service.instances).sum()
    }

    /// How many directories the volumes of instances have.
    pub(crate) fn volumes(&self) -> usize {
        fs::read_dir(self.home.path().join("run")).into_iter().flatten().count()
    }

    pub(crate) async fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops everything, and says what is left of it.
    pub(crate) async fn end(&self) -> Result<(), String> {
        let engine = self.engine();
        engine.fleet.shut_down().await;
        // What is being prepared for the next start is no leak.
        let begin = Instant::now();
        loop {
            let left = groups(&self.data_id);
            if left.len() <= 2 {
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(5) {
                return Err(format!("control groups are left: {left:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn listen(listener: TcpListener, ingress: Arc<Ingress>) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let ingress = ingress.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let ingress = ingress.clone();
                async move { Ok::<_, std::convert::Infallible>(ingress.serve(request, peer, false).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A layer with this very program and the libraries it is running with.
fn make_layer(layer: &Path) {
    let copy = |from: &Path, to: &str| {
        let to = layer.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(&std::env::current_exe().unwrap(), "/app");
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libraries: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .collect();
    for library in libraries {
        copy(Path::new(library), library);
        // The loader is looked for by the name in the program, which may be a link.
        let name = Path::new(library).file_name().unwrap().to_str().unwrap();
        if name.starts_with("ld-") {
            copy(Path::new(library), &format!("/lib64/{name}"));
            copy(Path::new(library), &format!("/lib/{name}"));
        }
    }
    open_to_all(layer);
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_to_all(&entry.path());
    }
}

/// The control groups of instances that a data directory's id has.
fn groups(data_id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut hierarchies = BTreeSet::new();
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy() == format!("haar-{data_id}") {
                hierarchies.insert(entry.path());
            } else {
                left.push(entry.path());
            }
        }
    }
    // An instance has a group in each hierarchy: one is enough to count them.
    if let Some(one) = hierarchies.first() {
        let its = fs::read_dir(one).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(its.filter(|path| path.is_dir()));
    }
    found
}

pub(crate) fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}
