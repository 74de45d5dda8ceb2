//! The little of X.509 that an uploaded certificate is read for: its RSA key and its times.
//!
//! Nothing is trusted here. Whoever may upload a key may upload any, and a self-signed certificate is only the form
//! that Google takes public keys in; so its signature is not checked, as Google does not say that it is.
//!
//! Left out: keys on elliptic curves, extensions, names.
//!
//! Source: RFC 5280, X.690 (DER).

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::jwt::Public;

/// The largest certificate, in bytes of PEM.
pub(crate) const LARGEST: usize = 32 << 10;
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
/// `rsaEncryption`, 1.2.840.113549.1.1.1.
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Its key.
    pub public: Public,
    /// From when it is valid, in seconds since 1970.
    pub after: u64,
    /// Until when, in seconds since 1970.
    pub before: u64,
    /// All of it, in DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate in a PEM text.
    pub(crate) fn from_pem(text: &[u8]) -> Option<Certificate> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= LARGEST)?;
        let inside =
            text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
        let der = STANDARD.decode(inside.split_ascii_whitespace().collect::<String>()).ok()?;
        Self::from_der(der)
    }

    fn from_der(der: Vec<u8>) -> Option<Certificate> {
        let mut whole = Der(&der);
        let mut certificate = Der(whole.take(SEQUENCE)?);
        let mut signed = Der(certificate.take(SEQUENCE)?);
        // The version, where it is not the first.
        if signed.next_is(VERSION) {
            signed.take(VERSION)?;
        }
        signed.take(INTEGER)?; // serial number
        signed.take(SEQUENCE)?; // algorithm
        signed.take(SEQUENCE)?; // issuer
        let mut validity = Der(signed.take(SEQUENCE)?);
        let (after, before) = (validity.time()?, validity.time()?);
        signed.take(SEQUENCE)?; // subject
        let public = rsa_key(signed.take(SEQUENCE)?)?;
        let is_whole = whole.0.is_empty();
        is_whole.then_some(Certificate { public, after, before, der })
    }
}

/// The key of a `SubjectPublicKeyInfo`.
fn rsa_key(info: &[u8]) -> Option<Public> {
    let mut info = Der(info);
    let mut algorithm = Der(info.take(SEQUENCE)?);
    if algorithm.take(OID)? != RSA {
        return None;
    }
    // No bit of the last byte is left unused.
    let bits = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    let mut key = Der(Der(bits).take(SEQUENCE)?);
    let mut number = || {
        let bytes = key.take(INTEGER)?;
        Some(bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>())
    };
    Some(Public { modulus: number()?, exponent: number()? })
}

/// What is left of a DER encoding.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next value, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Three bytes of length are more than anything here has.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// A time in seconds since 1970; none before.
    fn time(&mut self) -> Option<u64> {
        let (text, century) = match self.next_is(UTC_TIME) {
            true => (self.take(UTC_TIME)?, None),
            false => (self.take(GENERALIZED_TIME)?, Some(())),
        };
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let digits = if century.is_some() { 14 } else { 12 };
        if text.len() != digits || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let text = match century {
            Some(()) => text.to_owned(),
            None if text < "50" => format!("20{text}"),
            None => format!("19{text}"),
        };
        let part = |from: usize, to: usize| &text[from..to];
        let time = format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(8, 10),
            part(10, 12),
            part(12, 14)
        );
        kernel::time::parse_time(&time).map(|time| time.0 / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jwt::Signer;

    #[test]
    fn a_certificate_is_read() {
        let signer = Signer::generate("k".into()).unwrap();
        let pem = signer.certificate("a@b.iam.gserviceaccount.com").unwrap();
        let read = Certificate::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(read.public, signer.public());
        assert_eq!((read.after, read.before), (1_577_836_800, 253_402_214_400), "2020-01-01 and 9999-12-31");
    }

    #[test]
    fn what_is_none_is_not_read() {
        let signer = Signer::generate("k".into()).unwrap();
        for text in
            ["", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", &signer.public().pem().unwrap()]
        {
            assert_eq!(Certificate::from_pem(text.as_bytes()), None, "{text}");
        }
        let whole = Certificate::from_pem(signer.certificate("x").unwrap().as_bytes()).unwrap().der;
        for length in 0..whole.len() {
            assert_eq!(Certificate::from_der(whole[..length].to_vec()), None, "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::from_der(bytes.clone());
            let _ = Certificate::from_pem(&bytes);
            let _ = Der(&bytes).time();
        }
    }
}
