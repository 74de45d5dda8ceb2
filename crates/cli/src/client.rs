//! How commands speak to a running haar: over its own port, like any other client.

use std::{
    convert::Infallible,
    fmt::Display,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    data::Running,
    report::{Doing, Result, Trouble},
};

/// How long haar may take to accept a connection, and to answer a control call: none of them waits for anything.
const CONNECT: Duration = Duration::from_secs(5);
const CONTROL: Duration = Duration::from_secs(30);
/// How long an API may take to answer: an operation is waited for up to 30 minutes, as is a build.
const CALL: Duration = Duration::from_secs(35 * 60);

/// An answer, read whole.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// One call to a Google API host, by way of the port.
pub fn call(
    running: &Running,
    method: &str,
    host: &str,
    path: &str,
    token: &str,
    body: Vec<u8>,
) -> Result<Answer> {
    send(running, request(method, host, path, token, body)?, CALL)
}

fn request(method: &str, host: &str, path: &str, token: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("haar/", env!("CARGO_PKG_VERSION")))
        .body(Full::from(body))
        .doing("make that request")
}

/// A GET of a service's page, as a browser without credentials would ask for it.
pub fn visit(running: &Running, host: &str, path: &str) -> Result<Answer> {
    let asked = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("haar/", env!("CARGO_PKG_VERSION")))
        .body(Full::default())
        .doing("make that request")?;
    send(running, asked, CALL)
}

/// One call to the control interface.
pub fn control(running: &Running, method: &str, what: &str, body: Option<Value>) -> Result<Value> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let host = running.listen.to_string();
    let path = format!("/_haar/{what}");
    let asked = request(method, &host, &path, &running.control_key, body.into_bytes())?;
    let answer = send(running, asked, CONTROL)?;
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    if answer.status == 200 {
        return Ok(value);
    }
    let message = value["error"]["message"]
        .as_str()
        .map_or_else(|| format!("haar answered {}", answer.status), str::to_owned);
    Err(Trouble::new(message))
}

/// Credentials of the owner, or of another principal, as (the credentials file, an access token).
pub fn credentials(running: &Running, principal: Option<&str>) -> Result<Value> {
    control(running, "POST", "credentials", Some(json!({ "principal": principal })))
}

/// An access token of the owner or of another principal.
pub fn access_token(running: &Running, principal: Option<&str>) -> Result<String> {
    let credentials = credentials(running, principal)?;
    credentials["access_token"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Trouble::new("haar gave no access token"))
}

/// A control call with a long body, answered a line at a time.
pub fn upload(
    running: &Running,
    what: &str,
    body: mpsc::Receiver<Bytes>,
    mut told: impl FnMut(&[u8]),
) -> Result<()> {
    let request = Request::post(format!("/_haar/{what}"))
        .header(header::HOST, running.listen.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {}", running.control_key))
        .body(Pieces(body))
        .doing("make that request")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    runtime.block_on(async {
        let response = exchange(running, request, CALL).await?;
        let is_refusal = response.status() != 200;
        let mut body = response.into_body();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // Whoever calls sees from what it was told that this was no proper end.
            let Ok(frame) = frame else { break };
            rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n').filter(|_| !is_refusal) {
                told(&rest[..end]);
                rest.advance(end + 1);
            }
        }
        if is_refusal { Err(refused(&rest)) } else { Ok(()) }
    })
}

/// What haar said was wrong with a control call.
fn refused(body: &[u8]) -> Trouble {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    Trouble::new(value["error"]["message"].as_str().unwrap_or("haar refused the call"))
}

/// A body that is made while it is sent.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn send(running: &Running, request: Request<Full<Bytes>>, patience: Duration) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    runtime.block_on(async {
        let response = exchange(running, request, patience).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| unreachable(running, &error))?;
        Ok(Answer { status, body: body.to_bytes().to_vec() })
    })
}

/// Sends a request and waits until the answer begins.
async fn exchange<B>(running: &Running, request: Request<B>, patience: Duration) -> Result<Response<Incoming>>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let stream = within(running, CONNECT, tokio::net::TcpStream::connect(running.listen)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(running, &error))?;
    tokio::spawn(connection);
    within(running, patience, sender.send_request(request)).await
}

async fn within<T, E: Display>(
    running: &Running,
    patience: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T> {
    match tokio::time::timeout(patience, doing).await {
        Ok(done) => done.map_err(|error| unreachable(running, &error)),
        Err(_) => Err(unreachable(running, &format_args!("not within {} s", patience.as_secs()))),
    }
}

fn unreachable(running: &Running, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(format!("haar (pid {}) does not answer on {}: {error}", running.pid, running.listen))
        .next("look into its log with: tail \"$(haar status --json | jq -r .log)\"")
}
