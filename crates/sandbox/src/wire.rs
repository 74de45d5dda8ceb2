//! Messages between haar and its helpers: small JSON texts with descriptors, over sequenced-packet sockets.
//!
//! A socket of this kind keeps messages apart and passes descriptors with the message that speaks of them. A helper is
//! ours, but the init process lives beside a workload, so what comes from it is read with limits: 64 KiB and 253
//! descriptors (the kernel's own limit) a message. What may be larger, the files of a spec, goes in a memory file.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::spec::{InsideFile, Listen, MAX_FILE_BYTES, Network, Spec};
use crate::wiring::Wiring;

/// The most bytes of one message.
const MAX_MESSAGE: usize = 64 << 10;
/// The most descriptors of one message: the kernel's `SCM_MAX_FD`.
pub(crate) const MAX_FDS: usize = 253;
/// The most bytes of a spec's text, its files apart.
const MAX_ORDER: usize = 8 << 20;

/// To the zygote. Descriptors of `Fork`: `cgroup.procs` files that the instance's init is to join.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToZygote {
    /// Which control groups to clear away when haar is gone: those whose names begin with `prefix`.
    Hello { groups: crate::cgroup::Groups, prefix: String },
    /// Make a keeper.
    Fork { walls: Walls, wiring: Wiring },
}

/// What an instance is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Walls {
    /// Namespaces, and all that goes with them; one for its network too, or the host's.
    Namespaces(Network),
    /// Nothing: it is a process like any other of the same user.
    None,
}

/// From the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromZygote {
    /// With two descriptors: the keeper's socket and the init's.
    Forked,
    /// No keeper could be made.
    Failed(Error),
}

/// To a keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// Its user and group ids are mapped.
    Mapped { groups: SetGroups },
    /// The directory (one descriptor) to clear when the instance has ended.
    Scratch,
    /// Make these listening sockets.
    Listen(Vec<Listen>),
    /// Make this many sockets to connect with.
    Sockets { count: usize, family: Family },
    /// Make a keeper beside this one, in the same network, for an instance of its own. Descriptors: its socket, its
    /// init's, and `cgroup.procs` files that the init is to join.
    Beside,
    /// Give the directory that comes along (one descriptor), and all in it, to this user of the namespace.
    Give { uid: u32 },
    /// End the instance now.
    Kill,
}

/// From a keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromKeeper {
    /// Has its namespaces; one descriptor, its `/proc/self`, by which the ids are to be mapped.
    Unshared,
    /// Has an init, whose process id this is.
    Ready { init: i32 },
    /// The network is wired. The descriptors are listening sockets: those of the offers, in their order, and then the
    /// one that catches all else.
    Wired,
    /// It cannot be, and why.
    Unwired(Error),
    /// The listening sockets, in the order asked.
    Listening,
    /// Sockets to connect with.
    Sockets { family: Family },
    /// The directory is given.
    Given,
    /// A step failed.
    Failed(Error),
    /// The init has ended by itself or been killed, and the scratch directory is empty.
    Ended,
}

/// To an init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// Try whether a root filesystem can be made in the directory given (one descriptor), and answer.
    Try,
    /// Become the instance. The first descriptor is the [`Order`], then those that it numbers.
    Run,
    /// What the program may expect outside its root is there: start it.
    Go,
    /// Send the main process a signal.
    Signal(i32),
}

/// From an init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// Everything that does not depend on the spec is done.
    Warm,
    /// A root filesystem can be made.
    Tried,
    /// The program runs. Two descriptors: its output and its errors.
    Started,
    /// A step failed and the init ends.
    Failed(Error),
    /// The main process ended with this wait status.
    Exited { status: i32 },
}

/// Whether a process may choose its supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SetGroups {
    /// Yes: ids are mapped as a range.
    Allowed,
    /// No: only one id is mapped, and there is only that user.
    Denied,
}

/// An address family to connect with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<SocketAddr> for Family {
    fn from(addr: SocketAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> AddressFamily {
        match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        }
    }
}

/// A pair of connected sockets, both closed by exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message. On a non-blocking socket a full buffer is [`io::ErrorKind::WouldBlock`].
pub(crate) fn send<M: Serialize>(socket: impl AsFd, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut once = || {
        rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    };
    let got = match rustix::io::retry_on_intr(&mut once) {
        // The other side went without reading all we said. That is told once, and before what it said last.
        Err(rustix::io::Errno::CONNRESET) => rustix::io::retry_on_intr(&mut once)?,
        got => got?,
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let fds = control.drain().filter_map(rights).flatten().collect();
    if got.flags.contains(ReturnFlags::TRUNC) || got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was cut off"));
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fds)))
}

fn rights(message: RecvAncillaryMessage<'_>) -> Option<rustix::net::AncillaryIter<'_, OwnedFd>> {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    }
}

/// What an init needs to become an instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What was asked for.
    pub(crate) spec: Spec,
    /// Where each layer comes from, the lowest first.
    pub(crate) layers: Vec<Source>,
    /// Where each bind mount comes from, in the order of `spec.mounts` (a tmpfs has none).
    pub(crate) binds: Vec<Option<Source>>,
    /// Where the scratch directory comes from, if it is used.
    pub(crate) scratch: Option<Source>,
    /// Whether more than one user exists inside.
    pub(crate) groups: SetGroups,
    /// The length of each of `spec.files`, whose bytes follow the text.
    pub(crate) lengths: Vec<usize>,
}

/// How an init gets at something of the host's.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Source {
    /// By the descriptor of a detached mount, counted from 0 after the order itself.
    Fd(usize),
    /// By its path: the init is the same user as haar.
    Path,
}

impl Order {
    /// The order as a memory file: length, text, then the files' bytes.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        let text = serde_json::to_vec(self)?;
        let fd = rustix::fs::memfd_create("order", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(fd);
        let mut head = u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
        head.extend_from_slice(&text);
        file.write_all(&head)?;
        for InsideFile { bytes, .. } in &self.spec.files {
            file.write_all(bytes)?;
        }
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads what [`Order::to_file`] wrote.
    pub(crate) fn from_file(fd: OwnedFd) -> io::Result<Order> {
        let mut file = std::fs::File::from(fd);
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_ORDER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an order is too long"));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text)?;
        let mut order: Order = serde_json::from_slice(&text)?;
        for (inside, length) in order.spec.files.iter_mut().zip(&order.lengths) {
            inside.bytes = vec![0; (*length).min(MAX_FILE_BYTES)];
            file.read_exact(&mut inside.bytes)?;
        }
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn descriptors_come_with_their_message_and_an_end_is_no_error() {
        let (here, there) = pair().unwrap();
        let (one, two) = rustix::pipe::pipe().unwrap();
        send(&here, &FromInit::Started, &[one.as_fd(), two.as_fd()]).unwrap();
        drop(here);
        let (message, fds) = receive::<FromInit>(&there).unwrap().unwrap();
        assert!(matches!(message, FromInit::Started));
        assert_eq!(fds.len(), 2);
        assert!(receive::<FromInit>(&there).unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_from_who_did_not_listen() {
        let (here, there) = pair().unwrap();
        send(&here, &ToInit::Go, &[]).unwrap();
        send(&there, &FromInit::Warm, &[]).unwrap();
        drop(there);
        assert!(matches!(receive::<FromInit>(&here).unwrap(), Some((FromInit::Warm, _))));
        assert!(receive::<FromInit>(&here).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_workload_makes_an_init_say_is_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 1..4096)) {
            let (here, there) = pair().unwrap();
            rustix::net::send(&here, &bytes, SendFlags::empty()).unwrap();
            prop_assert!(receive::<FromInit>(&there).map_or(true, |message| message.is_some()));
        }
    }
}
