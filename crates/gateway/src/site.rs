//! What is served beside the method table: sites, found by host and path before anything else is looked at.
//!
//! A site is whatever speaks plain HTTP by Google's word rather than by an interface table: OAuth's endpoints,
//! the metadata server, uploads, OCI distribution, and the way to an instance of a Cloud Run service. The last
//! is the hot path of the whole program, so finding a site is a short scan that compares and never allocates.
//! Sites do their own authentication; there is no middleware here, on purpose.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use kernel::BoxFuture;

use crate::hosts;

/// Any error that ends a body early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer: whole, streamed or empty.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Something that answers HTTP requests itself.
pub trait Site: Send + Sync {
    /// Answers one request. `peer` is the other end of the connection, `tls` whether it was encrypted. Requests
    /// that came from inside a workload carry an [`Instance`](crate::Instance) among their extensions. A panic
    /// is caught and answered with 500.
    ///
    /// Upgrades (`hyper::upgrade::on`) work over HTTP/1. A connection that was upgraded is the site's alone: the
    /// gateway neither counts it nor waits for it when it closes.
    fn serve(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> BoxFuture<'static, Response<Body>>;
}

/// A body that is all there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A short plain-text answer.
pub fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(message.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Which hosts a site answers for.
#[derive(Clone)]
pub enum Hosts {
    /// Every host.
    Any,
    /// Exactly this host, without a port.
    Exact(Box<str>),
    /// Every host that ends like this, such as `.run.app`.
    Suffix(Box<str>),
    /// Those that come and go.
    Changing(hosts::Changing),
}

impl Hosts {
    /// Exactly this host.
    pub fn exact(host: &str) -> Self {
        Hosts::Exact(host.to_ascii_lowercase().into())
    }

    /// Every host below a domain, given as `.run.app` or `*.run.app`.
    pub fn below(domain: &str) -> Self {
        let domain = domain.trim_start_matches('*').to_ascii_lowercase();
        Hosts::Suffix(if domain.starts_with('.') { domain.into() } else { format!(".{domain}").into() })
    }

    fn hold(&self, host: &str) -> bool {
        match self {
            Hosts::Any => true,
            Hosts::Exact(exact) => host.eq_ignore_ascii_case(exact),
            Hosts::Suffix(suffix) => hosts::ends_below(host, suffix),
            Hosts::Changing(is_one) => is_one(host),
        }
    }
}

/// The sites in the order in which they were added; the first that fits answers.
#[derive(Default)]
pub(crate) struct Sites(Vec<Mounted>);

struct Mounted {
    hosts: Hosts,
    prefix: Box<str>,
    site: Arc<dyn Site>,
}

impl Sites {
    pub(crate) fn add(&mut self, hosts: Hosts, prefix: &str, site: Arc<dyn Site>) {
        self.0.push(Mounted { hosts, prefix: prefix.into(), site });
    }

    /// The site for a host (as the request names it, a port allowed) and a path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<dyn Site>> {
        let host = hosts::bare(host);
        let fits = |site: &&Mounted| path.starts_with(&*site.prefix) && site.hosts.hold(host);
        self.0.iter().find(fits).map(|mounted| &mounted.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl Site for Named {
        fn serve(&self, _: Request<Incoming>, _: SocketAddr, _: bool) -> BoxFuture<'static, Response<Body>> {
            Box::pin(std::future::ready(text(StatusCode::OK, "here")))
        }
    }

    #[test]
    fn sites_are_found_by_host_and_path() {
        let mut sites = Sites::default();
        sites.add(Hosts::below("*.run.app"), "/", Arc::new(Named));
        sites.add(Hosts::exact("oauth2.googleapis.com"), "/token", Arc::new(Named));
        sites.add(Hosts::Any, "/upload/", Arc::new(Named));
        let found = |host, path| sites.find(host, path).is_some();
        assert!(found("hello-1.us-central1.run.app", "/"));
        assert!(found("HELLO.Run.App:443", "/x"));
        assert!(!found("run.app", "/"));
        assert!(found("oauth2.googleapis.com", "/token"));
        assert!(!found("oauth2.googleapis.com", "/other"));
        assert!(found("127.0.0.1:4560", "/upload/x"));
        assert!(!found("", ""));
    }
}
