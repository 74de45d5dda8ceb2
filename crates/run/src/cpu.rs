//! What CPU an instance has: more while it starts, none while it has nothing to do.
//!
//! With CPU during requests only, an instance has it while it starts, while it has a request, for every probe, and
//! while it stops (<https://cloud.google.com/run/docs/configuring/billing-settings>). In between it is frozen, where
//! Cloud Run leaves it next to nothing: what must not happen between requests then shows at once. Where there are no
//! control groups it keeps its CPU, which `haar status` says.
//!
//! The ingress says when there are requests ([`Instance::freeze`](ingress::Instance::freeze)); here that is reconciled
//! with probes, and with the instance that proved its revision and waits for a first request.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::{record::Template, runtime::Running, usage::Meter};

/// For how long after its start an instance has the CPU that it had for it
/// (<https://cloud.google.com/run/docs/configuring/services/cpu#startup-boost>).
pub(crate) const BOOST: Duration = Duration::from_secs(10);
/// How long an instance that waits for its first request has its CPU.
pub(crate) const REST_AFTER: Duration = Duration::from_millis(500);

/// When instances of a revision have CPU. One container that always needs it keeps it for all.
pub(crate) fn allocation(template: &Template) -> ingress::Cpu {
    match template.containers.iter().all(|container| container.cpu_idle) {
        true => ingress::Cpu::DuringRequests,
        false => ingress::Cpu::Always,
    }
}

/// Takes back what containers had for their start, after a while: each to so many thousandths of a vCPU.
pub(crate) fn end_boost(containers: Vec<(Weak<dyn Running>, u32)>, after: Duration) {
    if containers.is_empty() {
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        for (container, cpu) in containers {
            if let Some(container) = container.upgrade() {
                container.limit_cpu(cpu);
            }
        }
    });
}

/// Whether an instance has its CPU.
pub(crate) struct Cpu {
    pub(crate) running: Arc<dyn Running>,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether there are no requests for it.
    rests: bool,
    /// How many containers are being probed.
    probes: u32,
}

/// Gives an instance its CPU while it is probed. Probes are billed, where there is no request that is.
pub(crate) struct Awake<'a> {
    cpu: &'a Cpu,
    /// Since when, if it had none.
    woken: Option<Instant>,
}

impl Cpu {
    pub(crate) fn new(running: Arc<dyn Running>, meter: Arc<Meter>) -> Self {
        Cpu { running, meter, state: Mutex::default() }
    }

    pub(crate) fn freeze(&self) {
        let mut state = self.lock();
        state.rests = true;
        if state.probes == 0 {
            self.running.freeze();
        }
    }

    pub(crate) fn thaw(&self) {
        self.lock().rests = false;
        self.running.thaw();
    }

    /// Until what is returned is dropped, it has its CPU.
    pub(crate) fn wake(&self) -> Awake<'_> {
        let mut state = self.lock();
        state.probes += 1;
        if state.rests {
            self.running.thaw();
        }
        Awake { cpu: self, woken: state.rests.then(Instant::now) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        let mut state = self.cpu.lock();
        state.probes -= 1;
        if state.rests && state.probes == 0 {
            self.cpu.running.freeze();
        }
        if let Some(woken) = self.woken {
            self.cpu.meter.worked(woken.elapsed(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    };

    use ingress::Stream;
    use kernel::BoxFuture;

    use super::*;
    use crate::{record::Container, runtime::Exit};

    /// An instance that only knows whether it is frozen, and what CPU it may use.
    #[derive(Default)]
    struct Still(AtomicBool, AtomicU32);

    impl Running for Still {
        fn connect(&self, _: u16) -> BoxFuture<'_, io::Result<Stream>> {
            Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
        }

        fn ended(&self) -> BoxFuture<'static, Exit> {
            Box::pin(std::future::pending())
        }

        fn freeze(&self) {
            self.0.store(true, SeqCst);
        }

        fn thaw(&self) {
            self.0.store(false, SeqCst);
        }

        fn limit_cpu(&self, millis: u32) {
            self.1.store(millis, SeqCst);
        }

        fn stop(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }

        fn cpu_time(&self) -> Option<Duration> {
            None
        }
    }

    fn throttled() -> Container {
        Container { cpu_idle: true, ..Container::default() }
    }

    #[test]
    fn it_sleeps_again_when_the_last_probe_has_ended() {
        let still = Arc::new(Still::default());
        let frozen = || still.0.load(SeqCst);
        let template = Template { containers: vec![throttled()], ..Template::default() };
        let cpu = Cpu::new(still.clone(), Arc::new(Meter::of(&template)));
        drop(cpu.wake());
        assert!(!frozen(), "nobody said that it rests");
        cpu.freeze();
        let (one, other) = (cpu.wake(), cpu.wake());
        assert!(!frozen());
        drop(one);
        assert!(!frozen(), "another container is still being probed");
        drop(other);
        assert!(frozen());
        let probe = cpu.wake();
        cpu.thaw();
        drop(probe);
        assert!(!frozen(), "a request came meanwhile");
    }

    #[tokio::test]
    async fn what_was_given_for_the_start_is_taken_back() {
        let (still, gone) = (Arc::new(Still::default()), Arc::new(Still::default()));
        let weak = |still: &Arc<Still>| Arc::downgrade(still) as Weak<dyn Running>;
        end_boost(vec![(weak(&gone), 500), (weak(&still), 1000)], Duration::from_millis(5));
        drop(gone);
        assert_eq!(still.1.load(SeqCst), 0);
        while still.1.load(SeqCst) != 1000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn one_container_that_always_needs_its_cpu_keeps_it_for_all() {
        let mut template = Template { containers: vec![throttled(), throttled()], ..Template::default() };
        assert_eq!(allocation(&template), ingress::Cpu::DuringRequests);
        template.containers[1].cpu_idle = false;
        assert_eq!(allocation(&template), ingress::Cpu::Always);
    }
}
