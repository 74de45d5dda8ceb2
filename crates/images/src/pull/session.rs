//! Requests to one registry on behalf of one pull: connections used again, tokens fetched when asked for,
//! redirects followed with care.
//!
//! What proves who we are goes to the registry itself and to the place it names for tokens, never along a redirect.
//! A registry elsewhere cannot send us to this machine, nor from TLS to plain HTTP.

use std::sync::{Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Credentials, Failure, Registries,
    challenge::Challenge,
    connect::{Connector, Origin, Sender},
    unreachable,
};
use crate::{Error, Reference};

/// The most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;
/// The largest answer of a token service.
const MAX_TOKEN: u64 = 1 << 20;
/// The most connections that wait for another request.
const MAX_IDLE: usize = 4;

/// A pull's way to its registry.
pub(crate) struct Session {
    connector: Connector,
    registry: Origin,
    /// The registry's part of every path.
    repository: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
    idle: Mutex<Vec<(Origin, Sender)>>,
}

/// An answer whose body is still to come.
pub(crate) struct Answer<'a> {
    session: &'a Session,
    from: Origin,
    connection: Sender,
    pub(crate) head: http::response::Parts,
    body: Incoming,
}

impl Session {
    pub(crate) fn new(registries: &Registries, reference: &Reference) -> Result<Self, Failure> {
        let credentials = registries.credentials.iter().find(|known| known.host == reference.host).cloned();
        Ok(Session {
            connector: Connector::new(registries.clone()),
            registry: Origin::of_registry(&reference.host)?,
            repository: reference.path.clone(),
            credentials,
            authorization: Mutex::default(),
            idle: Mutex::default(),
        })
    }

    /// Asks the registry for something of the repository, such as `manifests/latest`. Whatever it answers is given,
    /// after the token that it may have asked for.
    pub(crate) async fn ask(&self, method: Method, what: &str, accept: &str) -> Result<Answer<'_>, Failure> {
        let uri = self.registry.url(&format!("/v2/{}/{what}", self.repository));
        let answer = self.follow(&method, &uri, accept).await?;
        if answer.head.status != StatusCode::UNAUTHORIZED || answer.from != self.registry {
            return Ok(answer);
        }
        let wanted = answer.head.headers.get_all(WWW_AUTHENTICATE).iter().flat_map(|value| value.to_str());
        let Some(challenge) = Challenge::pick(wanted) else { return Ok(answer) };
        answer.finish(MAX_TOKEN).await;
        let authorization = self.authorize(challenge).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        self.follow(&method, &uri, accept).await
    }

    /// One request and what it is redirected to.
    async fn follow(&self, method: &Method, uri: &str, accept: &str) -> Result<Answer<'_>, Failure> {
        let mut uri: Uri =
            uri.parse().map_err(|_| unreachable("The registry's address is not one.".into()))?;
        let mut before = self.registry.clone();
        for _ in 0..=MAX_REDIRECTS {
            let origin = self.allowed(&uri, &before)?;
            let authorization = if origin == self.registry { self.authorization() } else { None };
            let answer = self.send(&origin, method, &uri, accept, authorization).await?;
            let Some(next) = redirect(&answer, &uri)? else { return Ok(answer) };
            answer.finish(MAX_TOKEN).await;
            (uri, before) = (next, origin);
        }
        Err(unreachable(format!("{} redirects without end.", self.registry.authority())))
    }

    /// Where an address leads, if it may be gone to from there.
    fn allowed(&self, uri: &Uri, before: &Origin) -> Result<Origin, Failure> {
        let origin = Origin::of(uri)?;
        let sentence = |what: &str| {
            unreachable(format!("{} leads to {}, {what}.", self.registry.authority(), origin.authority()))
        };
        if before.tls && !origin.tls {
            return Err(sentence("without TLS, which is refused"));
        }
        if origin.is_loopback() && !self.registry.is_loopback() {
            return Err(sentence("which is this machine"));
        }
        Ok(origin)
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn authorize(&self, challenge: Challenge) -> Result<HeaderValue, Failure> {
        match challenge {
            Challenge::Basic => self.basic().ok_or(Failure::Absent),
            Challenge::Bearer { realm, service, scope } => {
                let scope =
                    if scope.is_empty() { format!("repository:{}:pull", self.repository) } else { scope };
                self.token(&realm, &service, &scope).await
            }
        }
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Credentials { user, password, .. } = self.credentials.as_ref()?;
        secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    async fn token(&self, realm: &str, service: &str, scope: &str) -> Result<HeaderValue, Failure> {
        let mut query =
            format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, encode(scope));
        if !service.is_empty() {
            query += &format!("&service={}", encode(service));
        }
        let wrong = |why: &str| unreachable(format!("{} gives no token: {why}.", self.registry.authority()));
        let uri: Uri = query.parse().map_err(|_| wrong("the address for it is not one"))?;
        let origin = self.allowed(&uri, &self.registry)?;
        let answer = self.send(&origin, &Method::GET, &uri, "application/json", self.basic()).await?;
        let status = answer.head.status;
        let body = answer.collect(MAX_TOKEN, "a token").await?;
        answered(status)?;
        let token: Token = serde_json::from_slice(&body).map_err(|_| wrong("the answer is not a token"))?;
        let text = token.token.or(token.access_token).ok_or_else(|| wrong("the answer holds none"))?;
        secret(&format!("Bearer {text}")).ok_or_else(|| wrong("the token cannot be sent"))
    }

    /// One request. A connection that waited may have been closed meanwhile; then it is asked on a new one.
    async fn send(
        &self,
        origin: &Origin,
        method: &Method,
        uri: &Uri,
        accept: &str,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer<'_>, Failure> {
        let request = || build(origin, method, uri, accept, authorization.as_ref());
        if let Some(mut waited) = self.take_idle(origin)
            && let Ok(Ok(response)) = timeout(self.idle_limit(), waited.send_request(request()?)).await
        {
            return Ok(self.answer(origin, waited, response));
        }
        let mut connection = self.connector.open(origin).await?;
        match timeout(self.idle_limit(), connection.send_request(request()?)).await {
            Ok(Ok(response)) => Ok(self.answer(origin, connection, response)),
            Ok(Err(error)) => Err(unreachable(format!("{} does not answer: {error}.", origin.authority()))),
            Err(_) => Err(unreachable(format!("{} does not answer in time.", origin.authority()))),
        }
    }

    fn answer(&self, from: &Origin, connection: Sender, response: Response<Incoming>) -> Answer<'_> {
        let (head, body) = response.into_parts();
        Answer { session: self, from: from.clone(), connection, head, body }
    }

    fn idle_limit(&self) -> std::time::Duration {
        self.connector.registries.idle
    }

    fn take_idle(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, connection)| !connection.is_closed());
        let at = idle.iter().position(|(of, connection)| of == origin && connection.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn keep_idle(&self, origin: Origin, connection: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.is_closed() && idle.len() < MAX_IDLE {
            idle.push((origin, connection));
        }
    }
}

impl Answer<'_> {
    /// How long the body says it is.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let broken = |why: String| unreachable(format!("{} broke off: {why}.", self.from.authority()));
        loop {
            match timeout(self.session.idle_limit(), self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Ok(Some(Err(error))) => return Err(broken(error.to_string())),
                Err(_) => return Err(broken("it fell silent".into())),
            }
        }
    }

    /// The whole body.
    pub(crate) async fn collect(mut self, limit: u64, what: &'static str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(Failure::Image(Error::TooLarge(what)));
            }
            bytes.extend_from_slice(&chunk);
        }
        self.done();
        Ok(bytes)
    }

    /// Reads a body that nobody wants, so that the connection can be used again.
    async fn finish(self, limit: u64) {
        let _ = self.collect(limit, "an answer").await;
    }

    /// The body was read to its end.
    pub(crate) fn done(self) {
        self.session.keep_idle(self.from, self.connection);
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a status means for a pull.
pub(crate) fn answered(status: StatusCode) -> Result<(), Failure> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Err(Failure::Absent),
        other => Err(unreachable(format!("Its registry answered {}.", other.as_u16()))),
    }
}

fn build(
    origin: &Origin,
    method: &Method,
    uri: &Uri,
    accept: &str,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Empty<Bytes>>, Failure> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, origin.authority())
        .header(USER_AGENT, concat!("haar/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, accept);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request
        .body(Empty::new())
        .map_err(|_| unreachable("The registry leads to what is not an address.".into()))
}

/// Where an answer sends its reader, if it does.
fn redirect(answer: &Answer<'_>, from: &Uri) -> Result<Option<Uri>, Failure> {
    if !matches!(answer.head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let wrong = || unreachable(format!("{} redirects to what is not an address.", answer.from.authority()));
    let location =
        answer.head.headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(wrong)?;
    let absolute = match (location.strip_prefix("//"), location.starts_with('/')) {
        (Some(rest), _) => format!("{}://{rest}", from.scheme_str().unwrap_or("https")),
        (None, true) => answer.from.url(location),
        (None, false) => location.to_owned(),
    };
    absolute.parse().map(Some).map_err(|_| wrong())
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent-encodes a value of a query.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                out.push(byte as char);
            }
            _ => out += &format!("%{byte:02X}"),
        }
        out
    })
}
