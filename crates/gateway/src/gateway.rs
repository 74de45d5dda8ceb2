//! The gateway put together: what is served, on which terms, and where it listens.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use kernel::{
    Method,
    ports::{Audit, Authenticator, Authority, Projects},
};

use crate::{
    callers::{Anonymous, Callers},
    dispatch::Dispatch,
    hosts::{self, Ours},
    listen::{self, Connections, Limits, Listener, Opened},
    permits::Permits,
    site::{Hosts, Site, Sites},
    tls::{Ca, Tls},
    upstream::{Proxy, Upstream},
};

/// What every connection knows.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    pub(crate) upstream: Upstream,
    pub(crate) sites: Sites,
    pub(crate) callers: Callers,
    pub(crate) dispatch: Dispatch,
    pub(crate) connections: Connections,
    ours: Ours,
    own: RwLock<Vec<SocketAddr>>,
}

impl Shared {
    /// Whether a connection to this place ends here: a host of ours, or one of our own listeners.
    pub(crate) fn is_ours(&self, host: &str, port: u16) -> bool {
        self.ours.contain(host) || self.is_own(host, port)
    }

    /// Whether this is one of our own listeners.
    fn is_own(&self, host: &str, port: u16) -> bool {
        hosts::is_loopback(host) && self.is_own_port(port)
    }

    /// The machine's proxy, unless that is this gateway itself, as when it was started under `haar exec`.
    pub(crate) fn other<'u>(&self, proxy: Option<&'u Proxy>) -> Option<&'u Proxy> {
        proxy.filter(|proxy| !proxy.is_at(|host, port| self.is_own(host, port)))
    }

    fn is_own_port(&self, port: u16) -> bool {
        self.own.read().unwrap_or_else(PoisonError::into_inner).iter().any(|own| own.port() == port)
    }

    pub(crate) fn remember_own(&self, address: SocketAddr) {
        self.own.write().unwrap_or_else(PoisonError::into_inner).push(address);
    }
}

/// The gateway: it serves a method table and sites on any number of listeners. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gateway").field(&self.0.upstream).finish()
    }
}

impl Gateway {
    /// Begins a gateway that asks these who calls, what they may, and which projects there are.
    pub fn builder(
        authenticator: Arc<dyn Authenticator>,
        authority: Arc<dyn Authority>,
        projects: Arc<dyn Projects>,
    ) -> Builder {
        Builder {
            callers: Callers { authenticator, authority, anonymous: Anonymous::Deny },
            projects,
            methods: Vec::new(),
            sites: Sites::default(),
            ours: Ours::google(),
            upstream: Upstream::direct(),
            limits: Limits::default(),
            audit: None,
            ca: None,
        }
    }

    /// Accepts connections on a listener until what is returned is dropped. Must be called inside a runtime with
    /// I/O and time enabled.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn open(&self, listener: Listener) -> io::Result<Opened> {
        listen::open(self.0.clone(), listener)
    }

    /// Ends: no connection is accepted any more, calls that were begun are finished, and after `deadline` whatever
    /// is left is cut off. Returns when nothing is left.
    pub async fn close(&self, deadline: Duration) {
        self.0.connections.close(deadline).await;
    }
}

/// A gateway to be.
pub struct Builder {
    callers: Callers,
    projects: Arc<dyn Projects>,
    methods: Vec<Method>,
    sites: Sites,
    ours: Ours,
    upstream: Upstream,
    limits: Limits,
    audit: Option<Arc<dyn Audit>>,
    ca: Option<Arc<Ca>>,
}

impl Builder {
    /// Serves these methods of a product too.
    pub fn methods(mut self, methods: Vec<Method>) -> Self {
        self.methods.extend(methods);
        self
    }

    /// Serves a site for these hosts, on paths that begin with `prefix`. Sites come before methods, and of two that
    /// fit the first answers.
    pub fn site(mut self, hosts: Hosts, prefix: &str, site: Arc<dyn Site>) -> Self {
        self.sites.add(hosts, prefix, site);
        self
    }

    /// Who calls without credentials on the plain port; nobody, unless this says otherwise.
    pub fn anonymous(mut self, anonymous: Anonymous) -> Self {
        self.callers.anonymous = anonymous;
        self
    }

    /// Speaks TLS too, with certificates of this authority.
    pub fn tls(mut self, ca: Arc<Ca>) -> Self {
        self.ca = Some(ca);
        self
    }

    /// The hosts that are answered here; Google's, unless this says otherwise.
    pub fn ours(mut self, ours: Ours) -> Self {
        self.ours = ours;
        self
    }

    /// How other hosts are reached; directly, unless this says otherwise.
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = upstream;
        self
    }

    /// Where calls are written down; nowhere, unless this says otherwise.
    pub fn audit(mut self, audit: Arc<dyn Audit>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// What a client may take.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// A mistake in the program: a method that is there twice or asks a permission on a field that it has not; or
    /// a TLS library that cannot begin.
    pub fn build(self) -> Result<Gateway, String> {
        let dispatch = Dispatch::new(self.methods, Permits { projects: self.projects }, self.audit)?;
        let tls = match self.ca {
            Some(ca) => Some(Tls::new(ca, self.ours.clone()).map_err(|error| format!("TLS: {error}"))?),
            None => None,
        };
        Ok(Gateway(Arc::new(Shared {
            connections: Connections::new(self.limits.connections),
            limits: self.limits,
            tls,
            upstream: self.upstream,
            sites: self.sites,
            callers: self.callers,
            dispatch,
            ours: self.ours,
            own: RwLock::default(),
        })))
    }
}
