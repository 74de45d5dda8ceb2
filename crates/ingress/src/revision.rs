//! A revision: its instances, how requests are let in to them, and how instances come and go.
//!
//! One short lock per revision makes admission exact: no instance ever has more requests than its concurrency,
//! no revision more instances than its maximum, and waiting requests are served in order. Instances that stop
//! (they may take their grace period) no longer count towards the maximum.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use crate::{
    Affinity, Cpu, Instance, Instances, RevisionId, RevisionSpec, StartError,
    affinity::short_hash,
    conn::Pool,
    counters::Counters,
    h2c::Link,
    queue::{Refusal, Ticket, Waiter},
    scale::{Backoff, Meter, Scaler, Tuning},
};

/// How long an instance must live for its start to count as a success.
pub(crate) const PROVEN: Duration = Duration::from_secs(10);

/// What all revisions share.
pub(crate) struct Fleet {
    pub(crate) instances: Arc<dyn Instances>,
    pub(crate) tuning: Tuning,
}

pub(crate) struct Revision {
    pub(crate) id: RevisionId,
    /// A short stand-in for the name, in cookies.
    pub(crate) hash: u32,
    pub(crate) spec: ArcSwapOption<RevisionSpec>,
    pub(crate) counters: Counters,
    pub(crate) fleet: Arc<Fleet>,
    /// When the last request was sampled for tracing, in microseconds.
    pub(crate) traced: AtomicU64,
    state: Mutex<State>,
    epoch: Instant,
}

pub(crate) struct State {
    /// Those that take requests, or will again; oldest first.
    pub(crate) serving: Vec<Arc<Live>>,
    /// Those that only finish what they have.
    pub(crate) leaving: Vec<Arc<Live>>,
    pub(crate) starting: u32,
    /// When the oldest start in progress began, as far as known.
    pub(crate) starting_since: Option<Duration>,
    pub(crate) waiters: VecDeque<Waiter>,
    next_waiter: u64,
    pub(crate) running: u32,
    pub(crate) scaler: Scaler,
    pub(crate) backoff: Backoff,
    /// How many of `serving` are to get requests first; the rest take what does not fit.
    pub(crate) desired: u32,
    /// A moving average of how long starts take.
    pub(crate) start_takes: Duration,
    /// When there last was a request.
    pub(crate) busy_at: Duration,
    pub(crate) meter: Meter,
    pub(crate) watch: Watch,
    pub(crate) life: Life,
}

/// Whether the autoscaler's task looks at a revision.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    Asleep,
    Awake,
}

/// Whether a revision still takes requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Serving,
    Removed,
}

/// A started instance.
pub(crate) struct Live {
    pub(crate) instance: Arc<dyn Instance>,
    /// A short stand-in for its id, in cookies.
    pub(crate) hash: u32,
    pub(crate) pool: Pool,
    pub(crate) link: Link,
    pub(crate) started: Instant,
    /// Written only under the revision's lock, like what follows.
    inflight: AtomicU32,
    idle_since: AtomicU64,
    busy_since: AtomicU64,
    /// Requests since then.
    taken: AtomicU32,
    frozen: AtomicBool,
}

impl Live {
    fn new(instance: Arc<dyn Instance>, now: Duration) -> Self {
        Live {
            hash: short_hash(instance.id()),
            instance,
            pool: Pool::default(),
            link: Link::default(),
            started: Instant::now(),
            inflight: AtomicU32::new(0),
            idle_since: AtomicU64::new(now.as_micros() as u64),
            busy_since: AtomicU64::new(0),
            taken: AtomicU32::new(0),
            frozen: AtomicBool::new(false),
        }
    }

    /// How many requests it has.
    pub(crate) fn inflight(&self) -> u32 {
        self.inflight.load(Relaxed)
    }

    /// How long it has had no request; `None` while it has some.
    pub(crate) fn idle(&self, now: Duration) -> Option<Duration> {
        let since = Duration::from_micros(self.idle_since.load(Relaxed));
        (self.inflight.load(Relaxed) == 0).then(|| now.saturating_sub(since))
    }

    /// Tells it what it has worked since it last was told, or had no request. Under the revision's lock.
    pub(crate) fn tell_work(&self, now: Duration) {
        let since = Duration::from_micros(self.busy_since.swap(now.as_micros() as u64, Relaxed));
        self.instance.worked(now.saturating_sub(since), self.taken.swap(0, Relaxed));
    }

    pub(crate) fn freeze(&self) {
        if !self.frozen.swap(true, Relaxed) {
            self.instance.freeze();
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    fn thaw(&self) {
        if self.frozen.load(Relaxed) {
            self.frozen.store(false, Relaxed);
            self.instance.thaw();
        }
    }
}

/// A place for one request on an instance. Dropping it gives the place to the next in the queue.
pub(crate) struct Slot {
    revision: Arc<Revision>,
    live: Arc<Live>,
    armed: bool,
}

impl Slot {
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Gives the place back at this time.
    pub(crate) fn leave(mut self, now: Instant) {
        self.armed = false;
        self.revision.release(&self.live, now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.armed {
            self.revision.release(&self.live, Instant::now());
        }
    }
}

/// The answer to a request that asks for a place.
pub(crate) enum Admission {
    Now(Slot),
    Later(Ticket),
    Never(Refusal),
}

impl Revision {
    pub(crate) fn new(id: &RevisionId, fleet: Arc<Fleet>) -> Self {
        let state = State {
            serving: Vec::new(),
            leaving: Vec::new(),
            starting: 0,
            starting_since: None,
            waiters: VecDeque::new(),
            next_waiter: 0,
            running: 0,
            scaler: Scaler::new(fleet.tuning.clone()),
            backoff: Backoff::default(),
            desired: 0,
            start_takes: Duration::ZERO,
            busy_at: Duration::ZERO,
            meter: Meter::default(),
            watch: Watch::Asleep,
            life: Life::Serving,
        };
        Revision {
            id: id.clone(),
            hash: short_hash(id.as_str()),
            spec: ArcSwapOption::empty(),
            counters: Counters::default(),
            fleet,
            traced: AtomicU64::new(0),
            state: Mutex::new(state),
            epoch: Instant::now(),
        }
    }

    /// This revision's own time: since it became known.
    pub(crate) fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    pub(crate) fn affinity(&self) -> Affinity {
        self.spec.load().as_ref().map_or(Affinity::None, |spec| spec.affinity)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, has it wait, or refuses it. `prefer` is the instance its client is bound to.
    pub(crate) fn admit(
        self: &Arc<Self>,
        now: Instant,
        spec: &RevisionSpec,
        prefer: Option<u32>,
    ) -> Admission {
        let now = self.time(now);
        let mut state = self.lock();
        if state.life == Life::Removed {
            return Admission::Never(Refusal::Removed);
        }
        let slot = if state.waiters.is_empty() {
            self.take(&mut state, now, spec.concurrency, prefer)
        } else {
            let away = state.away_for(spec.concurrency, prefer);
            away.map(|live| self.occupy(&mut state, now, live))
        };
        let admission = match slot {
            Some(slot) => Admission::Now(slot),
            None => self.enqueue(&mut state, now, spec),
        };
        state.note(now);
        self.keep_watch(&mut state);
        admission
    }

    fn enqueue(self: &Arc<Self>, state: &mut State, now: Duration, spec: &RevisionSpec) -> Admission {
        if state.waiters.len() >= spec.queue.requests {
            return Admission::Never(Refusal::NoInstance);
        }
        if state.serving.is_empty() && state.starting == 0 && state.backoff.is_broken(now) {
            return Admission::Never(Refusal::NotStarting);
        }
        let id = state.next_waiter;
        state.next_waiter += 1;
        let (waiter, ticket) = Waiter::new(id, self.clone());
        state.waiters.push_back(waiter);
        self.start_for_demand(state, now, spec);
        Admission::Later(ticket)
    }

    fn take(
        self: &Arc<Self>,
        state: &mut State,
        now: Duration,
        concurrency: u32,
        prefer: Option<u32>,
    ) -> Option<Slot> {
        let live = state.least_busy(concurrency, prefer)?;
        Some(self.occupy(state, now, live))
    }

    fn occupy(self: &Arc<Self>, state: &mut State, now: Duration, live: Arc<Live>) -> Slot {
        live.thaw();
        if live.inflight.fetch_add(1, Relaxed) == 0 {
            live.busy_since.store(now.as_micros() as u64, Relaxed);
        }
        live.taken.fetch_add(1, Relaxed);
        state.running += 1;
        Slot { revision: self.clone(), live, armed: true }
    }

    fn vacate(state: &mut State, live: &Live, now: Duration) {
        state.running -= 1;
        if live.inflight.fetch_sub(1, Relaxed) == 1 {
            live.idle_since.store(now.as_micros() as u64, Relaxed);
            live.tell_work(now);
        }
    }

    fn release(self: &Arc<Self>, live: &Arc<Live>, now: Instant) {
        let now = self.time(now);
        let mut state = self.lock();
        Self::vacate(&mut state, live, now);
        if !state.waiters.is_empty() {
            self.serve_waiters(&mut state, now);
        }
        state.note(now);
        if !state.leaving.is_empty() {
            self.stop_finished(&mut state);
        }
    }

    /// Gives free places to those that wait, in order.
    pub(crate) fn serve_waiters(self: &Arc<Self>, state: &mut State, now: Duration) {
        let Some(spec) = self.spec.load_full() else { return };
        while !state.waiters.is_empty() {
            let Some(slot) = self.take(state, now, spec.concurrency, None) else { break };
            let Some(waiter) = state.waiters.pop_front() else { break };
            if let Err(Ok(mut slot)) = waiter.grant.send(Ok(slot)) {
                // Its client has gone in this very moment; the place is still ours.
                slot.armed = false;
                Self::vacate(state, &slot.live, now);
            }
        }
    }

    /// A request no longer waits.
    pub(crate) fn abandon(&self, id: u64) {
        let now = self.time(Instant::now());
        let mut state = self.lock();
        if let Ok(place) = state.waiters.binary_search_by_key(&id, |waiter| waiter.id) {
            state.waiters.remove(place);
            state.note(now);
        }
    }

    /// Refuses all that wait.
    pub(crate) fn refuse_waiters(state: &mut State, refusal: Refusal) {
        for waiter in state.waiters.drain(..) {
            // One whose client has gone needs no answer.
            let _ = waiter.grant.send(Err(refusal));
        }
    }

    /// Starts instances until there are that many, unless starts keep failing.
    pub(crate) fn start_up_to(self: &Arc<Self>, state: &mut State, now: Duration, wanted: u32) {
        if state.life == Life::Removed || state.backoff.wait(now).is_some() {
            return;
        }
        while state.have() < wanted {
            state.starting += 1;
            state.starting_since.get_or_insert(now);
            tokio::spawn(start(Starting { revision: self.clone(), begun: now, outcome: None }));
        }
    }

    fn started(self: &Arc<Self>, instance: Arc<dyn Instance>, begun: Duration) {
        let now = self.time(Instant::now());
        let mut state = self.lock();
        state.start_ended();
        state.learn_start(now.saturating_sub(begun));
        if state.life == Life::Removed {
            self.stop(instance);
            return;
        }
        self.counters.cold_starts.fetch_add(1, Relaxed);
        state.serving.push(Arc::new(Live::new(instance, now)));
        self.serve_waiters(&mut state, now);
        self.keep_watch(&mut state);
    }

    fn start_failed(self: &Arc<Self>, error: &StartError) {
        tracing::warn!(revision = self.id.as_str(), %error, "an instance did not start");
        let now = self.time(Instant::now());
        let mut state = self.lock();
        state.start_ended();
        state.backoff.failed(now);
        if state.serving.is_empty() && state.starting == 0 && state.backoff.is_broken(now) {
            Self::refuse_waiters(&mut state, Refusal::NotStarting);
        }
        state.note(now);
        self.keep_watch(&mut state);
    }

    /// Takes an instance out of service; it is stopped once its last request has ended.
    pub(crate) fn dismiss(self: &Arc<Self>, matches: impl Fn(&Arc<Live>) -> bool) {
        let now = self.time(Instant::now());
        let mut state = self.lock();
        let Some(place) = state.serving.iter().position(matches) else { return };
        let live = state.serving.remove(place);
        if live.started.elapsed() < PROVEN {
            state.backoff.failed(now);
        }
        state.leaving.push(live);
        self.stop_finished(&mut state);
        if let Some(spec) = self.spec.load_full() {
            self.start_for_demand(&mut state, now, &spec);
        }
        self.keep_watch(&mut state);
    }

    /// Ends the revision: nobody is let in any more, and instances stop as they become free.
    pub(crate) fn remove(self: &Arc<Self>) {
        let mut state = self.lock();
        state.life = Life::Removed;
        Self::refuse_waiters(&mut state, Refusal::Removed);
        let all = std::mem::take(&mut state.serving);
        state.leaving.extend(all);
        self.stop_finished(&mut state);
    }

    /// Stops those of `leaving` that have no request left.
    pub(crate) fn stop_finished(&self, state: &mut State) {
        state.leaving.retain(|live| {
            let busy = live.inflight.load(Relaxed) > 0;
            if !busy {
                live.thaw();
                live.pool.clear();
                self.stop(live.instance.clone());
            }
            busy
        });
    }

    fn stop(&self, instance: Arc<dyn Instance>) {
        tokio::spawn(self.fleet.instances.stop(instance));
    }

    pub(crate) fn freezes(&self, spec: &RevisionSpec) -> bool {
        spec.cpu == Cpu::DuringRequests
    }
}

impl State {
    /// Requests that run or wait.
    pub(crate) fn requests(&self) -> u32 {
        self.running + self.waiters.len() as u32
    }

    /// Instances that take requests or soon will.
    pub(crate) fn have(&self) -> u32 {
        (self.serving.len() + self.leaving.len()) as u32 + self.starting
    }

    /// Records the level of requests.
    pub(crate) fn note(&mut self, now: Duration) {
        let requests = self.requests();
        self.busy_at = now;
        self.scaler.requests.set(now, u64::from(requests));
    }

    fn start_ended(&mut self) {
        self.starting -= 1;
        if self.starting == 0 {
            self.starting_since = None;
        }
    }

    fn learn_start(&mut self, took: Duration) {
        let first = self.start_takes.is_zero();
        self.start_takes = if first { took } else { (self.start_takes * 3 + took) / 4 };
    }
}

/// A start in progress, which ends as a failure if its task is dropped or panics.
struct Starting {
    revision: Arc<Revision>,
    begun: Duration,
    outcome: Option<Result<Arc<dyn Instance>, StartError>>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        match self.outcome.take() {
            Some(Ok(instance)) => self.revision.started(instance, self.begun),
            Some(Err(error)) => self.revision.start_failed(&error),
            None => self.revision.start_failed(&StartError("the start was interrupted".into())),
        }
    }
}

async fn start(mut starting: Starting) {
    let revision = &starting.revision;
    let outcome = revision.fleet.instances.start(&revision.id).await;
    starting.outcome = Some(outcome);
}
