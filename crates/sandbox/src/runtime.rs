//! The sandbox as its users see it: opened once, asked for instances.
//!
//! What an instance needs apart from its spec (a keeper, namespaces, joined control groups, a furnished init) is made
//! before it is asked for. A few of these wait; the next is made when one has been taken and its program has started,
//! so that it does not compete with the start that it is to make fast. A burst beyond them makes its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::cgroup::{Cgroup, Groups};
use crate::error::{Error, Result, Step};
use crate::host::{self, Host, Level, Redirection};
use crate::instance::{self, Instance};
use crate::mapping::Giving;
use crate::owners;
use crate::spec::{Network, Spec, Writable};
use crate::wire::{self, FromKeeper, ToKeeper, Walls};
use crate::wiring::Wiring;
use crate::zygote::{self, Birth, Ids, Warm, Zygote};

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
    /// What instances find in their networks, where this host can do it ([`Host::redirection`]).
    pub wiring: Wiring,
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
        config.wiring.check()?;
        sweep(&config.data_id)?;
        let host = match config.isolation {
            Isolation::Best => host::probe(&config.data_id, &config.layers)?,
            Isolation::None => host::plain("it was asked for"),
        };
        if host.level == Level::Process {
            tracing::warn!("{}", host.sentence);
        }
        let zygote = start_zygote(&host)?;
        let mut config = config;
        if host.redirection != Redirection::Works {
            config.wiring = Wiring::default();
        }
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
            let warm = self.raise(Network::Isolated).await?;
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
        let warm = self.take(spec.network).await?;
        let started = instance::start(warm, self.wiring(spec.network), spec).await;
        self.refill();
        started
    }

    /// Starts an instance in the network of one that runs, as the containers of one pod have it: they share addresses,
    /// ports and the way out, and each has its own root filesystem, processes, memory and limits. Users of the same
    /// number are the same to the host. It is not prepared in advance.
    ///
    /// Each ends by itself, and the network with the last. What reaches the network from outside (the listeners of the
    /// wiring) is the first one's: it is to be kept until the others have ended.
    ///
    /// # Errors
    /// As of [`Sandbox::start`], and when the other has ended.
    pub async fn start_beside(&self, beside: &Instance, spec: Spec) -> Result<Instance> {
        if self.inner.host.level == Level::Process {
            return self.start(spec).await;
        }
        spec.check()?;
        let permit = self.inner.raising.acquire().await.step("helper")?;
        let (inner, bear, mapped) = (self.inner.clone(), beside.bear(), beside.mapped());
        let raised = spawn_blocking(move || inner.raise_by(bear, Ids::Of(mapped)));
        let warm = raised.await.step("helper")??;
        drop(permit);
        instance::start(warm, Wiring::default(), spec).await
    }

    /// Makes a directory of the host's one that an instance's user of this number owns, with all in it; made if it is
    /// not there. It is then to be mounted with [`Access::ReadWrite`](crate::spec::Access::ReadWrite). To be called while
    /// nothing runs in it, once the content that it is to begin with is there.
    ///
    /// Who owns a file that user `uid` of the inside makes, seen from outside:
    ///
    /// | haar is | owner |
    /// | --- | --- |
    /// | root | `uid` |
    /// | a user with subordinate ids | the user itself for 0, else the `uid`-th of the subordinate ids |
    /// | a user without, or [`Level::Process`] | the user itself: there is no other inside |
    ///
    /// Root can read and remove what becomes of it as it is; a user calls [`Sandbox::reclaim_directory`] first, which does
    /// nothing for root. As root, the directory has to be on a filesystem that translates owners if layers are on one:
    /// next to the layers it is.
    ///
    /// # Errors
    /// When the directory cannot be made, or is another user's.
    pub async fn writable_directory(&self, path: &Path, uid: u32) -> Result<()> {
        std::fs::create_dir_all(path).step(path.display())?;
        match self.giving() {
            Giving::None => Ok(()),
            Giving::ByNumber => {
                let directory = open_path(path)?;
                let given = spawn_blocking(move || owners::give(&directory, uid));
                given.await.step("owners")?.step(path.display())
            }
            Giving::ByKeeper => self.give_by_keeper(path, uid).await,
        }
    }

    /// Makes a directory that instances have written to, with all in it, one that haar can read and remove.
    ///
    /// # Errors
    /// When the directory is not there, or holds what is not an instance's.
    pub async fn reclaim_directory(&self, path: &Path) -> Result<()> {
        match self.giving() {
            Giving::None | Giving::ByNumber => Ok(()),
            Giving::ByKeeper => self.give_by_keeper(path, 0).await,
        }
    }

    fn giving(&self) -> Giving {
        match self.inner.host.level {
            Level::Process => Giving::None,
            Level::Root { .. } | Level::UserNamespaces { .. } => self.inner.host.mapping.giving(),
        }
    }

    async fn give_by_keeper(&self, path: &Path, uid: u32) -> Result<()> {
        let directory = open_path(path)?;
        let warm = self.take(Network::Isolated).await?;
        let given = spawn_blocking(move || {
            let given =
                wire::send(&warm.keeper, &ToKeeper::Give { uid }, &[directory.as_fd()]).step("helper");
            let answer = given.and_then(|()| zygote::next(&warm.keeper));
            warm.discard();
            match answer? {
                (FromKeeper::Given, _) => Ok(()),
                (FromKeeper::Failed(error), _) => Err(error),
                (other, _) => Err(zygote::unexpected(&other)),
            }
        });
        let given = given.await.step("helper")?;
        self.refill();
        given
    }

    fn wiring(&self, network: Network) -> Wiring {
        self.inner.wiring(network)
    }

    /// One that waits, or a new one.
    async fn take(&self, network: Network) -> Result<Warm> {
        let waiting = match network {
            Network::Isolated => self.inner.lock_warm().pop(),
            Network::Host => None,
        };
        match waiting {
            Some(warm) => Ok(warm),
            None => self.raise(network).await,
        }
    }

    async fn raise(&self, network: Network) -> Result<Warm> {
        let permit = self.inner.raising.acquire().await.step("helper")?;
        let inner = self.inner.clone();
        let raised = spawn_blocking(move || inner.raise(network)).await.step("helper")?;
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

    fn walls(&self, network: Network) -> Walls {
        match self.host.level {
            Level::Process => Walls::None,
            Level::Root { .. } | Level::UserNamespaces { .. } => Walls::Namespaces(network),
        }
    }

    fn wiring(&self, network: Network) -> Wiring {
        match network {
            Network::Isolated => self.config.wiring.clone(),
            Network::Host => Wiring::default(),
        }
    }

    fn raise(&self, network: Network) -> Result<Warm> {
        let bear = |group: Option<&dyn Cgroup>| self.fork(self.walls(network), &self.wiring(network), group);
        self.raise_by(bear, Ids::New(&self.host.mapping))
    }

    /// Raises what `bear` gives birth to, in a control group of its own.
    fn raise_by(
        &self,
        bear: impl FnOnce(Option<&dyn Cgroup>) -> Result<Birth>,
        ids: Ids<'_>,
    ) -> Result<Warm> {
        let group = self.host.groups.as_ref().map(|groups| {
            let number = self.next_group.fetch_add(1, Ordering::Relaxed);
            groups.make(&format!("{}{number}", prefix()))
        });
        let group = group.transpose().step("control group")?;
        match bear(group.as_deref()) {
            Ok(birth) => birth.raise(ids, group),
            Err(error) => {
                zygote::discard(group);
                Err(error)
            }
        }
    }

    /// Has the zygote fork, or its successor if it has been killed.
    fn fork(&self, walls: Walls, wiring: &Wiring, group: Option<&dyn Cgroup>) -> Result<Birth> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        match zygote.fork(walls, wiring, group) {
            Err(_) if zygote.has_ended() => {
                *zygote = start_zygote(&self.host)?;
                zygote.fork(walls, wiring, group)
            }
            done => done,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lock_warm().drain(..).for_each(Warm::discard);
    }
}

/// A name for a directory, which a process with more rights can open.
fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).step(path.display())
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
