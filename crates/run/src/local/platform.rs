//! The files that the platform puts around an image, as two layers that all instances share.
//!
//! The lower one holds what an image may lack; the upper one replaces what every image must have as we say: whom to
//! ask for names, and whom to trust. They are written once, so a start copies nothing.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::METADATA;

/// The first path where programs look for certificates; the others are the same file.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where Debian, Alpine and Go look is above; then Red Hat, its links included, OpenSSL's default and SUSE.
const MORE_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];
/// Variables by which programs that bring certificates of their own are told of others.
const VARIABLES: [&str; 10] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
];
/// Variables by which client libraries are told where the metadata server is: as a host, and of gcloud's own.
const METADATA_VARIABLES: [&str; 3] = ["GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"];
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

/// The two layers.
pub(super) struct Platform {
    lower: PathBuf,
    upper: PathBuf,
}

impl Platform {
    /// Writes them anew: no instance runs yet.
    pub(super) fn write(
        directory: &Path,
        bundle: &[u8],
        files: &[(String, Vec<u8>)],
    ) -> io::Result<Platform> {
        fs::create_dir_all(directory)?;
        let [lower, upper] = ["platform-lower", "platform-upper"].map(|name| directory.join(name));
        for layer in [&lower, &upper] {
            remove(layer)?;
            make_directory(layer, 0o755)?;
        }
        make_directory(&lower.join("tmp"), 0o1777)?;
        put(&lower, "/etc/nsswitch.conf", NSSWITCH.as_bytes())?;
        put(
            &upper,
            "/etc/hosts",
            format!("{HOSTS}{METADATA}\tmetadata.google.internal metadata\n").as_bytes(),
        )?;
        put(
            &upper,
            "/etc/resolv.conf",
            format!("nameserver {METADATA}\nsearch google.internal\n").as_bytes(),
        )?;
        put(&upper, BUNDLE, bundle)?;
        for path in MORE_BUNDLES {
            let path = below(&upper, path)?;
            fs::hard_link(upper.join(BUNDLE.trim_start_matches('/')), path)?;
        }
        for (path, bytes) in files {
            put(&upper, path, bytes)?;
        }
        Ok(Platform { lower, upper })
    }

    /// An image's layers with ours below and above them.
    pub(super) fn around(&self, layers: Vec<PathBuf>) -> Vec<PathBuf> {
        [self.lower.clone()].into_iter().chain(layers).chain([self.upper.clone()]).collect()
    }
}

/// The variables that say where the certificates are.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    VARIABLES.into_iter().map(|name| (name.to_owned(), BUNDLE.to_owned()))
}

/// The variables that say where the metadata server is.
pub(super) fn metadata_variables(at: SocketAddr) -> impl Iterator<Item = (String, String)> {
    METADATA_VARIABLES.into_iter().map(move |name| (name.to_owned(), at.to_string()))
}

impl Platform {
    /// The same for what runs as a plain process of this machine.
    pub(super) fn host_variables(&self) -> impl Iterator<Item = (String, String)> {
        let bundle = self.on_host(BUNDLE);
        VARIABLES.into_iter().map(move |name| (name.to_owned(), bundle.clone()))
    }

    /// Where a file of ours is for a plain process.
    pub(super) fn on_host(&self, path: &str) -> String {
        self.upper.join(path.trim_start_matches('/')).to_string_lossy().into_owned()
    }
}

fn remove(layer: &Path) -> io::Result<()> {
    match fs::remove_dir_all(layer) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Modes are set by hand: the umask is the user's.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The path inside a layer, its directories made.
fn below(layer: &Path, path: &str) -> io::Result<PathBuf> {
    let mut whole = layer.to_owned();
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "." | "..") {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{path}: not a plain path")));
        }
        whole.push(part);
        if parts.peek().is_some() {
            make_directory(&whole, 0o755)?;
        }
    }
    Ok(whole)
}

fn put(layer: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = below(layer, path)?;
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_are_the_same_each_time_and_leave_no_room_for_escapes() {
        let home = tempfile::tempdir().unwrap();
        let more = [("/etc/java/store.p12".to_owned(), b"store".to_vec())];
        for bundle in ["first", "second"] {
            let platform = Platform::write(home.path(), bundle.as_bytes(), &more).unwrap();
            for path in MORE_BUNDLES.into_iter().chain([BUNDLE]) {
                let found = fs::read_to_string(platform.upper.join(path.trim_start_matches('/'))).unwrap();
                assert_eq!(found, bundle);
            }
            assert_eq!(fs::read(platform.upper.join("etc/java/store.p12")).unwrap(), b"store");
            let tmp = fs::metadata(platform.lower.join("tmp")).unwrap();
            assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
        }
        let escape = [("/etc/../../x".to_owned(), Vec::new())];
        assert!(Platform::write(home.path(), b"", &escape).is_err());
    }
}
