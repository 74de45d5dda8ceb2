//! The keys of an issuer: written down with the provider, or asked of the issuer and kept for a while.
//!
//! An issuer is asked as OpenID Connect has it: its discovery document names its key set. Both are small, come over
//! https (or plain http from this machine, which is how tests and local issuers are reached), and within a limit of
//! time. A key id that is not known makes haar look again, but not more often than every few seconds, so that made-up
//! ids do not turn into traffic; nor is an issuer that gave no keys asked again sooner. An issuer elsewhere cannot name
//! keys on this machine, or it could make haar ask whatever listens here.
//!
//! Source: <https://openid.net/specs/openid-connect-discovery-1_0.html>, RFC 7517.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::BoxFuture;
use serde_json::Value;

use crate::jwt::{Algorithm, Public, Unverified};

/// The largest document that an issuer may have, in bytes.
const LARGEST: usize = 128 << 10;
/// The most keys that are looked at.
const MOST_KEYS: usize = 128;
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long keys are kept.
const KEPT: Duration = Duration::from_secs(300);
/// How soon an issuer is asked again for a key that it did not have, or after it gave none.
const AGAIN: Duration = Duration::from_secs(5);
/// The most issuers whose keys are kept.
const MOST_ISSUERS: usize = 256;

/// Gets small documents from the web.
pub trait Fetch: Send + Sync {
    /// The document at an address that begins with `https://`, or with `http://` on this machine, if it has at most
    /// `limit` bytes.
    ///
    /// # Errors
    /// Why there is none, for the log.
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<u8>, String>>;
}

/// A key that an issuer signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    id: String,
    kind: Kind,
}

/// A key is for one algorithm and for no other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rsa(Public),
    /// A point on P-256, uncompressed.
    P256([u8; 65]),
}

impl Key {
    /// Whether it signed a token. A token without a key id may be any key's.
    pub(super) fn signed(&self, token: &Unverified<'_>) -> bool {
        if !token.key_id.is_empty() && token.key_id != self.id {
            return false;
        }
        match (&self.kind, token.algorithm) {
            (Kind::Rsa(public), Algorithm::Rs256) => {
                token.is_signed(|bytes, signature| public.verifies(bytes, signature))
            }
            (Kind::P256(point), Algorithm::Es256) => token.is_signed(|bytes, signature| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(bytes, signature).is_ok()
            }),
            _ => false,
        }
    }

    fn read(key: &Value) -> Option<Key> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let kind = match (text("kty")?, text("alg")) {
            ("RSA", None | Some("RS256")) => {
                let plain =
                    |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let public = Public { modulus: plain(number("n")?), exponent: plain(number("e")?) };
                (!public.modulus.is_empty() && !public.exponent.is_empty()).then_some(Kind::Rsa(public))?
            }
            ("EC", None | Some("ES256")) if text("crv") == Some("P-256") => {
                let point = [vec![4], number("x")?, number("y")?].concat();
                Kind::P256(point.try_into().ok()?)
            }
            _ => return None,
        };
        Some(Key { id: text("kid").unwrap_or_default().to_owned(), kind })
    }
}

/// Reads a key set. Keys that are for something else are left out.
///
/// # Errors
/// Why it is none.
pub(super) fn read_keys(document: &[u8]) -> Result<Vec<Key>, &'static str> {
    if document.len() > LARGEST {
        return Err("The JWK set is too large.");
    }
    let set: Value =
        serde_json::from_slice(document).map_err(|_| "Input JWK is not in a valid json format.")?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("The JWK set has no 'keys'.")?;
    let keys: Vec<Key> = keys.iter().take(MOST_KEYS).filter_map(Key::read).collect();
    if keys.is_empty() { Err("The JWK set has no key for RS256 or ES256.") } else { Ok(keys) }
}

/// The issuers whose keys were asked for.
#[derive(Default)]
pub(crate) struct Issuers {
    fetch: OnceLock<Arc<dyn Fetch>>,
    known: Mutex<HashMap<String, Known>>,
}

/// What an issuer answered, and when.
#[derive(Clone)]
struct Known {
    answer: Result<Arc<[Key]>, String>,
    read: Instant,
}

impl Known {
    /// Whether what was answered is good enough not to ask again.
    fn suffices(&self, has: impl Fn(&Key) -> bool) -> bool {
        let age = self.read.elapsed();
        age < AGAIN || (age < KEPT && self.answer.as_ref().is_ok_and(|keys| keys.iter().any(has)))
    }
}

impl Issuers {
    /// Says how documents are got. The first counts.
    pub(crate) fn reach_by(&self, fetch: Arc<dyn Fetch>) {
        let _ = self.fetch.set(fetch);
    }

    /// The keys of an issuer; fresh ones where those that are kept do not have what is wanted.
    ///
    /// # Errors
    /// Why the issuer cannot be asked, for the log.
    pub(super) async fn keys(&self, issuer: &str, has: impl Fn(&Key) -> bool) -> Result<Arc<[Key]>, String> {
        if let Some(known) = self.known(issuer).filter(|known| known.suffices(&has)) {
            return known.answer;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(issuer)).await;
        let asked = asked.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        let answer: Result<Arc<[Key]>, String> = asked.map(Into::into);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_ISSUERS {
            known.clear();
        }
        known.insert(issuer.to_owned(), Known { answer: answer.clone(), read: Instant::now() });
        answer
    }

    fn known(&self, issuer: &str) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
    }

    async fn ask(&self, issuer: &str) -> Result<Vec<Key>, String> {
        let fetch = self.fetch.get().ok_or("nothing here reaches other hosts")?;
        let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document: Value = serde_json::from_slice(&fetch.get(&place, LARGEST).await?)
            .map_err(|_| format!("{place} is not JSON"))?;
        if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(format!("{place} speaks for another issuer"));
        }
        let keys =
            document.get("jwks_uri").and_then(Value::as_str).ok_or(format!("{place} names no jwks_uri"))?;
        check_place(issuer, keys).map_err(|why| format!("{keys}: {why}"))?;
        read_keys(&fetch.get(keys, LARGEST).await?).map_err(|why| format!("{keys}: {why}"))
    }
}

/// Whether an issuer may have its keys at an address: over https, elsewhere only if it is elsewhere itself, and on this
/// machine only if it is on this machine.
fn check_place(issuer: &str, keys: &str) -> Result<(), &'static str> {
    super::check_issuer(keys).map_err(|_| "keys are at an https address, or at http on this machine")?;
    match is_local(keys) && !is_local(issuer) {
        true => Err("an issuer elsewhere cannot have its keys on this machine"),
        false => Ok(()),
    }
}

/// Whether an address is one of this machine, by name or by number; a name that says neither is somewhere else.
pub(super) fn is_local(address: &str) -> bool {
    let uri = address.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_here = |ip: std::net::IpAddr| {
        let ip = ip.to_canonical();
        ip.is_loopback() || ip.is_unspecified()
    };
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(is_here)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::jwt::Signer;

    fn token(signer: &Signer) -> String {
        signer.token(&json!({"iat": 1, "exp": 2})).unwrap()
    }

    #[test]
    fn a_key_signs_for_its_id_and_its_algorithm_only() {
        let (one, other) = (Signer::generate("k1".into()).unwrap(), Signer::generate("k1".into()).unwrap());
        let set = json!({"keys": [one.public().jwk("k1"), {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "use": "enc"}]});
        let keys = read_keys(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.len(), 1, "what is for something else is left out");
        let (good, bad) = (token(&one), token(&other));
        assert!(keys[0].signed(&Unverified::parse_foreign(&good).unwrap()));
        assert!(!keys[0].signed(&Unverified::parse_foreign(&bad).unwrap()));
        let renamed = Key { id: "k2".into(), ..keys[0].clone() };
        assert!(!renamed.signed(&Unverified::parse_foreign(&good).unwrap()), "another key id");
    }

    #[test]
    fn elliptic_curves_are_understood() {
        use aws_lc_rs::{
            rand::SystemRandom,
            signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
        };
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "e", "x": part(&point[1..33]), "y": part(&point[33..])}]});
        let keys = read_keys(set.to_string().as_bytes()).unwrap();
        let signed = |alg: &str| {
            let head = json!({"alg": alg, "kid": "e"});
            let text = format!("{}.{}", part(head.to_string().as_bytes()), part(b"{\"iat\":1,\"exp\":2}"));
            let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
            format!("{text}.{}", part(signature.as_ref()))
        };
        assert!(keys[0].signed(&Unverified::parse_foreign(&signed("ES256")).unwrap()));
        assert!(
            !keys[0].signed(&Unverified::parse_foreign(&signed("RS256")).unwrap()),
            "a key is for one algorithm"
        );
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in ["", "[]", "{}", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"RSA\"}]}"] {
            assert!(read_keys(text.as_bytes()).is_err(), "{text}");
        }
    }

    /// Answers from a table, and counts how often it was asked.
    #[derive(Default)]
    struct Web(Mutex<(HashMap<String, String>, usize)>);

    impl Fetch for Web {
        fn get<'a>(&'a self, url: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<u8>, String>> {
            let mut web = self.0.lock().unwrap();
            web.1 += 1;
            let found = web.0.get(url).map(|text| text.clone().into_bytes()).ok_or_else(|| "404".to_owned());
            Box::pin(std::future::ready(found))
        }
    }

    #[tokio::test]
    async fn an_issuer_is_asked_once_and_not_again_for_made_up_keys() {
        let signer = Signer::generate("k1".into()).unwrap();
        let web = Arc::new(Web::default());
        let put = |url: &str, text: Value| drop(web.0.lock().unwrap().0.insert(url.into(), text.to_string()));
        put(
            "https://i/.well-known/openid-configuration",
            json!({"issuer": "https://i", "jwks_uri": "https://i/keys"}),
        );
        put("https://i/keys", json!({"keys": [signer.public().jwk("k1")]}));
        put(
            "https://j/.well-known/openid-configuration",
            json!({"issuer": "https://i", "jwks_uri": "https://i/keys"}),
        );
        let issuers = Issuers::default();
        issuers.reach_by(web.clone());
        assert_eq!(issuers.keys("https://i", |key| key.id == "k1").await.unwrap().len(), 1);
        assert_eq!(issuers.keys("https://i", |key| key.id == "made-up").await.unwrap().len(), 1);
        assert_eq!(web.0.lock().unwrap().1, 2, "the document and the keys, once");
        assert!(issuers.keys("https://j", |_| true).await.unwrap_err().contains("another issuer"));
        let asked = || web.0.lock().unwrap().1;
        let before = asked();
        for _ in 0..3 {
            assert!(issuers.keys("https://nowhere", |_| true).await.is_err());
        }
        assert_eq!(asked(), before + 1, "an issuer that gave nothing is not asked for every token");
    }

    #[tokio::test]
    async fn an_issuer_elsewhere_cannot_point_here() {
        let signer = Signer::generate("k1".into()).unwrap();
        let web = Arc::new(Web::default());
        let issuers = Issuers::default();
        issuers.reach_by(web.clone());
        let keys = json!({"keys": [signer.public().jwk("k1")]}).to_string();
        for (issuer, place, is_taken) in [
            ("https://a", "https://keys.a/set", true),
            ("https://b", "http://127.0.0.1:9/keys", false),
            ("https://c", "https://localhost/keys", false),
            ("https://d", "https://[::ffff:127.0.0.1]/keys", false),
            ("https://e", "http://e/keys", false),
            ("https://f", "https://0.0.0.0/keys", false),
            ("https://g", "file:///etc/passwd", false),
            ("https://h", "https://X.LocalHost./keys", false),
            ("http://127.0.0.1:8", "http://127.0.0.1:9/keys", true),
        ] {
            let document = json!({"issuer": issuer, "jwks_uri": place}).to_string();
            let put = |url: String, text: String| drop(web.0.lock().unwrap().0.insert(url, text));
            put(format!("{issuer}/.well-known/openid-configuration"), document);
            put(place.to_owned(), keys.clone());
            assert_eq!(issuers.keys(issuer, |_| true).await.is_ok(), is_taken, "{place}");
        }
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic(text in ".{0,80}", n in ".{0,8}", kid in ".{0,8}") {
            let _ = read_keys(text.as_bytes());
            let _ = read_keys(json!({"keys": [{"kty": "RSA", "n": n, "e": n, "kid": kid}, {"kty": "EC", "crv": "P-256", "x": n, "y": n}]}).to_string().as_bytes());
        }
    }
}
