//! Servers: started or adopted, kept running, stopped.
//!
//! A server is no child of ours and outlives us. One task for each waits for its end, however that comes, and starts
//! it again unless it was stopped on purpose; when the last handle is dropped, the task ends and the server stays.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kernel::{Error, Result, collection::Collection};
use rustix::process::Signal;
use tokio::sync::{Mutex, watch};

use super::{
    Config,
    cluster::Cluster,
    find::{self, Installation},
    process::Process,
    user::RunAs,
};
use crate::record::ServerRecord;

/// How long a server may take to end in order; then it is ended without.
const ORDERLY: Duration = Duration::from_secs(30);
/// How long a server may take to be ready that an earlier haar has begun to start.
const READY: Duration = Duration::from_secs(60);
/// How long to wait before a server that crashed is started again, first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// A server that ran this long did not crash because of how it was started.
const STEADY: Duration = Duration::from_secs(60);

/// What servers have in common.
pub(crate) struct Host {
    /// Where things are.
    pub(crate) config: Config,
    /// Who servers run as.
    pub(crate) run_as: RunAs,
    /// The servers that were started.
    pub(crate) remembered: Collection<ServerRecord>,
    /// Whether all is being stopped: from then on nothing is started.
    closing: AtomicBool,
}

impl Host {
    /// Settles who servers run as, on this machine.
    pub(crate) fn new(config: Config, remembered: Collection<ServerRecord>) -> Host {
        Host { config, run_as: RunAs::settle(), remembered, closing: AtomicBool::new(false) }
    }

    /// Makes the directory above the clusters.
    pub(crate) fn prepare(&self) -> Result<()> {
        let directory = &self.config.directory;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| super::user::trouble(directory, error))
    }

    /// From now on no server is started; whoever is starting one ends with that first.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    async fn remember(&self, uid: &str, process: Process) -> Result<()> {
        let record = process.record();
        match self.remembered.find(uid) {
            Some(held) if held.value == record => Ok(()),
            Some(_) => self.remembered.update(uid, "", |held| replace(held, &record)).await.map(drop),
            None => self.remembered.create(uid, record).await.map(drop),
        }
    }
}

fn replace(held: &mut ServerRecord, record: &ServerRecord) -> Result<()> {
    *held = record.clone();
    Ok(())
}

/// Stops, in order, the servers whose clusters are below a directory and whose haar is gone. Nobody may be running haar
/// on it. Gives how many there were.
pub async fn stop_left_behind(directory: &Path) -> usize {
    let clusters = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let left: Vec<Process> =
        clusters.filter_map(|cluster| Process::serving(&cluster.path().join("data"), None)).collect();
    let mut ending = tokio::task::JoinSet::new();
    for process in &left {
        ending.spawn(process.end(Signal::INT, ORDERLY));
    }
    ending.join_all().await;
    left.len()
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Transactions are rolled back and everything is written out.
    Orderly,
    /// At once: its data is not wanted any more.
    AtOnce,
}

/// The server of one cluster.
pub(crate) struct Server {
    host: Arc<Host>,
    uid: String,
    major: u32,
    cluster: Cluster,
    /// Held while it is started or stopped.
    doing: Mutex<Vec<(String, String)>>,
    /// Whether it is meant to run.
    wanted: watch::Sender<bool>,
}

impl Server {
    /// The server of a cluster, with its flags. Nothing is started.
    pub(crate) fn new(host: Arc<Host>, uid: &str, major: u32, flags: Vec<(String, String)>) -> Arc<Server> {
        let cluster = Cluster::new(&host.config, uid, host.run_as);
        let (doing, wanted) = (Mutex::new(flags), watch::Sender::new(false));
        Arc::new(Server { host, uid: uid.to_owned(), major, cluster, doing, wanted })
    }

    /// The cluster it serves.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Makes the cluster where it is not there yet, and says which PostgreSQL it is.
    pub(crate) async fn make(&self) -> Result<Installation> {
        self.host.prepare()?;
        let postgres = find::find(&self.host.config, self.major).await?;
        self.cluster.make(&postgres).await?;
        Ok(postgres)
    }

    /// Adopts the server that runs, or starts one; from then on it is kept running.
    ///
    /// # Errors
    /// As for a version that is not here, and `UNAVAILABLE` when it does not start.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<()> {
        let flags = self.doing.lock().await;
        let process = self.ensure(&flags).await?;
        drop(flags);
        if !self.wanted.send_replace(true) {
            tokio::spawn(keep(Arc::downgrade(self), self.wanted.subscribe(), process));
        }
        Ok(())
    }

    /// Keeps it running from now on, without waiting for it.
    pub(crate) fn start_later(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = BACKOFF.0;
            while let Some(server) = server.upgrade() {
                let Err(error) = server.start().await else { return };
                tracing::warn!("the server of {} cannot be started: {error:?}", server.uid);
                drop(server);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACKOFF.1);
            }
        });
    }

    /// Stops it, and keeps it stopped.
    pub(crate) async fn stop(&self, how: Stop) {
        self.wanted.send_replace(false);
        let _doing = self.doing.lock().await;
        let Some(process) = self.process() else { return };
        process.end(if how == Stop::Orderly { Signal::INT } else { Signal::QUIT }, ORDERLY).await;
    }

    /// Starts it again with other flags.
    pub(crate) async fn restart(self: &Arc<Self>, flags: Vec<(String, String)>) -> Result<()> {
        self.stop(Stop::Orderly).await;
        *self.doing.lock().await = flags;
        self.start().await
    }

    /// Forgets it, and removes its cluster. It must have been stopped.
    pub(crate) async fn remove(&self) -> Result<()> {
        let cluster = self.cluster.clone();
        let removed = tokio::task::spawn_blocking(move || cluster.remove()).await;
        removed.map_err(Error::internal)??;
        match self.host.remembered.find(&self.uid) {
            Some(_) => self.host.remembered.delete(&self.uid, "").await.map(drop),
            None => Ok(()),
        }
    }

    fn process(&self) -> Option<Process> {
        let remembered = self.host.remembered.find(&self.uid);
        Process::serving(&self.cluster.data(), remembered.as_ref().map(|held| &held.value))
    }

    async fn ensure(&self, flags: &[(String, String)]) -> Result<Process> {
        let process = match self.process() {
            Some(process) => process,
            None => self.begin(flags).await?,
        };
        self.host.remember(&self.uid, process).await?;
        Ok(process)
    }

    async fn begin(&self, flags: &[(String, String)]) -> Result<Process> {
        if self.host.closing.load(Ordering::SeqCst) {
            return Err(Error::unavailable("Everything is being stopped."));
        }
        let postgres = find::find(&self.host.config, self.major).await?;
        self.host.prepare()?;
        self.cluster.configure(flags)?;
        if let Err(error) = self.cluster.start(&postgres).await {
            // A haar that was killed while it started this server may have got it started all the same.
            let earlier = self.process().ok_or(error)?;
            self.await_ready().await;
            return Ok(earlier);
        }
        self.process()
            .ok_or_else(|| Error::unavailable("The database server ended as soon as it had started."))
    }

    /// Waits, but not for ever, until the server says that it takes connections.
    async fn await_ready(&self) {
        let until = tokio::time::Instant::now() + READY;
        while !self.cluster.says_ready() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts a server again whenever it has ended, until it is not wanted or nobody holds it.
async fn keep(server: Weak<Server>, mut wanted: watch::Receiver<bool>, mut process: Process) {
    loop {
        let begun = tokio::time::Instant::now();
        tokio::select! {
            () = process.ended() => {}
            _ = wanted.wait_for(|wanted| !wanted) => return,
        }
        let mut pause = if begun.elapsed() > STEADY { Duration::ZERO } else { BACKOFF.0 };
        process = loop {
            let is_over = tokio::time::timeout(pause, wanted.wait_for(|wanted| !wanted)).await.is_ok();
            let Some(server) = server.upgrade().filter(|_| !is_over) else { return };
            let flags = server.doing.lock().await;
            if !*server.wanted.borrow() {
                return;
            }
            tracing::warn!("the server of {} has ended by itself and is started again", server.uid);
            match server.ensure(&flags).await {
                Ok(process) => break process,
                Err(error) => tracing::warn!("the server of {} cannot be started: {error:?}", server.uid),
            }
            pause = (pause * 2).clamp(BACKOFF.0, BACKOFF.1);
        };
    }
}
