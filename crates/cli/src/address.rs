//! The addresses of services, taken apart.

/// An address without its scheme and path: what a request to it has as `Host`.
pub fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The same without the port: what a service is known by.
pub fn host(url: &str) -> &str {
    let authority = authority(url);
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let own = "http://tide-1.us-central1.run.localhost:4560";
        assert_eq!(authority(own), "tide-1.us-central1.run.localhost:4560");
        assert_eq!(host(own), "tide-1.us-central1.run.localhost");
        assert_eq!(host("https://tide-1.us-central1.run.app/a:b"), "tide-1.us-central1.run.app");
        assert_eq!((authority("tide.example.com"), host("")), ("tide.example.com", ""));
    }
}
