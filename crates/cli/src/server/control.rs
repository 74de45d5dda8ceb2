//! The control interface: what the other commands ask a running haar, under `/_haar/` on its own port.
//!
//! It is for the user who started haar: every call carries the key from `run.json`, which only that user can read.

mod counts;

use std::{net::SocketAddr, sync::Arc};

use aws_lc_rs::{constant_time, rand};
use gateway::{Body, Site, full};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use kernel::BoxFuture;
use serde_json::{Value, json};

use super::{Parts, builds, least, published::Published, room, served::Served, why};
use crate::report::{Result, Trouble};

/// The largest body that a command sends.
const MAX_BODY: usize = 64 << 10;

/// The control interface.
pub struct Control {
    parts: Arc<Parts>,
    key: String,
    about: Value,
    served: Served,
}

impl Control {
    /// Answers with this about the process itself and about the methods that it serves, and the rest from the
    /// products.
    pub fn new(parts: Arc<Parts>, key: String, about: Value, served: Served) -> Self {
        Control { parts, key, about, served }
    }
}

/// A new key.
pub fn new_key() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Trouble::new("the machine gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Site for Control {
    fn serve(
        &self,
        request: Request<Incoming>,
        _: SocketAddr,
        _: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        if !self.is_authorized(&request) {
            return Box::pin(std::future::ready(answer(Err((
                StatusCode::FORBIDDEN,
                "the key from run.json is missing".into(),
            )))));
        }
        if (request.method(), request.uri().path()) == (&Method::GET, "/_haar/methods") {
            return Box::pin(std::future::ready(answer(Ok(self.served.describe()))));
        }
        let (parts, about) = (self.parts.clone(), self.about.clone());
        Box::pin(async move {
            if request.method() == Method::POST && request.uri().path() == "/_haar/builds" {
                return builds::serve(parts, request).await;
            }
            let outcome = match (request.method().clone(), request.uri().path()) {
                (Method::GET, "/_haar/status") => Ok(status(&parts, about).await),
                (Method::GET, "/_haar/counters") => Ok(counts::counters(&parts.run)),
                (Method::POST, "/_haar/credentials") => credentials(&parts, request).await,
                (Method::POST, "/_haar/why") => explain(&parts, &about, request).await,
                (Method::POST, "/_haar/least") => needed(&parts, request).await,
                (Method::POST, "/_haar/publish") => publish(parts, request).await,
                (Method::POST, "/_haar/unpublish") => unpublish(parts, request).await,
                (Method::POST, "/_haar/images/prune") => prune(&parts, request).await,
                _ => Err((StatusCode::NOT_FOUND, "there is no such control call".into())),
            };
            answer(outcome)
        })
    }
}

impl Control {
    fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        constant_time::verify_slices_are_equal(key.as_bytes(), self.key.as_bytes()).is_ok()
    }
}

type Outcome = std::result::Result<Value, (StatusCode, String)>;

async fn status(parts: &Parts, mut about: Value) -> Value {
    about["level"] = parts.instances.level().await.into();
    about["services"] = parts.services();
    about["worker_pools"] = parts.worker_pools();
    about["databases"] = parts.databases();
    about["usage"] = counts::usage(&parts.run);
    about
}

/// A credentials file and an access token for a principal, the owner if none is named.
async fn credentials(parts: &Parts, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    let refused = |error: kernel::Error| (StatusCode::BAD_REQUEST, error.message().to_owned());
    let principal = match asked["principal"].as_str() {
        None => parts.iam.owner().principal(),
        Some(email) => parts.iam.principal(email).await.map_err(refused)?,
    };
    let email = principal.email().unwrap_or_default().to_owned();
    let file = parts.iam.credentials_file(&principal).map_err(refused)?;
    let (token, lifetime) = parts.iam.access_token_for(&principal).map_err(refused)?;
    let sign_in = parts.iam.sign_in_path();
    Ok(json!({
        "email": email, "file": file, "access_token": token, "expires_in": lifetime.as_secs(), "sign_in": sign_in,
    }))
}

/// Says why somebody may do something, or may not.
async fn explain(parts: &Parts, about: &Value, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    let project = about["project"].as_str().unwrap_or_default();
    why::answer(&parts.iam, &asked, project)
        .ok_or_else(|| bad("a principal, a permission and a resource are needed"))
}

/// Says what an account needs at the least.
async fn needed(parts: &Parts, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    let account = asked["account"].as_str().ok_or_else(|| bad("an account is needed"))?;
    least::answer(&parts.iam, account).await.map_err(|error| bad(error.message()))
}

/// Gives a service a port of this machine.
async fn publish(parts: Arc<Parts>, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    let port = asked["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let (Some(port), Some(host)) = (port, asked["host"].as_str().map(str::to_owned)) else {
        return Err(bad("a port and a service's host are needed"));
    };
    with_published(parts, move |published| published.publish(port, &host)).await
}

/// Takes the ports of a service back.
async fn unpublish(parts: Arc<Parts>, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    let host = asked["host"].as_str().ok_or_else(|| bad("a service's host is needed"))?.to_owned();
    with_published(parts, move |published| published.unpublish(&host)).await
}

/// Changes which ports there are; that is written to the disk.
async fn with_published(
    parts: Arc<Parts>,
    change: impl FnOnce(&Published) -> Result<()> + Send + 'static,
) -> Outcome {
    let changed = tokio::task::spawn_blocking(move || {
        let published = parts.published.get().ok_or_else(|| Trouble::new("haar is still starting"))?;
        change(published)
    });
    let changed = changed.await.unwrap_or_else(|error| Err(Trouble::new(error.to_string())));
    changed.map(|()| json!({})).map_err(|trouble| bad(&trouble.to_string()))
}

/// Removes images that nothing uses.
async fn prune(parts: &Parts, request: Request<Incoming>) -> Outcome {
    let asked = body_of(request).await?;
    room::answer(parts, &asked).await.map_err(|why| bad(&why))
}

fn bad(message: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message.to_owned())
}

async fn body_of(request: Request<Incoming>) -> Outcome {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| bad("the body cannot be read"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| bad("the body is not JSON"))
}

fn answer(outcome: Outcome) -> Response<Body> {
    let (status, value) = match outcome {
        Ok(value) => (StatusCode::OK, value),
        Err((status, message)) => (status, json!({ "error": { "message": message } })),
    };
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
