//! What runs instances. On one machine that is the sandbox; the trait is what another engine would implement.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use ingress::Stream;
use kernel::{BoxFuture, ports::LogSource};
use tokio::sync::watch;

/// Everything needed to start one instance: nothing in it has to be looked up any more.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose instance it is, for its log and its metadata server.
    pub source: LogSource,
    /// The project's number.
    pub project_number: u64,
    /// The account it runs as.
    pub service_account: Arc<str>,
    /// The image's layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// What is dropped when the instance has ended.
    pub held: Held,
    /// The container whose network it shares: one of the same instance, started before.
    pub beside: Beside,
    /// What its log says when it starts, a sentence each.
    pub remarks: Vec<String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment, secrets included: not for a log.
    pub env: Secretive<Vec<(String, String)>>,
    /// Working directory; empty means `/`.
    pub cwd: String,
    /// The image's user.
    pub user: String,
    /// In bytes, files in memory included.
    pub memory: u64,
    /// In thousandths of a vCPU.
    pub cpu: u32,
    /// What it has of it while it starts: the same, or more.
    pub boost: u32,
    /// Where it listens; 0: nowhere.
    pub port: u16,
}

/// Something that an instance finds at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The path inside.
    pub target: String,
    /// What is there.
    pub what: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A directory of this machine, for reading only.
    Host(PathBuf),
    /// A directory of this machine that the containers of an instance share.
    Shared(PathBuf),
    /// Files in memory, which is the instance's own.
    Memory {
        /// The most bytes they take.
        bytes: u64,
    },
}

/// A container that another is started beside.
#[derive(Clone, Default)]
pub struct Beside(pub Option<Arc<dyn Running>>);

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Beside(another)" } else { "Beside(nobody)" })
    }
}

/// Whatever must stay until an instance has ended, such as what is in the directories that it mounts.
#[derive(Clone, Default)]
pub struct Held(pub Option<Arc<dyn Send + Sync>>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Held(something)" } else { "Held(nothing)" })
    }
}

/// Something that is not shown by `Debug`.
#[derive(Clone)]
pub struct Secretive<T>(pub T);

impl<T> std::fmt::Debug for Secretive<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Starts instances.
pub trait Runtime: Send + Sync + 'static {
    /// Starts one. Resolves when its program has been started, not when it is ready.
    ///
    /// # Errors
    /// A sentence for people: what could not be done, and what to do about it.
    fn start(&self, plan: Plan) -> BoxFuture<'static, Result<Arc<dyn Running>, String>>;
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Because it wanted more memory than it may have.
    OutOfMemory,
}

impl Exit {
    /// Waits until it is told. Whoever would have told it and is gone counts as killed.
    pub(crate) fn told(mut exit: watch::Receiver<Option<Exit>>) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            let told = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            told.unwrap_or(Exit::Signal(9))
        })
    }
}

/// A running instance.
pub trait Running: std::any::Any + Send + Sync {
    /// A connection to a port on its own loopback.
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Stream>>;
    /// Waits for its end. May be called more than once.
    fn ended(&self) -> BoxFuture<'static, Exit>;
    /// Takes its CPU away; quick.
    fn freeze(&self);
    /// Gives it back; quick.
    fn thaw(&self);
    /// Changes how much CPU a container may use at a time, in thousandths of a vCPU; quick. Nothing happens where there
    /// are no limits.
    fn limit_cpu(&self, _millis: u32) {}
    /// Asks it to stop, and ends it when it has not after `grace`.
    fn stop(&self, grace: Duration) -> BoxFuture<'static, ()>;
    /// CPU time used so far, where it can be known; quick.
    fn cpu_time(&self) -> Option<Duration>;
}
