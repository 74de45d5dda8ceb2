//! Who may call a service: the identity token of a request, and what is made of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::HeaderMap;

use crate::{
    Invoker, ServiceRoute,
    pages::Failure,
    routes::{Route, without_port},
};

/// Decides who may invoke services. Reads only memory: it never waits.
pub trait Invokers: Send + Sync + 'static {
    /// Whether the holder of this token may invoke the service. The token is meant for the service if its
    /// audience is one of `audiences`.
    fn check(&self, service: &ServiceRoute, token: &str, audiences: &[&str]) -> Verdict;

    /// Whether everybody may invoke the service, as its policies are at this moment.
    fn is_open(&self, _: &ServiceRoute) -> bool {
        false
    }

    /// A number, below 2⁶³, that is another one whenever [`is_open`](Invokers::is_open) may say something else;
    /// `None` when it is to be asked each time.
    fn generation(&self) -> Option<u64> {
        None
    }
}

/// What was last said of whether a service is open to everybody: twice the generation that it was said in, and 1 for
/// yes.
pub(crate) struct LastSaid(AtomicU64);

impl Default for LastSaid {
    /// As if it was said in a generation that is never reached.
    fn default() -> Self {
        LastSaid(AtomicU64::new(u64::MAX))
    }
}

impl LastSaid {
    /// Whether everybody may invoke the service, asked only if that may have changed.
    fn is_open(&self, invokers: &dyn Invokers, service: &ServiceRoute) -> bool {
        let Some(generation) = invokers.generation() else { return invokers.is_open(service) };
        let last = self.0.load(Relaxed);
        if last >> 1 == generation {
            return last & 1 == 1;
        }
        let is_open = invokers.is_open(service);
        self.0.store(generation << 1 | u64::from(is_open), Relaxed);
        is_open
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
    route: &Route,
    headers: &HeaderMap,
    host: &str,
) -> Result<Option<&'static str>, Failure> {
    let service = &route.service;
    if service.invoker == Invoker::Public || route.said.is_open(invokers, service) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Opens with the third generation, and counts how often it is asked.
    #[derive(Default)]
    struct Policies {
        generation: AtomicU64,
        asked: AtomicUsize,
    }

    impl Invokers for Policies {
        fn check(&self, _: &ServiceRoute, _: &str, _: &[&str]) -> Verdict {
            Verdict::Forbidden
        }

        fn is_open(&self, _: &ServiceRoute) -> bool {
            self.asked.fetch_add(1, Relaxed);
            self.generation.load(Relaxed) == 3
        }

        fn generation(&self) -> Option<u64> {
            Some(self.generation.load(Relaxed)).filter(|generation| *generation < 4)
        }
    }

    #[test]
    fn policies_are_asked_once_until_they_change() {
        let service = ServiceRoute {
            name: "s".into(),
            project: "p".into(),
            region: "l".into(),
            hosts: Vec::new(),
            tags: Vec::new(),
            traffic: Vec::new(),
            access: crate::Access::All,
            invoker: Invoker::Iam,
            audiences: Vec::new(),
        };
        let (policies, said) = (Policies::default(), LastSaid::default());
        for (generation, is_open, asked) in [(0, false, 1), (2, false, 2), (3, true, 3), (4, false, 5)] {
            policies.generation.store(generation, Relaxed);
            for _ in 0..2 {
                assert_eq!(said.is_open(&policies, &service), is_open);
            }
            assert_eq!(policies.asked.load(Relaxed), asked, "in generation {generation}");
        }
    }
}
