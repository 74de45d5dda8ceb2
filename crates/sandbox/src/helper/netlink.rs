//! What we ask of the kernel's network configuration: a link up, an address on it, everything else local too.
//!
//! Declined: a netlink library. A request is a header, a fixed structure and a few attributes; `netfilter` builds its
//! own from the same parts.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The loopback interface's index: it is the first in any network namespace.
pub(super) const LOOPBACK: u32 = 1;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
/// Make what is not there.
pub(super) const CREATE: u16 = 0x400;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const LINK_UP: u32 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const OUTPUT_INTERFACE: u16 = 4;
const PREFERRED_SOURCE: u16 = 7;
/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// No duplicate address detection: on a loopback it would only delay.
const NO_DAD: u8 = 0x02;
/// The most bytes read of the kernel's answer.
const MAX_ANSWER: usize = 4096;
const HEADER: usize = 16;
/// The kind of message that tells how a request ended.
const ENDED: u16 = 2;

/// Brings an interface up.
pub(super) fn set_up(index: u32) -> io::Result<()> {
    // struct ifinfomsg: family and padding, type, index, flags, which flags change.
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    route(NEW_LINK, 0, &body)
}

/// Puts a single address on an interface. One that is there already is no error.
pub(super) fn add_address(index: u32, address: IpAddr) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
    };
    let family = u8::try_from(family.as_raw()).map_err(io::Error::other)?;
    let prefix = u8::try_from(bytes.len() * 8).map_err(io::Error::other)?;
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    let mut body = vec![family, prefix, NO_DAD, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    let attributes = Attributes::new().bytes(LOCAL, &bytes).bytes(ADDRESS, &bytes);
    body.extend_from_slice(&attributes.0);
    match route(NEW_ADDRESS, CREATE, &body) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Makes every IPv4 address one of this machine's own, reached from `source` unless a program binds another.
pub(super) fn own_everything(index: u32, source: Ipv4Addr) -> io::Result<()> {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const HOST_SCOPE: u8 = 254;
    const LOCAL_ROUTE: u8 = 2;
    let family = u8::try_from(AddressFamily::INET.as_raw()).map_err(io::Error::other)?;
    // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
    let mut body = vec![family, 0, 0, 0, MAIN_TABLE, STATIC, HOST_SCOPE, LOCAL_ROUTE, 0, 0, 0, 0];
    let attributes = Attributes::new()
        .bytes(OUTPUT_INTERFACE, &index.to_ne_bytes())
        .bytes(PREFERRED_SOURCE, &source.octets());
    body.extend_from_slice(&attributes.0);
    route(NEW_ROUTE, CREATE, &body)
}

fn route(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let mut request = Messages::default();
    request.push(kind, ACK | flags, body)?;
    request.ask(None)
}

/// Attributes one after the other, each a length, a number and its bytes, padded to four.
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Attributes {
        Attributes(Vec::new())
    }

    pub(super) fn bytes(mut self, number: u16, bytes: &[u8]) -> Attributes {
        // No attribute of ours comes near what two bytes can count: a rule takes some hundred bytes.
        let length = u16::try_from(bytes.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&number.to_ne_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number as `nf_tables` has them: in network order.
    pub(super) fn number(self, number: u16, value: u32) -> Attributes {
        self.bytes(number, &value.to_be_bytes())
    }

    pub(super) fn text(self, number: u16, text: &str) -> Attributes {
        self.bytes(number, &[text.as_bytes(), b"\0"].concat())
    }

    pub(super) fn nested(self, number: u16, inner: Attributes) -> Attributes {
        self.bytes(number | NESTED, &inner.0)
    }

    pub(super) fn join(mut self, more: Attributes) -> Attributes {
        self.0.extend(more.0);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Messages to the kernel that are sent as one.
#[derive(Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where the last one begins.
    last: usize,
}

impl Messages {
    pub(super) fn push(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.last = self.bytes.len();
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        // struct nlmsghdr: length, type, flags, sequence, port.
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// Has the kernel tell how the last message ended. It tells by itself of those that failed.
    pub(super) fn confirm_last(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last + 6) {
            *flags |= ACK.to_ne_bytes()[0];
        }
    }

    /// Sends them, and waits for the word that they are done.
    pub(super) fn ask(&self, protocol: Option<rustix::net::Protocol>) -> io::Result<()> {
        let kind = SocketType::RAW;
        let socket: OwnedFd =
            rustix::net::socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&socket, &self.bytes, SendFlags::empty(), &kernel)?;
        let mut answer = [0; MAX_ANSWER];
        // The kernel has answered by the time that it has taken the request.
        let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        outcome(&answer[..length])
    }
}

/// What an answer says: the first message of it is a header and an error number, 0 for done.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEADER..HEADER + 4).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ENDED), Some(0)) => Ok(()),
        (Some(ENDED), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::other("netlink: an answer that is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_padded_and_nest() {
        let attributes = Attributes::new().nested(4, Attributes::new().text(1, "ip").number(2, 7));
        let expected =
            [[20, 0, 4, 0x80].as_slice(), &[7, 0, 1, 0, b'i', b'p', 0, 0], &[8, 0, 2, 0, 0, 0, 0, 7]];
        #[cfg(target_endian = "little")]
        assert_eq!(attributes.as_bytes(), expected.concat());
    }

    #[test]
    fn an_answer_is_done_or_the_kernel_s_error() {
        let answer = |code: i32| {
            let mut bytes = vec![0; HEADER];
            bytes[4..6].copy_from_slice(&ENDED.to_ne_bytes());
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert!(outcome(&answer(0)).is_ok());
        let refused = outcome(&answer(-libc::EPERM)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(outcome(&answer(0)[..HEADER]).is_err());
        assert!(outcome(&answer(i32::MIN)).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = outcome(&bytes);
        }
    }
}
