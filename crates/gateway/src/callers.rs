//! Who calls: credentials found, verified, and judged where there are none.
//!
//! A token that is given must be right, always. Without one, a call is nobody's and refused in Google's words, with
//! one exception: the clients of emulators (`*_EMULATOR_HOST`) send no credentials at all, so on the plain port a
//! program of this machine that addresses it by a loopback name stands for the owner, unless that was denied. It must
//! be a program of the user who runs haar, or of root: the kernel tells whose it is ([`crate::neighbour`]). A web
//! page is no such program: it cannot point another name at this port (the name must be a loopback one), and browsers
//! say when a page calls, which is refused. That holds for pages from this machine too: those of the services that
//! run here are other people's code, and no page needs it.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, Uri, header};
use kernel::{
    Caller, Error, Principal, Result,
    call::{RequestInfo, missing_credentials},
    error::Detail,
    ports::{Authenticator, Authority},
};

use crate::{hosts, listen::Conn};

/// Who calls without credentials on the plain port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// The person at the machine, as this principal.
    Owner(Principal),
    /// Nobody: every call needs credentials.
    Deny,
}

/// What tells callers apart.
pub(crate) struct Callers {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) anonymous: Anonymous,
}

impl Callers {
    /// The caller of a request to `host`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for missing or wrong credentials, in Google's words.
    pub(crate) async fn identify(
        &self,
        conn: &Conn,
        host: &str,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller> {
        let principal = match credentials(uri, headers)? {
            Some(token) => self.authenticator.authenticate_for(token, hosts::bare(host))?,
            None => self.without_credentials(conn, host, headers).await?,
        };
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let info = RequestInfo {
            time: SystemTime::now(),
            peer: Some(conn.peer.ip().to_canonical()),
            host: lowercase(hosts::bare(host)),
            user_agent: agent.into(),
        };
        Ok(Caller::new(principal, info, self.authority.clone()))
    }

    async fn without_credentials(&self, conn: &Conn, host: &str, headers: &HeaderMap) -> Result<Principal> {
        match &self.anonymous {
            Anonymous::Owner(owner)
                if !conn.tls && conn.is_local() && hosts::is_loopback(host) && !from_a_page(headers) =>
            {
                // Other users of this machine reach the port too.
                let ours = rustix::process::geteuid().as_raw();
                match conn.user().await {
                    Some(user) if user == ours || user == 0 => Ok(owner.clone()),
                    other => Err(stranger(ours, other)),
                }
            }
            _ => Err(missing_credentials()),
        }
    }
}

/// For a caller without credentials who is another user of this machine, or whose user the kernel does not tell.
fn stranger(ours: u32, theirs: Option<u32>) -> Error {
    let theirs = theirs.map_or("a user that cannot be told".to_owned(), |theirs| format!("user {theirs}"));
    Error::unauthenticated(format!(
        "Request is missing required authentication credential. Without one, this port answers programs of user {ours}, \
         who runs haar, and this call comes from {theirs}. Send an access token, or run the program under `haar exec` as \
         that user."
    ))
}

fn lowercase(host: &str) -> Box<str> {
    let mut host: Box<str> = host.into();
    host.make_ascii_lowercase();
    host
}

/// The access token: from the header, or from the query as Google's APIs also take it.
fn credentials<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<Option<&'r str>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(uri.query().and_then(from_query));
    };
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(unsupported)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(unsupported()) }
}

fn from_query(query: &str) -> Option<&str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("access_token=").or_else(|| pair.strip_prefix("oauth_token=")))
}

/// For credentials that are no bearer token.
fn unsupported() -> Error {
    Error::unauthenticated(
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
         valid authentication credential. See \
         https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )
    .with(Detail::Info { reason: "ACCESS_TOKEN_TYPE_UNSUPPORTED", domain: "googleapis.com", metadata: Vec::new() })
}

/// Whether a browser sent this for a page, and not because somebody typed the address.
fn from_a_page(headers: &HeaderMap) -> bool {
    let is_foreign = |value: &header::HeaderValue| value != "same-origin" && value != "none";
    headers.contains_key(header::ORIGIN) || headers.get("sec-fetch-site").is_some_and(is_foreign)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_come_from_the_header_or_the_query() {
        let uri: Uri = "/v1/x?alt=json&access_token=abc".parse().unwrap();
        assert_eq!(credentials(&uri, &headers(&[])).unwrap(), Some("abc"));
        assert_eq!(credentials(&uri, &headers(&[("authorization", "bearer xyz")])).unwrap(), Some("xyz"));
        assert!(credentials(&uri, &headers(&[("authorization", "Basic xyz")])).is_err());
        assert!(credentials(&uri, &headers(&[("authorization", "xyz")])).is_err());
        assert_eq!(credentials(&"/".parse().unwrap(), &headers(&[])).unwrap(), None);
    }

    #[test]
    fn what_pages_send_is_known() {
        for page in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("origin", "http://hello-1.us-central1.run.localhost:4560"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(from_a_page(&headers(&[page])), "{page:?}");
        }
        assert!(!from_a_page(&headers(&[("sec-fetch-site", "none")])));
        assert!(!from_a_page(&headers(&[])));
    }
}
