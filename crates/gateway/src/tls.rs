//! TLS for Google's hosts: an authority of our own, and certificates minted as they are asked for.
//!
//! The authority is made once per data directory and never leaves it; programs trust it because `haar exec` and
//! workloads are given a bundle that holds it. A certificate is minted on a host's first handshake, for exactly
//! that host, and only for hosts that are answered here: for any other name the handshake fails, so that this
//! authority can never stand between a program and the rest of the internet. There is no revocation and no
//! intermediate: whoever distrusts the authority deletes its directory, and a new one is made.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs as provider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::hosts::{self, Ours};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority itself is valid.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3652 * 24 * 60 * 60);
/// How long a minted certificate is valid: no client we know refuses this or less.
const MINTED_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// When a minted certificate is minted anew.
const MINTED_FRESH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How many minted certificates are kept in memory.
const MINTED_MOST: usize = 1024;

/// Our own certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    path: PathBuf,
}

impl Ca {
    /// Opens the authority kept in a directory, or makes a new one there: `ca.pem`, for everyone to read, and
    /// `ca.key`, mode 0600. A key without its certificate is given a new one.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the key is none of ours.
    pub fn open(directory: &Path) -> io::Result<Ca> {
        let (path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        let key = match fs::read_to_string(&key_path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory)?;
                let _ = fs::remove_file(&path);
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
                write_whole(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
            Err(error) => return Err(error),
        };
        let params = authority_params(&key);
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
                write_whole(&path, pem.as_bytes(), 0o644)?;
                pem
            }
            Err(error) => return Err(error),
        };
        Ok(Ca { issuer: Issuer::new(params, key), pem, path })
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The file that holds the certificate.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The authority's certificate but for its signature. It follows from the key and the day, so the issuer can be
/// had again from the key alone; the unit tells the authorities of two data directories apart.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let hash = digest::digest(&digest::SHA256, key.public_key_raw());
    let unit: String = hash.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Haar");
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.distinguished_name.push(DnType::CommonName, "Haar local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, AUTHORITY_LIFE);
    params
}

/// Valid from yesterday, for clocks that are behind.
fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    let [from, until] = [now - DAY, now + life].map(civil_date);
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
}

/// The year, month and day (UTC) of a time after 1970, by the era arithmetic of the proleptic Gregorian calendar.
fn civil_date(time: SystemTime) -> (i32, u8, u8) {
    let days =
        time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY.as_secs()) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    ((year_of_era + era * 400 + i64::from(month <= 2)) as i32, month as u8, day as u8)
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

/// The server's side of TLS.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl Tls {
    /// TLS for these hosts, and for this machine's own names.
    pub(crate) fn new(ca: Arc<Ca>, ours: Ours) -> Result<Tls, rustls::Error> {
        let mint = Mint::new(ca, ours)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(mint));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = provider::Ticketer::new()?;
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

/// Mints certificates, and keeps them. One key serves them all: it lives as long as the process.
struct Mint {
    ca: Arc<Ca>,
    ours: Ours,
    key: KeyPair,
    minted: RwLock<HashMap<Box<str>, Minted>>,
}

/// A certificate, and when it is minted anew.
type Minted = (Arc<CertifiedKey>, SystemTime);

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mint")
    }
}

impl Mint {
    fn new(ca: Arc<Ca>, ours: Ours) -> Result<Mint, rustls::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(general)?;
        Ok(Mint { ca, ours, key, minted: RwLock::default() })
    }

    fn kept(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let minted = self.minted.read().unwrap_or_else(PoisonError::into_inner);
        minted.get(host).filter(|(_, until)| SystemTime::now() < *until).map(|(key, _)| key.clone())
    }

    fn mint(&self, host: &str) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let certificate = leaf_params(host)?.signed_by(&self.key, &self.ca.issuer).map_err(general)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let signer = provider::sign::any_ecdsa_type(&key)?;
        let made = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer));
        let mut minted = self.minted.write().unwrap_or_else(PoisonError::into_inner);
        if minted.len() >= MINTED_MOST {
            minted.clear();
        }
        minted.insert(host.into(), (made.clone(), SystemTime::now() + MINTED_FRESH));
        Ok(made)
    }
}

fn leaf_params(host: &str) -> Result<CertificateParams, rustls::Error> {
    let mut names = vec![host.to_owned()];
    if host == "localhost" {
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    let mut params = CertificateParams::new(names).map_err(general)?;
    params.distinguished_name = DistinguishedName::new();
    // A common name holds at most 64 characters (RFC 5280, appendix A); clients read the alternative names.
    params.distinguished_name.push(DnType::CommonName, &host[..host.len().min(64)]);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid_for(&mut params, MINTED_LIFE);
    Ok(params)
}

fn general(error: rcgen::Error) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

impl ResolvesServerCert for Mint {
    /// The certificate for the name that the client asks for; without a name, as when it connects to an address,
    /// that of this machine.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or("localhost").to_ascii_lowercase();
        if let Some(kept) = self.kept(&host) {
            return Some(kept);
        }
        let served = self.ours.contain(&host) || hosts::is_loopback(&host);
        if !served || !host.is_ascii() {
            return None;
        }
        self.mint(&host)
            .inspect_err(|error| tracing::warn!(%error, host, "no certificate could be minted"))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_authority_is_made_once_and_its_key_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Ca::open(&directory.path().join("ca")).unwrap();
        let again = Ca::open(&directory.path().join("ca")).unwrap();
        assert_eq!(first.pem(), again.pem());
        assert!(first.pem().starts_with("-----BEGIN CERTIFICATE-----"));
        let mode = fs::metadata(directory.path().join("ca/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_authority() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.key"), "nonsense").unwrap();
        assert!(Ca::open(directory.path()).is_err());
    }

    #[test]
    fn certificates_are_minted_once_and_kept_within_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let mint = Mint::new(Arc::new(Ca::open(directory.path()).unwrap()), Ours::google()).unwrap();
        let first = mint.mint("run.googleapis.com").unwrap();
        assert!(Arc::ptr_eq(&first, &mint.kept("run.googleapis.com").unwrap()));
        for number in 0..MINTED_MOST {
            mint.mint(&format!("h{number}.run.app")).unwrap();
        }
        assert!(mint.minted.read().unwrap().len() <= MINTED_MOST);
    }

    #[test]
    fn dates_are_counted_right() {
        let day = |days: u64| civil_date(UNIX_EPOCH + DAY * days as u32);
        assert_eq!(day(0), (1970, 1, 1));
        assert_eq!(day(59), (1970, 3, 1));
        assert_eq!(day(11_016), (2000, 2, 29));
        assert_eq!(day(20_513), (2026, 3, 1));
    }
}
