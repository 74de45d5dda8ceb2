//! What the ingress is told: which hosts are a service's, and where its requests go.

use std::{collections::BTreeSet, time::Duration};

use ingress::{Access, Affinity, Cpu, Invoker, Protocol, RevisionId, RevisionSpec, ServiceRoute};
use kernel::Principal;

use crate::{
    Run, plan,
    record::{Ingress, Revision, Service, Template},
    rules,
};

impl Run {
    /// Gives a service its routes, as far as it has revisions that can serve.
    pub(crate) fn route(&self, service: &Service) {
        let Some(ingress) = self.ingress.get() else { return };
        let wanted: BTreeSet<&str> = service.serving.iter().map(|target| target.revision.as_str()).collect();
        for revision in self.revisions_of(service) {
            match wanted.contains(revision.value.name.as_str()) {
                true => ingress.set_revision(spec(&revision.value)),
                false => ingress.remove_revision(&plan::revision_id(&revision.value)),
            }
        }
        ingress.set_service(self.service_route(service));
    }

    /// Takes a service's routes away; what is under way ends by itself.
    pub(crate) fn unroute(&self, service: &Service) {
        let Some(ingress) = self.ingress.get() else { return };
        ingress.remove_service(&service.project, &service.region, &service.name);
        for revision in self.revisions_of(service) {
            ingress.remove_revision(&plan::revision_id(&revision.value));
        }
    }

    /// Whether nobody has to say who they are: the check is off, or `allUsers` may invoke.
    fn is_public(&self, service: &Service) -> bool {
        let nobody = self.caller(Principal::Anonymous);
        service.invoker_iam_disabled || nobody.may("run.routes.invoke", &service.resource())
    }

    fn service_route(&self, service: &Service) -> ServiceRoute {
        let id =
            |revision: &str| RevisionId::new(format!("{}/revisions/{revision}", service.resource_name()));
        ServiceRoute {
            name: service.name.as_str().into(),
            project: service.project.as_str().into(),
            region: service.region.as_str().into(),
            hosts: match service.default_uri_disabled {
                true => Vec::new(),
                false => vec![self.local_host(service).into(), self.google_host(service).into()],
            },
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
            invoker: if self.is_public(service) { Invoker::Public } else { Invoker::Iam },
            audiences: service.custom_audiences.iter().map(|audience| audience.as_str().into()).collect(),
        }
    }
}

/// How instances of a revision are scaled and spoken to.
pub(crate) fn spec(revision: &Revision) -> RevisionSpec {
    let template = revision.template.clone().unwrap_or_default();
    let mut spec = RevisionSpec::new(plan::revision_id(revision));
    if let Some(container) = rules::ingress_container(&template) {
        spec.protocol = if container.port_name == "h2c" { Protocol::H2c } else { Protocol::Http1 };
        spec.cpu = if container.cpu_idle { Cpu::DuringRequests } else { Cpu::Always };
    }
    spec.concurrency = template.concurrency;
    spec.timeout = Duration::from_secs(template.timeout_seconds.into());
    spec.affinity = if template.session_affinity { Affinity::Cookie } else { Affinity::None };
    (spec.min, spec.max) = scaling(&template);
    spec
}

fn scaling(template: &Template) -> (u32, u32) {
    let scaling = template.scaling.unwrap_or_default();
    (scaling.min.unwrap_or(0), scaling.max.unwrap_or(rules::DEFAULT_MAX_INSTANCES))
}
