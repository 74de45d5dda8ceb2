//! Ports of this machine that are a service's own: `haar deploy --publish PORT`.
//!
//! Only the loopback interface gets such a port. Which ports there are is kept in a file, so that they are there again
//! when haar is started again; one that somebody else has taken meanwhile is reported in the log and left out.
//!
//! A service has one such port: another one takes its place, `--publish none` takes it back, and it goes when the
//! service is deleted, by whomever.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gateway::{Body, Gateway, Listener, Opened, Site};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ingress::{Ingress, RoutedTo};
use kernel::BoxFuture;

use super::{Parts, listener};
use crate::{
    address,
    data::DataDir,
    report::{Doing, Result},
};

/// Where the ports are kept, in the data directory.
const FILE: &str = "published.json";
/// How often it is looked whether the services are still there.
const LOOK: Duration = Duration::from_secs(2);

/// The ports that are open.
pub struct Published {
    data: DataDir,
    gateway: Gateway,
    ingress: Arc<Ingress>,
    doors: Mutex<BTreeMap<u16, Door>>,
}

/// An open port, and the service behind it.
struct Door {
    service: Arc<OneService>,
    _opened: Opened,
}

impl Published {
    /// Opens what was open before. Must be called inside a runtime.
    pub fn open(data: &DataDir, gateway: Gateway, ingress: Arc<Ingress>) -> Self {
        let published = Published { data: data.clone(), gateway, ingress, doors: Mutex::default() };
        for (port, host) in published.kept() {
            match published.door(port, &host) {
                Ok(door) => drop(published.doors().insert(port, door)),
                Err(error) => tracing::warn!("{host} is not published on port {port}: {error}"),
            }
        }
        published
    }

    /// Publishes a service on a port, in place of whatever service had it and of its own other port. Blocks.
    ///
    /// # Errors
    /// When somebody else has the port, and who.
    pub fn publish(&self, port: u16, host: &str) -> Result<()> {
        let mut doors = self.doors();
        match doors.get(&port) {
            Some(door) => door.service.become_host(host),
            None => drop(doors.insert(port, self.door(port, host)?)),
        }
        doors.retain(|known, door| *known == port || *door.service.host() != *host);
        self.write(&doors)
    }

    /// Takes a service's port back, if it has one. Blocks.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn unpublish(&self, host: &str) -> Result<()> {
        self.retain(|known| known != host)
    }

    /// Keeps the ports of these hosts and closes the others.
    fn retain(&self, is_kept: impl Fn(&str) -> bool) -> Result<()> {
        let mut doors = self.doors();
        let before = doors.len();
        doors.retain(|_, door| is_kept(&door.service.host()));
        if doors.len() == before { Ok(()) } else { self.write(&doors) }
    }

    fn is_empty(&self) -> bool {
        self.doors().is_empty()
    }

    fn write(&self, doors: &BTreeMap<u16, Door>) -> Result<()> {
        let all: BTreeMap<u16, String> =
            doors.iter().map(|(port, door)| (*port, door.service.host().to_string())).collect();
        let text = serde_json::to_vec_pretty(&all).doing("write which ports are published")?;
        self.data.write(FILE, &text).map(drop)
    }

    fn door(&self, port: u16, host: &str) -> Result<Door> {
        let socket = listener::bind((Ipv4Addr::LOCALHOST, port).into())?;
        let service = Arc::new(OneService { ingress: self.ingress.clone(), host: Mutex::new(host.into()) });
        let opened = self.gateway.open(Listener::published(socket, service.clone())).doing("listen")?;
        Ok(Door { service, _opened: opened })
    }

    fn kept(&self) -> BTreeMap<u16, String> {
        let kept = std::fs::read(self.data.join(FILE)).ok();
        kept.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn doors(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the ports of deleted services back, for as long as haar runs.
pub async fn keep(parts: Arc<Parts>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if parts.published.get().is_none_or(Published::is_empty) {
            continue;
        }
        let parts = parts.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let services: Vec<String> = parts.run.status().into_iter().map(|service| service.url).collect();
            let is_served = |host: &str| services.iter().any(|url| address::host(url) == host);
            parts.published.get().map_or(Ok(()), |published| published.retain(is_served))
        });
        if let Ok(Err(trouble)) = kept.await {
            tracing::warn!("the port of a deleted service comes back at the next start: {trouble}");
        }
    }
}

/// A service, whatever host a request names.
struct OneService {
    ingress: Arc<Ingress>,
    host: Mutex<Arc<str>>,
}

impl OneService {
    fn host(&self) -> Arc<str> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn become_host(&self, host: &str) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host.into();
    }
}

impl Site for OneService {
    fn serve(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        tls: bool,
    ) -> BoxFuture<'static, Response<Body>> {
        request.extensions_mut().insert(RoutedTo(self.host()));
        let answer = self.ingress.serve(request, peer, tls);
        Box::pin(async move { answer.await.map(BodyExt::boxed_unsync) })
    }
}
