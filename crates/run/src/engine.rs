//! The engine: what there is, and what it stands on.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ingress::Ingress;
use kernel::{
    Caller, Error, Principal, Resource, Result,
    call::RequestInfo,
    clock::Clock,
    collection::{Collection, Held, Wording},
    operations::Operations,
    ports::{Authority, Constraints, Databases, Identity, Images, Logs, Policies, Projects, Secrets},
    store::Store,
};
use tokio::sync::watch;

use crate::{
    domains::DomainMapping,
    fleet::Fleet,
    jobs::Jobs,
    record::{Kind, Revision, Service, State},
    usage, volumes, words,
    workers::Crews,
};

/// The service that resources here belong to.
pub(crate) const RUN: &str = "run.googleapis.com";

/// How long an instance without requests is kept.
const IDLE: Duration = Duration::from_secs(30);

/// What Cloud Run needs of other products and of the machine.
#[derive(Clone)]
pub struct Ports {
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Projects and their numbers.
    pub projects: Arc<dyn Projects>,
    /// Who may do what.
    pub authority: Arc<dyn Authority>,
    /// Policies of services.
    pub policies: Arc<dyn Policies>,
    /// Service accounts.
    pub identity: Arc<dyn Identity>,
    /// Secrets for environments.
    pub secrets: Arc<dyn Secrets>,
    /// Images to start.
    pub images: Arc<dyn Images>,
    /// Where output goes.
    pub logs: Arc<dyn Logs>,
    /// Databases for `/cloudsql`.
    pub databases: Arc<dyn Databases>,
    /// A directory for what volumes show, on the filesystem where databases have their sockets; ours alone, emptied
    /// when Cloud Run is opened.
    pub run_directory: PathBuf,
    /// The port in `http://NAME-NUMBER.REGION.run.localhost:PORT`.
    pub public_port: u16,
}

impl Ports {
    /// Somebody as a caller, for what an instance is given.
    pub(crate) fn caller(&self, principal: Principal) -> Caller {
        let request =
            RequestInfo { time: self.clock.now(), peer: None, host: RUN.into(), user_agent: "".into() };
        Caller::new(principal, request, self.authority.clone())
    }
}

/// Cloud Run.
pub struct Run {
    pub(crate) ports: Ports,
    pub(crate) services: Collection<Service>,
    pub(crate) revisions: Collection<Revision>,
    pub(crate) usage: Collection<usage::Kept>,
    pub(crate) jobs: Jobs,
    pub(crate) domains: Collection<DomainMapping>,
    pub(crate) operations: Operations,
    pub(crate) constraints: OnceLock<Arc<dyn Constraints>>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) ingress: OnceLock<Arc<Ingress>>,
    working: Mutex<HashMap<String, Arc<Work>>>,
    /// How long an instance without requests is kept, in milliseconds.
    idle: AtomicU64,
    /// Who works in worker pools.
    pub(crate) crews: Crews,
    /// Held while the ingress is told of a service, so that it is never told of an older state last.
    pub(crate) routing: Mutex<()>,
}

/// What is done about a service.
#[derive(Default)]
pub(crate) struct Work {
    /// One at a time works on it; who comes later waits, and finds that its generation was overtaken.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// How many wait to delete it: whoever works on it gives way.
    pub(crate) deletions: watch::Sender<u32>,
}

/// A service or a worker pool in `haar status`.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its address, if it has one.
    pub url: String,
    /// The latest revision that is ready.
    pub revision: String,
    /// How many instances run.
    pub instances: usize,
    /// Why it is not as asked for, in a sentence, if it failed to become so.
    pub failure: Option<String>,
}

impl Run {
    /// Opens Cloud Run over what is stored. Nothing serves until [`Run::begin`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn open(ports: Ports, fleet: Arc<Fleet>, operations: Operations) -> Result<Arc<Run>> {
        volumes::sweep(&ports.run_directory).map_err(Error::internal)?;
        let services =
            Collection::open(ports.store.clone(), "run/services/", words::missing("Service")).await?;
        let revisions =
            Collection::open(ports.store.clone(), "run/revisions/", Wording::of("Revision")).await?;
        let usage = Collection::open(ports.store.clone(), "run/usage/", Wording::of("Usage")).await?;
        let jobs = Jobs::open(&ports.store).await?;
        let domains =
            Collection::open(ports.store.clone(), "run/domains/", words::missing("DomainMapping")).await?;
        let run = Arc::new(Run {
            ports,
            services,
            revisions,
            usage,
            jobs,
            domains,
            operations,
            constraints: OnceLock::new(),
            fleet,
            ingress: OnceLock::new(),
            working: Mutex::default(),
            idle: AtomicU64::new(IDLE.as_millis() as u64),
            crews: Crews::default(),
            routing: Mutex::default(),
        });
        run.fleet.bind(&run);
        Ok(run)
    }

    /// Says whom to ask about organization policies. Without it there are none. The first call counts.
    pub fn obey(&self, constraints: Arc<dyn Constraints>) {
        let _ = self.constraints.set(constraints);
    }

    /// Gives every service its routes and goes on with what was interrupted.
    pub fn begin(self: &Arc<Self>, ingress: Arc<Ingress>) {
        if self.ingress.set(ingress).is_err() {
            return;
        }
        self.resume_operations();
        self.sweep_revisions();
        self.resume_jobs();
        self.keep_usage_up();
        let services = self.all_services();
        self.route_all(&services);
        for service in services {
            if service.value.observed_generation < service.value.generation {
                self.reconcile_later(&service.value);
            }
        }
    }

    /// Sets how long an instance without requests is kept, for services that are routed from now on: 30 s unless
    /// said otherwise. Cloud Run keeps some for up to 15 minutes, at its own discretion.
    pub fn keep_idle(&self, idle: Duration) {
        self.idle.store(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle.load(Relaxed))
    }

    /// Writes usage down from time to time, for as long as there is an engine.
    fn keep_usage_up(self: &Arc<Self>) {
        let run = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(usage::KEEP).await;
                let Some(run) = run.upgrade() else { return };
                if let Err(error) = run.keep_usage().await {
                    tracing::warn!("usage is not kept: {error:?}");
                }
            }
        });
    }

    /// How requests to a service's revisions went since haar began to serve them, of those that serve.
    pub fn counters(&self) -> Vec<(String, ingress::Snapshot)> {
        let Some(ingress) = self.ingress.get() else { return Vec::new() };
        let services = self.all_services();
        let revisions = services.iter().flat_map(|service| self.revisions_of(&service.value));
        revisions
            .filter_map(|revision| {
                let counters = ingress.counters(&crate::plan::revision_id(&revision.value))?;
                Some((revision.value.resource_name(), counters))
            })
            .collect()
    }

    /// Removes the revisions of services whose deletion was interrupted.
    fn sweep_revisions(self: &Arc<Self>) {
        let orphans = self.revisions.mirror().scan("", "", usize::MAX, |_, revision| {
            let revision = &revision.value;
            let service = self.services.find(&revision.parent());
            service.is_none_or(|service| service.value.uid != revision.service_uid)
        });
        let run = self.clone();
        tokio::spawn(async move {
            for (name, _) in orphans {
                let _ = run.revisions.delete(&name, "").await;
            }
        });
    }

    /// What `haar status` shows of services.
    pub fn status(&self) -> Vec<ServiceStatus> {
        self.status_of_all(Kind::Service)
    }

    /// What it shows of worker pools. They have no address.
    pub fn worker_pools(&self) -> Vec<ServiceStatus> {
        self.status_of_all(Kind::WorkerPool)
    }

    fn status_of_all(&self, kind: Kind) -> Vec<ServiceStatus> {
        let all = self.all_services();
        all.iter().filter(|held| held.kind() == kind).map(|held| self.status_of(&held.value)).collect()
    }

    fn status_of(&self, service: &Service) -> ServiceStatus {
        let failed = service.ready.as_ref().filter(|ready| ready.state() == State::False);
        ServiceStatus {
            name: service.name.clone(),
            region: service.region.clone(),
            url: match service.kind() {
                Kind::Service => self.url(service),
                Kind::WorkerPool => String::new(),
            },
            revision: service.latest_ready.clone(),
            instances: self.fleet.count(service),
            failure: failed.map(|ready| ready.message.clone()),
        }
    }

    /// All services and worker pools.
    pub(crate) fn all_services(&self) -> Vec<Held<Service>> {
        self.services
            .mirror()
            .scan("", "", usize::MAX, |_, _| true)
            .into_iter()
            .map(|(_, service)| service)
            .collect()
    }

    pub(crate) fn revisions_of(&self, service: &Service) -> Vec<Held<Revision>> {
        let prefix = format!("{}/revisions/", service.resource_name());
        self.revisions
            .mirror()
            .scan(&prefix, "", usize::MAX, |_, _| true)
            .into_iter()
            .map(|(_, revision)| revision)
            .collect()
    }

    /// The address of a service: a name that browsers and curl resolve to this machine.
    pub(crate) fn url(&self, service: &Service) -> String {
        format!("http://{}:{}", self.local_host(service), self.ports.public_port)
    }

    /// The address of a revision that has a tag.
    pub(crate) fn tag_url(&self, service: &Service, tag: &str) -> String {
        format!("http://{tag}---{}:{}", self.local_host(service), self.ports.public_port)
    }

    /// The host in that address.
    pub(crate) fn local_host(&self, service: &Service) -> String {
        format!("{}.run.localhost", self.stem(service))
    }

    /// The host that it has on Google.
    pub(crate) fn google_host(&self, service: &Service) -> String {
        format!("{}.run.app", self.stem(service))
    }

    fn stem(&self, service: &Service) -> String {
        let number = self.ports.projects.known(&service.project).map_or(0, |project| project.number);
        format!("{}-{number}.{}", service.name, service.region)
    }

    /// What is done about a service.
    pub(crate) fn work(&self, name: &str) -> Arc<Work> {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        working.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets what [`Run::work`] gave when nobody else has it.
    pub(crate) fn leave(&self, name: &str, work: Arc<Work>) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's.
        if Arc::strong_count(&work) == 2 {
            working.remove(name);
        }
    }
}

impl Service {
    /// `projects/P/locations/R/services/S`, or `…/workerPools/S`.
    pub fn resource_name(&self) -> String {
        let collection = self.kind().collection();
        format!("projects/{}/locations/{}/{collection}/{}", self.project, self.region, self.name)
    }

    /// The service as permission checks see it.
    pub fn resource(&self) -> Resource {
        Resource::new(RUN, self.resource_name())
    }
}

impl Revision {
    /// `projects/P/locations/R/services/S/revisions/N`, or `…/workerPools/S/revisions/N`.
    pub fn resource_name(&self) -> String {
        format!("{}/revisions/{}", self.parent(), self.name)
    }

    /// The resource name of what it is a revision of.
    pub fn parent(&self) -> String {
        let collection = self.kind().collection();
        format!("projects/{}/locations/{}/{collection}/{}", self.project, self.region, self.service)
    }
}

impl kernel::mirror::Record for Service {
    const FORMAT: u8 = 1;
}

impl kernel::mirror::Record for Revision {
    const FORMAT: u8 = 1;
}
