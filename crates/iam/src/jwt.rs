//! JSON Web Tokens with RS256, and no other algorithm: signing ours, checking ours and those of service accounts.
//!
//! The parser takes the compact form only and looks at `alg` before anything else, so that `none` and symmetric
//! algorithms (where a public key would pass for a shared secret) never reach a key. `crit` is refused, as
//! RFC 7515 asks of whoever understands no extension.
//!
//! Declined: a library of all algorithms; two hundred lines are all that Google's tokens need.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Error, Result};
use serde_json::{Map, Value, json};

/// How far clocks may be apart, in seconds.
pub(crate) const SKEW: u64 = 300;
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;

/// An RSA key that signs.
pub(crate) struct Signer {
    id: String,
    key: KeyPair,
}

/// The public half of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Public {
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
    /// The exponent, big-endian.
    pub exponent: Vec<u8>,
}

impl Signer {
    /// Makes a key of 2048 bits. Takes a tenth of a second: not for an async worker.
    ///
    /// # Errors
    /// `INTERNAL` when the machine has no randomness.
    pub(crate) fn generate(id: String) -> Result<Self> {
        let key =
            KeyPair::generate(KeySize::Rsa2048).map_err(|_| Error::internal("cannot make an RSA key"))?;
        Ok(Signer { id, key })
    }

    /// Reads a key from PKCS #8.
    ///
    /// # Errors
    /// `INTERNAL` when it is none.
    pub(crate) fn from_pkcs8(id: String, pkcs8: &[u8]) -> Result<Self> {
        let key =
            KeyPair::from_pkcs8(pkcs8).map_err(|error| Error::internal(format!("stored key: {error}")))?;
        Ok(Signer { id, key })
    }

    /// The key in PKCS #8.
    ///
    /// # Errors
    /// `INTERNAL`; never for a key made here.
    pub(crate) fn to_pkcs8(&self) -> Result<Vec<u8>> {
        self.key
            .as_der()
            .map(|der| der.as_ref().to_vec())
            .map_err(|_| Error::internal("cannot encode an RSA key"))
    }

    /// A certificate of the key by itself, in PEM: the form in which older libraries look public keys up. They
    /// look at nothing in it but the key.
    ///
    /// # Errors
    /// `INTERNAL`; never for a whole key.
    pub(crate) fn certificate(&self, name: &str) -> Result<String> {
        let made = || {
            let key = rcgen::KeyPair::try_from(self.to_pkcs8()?).map_err(Error::internal)?;
            let mut parameters = rcgen::CertificateParams::default();
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            // A common name has at most 64 characters.
            let name: String = name.chars().take(64).collect();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            parameters.self_signed(&key).map(|certificate| certificate.pem()).map_err(Error::internal)
        };
        // One form of line ends, whatever the platform's.
        made().map(|pem| pem.replace("\r\n", "\n"))
    }

    /// The key's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    pub(crate) fn public(&self) -> Public {
        let key = self.key.public_key();
        let plain = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
        Public {
            modulus: plain(key.modulus().big_endian_without_leading_zero()),
            exponent: plain(key.exponent().big_endian_without_leading_zero()),
        }
    }

    /// Signs bytes: PKCS #1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// `INTERNAL`; never for a whole key.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)
            .map_err(|_| Error::internal("cannot sign"))?;
        Ok(signature)
    }

    /// Makes a token of these claims.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub(crate) fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({"alg": "RS256", "kid": self.id, "typ": "JWT"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", part(&header), part(claims));
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl Public {
    /// The key as it stands in a JSON Web Key set.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        json!({
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": id,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus), "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }

    /// Whether a signature over bytes is this key's.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, bytes, signature).is_ok()
    }

    /// The key as a `SubjectPublicKeyInfo` in PEM.
    pub(crate) fn pem(&self) -> Option<String> {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        Some(pem("PUBLIC KEY", AsDer::as_der(&key).ok()?.as_ref()))
    }
}

/// DER as PEM, in lines of 64.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END " + label + "-----\n"
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no token, or not of a kind that is taken here.
    Malformed,
    /// Nobody is known who could have signed it.
    UnknownIssuer,
    /// The signature is not the key's.
    Signature,
    /// It is not valid yet.
    TooEarly,
    /// It is no longer valid.
    Expired,
    /// It is valid for more than an hour.
    TooLong,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
}

/// A token taken apart, its signature not yet checked.
pub(crate) struct Unverified<'a> {
    /// How it says it is signed: the key must be one for that.
    pub algorithm: Algorithm,
    /// The id of the key that is said to have signed it; empty where none is named.
    pub key_id: String,
    /// What it claims. To be believed only from [`Unverified::verify`].
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a compact token apart.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for anything but three parts, `alg` RS256 and claims that are an object.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Fault> {
        let parsed = Self::parse_foreign(token)?;
        if parsed.algorithm == Algorithm::Rs256 { Ok(parsed) } else { Err(Fault::Malformed) }
    }

    /// The same for a token that others made, who may sign with ES256 too.
    ///
    /// # Errors
    /// As [`Unverified::parse`].
    pub(crate) fn parse_foreign(token: &'a str) -> Result<Self, Fault> {
        if token.len() > LONGEST {
            return Err(Fault::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let header = object(header)?;
        let algorithm = match header.get("alg").and_then(Value::as_str) {
            _ if header.contains_key("crit") => return Err(Fault::Malformed),
            Some("RS256") => Algorithm::Rs256,
            Some("ES256") => Algorithm::Es256,
            _ => return Err(Fault::Malformed),
        };
        Ok(Unverified {
            algorithm,
            key_id: header.get("kid").and_then(Value::as_str).unwrap_or_default().to_owned(),
            claims: object(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| Fault::Malformed)?,
        })
    }

    /// The issuer that it names, to find the key by. Nothing else is to be believed yet.
    pub(crate) fn issuer(&self) -> &str {
        self.claims.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it was signed with this key.
    pub(crate) fn is_by(&self, key: &Public) -> bool {
        key.verifies(self.signed.as_bytes(), &self.signature)
    }

    /// Whether a check of signed bytes and signature says yes.
    pub(crate) fn is_signed(&self, check: impl FnOnce(&[u8], &[u8]) -> bool) -> bool {
        check(self.signed.as_bytes(), &self.signature)
    }

    /// Checks signature and time.
    ///
    /// # Errors
    /// What is wrong with it, the signature first.
    pub(crate) fn verify(self, key: &Public, now: u64) -> Result<Claims, Fault> {
        if self.is_by(key) { self.signed_claims(now) } else { Err(Fault::Signature) }
    }

    /// The claims of a token that was checked whole before.
    pub(crate) fn checked_before(self) -> Claims {
        Claims(self.claims)
    }

    /// The claims of a token whose signature [was checked](Unverified::is_by), if now is their time.
    ///
    /// # Errors
    /// What is wrong with the time.
    pub(crate) fn signed_claims(self, now: u64) -> Result<Claims, Fault> {
        let claims = Claims(self.claims);
        let (issued, expires) = (claims.time("iat")?, claims.time("exp")?);
        let before = if claims.0.contains_key("nbf") { claims.time("nbf")? } else { issued };
        match () {
            () if issued.max(before) > now.saturating_add(SKEW) => Err(Fault::TooEarly),
            () if expires.saturating_add(SKEW) <= now => Err(Fault::Expired),
            () if expires < issued => Err(Fault::Malformed),
            () => Ok(claims),
        }
    }
}

/// Claims that can be believed.
#[derive(Clone, Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// A claim that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A claim that is a time in seconds.
    ///
    /// # Errors
    /// [`Fault::Malformed`] when it is missing or no number.
    pub(crate) fn time(&self, name: &str) -> Result<u64, Fault> {
        let number = self.0.get(name).and_then(Value::as_f64).filter(|number| (0.0..9e15).contains(number));
        number.map(|number| number as u64).ok_or(Fault::Malformed)
    }

    /// Whether the audience, one or a list, names any that is accepted.
    pub(crate) fn meant_for(&self, accepted: impl Fn(&str) -> bool) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => accepted(one),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(accepted),
            _ => false,
        }
    }

    /// All of them.
    pub(crate) fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Fault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Fault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::generate("k1".into()).unwrap());
    const NOW: u64 = 1_800_000_000;

    fn token(claims: Value) -> String {
        SIGNER.token(&claims).unwrap()
    }

    fn check(token: &str) -> Result<Claims, Fault> {
        Unverified::parse(token)?.verify(&SIGNER.public(), NOW)
    }

    fn with_header(header: Value, token: &str) -> String {
        let rest = token.split_once('.').unwrap().1;
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
    }

    #[test]
    fn what_was_signed_is_believed() {
        let claims = check(&token(json!({"iat": NOW, "exp": NOW + 3600, "aud": "a", "sub": "s"}))).unwrap();
        assert_eq!(claims.text("sub"), Some("s"));
        assert!(claims.meant_for(|aud| aud == "a") && !claims.meant_for(|aud| aud == "b"));
    }

    #[test]
    fn a_key_survives_its_stored_form() {
        let again = Signer::from_pkcs8("k1".into(), &SIGNER.to_pkcs8().unwrap()).unwrap();
        assert_eq!(again.public(), SIGNER.public());
        assert_eq!(SIGNER.public().modulus.len(), 256);
        let certificate = SIGNER.certificate("account@project.iam.gserviceaccount.com").unwrap();
        assert!(certificate.starts_with("-----BEGIN CERTIFICATE-----\nMII"));
        assert!(SIGNER.public().pem().unwrap().starts_with("-----BEGIN PUBLIC KEY-----\nMII"));
    }

    #[test]
    fn the_known_attacks_fail() {
        let good = token(json!({"iat": NOW, "exp": NOW + 3600, "aud": "a"}));
        let unsigned = good.rsplit_once('.').unwrap().0;
        let none = with_header(json!({"alg": "none"}), unsigned) + ".";
        assert_eq!(check(&none).unwrap_err(), Fault::Malformed, "alg none");
        let hs256 = with_header(json!({"alg": "HS256", "kid": "k1"}), unsigned);
        let mac = aws_lc_rs::hmac::Key::new(
            aws_lc_rs::hmac::HMAC_SHA256,
            SIGNER.public().pem().unwrap().as_bytes(),
        );
        let mac = aws_lc_rs::hmac::sign(&mac, hs256.as_bytes());
        let confused = format!("{hs256}.{}", URL_SAFE_NO_PAD.encode(mac));
        assert_eq!(check(&confused).unwrap_err(), Fault::Malformed, "a public key as a shared secret");
        assert_eq!(
            check(&with_header(json!({"alg": "RS256", "crit": ["b64"]}), &good)).unwrap_err(),
            Fault::Malformed
        );
        assert_eq!(
            check(&with_header(json!({"alg": "RS256", "jwk": {"kty": "RSA"}}), &good)).unwrap_err(),
            Fault::Signature
        );
        let other = Signer::generate("k1".into()).unwrap();
        assert_eq!(
            check(&other.token(&json!({"iat": NOW, "exp": NOW + 60})).unwrap()).unwrap_err(),
            Fault::Signature
        );
        assert_eq!(check(&format!("{unsigned}.")).unwrap_err(), Fault::Signature);
        assert_eq!(check(&format!("{good}.x")).unwrap_err(), Fault::Malformed);
        assert_eq!(check("").unwrap_err(), Fault::Malformed);
    }

    #[test]
    fn clocks_may_be_five_minutes_apart_and_no_more() {
        let at = |iat, exp| check(&token(json!({"iat": iat, "exp": exp}))).err();
        assert_eq!(at(NOW + SKEW, NOW + 3600), None);
        assert_eq!(at(NOW + SKEW + 1, NOW + 3600), Some(Fault::TooEarly));
        assert_eq!(at(NOW - 3600, NOW - SKEW + 1), None);
        assert_eq!(at(NOW - 3600, NOW - SKEW), Some(Fault::Expired));
        assert_eq!(
            check(&token(json!({"iat": NOW, "exp": NOW + 60, "nbf": NOW + 400}))).unwrap_err(),
            Fault::TooEarly
        );
        assert_eq!(check(&token(json!({"iat": NOW}))).unwrap_err(), Fault::Malformed, "it never expires");
        assert_eq!(check(&token(json!({"iat": NOW, "exp": "9999999999"}))).unwrap_err(), Fault::Malformed);
        assert_eq!(check(&token(json!({"iat": NOW, "exp": -1}))).unwrap_err(), Fault::Malformed);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(header in ".{0,60}", claims in ".{0,60}", rest in ".{0,60}") {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            for token in [format!("{header}.{claims}.{rest}"), format!("{}.{}.{}", part(&header), part(&claims), part(&rest))] {
                prop_assert!(check(&token).is_err());
            }
        }
    }
}
