//! The way out of an instance: connections that it made to elsewhere, taken there.
//!
//! A connection has been accepted inside before it is known whether it comes about here. One that does not, or must not,
//! is reset, which clients report as such instead of as refused. Bytes are copied as they come; nothing of them is looked
//! at. Only TCP over IPv4 goes out: a client is told at once that IPv6 is unreachable, and datagrams other than
//! questions for names are refused.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sandbox::wiring;
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    GOOGLE,
    placeholders::Placeholders,
    way::{Target, Way},
};

/// Connections of one instance at a time; more wait inside.
const MAX_CONNECTIONS: usize = 2048;
/// How many bytes are copied at once.
const BUFFER: usize = 32 << 10;
/// How many refusals of one instance are told in its log.
const MAX_TOLD: usize = 10;

/// An instance's way out.
pub(super) struct Outside {
    pub(super) way: Arc<dyn Way>,
    /// Where haar listens.
    haar: SocketAddr,
    placeholders: Mutex<Placeholders>,
}

impl Outside {
    pub(super) fn new(way: Arc<dyn Way>, haar: SocketAddr) -> Outside {
        Outside { way, haar, placeholders: Mutex::default() }
    }

    /// The address under which an instance will connect to a name.
    pub(super) fn placeholder(&self, name: &str) -> Ipv4Addr {
        self.placeholders.lock().unwrap_or_else(PoisonError::into_inner).address(name)
    }

    fn target(&self, to: SocketAddrV4) -> Target {
        let placeholders = self.placeholders.lock().unwrap_or_else(PoisonError::into_inner);
        match placeholders.name(*to.ip()) {
            Some(name) => Target::Name(name.to_owned(), to.port()),
            None => Target::Address(to),
        }
    }
}

/// Why a connection is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The host's loopback; an instance's own never comes here.
    Loopback,
    /// Addresses that mean something on one link only: the host's own metadata server is among them.
    Metadata,
    /// haar itself, which instances reach as Google.
    Haar,
    /// What is no host's address.
    NoHost,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Refusal::Loopback => "it is this machine's loopback",
            Refusal::Metadata => "it is of the network in which machines have their metadata servers",
            Refusal::Haar => "haar is there, which answers as Google at Google's names only",
            Refusal::NoHost => "it is no host's address",
        }
    }
}

/// Metadata servers at other places than link-local addresses: Azure's, Alibaba's and Oracle's.
const METADATA_SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];

/// Which connections an instance may not have made for it, whatever way there is: to this machine's loopback, to any
/// cloud's metadata server, to haar's own port under any address of this machine, to what is no host. `haar` is where
/// haar listens; `is_ours` tells whether an address is this machine's. Everything else, this machine's other ports and
/// its networks included, is an instance's to reach as it is any program's here.
pub(super) fn refuse(
    to: SocketAddrV4,
    haar: SocketAddr,
    is_ours: impl Fn(Ipv4Addr) -> bool,
) -> Option<Refusal> {
    let ip = *to.ip();
    let of_this_network = ip.octets()[0] == 0;
    let reserved = ip.octets()[0] >= 240;
    match () {
        () if ip.is_loopback() || of_this_network => Some(Refusal::Loopback),
        () if ip.is_link_local() || METADATA_SERVERS.contains(&ip) => Some(Refusal::Metadata),
        () if ip.is_multicast() || reserved || to.port() == 0 => Some(Refusal::NoHost),
        () if ip == GOOGLE => Some(Refusal::Haar),
        () if to.port() == haar.port() && (IpAddr::V4(ip) == haar.ip() || is_ours(ip)) => Some(Refusal::Haar),
        () => None,
    }
}

/// Whether an address is one of this machine's, found by trying to use it as one.
fn is_ours(ip: Ipv4Addr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Takes connections out until it is dropped, which ends them. `tell` is given sentences for the instance's log.
pub(super) async fn serve(
    listener: TcpListener,
    outside: Arc<Outside>,
    tell: impl Fn(String) + Send + 'static,
) {
    let mut connections: JoinSet<Result<(), String>> = JoinSet::new();
    let mut told = 0;
    loop {
        let accepted = tokio::select! {
            Some(ended) = connections.join_next() => {
                if let Ok(Err(why)) = ended && told < MAX_TOLD {
                    told += 1;
                    tell(why);
                }
                continue;
            }
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(take_out(stream, outside.clone()))),
            // Out of descriptors, most likely.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Takes one connection out. An error is a refusal: what the world did not answer is the client's to report.
async fn take_out(mut inner: TcpStream, outside: Arc<Outside>) -> Result<(), String> {
    let Ok(to) = wiring::destination(&inner) else {
        reset(inner);
        return Ok(());
    };
    let target = outside.target(to);
    if let Some(refusal) = refuse(to, outside.haar, is_ours) {
        reset(inner);
        return Err(format!("A connection to {target} was refused: {}.", refusal.reason()));
    }
    let Ok(mut outer) = outside.way.dial(target).await else {
        reset(inner);
        return Ok(());
    };
    let _ = inner.set_nodelay(true);
    let copied: io::Result<_> = copy_bidirectional_with_sizes(&mut inner, &mut outer, BUFFER, BUFFER).await;
    if copied.is_err() {
        reset(inner);
    }
    Ok(())
}

/// Ends a connection so that its client sees that it failed, and not that there was nothing to read.
fn reset(stream: TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(to: &str, haar: &str) -> Option<Refusal> {
        let ours = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(10, 0, 0, 7)];
        refuse(to.parse().unwrap(), haar.parse().unwrap(), |ip| ours.contains(&ip))
    }

    #[test]
    fn what_an_instance_may_not_reach_is_refused() {
        let all = "0.0.0.0:4560";
        for (to, why) in [
            ("127.0.0.1:5432", Refusal::Loopback),
            ("127.8.8.8:80", Refusal::Loopback),
            ("0.0.0.0:80", Refusal::Loopback),
            ("0.1.2.3:80", Refusal::Loopback),
            ("169.254.169.254:80", Refusal::Metadata),
            ("169.254.170.2:80", Refusal::Metadata),
            ("168.63.129.16:80", Refusal::Metadata),
            ("100.100.100.200:80", Refusal::Metadata),
            ("192.0.0.192:80", Refusal::Metadata),
            ("224.0.0.1:80", Refusal::NoHost),
            ("255.255.255.255:80", Refusal::NoHost),
            ("240.0.0.1:80", Refusal::NoHost),
            ("8.8.8.8:0", Refusal::NoHost),
            ("199.36.153.8:22", Refusal::Haar),
            ("192.0.2.2:4560", Refusal::Haar),
            ("10.0.0.7:4560", Refusal::Haar),
        ] {
            assert_eq!(refused(to, all), Some(why), "{to}");
        }
    }

    #[test]
    fn the_world_and_the_machine_s_networks_are_reached() {
        for to in ["8.8.8.8:443", "10.0.0.8:4560", "192.168.1.1:22", "192.0.2.2:5432", "198.18.0.1:443"] {
            assert_eq!(refused(to, "0.0.0.0:4560"), None, "{to}");
        }
        assert_eq!(refused("10.9.9.9:4560", "10.9.9.9:4560"), Some(Refusal::Haar));
    }

    #[test]
    fn addresses_of_this_machine_are_found() {
        assert!(is_ours(Ipv4Addr::LOCALHOST));
        assert!(!is_ours(Ipv4Addr::new(203, 0, 113, 77)));
    }

    proptest! {
        #[test]
        fn no_loopback_and_no_link_is_ever_reached(rest: [u8; 3], port: u16, ours: bool) {
            for first in [0, 127, 169, 224, 255] {
                let ip = Ipv4Addr::new(first, if first == 169 { 254 } else { rest[0] }, rest[1], rest[2]);
                let to = SocketAddrV4::new(ip, port);
                prop_assert!(refuse(to, "127.0.0.1:4560".parse().unwrap(), |_| ours).is_some());
            }
        }
    }
}
