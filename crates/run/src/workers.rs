//! Worker pools: containers that pull their work from somewhere and take no requests.
//!
//! A pool has as many instances as it was told, shared out between its revisions, whether they have work or not. Each
//! has a *place*: a task that starts an instance, starts another when that has ended, and ends it when the place is no
//! longer wanted. One that ends soon after its start is started again later each time, so that a program that cannot run
//! does not take the machine with it.
//!
//! Everything else about a pool (its changes, revisions, what is proven before instances move) is what services have;
//! see [`record`](crate::record). Declined: scaling by itself, which Cloud Run does not do for pools either.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use ingress::RevisionId;
use tokio::sync::oneshot;

use crate::{
    Run,
    fleet::retire,
    plan,
    record::{Kind, Service},
};

/// How long to wait before an instance is started again that ended early, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an instance must have run for the next one to be started at once.
const LONG: Duration = Duration::from_secs(60);

/// The places of all pools' revisions. A place is there for as long as what is sent here is kept.
#[derive(Default)]
pub(crate) struct Crews(Mutex<HashMap<RevisionId, Vec<oneshot::Sender<()>>>>);

impl Crews {
    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Vec<oneshot::Sender<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// Gives each revision of a pool its places, as many as it shall have instances.
    pub(crate) fn staff(self: &Arc<Self>, pool: &Service) {
        let wanted = shares(pool);
        for revision in self.revisions_of(pool) {
            let name = &revision.value.name;
            let count = wanted.iter().filter(|(of, _)| of == name).map(|(_, count)| count).sum();
            self.set_places(&plan::revision_id(&revision.value), count);
        }
    }

    /// Takes all places of a pool away; instances finish what they are doing.
    pub(crate) fn dismiss(self: &Arc<Self>, pool: &Service) {
        for revision in self.revisions_of(pool) {
            self.set_places(&plan::revision_id(&revision.value), 0);
        }
    }

    fn set_places(self: &Arc<Self>, id: &RevisionId, count: usize) {
        let mut crews = self.crews.lock();
        let places = crews.entry(id.clone()).or_default();
        places.truncate(count);
        while places.len() < count {
            let (kept, given_up) = oneshot::channel();
            places.push(kept);
            tokio::spawn(fill(Arc::downgrade(self), id.clone(), given_up));
        }
        if count == 0 {
            crews.remove(id);
            self.fleet.forget(id);
        }
    }
}

/// Fills a place until it is given up.
async fn fill(run: Weak<Run>, id: RevisionId, mut given_up: oneshot::Receiver<()>) {
    let mut pause = PAUSE;
    loop {
        let Some(run) = run.upgrade().filter(|run| !run.fleet.is_closed()) else { return };
        let hired = tokio::select! {
            hired = hire(&run, &id) => hired,
            _ = &mut given_up => return,
        };
        // An instance may run for as long as haar: nothing else is kept for its sake.
        drop(run);
        // Counted from when it could work: one that is long in failing to start is not restarted at once.
        let begun = Instant::now();
        if let Some(running) = hired {
            tokio::select! {
                _ = running.ended() => {}
                _ = &mut given_up => return retire(running).await,
            }
        }
        pause = if begun.elapsed() < LONG { pause } else { Duration::ZERO };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = &mut given_up => return,
        }
        pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
    }
}

/// A new instance; none when it could not be started, which its log says.
async fn hire(run: &Arc<Run>, id: &RevisionId) -> Option<Arc<dyn crate::runtime::Running>> {
    let revision = run.revisions.find(id.as_str())?;
    match run.fleet.hire(run, &revision.value).await {
        Ok(running) => Some(running),
        Err(failure) => {
            tracing::info!("{}: no instance: {}", id.as_str(), failure.message);
            None
        }
    }
}

/// How many instances each revision has. The parts are whole, and together as many as the pool has.
fn shares(pool: &Service) -> Vec<(String, usize)> {
    debug_assert_eq!(pool.kind(), Kind::WorkerPool);
    let all = u64::from(pool.scaling.unwrap_or_default().manual.unwrap_or(1));
    let (mut percent, mut given) = (0, 0);
    let share = |target: &crate::record::Traffic| {
        percent += u64::from(target.percent);
        let until = all * percent / 100;
        let count = until - given;
        given = until;
        (target.revision.clone(), count as usize)
    };
    pool.serving.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Scaling, Traffic};

    #[test]
    fn instances_are_shared_out_and_none_is_lost() {
        let shared = |manual: Option<u32>, percents: &[u32]| {
            let serving = percents.iter().map(|percent| Traffic { percent: *percent, ..Traffic::default() });
            let pool = Service {
                kind: Kind::WorkerPool.into(),
                serving: serving.collect(),
                scaling: manual.map(|manual| Scaling { manual: Some(manual), ..Scaling::default() }),
                ..Service::default()
            };
            shares(&pool).into_iter().map(|(_, count)| count).collect::<Vec<_>>()
        };
        assert_eq!(shared(None, &[100]), [1]);
        assert_eq!(shared(Some(0), &[100]), [0]);
        assert_eq!(shared(Some(10), &[10, 90]), [1, 9]);
        assert_eq!(shared(Some(3), &[50, 50]), [1, 2]);
        assert_eq!(shared(Some(1), &[10, 90]), [0, 1]);
        assert_eq!(shared(Some(7), &[33, 33, 34]).iter().sum::<usize>(), 7);
    }
}
