//! Clients, as plain as they come.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use gateway::Ca;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::soon;

/// Sends bytes, reads until the other side ends, and gives what it said.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may have ended already.
    let _ = stream.write_all(request).await;
    read_all(stream).await
}

pub(crate) async fn read_all(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    // A reset after an answer is an end too.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// One HTTP/1.1 request without a body, with these header lines.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    raw(address, format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n").as_bytes()).await
}

/// Asks the forward proxy for a tunnel; the stream behind the answer, or the refusal.
pub(crate) async fn tunnel(address: SocketAddr, place: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match soon(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("HTTP/1.1 200") {
        return Ok(stream);
    }
    stream.shutdown().await.unwrap();
    Err(head + &read_all(stream).await)
}

/// A TLS client that trusts our authority and nothing else.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    ca: &Ca,
    host: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<S>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// A gRPC channel.
pub(crate) struct Channel {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

/// How a gRPC call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) message: String,
    pub(crate) details: Option<apis::google::rpc::Status>,
    pub(crate) answer: Bytes,
}

impl Channel {
    pub(crate) async fn plain(address: SocketAddr) -> Channel {
        Channel::over(TcpStream::connect(address).await.unwrap(), &address.to_string()).await
    }

    pub(crate) async fn over<S>(stream: S, authority: &str) -> Channel
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = soon(handshake).await.unwrap();
        tokio::spawn(connection);
        Channel { sender, authority: authority.to_owned() }
    }

    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        message: &impl Message,
    ) -> Ended {
        self.send(path, headers, frame(0, &message.encode_to_vec())).await
    }

    /// Calls with bytes that are taken as they are.
    pub(crate) async fn send(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Ended {
        let mut request = Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        ended(soon(self.sender.send_request(request)).await.unwrap()).await
    }
}

/// A message as gRPC frames it.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(flag);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

async fn ended(response: Response<Incoming>) -> Ended {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (parts, body) = response.into_parts();
    let collected = soon(body.collect()).await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or(parts.headers);
    let framed = collected.to_bytes();
    Ended {
        code: text(&trailers, "grpc-status").unwrap().parse().unwrap(),
        message: percent_decoded(&text(&trailers, "grpc-message").unwrap_or_default()),
        details: text(&trailers, "grpc-status-details-bin").map(|encoded| {
            apis::google::rpc::Status::decode(
                &*STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).unwrap(),
            )
            .unwrap()
        }),
        answer: if framed.is_empty() { framed } else { framed.slice(5..) },
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
