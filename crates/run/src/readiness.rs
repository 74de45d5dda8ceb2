//! Readiness probes: an instance that is not ready runs on and gets no new requests until it is
//! (<https://cloud.google.com/run/docs/configuring/healthchecks>).
//!
//! What has started is ready: its startup probe said so. An instance is as ready as all of its containers together. What
//! becomes of its requests is the ingress's to say; here it is found out, and told to it.
//!
//! As for [liveness](crate::liveness), an instance without requests has its CPU while it is probed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use ingress::RevisionId;
use kernel::ports::{LogSource, LogStream};
use tokio::time::sleep;

use crate::{Run, cpu::Cpu, probe, record::Probe, words};

/// Whether an instance is ready.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    /// How many of its containers are not.
    unready: AtomicU32,
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        self.unready.load(SeqCst) == 0
    }

    fn turn(&self, course: Course) {
        match course {
            Course::Ready => self.unready.fetch_sub(1, SeqCst),
            Course::Unready => self.unready.fetch_add(1, SeqCst),
        };
    }
}

/// A container whose readiness is watched.
pub(crate) struct Watched {
    pub(crate) revision: RevisionId,
    pub(crate) cpu: Arc<Cpu>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) port: u16,
    pub(crate) probe: Probe,
    pub(crate) source: LogSource,
}

/// Probes a container until its instance ends, and says each time that it turns.
pub(crate) async fn watch(run: Arc<Run>, watched: Watched) {
    tokio::select! {
        () = follow(&run, &watched) => {}
        _ = watched.cpu.running.ended() => {}
    }
}

async fn follow(run: &Run, watched: &Watched) {
    let mut streak = Streak::default();
    loop {
        sleep(Duration::from_secs(watched.probe.period.max(1).into())).await;
        let checked = {
            let _awake = watched.cpu.wake();
            probe::check(&watched.cpu.running, watched.port, &watched.probe).await
        };
        if streak.note(checked.is_ok(), &watched.probe) {
            watched.tell(run, streak.course, checked.err());
        }
    }
}

impl Watched {
    fn tell(&self, run: &Run, course: Course, why: Option<String>) {
        let (kind, times) = (probe::name(&self.probe), needed(course, &self.probe));
        let container = self.source.owner.name();
        let said = match course {
            Course::Ready => words::ready_again(kind, times, container, self.port),
            Course::Unready => words::not_ready(kind, times, container, self.port, &why.unwrap_or_default()),
        };
        run.ports.logs.line(&self.source, LogStream::System, &said);
        self.readiness.turn(course);
        if let Some(ingress) = run.ingress.get() {
            ingress.readiness_changed(&self.revision, &self.source.instance);
        }
    }
}

/// What a container is, by its probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Course {
    #[default]
    Ready,
    Unready,
}

/// How many checks in a row it takes to become that.
fn needed(course: Course, probe: &Probe) -> u32 {
    match course {
        Course::Ready => probe.success_threshold.max(1),
        Course::Unready => probe.failure_threshold.max(1),
    }
}

/// What a container is, and how many checks in a row said that it is not.
#[derive(Debug, Default)]
struct Streak {
    course: Course,
    against: u32,
}

impl Streak {
    /// Notes what a check found. Whether this has turned it.
    fn note(&mut self, well: bool, probe: &Probe) -> bool {
        let found = if well { Course::Ready } else { Course::Unready };
        if found == self.course {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let turns = self.against >= needed(found, probe);
        if turns {
            *self = Streak { course: found, against: 0 };
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_checks_in_a_row_turn_it_and_one_that_differs_begins_anew() {
        let probe = Probe { failure_threshold: 3, success_threshold: 2, ..Probe::default() };
        let mut streak = Streak::default();
        let checks = [
            (true, false),
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
            (true, false),
            (false, false),
        ];
        for (at, (well, turned)) in checks.into_iter().enumerate() {
            assert_eq!(streak.note(well, &probe), turned, "check {at}");
        }
    }

    #[test]
    fn an_instance_is_ready_when_all_its_containers_are() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        for (course, ready) in [
            (Course::Unready, false),
            (Course::Unready, false),
            (Course::Ready, false),
            (Course::Ready, true),
        ] {
            readiness.turn(course);
            assert_eq!(readiness.is_ready(), ready);
        }
    }
}
