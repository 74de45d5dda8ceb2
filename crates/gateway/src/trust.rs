//! What programs are told to trust: our authority *and* what the machine trusted before.
//!
//! People sit behind proxies of their company that already replaced the bundle, so an existing bundle is carried
//! over rather than guessed at: the files that the environment names, else the system's. Only certificates are
//! copied, never a key that happens to lie in the same file. Java reads no PEM; for it the same certificates are
//! written as a PKCS #12 store (RFC 7292), without a password, without encryption and without a checksum, since
//! there is nothing secret in it and Java reads such a store when it is given no password.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

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
const LARGEST: u64 = 16 << 20;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// One PEM bundle of our authority (`ours`, its certificate) and all certificates in the files given, each once.
/// Where none of the files can be read, the system's bundle is taken. A directory stands for the files in it.
///
/// # Errors
/// Never for a file that is missing or unreadable: it gave its reader nothing before either. Only when a file is
/// larger than 16 MiB.
pub fn bundle(ours: &str, files: &[PathBuf]) -> io::Result<String> {
    let mut texts = read_all(files)?;
    if texts.is_empty() {
        let system = SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
        texts = read_all(system.as_slice())?;
    }
    let mut seen = HashSet::new();
    let mut whole = String::new();
    for block in std::iter::once(ours).chain(texts.iter().map(String::as_str)).flat_map(certificates) {
        if seen.insert(body(block)) {
            whole.push_str(block);
            whole.push('\n');
        }
    }
    Ok(whole)
}

/// A PKCS #12 store of every certificate in a PEM bundle, as Java's `javax.net.ssl.trustStore` takes it (with
/// `trustStoreType=PKCS12` and no password). What is no base64 is left out.
pub fn java_store(bundle: &str) -> Vec<u8> {
    let bags: Vec<u8> = certificates(bundle)
        .filter_map(|block| STANDARD.decode(body(block)).ok())
        .enumerate()
        .flat_map(|(number, certificate)| bag(number, &certificate))
        .collect();
    let contents = data(&sequence(&bags));
    let safe = data(&sequence(&contents));
    sequence(&[tagged(INTEGER, &[3]), safe].concat())
}

fn read_all(paths: &[PathBuf]) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for path in paths.iter().flat_map(|path| files_in(path)) {
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.len() > LARGEST {
            return Err(io::Error::other(format!(
                "{} is too large for a bundle of certificates",
                path.display()
            )));
        }
        if let Ok(bytes) = fs::read(&path) {
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(texts)
}

fn files_in(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => {
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect()
        }
        Err(_) => vec![path.to_owned()],
    }
}

/// The certificates in a PEM text, markers included.
fn certificates(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(BEGIN).filter_map(|(start, _)| {
        let block = &text[start..];
        let end = block.find(END)? + END.len();
        (!block[BEGIN.len()..end].contains(BEGIN)).then_some(&block[..end])
    })
}

/// The base64 inside a block, without line ends.
fn body(block: &str) -> String {
    block[BEGIN.len()..block.len() - END.len()].split_ascii_whitespace().collect()
}

// DER (X.690), as far as a store needs it.
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.1: plain data.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3: a bag with a certificate.
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1: an X.509 certificate.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20: the name that people see.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1: Java's mark for a certificate that is trusted.
const TRUSTED: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0: trusted for every use.
const ANY_USE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        _ => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | used.len() as u8);
            out.extend_from_slice(used);
        }
    }
    out.extend_from_slice(content);
    out
}

fn sequence(content: &[u8]) -> Vec<u8> {
    tagged(SEQUENCE, content)
}

/// `ContentInfo` with plain data in it.
fn data(content: &[u8]) -> Vec<u8> {
    let wrapped = tagged(CONTEXT_0, &tagged(OCTETS, content));
    sequence(&[tagged(OBJECT, DATA), wrapped].concat())
}

fn attribute(kind: &[u8], value: Vec<u8>) -> Vec<u8> {
    sequence(&[tagged(OBJECT, kind), tagged(SET, &value)].concat())
}

fn bag(number: usize, certificate: &[u8]) -> Vec<u8> {
    let held = tagged(CONTEXT_0, &tagged(OCTETS, certificate));
    let value = tagged(CONTEXT_0, &sequence(&[tagged(OBJECT, X509), held].concat()));
    let name: Vec<u8> = format!("haar-{number}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut attributes =
        [attribute(FRIENDLY_NAME, tagged(BMP_STRING, &name)), attribute(TRUSTED, tagged(OBJECT, ANY_USE))];
    attributes.sort();
    sequence(&[tagged(OBJECT, CERT_BAG), value, tagged(SET, &attributes.concat())].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(content: &str) -> String {
        format!("{BEGIN}\n{content}\n{END}")
    }

    #[test]
    fn a_bundle_holds_ours_first_and_each_certificate_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("corporate.pem");
        let key = "-----BEGIN PRIVATE KEY-----\nU0VDUkVU\n-----END PRIVATE KEY-----";
        fs::write(&file, format!("# comment\n{}\n{key}\n{}\n{}", pem("AAAA"), pem("BB\r\nBB"), pem("AAAA")))
            .unwrap();
        let whole = bundle(&pem("T1VSUw=="), &[file, "/does/not/exist".into()]).unwrap();
        let found: Vec<String> = certificates(&whole).map(body).collect();
        assert_eq!(found, ["T1VSUw==", "AAAA", "BBBB"]);
        assert!(!whole.contains("U0VDUkVU"));
    }

    #[test]
    fn a_directory_stands_for_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one.pem"), pem("AAAA")).unwrap();
        let whole = bundle(&pem("T1VSUw=="), &[directory.path().into()]).unwrap();
        assert_eq!(certificates(&whole).count(), 2);
    }

    #[test]
    fn blocks_that_do_not_end_are_left_out() {
        assert_eq!(
            certificates(&format!("{BEGIN}\nAAAA\n{}", pem("BBBB"))).map(body).collect::<Vec<_>>(),
            ["BBBB"]
        );
        assert_eq!(certificates(BEGIN).count(), 0);
    }

    #[test]
    fn lengths_are_der() {
        assert_eq!(tagged(OCTETS, &[0; 3])[..2], [4, 3]);
        assert_eq!(tagged(OCTETS, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tagged(OCTETS, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }
}
