//! The instances: started when the ingress asks, watched while they run, stopped when it no longer needs them.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use ingress::{Instance, Instances, RevisionId, StartError, Stream};
use kernel::{
    BoxFuture,
    ports::{LogSource, LogStream, Owner},
};

use crate::{
    Run,
    cpu::{self, BOOST, Cpu, REST_AFTER},
    liveness,
    plan::{self, Part},
    readiness::{self, Readiness, Watched},
    reconcile::Failure,
    record::{Container, Kind, Revision, Service},
    runtime::{Beside, Exit, Plan, Running, Runtime},
    started::{Started, Unready, as_one, is_steady},
    usage::{Ledger, Meter},
};

/// How long an instance may take to stop (<https://cloud.google.com/run/docs/container-contract>).
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How long the ingress may take to note an instance that was started for it.
const HANDED_OVER: Duration = Duration::from_secs(1);

/// All instances of all revisions.
pub struct Fleet {
    runtime: Arc<dyn Runtime>,
    run: OnceLock<Weak<Run>>,
    /// Instances that proved a revision and wait for the ingress to ask for one.
    spares: Mutex<HashMap<RevisionId, Arc<Live>>>,
    members: Mutex<Members>,
    pub(crate) ledger: Ledger,
}

/// Every instance that runs, ready or not.
#[derive(Default)]
struct Members {
    known: HashMap<Arc<str>, Known>,
    /// Nobody is let in any more.
    closed: bool,
}

/// What is known of an instance that runs.
struct Known {
    source: LogSource,
    running: Arc<dyn Running>,
    /// What it is billed by, if it is a service's.
    meter: Option<Arc<Meter>>,
}

/// An instance that is ready for requests.
struct Live {
    source: LogSource,
    port: u16,
    running: Arc<dyn Running>,
    cpu: Arc<Cpu>,
    meter: Arc<Meter>,
    readiness: Arc<Readiness>,
}

impl Fleet {
    /// A fleet without instances.
    pub fn new(runtime: Arc<dyn Runtime>) -> Arc<Fleet> {
        Arc::new(Fleet {
            runtime,
            run: OnceLock::new(),
            spares: Mutex::default(),
            members: Mutex::default(),
            ledger: Ledger::default(),
        })
    }

    pub(crate) fn bind(&self, run: &Arc<Run>) {
        // Bound once, at the start; a second engine on the same fleet has no use for it.
        let _ = self.run.set(Arc::downgrade(run));
    }

    /// How many instances of a service or a worker pool run.
    pub(crate) fn count(&self, whose: &Service) -> usize {
        let is_its = |known: &&Known| {
            let source = &known.source;
            let kind = match source.owner {
                Owner::Revision { .. } => Some(Kind::Service),
                Owner::Worker { .. } => Some(Kind::WorkerPool),
                Owner::Task { .. } => None,
            };
            *source.project == *whose.project
                && *source.region == *whose.region
                && **source.owner.name() == *whose.name
                && kind == Some(whose.kind())
        };
        lock(&self.members).known.values().filter(is_its).count()
    }

    /// What the instances that run are billed by.
    pub(crate) fn meters(&self) -> Vec<Arc<Meter>> {
        lock(&self.members).known.values().filter_map(|known| known.meter.clone()).collect()
    }

    /// Whether haar itself is stopping, so that nothing can be learned from how instances end.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.members).closed
    }

    /// Starts an instance to see whether a revision can serve, and keeps it for the first request.
    pub(crate) async fn prove(self: &Arc<Self>, run: &Arc<Run>, id: &RevisionId) -> Result<(), Failure> {
        let revision =
            run.revisions.get(id.as_str()).map_err(|error| Failure::new("Internal", error.message()))?;
        let live = self.launch(run, &revision.value).await?;
        if revision.value.kind() == Kind::WorkerPool {
            is_steady(run, &revision.value, &live.source, &live.running).await?;
        }
        let allocation = cpu::allocation(&revision.value.template.clone().unwrap_or_default());
        self.keep_spare(id, live, allocation, run.idle());
        Ok(())
    }

    /// An instance that nobody sends requests: the one that proved its revision, if it still runs, or a new one.
    pub(crate) async fn hire(
        self: &Arc<Self>,
        run: &Arc<Run>,
        revision: &Revision,
    ) -> Result<Arc<dyn Running>, Failure> {
        match self.take_spare(&plan::revision_id(revision)) {
            Some(spare) => Ok(spare.running.clone()),
            None => Ok(self.launch(run, revision).await?.running.clone()),
        }
    }

    fn keep_spare(
        self: &Arc<Self>,
        id: &RevisionId,
        live: Arc<Live>,
        allocation: ingress::Cpu,
        kept: Duration,
    ) {
        let instance = live.source.instance.clone();
        let replaced = lock(&self.spares).insert(id.clone(), live);
        end_unused(replaced);
        let (fleet, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let is_it = |spare: &Live| spare.source.instance == instance;
            let end = tokio::time::Instant::now() + kept;
            if allocation == ingress::Cpu::DuringRequests && REST_AFTER < kept {
                tokio::time::sleep(REST_AFTER).await;
                // Under the lock: who takes it thaws it afterwards.
                lock(&fleet.spares).get(&id).filter(|spare| is_it(spare)).inspect(|spare| spare.cpu.freeze());
            }
            tokio::time::sleep_until(end).await;
            fleet.retire_spare(&id, is_it);
        });
    }

    /// Ends the instance that waits for a revision's first request.
    pub(crate) fn forget(&self, id: &RevisionId) {
        self.retire_spare(id, |_| true);
    }

    fn retire_spare(&self, id: &RevisionId, is_meant: impl Fn(&Live) -> bool) {
        let mut spares = lock(&self.spares);
        let unused =
            if spares.get(id).is_some_and(|spare| is_meant(spare)) { spares.remove(id) } else { None };
        end_unused(unused);
    }

    /// The instance that waits for a revision's first request, if it still runs.
    fn take_spare(&self, id: &RevisionId) -> Option<Arc<Live>> {
        let spare = lock(&self.spares).remove(id)?;
        spare.cpu.thaw();
        lock(&self.members).known.contains_key(&spare.source.instance).then_some(spare)
    }

    /// Stops everything, as haar itself stops.
    pub async fn shut_down(&self) {
        lock(&self.spares).clear();
        let (all, meters): (Vec<_>, Vec<_>) = {
            let mut members = lock(&self.members);
            members.closed = true;
            members.known.values().map(|known| (known.running.clone(), known.meter.clone())).unzip()
        };
        let stops: Vec<_> = all.into_iter().map(|running| tokio::spawn(retire(running))).collect();
        for stop in stops {
            let _ = stop.await;
        }
        // Whoever watches them may learn of their end later.
        meters.iter().flatten().for_each(|meter| meter.ended());
        if let Some(run) = self.run.get().and_then(Weak::upgrade)
            && let Err(error) = run.keep_usage().await
        {
            tracing::warn!("the last usage is not kept: {error:?}");
        }
    }

    async fn launch(self: &Arc<Self>, run: &Arc<Run>, revision: &Revision) -> Result<Arc<Live>, Failure> {
        if self.is_closed() {
            return Err(shutting_down());
        }
        let parts = plan::make(run, revision).await?;
        let meter = Arc::new(self.ledger.meter(revision, &run.usage));
        let mut started = self.start_all(run, parts).await?;
        let Some(main) = started.iter().find(|one| one.takes_requests).or(started.first()) else {
            return Err(Failure::new("Internal", "the revision has no container"));
        };
        let (source, port, memory) = (main.source.clone(), main.port, main.memory);
        let unready = Unready::new(as_one(main, &started));
        let known =
            Known { source: source.clone(), running: unready.running.clone(), meter: Some(meter.clone()) };
        if !self.watch(run, plan::revision_id(revision), known, memory) {
            return Err(shutting_down());
        }
        for one in &mut started {
            if let Err(failure) = one.wait(run).await {
                unready.running.stop(Duration::ZERO).await;
                return Err(failure);
            }
        }
        let running = unready.into_ready();
        meter.ready();
        cpu::end_boost(started.iter().filter_map(Started::boosted).collect(), BOOST);
        let cpu = Arc::new(Cpu::new(running.clone(), meter.clone()));
        let live = Live { source, port, running, cpu, meter, readiness: Arc::default() };
        let id = plan::revision_id(revision);
        started.into_iter().for_each(|one| live.probe(run, &id, one.port, one.container));
        Ok(Arc::new(live))
    }

    /// Starts the containers of an instance, each when those that it depends on are ready.
    async fn start_all(&self, run: &Run, parts: Vec<Part>) -> Result<Vec<Started>, Failure> {
        let mut all: Vec<Started> = Vec::new();
        for mut part in parts {
            let is_needed = |one: &&mut Started| part.container.depends_on.contains(&one.container.name);
            for one in all.iter_mut().filter(is_needed) {
                one.wait(run).await?;
            }
            part.plan.beside = Beside(all.first().map(|first| first.running.clone()));
            all.push(self.start_part(run, part).await?);
        }
        Ok(all)
    }

    async fn start_part(&self, run: &Run, part: Part) -> Result<Started, Failure> {
        let Part { container, takes_requests, plan } = part;
        let (source, port, memory) = (plan.source.clone(), plan.port, plan.memory);
        let running = self.start_program(run, plan).await?;
        Ok(Started { container, takes_requests, source, port, memory, running, ready: false })
    }

    /// Starts the container of a job's task, and counts it for as long as it runs.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) async fn start_task(self: &Arc<Self>, plan: Plan) -> Result<Arc<dyn Running>, String> {
        let source = plan.source.clone();
        let running = self.runtime.start(plan).await?;
        let known = Known { source: source.clone(), running: running.clone(), meter: None };
        if !lock(&self.members).admit(known) {
            running.stop(Duration::ZERO).await;
            return Err("The server is shutting down.".into());
        }
        let (fleet, ended) = (self.clone(), running.ended());
        tokio::spawn(async move {
            ended.await;
            lock(&fleet.members).known.remove(&source.instance);
        });
        Ok(running)
    }

    async fn start_program(&self, run: &Run, plan: Plan) -> Result<Arc<dyn Running>, Failure> {
        let source = plan.source.clone();
        self.runtime.start(plan).await.map_err(|why| {
            run.ports.logs.line(&source, LogStream::System, &why);
            Failure::new("HealthCheckContainerError", why)
        })
    }

    /// Counts an instance for as long as it runs, and says in its log how it ended. Whether it may run at all.
    fn watch(self: &Arc<Self>, run: &Arc<Run>, id: RevisionId, known: Known, memory: u64) -> bool {
        let (source, ended, meter) = (known.source.clone(), known.running.ended(), known.meter.clone());
        if !lock(&self.members).admit(known) {
            return false;
        }
        let (fleet, run) = (self.clone(), run.clone());
        tokio::spawn(async move {
            let exit = ended.await;
            if let Some(remark) = remark(exit, memory) {
                run.ports.logs.line(&source, LogStream::System, &remark);
            }
            if let Some(meter) = meter {
                meter.ended();
            }
            lock(&fleet.members).known.remove(&source.instance);
            lock(&fleet.spares).retain(|_, spare| spare.source.instance != source.instance);
            let Some(ingress) = run.ingress.get() else { return };
            ingress.instance_ended(&id, &source.instance);
            // It may have ended while it was being handed over, and have been unknown there until now.
            tokio::time::sleep(HANDED_OVER).await;
            ingress.instance_ended(&id, &source.instance);
        });
        true
    }
}

impl Live {
    /// Has one of its containers probed for as long as it runs.
    fn probe(&self, run: &Arc<Run>, id: &RevisionId, port: u16, container: Container) {
        let (cpu, source) = (self.cpu.clone(), self.source.clone());
        if let Some(probe) = container.liveness_probe {
            let logs = run.ports.logs.clone();
            tokio::spawn(liveness::watch(cpu.clone(), port, probe, source.clone(), logs));
        }
        if let Some(probe) = container.readiness_probe {
            let (revision, readiness) = (id.clone(), self.readiness.clone());
            let watched = Watched { revision, cpu, readiness, port, probe, source };
            tokio::spawn(readiness::watch(run.clone(), watched));
        }
    }
}

impl Members {
    fn admit(&mut self, known: Known) -> bool {
        if !self.closed {
            self.known.insert(known.source.instance.clone(), known);
        }
        !self.closed
    }
}

fn shutting_down() -> Failure {
    Failure::new("Internal", "The server is shutting down.")
}

fn end_unused(live: Option<Arc<Live>>) {
    if let Some(live) = live {
        tokio::spawn(retire(live.running.clone()));
    }
}

/// Lets an instance end in its own time, up to the grace period.
pub(crate) async fn retire(running: Arc<dyn Running>) {
    running.thaw();
    running.stop(GRACE).await;
}

impl Instances for Fleet {
    fn start(&self, revision: &RevisionId) -> BoxFuture<'static, Result<Arc<dyn Instance>, StartError>> {
        let spare = self.take_spare(revision);
        let run = self.run.get().and_then(Weak::upgrade);
        let id = revision.clone();
        Box::pin(async move {
            if let Some(spare) = spare {
                return Ok(spare as Arc<dyn Instance>);
            }
            let run = run.ok_or_else(|| StartError("the server is shutting down".into()))?;
            let revision =
                run.revisions.get(id.as_str()).map_err(|error| StartError(error.message().to_owned()))?;
            let fleet = run.fleet.clone();
            let live =
                fleet.launch(&run, &revision.value).await.map_err(|failure| StartError(failure.message))?;
            Ok(live as Arc<dyn Instance>)
        })
    }

    fn stop(&self, instance: Arc<dyn Instance>) -> BoxFuture<'static, ()> {
        let running = lock(&self.members).known.get(instance.id()).map(|known| known.running.clone());
        Box::pin(async move {
            if let Some(running) = running {
                retire(running).await;
            }
        })
    }
}

impl Instance for Live {
    fn id(&self) -> &str {
        &self.source.instance
    }

    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        self.running.connect(self.port)
    }

    fn thaw(&self) {
        self.cpu.thaw();
    }

    fn freeze(&self) {
        self.cpu.freeze();
    }

    fn worked(&self, span: Duration, requests: u32) {
        self.meter.worked(span, requests);
    }

    fn takes_requests(&self) -> bool {
        self.readiness.is_ready()
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.running.cpu_time()
    }
}

/// What the platform's log says of an end; nothing of a good one.
pub(crate) fn remark(exit: Exit, memory: u64) -> Option<String> {
    match exit {
        Exit::Code(0) => None,
        Exit::Code(code) => Some(format!("Container called exit({code}).")),
        Exit::Signal(15) => None,
        Exit::Signal(signal) => Some(format!("Container terminated on signal {signal}.")),
        Exit::OutOfMemory => Some(format!(
            "Memory limit of {mib} MiB exceeded with {mib} MiB used. Consider increasing the memory limit, see \
             https://cloud.google.com/run/docs/configuring/memory-limits",
            mib = memory >> 20
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
