use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use ingress::Stream;
use kernel::BoxFuture;
use tokio::net::{TcpListener, TcpStream};

use super::{health::HealthCheckResponse, *};
use crate::{record::GrpcProbe, runtime::Exit};

/// An instance of which there is only a server in this process.
struct Server(std::net::SocketAddr);

impl Running for Server {
    fn connect(&self, _: u16) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { Ok(TcpStream::connect(self.0).await?.into()) })
    }

    fn ended(&self) -> BoxFuture<'static, Exit> {
        Box::pin(std::future::pending())
    }

    fn freeze(&self) {}

    fn thaw(&self) {}

    fn stop(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn cpu_time(&self) -> Option<Duration> {
        None
    }
}

/// `/well` is well; the health service knows `tide`.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == "/grpc.health.v1.Health/Check" {
        let status = if body.ends_with(b"tide") { 1 } else { 3 };
        return Ok(Response::new(Full::new(health::framed(&HealthCheckResponse { status }))));
    }
    let status = if path == "/well" { 204 } else { 500 };
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}

async fn server() -> Arc<dyn Running> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                server.serve_connection(TokioIo::new(stream), service_fn(answer)).await.map_err(drop)
            });
        }
    });
    Arc::new(Server(address))
}

fn probe(kind: ProbeKind) -> Probe {
    Probe { timeout: 5, period: 1, failure_threshold: 1, kind: Some(kind), ..Probe::default() }
}

#[tokio::test]
async fn probes_ask_what_they_are_told_to() {
    let server = server().await;
    let http = |path: &str| probe(ProbeKind::Http(HttpProbe { path: path.into(), ..HttpProbe::default() }));
    let grpc = |service: &str| probe(ProbeKind::Grpc(GrpcProbe { service: service.into(), port: 0 }));
    for well in [http("/well"), grpc("tide"), probe(ProbeKind::Tcp(Default::default()))] {
        assert_eq!(check(&server, 80, &well).await, Ok(()));
        assert!(started(&server, 80, Some(&well)).await.is_ok());
    }
    let sick = check(&server, 80, &http("/sick")).await.unwrap_err();
    assert_eq!(sick, "GET /sick was answered with status 500");
    let unknown = check(&server, 80, &grpc("wave")).await.unwrap_err();
    assert_eq!(unknown, "the health service says 3, not SERVING");
    let GaveUp(why) = started(&server, 80, Some(&http("/sick"))).await.unwrap_err();
    assert!(why.starts_with("GET /sick was answered with status 500, last on port 80 after "), "{why}");
    assert_eq!(asked(&http("/sick"), 80), "port 80 path \"/sick\"");
    assert_eq!(asked(&grpc("tide"), 80), "port 80");
    let tcp = |port| probe(ProbeKind::Tcp(crate::record::TcpProbe { port }));
    assert!(asks_to_listen(&tcp(0), 80) && asks_to_listen(&tcp(80), 80));
    assert!(!asks_to_listen(&tcp(81), 80) && !asks_to_listen(&http("/well"), 80));
}
