//! How instances reach other networks: as this machine does, by its proxy where it has one.

use std::{io, net::SocketAddr, time::Duration};

use gateway::Upstream;
use kernel::BoxFuture;
use run::local::way::{Pipe, Target, Way};

/// How long a connection may take to come about, or a proxy to answer.
const WAIT: Duration = Duration::from_secs(15);

/// The machine's own way.
pub struct WayOut(Upstream);

impl WayOut {
    /// The machine's way, when haar listens at `own`: a haar that was started under another's `haar exec` has that one
    /// for a proxy, and never itself.
    pub fn new(upstream: Upstream, own: SocketAddr) -> WayOut {
        WayOut(upstream.other_than(own))
    }
}

impl Way for WayOut {
    fn needs_name(&self, host: &str) -> bool {
        self.0.is_proxied(host, 443)
    }

    fn dial(&self, target: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> {
        let upstream = self.0.clone();
        Box::pin(async move {
            let (host, port) = match target {
                Target::Address(address) => (address.ip().to_string(), address.port()),
                // Resolved here it could be an address that instances are kept from, which is seen only where they
                // are given addresses.
                Target::Name(name, port) if !upstream.is_proxied(&name, port) => {
                    return Err(io::Error::other(format!(
                        "{name}:{port} is excepted from the proxy, {name} is not"
                    )));
                }
                Target::Name(name, port) => (name, port),
            };
            Ok(Box::new(upstream.tunnel(&host, port, WAIT).await?) as Box<dyn Pipe>)
        })
    }
}
