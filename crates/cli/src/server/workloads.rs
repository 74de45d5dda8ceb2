//! What instances find on their inside, and who they are while they run.
//!
//! Each instance has sockets in its own namespace that are answered by this process: the metadata server and
//! Google's APIs. A connection through one of them says by itself which instance it is; nothing that the instance
//! sends can change that.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use gateway::{Body, Changing, Gateway, Instance, Listener, Opened, full};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use iam::Iam;
use kernel::{BoxFuture, ports::Project};
use run::local::{Inside, InsideSockets, Workload};
use tokio::net::TcpListener;

/// Instances that run, by id.
#[derive(Default)]
pub struct Workloads {
    gateway: OnceLock<Gateway>,
    mapped: OnceLock<Changing>,
    metadata: OnceLock<Arc<Metadata>>,
    running: Mutex<HashMap<Arc<str>, iam::Instance>>,
}

impl Workloads {
    /// Tells of the gateway, which is made after the products that start instances.
    pub fn bind(&self, gateway: Gateway) {
        // Bound once: there is one gateway in a process.
        let _ = self.gateway.set(gateway);
    }

    /// Tells of the domains that lead to services.
    pub fn resolve(&self, mapped: Changing) {
        let _ = self.mapped.set(mapped);
    }

    /// Tells of the metadata server.
    pub fn describe_by(&self, metadata: Arc<Metadata>) {
        let _ = self.metadata.set(metadata);
    }

    /// Opens a socket of an instance. One that cannot be opened costs the instance what it would find there.
    fn open(&self, socket: TcpListener, instance: &Arc<str>) -> Option<Opened> {
        let opened = match (self.gateway.get(), socket.into_std()) {
            (Some(gateway), Ok(socket)) => gateway.open(self.listener(socket, instance)),
            (None, _) => Err(io::Error::other("the gateway is not there yet")),
            (_, Err(error)) => Err(error),
        };
        opened
            .inspect_err(|error| tracing::warn!("{instance} lacks the metadata server or APIs: {error}"))
            .ok()
    }

    /// What answers at a socket of an instance. One on this machine's own loopback is a plain process's, whose metadata
    /// server it is and nothing else: all others come to us by the proxy.
    fn listener(&self, socket: std::net::TcpListener, instance: &Arc<str>) -> Listener {
        let instance = Instance(instance.clone());
        let at = socket.local_addr().ok().filter(|address| address.ip().is_loopback());
        match self.metadata.get().zip(at) {
            Some((metadata, at)) => {
                Listener::published(socket, Arc::new(Own { metadata: metadata.clone(), instance, at }))
            }
            None => Listener::workload(socket, instance),
        }
    }

    /// Who an instance is.
    pub fn find(&self, instance: &Instance) -> Option<iam::Instance> {
        lock(&self.running).get(&instance.0).cloned()
    }
}

/// The sockets of instances, opened on the gateway.
pub struct Doors(pub Arc<Workloads>);

impl Inside for Doors {
    fn open(&self, workload: &Workload, sockets: InsideSockets) -> Box<dyn Send + Sync> {
        let id = workload.source.instance.clone();
        lock(&self.0.running).insert(id.clone(), describe(workload));
        let InsideSockets { metadata, https, http, local } = sockets;
        let sockets = [metadata, https, http, local].into_iter().flatten();
        let opened = sockets.filter_map(|socket| self.0.open(socket, &id));
        Box::new(Opening { _opened: opened.collect(), id: id.clone(), workloads: Arc::downgrade(&self.0) })
    }

    fn leads_here(&self, host: &str) -> bool {
        self.0.mapped.get().is_some_and(|is_mapped| is_mapped(host))
    }
}

/// Open while an instance runs.
struct Opening {
    _opened: Vec<Opened>,
    id: Arc<str>,
    workloads: Weak<Workloads>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(workloads) = self.workloads.upgrade() {
            lock(&workloads.running).remove(&self.id);
        }
    }
}

/// The metadata server, for instances only.
pub struct Metadata {
    pub iam: Arc<Iam>,
    pub workloads: Arc<Workloads>,
}

/// What another user is told.
const STRANGER: &str = "This metadata server answers to the instance that it belongs to only.\n";

/// The hosts that it answers to.
pub const METADATA_HOSTS: [&str; 3] = ["metadata.google.internal", "169.254.169.254", "metadata"];

impl gateway::Site for Metadata {
    fn serve(
        &self,
        request: Request<Incoming>,
        _: SocketAddr,
        _: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        let who = request.extensions().get::<Instance>().and_then(|instance| self.workloads.find(instance));
        let iam = self.iam.clone();
        Box::pin(async move {
            let Some(who) = who else {
                return gateway::text(
                    StatusCode::FORBIDDEN,
                    "The metadata server answers to workloads only.\n",
                );
            };
            if request.method() != Method::GET {
                return gateway::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
            }
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            iam.metadata(&who, request.headers(), path, query).await.map(full)
        })
    }
}

/// The metadata server of one plain process, at a port that is its own. Other users of this machine reach the port too,
/// and get nothing: it would make them who the instance is.
struct Own {
    metadata: Arc<Metadata>,
    instance: Instance,
    at: SocketAddr,
}

impl gateway::Site for Own {
    fn serve(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        is_tls: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        request.extensions_mut().insert(self.instance.clone());
        let (metadata, at) = (self.metadata.clone(), self.at);
        Box::pin(async move {
            match gateway::is_of_our_user(peer, at).await {
                true => metadata.serve(request, peer, is_tls).await,
                false => gateway::text(StatusCode::FORBIDDEN, STRANGER),
            }
        })
    }
}

fn describe(workload: &Workload) -> iam::Instance {
    let source = &workload.source;
    iam::Instance {
        email: workload.service_account.to_string(),
        project: Project { id: source.project.clone(), number: workload.project_number },
        region: source.region.to_string(),
        id: source.instance.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
