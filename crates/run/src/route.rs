//! What the ingress is told: which hosts are a service's, and where its requests go. A worker pool has instances
//! instead.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ingress::{Access, Affinity, Invoker, Protocol, RevisionId, RevisionSpec, ServiceRoute};
use kernel::collection::Held;

use crate::{
    Run, cpu, plan,
    record::{Ingress, Kind, Revision, Service, Template},
    rules,
};

impl Run {
    /// Gives a service its routes as they are now, as far as it has revisions that can serve.
    pub(crate) fn route(self: &Arc<Self>, name: &str) {
        let Some(ingress) = self.ingress.get() else { return };
        let _one = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = self.services.find(name) {
            self.route_as(ingress, &service.value);
        }
    }

    /// Gives a service the routes of a state that is about to be stored: who reads that it is ready may call it.
    pub(crate) fn route_ahead(self: &Arc<Self>, service: &Service) {
        let Some(ingress) = self.ingress.get() else { return };
        let _one = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        self.route_as(ingress, service);
    }

    fn route_as(self: &Arc<Self>, ingress: &ingress::Ingress, service: &Service) {
        if service.kind() == Kind::WorkerPool {
            return self.staff(service);
        }
        let unused = self.set_revisions(ingress, service);
        ingress.set_service(self.service_route(service));
        // Only now does no request come to these any more.
        unused.iter().for_each(|id| ingress.remove_revision(id));
    }

    /// The same for all services, at the start.
    pub(crate) fn route_all(self: &Arc<Self>, all: &[Held<Service>]) {
        let Some(ingress) = self.ingress.get() else { return };
        let _one = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        let (services, pools): (Vec<_>, Vec<_>) = all.iter().partition(|held| held.kind() == Kind::Service);
        pools.iter().for_each(|pool| self.staff(&pool.value));
        for service in &services {
            self.set_revisions(ingress, &service.value);
        }
        ingress.set_services(services.iter().map(|service| self.service_route(&service.value)).collect());
    }

    /// Takes a service's routes away; what is under way ends by itself.
    pub(crate) fn unroute(self: &Arc<Self>, service: &Service) {
        let Some(ingress) = self.ingress.get() else { return };
        let _one = self.routing.lock().unwrap_or_else(PoisonError::into_inner);
        if service.kind() == Kind::WorkerPool {
            return self.dismiss(service);
        }
        ingress.remove_service(&service.project, &service.region, &service.name);
        for revision in self.revisions_of(service) {
            let id = plan::revision_id(&revision.value);
            ingress.remove_revision(&id);
            self.fleet.forget(&id);
        }
    }

    /// Tells how the revisions that serve are run, and gives those that do not.
    fn set_revisions(&self, ingress: &ingress::Ingress, service: &Service) -> Vec<RevisionId> {
        let wanted: BTreeSet<&str> = service.serving.iter().map(|target| target.revision.as_str()).collect();
        let (serving, unused): (Vec<_>, Vec<_>) = self
            .revisions_of(service)
            .into_iter()
            .partition(|revision| wanted.contains(revision.value.name.as_str()));
        for revision in serving {
            let spec = spec(service, &revision.value);
            ingress.set_revision(RevisionSpec { idle_after: self.idle(), ..spec });
        }
        unused.iter().map(|revision| plan::revision_id(&revision.value)).collect()
    }

    /// The hosts that a service answers on.
    fn hosts(&self, service: &Service) -> Vec<Box<str>> {
        let mut hosts = match service.default_uri_disabled {
            true => Vec::new(),
            false => vec![self.local_host(service).into(), self.google_host(service).into()],
        };
        hosts.extend(self.domains_of(service));
        hosts
    }

    fn service_route(&self, service: &Service) -> ServiceRoute {
        let id =
            |revision: &str| RevisionId::new(format!("{}/revisions/{revision}", service.resource_name()));
        ServiceRoute {
            name: service.name.as_str().into(),
            project: service.project.as_str().into(),
            region: service.region.as_str().into(),
            hosts: self.hosts(service),
            tags: service
                .serving
                .iter()
                .filter(|t| !t.tag.is_empty())
                .map(|t| (t.tag.as_str().into(), id(&t.revision)))
                .collect(),
            traffic: service
                .serving
                .iter()
                .filter(|t| t.percent > 0)
                .map(|t| (id(&t.revision), t.percent))
                .collect(),
            access: match service.ingress() {
                Ingress::Internal | Ingress::InternalAndLoadBalancer => Access::Internal,
                Ingress::Unspecified | Ingress::All => Access::All,
            },
            invoker: if service.invoker_iam_disabled { Invoker::Public } else { Invoker::Iam },
            audiences: service.custom_audiences.iter().map(|audience| audience.as_str().into()).collect(),
        }
    }
}

/// How instances of a revision are scaled and spoken to.
fn spec(service: &Service, revision: &Revision) -> RevisionSpec {
    let template = revision.template.clone().unwrap_or_default();
    let mut spec = RevisionSpec::new(plan::revision_id(revision));
    if let Some(container) = rules::ingress_container(&template) {
        spec.protocol = if container.port_name == "h2c" { Protocol::H2c } else { Protocol::Http1 };
        spec.cpus = f64::from(rules::cpu(&container.cpu)) / 1000.0;
    }
    spec.cpu = cpu::allocation(&template);
    spec.concurrency = template.concurrency;
    spec.timeout = Duration::from_secs(template.timeout_seconds.into());
    spec.affinity = if template.session_affinity { Affinity::Cookie } else { Affinity::None };
    (spec.min, spec.max) = scaling(service, revision, &template);
    spec
}

/// At least and at most so many instances. What is said of the service is shared out by traffic; manual scaling
/// means exactly so many.
fn scaling(service: &Service, revision: &Revision, template: &Template) -> (u32, u32) {
    let its = service.serving.iter().filter(|target| target.revision == revision.name);
    let percent: u32 = its.map(|target| target.percent).sum();
    let share = |count: u32| (u64::from(count) * u64::from(percent)).div_ceil(100) as u32;
    let (own, whole) = (template.scaling.unwrap_or_default(), service.scaling.unwrap_or_default());
    let max = own.max.unwrap_or(rules::DEFAULT_MAX_INSTANCES);
    match whole.manual {
        Some(manual) => (share(manual), share(manual)),
        None => (own.min.unwrap_or(0).max(share(whole.min.unwrap_or(0))).min(max), max),
    }
}
