//! A container that runs on this machine: reached, frozen, stopped, and seen off when it has ended.
//!
//! Freezing takes its time on control groups of version 1 and is done beside; thawing is a write and done at once. So a
//! freezing may end after a thaw that came later: then it is undone. What is being stopped is not frozen any more,
//! since a frozen process neither hears SIGTERM nor dies.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::Duration,
};

use ingress::Stream;
use kernel::BoxFuture;
use sandbox::{Ending, Instance, spec::Limits};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::{AbortHandle, JoinHandle},
};

use crate::runtime::{Exit, Held, Running};

/// How long output may keep us after everything that could write it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where an instance listens, seen from inside and from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Door {
    /// What its service says.
    pub(super) port: u16,
    /// What connections are made to.
    pub(super) addr: SocketAddr,
    /// Where a plain process finds the metadata server, which has its usual address in a network of one's own only.
    pub(super) metadata: Option<SocketAddr>,
}

/// What serves a container while it runs.
pub(super) struct Attendants {
    /// Brings what it writes into the log.
    pub(super) output: JoinHandle<()>,
    /// Answers for the network, which is the first container's.
    pub(super) network: Option<Network>,
    /// What it mounts.
    pub(super) held: Held,
}

/// What serves the network of an instance.
pub(super) struct Network {
    /// Resolves names, and takes connections out.
    pub(super) outward: AbortHandle,
    /// Whoever answers at the addresses of the inside.
    pub(super) guard: Box<dyn Send + Sync>,
}

/// A container, reached from outside. Dropping it ends it.
pub(super) struct LocalRunning {
    pub(super) instance: Arc<Instance>,
    pub(super) door: Door,
    exit: watch::Receiver<Option<Exit>>,
    gait: Arc<Gait>,
    /// Dropped with this.
    _held: oneshot::Sender<()>,
}

/// Whether a container shall run.
#[derive(Default)]
struct Gait(AtomicU8);

impl Gait {
    const RUNS: u8 = 0;
    const STANDS: u8 = 1;
    /// It runs to its end, and is not to stand any more.
    const ENDS: u8 = 2;

    /// Whether it shall stand from now on.
    fn stand(&self) -> bool {
        self.0.compare_exchange(Self::RUNS, Self::STANDS, SeqCst, SeqCst).is_ok()
    }

    fn run(&self) {
        // What ends goes on ending.
        let _ = self.0.compare_exchange(Self::STANDS, Self::RUNS, SeqCst, SeqCst);
    }

    fn end(&self) {
        self.0.store(Self::ENDS, SeqCst);
    }

    fn stands(&self) -> bool {
        self.0.load(SeqCst) == Self::STANDS
    }
}

impl LocalRunning {
    pub(super) fn new(instance: Instance, door: Door, attendants: Attendants) -> Self {
        let instance = Arc::new(instance);
        let (tell, exit) = watch::channel(None);
        let (_held, dropped) = oneshot::channel();
        tokio::spawn(see_off(instance.clone(), attendants, dropped, tell));
        LocalRunning { instance, door, exit, gait: Arc::default(), _held }
    }
}

impl Drop for LocalRunning {
    fn drop(&mut self) {
        self.gait.end();
    }
}

/// Waits for an instance's end and puts away what served it. Its end is told when its last words are in the log.
async fn see_off(
    instance: Arc<Instance>,
    attendants: Attendants,
    dropped: oneshot::Receiver<()>,
    tell: watch::Sender<Option<Exit>>,
) {
    let exit = tokio::select! {
        exit = instance.wait() => exit,
        _ = dropped => instance.stop(Duration::ZERO).await,
    };
    let Attendants { mut output, network, held } = attendants;
    if tokio::time::timeout(LAST_WORDS, &mut output).await.is_err() {
        output.abort();
    }
    if let Some(Network { outward, guard }) = network {
        outward.abort();
        drop(guard);
    }
    drop(held);
    tell.send_replace(Some(translate(exit)));
}

fn translate(exit: sandbox::Exit) -> Exit {
    match exit {
        sandbox::Exit { oom: true, .. } => Exit::OutOfMemory,
        sandbox::Exit { how: Ending::Code(code), .. } => Exit::Code(code),
        sandbox::Exit { how: Ending::Signal(signal), .. } => Exit::Signal(signal),
    }
}

impl Running for LocalRunning {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Stream>> {
        // What listens on the loopback addresses alone is not reached on Cloud Run either. Our own listeners share
        // this address, so other ports than the container's are those of the loopback.
        let addr = if port == self.door.port { self.door.addr } else { (Ipv4Addr::LOCALHOST, port).into() };
        Box::pin(async move { Ok(self.instance.connect_to(addr).await?.into()) })
    }

    fn ended(&self) -> BoxFuture<'static, Exit> {
        Exit::told(self.exit.clone())
    }

    fn freeze(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.gait.stand() {
            return;
        }
        let (instance, gait) = (self.instance.clone(), self.gait.clone());
        // Without control groups it just keeps its CPU, so an error is of no interest.
        runtime.spawn(async move {
            if gait.stands() {
                let _ = instance.freeze().await;
            }
            if !gait.stands() {
                let _ = instance.thaw();
            }
        });
    }

    fn thaw(&self) {
        self.gait.run();
        let _ = self.instance.thaw();
    }

    fn limit_cpu(&self, millis: u32) {
        // Without control groups there was no limit before.
        let _ = self.instance.limit(&Limits { cpu_millis: Some(millis), ..Limits::default() });
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'static, ()> {
        self.gait.end();
        let (instance, ended) = (self.instance.clone(), self.ended());
        Box::pin(async move {
            instance.stop(grace).await;
            ended.await;
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.instance.cpu_micros().ok().map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_not_frozen_any_more() {
        let gait = Gait::default();
        assert!(gait.stand() && gait.stands());
        assert!(!gait.stand(), "it stands already");
        gait.run();
        assert!(!gait.stands());
        gait.end();
        gait.run();
        assert!(!gait.stand() && !gait.stands());
    }
}
