//! The two things we ask of the kernel's network configuration: a link up, and an address on it.
//!
//! Declined: a netlink library. A request is a header, a fixed structure and at most two attributes.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The loopback interface's index: it is the first in any network namespace.
pub(super) const LOOPBACK: u32 = 1;

const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const LINK_UP: u32 = 1;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
/// No duplicate address detection: on a loopback it would only delay.
const NO_DAD: u8 = 0x02;

/// Brings an interface up.
pub(super) fn set_up(index: u32) -> io::Result<()> {
    // struct ifinfomsg: family and padding, type, index, flags, which flags change.
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    request(NEW_LINK, 0, &body)
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
    for kind in [ATTRIBUTE_LOCAL, ATTRIBUTE_ADDRESS] {
        body.extend_from_slice(&u16::try_from(bytes.len() + 4).map_err(io::Error::other)?.to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(&bytes);
    }
    match request(NEW_ADDRESS, CREATE, &body) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn request(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = u32::try_from(16 + body.len()).map_err(io::Error::other)?.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // The answer is a header and an error number, 0 for done.
    let code = answer[..length].get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("netlink: a short answer")),
    }
}
