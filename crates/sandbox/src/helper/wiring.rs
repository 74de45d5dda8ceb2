//! An instance's network: its addresses, who answers at those of others, and where everything else leads.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use super::keeper;
use super::netfilter::{self, From, Rule};
use super::netlink;
use crate::error::{Result, Step};
use crate::spec::{Listen, Protocol};
use crate::wiring::{FIRST_PORT, HAAR, OWN, Outward, Wiring};

/// Wires the namespace that this process is in. Returns the listeners of the offers, and then the one that catches
/// everything else.
pub(super) fn wire(wiring: &Wiring) -> Result<Vec<OwnedFd>> {
    for address in [OWN, HAAR] {
        add(address.into())?;
    }
    match wiring.outward {
        Outward::Nowhere => wiring.offers.iter().try_for_each(|offer| add(offer.addr.ip()))?,
        Outward::Caught => netlink::own_everything(netlink::LOOPBACK, OWN).step("route")?,
    }
    let places: Vec<_> = places(wiring).collect();
    let rules: Vec<_> = places.iter().map(|(from, protocol, to)| rule(*from, *protocol, *to)).collect();
    netfilter::load(&rules, &[OWN, HAAR]).step("redirection by nf_tables")?;
    places
        .iter()
        .map(|(_, protocol, to)| keeper::open(&Listen { addr: SocketAddr::V4(*to), protocol: *protocol }))
        .collect()
}

fn add(address: IpAddr) -> Result<()> {
    if address.is_unspecified() {
        return Ok(());
    }
    netlink::add_address(netlink::LOOPBACK, address).step(format_args!("address {address}"))
}

/// What leads to which listener, what is narrower first.
fn places(wiring: &Wiring) -> impl Iterator<Item = (Option<SocketAddrV4>, Protocol, SocketAddrV4)> {
    let offers = wiring.offers.iter().filter_map(|offer| match offer.addr {
        SocketAddr::V4(addr) => Some((Some(addr), offer.protocol)),
        SocketAddr::V6(_) => None,
    });
    let rest = (wiring.outward == Outward::Caught).then_some((None, Protocol::Tcp));
    let ports = (FIRST_PORT..).map(|port| SocketAddrV4::new(HAAR, port));
    offers.chain(rest).zip(ports).map(|((from, protocol), to)| (from, protocol, to))
}

fn rule(from: Option<SocketAddrV4>, protocol: Protocol, to: SocketAddrV4) -> Rule {
    let from = match from {
        None => From::Everywhere,
        Some(addr) if addr.ip().is_unspecified() => From::Port(addr.port()),
        Some(addr) => From::Place(addr),
    };
    Rule { protocol, from, to }
}
