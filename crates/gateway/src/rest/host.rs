//! Which API a host name stands for.
//!
//! An API has one canonical name and several more: a region before it (`us-central1-run.googleapis.com`) or
//! within it (`secretmanager.us-central1.rep.googleapis.com`), `content-` for browsers, `mtls` for client
//! certificates. `www.googleapis.com` and its siblings serve many APIs and tell them apart by path.

const DOMAIN: &str = ".googleapis.com";

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
    let Some(label) = host.strip_suffix(DOMAIN) else { return Meaning::Shared };
    match label {
        "www" | "content" | "clients6" | "private" | "restricted" => Meaning::Shared,
        _ => named(apis, label).unwrap_or(Meaning::Unknown),
    }
}

fn named<'h>(apis: &[&str], label: &'h str) -> Option<Meaning<'h>> {
    let label = label.strip_prefix("content-").unwrap_or(label);
    let label = label.strip_suffix(".mtls").unwrap_or(label);
    if let Some(at) = find(apis, label) {
        return Some(Meaning::Api(at, None));
    }
    if let Some((name, region)) = label.strip_suffix(".rep").and_then(|rest| rest.split_once('.')) {
        return find(apis, name).filter(|_| is_region(region)).map(|at| Meaning::Api(at, Some(region)));
    }
    let mut dashes = label.match_indices('-');
    dashes.find_map(|(dash, _)| {
        let (region, name) = (label.get(..dash)?, label.get(dash + 1..)?);
        find(apis, name).filter(|_| is_region(region)).map(|at| Meaning::Api(at, Some(region)))
    })
}

fn find(apis: &[&str], label: &str) -> Option<u16> {
    apis.iter().position(|api| api.strip_suffix(DOMAIN) == Some(label)).map(|at| at as u16)
}

/// Whether a text is shaped like a region or a multi-region: `us-central1`, `europe-west4`, `us`, `eu`.
fn is_region(text: &str) -> bool {
    let plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let is_zone_like = text.contains('-') && text.ends_with(|c: char| c.is_ascii_digit());
    plain && (is_zone_like || matches!(text, "us" | "eu" | "asia" | "global"))
}
