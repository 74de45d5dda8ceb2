//! Looks at a busy revision from time to time and acts on what [`scale`](crate::scale) says.
//!
//! Revisions that rest (nothing runs, nothing to retire or to freeze) have no task and no timer: a thousand
//! idle services cost no CPU.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    Cpu, RevisionSpec,
    revision::{Life, Revision, State, Watch},
    scale::Facts,
};

impl Revision {
    /// Has the revision looked at until it rests again.
    pub(crate) fn keep_watch(self: &Arc<Self>, state: &mut State) {
        if state.watch == Watch::Asleep && state.life == Life::Serving {
            state.watch = Watch::Awake;
            tokio::spawn(watch(Arc::downgrade(self), self.fleet.tuning.tick));
        }
    }

    /// Looks at the revision at once, for instance because its settings have changed.
    pub(crate) fn reconsider(self: &Arc<Self>) {
        let used = self.used_cpu();
        let now = self.time(Instant::now());
        let mut state = self.lock();
        if self.look(&mut state, now, used).is_some() {
            self.keep_watch(&mut state);
        }
    }

    /// Tells the instances that have requests what they have worked until now: they are told by themselves only when
    /// the last of their requests ends, which under constant load is never.
    pub(crate) fn tell_work(&self) {
        let now = self.time(Instant::now());
        let state = self.lock();
        let all = state.serving.iter().chain(&state.leaving);
        all.filter(|live| live.idle(now).is_none()).for_each(|live| live.tell_work(now));
    }

    /// What CPU each instance has used. To know it files are read, for which no request is to wait: it takes the lock only
    /// to find the instances.
    fn used_cpu(&self) -> Vec<(u32, Duration)> {
        let serving = self.lock().serving.clone();
        serving.iter().filter_map(|live| Some((live.hash, live.instance.cpu_time()?))).collect()
    }

    /// A look of the revision's task, which ends when there is nothing left to do.
    fn tick(self: &Arc<Self>) -> Option<Duration> {
        let used = self.used_cpu();
        let now = self.time(Instant::now());
        let mut state = self.lock();
        let next = self.look(&mut state, now, used);
        if next.is_none() {
            state.watch = Watch::Asleep;
        }
        next
    }

    /// One look: scale, retire, freeze. Says when to look again; `None` when nothing will change by itself. `used` is what
    /// CPU each instance has used.
    fn look(
        self: &Arc<Self>,
        state: &mut State,
        now: Duration,
        used: Vec<(u32, Duration)>,
    ) -> Option<Duration> {
        let spec = self.spec.load_full().filter(|_| state.life == Life::Serving)?;
        if state.is_proven() {
            state.backoff.succeeded();
        }
        // More may fit than before: the concurrency may have been raised.
        self.serve_waiters(state, now);
        state.note_cpu(now, used);
        let facts = state.facts(now, &spec);
        let decision = state.scaler.decide(now, &facts);
        state.desired = decision.desired;
        self.start_up_to(state, now, decision.wanted);
        self.retire(state, now, &spec);
        let all_frozen = self.freeze_idle(state, now, &spec);
        state.serving.iter().for_each(|live| live.pool.prune());
        if state.rests(&spec) && all_frozen {
            return None;
        }
        let tick = self.fleet.tuning.tick;
        Some(state.backoff.wait(now).map_or(tick, |wait| wait.min(tick)))
    }

    fn retire(self: &Arc<Self>, state: &mut State, now: Duration, spec: &RevisionSpec) {
        for place in state.surplus(now, spec) {
            let live = state.serving.remove(place);
            state.leaving.push(live);
        }
        self.stop_finished(state);
    }

    /// Freezes what has been idle for long enough; whether nothing is left to freeze.
    fn freeze_idle(&self, state: &mut State, now: Duration, spec: &RevisionSpec) -> bool {
        if !self.freezes(spec) {
            return true;
        }
        let after = self.fleet.tuning.freeze_after;
        for live in &state.serving {
            if live.idle(now).is_some_and(|idle| idle >= after) {
                live.freeze();
            }
        }
        state.serving.iter().all(|live| live.is_frozen())
    }
}

impl State {
    fn facts(&self, now: Duration, spec: &RevisionSpec) -> Facts {
        let requests = self.requests();
        Facts {
            requests,
            concurrency: spec.concurrency,
            cpus: spec.cpus,
            min: spec.min,
            max: spec.max,
            have: self.have(),
            away: self.away(),
            idle: (requests == 0).then(|| now.saturating_sub(self.busy_at)),
            idle_after: spec.idle_after,
            cpu: spec.cpu,
        }
    }

    /// Adds the CPU that instances have used since the last look, as a level of the time until the next.
    fn note_cpu(&mut self, now: Duration, used: Vec<(u32, Duration)>) {
        if !used.is_empty() || self.meter.knows() {
            let level = self.meter.read(now, used);
            self.scaler.cpu.set(now, level);
        }
    }

    /// Whether there is nothing to do and nothing to wait for.
    fn rests(&self, spec: &RevisionSpec) -> bool {
        let floor = spec.min.min(spec.max);
        let works_alone = floor > 0 && spec.cpu == Cpu::Always && self.meter.knows();
        let settled = self.starting == 0 && self.leaving.is_empty() && self.serving.len() as u32 == floor;
        settled && !works_alone && self.requests() == 0 && self.desired <= floor
    }
}

/// Ticks until the revision rests or is gone.
async fn watch(revision: Weak<Revision>, first: Duration) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        let next = revision.upgrade().and_then(|revision| revision.tick());
        match next {
            Some(next) => wait = next,
            None => return,
        }
    }
}
