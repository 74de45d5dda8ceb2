//! Redirections inside an instance's own network, by `nf_tables`, in one request to the kernel.
//!
//! A connection that an instance begins has its destination exchanged before it is routed, so nothing has to listen
//! where the instance believes it connects to, and the instance's own listeners are in nobody's way. The kernel
//! remembers what was exchanged (`SO_ORIGINAL_DST`).
//!
//! Declined: `nft` and its library. The rules are of one form, known beforehand, and loaded while an instance waits.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::netlink::{Attributes, CREATE, Messages};
use crate::spec::Protocol;

/// One exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) protocol: Protocol,
    pub(super) from: From,
    pub(super) to: SocketAddrV4,
}

/// Which connections a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// To this address and port.
    Place(SocketAddrV4),
    /// To this port of any address that is not the inside's own.
    Port(u16),
    /// To any address that is not the inside's own.
    Everywhere,
}

// linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const TABLES: u16 = 10;
// linux/netfilter/nf_tables.h: what a message makes.
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const APPEND: u16 = 0x800;
const IPV4: u8 = 2;

const TABLE: &str = "haar";
const EXCHANGE: &str = "exchange";
const UNTRACKED: &str = "untracked";
/// The hook that what a local program sends passes.
const LOCAL_OUT: u32 = 3;
/// Where chains stand on it: before connections are tracked, and where destinations are exchanged.
const BEFORE_TRACKING: i32 = -300;
const AT_EXCHANGE: i32 = -100;

/// Offsets in an IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const LOOPBACK_NET: u8 = 127;

/// Loads the rules, of which the first that holds counts. `own` are the inside's own addresses besides its loopback
/// network: what is between them stays untracked, which spares requests to the instance the cost.
pub(super) fn load(rules: &[Rule], own: &[Ipv4Addr]) -> io::Result<()> {
    let mut batch = Messages::default();
    batch.push(BATCH_BEGIN, 0, &generic(0, TABLES))?;
    make(&mut batch, NEW_TABLE, Attributes::new().text(1, TABLE))?;
    make(&mut batch, NEW_CHAIN, chain(UNTRACKED, "filter", BEFORE_TRACKING))?;
    make(&mut batch, NEW_CHAIN, chain(EXCHANGE, "nat", AT_EXCHANGE))?;
    let loopback = within(SOURCE, &[LOOPBACK_NET]).join(within(DESTINATION, &[LOOPBACK_NET]));
    make(&mut batch, NEW_RULE, rule(UNTRACKED, loopback.join(named("notrack", Attributes::new()))))?;
    for address in own {
        let alone = within(SOURCE, &address.octets()).join(within(DESTINATION, &address.octets()));
        make(&mut batch, NEW_RULE, rule(UNTRACKED, alone.join(named("notrack", Attributes::new()))))?;
    }
    for one in rules {
        make(&mut batch, NEW_RULE, rule(EXCHANGE, one.expressions(own)))?;
    }
    batch.confirm_last();
    batch.push(BATCH_END, 0, &generic(0, TABLES))?;
    batch.ask(Some(rustix::net::netlink::NETFILTER))
}

fn make(batch: &mut Messages, what: u16, attributes: Attributes) -> io::Result<()> {
    let mut body = generic(IPV4, 0).to_vec();
    body.extend_from_slice(attributes.as_bytes());
    batch.push(TABLES << 8 | what, CREATE | if what == NEW_RULE { APPEND } else { 0 }, &body)
}

/// struct nfgenmsg: family, version, a number in network order.
fn generic(family: u8, number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [family, 0, high, low]
}

fn chain(name: &str, kind: &str, priority: i32) -> Attributes {
    let hook = Attributes::new().number(1, LOCAL_OUT).bytes(2, &priority.to_be_bytes());
    Attributes::new().text(1, TABLE).text(3, name).nested(4, hook).text(7, kind)
}

fn rule(chain: &str, expressions: Attributes) -> Attributes {
    Attributes::new().text(1, TABLE).text(2, chain).nested(4, expressions)
}

impl Rule {
    fn expressions(&self, own: &[Ipv4Addr]) -> Attributes {
        let matches = match self.from {
            From::Place(place) => {
                within(DESTINATION, &place.ip().octets()).join(self.is_protocol()).join(to_port(place.port()))
            }
            From::Port(port) => foreign(own).join(self.is_protocol()).join(to_port(port)),
            From::Everywhere => foreign(own).join(self.is_protocol()),
        };
        matches.join(exchange(self.to))
    }

    fn is_protocol(&self) -> Attributes {
        const META_PROTOCOL: u32 = 16;
        let number = match self.protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        let load = Attributes::new().number(1, REGISTER).number(2, META_PROTOCOL);
        // The numbers of protocols take one byte.
        named("meta", load).join(compare(EQUAL, &number.to_le_bytes()[..1]))
    }
}

/// Registers that expressions put values in.
const REGISTER: u32 = 1;
const SECOND: u32 = 2;
const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// Holds for destinations other than the inside's own.
fn foreign(own: &[Ipv4Addr]) -> Attributes {
    let not =
        |bytes: &[u8]| payload(NETWORK_HEADER, DESTINATION, bytes.len()).join(compare(DIFFERENT, bytes));
    own.iter().fold(not(&[LOOPBACK_NET]), |all, address| all.join(not(&address.octets())))
}

/// Holds if the address at an offset begins with these bytes.
fn within(offset: u32, bytes: &[u8]) -> Attributes {
    payload(NETWORK_HEADER, offset, bytes.len()).join(compare(EQUAL, bytes))
}

fn to_port(port: u16) -> Attributes {
    const DESTINATION_PORT: u32 = 2;
    payload(TRANSPORT_HEADER, DESTINATION_PORT, 2).join(compare(EQUAL, &port.to_be_bytes()))
}

fn payload(header: u32, offset: u32, length: usize) -> Attributes {
    // At most the four bytes of an address.
    let length = u32::try_from(length).unwrap_or(4);
    let load = Attributes::new().number(1, REGISTER).number(2, header).number(3, offset).number(4, length);
    named("payload", load)
}

fn compare(operator: u32, bytes: &[u8]) -> Attributes {
    named("cmp", Attributes::new().number(1, REGISTER).number(2, operator).nested(3, value(bytes)))
}

fn exchange(to: SocketAddrV4) -> Attributes {
    const DESTINATION_NAT: u32 = 1;
    let address = Attributes::new().number(1, REGISTER).nested(2, value(&to.ip().octets()));
    let port = Attributes::new().number(1, SECOND).nested(2, value(&to.port().to_be_bytes()));
    let nat = Attributes::new()
        .number(1, DESTINATION_NAT)
        .number(2, IPV4.into())
        .number(3, REGISTER)
        .number(5, SECOND);
    named("immediate", address).join(named("immediate", port)).join(named("nat", nat))
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(1, bytes)
}

/// One expression of a rule.
fn named(name: &str, data: Attributes) -> Attributes {
    Attributes::new().nested(1, Attributes::new().text(1, name).nested(2, data))
}
