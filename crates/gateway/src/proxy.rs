//! The forward proxy: how programs that know nothing of haar come to it.
//!
//! A program with `HTTPS_PROXY` set asks for a tunnel to a host. If the host is one of ours, there is no tunnel: the
//! connection goes on as if it had come to the port, TLS and all. Any other host gets its bytes unread, directly
//! or through the proxy that the machine used before. Only programs on this machine are served, and nothing is ever
//! cached, filtered or decrypted that is not ours.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional_with_sizes, net::TcpStream};

use crate::{
    detect::Rewound,
    hosts,
    listen::{AnyIo, Conn, Phase, enter_again},
    patience::Patient,
    site::{Body, full, text},
    upstream::{self, Failure, split},
};

/// The buffer of each direction of a tunnel, in bytes.
const TUNNEL_BUFFER: usize = 32 << 10;

/// Headers that concern one connection only (RFC 9110, 7.6.1), and those meant for this proxy.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Answers CONNECT.
pub(crate) async fn connect(conn: Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    let Some((host, port)) = request.uri().authority().and_then(|place| split(place.as_str())) else {
        return text(StatusCode::BAD_REQUEST, "CONNECT needs a host and a port.\n");
    };
    let (host, port) = (host.to_owned(), port.unwrap_or(443));
    if let Some(refusal) = refusal(&conn) {
        return refusal;
    }
    if conn.shared.is_ours(&host, port) {
        tokio::spawn(take_in(conn, request));
        return Response::new(full(Bytes::new()));
    }
    let proxy = conn.shared.other(conn.shared.upstream.for_tunnel(&host, port));
    match upstream::tunnel(proxy, &host, port, conn.shared.limits.connect).await {
        Ok(stream) => {
            tokio::spawn(carry(conn, request, stream));
            Response::new(full(Bytes::new()))
        }
        Err(failure) => refuse(failure),
    }
}

/// Answers a request for `http://` of another host.
pub(crate) async fn forward(conn: Arc<Conn>, request: Request<Incoming>) -> Response<Body> {
    if let Some(refusal) = refusal(&conn) {
        return refusal;
    }
    if request.uri().scheme_str() != Some("http") {
        return text(
            StatusCode::BAD_REQUEST,
            "Only http:// is forwarded like this; use CONNECT for anything else.\n",
        );
    }
    let Some((host, port)) = request.uri().authority().and_then(|place| split(place.as_str())) else {
        return text(StatusCode::BAD_REQUEST, "The address has no host.\n");
    };
    let (host, port) = (host.to_owned(), port.unwrap_or(80));
    let proxy = conn.shared.other(conn.shared.upstream.for_plain(&host, port));
    let stream = match upstream::plain(proxy, &host, port, conn.shared.limits.connect).await {
        Ok(stream) => stream,
        Err(failure) => return refuse(failure),
    };
    let request = readdress(request, proxy.map(upstream::Proxy::authorization));
    match exchange(stream, request).await {
        Ok(response) => response,
        Err(error) => refuse(Failure::Unreachable(format!("{host}:{port} did not answer: {error}"))),
    }
}

/// Why a connection may not use the proxy.
fn refusal(conn: &Conn) -> Option<Response<Body>> {
    let refused = !conn.is_local() || conn.proxied;
    refused.then(|| text(StatusCode::FORBIDDEN, "haar forwards only for programs on its own machine.\n"))
}

fn refuse(failure: Failure) -> Response<Body> {
    match failure {
        Failure::Forbidden(why) => text(StatusCode::FORBIDDEN, format!("{why}\n")),
        Failure::Unreachable(why) => text(StatusCode::BAD_GATEWAY, format!("{why}\n")),
    }
}

/// Goes on with a connection as if it had come to the port.
async fn take_in(conn: Arc<Conn>, request: Request<Incoming>) {
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let inside = conn.changed(false, true);
    match reclaim(upgraded) {
        Ok(io) => enter_again(inside, io).await,
        Err(io) => enter_again(inside, Rewound::new(Bytes::new(), io)).await,
    }
}

/// The socket itself, where the connection ran on one directly: later reads then go straight to it.
fn reclaim(upgraded: Upgraded) -> Result<Rewound<TcpStream>, AnyIo> {
    let parts = upgraded
        .downcast::<TokioIo<Patient<Rewound<TcpStream>>>>()
        .map_err(|upgraded| Box::new(TokioIo::new(upgraded)) as AnyIo)?;
    let (unread, stream) = parts.io.into_inner().into_inner().into_parts();
    let first = match (parts.read_buf, unread) {
        (read, unread) if unread.is_empty() => read,
        (read, unread) => BytesMut::from_iter(read.into_iter().chain(unread)).freeze(),
    };
    Ok(Rewound::new(first, stream))
}

/// Carries bytes both ways until both sides have ended.
async fn carry(conn: Arc<Conn>, request: Request<Incoming>, mut there: Rewound<TcpStream>) {
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let mut ending = conn.ending.clone();
    let copying = async {
        let ended = match reclaim(upgraded) {
            Ok(mut here) => {
                copy_bidirectional_with_sizes(&mut here, &mut there, TUNNEL_BUFFER, TUNNEL_BUFFER).await
            }
            Err(mut here) => {
                copy_bidirectional_with_sizes(&mut here, &mut there, TUNNEL_BUFFER, TUNNEL_BUFFER).await
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "a tunnel ended early");
        }
    };
    tokio::select! {
        () = copying => {}
        () = ending.reached(Phase::Stopped) => {}
    }
}

/// The request as the next server gets it: the host's own gets a path, another proxy the whole address.
fn readdress(mut request: Request<Incoming>, proxy: Option<Option<&http::HeaderValue>>) -> Request<Incoming> {
    let host = request.uri().authority().map(|place| place.as_str().to_owned()).unwrap_or_default();
    let headers = request.headers_mut();
    strip(headers);
    if let Ok(value) = http::HeaderValue::from_str(host.rsplit('@').next().unwrap_or_default()) {
        headers.insert(header::HOST, value);
    }
    match proxy {
        Some(authorization) => {
            if let Some(value) = authorization {
                headers.insert(header::PROXY_AUTHORIZATION, value.clone());
            }
        }
        None => {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        }
    }
    request
}

/// Takes out what concerns one connection only, and what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

async fn exchange(stream: TcpStream, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a forwarded connection ended early");
        }
    });
    let mut response = sender.send_request(request).await?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// Whether a request is addressed to a proxy: it names the whole address of a host that is not ours.
pub(crate) fn is_for_others(conn: &Conn, request: &Request<Incoming>) -> bool {
    if request.version() >= http::Version::HTTP_2 {
        return false;
    }
    let Some(place) = request.uri().authority() else { return false };
    let port = place.port_u16().unwrap_or(if request.uri().scheme_str() == Some("https") { 443 } else { 80 });
    !conn.shared.is_ours(hosts::bare(place.as_str()), port)
}
