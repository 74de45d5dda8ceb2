//! A command in a network of its own, with this machine's files and as this machine's user.
//!
//! For programs that heed no proxy: whatever address they connect to, whatever name they ask for, haar answers. The
//! network is that of an instance ([`crate::wiring`]); besides, a few files are seen with other contents
//! ([`Order::covers`]): whom to ask for names, and whom to trust.
//!
//! Declined: walls. The command may do what its user may do, sees all processes and writes the same files. What differs
//! is that `localhost` is another one in there. A user other than root finds no setuid programs of use, since only its
//! own id exists in the namespace that allows all this.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::error::{Error, Result, Step};
use crate::instance::{Listener, listener};
use crate::spec::{Listen, Protocol};
use crate::wire;
use crate::wiring::{Outward, Wiring};

/// The name under which the program is executed to become the command.
pub(crate) const NAME: &str = "haar-capture";

/// What a command finds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Who answers in its network. All connections to elsewhere are caught.
    pub offers: Vec<Listen>,
    /// An address of its loopback at which haar listens too, for clients that do heed proxies.
    pub door: SocketAddr,
    /// Files in the place of others: (what is read, at which path). Paths that are not there are left out.
    pub covers: Vec<(PathBuf, PathBuf)>,
}

impl Order {
    pub(crate) fn wiring(&self) -> Wiring {
        Wiring { offers: self.offers.clone(), outward: Outward::Caught }
    }

    pub(crate) fn door(&self) -> Listen {
        Listen { addr: self.door, protocol: Protocol::Tcp }
    }
}

/// What the process that becomes the command says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// Its network is there. Descriptors: the offers', what catches the rest, the door.
    Wired,
    /// It cannot become the command.
    Failed(Error),
}

/// A command that runs, and what answers in its network.
pub struct Captured {
    /// The command.
    pub child: Child,
    /// The offers.
    pub offers: Vec<(Listen, Listener)>,
    /// Where all other connections arrive ([`crate::wiring::destination`]).
    pub outward: TcpListener,
    /// The listener at [`Order::door`].
    pub door: TcpListener,
}

/// Starts a command, the program first. `dress` sets what else the process is to have, its variables above all. Blocks
/// for some milliseconds; to be called in a runtime, which will watch the listeners.
///
/// # Errors
/// Of kind [`NotFound`](crate::Kind::NotFound) or [`NotExecutable`](crate::Kind::NotExecutable) for the program; of kind
/// [`Host`](crate::Kind::Host) where this machine allows no such namespaces.
pub fn start(command: &[OsString], order: &Order, dress: impl FnOnce(&mut Command)) -> Result<Captured> {
    order.wiring().check()?;
    let (here, there) = wire::pair().step("socket pair")?;
    // Inherited by this one process: it is executed at once, and closes it in turn.
    rustix::io::fcntl_setfd(&there, rustix::io::FdFlags::empty()).step("socket")?;
    let mut process = Command::new("/proc/self/exe");
    process.arg0(NAME).arg(there.as_raw_fd().to_string()).args(command);
    dress(&mut process);
    let child = process.spawn().step("execute the helper")?;
    drop(there);
    finish(&here, child, order)
}

fn finish(socket: &OwnedFd, mut child: Child, order: &Order) -> Result<Captured> {
    let wired = wire::send(socket.as_fd(), order, &[]).step("helper").and_then(|()| await_wires(socket));
    match wired.and_then(|fds| listeners(fds, order)) {
        Ok((offers, outward, door)) => Ok(Captured { child, offers, outward, door }),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// The sockets of a process that has then become the command: that closes its end.
fn await_wires(socket: &OwnedFd) -> Result<Vec<OwnedFd>> {
    let fds = match wire::receive(socket).step("helper")? {
        Some((Report::Wired, fds)) => fds,
        Some((Report::Failed(error), _)) => return Err(error),
        None => return Err(Error::host("the helper ended early")),
    };
    match wire::receive(socket).step("helper")? {
        None => Ok(fds),
        Some((Report::Failed(error), _)) => Err(error),
        Some((Report::Wired, _)) => Err(Error::host("the helper spoke out of turn")),
    }
}

type Listeners = (Vec<(Listen, Listener)>, TcpListener, TcpListener);

fn listeners(fds: Vec<OwnedFd>, order: &Order) -> Result<Listeners> {
    let mut fds = fds.into_iter();
    let offered = order.offers.iter().zip(fds.by_ref());
    let offers = offered
        .map(|(offer, fd)| Ok((*offer, listener(offer, fd).step("listener")?)))
        .collect::<Result<Vec<_>>>()?;
    let mut next = || {
        let fd = fds.next().ok_or_else(|| Error::host("the helper sent too few sockets"))?;
        TcpListener::from_std(fd.into()).step("listener")
    };
    Ok((offers, next()?, next()?))
}
