//! Names of hosts: which of them are answered here, and which mean this machine.
//!
//! A name is compared as it came, letter case ignored, its port and a final dot left away. Nothing is resolved
//! here: a name is ours because it is written in the list, not because of where it points.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Whether a host is one of those that come and go, such as domains that are mapped to services. Asked without a port.
pub type Changing = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The hosts that are answered here instead of being passed on.
#[derive(Clone)]
pub struct Ours {
    exact: Vec<Box<str>>,
    suffixes: Vec<Box<str>>,
    changing: Vec<Changing>,
}

impl Ours {
    /// Google's hosts: the APIs, the registries, Cloud Run's services, sign-in and the metadata server.
    pub fn google() -> Self {
        [
            "*.googleapis.com",
            "*.pkg.dev",
            "gcr.io",
            "*.gcr.io",
            "*.run.app",
            "*.run.localhost",
            "accounts.google.com",
            "metadata.google.internal",
            "metadata",
        ]
        .into_iter()
        .fold(Ours { exact: Vec::new(), suffixes: Vec::new(), changing: Vec::new() }, Ours::with)
    }

    /// The same and one more: a host, or all below a domain as `*.example.com`.
    pub fn with(mut self, pattern: &str) -> Self {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('*') {
            Some(suffix) => self.suffixes.push(suffix.into()),
            None => self.exact.push(pattern.into()),
        }
        self
    }

    /// The same and those that come and go.
    pub fn and(mut self, changing: Changing) -> Self {
        self.changing.push(changing);
        self
    }

    /// Whether a host is ours; a port may follow it.
    pub fn contain(&self, host: &str) -> bool {
        let host = bare(host);
        self.exact.iter().any(|exact| host.eq_ignore_ascii_case(exact))
            || self.suffixes.iter().any(|suffix| ends_below(host, suffix))
            || self.changing.iter().any(|is_one| is_one(host))
    }
}

/// A host without its port, final dot and brackets.
pub(crate) fn bare(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    let host = match authority.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a host ends in `suffix` (in lowercase, with its leading dot) and has something before it.
pub(crate) fn ends_below(host: &str, suffix: &str) -> bool {
    let (host, suffix) = (host.as_bytes(), suffix.as_bytes());
    host.len() > suffix.len() && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// Whether a name means this machine whatever a name server says: a loopback address, `localhost`, or a name
/// below it (RFC 6761). Only such a name may stand for the owner: a web page can make any other name point
/// here.
pub fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost")
        || ends_below(host, ".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether connecting to an address could reach the metadata server of the machine that haar itself runs on, or
/// another service of its cloud that trusts whoever can connect: link-local addresses, and the addresses that AWS,
/// Azure and Alibaba document for theirs.
pub fn is_metadata(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4 == Ipv4Addr::new(100, 100, 100, 200)
                || v4 == Ipv4Addr::new(168, 63, 129, 16)
        }
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Whether a name is a metadata server by convention, wherever it may resolve to.
pub(crate) fn is_metadata_name(host: &str) -> bool {
    let host = bare(host);
    ["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"]
        .iter()
        .any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_brackets_and_final_dots_do_not_matter() {
        assert_eq!(bare("run.googleapis.com:443"), "run.googleapis.com");
        assert_eq!(bare("run.googleapis.com."), "run.googleapis.com");
        assert_eq!(bare("[::1]:80"), "::1");
        assert_eq!(bare("::1"), "::1");
        assert_eq!(bare("user:pass@localhost:1"), "localhost");
    }

    #[test]
    fn googles_hosts_are_ours_and_others_are_not() {
        let ours = Ours::google();
        for host in
            ["Secretmanager.GoogleAPIs.com:443", "us-docker.pkg.dev", "gcr.io", "a.run.app", "metadata"]
        {
            assert!(ours.contain(host), "{host}");
        }
        for host in
            ["googleapis.com.evil.example", "evilgoogleapis.com", "google.com", "", ".run.app", "github.com"]
        {
            assert!(!ours.contain(host), "{host}");
        }
        assert!(ours.clone().with("*.example.com").contain("a.example.com"));
        let ours = ours.and(Arc::new(|host| host == "tide.example"));
        assert!(ours.contain("tide.example:443") && !ours.contain("a.tide.example"));
    }

    #[test]
    fn only_names_that_cannot_be_pointed_here_are_loopback() {
        for host in
            ["localhost", "a.localhost:4560", "127.0.0.1:4560", "127.9.9.9", "[::1]:1", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "evil.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn metadata_addresses_are_known_in_every_disguise() {
        for address in
            ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1", "168.63.129.16"]
        {
            assert!(is_metadata(address.parse().unwrap()), "{address}");
        }
        assert!(!is_metadata("127.0.0.1".parse().unwrap()));
        assert!(!is_metadata("8.8.8.8".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_name_panics(host in ".{0,60}") {
            let _ = (bare(&host), is_loopback(&host), Ours::google().contain(&host), is_metadata_name(&host));
        }
    }
}
