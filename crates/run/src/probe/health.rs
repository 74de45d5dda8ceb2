//! gRPC's health service (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>), asked by hand: one call
//! over HTTP/2, and no client library.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress::Stream;
use prost::Message;

/// The most that is read of an answer.
const MAX_ANSWER: usize = 4096;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Whether the server says that it serves.
///
/// # Errors
/// What it says instead, or why it says nothing.
pub(super) async fn serving(stream: Stream, service: &str) -> io::Result<()> {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
    let request = Request::post("http://127.0.0.1/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(&HealthCheckRequest { service: service.to_owned() })))
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let read =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?;
        read_answer(&read.to_bytes())
    };
    tokio::select! {
        answer = answer => answer,
        _ = connection => Err(io::Error::other("the connection ended before the answer")),
    }
}

pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.encoded_len());
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

fn read_answer(bytes: &[u8]) -> io::Result<()> {
    // A call that failed has no message, only a status.
    let message = bytes.get(PREFIX..).ok_or_else(|| io::Error::other("the health service gave an error"))?;
    let HealthCheckResponse { status } = HealthCheckResponse::decode(message).map_err(io::Error::other)?;
    match status {
        SERVING => Ok(()),
        other => Err(io::Error::other(format!("the health service says {other}, not SERVING"))),
    }
}
