//! A person signs in: the authorization endpoint, its page, and the codes that are exchanged for tokens.
//!
//! **Who may open the page.** Its address holds a key that only the user who runs haar is told (`haar exec` puts it
//! into gcloud's settings), so that neither other users of the machine nor web pages can begin a sign-in here. Each
//! page carries a ticket of its own that its form sends back: one that was not shown is refused, as is a form that a
//! browser says came from another origin. Nothing is ever approved without that form.
//!
//! **Where the answer goes.** To a loopback address of this machine, as RFC 8252 has it for installed applications; to
//! nowhere, for programs that ask to have the code copied by hand (Google's pages for that are not asked: the code is
//! shown here). Codes work once, for ten minutes, for the client, address and PKCE challenge they were made for; one
//! that comes a second time ends what the first got.
//!
//! Tickets and codes are kept in memory only, by their hashes: a restart ends them.
//!
//! Source: RFC 6749, RFC 7636, RFC 8252, <https://developers.google.com/identity/protocols/oauth2/native-app>.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use kernel::Principal;

use super::{Form, Request, page};
use crate::{
    Iam,
    owner::{CLIENT_ID, GCLOUD_CLIENT_ID, SDK_CLIENT_ID},
};

/// How long a page may wait for its answer, and a code for its exchange, in seconds.
const LIFE: u64 = 600;
/// The most tickets, and the most codes, that are kept; beyond it the oldest go.
const MOST: usize = 1000;
/// The longest address, state and list of scopes that are taken, in bytes.
const LONGEST: usize = 4096;
/// The most addresses that the page suggests.
const SUGGESTED: usize = 50;
/// Where programs without a browser of their own are told to send people: the code is copied by hand.
const BY_HAND: [&str; 4] = [
    "https://sdk.cloud.google.com/authcode.html",
    "https://sdk.cloud.google.com/applicationdefaultauthcode.html",
    "urn:ietf:wg:oauth:2.0:oob",
    "urn:ietf:wg:oauth:2.0:oob:auto",
];
/// The page's path; the key follows.
const PAGE: [&str; 2] = ["/o/oauth2/auth/", "/o/oauth2/v2/auth/"];

type Hash = [u8; 32];

fn hash(secret: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// What a program asks for, checked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    client: String,
    redirect: String,
    state: String,
    scopes: Vec<String>,
    challenge: Option<Challenge>,
}

/// What the verifier has to match (RFC 7636).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Plain(String),
    S256(String),
}

impl Challenge {
    fn is_met_by(&self, verifier: &str) -> bool {
        let (wanted, given) = match self {
            Challenge::Plain(wanted) => (wanted, verifier.to_owned()),
            Challenge::S256(wanted) => (wanted, URL_SAFE_NO_PAD.encode(hash(verifier))),
        };
        verify_slices_are_equal(wanted.as_bytes(), given.as_bytes()).is_ok()
    }
}

/// What a code stands for.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) principal: Principal,
    pub(super) scopes: Vec<String>,
    /// The session of all tokens that come of it.
    pub(super) session: u64,
}

enum Code {
    Fresh(Asked, Granted),
    /// It was exchanged: whoever comes with it again, something is wrong.
    Used(u64),
}

/// Something that is kept until a time.
struct Kept<T> {
    until: u64,
    value: T,
}

/// Pages that wait for an answer, and codes that wait for an exchange.
#[derive(Default)]
pub(crate) struct SignIns {
    tickets: Mutex<HashMap<Hash, Kept<Asked>>>,
    codes: Mutex<HashMap<Hash, Kept<Code>>>,
}

fn locked<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps something, and forgets what is over or too much.
fn keep<T>(table: &Mutex<HashMap<Hash, Kept<T>>>, key: &str, value: T, now: u64) {
    let mut table = locked(table);
    table.retain(|_, kept| kept.until > now);
    if table.len() >= MOST
        && let Some(oldest) = table.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| *key)
    {
        table.remove(&oldest);
    }
    table.insert(hash(key), Kept { until: now + LIFE, value });
}

/// Why a code is not exchanged.
pub(super) enum CodeFault {
    /// It is none, or it is over, or for something else.
    Malformed,
    /// It was exchanged before; this session is to end.
    Replayed(u64),
    /// The PKCE verifier is missing.
    NoVerifier,
    /// The PKCE verifier is another.
    WrongVerifier,
}

impl SignIns {
    /// Exchanges a code, once.
    pub(super) fn redeem(&self, form: &Form, now: u64) -> Result<Granted, CodeFault> {
        let key = hash(form.get("code"));
        let mut codes = locked(&self.codes);
        let kept = codes.remove(&key).filter(|kept| kept.until > now).ok_or(CodeFault::Malformed)?;
        let (asked, granted) = match kept.value {
            Code::Used(session) => return Err(CodeFault::Replayed(session)),
            Code::Fresh(asked, granted) => (asked, granted),
        };
        // Whatever comes of it: it was tried.
        codes.insert(key, Kept { until: kept.until, value: Code::Used(granted.session) });
        if asked.client != form.get("client_id") || asked.redirect != form.get("redirect_uri") {
            return Err(CodeFault::Malformed);
        }
        match (&asked.challenge, form.get("code_verifier")) {
            (None, _) => Ok(granted),
            (Some(_), "") => Err(CodeFault::NoVerifier),
            (Some(challenge), verifier) if challenge.is_met_by(verifier) => Ok(granted),
            _ => Err(CodeFault::WrongVerifier),
        }
    }
}

/// Why a request is not even asked about: OAuth's word for it, and a sentence.
struct Refusal(StatusCode, &'static str, &'static str);

const BAD: StatusCode = StatusCode::BAD_REQUEST;

impl Asked {
    fn read(form: &Form) -> Result<Asked, Refusal> {
        let (client, redirect) = (form.get("client_id"), form.get("redirect_uri"));
        if [redirect, form.get("state"), form.get("scope"), form.get("code_challenge")]
            .iter()
            .any(|text| text.len() > LONGEST)
        {
            return Err(Refusal(BAD, "invalid_request", "The request is too long."));
        }
        if ![CLIENT_ID, GCLOUD_CLIENT_ID, SDK_CLIENT_ID].contains(&client) {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "The OAuth client was not found.",
            ));
        }
        if !BY_HAND.contains(&redirect) && loopback_origin(redirect).is_none() {
            let why = "The redirect URI in the request does not match those that an installed program may use: a loopback \
                       address of this machine.";
            return Err(Refusal(BAD, "redirect_uri_mismatch", why));
        }
        if form.get("response_type") != "code" {
            return Err(Refusal(
                BAD,
                "unsupported_response_type",
                "Only the response type 'code' is served.",
            ));
        }
        let scopes: Vec<String> = form.get("scope").split_ascii_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() {
            return Err(Refusal(BAD, "invalid_request", "Missing required parameter: scope"));
        }
        let challenge = challenge(form.get("code_challenge"), form.get("code_challenge_method"))?;
        Ok(Asked {
            client: client.into(),
            redirect: redirect.into(),
            state: form.get("state").into(),
            scopes,
            challenge,
        })
    }

    fn program(&self) -> &'static str {
        match self.client.as_str() {
            GCLOUD_CLIENT_ID => "Google Cloud SDK (gcloud)",
            SDK_CLIENT_ID => "Google Auth Library (application default credentials)",
            _ => "A program of haar's",
        }
    }

    /// Where the answer is sent; `None` where it is copied by hand.
    fn redirected(&self, answer: &[(&str, &str)]) -> Option<String> {
        loopback_origin(&self.redirect)?;
        let mut place = self.redirect.clone();
        let state = Some(("state", self.state.as_str())).filter(|(_, state)| !state.is_empty());
        for (name, value) in state.iter().chain(answer) {
            place.push(if place.contains('?') { '&' } else { '?' });
            place.push_str(name);
            place.push('=');
            place.push_str(&percent_encoded(value));
        }
        Some(place)
    }
}

fn challenge(text: &str, method: &str) -> Result<Option<Challenge>, Refusal> {
    let wrong = Refusal(BAD, "invalid_request", "Invalid parameter: code_challenge_method");
    match (text, method) {
        ("", _) => Ok(None),
        (text, "" | "plain") => Ok(Some(Challenge::Plain(text.to_owned()))),
        (text, "S256") => Ok(Some(Challenge::S256(text.to_owned()))),
        _ => Err(wrong),
    }
}

/// The origin of a plain address on this machine; `None` for every other.
fn loopback_origin(address: &str) -> Option<String> {
    let uri = address.parse::<Uri>().ok().filter(|_| !address.contains(['#', '@', '\\']))?;
    let host = uri.host().filter(|host| ["127.0.0.1", "localhost", "[::1]"].contains(host))?;
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    (uri.scheme_str() == Some("http")).then(|| format!("http://{host}{port}"))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl Iam {
    /// The path of the page, with the key that lets a person begin a sign-in: for the user who runs haar alone.
    pub fn sign_in_path(&self) -> String {
        format!("{}{}", PAGE[0], self.mint.name("sign-in"))
    }

    /// `GET` of the page, under the path that follows [`PAGE`]; `None` for other paths.
    pub(super) async fn authorize(&self, request: &Request<'_>) -> Option<Response<Bytes>> {
        let key = match request.path {
            "/o/oauth2/auth" | "/o/oauth2/v2/auth" => "",
            path => PAGE.iter().find_map(|page| path.strip_prefix(page))?,
        };
        if verify_slices_are_equal(key.as_bytes(), self.mint.name("sign-in").as_bytes()).is_err() {
            let why = "Sign-ins begin at the address that `haar exec` gives to programs: run `haar exec -- gcloud auth login`, \
                       and open the address that it prints.";
            return Some(page::refused(StatusCode::FORBIDDEN, "access_denied", why));
        }
        Some(match Asked::read(&request.form()) {
            Ok(asked) => self.ask(asked, "", ""),
            Err(Refusal(status, error, why)) => page::refused(status, error, why),
        })
    }

    fn ask(&self, asked: Asked, typed: &str, wrong: &str) -> Response<Bytes> {
        let Ok(ticket) = crate::random::<24>() else {
            return page::refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_failure",
                "Internal error encountered.",
            );
        };
        let ticket = URL_SAFE_NO_PAD.encode(ticket);
        let origin = loopback_origin(&asked.redirect);
        let known = self.accounts.range("", "", SUGGESTED);
        let known: Vec<String> = known.into_iter().map(|(email, _)| email.to_string()).collect();
        let page = page::ask(&page::Asking {
            program: asked.program(),
            goes_to: origin.as_deref().unwrap_or("a code that you copy"),
            leads_to: origin.as_deref().unwrap_or_default(),
            owner: self.owner.email(),
            known: &known,
            scopes: &asked.scopes,
            ticket: &ticket,
            typed,
            wrong,
        });
        keep(&self.sign_ins.tickets, &ticket, asked, self.clock.unix());
        page
    }

    /// `POST` of the page's form.
    pub(super) async fn approve(&self, request: &Request<'_>) -> Response<Bytes> {
        let form = request.form();
        let now = self.clock.unix();
        let ticket = hash(form.get("ticket"));
        let shown = locked(&self.sign_ins.tickets).remove(&ticket).filter(|kept| kept.until > now);
        let Some(asked) = shown.filter(|_| is_own_form(request)).map(|kept| kept.value) else {
            let why = "This page is too old or was answered already. Begin again from the program that wants you to sign in.";
            return page::refused(BAD, "invalid_request", why);
        };
        if form.get("decision") != "allow" {
            return match asked.redirected(&[("error", "access_denied")]) {
                Some(place) => led(&place),
                None => page::cancelled(),
            };
        }
        let email = form.get("email").trim();
        let principal = match form.get("who") {
            "other" => self.principal(email).await,
            _ => Ok(self.owner.principal()),
        };
        match principal {
            Ok(principal) => self.grant_code(asked, principal, now),
            Err(error) => self.ask(asked, email, error.message()),
        }
    }

    fn grant_code(&self, asked: Asked, principal: Principal, now: u64) -> Response<Bytes> {
        let (Ok(code), Ok(session)) = (crate::random::<32>(), crate::random()) else {
            return page::refused(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_failure",
                "Internal error encountered.",
            );
        };
        // As Google's codes look.
        let code = format!("4/0A{}", URL_SAFE_NO_PAD.encode(code));
        let scope = asked.scopes.join(" ");
        let place = asked.redirected(&[("code", &code), ("scope", &scope)]);
        let granted =
            Granted { principal, scopes: asked.scopes.clone(), session: u64::from_be_bytes(session) };
        keep(&self.sign_ins.codes, &code, Code::Fresh(asked, granted), now);
        match place {
            Some(place) => led(&place),
            None => page::code(&code),
        }
    }
}

/// Whether a form is this page's own, as far as the browser tells.
fn is_own_form(request: &Request<'_>) -> bool {
    let text = |name: header::HeaderName| request.headers.get(name).and_then(|value| value.to_str().ok());
    let is_same_site = request.headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let is_same_origin = match (text(header::ORIGIN), text(header::HOST)) {
        // With `no-referrer` a browser says nothing of its own page's origin.
        (None | Some("null"), _) => true,
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, origin)| origin == host),
        (Some(_), None) => false,
    };
    is_same_site && is_same_origin
}

/// Leads the browser on.
fn led(place: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    match HeaderValue::from_str(place) {
        Ok(place) => {
            *response.status_mut() = StatusCode::SEE_OTHER;
            response.headers_mut().insert(header::LOCATION, place);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            response
        }
        Err(_) => page::refused(BAD, "invalid_request", "The redirect URI cannot be used."),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_go_to_this_machine_only() {
        for good in ["http://localhost:8085/", "http://127.0.0.1:1/x?y=z", "http://[::1]:8085"] {
            assert!(loopback_origin(good).is_some(), "{good}");
        }
        for bad in [
            "https://evil.example/",
            "http://localhost.evil.example/",
            "http://localhost:8085@evil.example/",
            "javascript:alert(1)",
            "http://127.0.0.2/",
            "//localhost/",
            "https://localhost/",
            "http://localhost#@evil",
            "",
        ] {
            assert_eq!(loopback_origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_verifier_meets_its_challenge() {
        // The example of RFC 7636, appendix B.
        let challenge = Challenge::S256("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".into());
        assert!(challenge.is_met_by("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.is_met_by("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXj"));
        assert!(Challenge::Plain("x".into()).is_met_by("x"));
    }

    proptest! {
        #[test]
        fn no_form_makes_it_panic(text in ".{0,120}", redirect in ".{0,60}") {
            let form = Form::parse(text.as_bytes());
            let _ = Asked::read(&form);
            let _ = loopback_origin(&redirect);
            prop_assert!(SignIns::default().redeem(&form, 0).is_err());
        }
    }
}
