//! Who may call a service: the identity token of a request, and what is made of it.

use http::HeaderMap;

use crate::{Invoker, ServiceRoute, pages::Failure, routes::without_port};

/// Decides who may invoke services. Reads only memory: it never waits.
pub trait Invokers: Send + Sync + 'static {
    /// Whether the holder of this token may invoke the service. The token is meant for the service if its
    /// audience is one of `audiences`.
    fn check(&self, service: &ServiceRoute, token: &str, audiences: &[&str]) -> Verdict;

    /// Whether everybody may invoke the service, as its policies are at this moment.
    fn is_open(&self, _: &ServiceRoute) -> bool {
        false
    }
}

/// What is known about the sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May invoke the service.
    Allowed,
    /// The token is not ours, malformed, expired or meant for somebody else (401).
    Unauthenticated,
    /// The token is good, but its holder has no right to invoke (403).
    Forbidden,
}

/// The header with the token: `X-Serverless-Authorization` wins, so that an app can use `Authorization` itself.
const HEADERS: [&str; 2] = ["x-serverless-authorization", "authorization"];

/// Checks a request. Says which header carried the token that was checked, if one had to be.
pub(crate) fn check(
    invokers: &dyn Invokers,
    service: &ServiceRoute,
    headers: &HeaderMap,
    host: &str,
) -> Result<Option<&'static str>, Failure> {
    if service.invoker == Invoker::Public || invokers.is_open(service) {
        return Ok(None);
    }
    let Some(name) = HEADERS.into_iter().find(|name| headers.contains_key(*name)) else {
        return Err(Failure::Anonymous);
    };
    let token = headers.get(name).and_then(|value| value.to_str().ok()).and_then(bearer);
    let token = token.ok_or(Failure::Unauthenticated)?;
    let urls = audiences(service, host);
    let accepted: Vec<&str> =
        urls.iter().map(String::as_str).chain(service.audiences.iter().map(AsRef::as_ref)).collect();
    match invokers.check(service, token, &accepted) {
        Verdict::Allowed => Ok(Some(name)),
        Verdict::Unauthenticated => Err(Failure::Unauthenticated),
        Verdict::Forbidden => Err(Failure::Forbidden),
    }
}

/// A service's own URLs: of all its hosts, and of the host that was called.
fn audiences(service: &ServiceRoute, host: &str) -> Vec<String> {
    let own = service.hosts.iter().map(AsRef::as_ref).chain([without_port(host)]);
    own.flat_map(|host| [format!("https://{host}"), format!("http://{host}")])
        .chain([format!("http://{host}")])
        .collect()
}

/// The token after `Bearer`, in whatever case that is written.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
