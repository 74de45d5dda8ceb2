//! The one function the gateway calls, and the few that set the table.

use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Body as _, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use kernel::clock::Clock;

use crate::{
    Access, Affinity, Body, Config, Instances, Invokers, Protocol, RequestLog, RevisionId, RevisionSpec,
    ServiceRoute,
    affinity::Bound,
    conn::{Conn, Repeatable, Unconnected},
    counters::Snapshot,
    exchange::{Exchange, Fault},
    flight::Flight,
    forward::{self, Scheme, Sends},
    h2c::{Answer, Failed, Progress, Upload},
    invoke,
    log::{Flusher, Journal},
    pages::Failure,
    queue::Refusal,
    response::{Framing, Head},
    revision::{Admission, Fleet, Live, Revision},
    routes::{Table, Target},
    syntax,
    trace::Trace,
    tunnel::{self, Switched},
};

/// Marks a request (as an extension) as one that comes from a workload, which may call internal services.
#[derive(Clone, Copy, Debug)]
pub struct FromWorkload;

/// Marks a request (as an extension) as one for the service with this host, whatever host it names itself: it came in
/// through a door that is that service's alone. The container still sees the host that the client named.
#[derive(Clone, Debug)]
pub struct RoutedTo(pub Arc<str>);

/// Brings requests to instances. See the crate's own page.
pub struct Ingress {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: Config,
    fleet: Arc<Fleet>,
    invokers: Arc<dyn Invokers>,
    pub(crate) clock: Clock,
    pub(crate) journal: Arc<Journal>,
    table: Table,
    /// Last, so that the journal's task sees that all others have gone.
    _flusher: Flusher,
}

/// A request with what routing found out about it.
struct Call {
    flight: Flight,
    headers: HeaderMap,
    /// Taken when it is sent.
    body: Option<Incoming>,
    spec: Arc<RevisionSpec>,
    upgrade: Option<OnUpgrade>,
    bound: Option<Bound>,
    /// The service's own door, if it came through that.
    door: Option<RoutedTo>,
    checked: Option<&'static str>,
    deadline: Instant,
}

/// What became of an attempt to hand a request to an instance.
enum Attempt {
    Answered(Response<Body>),
    /// The instance cannot be reached, and nothing of the request has been sent.
    Unreachable(Box<Call>),
}

impl Ingress {
    /// An ingress without services. Must be called within a tokio runtime.
    pub fn new(
        config: Config,
        instances: Arc<dyn Instances>,
        log: Arc<dyn RequestLog>,
        invokers: Arc<dyn Invokers>,
        clock: Clock,
    ) -> Arc<Self> {
        let fleet = Arc::new(Fleet { instances, tuning: config.tuning.clone() });
        let journal = Journal::start(log, config.log_capacity, config.log_delay);
        let _flusher = Flusher(journal.clone());
        let shared = Shared { config, fleet, invokers, clock, journal, table: Table::default(), _flusher };
        Arc::new(Ingress { shared: Arc::new(shared) })
    }

    /// Adds a service, or replaces the one of the same project, region and name. Requests under way go on.
    pub fn set_service(&self, service: ServiceRoute) {
        self.set_services(vec![service]);
    }

    /// Adds or replaces many services at once, which is cheaper than one after the other.
    pub fn set_services(&self, services: Vec<ServiceRoute>) {
        self.shared.table.set(services, |id| self.shared.make(id));
    }

    /// Takes a service's hosts away. Its revisions stay until they are [removed](Ingress::remove_revision).
    pub fn remove_service(&self, project: &str, region: &str, name: &str) {
        self.shared.table.remove(project, region, name);
    }

    /// Adds a revision or changes how it is run. Instances that `min` asks for are started at once.
    pub fn set_revision(&self, spec: RevisionSpec) {
        let revision = self.shared.table.revision(&spec.id, |id| self.shared.make(id));
        revision.spec.store(Some(Arc::new(spec)));
        revision.reconsider();
    }

    /// Ends a revision: nobody is let in any more, requests under way are finished, then its instances stop.
    pub fn remove_revision(&self, id: &RevisionId) {
        if let Some(revision) = self.shared.table.take_revision(id) {
            revision.remove();
        }
    }

    /// To be told when an instance ended by itself: it gets no more requests, and is replaced where needed.
    pub fn instance_ended(&self, id: &RevisionId, instance: &str) {
        if let Some(revision) = self.shared.table.known(id) {
            revision.dismiss(|live| live.instance.id() == instance);
        }
    }

    /// To be told when an instance [takes requests](crate::Instance::takes_requests) that did not, or the other way
    /// round.
    pub fn readiness_changed(&self, id: &RevisionId, instance: &str) {
        if let Some(revision) = self.shared.table.known(id) {
            revision.readiness_changed(instance);
        }
    }

    /// The counters of a revision.
    pub fn counters(&self, id: &RevisionId) -> Option<Snapshot> {
        let revision = self.shared.table.known(id)?;
        let state = revision.lock();
        Some(Snapshot::of(&revision.counters, &state))
    }

    /// Tells every instance that has requests what it has [worked](crate::Instance::worked) until now.
    pub fn tell_work(&self) {
        self.shared.table.revisions().iter().for_each(|revision| revision.tell_work());
    }

    /// How many records of requests were lost because the log was too slow.
    pub fn dropped_records(&self) -> u64 {
        self.shared.journal.dropped()
    }

    /// Whether some service answers on this host (a port is ignored).
    pub fn knows(&self, host: &str) -> bool {
        self.shared.table.find(host).is_some()
    }

    /// Answers a request: by an instance of the service that its host names, or with an error page.
    ///
    /// All that needs no waiting happens in this call; the future is a few words, since servers move it about.
    pub fn serve(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        let accepted = self.shared.clone().accept(request, peer, scheme);
        async move {
            match accepted {
                Ok(call) => answer(call).await,
                Err(response) => *response,
            }
        }
    }
}

async fn answer(mut call: Box<Call>) -> Response<Body> {
    for _ in 0..2 {
        match call.attempt().await {
            Attempt::Answered(response) => return response,
            Attempt::Unreachable(again) => call = again,
        }
    }
    call.flight.fail(Failure::Broken)
}

type Refused = Box<Response<Body>>;

impl Shared {
    fn make(&self, id: &RevisionId) -> Arc<Revision> {
        Arc::new(Revision::new(id, self.fleet.clone()))
    }

    /// Routing and every check that needs no instance.
    fn accept(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        scheme: Scheme,
    ) -> Result<Box<Call>, Refused> {
        let started = Instant::now();
        let refuse = |failure: Failure, uri: &Uri| Err(Box::new(failure.response(uri.path())));
        let host = match syntax::host(&request) {
            Ok(host) => host,
            Err(failure) => return Err(Box::new(syntax::refusal(failure, &request))),
        };
        let found = match request.extensions().get::<RoutedTo>() {
            Some(RoutedTo(service)) => self.table.find(service),
            None => host.to_str().ok().and_then(|host| self.table.find(host)),
        };
        let Some(target) = found.filter(|target| may_enter(target, &request)) else {
            return refuse(Failure::NotFound, request.uri());
        };
        let upgrade = syntax::asks_for_websocket(&request).then(|| hyper::upgrade::on(&mut request));
        let bound = Bound::of(request.headers());
        let Some(revision) = target.choose(bound.map(|bound| bound.revision)).cloned() else {
            return refuse(Failure::NotFound, request.uri());
        };
        let (mut parts, body) = request.into_parts();
        let door = parts.extensions.remove::<RoutedTo>();
        let (line, headers) = ((parts.method, parts.uri, parts.version), parts.headers);
        let trace = Trace::of(&headers, || revision.sample(started));
        let client = (peer.ip().to_canonical(), scheme);
        let spec = revision.spec.load_full();
        let route = (target.route, revision);
        let invokers = self.invokers.clone();
        let flight = Flight::new(self, route, line, &headers, host, client, (started, trace));
        let checked = match invoke::check(&*invokers, flight.route(), &headers, flight.host()) {
            Ok(checked) => checked,
            Err(failure) => return Err(Box::new(flight.fail(failure))),
        };
        let Some(spec) = spec else { return Err(Box::new(flight.fail(Failure::NotStarting))) };
        let deadline = started + spec.timeout;
        Ok(Box::new(Call {
            flight,
            headers,
            body: Some(body),
            spec,
            upgrade,
            bound,
            door,
            checked,
            deadline,
        }))
    }
}

impl Call {
    async fn attempt(mut self: Box<Self>) -> Attempt {
        let limit = self.limit();
        if self.size().lower() > limit {
            return Attempt::Answered(self.flight.fail(Failure::TooLarge));
        }
        let live = match self.admit().await {
            Ok(live) => live,
            Err(refusal) => return Attempt::Answered(self.flight.fail(refusal.into())),
        };
        match self.spec.protocol {
            Protocol::Http1 => self.over_http1(live, limit).await,
            // Boxed, so that the future of the usual way stays small.
            Protocol::H2c => Box::pin(self.over_h2c(live, limit)).await,
        }
    }

    /// How large the body says it is.
    fn size(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }

    /// How large the body may be.
    fn limit(&self) -> u64 {
        if self.flight.version >= Version::HTTP_2 { u64::MAX } else { self.flight.shared.config.max_request }
    }

    async fn admit(&mut self) -> Result<Arc<Live>, Refusal> {
        loop {
            match self.seat().await {
                Err(Refusal::Removed) if self.reroute() => {}
                outcome => return outcome,
            }
        }
    }

    /// While the request waited its revision lost all traffic: it goes where one that came now would go. Whether
    /// there is such a place; one that others may call was not asked whether this caller may.
    fn reroute(&mut self) -> bool {
        let host = self.door.as_ref().map_or(self.flight.host(), |RoutedTo(service)| service);
        let Some(target) = self.flight.shared.table.find(host) else { return false };
        let bound = self.bound.map(|bound| bound.revision);
        let Some(revision) = target.choose(bound).filter(|other| !Arc::ptr_eq(other, self.flight.revision()))
        else {
            return false;
        };
        if !self.flight.route().service.is_open_alike(&target.route.service) {
            return false;
        }
        let Some(spec) = revision.spec.load_full() else { return false };
        let revision = revision.clone();
        self.flight.reroute(target.route, revision);
        self.spec = spec;
        true
    }

    async fn seat(&mut self) -> Result<Arc<Live>, Refusal> {
        let prefer =
            self.bound.filter(|_| self.spec.affinity == Affinity::Cookie).map(|bound| bound.instance);
        let revision = self.flight.revision().clone();
        let slot = match revision.admit(self.flight.started, &self.spec, prefer) {
            Admission::Now(slot) => slot,
            Admission::Later(ticket) => Box::pin(ticket.wait(&self.spec, self.deadline)).await?,
            Admission::Never(refusal) => return Err(refusal),
        };
        Ok(self.flight.board(slot))
    }

    /// The instance is gone, it seems: it gets no more requests, and this one looks for another.
    fn unreachable(mut self: Box<Self>, live: &Arc<Live>) -> Attempt {
        self.flight.disembark();
        self.flight.revision().dismiss(|other| Arc::ptr_eq(other, live));
        Attempt::Unreachable(self)
    }

    fn context(&self) -> forward::Context<'_> {
        self.flight.context(self.checked)
    }

    fn sends(&self) -> Sends {
        if self.upgrade.is_some() {
            return Sends::WebSocket;
        }
        let method = &self.flight.method;
        match self.size().exact() {
            Some(0) if *method == Method::POST || *method == Method::PUT || *method == Method::PATCH => {
                Sends::Length(0)
            }
            Some(0) => Sends::Nothing,
            Some(length) => Sends::Length(length),
            None => Sends::Chunks,
        }
    }

    async fn over_http1(mut self: Box<Self>, live: Arc<Live>, limit: u64) -> Attempt {
        let sends = self.sends();
        let repeatable = self.repeatable(sends);
        let mut conn = match live.pool.take(repeatable) {
            Some(conn) => conn,
            None => match Conn::open(&*live.instance, self.deadline).await {
                Ok(conn) => conn,
                Err(Unconnected::Gone) => return self.unreachable(&live),
                Err(reason) => return Attempt::Answered(self.flight.fail(reason.into())),
            },
        };
        forward::write_head(&mut conn.output, &self.headers, &self.context(), sends);
        let mut body = self.body.take().filter(|body| !body.is_end_stream());
        loop {
            let mut exchange = Exchange::new(conn, body.take(), sends, limit, self.deadline);
            let call = &mut *self;
            // The request's map serves for the response, so that no new one is needed.
            let outcome = poll_fn(|cx| exchange.poll_head(cx, &mut call.headers, &call.flight.method)).await;
            self.flight.request_bytes = exchange.request_bytes();
            match outcome {
                Ok(head) => return Attempt::Answered(self.respond(exchange, head, &live)),
                Err(Fault::Stale) if repeatable == Repeatable::Yes => {
                    match Conn::open(&*live.instance, self.deadline).await {
                        Ok(mut fresh) => {
                            fresh.output = exchange.into_head();
                            conn = fresh;
                        }
                        Err(reason) => return Attempt::Answered(self.flight.fail(reason.into())),
                    }
                }
                Err(fault) => return Attempt::Answered(failed(self.flight, fault)),
            }
        }
    }

    /// Makes the response of an instance's.
    fn respond(mut self: Box<Self>, exchange: Exchange, head: Head, live: &Live) -> Response<Body> {
        let flight = &mut self.flight;
        if let Framing::Length(length) = head.framing
            && length > flight.shared.config.max_response
            && flight.version < Version::HTTP_2
        {
            return self.flight.fail(Failure::ResponseTooLarge);
        }
        flight.status = head.status.as_u16();
        let mut response = Response::new(Body::default());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        finish(&mut response, flight, binding(&self.spec, flight, live, self.bound));
        if head.framing == Framing::Switched {
            switch(&mut response, self.flight, exchange, self.upgrade, self.deadline);
        } else {
            *response.body_mut() = Body::received(self.flight, exchange);
        }
        response
    }

    fn repeatable(&self, sends: Sends) -> Repeatable {
        let safe = sends == Sends::Nothing && self.flight.method.is_idempotent();
        if safe { Repeatable::Yes } else { Repeatable::No }
    }

    async fn over_h2c(mut self: Box<Self>, live: Arc<Live>, limit: u64) -> Attempt {
        let progress = Arc::<Progress>::default();
        let path = self.flight.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(self.flight.host()).path_and_query(path).build();
        let Ok(uri) = uri else { return Attempt::Answered(self.flight.fail(Failure::BadRequest)) };
        let Some(body) = self.body.take() else {
            return Attempt::Answered(self.flight.fail(Failure::BadRequest));
        };
        let mut request = Request::new(Upload::new(body, progress.clone(), limit));
        *request.method_mut() = self.flight.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = forward::map(&self.headers, &self.flight.context(self.checked));
        let sending = live.link.send(&*live.instance, request);
        let outcome = tokio::time::timeout_at(self.deadline.into(), sending).await;
        self.flight.request_bytes = progress.bytes();
        let (response, user) = match outcome {
            Ok(Ok(answer)) => answer,
            Ok(Err(Failed::Unreachable(request))) => {
                self.body = Some(request.into_body().into_inner());
                return self.unreachable(&live);
            }
            Ok(Err(Failed::Broken)) => return Attempt::Answered(failed(self.flight, progress.fault())),
            Err(_) => return Attempt::Answered(self.flight.fail(Failure::Timeout)),
        };
        let (head, body) = response.into_parts();
        let bound = binding(&self.spec, &self.flight, &live, self.bound);
        self.flight.status = head.status.as_u16();
        let mut answer = Response::new(Body::default());
        *answer.status_mut() = head.status;
        *answer.headers_mut() = head.headers;
        finish(&mut answer, &self.flight, bound);
        *answer.body_mut() = Body::h2c(Answer::new((body, user), self.flight, progress, self.spec.timeout));
        Attempt::Answered(answer)
    }
}

/// A request fails with what its exchange met.
fn failed(flight: Flight, fault: Fault) -> Response<Body> {
    match fault {
        Fault::Stale | Fault::Broken => flight.fail(Failure::Broken),
        Fault::Timeout => flight.fail(Failure::Timeout),
        Fault::TooLarge => flight.fail(Failure::TooLarge),
        Fault::Garbled => flight.fail(Failure::BadRequest),
        Fault::Gone => flight.abandon(),
    }
}

fn switch(
    response: &mut Response<Body>,
    flight: Flight,
    exchange: Exchange,
    upgrade: Option<OnUpgrade>,
    deadline: Instant,
) {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let (stream, early) = exchange.into_stream();
    if let Some(client) = upgrade {
        tunnel::join(client, Switched { stream, early }, flight, deadline);
    }
}

/// Adds what is ours to an instance's response.
fn finish(response: &mut Response<Body>, flight: &Flight, bound: Option<Bound>) {
    flight.sign(response);
    if let Some(cookie) = bound.and_then(Bound::set_cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// To what a client is to be bound, unless it is already.
fn binding(spec: &RevisionSpec, flight: &Flight, live: &Live, before: Option<Bound>) -> Option<Bound> {
    let bound = Bound { revision: flight.revision().hash, instance: live.hash };
    (spec.affinity == Affinity::Cookie && before != Some(bound)).then_some(bound)
}

fn may_enter(target: &Target, request: &Request<Incoming>) -> bool {
    target.route.service.access == Access::All || request.extensions().get::<FromWorkload>().is_some()
}
