//! The network of a command that is no instance, answered as an instance's is: `haar exec --capture`.
//!
//! Google's names lead to haar's own port. All other connections are asked of a [`Way`], with the refusals that hold
//! for instances: this machine's loopback and its metadata server are not reached by a detour.

use std::{net::SocketAddr, sync::Arc};

use sandbox::{Listener, spec::Listen};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    InsideSockets, METADATA, dns,
    outward::{self, Outside},
    sockets::{self, Sockets},
    way::{Outbound, Way},
};

/// What haar offers to a command, if it listens on this port. There is no metadata server: the command has credentials.
pub fn offers(port: u16, way: Arc<dyn Way>) -> Vec<Listen> {
    let mut offers = sockets::wiring(port, &Outbound::By(way)).offers;
    offers.retain(|offer| offer.addr.port() == 53 || offer.addr.ip() != METADATA);
    offers
}

/// The sockets of a command's network.
pub struct Network {
    /// Those of the [`offers`].
    pub offers: Vec<(Listen, Listener)>,
    /// Where all other connections arrive.
    pub outward: TcpListener,
    /// Where haar's own port is.
    pub door: TcpListener,
}

/// Answers until it is dropped. `tell` is given a sentence for each connection that is refused.
pub async fn serve(
    network: Network,
    haar: SocketAddr,
    way: Arc<dyn Way>,
    tell: impl Fn(String) + Send + 'static,
) {
    let Sockets { dns_udp, dns_tcp, for_inside } = Sockets::of(network.offers);
    let InsideSockets { https, http, local, metadata: _ } = for_inside;
    let mut doors = JoinSet::new();
    for door in [https, http, local, Some(network.door)].into_iter().flatten() {
        doors.spawn(lead_to(door, haar));
    }
    let outside = Arc::new(Outside::new(way, haar));
    tokio::join!(
        dns::serve(dns_udp, dns_tcp, Arc::new(|_| false), Some(outside.clone())),
        outward::serve(network.outward, outside, tell)
    );
}

/// Copies connections to and from haar, which looks at their first bytes.
async fn lead_to(listener: TcpListener, haar: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((mut inner, _)) => drop(connections.spawn(async move {
                let mut outer = TcpStream::connect(haar).await?;
                let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
                copy_bidirectional(&mut inner, &mut outer).await
            })),
            // Out of descriptors, most likely.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}
