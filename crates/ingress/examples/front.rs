//! Serves the ingress on one port in front of one fixed instance: what is measured against nginx.
//!
//! `front LISTEN UPSTREAM LOGFILE [THREADS]`; every request is logged in nginx's combined format.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::UNIX_EPOCH,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ingress::{
    Access, Batch, Config, Cpu, Ingress, Instance, Instances, Invoker, Invokers, RequestLog, RevisionId,
    RevisionSpec, ServiceRoute, StartError, Stream, Verdict,
};
use kernel::{BoxFuture, clock::Clock};
use tokio::net::{TcpListener, TcpStream};

type Error = Box<dyn std::error::Error + Send + Sync>;

struct Fixed(SocketAddr);

impl Instances for Fixed {
    fn start(&self, _: &RevisionId) -> BoxFuture<'static, Result<Arc<dyn Instance>, StartError>> {
        let address = self.0;
        Box::pin(async move { Ok(Arc::new(Fixed(address)) as Arc<dyn Instance>) })
    }

    fn stop(&self, _: Arc<dyn Instance>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Instance for Fixed {
    fn id(&self) -> &str {
        "fixed"
    }

    fn connect(&self) -> BoxFuture<'_, std::io::Result<Stream>> {
        Box::pin(async { TcpStream::connect(self.0).await.map(Stream::from) })
    }
}

struct Nobody;

impl Invokers for Nobody {
    fn check(&self, _: &ServiceRoute, _: &str, _: &[&str]) -> Verdict {
        Verdict::Forbidden
    }
}

struct File(Mutex<std::fs::File>);

impl RequestLog for File {
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, ()> {
        let mut text = String::with_capacity(batch.len() * 160);
        for record in batch.iter() {
            let time = record.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let _ = writeln!(
                text,
                "{} - - [{time}] \"{} {} {}\" {} {} \"{}\" \"{}\" {}",
                record.remote_ip,
                record.method,
                record.url,
                record.protocol,
                record.status,
                record.response_size,
                record.referer,
                record.user_agent,
                record.latency.as_micros(),
            );
        }
        if let Ok(mut file) = self.0.lock() {
            let _ = file.write_all(text.as_bytes());
        }
        Box::pin(async {})
    }
}

fn service() -> ServiceRoute {
    ServiceRoute {
        name: "front".into(),
        project: "p".into(),
        region: "r".into(),
        hosts: vec!["127.0.0.1".into(), "localhost".into()],
        tags: Vec::new(),
        traffic: vec![(RevisionId::new("front-1"), 100)],
        access: Access::All,
        invoker: Invoker::Public,
        audiences: Vec::new(),
    }
}

async fn run(listen: SocketAddr, upstream: SocketAddr, log: String) -> Result<(), Error> {
    let file = std::fs::File::create(log)?;
    let ingress = Ingress::new(
        Config::default(),
        Arc::new(Fixed(upstream)),
        Arc::new(File(Mutex::new(file))),
        Arc::new(Nobody),
        Clock::system(),
    );
    let mut spec = RevisionSpec::new(RevisionId::new("front-1"));
    spec.concurrency = 1000;
    spec.cpu = Cpu::Always;
    ingress.set_revision(spec);
    ingress.set_service(service());
    let listener = TcpListener::bind(listen).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(ingress.clone(), stream, peer));
    }
}

async fn connection(ingress: Arc<Ingress>, stream: TcpStream, peer: SocketAddr) {
    let mut first = [0; 3];
    let h2 = matches!(stream.peek(&mut first).await, Ok(3)) && &first == b"PRI";
    let service = service_fn(move |request| {
        let ingress = ingress.clone();
        async move { Ok::<_, std::convert::Infallible>(ingress.serve(request, peer, false).await) }
    });
    // A broken connection is the client's business.
    let _ = if h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await
    };
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let [_, listen, upstream, log, rest @ ..] = args.as_slice() else {
        return Err("front LISTEN UPSTREAM LOGFILE [THREADS]".into());
    };
    let threads = rest.first().map_or(Ok(2), |threads| threads.parse())?;
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(listen.parse()?, upstream.parse()?, log.clone()))
}
