//! The machine's own proxy: whether it is used for a host, and how it is asked for a tunnel.
//!
//! It is spoken to in plain HTTP, as nearly all are, and only ever asked to `CONNECT`: what goes through is TLS, so
//! it sees hosts and nothing else.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes of a proxy's answer that are read before it is given up on.
const LARGEST_ANSWER: usize = 16 << 10;

/// An HTTP proxy. What `Debug` shows has no password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`, user and password percent-encoded; port 80 when none is given.
    ///
    /// # Errors
    /// What is wrong, without the text itself: it may hold a password.
    pub fn parse(text: &str) -> Result<Proxy, String> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err("only a proxy of the form http://HOST:PORT is supported".into()),
            None => text,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = split(place).ok_or("expected http://HOST:PORT")?;
        let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(percent_decode(user))));
        Ok(Proxy { host: host.to_owned(), port: port.unwrap_or(80), authorization })
    }

    /// Asks for a tunnel on a connection to the proxy.
    pub(crate) async fn tunnel(
        &self,
        mut stream: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, String> {
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(value) = &self.authorization {
            request += &format!("Proxy-Authorization: {value}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let head = read_head(&mut stream).await?;
        let line = head.lines().next().unwrap_or_default();
        let accepted =
            line.starts_with("HTTP/1.") && line.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
        if accepted { Ok(stream) } else { Err(format!("it answered '{}'", line.escape_debug())) }
    }
}

/// Reads the head of an answer and nothing beyond it: what follows belongs to the tunnel.
async fn read_head(stream: &mut TcpStream) -> Result<String, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LARGEST_ANSWER {
            return Err("its answer has no end".into());
        }
        head.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`; `None` for anything else.
fn split(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, after) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match after.strip_prefix(':') {
        Some(port) => Some(port.parse().ok()?),
        None if after.is_empty() => None,
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let code = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    out
}

/// What is reached without the proxy: hosts with everything below them, addresses and networks, or `*` for all.
#[derive(Clone, Debug, Default)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug)]
enum Exception {
    All,
    Name(String, Option<u16>),
    Network(IpAddr, u8),
}

impl Exceptions {
    /// Reads a list as `NO_PROXY` has it, separated by commas or spaces. What cannot be read is left out.
    pub fn parse(list: &str) -> Self {
        let entries = list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
        Exceptions(entries.filter_map(Exception::parse).collect())
    }

    pub(crate) fn hold(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|exception| exception.holds(host, port))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Exception> {
        if entry == "*" {
            return Some(Exception::All);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            return Some(Exception::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            return Some(Exception::Network(address, 128));
        }
        let (host, port) = split(entry.trim_start_matches('*').trim_start_matches('.'))?;
        Some(Exception::Name(host.to_ascii_lowercase(), port))
    }

    fn holds(&self, host: &str, port: u16) -> bool {
        match self {
            Exception::All => true,
            Exception::Name(name, only) => {
                let host = host.to_ascii_lowercase();
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && only.is_none_or(|only| only == port)
            }
            Exception::Network(network, bits) => {
                host.parse::<IpAddr>().is_ok_and(|address| within(address, *network, *bits))
            }
        }
    }
}

/// Whether the first `bits` of two addresses of one family are the same.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let shift = 32u32.saturating_sub(bits.into());
            (a.to_bits() ^ n.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let shift = 128u32.saturating_sub(bits.into());
            (a.to_bits() ^ n.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_proxy_is_read_and_does_not_show_its_password() {
        let proxy = Proxy::parse("http://us%40er:hunter2@proxy.example:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization, Some(format!("Basic {}", STANDARD.encode("us@er:hunter2"))));
        assert_eq!(format!("{proxy:?}"), "proxy.example:3128");
        for wrong in ["https://user:hunter2@proxy", "http://proxy:port", "http://", "socks5://p:1"] {
            assert!(!Proxy::parse(wrong).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn exceptions_hold_for_what_they_name() {
        let list = Exceptions::parse("localhost, .corp.example,10.0.0.0/8 one.example:8443,::1,nonsense/x");
        for (host, port) in
            [("a.corp.example", 443), ("CORP.example", 1), ("10.2.3.4", 1), ("one.example", 8443), ("::1", 1)]
        {
            assert!(list.hold(host, port), "{host}");
        }
        for (host, port) in [("notcorp.example", 443), ("11.0.0.1", 1), ("one.example", 443), ("example", 1)]
        {
            assert!(!list.hold(host, port), "{host}");
        }
        assert!(Exceptions::parse("*").hold("anything", 1) && !Exceptions::parse("").hold("anything", 1));
    }

    proptest! {
        #[test]
        fn nothing_that_is_configured_panics(text in "\\PC{0,40}", list in "[a-z0-9.:/*, \\[\\]-]{0,60}", port: u16) {
            let _ = Proxy::parse(&text);
            let exceptions = Exceptions::parse(&list);
            let _ = (exceptions.hold(&text, port), exceptions.hold("10.0.0.1", port), exceptions.hold("::1", port));
        }
    }
}
