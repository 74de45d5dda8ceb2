//! Instances that are not ready: they run, and get no new requests until they are ready again.
//!
//! They stay among those that serve, and so count towards the maximum, are frozen and retired like others, and keep the
//! clients that are [bound](crate::affinity) to them, as Cloud Run documents. What they cannot take others must: where there
//! is demand, as many more are started as are away, up to the maximum. What waits when there are none is answered when
//! one is ready again or has been started, and refused as where there are no instances at all.

use std::{sync::Arc, time::Duration, time::Instant};

use crate::{
    RevisionSpec,
    revision::{Live, PROVEN, Revision, State},
    scale::{self, Away},
};

impl Revision {
    /// An instance takes requests that did not, or the other way round. One that no longer does as soon as it was started
    /// is no better than one that ended: the next start waits.
    pub(crate) fn readiness_changed(self: &Arc<Self>, instance: &str) {
        let now = self.time(Instant::now());
        let mut state = self.lock();
        let Some(live) = state.serving.iter().find(|live| live.instance.id() == instance) else { return };
        if !live.instance.takes_requests() && live.started.elapsed() < PROVEN {
            state.backoff.failed(now);
        }
        self.serve_waiters(&mut state, now);
        self.keep_watch(&mut state);
    }

    /// Starts what the requests of this moment need.
    pub(crate) fn start_for_demand(self: &Arc<Self>, state: &mut State, now: Duration, spec: &RevisionSpec) {
        let wanted = scale::replacing(state.requests(), spec.concurrency, state.away());
        self.start_up_to(state, now, wanted.min(spec.max));
    }
}

impl State {
    /// The least busy instance with room: first among those that are to stay, then among the others. Who is bound to one
    /// stays with it, ready or not.
    pub(crate) fn least_busy(&self, concurrency: u32, prefer: Option<u32>) -> Option<Arc<Live>> {
        let has_room = |live: &&Arc<Live>| live.inflight() < concurrency;
        let live = self.bound(prefer).filter(has_room).or_else(|| {
            let home = self.desired as usize;
            let ready = || self.serving.iter().filter(|live| live.instance.takes_requests());
            let least = ready().take(home).filter(has_room).min_by_key(|live| live.inflight());
            least.or_else(|| ready().skip(home).filter(has_room).min_by_key(|live| live.inflight()))
        });
        live.cloned()
    }

    /// The instance that a client is bound to, if it is away and has room: those that wait cannot have it anyway.
    pub(crate) fn away_for(&self, concurrency: u32, prefer: Option<u32>) -> Option<Arc<Live>> {
        let bound = self.bound(prefer).filter(|live| !live.instance.takes_requests());
        bound.filter(|live| live.inflight() < concurrency).cloned()
    }

    fn bound(&self, prefer: Option<u32>) -> Option<&Arc<Live>> {
        prefer.and_then(|hash| self.serving.iter().find(|live| live.hash == hash))
    }

    /// Those that get no new requests for now.
    pub(crate) fn away(&self) -> Away {
        let away = self.serving.iter().filter(|live| !live.instance.takes_requests());
        away.fold(Away::default(), |sum, live| Away {
            instances: sum.instances + 1,
            requests: sum.requests + live.inflight(),
        })
    }

    /// Whether an instance has shown that it works.
    pub(crate) fn is_proven(&self) -> bool {
        self.serving.iter().any(|live| live.instance.takes_requests() && live.started.elapsed() >= PROVEN)
    }

    /// Places in `serving` of those to retire, the last place first. Those that are away go before others.
    pub(crate) fn surplus(&self, now: Duration, spec: &RevisionSpec) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.serving.len()).collect();
        order.sort_by_key(|place| !self.serving[*place].instance.takes_requests());
        let idle: Vec<_> = order.iter().map(|place| self.serving[*place].idle(now)).collect();
        let retired = scale::retire(&idle, self.desired.max(spec.min), spec.idle_after);
        let mut places: Vec<_> = retired.into_iter().map(|at| order[at]).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        places
    }
}
