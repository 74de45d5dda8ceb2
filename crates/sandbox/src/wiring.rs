//! What all isolated instances find in their networks, made before one is asked for.
//!
//! An instance has a loopback network and one more address, [`OWN`]. At the addresses of the [`Wiring::offers`] it finds
//! haar, and all other connections that it begins can be caught too ([`Outward::Caught`]): haar accepts them, learns
//! where they were to go ([`destination`]), and takes them there itself, or not. Nothing of the host's network is
//! changed for that, nothing needs a right over it, and the instance's own ports stay its own: it may listen on any,
//! also on those of the offers.
//!
//! What is caught is TCP over IPv4. IPv6 is unreachable at once, so clients go on to IPv4; a datagram to elsewhere is
//! refused as by a closed port. Where the kernel has no `nf_tables`, there is none of this ([`Host::redirection`]) and
//! the sockets of [`Spec::listen`] are all there is.
//!
//! [`Host::redirection`]: crate::Host::redirection
//! [`Spec::listen`]: crate::spec::Spec::listen

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::{Listen, Protocol};

/// An instance's own address, besides its loopback: what its connections come from, and what it is reached at if it
/// listens on every address.
pub const OWN: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where haar's listeners are. Connections are led there; nobody need know it.
pub(crate) const HAAR: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// The first port of haar's listeners: above those that systems give out by themselves.
pub(crate) const FIRST_PORT: u16 = 65_301;
/// The most offers.
const MAX_OFFERS: usize = 64;

/// What instances find in their networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// Where haar listens, as the inside sees it; over IPv4. An unspecified address stands for every one that is not
    /// the inside's own, and is of use only with [`Outward::Caught`]. The first that fits counts.
    pub offers: Vec<Listen>,
    /// Where all other connections lead.
    pub outward: Outward,
}

/// Where the connections lead that an instance begins, to where nothing is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outward {
    /// Nowhere: there is no such network.
    #[default]
    Nowhere,
    /// To one listener, [`Instance::take_outward`](crate::Instance::take_outward).
    Caught,
}

impl Wiring {
    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.offers.is_empty() && self.outward == Outward::Nowhere
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.offers.len() > MAX_OFFERS {
            return Err(Error::invalid(format!(
                "{} offers; at most {MAX_OFFERS} are possible",
                self.offers.len()
            )));
        }
        match self.offers.iter().find(|offer| offer.addr.is_ipv6()) {
            Some(offer) => Err(Error::invalid(format!("{} cannot be offered: only IPv4 can", offer.addr))),
            None => Ok(()),
        }
    }

    /// Something of each kind, to see whether it works.
    pub(crate) fn trial() -> Wiring {
        let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 53));
        Wiring { offers: vec![Listen { addr, protocol: Protocol::Udp }], outward: Outward::Caught }
    }
}

/// Where a connection was to go that was accepted from [`Instance::take_outward`](crate::Instance::take_outward).
///
/// # Errors
/// When it was led nowhere else but made to that listener.
pub fn destination(accepted: impl AsFd) -> io::Result<SocketAddrV4> {
    let destination = rustix::net::sockopt::ip_original_dst(accepted)?;
    if *destination.ip() == HAAR {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a connection to nowhere else"));
    }
    Ok(destination)
}
