//! How commands speak to a running haar: over its own port, like any other client.

use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{
    data::Running,
    report::{Doing, Result, Trouble},
};

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
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("haar/", env!("CARGO_PKG_VERSION")))
        .body(Full::from(body))
        .doing("make that request")?;
    send(running, request)
}

/// One call to the control interface.
pub fn control(running: &Running, method: &str, what: &str, body: Option<Value>) -> Result<Value> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let host = running.listen.to_string();
    let answer =
        call(running, method, &host, &format!("/_haar/{what}"), &running.control_key, body.into_bytes())?;
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

fn send(running: &Running, request: Request<Full<bytes::Bytes>>) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing("start")?;
    let listen = running.listen;
    runtime.block_on(async move {
        let unreachable = |error: &dyn std::fmt::Display| {
            Trouble::new(format!("haar (pid {}) does not answer on {listen}: {error}", running.pid))
                .next("look into its log with: tail \"$(haar status --json | jq -r .log)\"")
        };
        let stream = tokio::net::TcpStream::connect(listen).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let body =
            response.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes().to_vec();
        Ok(Answer { status, body })
    })
}
