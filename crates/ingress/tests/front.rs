//! What stands between a client and the ingress: hyper, with the limits that the gateway sets in its `listen` and `h2`.
//!
//! Also used by the fuzz target in `fuzz/`, so it stands on nothing but the crate itself.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ingress::Ingress;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// How much a client may take, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head: Duration,
    pub(crate) head_bytes: usize,
    pub(crate) streams: u32,
    pub(crate) end: End,
}

/// What it means that a client says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has gone: what the gateway takes it for at a service.
    Gone,
    /// It has said all, and waits.
    Waits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head: Duration::from_secs(60), head_bytes: 64 << 10, streams: 1000, end: End::Gone }
    }
}

/// Serves one connection to its end, and counts the requests on it.
pub(crate) async fn serve<I>(
    ingress: Arc<Ingress>,
    io: I,
    peer: SocketAddr,
    speaks: Speaks,
    limits: Limits,
) -> usize
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let count = Arc::<AtomicUsize>::default();
    let counter = count.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        counter.fetch_add(1, Relaxed);
        let ingress = ingress.clone();
        // Stands for a door of the gateway's that is one service's alone.
        let door = request.headers().get("test-door").and_then(|host| host.to_str().ok()).map(Into::into);
        if let Some(host) = door {
            request.extensions_mut().insert(ingress::RoutedTo(host));
        }
        async move { Ok::<_, Infallible>(ingress.serve(request, peer, false).await) }
    });
    let io = TokioIo::new(io);
    // A connection that ends early is the client's business.
    let _ = match speaks {
        Speaks::Http1 => http1(limits).serve_connection(io, service).with_upgrades().await,
        Speaks::Http2 => http2(limits).serve_connection(io, service).await,
    };
    count.load(Relaxed)
}

fn http1(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(limits.head_bytes)
        .half_close(limits.end == End::Waits);
    builder
}

fn http2(limits: Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes as u32)
        .max_pending_accept_reset_streams(100)
        .max_local_error_reset_streams(100);
    builder
}
