//! Access and refresh tokens: who holds one, until when, and nobody else can make one.
//!
//! A token is its own record: a payload and a MAC over it, so that issuing one writes nothing and checking one
//! reads no store. To clients it is opaque, as Google's are. What cannot be in the payload, that the account was
//! deleted or the session revoked meanwhile, is asked of memory.
//!
//! Checked tokens are remembered in a table with one slot for each of a range of endings: a warm check is a
//! comparison of bytes, without a lock, and the table never grows.
//!
//! Declined: random tokens in a table (a write for each, and a table to bound), and encrypted payloads (they hold
//! nothing that the holder does not know).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Principal, call::Federation};

/// How Google's access tokens begin.
const ACCESS: &str = "ya29.";
/// How Google's refresh tokens begin.
const REFRESH: &str = "1//0";
const VERSION: u8 = 1;
const MAC: usize = 32;
/// The longest token that is looked at, in bytes: a federated one has what its attributes were mapped to in it.
const LONGEST: usize = 12 << 10;
/// The slots of the table of checked tokens: 8 KiB of pointers when idle.
const SLOTS: usize = 1024;
/// What most scopes begin with; one byte in a token.
const SCOPE: &str = "https://www.googleapis.com/auth/";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Whose it is.
    pub principal: Principal,
    /// The unique id of the service account; empty for anybody else.
    pub unique_id: String,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// When it expires, in seconds since 1970; 0 for never.
    pub expires: u64,
    /// The session it belongs to: revoking one ends all of its tokens.
    pub session: u64,
    /// What it may be used for.
    pub scopes: Vec<String>,
}

/// What a token is for: one kind never passes for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It goes with each call.
    Access,
    /// It is exchanged for access tokens.
    Refresh,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::Access => ACCESS,
            Kind::Refresh => REFRESH,
        }
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no token of ours.
    Unknown,
    /// It was ours, and its time is over.
    Expired,
    /// Its account or its session is no more.
    Ended,
}

/// The key that tokens are made and checked with.
pub(crate) struct Mint(hmac::Key);

impl Mint {
    /// A mint with this secret of 32 bytes.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Mint(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Makes a token.
    pub(crate) fn make(&self, kind: Kind, claims: &Claims) -> String {
        let mut bytes = encode(claims);
        let tag = self.tag(kind, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        let mut token = String::with_capacity(kind.prefix().len() + bytes.len() * 4 / 3 + 4);
        token.push_str(kind.prefix());
        URL_SAFE_NO_PAD.encode_string(bytes, &mut token);
        token
    }

    /// Reads a token that was made here, whenever that was.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] for anything that was not made with this secret and for this kind.
    pub(crate) fn read(&self, kind: Kind, token: &str) -> Result<Claims, Refusal> {
        let text =
            token.strip_prefix(kind.prefix()).filter(|_| token.len() <= LONGEST).ok_or(Refusal::Unknown)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Unknown)?;
        let split = bytes.len().checked_sub(MAC).ok_or(Refusal::Unknown)?;
        let (payload, tag) = bytes.split_at(split);
        aws_lc_rs::constant_time::verify_slices_are_equal(self.tag(kind, payload).as_ref(), tag)
            .map_err(|_| Refusal::Unknown)?;
        decode(payload).ok_or(Refusal::Unknown)
    }

    /// A secret name for something, always the same for this mint: 32 hexadecimal digits.
    pub(crate) fn name(&self, of: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"name:");
        context.update(of.as_bytes());
        crate::keys::hex(&context.sign().as_ref()[..16])
    }

    fn tag(&self, kind: Kind, payload: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind.prefix().as_bytes());
        context.update(payload);
        context.sign()
    }
}

fn encode(claims: &Claims) -> Vec<u8> {
    let (kind, name) = match &claims.principal {
        Principal::User(name) => (0u8, &**name),
        Principal::ServiceAccount(name) => (1, &**name),
        Principal::Federated(name) => (2, &**name),
        Principal::Anonymous => (3, ""),
    };
    let mut bytes = Vec::with_capacity(64 + name.len() + claims.scopes.len() * 24);
    bytes.extend([VERSION, kind]);
    bytes.extend(claims.issued.to_be_bytes());
    bytes.extend(claims.expires.to_be_bytes());
    bytes.extend(claims.session.to_be_bytes());
    text(&mut bytes, name);
    text(&mut bytes, &claims.unique_id);
    if let Principal::Federated(who) = &claims.principal {
        bytes.push(who.sets().len().min(usize::from(u8::MAX)) as u8);
        who.sets().iter().take(usize::from(u8::MAX)).for_each(|set| text(&mut bytes, set));
    }
    for scope in &claims.scopes {
        match scope.strip_prefix(SCOPE) {
            Some(rest) => {
                bytes.push(1);
                text(&mut bytes, rest);
            }
            None => {
                bytes.push(0);
                text(&mut bytes, scope);
            }
        }
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text);
}

fn decode(payload: &[u8]) -> Option<Claims> {
    let mut rest = Rest(payload);
    if rest.byte()? != VERSION {
        return None;
    }
    let kind = rest.byte()?;
    let (issued, expires, session) = (rest.number()?, rest.number()?, rest.number()?);
    let name = rest.text()?;
    let unique_id = rest.text()?.to_owned();
    let principal = match kind {
        0 => Principal::User(name.into()),
        1 => Principal::ServiceAccount(name.into()),
        2 => Principal::Federated(Federation::new(name, rest.sets()?)),
        _ => return None,
    };
    let mut scopes = Vec::new();
    while !rest.0.is_empty() {
        let prefix = if rest.byte()? == 1 { SCOPE } else { "" };
        scopes.push([prefix, rest.text()?].concat());
    }
    Some(Claims { principal, unique_id, issued, expires, session, scopes })
}

/// What is left of a payload.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// The sets that a federated identity is in.
    fn sets(&mut self) -> Option<Vec<Box<str>>> {
        (0..self.byte()?).map(|_| self.text().map(Box::from)).collect()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }
}

/// The tokens that were checked lately. Only tokens that passed are put in, so that nobody can fill it with
/// endings of their choice.
pub(crate) struct Checked {
    slots: Box<[ArcSwapOption<Entry>]>,
    generation: Arc<AtomicU64>,
}

/// A token that passed.
struct Entry {
    token: Box<str>,
    principal: Principal,
    expires: u64,
    generation: u64,
}

impl Checked {
    /// An empty table. When the generation moves on (an account, a key or a session ended), everything in it has
    /// to be checked again.
    pub(crate) fn new(generation: Arc<AtomicU64>) -> Self {
        Checked { slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect(), generation }
    }

    /// Whose the token is, if it was checked before and is still good.
    pub(crate) fn get(&self, token: &str, now: u64) -> Option<Principal> {
        let entry = self.slots[slot(token)].load();
        let entry = entry.as_ref()?;
        let good = entry.expires > now
            && entry.generation == self.generation.load(Ordering::Acquire)
            && *entry.token == *token;
        good.then(|| entry.principal.clone())
    }

    /// The generation to [put](Checked::put) a token with: read before the token is checked.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers a token that passed.
    pub(crate) fn put(&self, token: &str, principal: Principal, expires: u64, generation: u64) {
        let entry = Entry { token: token.into(), principal, expires, generation };
        self.slots[slot(token)].store(Some(Arc::new(entry)));
    }
}

/// The ending of a token is that of its MAC or signature: as good as random.
fn slot(token: &str) -> usize {
    let ending = token.as_bytes().last_chunk::<8>().map_or(0, |ending| u64::from_le_bytes(*ending));
    (ending.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims() -> Claims {
        Claims {
            principal: Principal::ServiceAccount("a@p.iam.gserviceaccount.com".into()),
            unique_id: "1".into(),
            issued: 1000,
            expires: 4600,
            session: 7,
            scopes: vec!["https://www.googleapis.com/auth/cloud-platform".into(), "openid".into()],
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was_made() {
        let mint = Mint::new(&[1; 32]);
        let token = mint.make(Kind::Access, &claims());
        assert!(token.starts_with("ya29."));
        assert_eq!(mint.read(Kind::Access, &token), Ok(claims()));
    }

    #[test]
    fn a_token_of_another_kind_or_another_mint_is_unknown() {
        let mint = Mint::new(&[1; 32]);
        let token = mint.make(Kind::Access, &claims());
        let disguised = token.replacen("ya29.", "1//0", 1);
        assert_eq!(mint.read(Kind::Refresh, &token), Err(Refusal::Unknown));
        assert_eq!(mint.read(Kind::Refresh, &disguised), Err(Refusal::Unknown));
        assert_eq!(Mint::new(&[2; 32]).read(Kind::Access, &token), Err(Refusal::Unknown));
    }

    #[test]
    fn one_changed_character_is_enough() {
        let mint = Mint::new(&[1; 32]);
        let token = mint.make(Kind::Access, &claims());
        for at in ACCESS.len()..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(mint.read(Kind::Access, &changed), Err(Refusal::Unknown), "at {at}");
        }
    }

    #[test]
    fn a_checked_token_is_forgotten_when_it_expires_or_something_ended() {
        let generation = Arc::new(AtomicU64::new(0));
        let checked = Checked::new(generation.clone());
        checked.put("ya29.abcdefgh", claims().principal, 100, checked.generation());
        assert_eq!(checked.get("ya29.abcdefgh", 99), Some(claims().principal));
        assert_eq!(checked.get("ya29.xbcdefgh", 99), None, "another token with the same ending");
        assert_eq!(checked.get("ya29.abcdefgh", 100), None);
        generation.fetch_add(1, Ordering::Release);
        assert_eq!(checked.get("ya29.abcdefgh", 99), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mint = Mint::new(&[1; 32]);
            prop_assert_eq!(mint.read(Kind::Access, &format!("ya29.{text}")), Err(Refusal::Unknown));
            let _ = decode(&bytes);
        }

        #[test]
        fn any_claims_come_back(name in ".{0,80}", issued: u64, expires: u64, session: u64, scopes in proptest::collection::vec(".{0,40}", 0..5)) {
            let sets = scopes.iter().map(|set| set.as_str().into());
            for principal in [Principal::User(name.as_str().into()), Principal::Federated(Federation::new(name.as_str(), sets))] {
                let claims = Claims { principal, unique_id: "u".into(), issued, expires, session, scopes: scopes.clone() };
                prop_assert_eq!(decode(&encode(&claims)), Some(claims));
            }
        }
    }
}
