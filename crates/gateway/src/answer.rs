//! Every HTTP request, whatever brought it: to whom it goes.
//!
//! In this order: the forward proxy, for what is addressed to one; a site, by host and path; gRPC, by content type;
//! the JSON form of the method table, for the rest.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tonic::body::Body as GrpcBody;

use crate::{
    grpc, guard,
    listen::{Conn, Door},
    proxy,
    site::{Body, BoxError, Site, text},
};

/// The body of an answer on its way out.
pub(crate) enum Outgoing {
    Grpc(GrpcBody),
    Plain(Body),
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Outgoing::Grpc(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Outgoing::Plain(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Grpc(body) => body.is_end_stream(),
            Outgoing::Plain(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Grpc(body) => body.size_hint(),
            Outgoing::Plain(body) => body.size_hint(),
        }
    }
}

/// Answers a request.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    mut request: Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    if let Some(refusal) = misaddressed(&request) {
        return Ok(plain(refusal));
    }
    if let Door::Published(site) = &conn.door {
        return Ok(plain(visit(site, &conn, request).await));
    }
    if is_for_proxy(&conn, &request) {
        return Ok(plain(Box::pin(pass_on(conn, request)).await));
    }
    if let Door::Workload(instance) = &conn.door {
        request.extensions_mut().insert(instance.clone());
    }
    if let Some(site) = conn.shared.sites.find(host(&request), request.uri().path()) {
        return Ok(plain(visit(site, &conn, request).await));
    }
    // Boxed, so that this future is small: it is moved several times for each request, for a site's too.
    Ok(Box::pin(call(conn, request)).await)
}

fn is_for_proxy(conn: &Conn, request: &Request<Incoming>) -> bool {
    request.method() == Method::CONNECT || proxy::is_for_others(conn, request)
}

async fn pass_on(conn: Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    conn.patience.release();
    if request.method() != Method::CONNECT {
        return proxy::forward(conn, request).await;
    }
    if request.version() >= Version::HTTP_2 {
        return text(StatusCode::NOT_IMPLEMENTED, "CONNECT is served over HTTP/1.1 only.\n");
    }
    proxy::connect(conn, request).await
}

async fn call(conn: Arc<Conn>, request: Request<Incoming>) -> Response<Outgoing> {
    if grpc::is_grpc(request.headers()) {
        return call_grpc(&conn, request).await.map(Outgoing::Grpc);
    }
    plain(crate::transcode::answer(&conn, request).await)
}

fn plain(response: Response<Body>) -> Response<Outgoing> {
    response.map(Outgoing::Plain)
}

/// The host that a request is for, as it names it.
pub(crate) fn host<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default(),
    }
}

/// Refuses a request that names two hosts (RFC 9112, 3.2): which one is meant must not be a matter of opinion.
fn misaddressed(request: &Request<Incoming>) -> Option<Response<Body>> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let twice = named.next().is_some() && named.next().is_some();
    twice.then(|| text(StatusCode::BAD_REQUEST, "A request has one Host header.\n"))
}

async fn visit(site: &Arc<dyn Site>, conn: &Conn, request: Request<Incoming>) -> Response<Body> {
    conn.patience.release();
    match guard::caught(async { site.serve(request, conn.peer, conn.tls).await }).await {
        Ok(response) => response,
        Err(panic) => {
            tracing::error!(panic, "a site panicked");
            text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error encountered.\n")
        }
    }
}

async fn call_grpc(conn: &Conn, request: Request<Incoming>) -> Response<GrpcBody> {
    let dispatch = &conn.shared.dispatch;
    let Some(served) = dispatch.by_path(request.uri().path()).filter(|_| request.method() == Method::POST)
    else {
        return grpc::unknown(request.uri().path());
    };
    match conn.shared.callers.identify(conn, host(&request), request.uri(), request.headers()).await {
        Ok(caller) => grpc::unary(dispatch, served, caller, conn.shared.limits.body, request).await,
        Err(error) => grpc::refuse(&error),
    }
}
