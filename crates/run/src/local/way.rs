//! How connections of instances leave this machine.
//!
//! The machine itself may reach the world straight or by a proxy; which of them is not known here. A proxy decides by
//! name, and may be all there is that can resolve one, so a name that has to go through it is never resolved here: the
//! instance is given a placeholder ([`super::placeholders`]), and the connection to that is asked for by name.

use std::{fmt, io, net::SocketAddrV4, sync::Arc, time::Duration};

use kernel::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// How long a connection may take to come about.
const WAIT: Duration = Duration::from_secs(30);

/// Whether instances reach other networks.
#[derive(Clone, Default)]
pub enum Outbound {
    /// They do not: names that are not Google's do not exist.
    #[default]
    Off,
    /// They do, as this machine does.
    By(Arc<dyn Way>),
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outbound::Off => "Off",
            Outbound::By(_) => "By(..)",
        })
    }
}

/// Where a connection is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an address.
    Address(SocketAddrV4),
    /// To a port of a host that was asked for by a name for which [`Way::needs_name`] holds.
    Name(String, u16),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Both directions of a connection.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// Makes connections from this machine. What must not be reached has been refused before.
pub trait Way: Send + Sync + 'static {
    /// Whether connections to a host have to be asked for by its name.
    fn needs_name(&self, host: &str) -> bool;

    /// Connects.
    fn dial(&self, target: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>>;
}

/// Straight to the address.
pub struct Straight;

impl Way for Straight {
    fn needs_name(&self, _: &str) -> bool {
        false
    }

    fn dial(&self, target: Target) -> BoxFuture<'static, io::Result<Box<dyn Pipe>>> {
        Box::pin(async move {
            let stream = match &target {
                Target::Address(address) => timeout(WAIT, TcpStream::connect(address)).await??,
                Target::Name(name, port) => {
                    timeout(WAIT, TcpStream::connect((name.as_str(), *port))).await??
                }
            };
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Pipe>)
        })
    }
}
