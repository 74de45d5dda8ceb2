//! The sockets of ours that an instance finds, and where they lie.
//!
//! Where connections can be led elsewhere, ours are in nobody's way, and are made before an instance is asked for. Else
//! they are on the instance's own loopback, and one that would be in the way of the container's port is left out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sandbox::{
    Host, Listener, Redirection,
    spec::{Listen, Protocol},
    wiring::{self, Outward, Wiring},
};
use tokio::net::{TcpListener, UdpSocket};

use super::{GOOGLE, InsideSockets, METADATA, way::Outbound};

/// How sockets of ours come to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    /// By redirection, for all instances alike.
    Wired,
    /// On the loopback, for each as its port allows.
    Loopback,
}

impl Placing {
    pub(super) fn on(host: &Host) -> Placing {
        match host.redirection {
            Redirection::Works => Placing::Wired,
            Redirection::Missing(_) => Placing::Loopback,
        }
    }

    /// Where connections to an instance go to, and seem to come from.
    pub(super) fn door(self) -> Ipv4Addr {
        match self {
            Placing::Wired => wiring::OWN,
            Placing::Loopback => METADATA,
        }
    }

    /// What an instance's own spec has to ask for.
    pub(super) fn listens(self, public_port: u16, port: u16) -> Vec<Listen> {
        match self {
            Placing::Wired => Vec::new(),
            Placing::Loopback => {
                let mut all = all(METADATA, public_port);
                all.retain(|listen| listen.addr.port() != port || listen.protocol == Protocol::Udp);
                all
            }
        }
    }
}

/// What all instances find in their networks.
pub(super) fn wiring(public_port: u16, outbound: &Outbound) -> Wiring {
    match outbound {
        Outbound::Off => Wiring { offers: all(METADATA, public_port), outward: Outward::Nowhere },
        // Questions for names are ours to answer whomever they are sent to: programs have favourites.
        Outbound::By(_) => {
            Wiring { offers: all(Ipv4Addr::UNSPECIFIED, public_port), outward: Outward::Caught }
        }
    }
}

/// All sockets of ours, the name server for datagrams at the address given.
fn all(names: Ipv4Addr, public_port: u16) -> Vec<Listen> {
    let mut all = vec![
        (names, 53, Protocol::Udp),
        (METADATA, 53, Protocol::Tcp),
        (METADATA, 80, Protocol::Tcp),
        (GOOGLE, 443, Protocol::Tcp),
        (GOOGLE, 80, Protocol::Tcp),
    ];
    if !matches!(public_port, 0 | 53 | 80 | 443) {
        all.push((GOOGLE, public_port, Protocol::Tcp));
    }
    let listen = |(ip, port, protocol)| Listen { addr: SocketAddr::new(IpAddr::V4(ip), port), protocol };
    all.into_iter().map(listen).collect()
}

/// The sockets of the inside, told apart.
pub(super) struct Sockets {
    pub(super) dns_udp: Option<UdpSocket>,
    pub(super) dns_tcp: Option<TcpListener>,
    pub(super) for_inside: InsideSockets,
}

impl Sockets {
    pub(super) fn of(all: Vec<(Listen, Listener)>) -> Sockets {
        let for_inside = InsideSockets { metadata: None, https: None, http: None, local: None };
        let mut sockets = Sockets { dns_udp: None, dns_tcp: None, for_inside };
        for (Listen { addr, .. }, listener) in all {
            match listener {
                Listener::Udp(socket) => sockets.dns_udp = Some(socket),
                Listener::Tcp(listener) => *sockets.place(addr) = Some(listener),
            }
        }
        sockets
    }

    fn place(&mut self, addr: SocketAddr) -> &mut Option<TcpListener> {
        match (addr.ip() == METADATA, addr.port()) {
            (true, 53) => &mut self.dns_tcp,
            (true, _) => &mut self.for_inside.metadata,
            (false, 443) => &mut self.for_inside.https,
            (false, 80) => &mut self.for_inside.http,
            (false, _) => &mut self.for_inside.local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_its_port() {
        let listens = |port| Placing::Loopback.listens(4560, port);
        let ports = |port| listens(port).iter().map(|listen| listen.addr.port()).collect::<Vec<_>>();
        assert_eq!(ports(8080), [53, 53, 80, 443, 80, 4560]);
        assert_eq!(ports(80), [53, 53, 443, 4560]);
        assert_eq!(ports(443), [53, 53, 80, 80, 4560]);
        assert_eq!(ports(4560), [53, 53, 80, 443, 80]);
        assert_eq!(Placing::Loopback.listens(80, 8080).len(), 5);
    }

    #[test]
    fn all_is_offered_where_nothing_is_in_the_way() {
        assert_eq!(Placing::Wired.listens(4560, 80), []);
        assert_eq!(wiring(4560, &Outbound::Off).offers.len(), 6);
    }
}
