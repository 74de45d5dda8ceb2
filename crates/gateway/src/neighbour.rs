//! Whose program is at the other end of a connection from this machine.
//!
//! The kernel knows the user who made a socket and tells about one connection at a time by `SOCK_DIAG`
//! (sock_diag(7)); where that is not to be had, `/proc/net/tcp` says the same, slower. Asked once a connection, and
//! only when a caller gives no credentials. When unsure, nobody is named: a connection whose other end is closed
//! already has no socket, and the kernel would name root for it.
//!
//! Haar's own number is not enough where haar has no numbers to spare: workloads and build steps then run as haar's own
//! user, in user namespaces of their own, and some of them on the machine's network. There, a connection under that
//! number belongs to somebody only if a process of haar's own user namespace holds it. Another user's number can be no
//! workload's, and its processes could not be looked into.

use std::{
    ffi::OsStr,
    fs, io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::LazyLock,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`, as a request and as its answer (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (linux/netlink.h).
const REQUEST: u16 = 1;
/// `AF_INET` and `AF_INET6` (linux/socket.h).
const INET: u8 = 2;
const INET6: u8 = 10;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// The lengths of `nlmsghdr` and of `inet_diag_msg` (linux/inet_diag.h).
const HEADER: usize = 16;
const ANSWER: usize = 72;

/// The user of the program that connected from `peer` to `here`, if the kernel tells. What looks through `/proc` does
/// so aside: on a machine with many processes that takes milliseconds.
pub(crate) async fn user(peer: SocketAddr, here: SocketAddr) -> Option<u32> {
    let (peer, here) = (canonical(peer), canonical(here));
    let socket = match by_netlink(peer, here) {
        Ok(socket) => socket?,
        Err(error) => {
            tracing::debug!(%error, "SOCK_DIAG does not tell; looking into /proc/net");
            aside(move || by_proc(peer, here)).await??
        }
    };
    let is_known = !socket.may_be_a_workloads(rustix::process::geteuid().as_raw(), *NUMBERS_ARE_SHARED)
        || aside(move || is_held_here(socket.inode)).await?;
    is_known.then_some(socket.user)
}

/// Whether a program of the user who runs haar, or of root, is at the other end of a connection on this machine.
pub async fn is_of_our_user(peer: SocketAddr, here: SocketAddr) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    user(peer, here).await.is_some_and(|user| user == ours || user == 0)
}

async fn aside<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}

/// A socket that a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    user: u32,
    inode: u64,
}

impl Socket {
    /// Whether what haar runs could have made it, going by the number alone.
    fn may_be_a_workloads(self, ours: u32, numbers_are_shared: bool) -> bool {
        numbers_are_shared && self.user == ours
    }
}

/// Whether what haar runs may have haar's own user number: always, but for root with all numbers at hand. Neither
/// changes while a process runs.
static NUMBERS_ARE_SHARED: LazyLock<bool> = LazyLock::new(|| {
    let all = || {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
    };
    !rustix::process::geteuid().is_root() || !all()
});

/// Whether a process of our own user namespace holds this socket, and none of another's.
fn is_held_here(inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let ours = fs::read_link("/proc/self/ns/user").ok();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut holders = processes.filter(|process| holds(process, OsStr::new(&wanted))).peekable();
    holders.peek().is_some() && holders.all(|process| fs::read_link(process.join("ns/user")).ok() == ours)
}

fn holds(process: &Path, socket: &OsStr) -> bool {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == socket)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn by_netlink(peer: SocketAddr, here: SocketAddr) -> io::Result<Option<Socket>> {
    let kind = (AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC);
    let socket = socket_with(kind.0, kind.1, kind.2, Some(netlink::SOCK_DIAG))?;
    send(&socket, &question(peer, here), SendFlags::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let ((answer, _), _) = recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
    read(answer).ok_or_else(|| io::Error::other("it knows no such socket, or nothing at all"))
}

/// Asks about one socket: the peer's own, from which we are the other end.
fn question(peer: SocketAddr, here: SocketAddr) -> Vec<u8> {
    let mut asked = vec![if peer.is_ipv4() { INET } else { INET6 }, TCP, 0, 0];
    asked.extend(u32::MAX.to_ne_bytes()); // in any state
    asked.extend(peer.port().to_be_bytes());
    asked.extend(here.port().to_be_bytes());
    asked.extend(sixteen(peer.ip()));
    asked.extend(sixteen(here.ip()));
    asked.extend(0_u32.to_ne_bytes()); // on any interface
    asked.extend([0xff; 8]); // without a cookie
    let mut message = Vec::with_capacity(HEADER + asked.len());
    message.extend(((HEADER + asked.len()) as u32).to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: there is one question
    message.extend(asked);
    message
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
    }
}

/// The socket in an answer, if a program still has it; nothing for an answer that tells nothing.
fn read(answer: &[u8]) -> Option<Option<Socket>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let body = answer.get(HEADER..HEADER + ANSWER).filter(|_| kind == BY_FAMILY)?;
    let number = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let (user, inode) = (number(64)?, number(68)?);
    Some((inode != 0).then_some(Socket { user, inode: inode.into() }))
}

fn by_proc(peer: SocketAddr, here: SocketAddr) -> Option<Socket> {
    let table = if peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    by_table(&fs::read_to_string(table).ok()?, peer, here)
}

/// Finds the peer's socket in `/proc/net/tcp` (proc_net_tcp(5)): its addresses are the second and third columns, in
/// the machine's byte order, its user the eighth and its inode the tenth.
fn by_table(table: &str, peer: SocketAddr, here: SocketAddr) -> Option<Socket> {
    let (peer, here) = (shown(peer), shown(here));
    let line = table.lines().find(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next() == Some(&peer) && columns.next() == Some(&here)
    })?;
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let socket = Socket { user: columns.get(7)?.parse().ok()?, inode: columns.get(9)?.parse().ok()? };
    (socket.inode != 0).then_some(socket)
}

fn shown(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let word = |four: &[u8]| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
        bytes.chunks_exact(4).map(|four| format!("{:08X}", word(four))).collect()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&Ipv6Addr::octets(&ip)),
    };
    format!("{ip}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    fn connection(address: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind(address).ok()?;
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Some((there, listener.accept().unwrap().0))
    }

    #[tokio::test]
    async fn a_connection_of_ours_is_ours() {
        let ours = rustix::process::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Some((there, here)) = connection(address) else { continue };
            let (peer, at) = (here.peer_addr().unwrap(), here.local_addr().unwrap());
            assert_eq!(user(peer, at).await, Some(ours), "{address}");
            let listed = by_proc(peer, at);
            assert_eq!(listed.map(|socket| socket.user), Some(ours), "{address}");
            match by_netlink(peer, at) {
                Ok(told) => assert_eq!(listed, told, "both tell the same"),
                Err(error) => eprintln!("SKIPPED: SOCK_DIAG: {error}"),
            }
            drop(there);
        }
    }

    /// A program of this user in a user namespace of its own, as a workload or a build step can be.
    fn walled_in(script: &str) -> Option<std::process::Child> {
        let child = std::process::Command::new("unshare")
            .args(["--user", "/bin/bash", "-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn();
        let child = child.inspect_err(|error| eprintln!("SKIPPED: unshare: {error}")).ok()?;
        Some(child)
    }

    #[test]
    fn a_connection_from_behind_walls_is_not_held_here() {
        let (there, here) = connection("127.0.0.1:0").unwrap();
        let mine = by_proc(here.peer_addr().unwrap(), here.local_addr().unwrap()).unwrap();
        assert!(is_held_here(mine.inode));
        assert!(!is_held_here(u64::MAX), "nobody holds it");
        drop(there);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(mut child) = walled_in(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read line")) else {
            return;
        };
        listener.set_nonblocking(true).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let accepted = loop {
            match listener.accept() {
                Ok((accepted, _)) => break accepted,
                Err(_) if child.try_wait().unwrap().is_some() => {
                    return eprintln!("SKIPPED: this machine allows no user namespaces");
                }
                Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let theirs = by_proc(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap()).unwrap();
        assert!(!is_held_here(theirs.inode), "it has our number, and is not of ours");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn nobody_has_a_connection_that_was_closed() {
        let (there, here) = connection("127.0.0.1:0").unwrap();
        let (peer, at) = (here.peer_addr().unwrap(), here.local_addr().unwrap());
        drop(there);
        assert_eq!(user(peer, at).await, None, "the kernel would say root");
        assert_eq!(by_proc(peer, at), None);
    }

    #[test]
    fn only_under_our_own_number_could_it_be_a_workload() {
        let of = |user| Socket { user, inode: 1 };
        assert!(of(1000).may_be_a_workloads(1000, true));
        assert!(
            !of(0).may_be_a_workloads(1000, true),
            "root's programs cannot be looked into, and need not be"
        );
        assert!(
            !of(1001).may_be_a_workloads(1000, true),
            "neither can another's, who is refused by the number"
        );
        assert!(of(0).may_be_a_workloads(0, true), "root of a container runs workloads as root");
        assert!(!of(0).may_be_a_workloads(0, false));
    }

    #[tokio::test]
    async fn there_is_no_user_where_there_is_no_connection() {
        let (here, there) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(user(here, there).await, None);
    }

    proptest! {
        #[test]
        fn no_answer_and_no_table_makes_it_panic(bytes: Vec<u8>, table in ".{0,200}") {
            let _ = read(&bytes);
            let _ = by_table(&table, "127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        }
    }
}
