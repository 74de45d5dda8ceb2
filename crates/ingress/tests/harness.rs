//! A world for a test: an ingress that listens, instances that are started in this process, and a log.

use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use ingress::{
    Access, Batch, Config, Ingress, Instance, Instances, Invoker, Invokers, Protocol, RequestLog, RevisionId,
    RevisionSpec, ServiceRoute, StartError, Stream, Verdict,
};
use kernel::{BoxFuture, clock::Clock};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinHandle},
};

use crate::front::{self, Limits, Speaks};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HOST: &str = "app-1.r.run.localhost";

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, ingress::BoxError>;
/// What an instance does with a connection.
pub(crate) type Program = Arc<dyn Fn(TcpStream, String) -> BoxFuture<'static, ()> + Send + Sync>;

/// Runs a test with a limit, on several threads.
pub(crate) fn test<F: Future<Output = ()> + Send + 'static>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut task = tokio::spawn(test);
        match tokio::time::timeout(PATIENCE * 2, &mut task).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => panic!("the test hangs"),
        }
    });
}

pub(crate) struct World {
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) log: Arc<Log>,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Fleet {
    program: Program,
    /// Each start takes a permit.
    pub(crate) starts: Semaphore,
    /// How many starts fail before one succeeds.
    pub(crate) failures: AtomicUsize,
    pub(crate) attempts: AtomicUsize,
    pub(crate) started: AtomicUsize,
    pub(crate) stopped: AtomicUsize,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    /// How many CPUs each instance says it uses, in thousandths; 0 when it does not say.
    pub(crate) cpu: Arc<AtomicUsize>,
    /// For how long instances were told that they had requests, and how many.
    pub(crate) worked: Arc<Mutex<(Duration, u32)>>,
    /// The ids of those that are not to get new requests.
    pub(crate) away: Arc<Mutex<HashSet<String>>>,
    /// The listeners of all instances, to be killed.
    pub(crate) listeners: Mutex<Vec<AbortHandle>>,
}

struct Member {
    id: String,
    address: SocketAddr,
    task: JoinHandle<()>,
    events: Arc<Mutex<Vec<String>>>,
    cpu: Arc<AtomicUsize>,
    worked: Arc<Mutex<(Duration, u32)>>,
    away: Arc<Mutex<HashSet<String>>>,
    begun: Instant,
}

/// Lets `Instances` be implemented for what a test shares.
struct Starter(Arc<Fleet>);

impl Instances for Starter {
    fn start(&self, revision: &RevisionId) -> BoxFuture<'static, Result<Arc<dyn Instance>, StartError>> {
        let (fleet, revision) = (self.0.clone(), revision.short().to_owned());
        Box::pin(async move {
            fleet.attempts.fetch_add(1, SeqCst);
            fleet.starts.acquire().await.unwrap().forget();
            let failing = fleet.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
            if failing {
                return Err(StartError("as the test wishes".into()));
            }
            let number = fleet.started.fetch_add(1, SeqCst);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (id, address) = (format!("{revision}/{number}"), listener.local_addr().unwrap());
            let task =
                tokio::spawn(accept(listener, fleet.program.clone(), id.clone(), fleet.connections.clone()));
            fleet.listeners.lock().unwrap().push(task.abort_handle());
            let (events, cpu, worked) = (fleet.events.clone(), fleet.cpu.clone(), fleet.worked.clone());
            let (away, begun) = (fleet.away.clone(), Instant::now());
            Ok(Arc::new(Member { id, address, task, events, cpu, worked, away, begun }) as Arc<dyn Instance>)
        })
    }

    fn stop(&self, instance: Arc<dyn Instance>) -> BoxFuture<'static, ()> {
        let fleet = self.0.clone();
        Box::pin(async move {
            drop(instance);
            fleet.stopped.fetch_add(1, SeqCst);
        })
    }
}

async fn accept(listener: TcpListener, program: Program, id: String, connections: Arc<AtomicUsize>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, SeqCst);
        tokio::spawn(program(stream, id.clone()));
    }
}

impl Instance for Member {
    fn id(&self) -> &str {
        &self.id
    }

    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { TcpStream::connect(self.address).await.map(Stream::from) })
    }

    fn thaw(&self) {
        self.events.lock().unwrap().push("thaw".into());
    }

    fn cpu_time(&self) -> Option<Duration> {
        let thousandths = self.cpu.load(SeqCst);
        (thousandths > 0).then(|| self.begun.elapsed().mul_f64(thousandths as f64 / 1000.0))
    }

    fn freeze(&self) {
        self.events.lock().unwrap().push("freeze".into());
    }

    fn takes_requests(&self) -> bool {
        !self.away.lock().unwrap().contains(&self.id)
    }

    fn worked(&self, span: Duration, requests: u32) {
        let mut worked = self.worked.lock().unwrap();
        worked.0 += span;
        worked.1 += requests;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tokens: `good` may, `other` is known and may not, the rest is not known. Audiences are noted.
pub(crate) struct Gate;

impl Invokers for Gate {
    fn check(&self, _: &ServiceRoute, token: &str, audiences: &[&str]) -> Verdict {
        assert!(audiences.contains(&format!("https://{HOST}").as_str()), "{audiences:?}");
        assert!(audiences.contains(&"custom"), "{audiences:?}");
        match token.split('.').next_back() {
            Some("good") => Verdict::Allowed,
            Some("other") => Verdict::Forbidden,
            _ => Verdict::Unauthenticated,
        }
    }
}

/// What was logged, a line each.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Mutex<Vec<String>>);

struct Logger(Arc<Log>);

impl RequestLog for Logger {
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, ()> {
        let mut lines = self.0.0.lock().unwrap();
        lines.extend(batch.iter().map(|r| {
            let cold = if r.cold_start { "cold" } else { "warm" };
            format!(
                "{} {} {} {} {} {} {cold} {} {}",
                r.method,
                r.url,
                r.status,
                r.request_size,
                r.response_size,
                r.revision,
                r.user_agent,
                r.message
            )
        }));
        Box::pin(async {})
    }
}

impl Log {
    /// Waits for a line with this text.
    pub(crate) async fn line(&self, text: &str) -> String {
        until(|| self.0.lock().unwrap().iter().find(|line| line.contains(text)).cloned()).await
    }
}

/// Waits until there is something.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn revision() -> RevisionSpec {
    RevisionSpec::new(RevisionId::new("app-1"))
}

pub(crate) fn service() -> ServiceRoute {
    ServiceRoute {
        name: "app".into(),
        project: "p".into(),
        region: "r".into(),
        hosts: vec![HOST.into()],
        tags: Vec::new(),
        traffic: vec![(RevisionId::new("app-1"), 100)],
        access: Access::All,
        invoker: Invoker::Public,
        audiences: vec!["custom".into()],
    }
}

pub(crate) fn quick() -> Config {
    let mut config = Config { log_delay: Duration::from_millis(1), ..Config::default() };
    config.tuning.tick = Duration::from_millis(20);
    config.tuning.freeze_after = Duration::from_millis(20);
    config
}

impl World {
    /// A service of one revision whose instances run this program.
    pub(crate) async fn new(program: Program) -> World {
        Self::with(program, quick(), revision(), service()).await
    }

    pub(crate) async fn with(
        program: Program,
        config: Config,
        revision: RevisionSpec,
        service: ServiceRoute,
    ) -> World {
        Self::behind(Limits::default(), program, config, revision, service).await
    }

    /// As `with`, where clients have these limits.
    pub(crate) async fn behind(
        limits: Limits,
        program: Program,
        config: Config,
        revision: RevisionSpec,
        service: ServiceRoute,
    ) -> World {
        let fleet = Arc::new(Fleet {
            program,
            starts: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
            failures: AtomicUsize::new(0),
            attempts: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            connections: Arc::default(),
            events: Arc::default(),
            cpu: Arc::default(),
            worked: Arc::default(),
            away: Arc::default(),
            listeners: Mutex::default(),
        });
        let log = Arc::<Log>::default();
        let starter = Arc::new(Starter(fleet.clone()));
        let ingress =
            Ingress::new(config, starter, Arc::new(Logger(log.clone())), Arc::new(Gate), Clock::system());
        ingress.set_revision(revision);
        ingress.set_service(service);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listen(listener, ingress.clone(), limits));
        World { ingress, fleet, log, address }
    }

    pub(crate) async fn http1(&self) -> http1::SendRequest<AnyBody> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub(crate) async fn http2(&self) -> http2::SendRequest<AnyBody> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One GET on a connection of its own: status, headers and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, HeaderMap, String) {
        self.send(get(path).body(empty()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<AnyBody>) -> (u16, HeaderMap, String) {
        let response = self.http1().await.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.into()).unwrap())
    }

    pub(crate) fn counters(&self) -> ingress::Snapshot {
        self.ingress.counters(&RevisionId::new("app-1")).unwrap()
    }
}

async fn listen(listener: TcpListener, ingress: Arc<Ingress>, limits: Limits) {
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let ingress = ingress.clone();
        tokio::spawn(async move {
            let speaks = detect(&stream).await;
            front::serve(ingress, stream, peer, speaks, limits).await;
        });
    }
}

/// What a client speaks, told from its first bytes, which stay to be read.
async fn detect(stream: &TcpStream) -> Speaks {
    let mut first = [0; 4];
    loop {
        let length = stream.peek(&mut first).await.unwrap_or(0);
        if length == 4 || length == 0 || !b"PRI ".starts_with(&first[..length]) {
            return if &first == b"PRI " { Speaks::Http2 } else { Speaks::Http1 };
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", HOST)
}

pub(crate) fn empty() -> AnyBody {
    full("")
}

pub(crate) fn full(text: impl Into<Bytes>) -> AnyBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is sent as the test goes on.
pub(crate) fn feed() -> (mpsc::UnboundedSender<Frame<Bytes>>, AnyBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Feed(receiver).boxed_unsync())
}

struct Feed(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Feed {
    type Data = Bytes;
    type Error = ingress::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ingress::BoxError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// A program that answers requests.
pub(crate) fn server<F, R>(handler: F) -> Program
where
    F: Fn(Request<Incoming>, String) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<AnyBody>> + Send + 'static,
{
    Arc::new(move |stream, id| {
        let handler = handler.clone();
        let service = service_fn(move |request| {
            let answer = handler(request, id.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        Box::pin(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        })
    })
}

/// Answers with the instance's id.
pub(crate) fn who() -> Program {
    server(|_, id| async move { Response::new(full(id)) })
}

/// Echoes the request's body as it comes, trailers included.
pub(crate) fn echo() -> Program {
    server(|request, _| async move { Response::new(request.into_body().map_err(Into::into).boxed_unsync()) })
}

pub(crate) fn h2c(mut spec: RevisionSpec) -> RevisionSpec {
    spec.protocol = Protocol::H2c;
    spec
}
