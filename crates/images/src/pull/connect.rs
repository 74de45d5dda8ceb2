//! Connections to registries: TCP or a tunnel, TLS, and one HTTP/1.1 connection on top.
//!
//! Plain HTTP is spoken to this machine only. Names are resolved here once, and link-local addresses are refused:
//! the metadata server of a cloud machine is there, and no registry is.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Failure, Registries, unreachable};

/// Where distributions keep their bundle, first come, first taken.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];
/// A bundle may be this large; the system's is a quarter of a megabyte.
const LARGEST_BUNDLE: u64 = 16 << 20;

/// One connection, ready for a request.
pub(crate) type Sender = SendRequest<Empty<Bytes>>;

/// Who is spoken to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whether with TLS.
    pub(crate) tls: bool,
    /// The host, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The registry that a reference's host means: plain HTTP on this machine, TLS everywhere else.
    pub(crate) fn of_registry(host: &str) -> Result<Origin, Failure> {
        let host =
            if matches!(host, "docker.io" | "index.docker.io") { "registry-1.docker.io" } else { host };
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => {
                let port = port.parse().map_err(|_| unreachable(format!("'{port}' is not a port.")))?;
                (name, Some(port))
            }
            None => (host, None),
        };
        let tls = !is_loopback(name);
        Ok(Origin { tls, host: name.to_ascii_lowercase(), port: port.unwrap_or(default_port(tls)) })
    }

    /// Of an absolute address that somebody else gave.
    pub(crate) fn of(uri: &Uri) -> Result<Origin, Failure> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            Some("http") => return Err(unreachable(format!("Plain HTTP to {host} is refused."))),
            _ => return Err(unreachable("The registry leads to what is not an address.".into())),
        };
        Ok(Origin { tls, port: uri.port_u16().unwrap_or(default_port(tls)), host })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// As in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    pub(crate) fn url(&self, path_and_query: &str) -> String {
        format!("{}://{}{path_and_query}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) registries: Registries,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(registries: Registries) -> Self {
        Connector { registries, tls: OnceLock::new() }
    }

    pub(crate) async fn open(&self, origin: &Origin) -> Result<Sender, Failure> {
        let made = timeout(self.registries.connect, self.connect(origin)).await;
        let why = match made {
            Ok(Ok(sender)) => return Ok(sender),
            Ok(Err(why)) => why,
            Err(_) => "no connection came about in time".into(),
        };
        Err(unreachable(format!("{} cannot be reached: {why}.", origin.authority())))
    }

    async fn connect(&self, origin: &Origin) -> Result<Sender, String> {
        let stream = self.stream(origin).await?;
        if !origin.tls {
            return speak(stream).await;
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(self.tls()?);
        speak(connector.connect(name, stream).await.map_err(|error| error.to_string())?).await
    }

    async fn stream(&self, origin: &Origin) -> Result<TcpStream, String> {
        let Origin { host, port, .. } = origin;
        let proxy = self.registries.proxy.as_ref();
        match proxy.filter(|_| !origin.is_loopback() && !self.registries.except.hold(host, *port)) {
            None => dial(host, *port).await,
            Some(proxy) => {
                let failed = |why: String| format!("the proxy {proxy:?} did not connect to it: {why}");
                if host.parse().is_ok_and(is_link_local) {
                    return Err(LINK_LOCAL.into());
                }
                let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
                proxy
                    .tunnel(stream.map_err(|error| failed(error.to_string()))?, host, *port)
                    .await
                    .map_err(failed)
            }
        }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = Arc::new(client_config(roots(self.registries.roots.as_deref())?)?);
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, String> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

const LINK_LOCAL: &str = "link-local addresses are refused";

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    if addresses.iter().any(|address| is_link_local(address.ip())) {
        return Err(LINK_LOCAL.into());
    }
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn client_config(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates that the machine trusts: those of the file or directory that is named, else the system's.
fn roots(named: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    named.into_iter().for_each(|path| add(&mut roots, path));
    if roots.is_empty() {
        let system = SYSTEM.iter().map(Path::new).find(|path| path.exists());
        system.into_iter().for_each(|path| add(&mut roots, path));
    }
    if roots.is_empty() {
        return Err("this machine has no trusted certificates; name a file of them in SSL_CERT_FILE".into());
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, path: &Path) {
    let files: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_owned()],
    };
    let readable = |file: &&PathBuf| {
        fs::metadata(file).is_ok_and(|about| about.is_file() && about.len() <= LARGEST_BUNDLE)
    };
    for bytes in files.iter().filter(readable).flat_map(fs::read) {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
    }
}
