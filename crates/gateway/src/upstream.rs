//! The way out: connections to hosts that are not ours, directly or through the machine's own proxy.
//!
//! Names are resolved here once, and the connection is made to the addresses that were looked at, so a name cannot
//! show one address to the check and another to the connection. Addresses of the host's own metadata server are
//! refused: its tokens are the real cloud's. A proxy of the machine is spoken to in plain HTTP only, as nearly all
//! are; one that itself wants TLS is refused when it is configured, not when it is needed.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{detect::Rewound, hosts};

/// Bytes of a proxy's answer to CONNECT that are read before it is given up on.
const LARGEST_ANSWER: usize = 16 << 10;

/// How the machine itself reaches the internet.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
}

/// A proxy of the machine.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A host and everything below it.
    Name(String, Option<u16>),
    Network(IpAddr, u8),
}

impl Upstream {
    /// Straight to the internet.
    pub fn direct() -> Self {
        Upstream::default()
    }

    /// What the usual variables say, asked for by name: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, the
    /// lower case first as curl has it. Empty ones count as unset.
    ///
    /// # Errors
    /// Which variable is wrong, and why; without a password that it may hold.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let either = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()]
                .into_iter()
                .find_map(|name| Some((get(&name).filter(|value| !value.trim().is_empty())?, name)))
        };
        let proxy = |name: &str| match either(name).or_else(|| either("ALL_PROXY")) {
            Some((value, name)) => {
                Proxy::parse(value.trim()).map(Some).map_err(|why| format!("{name}: {why}"))
            }
            None => Ok(None),
        };
        let except = either("NO_PROXY").map(|(list, _)| exceptions(&list)).unwrap_or_default();
        Ok(Upstream { http: proxy("HTTP_PROXY")?, https: proxy("HTTPS_PROXY")?, except })
    }

    /// The same without a proxy that is haar itself, listening at `own`.
    pub fn other_than(mut self, own: SocketAddr) -> Self {
        let is_own = |host: &str, port| {
            port == own.port() && (hosts::is_loopback(host) || host.parse() == Ok(own.ip()))
        };
        self.http = self.http.filter(|proxy| !proxy.is_at(is_own));
        self.https = self.https.filter(|proxy| !proxy.is_at(is_own));
        self
    }

    /// Whether a tunnel to this host goes through the machine's proxy.
    pub fn is_proxied(&self, host: &str, port: u16) -> bool {
        self.for_tunnel(host, port).is_some()
    }

    /// A connection to a host, straight or through the machine's proxy. `wait` is for each address, and for a proxy's
    /// answer three times as long.
    ///
    /// # Errors
    /// What is refused (metadata servers), and what could not be reached, as a sentence.
    pub async fn tunnel(
        &self,
        host: &str,
        port: u16,
        wait: Duration,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
        let made = tunnel(self.for_tunnel(host, port), host, port, wait).await;
        made.map_err(|failure| match failure {
            Failure::Forbidden(why) => io::Error::new(io::ErrorKind::PermissionDenied, why),
            Failure::Unreachable(why) => io::Error::other(why),
        })
    }

    /// The proxy for a tunnel to this host, if not straight.
    pub(crate) fn for_tunnel(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.https.as_ref().filter(|_| !self.excepted(host, port))
    }

    /// The proxy for a plain request to this host, if not straight.
    pub(crate) fn for_plain(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.http.as_ref().filter(|_| !self.excepted(host, port))
    }

    fn excepted(&self, host: &str, port: u16) -> bool {
        hosts::is_loopback(host) || self.except.iter().any(|exception| exception.holds(host, port))
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Proxy, String> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!("a proxy over {scheme} is not supported; use http://HOST:PORT"));
            }
            None => text,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = split(place).ok_or("expected http://HOST:PORT")?;
        let authorization = user.map(basic).transpose()?;
        Ok(Proxy { host: host.to_owned(), port: port.unwrap_or(80), authorization })
    }

    /// Whether this holds for where the proxy is.
    pub(crate) fn is_at(&self, holds: impl Fn(&str, u16) -> bool) -> bool {
        holds(&self.host, self.port)
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// A proxy's credentials as a header: `user:password`, each percent-encoded.
fn basic(user: &str) -> Result<HeaderValue, String> {
    let decoded = percent_decode(user);
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(decoded)))
        .map_err(|_| "its user or password cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    out
}

/// Host and port of `host:port`, `host`, `[v6]:port` or `[v6]`; `None` for a bad port or an empty host.
pub(crate) fn split(place: &str) -> Option<(&str, Option<u16>)> {
    let host = hosts::bare(place);
    let after = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.1,
        None => place.get(host.len()..)?.trim_start_matches('.'),
    };
    let port = match after.strip_prefix(':') {
        Some(port) => Some(port.parse().ok()?),
        None if after.is_empty() => None,
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

fn exceptions(list: &str) -> Vec<Exception> {
    list.split([',', ' '])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .filter_map(Exception::parse)
        .collect()
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
            return Some(Exception::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        let (host, port) = split(entry.trim_start_matches('*').trim_start_matches('.'))?;
        Some(Exception::Name(host.to_ascii_lowercase(), port))
    }

    fn holds(&self, host: &str, port: u16) -> bool {
        match self {
            Exception::All => true,
            Exception::Name(name, only) => {
                only.is_none_or(|only| only == port)
                    && (host.eq_ignore_ascii_case(name) || hosts::ends_below(host, &format!(".{name}")))
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

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is never made.
    Forbidden(String),
    /// It could not be made.
    Unreachable(String),
}

/// A tunnel to a host: straight, or through the machine's proxy.
pub(crate) async fn tunnel(
    proxy: Option<&Proxy>,
    host: &str,
    port: u16,
    wait: Duration,
) -> Result<Rewound<TcpStream>, Failure> {
    let Some(proxy) = proxy else {
        return Ok(Rewound::new(Bytes::new(), dial(host, port, wait).await?));
    };
    refuse_disguised(host)?;
    let stream = to_proxy(proxy, wait).await?;
    let unreachable = |why: String| {
        Failure::Unreachable(format!("the proxy {proxy:?} did not connect to {host}:{port}: {why}"))
    };
    match timeout(wait * 3, ask(stream, proxy, host, port)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(why)) => Err(unreachable(why)),
        Err(_) => Err(unreachable("it did not answer in time".to_owned())),
    }
}

/// A connection for a plain request: to the host, or to the machine's proxy.
pub(crate) async fn plain(
    proxy: Option<&Proxy>,
    host: &str,
    port: u16,
    wait: Duration,
) -> Result<TcpStream, Failure> {
    match proxy {
        None => dial(host, port, wait).await,
        Some(proxy) => {
            refuse_disguised(host)?;
            to_proxy(proxy, wait).await
        }
    }
}

async fn to_proxy(proxy: &Proxy, wait: Duration) -> Result<TcpStream, Failure> {
    match timeout(wait, TcpStream::connect((proxy.host.as_str(), proxy.port))).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => {
            Err(Failure::Unreachable(format!("the machine's proxy {proxy:?} could not be reached: {error}")))
        }
        Err(_) => Err(Failure::Unreachable(format!("the machine's proxy {proxy:?} did not answer in time"))),
    }
}

/// Asks a proxy for a tunnel.
async fn ask(
    mut stream: TcpStream,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<Rewound<TcpStream>, String> {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|error| error.to_string())?;
    let mut answer = BytesMut::new();
    let end = loop {
        if stream.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            return Err("it closed the connection".to_owned());
        }
        if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if answer.len() > LARGEST_ANSWER {
            return Err("its answer has no end".to_owned());
        }
    };
    let rest = answer.split_off(end).freeze();
    let line = String::from_utf8_lossy(answer[..].split(|byte| *byte == b'\r').next().unwrap_or_default())
        .into_owned();
    let accepted =
        line.starts_with("HTTP/1.") && line.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    if accepted { Ok(Rewound::new(rest, stream)) } else { Err(format!("it answered '{line}'")) }
}

/// Connects to a host directly, to the first of its addresses that answers.
async fn dial(host: &str, port: u16, wait: Duration) -> Result<TcpStream, Failure> {
    let unreachable =
        |why: String| Failure::Unreachable(format!("{host}:{port} could not be reached: {why}"));
    if hosts::is_metadata_name(host) {
        return Err(forbidden(host));
    }
    let addresses: Vec<SocketAddr> = match timeout(wait, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("its name could not be resolved in time".to_owned())),
    };
    if addresses.iter().any(|address| hosts::is_metadata(address.ip())) {
        return Err(forbidden(host));
    }
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match timeout(wait, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = "it did not answer in time".to_owned(),
        }
    }
    Err(unreachable(why))
}

fn forbidden(host: &str) -> Failure {
    Failure::Forbidden(format!(
        "haar does not connect to {host}: it is the metadata server of the machine that haar runs on."
    ))
}

/// Refuses metadata servers where another proxy does the resolving: by name, by address, and by the forms of an IPv4
/// address that only some resolvers accept (`0xa9fea9fe`, `2852039166`, `169.254.43518`).
fn refuse_disguised(host: &str) -> Result<(), Failure> {
    let numeric = |label: &str| {
        label.starts_with("0x") || label.starts_with("0X") || label.bytes().all(|byte| byte.is_ascii_digit())
    };
    let refused = match host.parse::<IpAddr>() {
        Ok(address) => hosts::is_metadata(address),
        Err(_) => hosts::is_metadata_name(host) || host.rsplit('.').next().is_some_and(numeric),
    };
    if refused { Err(forbidden(host)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Upstream, String> {
        Upstream::from_variables(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn variables_name_a_proxy_and_its_exceptions() {
        let upstream = from(&[
            ("HTTPS_PROXY", "http://us%40er:p%3Aw@proxy.example:3128/"),
            ("no_proxy", "localhost, .corp.example,10.0.0.0/8,exact.example:8443"),
        ])
        .unwrap();
        let proxy = upstream.for_tunnel("github.com", 443).unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.authorization.as_ref().unwrap(), &format!("Basic {}", STANDARD.encode("us@er:p:w")));
        for host in ["localhost", "127.0.0.1", "a.corp.example", "corp.example", "10.1.2.3", "::1"] {
            assert!(upstream.for_tunnel(host, 443).is_none(), "{host}");
        }
        assert!(upstream.for_tunnel("exact.example", 8443).is_none());
        assert!(upstream.for_tunnel("exact.example", 443).is_some());
        assert!(upstream.for_plain("github.com", 80).is_none());
        assert!(!format!("{upstream:?}").contains("Basic"));
    }

    #[test]
    fn haar_is_no_proxy_of_its_own() {
        let upstream = from(&[("HTTPS_PROXY", "http://localhost:4560")]).unwrap();
        assert!(upstream.clone().other_than(([127, 0, 0, 1], 4561).into()).is_proxied("github.com", 443));
        assert!(!upstream.other_than(([127, 0, 0, 1], 4560).into()).is_proxied("github.com", 443));
    }

    #[test]
    fn a_wrong_variable_is_named_without_its_password() {
        let error = from(&[("https_proxy", "https://user:hunter2@proxy:1")]).unwrap_err();
        assert!(error.starts_with("https_proxy: ") && !error.contains("hunter2"), "{error}");
        assert!(from(&[("HTTP_PROXY", "http://proxy:port")]).is_err());
        assert!(from(&[("HTTPS_PROXY", "")]).unwrap().https.is_none());
    }

    #[test]
    fn metadata_servers_are_refused_in_disguise() {
        for host in
            ["169.254.169.254", "0xa9fea9fe", "2852039166", "169.254.43518", "metadata", "fd00:ec2::254"]
        {
            assert!(refuse_disguised(host).is_err(), "{host}");
        }
        for host in ["github.com", "8.8.8.8", "3com.example", "x0.example"] {
            assert!(refuse_disguised(host).is_ok(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_metadata_server_is_refused() {
        for host in ["169.254.169.254", "2852039166", "::ffff:169.254.169.254", "metadata.google.internal"] {
            let failure = dial(host, 80, Duration::from_secs(5)).await.unwrap_err();
            assert!(matches!(failure, Failure::Forbidden(_)), "{host}: {failure:?}");
        }
    }

    #[test]
    fn places_are_split() {
        assert_eq!(split("a.example:443"), Some(("a.example", Some(443))));
        assert_eq!(split("a.example"), Some(("a.example", None)));
        assert_eq!(split("a.example.:80"), Some(("a.example", Some(80))));
        assert_eq!(split("[::1]:80"), Some(("::1", Some(80))));
        assert_eq!(split("a:99999"), None);
        assert_eq!(split("[::1]x"), None);
        assert_eq!(split(""), None);
        assert_eq!(split(":80"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_configured_panics(text in ".{0,40}", list in "[a-z0-9.:/*, \\[\\]-]{0,60}", port: u16) {
            let _ = Proxy::parse(&text);
            let _ = split(&text);
            let _ = refuse_disguised(&text);
            for exception in exceptions(&list) {
                let _ = (exception.holds(&text, port), exception.holds("10.0.0.1", port));
            }
        }
    }
}
