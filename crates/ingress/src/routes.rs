//! Which service a host belongs to, and which of its revisions takes a request.
//!
//! The table is read without a lock on every request and replaced as a whole by the few writers there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{invoke::LastSaid, random, revision::Revision};

/// The full name of a revision: any text that is unique, such as
/// `projects/P/locations/L/services/S/revisions/R`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionId(Arc<str>);

impl RevisionId {
    /// The revision of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        RevisionId(name.into())
    }

    /// The name as a whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the name: what `K_REVISION` and the request log say.
    pub fn short(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// From where a service may be called (Cloud Run's ingress setting).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// From everywhere.
    #[default]
    All,
    /// Only from workloads: to all others the service does not exist.
    Internal,
}

/// Who may call a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Invoker {
    /// Everybody: the IAM check is switched off.
    #[default]
    Public,
    /// Those whom [`Invokers`](crate::Invokers) accepts: by their identity token, or everybody.
    Iam,
}

/// Where the requests of a service go.
#[derive(Clone, Debug)]
pub struct ServiceRoute {
    /// The service's name, as `K_SERVICE` has it.
    pub name: Arc<str>,
    /// The project's id.
    pub project: Arc<str>,
    /// The region.
    pub region: Arc<str>,
    /// The hosts it answers on, in lower case and without a port.
    pub hosts: Vec<Box<str>>,
    /// Tags: each has the host `TAG---HOST` for every host of the service, past the traffic split.
    pub tags: Vec<(Box<str>, RevisionId)>,
    /// How requests are split, in percent. What is missing to 100 goes to nobody else: the shares count.
    pub traffic: Vec<(RevisionId, u32)>,
    /// From where it may be called.
    pub access: Access,
    /// Who may call it.
    pub invoker: Invoker,
    /// Audiences that identity tokens may name apart from the service's own URLs.
    pub audiences: Vec<Box<str>>,
}

impl ServiceRoute {
    /// Whether this is the same service, open to the same callers: who was let in here was let in there.
    pub(crate) fn is_open_alike(&self, other: &ServiceRoute) -> bool {
        (&self.project, &self.region, &self.name) == (&other.project, &other.region, &other.name)
            && (self.access, self.invoker) == (other.access, other.invoker)
            && self.audiences == other.audiences
    }
}

/// How requests are spoken to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    #[default]
    Http1,
    /// HTTP/2 without TLS (the port is named `h2c`).
    H2c,
}

/// When an instance has its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cpu {
    /// While it has requests (request-based billing).
    #[default]
    DuringRequests,
    /// Always (instance-based billing).
    Always,
}

/// Whether the requests of one client go to one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Affinity {
    /// They go anywhere.
    #[default]
    None,
    /// By a cookie, as long as that instance has room.
    Cookie,
}

/// How long and how many requests wait for an instance.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// How many may wait for one revision.
    pub requests: usize,
    /// How long one waits while no instance is being started.
    pub wait: Duration,
}

impl Default for QueueLimits {
    /// 10 s is Cloud Run's documented lower bound; the count only guards memory.
    fn default() -> Self {
        QueueLimits { requests: 10_000, wait: Duration::from_secs(10) }
    }
}

/// How a revision is run.
#[derive(Clone, Debug)]
pub struct RevisionSpec {
    /// Its name.
    pub id: RevisionId,
    /// How many requests an instance takes at a time (1 to 1000).
    pub concurrency: u32,
    /// How long a request may take as a whole, up to 60 minutes.
    pub timeout: Duration,
    /// How many instances are kept even when idle.
    pub min: u32,
    /// How many instances there may be.
    pub max: u32,
    /// How instances are spoken to.
    pub protocol: Protocol,
    /// The limits of the queue.
    pub queue: QueueLimits,
    /// How long after its last request an instance that is not needed stays: 30 s unless said otherwise, where Cloud Run may
    /// keep it for up to 15 minutes.
    pub idle_after: Duration,
    /// When instances have their CPU.
    pub cpu: Cpu,
    /// How many CPUs an instance has.
    pub cpus: f64,
    /// Whether clients stay on their instance.
    pub affinity: Affinity,
}

impl RevisionSpec {
    /// A revision with Cloud Run's defaults: 80 requests an instance, 300 s, 0 to 100 instances, 1 CPU.
    pub fn new(id: RevisionId) -> Self {
        RevisionSpec {
            id,
            concurrency: 80,
            timeout: Duration::from_secs(300),
            min: 0,
            max: 100,
            protocol: Protocol::default(),
            queue: QueueLimits::default(),
            idle_after: Duration::from_secs(30),
            cpu: Cpu::default(),
            cpus: 1.0,
            affinity: Affinity::default(),
        }
    }
}

/// A service with its revisions found.
pub(crate) struct Route {
    pub(crate) service: ServiceRoute,
    /// Whether it is open to everybody, as was last said.
    pub(crate) said: LastSaid,
    /// Each with the sum of the shares up to and including its own.
    split: Vec<(u32, Arc<Revision>)>,
    tags: Vec<Arc<Revision>>,
}

/// What a host leads to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) route: Arc<Route>,
    /// The place among the tags, when it is a tag's host.
    tag: Option<usize>,
}

impl Target {
    /// The revision that takes a request: the tag's, or the one that a client has been bound to while it still
    /// has traffic, or one by chance according to the shares.
    pub(crate) fn choose(&self, bound: Option<u32>) -> Option<&Arc<Revision>> {
        if let Some(tag) = self.tag {
            return self.route.tags.get(tag);
        }
        let split = &self.route.split;
        if split.len() == 1 {
            return split.first().map(|(_, revision)| revision);
        }
        let binds = |hash| split.iter().find(|(_, r)| r.hash == hash && r.affinity() == Affinity::Cookie);
        if let Some((_, revision)) = bound.and_then(binds) {
            return Some(revision);
        }
        let dice = random::below(split.last()?.0);
        split.iter().find(|(upto, _)| dice < *upto).map(|(_, revision)| revision)
    }
}

#[derive(Clone, Default)]
struct Hosts(HashMap<Box<str>, Target>);

/// All services by host, and all revisions by name.
#[derive(Default)]
pub(crate) struct Table {
    hosts: ArcSwap<Hosts>,
    owned: Mutex<Owned>,
}

#[derive(Default)]
struct Owned {
    /// The hosts each service holds, tags included, by (project, region, name).
    services: HashMap<ServiceKey, Vec<Box<str>>>,
    revisions: HashMap<RevisionId, Arc<Revision>>,
}

/// A service by project, region and name.
type ServiceKey = (Arc<str>, Arc<str>, Arc<str>);

fn key(service: &ServiceRoute) -> ServiceKey {
    (service.project.clone(), service.region.clone(), service.name.clone())
}

impl Table {
    /// What this `Host` header or authority leads to. Ports, a final dot and case make no difference.
    pub(crate) fn find(&self, host: &str) -> Option<Target> {
        let bare = without_port(host);
        let hosts = self.hosts.load();
        if let Some(target) = hosts.0.get(bare) {
            return Some(target.clone());
        }
        let lower = bare.trim_end_matches('.').to_ascii_lowercase();
        hosts.0.get(lower.as_str()).cloned()
    }

    /// Sets these services at once. `make` makes a revision that is not known yet.
    pub(crate) fn set(&self, services: Vec<ServiceRoute>, make: impl Fn(&RevisionId) -> Arc<Revision>) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts = Hosts::clone(&self.hosts.load());
        for service in services {
            owned.forget(&key(&service), &mut hosts);
            owned.add(service, &mut hosts, &make);
        }
        self.hosts.store(Arc::new(hosts));
    }

    pub(crate) fn remove(&self, project: &str, region: &str, name: &str) {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts = Hosts::clone(&self.hosts.load());
        owned.forget(&(project.into(), region.into(), name.into()), &mut hosts);
        self.hosts.store(Arc::new(hosts));
    }

    /// The revision of this name, made when it is not known yet.
    pub(crate) fn revision(
        &self,
        id: &RevisionId,
        make: impl FnOnce(&RevisionId) -> Arc<Revision>,
    ) -> Arc<Revision> {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.revisions.entry(id.clone()).or_insert_with(|| make(id)).clone()
    }

    pub(crate) fn known(&self, id: &RevisionId) -> Option<Arc<Revision>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).revisions.get(id).cloned()
    }

    pub(crate) fn revisions(&self) -> Vec<Arc<Revision>> {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.revisions.values().cloned().collect()
    }

    pub(crate) fn take_revision(&self, id: &RevisionId) -> Option<Arc<Revision>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).revisions.remove(id)
    }
}

impl Owned {
    fn forget(&mut self, key: &ServiceKey, hosts: &mut Hosts) {
        for host in self.services.remove(key).unwrap_or_default() {
            let ours = hosts.0.get(&host).is_some_and(|target| self::key(&target.route.service) == *key);
            if ours {
                hosts.0.remove(&host);
            }
        }
    }

    fn add(&mut self, service: ServiceRoute, hosts: &mut Hosts, make: impl Fn(&RevisionId) -> Arc<Revision>) {
        let route = Arc::new(self.resolve(service, make));
        let service = &route.service;
        let tags = service.tags.iter().enumerate();
        let tagged = tags.flat_map(|(i, (tag, _))| {
            service.hosts.iter().map(move |host| (format!("{tag}---{host}").into_boxed_str(), Some(i)))
        });
        let plain = service.hosts.iter().map(|host| (host.clone(), None));
        let all: Vec<_> = plain.chain(tagged).collect();
        self.services.insert(key(service), all.iter().map(|(host, _)| host.clone()).collect());
        hosts.0.extend(all.into_iter().map(|(host, tag)| (host, Target { route: route.clone(), tag })));
    }

    fn resolve(&mut self, service: ServiceRoute, make: impl Fn(&RevisionId) -> Arc<Revision>) -> Route {
        let mut find = |id: &RevisionId| self.revisions.entry(id.clone()).or_insert_with(|| make(id)).clone();
        let mut sum = 0;
        let shares = service.traffic.iter().filter(|(_, percent)| *percent > 0);
        let split = shares
            .map(|(id, percent)| {
                sum += percent;
                (sum, find(id))
            })
            .collect();
        let tags = service.tags.iter().map(|(_, id)| find(id)).collect();
        Route { service, said: LastSaid::default(), split, tags }
    }
}

/// A host without its port; brackets of IPv6 addresses stay.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}
