//! gRPC, by tonic's framing: messages stay bytes, for the method table knows handlers as bytes in, bytes out.
//!
//! Requests may be compressed with gzip; answers are not, since a loopback is faster than a compressor. Reflection,
//! health checks and grpc-web are left out: Google's endpoints do not offer them to clients either.

use std::{pin::Pin, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;
use kernel::{Caller, Error};
use prost::Message;
use tokio::time::Instant;
use tonic::{
    Code, Status,
    body::Body as GrpcBody,
    codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, UnaryService},
};

use crate::dispatch::{Dispatch, Served};

/// Whether a request is gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().strip_prefix(b"application/grpc").is_some_and(is_boundary))
}

/// `application/grpc`, `application/grpc+proto`, `application/grpc;…`, but not `application/grpc-web`.
fn is_boundary(rest: &[u8]) -> bool {
    matches!(rest, [] | [b'+' | b';' | b' ', ..])
}

/// Answers a call of a method that takes one request and gives one response.
pub(crate) async fn unary(
    dispatch: &Dispatch,
    served: &Served,
    caller: Caller,
    largest: usize,
    request: Request<Incoming>,
) -> Response<GrpcBody> {
    let deadline = time_out(request.headers()).and_then(|after| Instant::now().checked_add(after));
    Grpc::new(BytesCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(largest)
        .max_encoding_message_size(usize::MAX)
        .unary(Unary { dispatch, served, caller: Some(caller), deadline }, request)
        .await
}

/// The answer that is only an error.
pub(crate) fn refuse(error: &Error) -> Response<GrpcBody> {
    status(error).into_http()
}

/// The answer for a path that no method has.
pub(crate) fn unknown(path: &str) -> Response<GrpcBody> {
    refuse(&Error::unimplemented(format!("The method {path} is not served here.")))
}

fn status(error: &Error) -> Status {
    let code = Code::from_i32(error.code() as i32);
    if error.details().is_empty() {
        return Status::new(code, error.message());
    }
    Status::with_details(code, error.message(), error.to_status().encode_to_vec().into())
}

struct Unary<'d> {
    dispatch: &'d Dispatch,
    served: &'d Served,
    caller: Option<Caller>,
    deadline: Option<Instant>,
}

impl<'d> UnaryService<Bytes> for Unary<'d> {
    type Response = Vec<u8>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<u8>>, Status>> + Send + 'd>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (dispatch, served, deadline) = (self.dispatch, self.served, self.deadline);
        // tonic calls a service once for each request.
        let Some(caller) = self.caller.take() else {
            return Box::pin(std::future::ready(Err(Status::internal("Internal error encountered."))));
        };
        Box::pin(async move {
            let answer = dispatch.call(served, caller, request.into_inner(), deadline).await;
            answer.map(tonic::Response::new).map_err(|error| status(&error))
        })
    }
}

/// `grpc-timeout`: at most eight digits and a unit. One that is malformed counts as absent, as in gRPC itself.
fn time_out(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// Messages as they are.
struct BytesCodec;

/// The buffer that a message begins with, in bytes: most are small, and a larger one grows once to its size.
const BUFFER: usize = 512;

/// How many bytes of messages are gathered before they are sent.
const GATHERED: usize = 64 << 10;

impl Codec for BytesCodec {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = BytesCodec;
    type Decoder = BytesCodec;

    fn encoder(&mut self) -> BytesCodec {
        BytesCodec
    }

    fn decoder(&mut self) -> BytesCodec {
        BytesCodec
    }
}

impl Encoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(item.len());
        into.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, GATHERED)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn timed(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_str(value).ok()?);
        time_out(&headers)
    }

    #[test]
    fn time_outs_are_read_as_grpc_writes_them() {
        assert_eq!(timed("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timed("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timed("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "5", "5x", "-5S", "123456789S", "5 S"] {
            assert_eq!(timed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn grpc_is_told_from_its_content_type() {
        let is = |value: &'static str| {
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; x"));
        assert!(!is("application/grpc-web") && !is("application/json"));
    }

    proptest! {
        #[test]
        fn no_time_out_panics(value in "[0-9A-Za-z é-]{0,12}") {
            let _ = timed(&value);
        }
    }
}
