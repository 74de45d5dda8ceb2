//! The sandbox as its users see it: opened once, asked for instances.
//!
//! What an instance needs apart from its spec (a keeper, namespaces, joined control groups, a furnished init) is made
//! before it is asked for. A few of these wait; the next is made when one has been taken and its program has started,
//! so that it does not compete with the start that it is to make fast. A burst beyond them makes its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::cgroup::{Cgroup, Groups};
use crate::error::{Error, Result, Step};
use crate::host::{self, Host, Level};
use crate::instance::{self, Instance};
use crate::spec::{Spec, Writable};
use crate::wire::Walls;
use crate::zygote::{self, Birth, Warm, Zygote};

/// How many keepers may be raised at once: more would only wait for each other.
const RAISED_AT_ONCE: usize = 4;

/// How to run instances.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory's id: 1 to 32 of `a-z`, `0-9` and `-`. Control groups carry it, so only one process may use
    /// it at a time.
    pub data_id: String,
    /// An existing directory on the filesystem where layers are.
    pub layers: PathBuf,
    /// Whether instances may go without walls.
    pub isolation: Isolation,
    /// How many instances are prepared before they are asked for. Each costs two small processes.
    pub warm: usize,
}

/// Whether instances may go without walls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// As much as the host allows; [`Level::Process`] where it allows none.
    #[default]
    Best,
    /// None, whatever the host allows.
    None,
}

/// Runs instances. Cheap to clone; when the last clone and the last instance are gone, so is everything it made.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    host: Host,
    zygote: Mutex<Zygote>,
    warm: Mutex<Vec<Warm>>,
    raising: Semaphore,
    filling: AtomicBool,
    next_group: AtomicU64,
}

/// Removes what a dead haar left behind under `data_id`: processes and control groups. Returns how many groups there
/// were. Blocks for up to two seconds.
pub fn sweep(data_id: &str) -> Result<usize> {
    check_id(data_id)?;
    match Groups::find(data_id) {
        Ok(groups) => groups.clear("").step("control groups"),
        // Without control groups nothing can be left: processes end with their haar.
        Err(_) => Ok(0),
    }
}

fn check_id(data_id: &str) -> Result<()> {
    let ok = (1..=32).contains(&data_id.len())
        && data_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if ok { Ok(()) } else { Err(Error::invalid(format!("{data_id:?} cannot be the id of a data directory"))) }
}

/// Control groups of this process begin with this.
fn prefix() -> String {
    format!("{}-", std::process::id())
}

impl Sandbox {
    /// Sweeps, probes the host and starts the helper. Blocks for some milliseconds.
    pub fn open(config: Config) -> Result<Sandbox> {
        sweep(&config.data_id)?;
        let host = match config.isolation {
            Isolation::Best => host::probe(&config.data_id, &config.layers)?,
            Isolation::None => host::plain("it was asked for"),
        };
        if host.level == Level::Process {
            tracing::warn!("{}", host.sentence);
        }
        let zygote = start_zygote(&host)?;
        let inner = Inner {
            config,
            host,
            zygote: Mutex::new(zygote),
            warm: Mutex::new(Vec::new()),
            raising: Semaphore::new(RAISED_AT_ONCE),
            filling: AtomicBool::new(false),
            next_group: AtomicU64::new(0),
        };
        Ok(Sandbox { inner: Arc::new(inner) })
    }

    /// What instances are on this host.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Prepares as many instances as are to wait.
    pub async fn prepare(&self) -> Result<()> {
        while self.inner.lock_warm().len() < self.inner.config.warm {
            let warm = self.raise().await?;
            self.inner.lock_warm().push(warm);
        }
        Ok(())
    }

    /// Starts an instance and returns when its program runs.
    ///
    /// At [`Level::Process`] the program is executed where it lies in the layers, as haar's user. There are no volumes,
    /// files or listeners, and a port is one of the host's: give each instance its own.
    ///
    /// # Errors
    /// By [`Kind`](crate::Kind): what is wrong with the spec or its program, or what the host could not do. Nothing is
    /// left behind.
    pub async fn start(&self, mut spec: Spec) -> Result<Instance> {
        spec.check()?;
        if self.inner.host.level == Level::Process {
            spec = without_walls(spec);
        }
        let waiting = self.inner.lock_warm().pop();
        let warm = match waiting {
            Some(warm) => warm,
            None => self.raise().await?,
        };
        let started = instance::start(warm, spec).await;
        self.refill();
        started
    }

    async fn raise(&self) -> Result<Warm> {
        let permit = self.inner.raising.acquire().await.step("helper")?;
        let inner = self.inner.clone();
        let raised = spawn_blocking(move || inner.raise()).await.step("helper")?;
        drop(permit);
        raised
    }

    /// Makes up for what has been taken, one at a time, in the background.
    fn refill(&self) {
        if self.inner.filling.swap(true, Ordering::AcqRel) {
            return;
        }
        // Holds no clone of the sandbox while nothing is to be done, so it does not keep it alive.
        let sandbox = self.clone();
        tokio::spawn(async move {
            if let Err(error) = sandbox.prepare().await {
                tracing::warn!(%error, "no instance could be prepared");
            }
            sandbox.inner.filling.store(false, Ordering::Release);
        });
    }
}

impl Inner {
    fn lock_warm(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn walls(&self) -> Walls {
        match self.host.level {
            Level::Process => Walls::None,
            Level::Root { .. } | Level::UserNamespaces { .. } => Walls::Namespaces,
        }
    }

    fn raise(&self) -> Result<Warm> {
        let group = self.host.groups.as_ref().map(|groups| {
            let number = self.next_group.fetch_add(1, Ordering::Relaxed);
            groups.make(&format!("{}{number}", prefix()))
        });
        let group = group.transpose().step("control group")?;
        match self.fork(group.as_deref()) {
            Ok(birth) => birth.raise(&self.host.mapping, group),
            Err(error) => {
                zygote::discard(group);
                Err(error)
            }
        }
    }

    /// Has the zygote fork, or its successor if it has been killed.
    fn fork(&self, group: Option<&dyn Cgroup>) -> Result<Birth> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        match zygote.fork(self.walls(), group) {
            Err(_) if zygote.has_ended() => {
                *zygote = start_zygote(&self.host)?;
                zygote.fork(self.walls(), group)
            }
            done => done,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for Warm { keeper, init, group, .. } in self.lock_warm().drain(..) {
            drop((keeper, init));
            zygote::discard(group);
        }
    }
}

/// What of a spec can be had in a plain process.
fn without_walls(spec: Spec) -> Spec {
    Spec { writable: Writable::Memory, mounts: Vec::new(), files: Vec::new(), listen: Vec::new(), ..spec }
}

fn start_zygote(host: &Host) -> Result<Zygote> {
    let zygote = Zygote::spawn()?;
    if let Some(groups) = &host.groups {
        zygote.hello(groups, &prefix())?;
    }
    Ok(zygote)
}
