//! OAuth's endpoints on the port: where the gateway's bytes meet identity's functions.

use std::{net::SocketAddr, sync::Arc};

use gateway::{Body, full};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use iam::Iam;
use kernel::BoxFuture;

/// The largest body that an endpoint takes.
const MAX_BODY: usize = 64 << 10;

/// The hosts and paths of the endpoints.
pub const PLACES: [(&str, &str); 18] = [
    // Where a person's browser, which does not come through the proxy, finds the sign-in page.
    ("127.0.0.1", "/o/oauth2/"),
    ("localhost", "/o/oauth2/"),
    ("sts.googleapis.com", "/v1/token"),
    ("sts.googleapis.com", "/v1/introspect"),
    ("oauth2.googleapis.com", "/token"),
    ("oauth2.googleapis.com", "/revoke"),
    ("www.googleapis.com", "/oauth2/"),
    ("www.googleapis.com", "/userinfo/"),
    ("www.googleapis.com", "/service_accounts/"),
    ("www.googleapis.com", "/robot/"),
    ("oauth2.googleapis.com", "/oauth2/"),
    ("accounts.google.com", "/o/oauth2/"),
    ("accounts.google.com", "/.well-known/"),
    ("openidconnect.googleapis.com", "/"),
    ("googleapis.com", "/oauth2/"),
    ("oauth2.googleapis.com", "/service_accounts/"),
    ("accounts.google.com", "/token"),
    ("www.googleapis.com", "/tokeninfo"),
];

/// OAuth's endpoints.
pub struct OAuth(pub Arc<Iam>);

impl gateway::Site for OAuth {
    fn serve(
        &self,
        request: Request<Incoming>,
        _: SocketAddr,
        _: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        let iam = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
                return gateway::text(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.\n");
            };
            let body = body.to_bytes();
            let call = iam::Request {
                method: &head.method,
                path: head.uri.path(),
                query: head.uri.query().unwrap_or_default(),
                headers: &head.headers,
                body: &body,
            };
            match iam.oauth(call).await {
                Some(answer) => answer.map(full),
                None => gateway::text(StatusCode::NOT_FOUND, "Not Found\n"),
            }
        })
    }
}

/// How the documents of issuers are got: as images are, with the machine's proxy and the certificates it trusts.
pub struct Issuers(pub images::Registries);

impl iam::Fetch for Issuers {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<u8>, String>> {
        Box::pin(self.0.fetch(url, limit))
    }
}
