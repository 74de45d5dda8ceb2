//! A request's books, from the choice of a revision to the end of its response, however it ends.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version, header};

use crate::{
    Body,
    conn::Conn,
    exchange::Fault,
    forward::{self, Scheme},
    log::{Entry, Texts, Words},
    pages::Failure,
    revision::{Live, Revision, Slot},
    routes::Route,
    serve::Shared,
    trace::Trace,
};

/// What is known of a request that is being served. Dropped, it counts and logs the request.
pub(crate) struct Flight {
    pub(crate) shared: Arc<Shared>,
    route: Arc<Route>,
    revision: Arc<Revision>,
    slot: Option<Slot>,
    live: Option<Arc<Live>>,
    /// When the instance had answered in full.
    landed: Option<Instant>,
    pub(crate) started: Instant,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) uri: Uri,
    host: HeaderValue,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    pub(crate) peer: IpAddr,
    pub(crate) scheme: Scheme,
    pub(crate) trace: Trace,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// 0 until an answer began.
    pub(crate) status: u16,
    message: &'static str,
}

impl Flight {
    pub(crate) fn new(
        shared: Arc<Shared>,
        (route, revision): (Arc<Route>, Arc<Revision>),
        (method, uri, version): (Method, Uri, Version),
        headers: &HeaderMap,
        host: HeaderValue,
        (peer, scheme): (IpAddr, Scheme),
        (started, trace): (Instant, Trace),
    ) -> Self {
        Flight {
            shared,
            route,
            revision,
            slot: None,
            live: None,
            landed: None,
            started,
            method,
            version,
            uri,
            host,
            user_agent: headers.get(header::USER_AGENT).cloned(),
            referer: headers.get(header::REFERER).cloned(),
            peer,
            scheme,
            trace,
            request_bytes: 0,
            response_bytes: 0,
            status: 0,
            message: "",
        }
    }

    pub(crate) fn revision(&self) -> &Arc<Revision> {
        &self.revision
    }

    pub(crate) fn host(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// What an instance is told of the request.
    pub(crate) fn context(&self, checked: Option<&'static str>) -> forward::Context<'_> {
        forward::Context {
            method: &self.method,
            uri: &self.uri,
            host: self.host(),
            peer: self.peer,
            scheme: self.scheme,
            trace: &self.trace,
            checked,
        }
    }

    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The request goes to another revision than it was going to.
    pub(crate) fn reroute(&mut self, route: Arc<Route>, revision: Arc<Revision>) {
        self.route = route;
        self.revision = revision;
    }

    /// The request has got a place.
    pub(crate) fn board(&mut self, slot: Slot) -> Arc<Live> {
        let live = slot.live().clone();
        self.slot = Some(slot);
        self.live = Some(live.clone());
        live
    }

    /// The request gives its place back before it has been answered.
    pub(crate) fn disembark(&mut self) {
        self.slot = None;
    }

    /// The instance has answered in full: its connection and its place are for others.
    pub(crate) fn land(&mut self, conn: Option<Box<Conn>>) {
        let now = Instant::now();
        if let (Some(conn), Some(live)) = (conn, &self.live) {
            live.pool.put(conn, now);
        }
        if let Some(slot) = self.slot.take() {
            slot.leave(now);
        }
        self.landed = Some(now);
    }

    /// The response broke off.
    pub(crate) fn cut(&mut self, fault: Fault) {
        self.slot = None;
        match fault {
            Fault::Timeout => {
                self.status = StatusCode::GATEWAY_TIMEOUT.as_u16();
                self.message = Failure::Timeout.message();
            }
            Fault::Broken | Fault::Stale => self.message = Failure::Broken.message(),
            Fault::TooLarge => self.message = Failure::TooLarge.message(),
            Fault::Gone | Fault::Garbled => {}
        }
    }

    /// The request is not answered by an instance.
    pub(crate) fn fail(mut self, failure: Failure) -> Response<Body> {
        self.slot = None;
        let mut response = failure.response(self.uri.path());
        self.status = failure.status().as_u16();
        self.message = failure.message();
        self.response_bytes = http_body::Body::size_hint(response.body()).exact().unwrap_or_default();
        self.sign(&mut response);
        response
    }

    /// Nobody is there any more to be answered.
    pub(crate) fn abandon(mut self) -> Response<Body> {
        self.slot = None;
        Failure::BadRequest.response(self.uri.path())
    }

    /// Adds the headers that Google's front end adds.
    pub(crate) fn sign(&self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_bytes(self.trace.cloud().bytes()) {
            headers.insert("x-cloud-trace-context", value);
        }
        headers.insert(header::SERVER, HeaderValue::from_static("Google Frontend"));
        // Nobody but the client may keep a response that sets a cookie.
        let is_private = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
            ["private", "no-store", "no-cache"].iter().any(|word| text.contains(word))
        };
        if headers.contains_key(header::SET_COOKIE)
            && !headers.get_all(header::CACHE_CONTROL).iter().any(is_private)
        {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }

    /// Lets go of the client's read buffer, which the texts of a long request would otherwise hold.
    pub(crate) fn detach(&mut self) {
        let texts = [Some(&mut self.host), self.user_agent.as_mut(), self.referer.as_mut()];
        for value in texts.into_iter().flatten() {
            if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
                *value = own;
            }
        }
        if let Ok(own) = self.path().parse() {
            self.uri = own;
        }
    }

    /// Whether the request waited for its instance to start.
    fn was_cold(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.started >= self.started)
    }

    fn record(&mut self, latency: Duration) {
        let entry = Entry {
            route: self.route.clone(),
            revision: self.revision.clone(),
            time: self.shared.clock.now() - latency,
            latency,
            method: self.method.clone(),
            version: self.version,
            status: self.status,
            request_size: self.request_bytes,
            response_size: self.response_bytes,
            remote_ip: self.peer,
            trace: self.trace,
            cold_start: self.was_cold(),
            message: self.message,
            texts: Texts::default(),
            live: self.live.take(),
        };
        let words = Words {
            scheme: self.scheme,
            host: self.host.to_str().unwrap_or_default(),
            path: self.uri.path_and_query().map_or("/", |path| path.as_str()),
            user_agent: self.user_agent.as_ref().map_or(b"", HeaderValue::as_bytes),
            referer: self.referer.as_ref().map_or(b"", HeaderValue::as_bytes),
        };
        self.shared.journal.push(&words, entry);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.slot = None;
        if self.status == 0 {
            // The client went away before there was an answer.
            self.status = 499;
        }
        let latency = self.landed.unwrap_or_else(Instant::now).saturating_duration_since(self.started);
        self.revision.counters.ended(self.status, latency, self.request_bytes, self.response_bytes);
        self.record(latency);
    }
}
