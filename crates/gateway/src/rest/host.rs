//! Which API a host name stands for: one by [its several hosts](services::at_host), or any where the path tells, as at
//! `www.googleapis.com` and its siblings.

use kernel::services::{self, DOMAIN};

/// What a host name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'h> {
    /// One of the APIs that are served, by its place in the list, and the region that was named.
    Api(u16, Option<&'h str>),
    /// Any of them: the path tells.
    Shared,
    /// An API that is not served.
    Unknown,
}

/// Finds out what a host name means; `apis` is sorted. The name is in lowercase and without a port. What is no
/// name of Google's is an address that an emulator client was given, and means any API.
pub(super) fn meaning<'h>(apis: &[&str], host: &'h str) -> Meaning<'h> {
    if let Ok(at) = apis.binary_search(&host) {
        return Meaning::Api(at as u16, None);
    }
    let named = |label: &str| apis.iter().position(|api| api.strip_suffix(DOMAIN) == Some(label));
    match host.strip_suffix(DOMAIN) {
        None | Some("www" | "content" | "clients6" | "private" | "restricted") => Meaning::Shared,
        Some(_) => match services::at_host(host, named) {
            Some((at, region)) => Meaning::Api(at as u16, region),
            None => Meaning::Unknown,
        },
    }
}
