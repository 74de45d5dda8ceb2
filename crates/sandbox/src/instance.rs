//! A running instance, and the task that looks after it.
//!
//! The task owns the reading ends of the two helper sockets. Everyone else only sends, so no lock is held over a wait.
//! It goes on when the [`Instance`] is dropped, until all that was the instance's is gone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

use crate::cgroup::{self, Cgroup, Usage};
use crate::error::{Error, Result, Step};
use crate::mapping::Mapped;
use crate::prepare::{self, Prepared};
use crate::spec::{Limits, Listen, Protocol, Spec};
use crate::sys;
use crate::wire::{self, Family, FromInit, FromKeeper, ToInit, ToKeeper};
use crate::wiring::Wiring;
use crate::zygote::{Birth, Warm, unexpected};

/// How long a start may take, a hanging disk included.
const START_TIME: Duration = Duration::from_secs(30);
/// How many sockets a keeper is asked for at a time, and how few left make us ask.
const BATCH: usize = 32;
const FEW: usize = 8;
/// How long the kernel may take to let go of an instance's control groups.
const REMOVAL_TIME: Duration = Duration::from_secs(5);

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How its main process ended.
    pub how: Ending,
    /// Whether processes were killed because the memory limit was reached, and the instance did not end well.
    pub oom: bool,
}

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A socket on the inside's loopback interface.
#[derive(Debug)]
pub enum Listener {
    /// For streams.
    Tcp(TcpListener),
    /// For datagrams.
    Udp(UdpSocket),
}

/// A running instance. Dropping it kills it.
pub struct Instance {
    shared: Arc<Shared>,
    listeners: Vec<(Listen, Listener)>,
    outward: Option<TcpListener>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

struct Shared {
    id: String,
    init_pid: i32,
    mapped: Arc<Mapped>,
    keeper: AsyncFd<OwnedFd>,
    init: AsyncFd<OwnedFd>,
    group: Option<Box<dyn Cgroup>>,
    pools: Mutex<HashMap<Family, Vec<OwnedFd>>>,
    /// Sockets have come, or never will.
    more: Notify,
    asked: AtomicBool,
    exit: watch::Sender<Option<Exit>>,
}

/// Starts an instance from what is warm. The work is a task of its own, so that a caller that gives up leaves nothing
/// half done.
pub(crate) async fn start(warm: Warm, wiring: Wiring, spec: Spec) -> Result<Instance> {
    tokio::spawn(start_to_the_end(warm, wiring, spec)).await.step("start")?
}

async fn start_to_the_end(warm: Warm, wiring: Wiring, mut spec: Spec) -> Result<Instance> {
    let Warm { keeper, init, init_pid, mapped, group, listeners } = warm;
    let ids = mapped.clone();
    let prepared = spawn_blocking(move || {
        let prepared = prepare::prepare(&mut spec, &ids, group.as_deref());
        (prepared, spec, group)
    });
    let (prepared, spec, group) = prepared.await.step("prepare")?;
    let shared = Arc::new(Shared {
        id: spec.id.clone(),
        init_pid,
        mapped,
        keeper: nonblocking(keeper)?,
        init: nonblocking(init)?,
        group,
        pools: Mutex::default(),
        more: Notify::new(),
        asked: AtomicBool::new(true),
        exit: watch::Sender::new(None),
    });
    match begin_in_time(&shared, prepared, &spec).await {
        Ok(mut instance) => {
            tokio::spawn(look_after(shared));
            instance.connect_wires(&wiring, listeners)?;
            Ok(instance)
        }
        Err(error) => Err(abandon(shared, error).await),
    }
}

async fn begin_in_time(shared: &Arc<Shared>, prepared: Result<Prepared>, spec: &Spec) -> Result<Instance> {
    let begun = tokio::time::timeout(START_TIME, begin(shared, prepared?, spec)).await;
    begun.unwrap_or_else(|_| Err(Error::host("the start took too long")))
}

/// Ends what did not start; whoever is told of the failure may rely on nothing being left. Returns the error to tell.
async fn abandon(shared: Arc<Shared>, error: Error) -> Error {
    let _ = shared.to_keeper(&ToKeeper::Kill, &[]).await;
    // That a helper is gone says less than why its init gave up.
    let said = wire::receive(shared.init.get_ref());
    look_after(shared).await;
    match said {
        Ok(Some((FromInit::Failed(reason), _))) => reason,
        _ => error,
    }
}

fn nonblocking(socket: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true).step("socket")?;
    sys::watched(socket).step("socket")
}

/// Sends the orders and waits until the program runs.
async fn begin(shared: &Arc<Shared>, order: Prepared, spec: &Spec) -> Result<Instance> {
    if let Some(scratch) = &order.scratch {
        shared.to_keeper(&ToKeeper::Scratch, &[scratch]).await?;
    }
    let fds: Vec<&OwnedFd> = std::iter::once(&order.file).chain(&order.sources).collect();
    shared.to_init(&ToInit::Run, &fds).await?;
    // While the init makes the root, the keeper makes sockets; the program starts when both are done.
    let mut listeners = Vec::new();
    if !spec.listen.is_empty() {
        shared.to_keeper(&ToKeeper::Listen(spec.listen.clone()), &[]).await?;
        listeners = receive_listeners(shared, &spec.listen).await?;
    }
    shared.to_keeper(&ToKeeper::Sockets { count: BATCH, family: Family::V4 }, &[]).await?;
    shared.to_init(&ToInit::Go, &[]).await?;
    let (stdout, stderr) = receive_start(shared).await?;
    Ok(Instance {
        shared: shared.clone(),
        listeners,
        outward: None,
        stdout: Some(stdout),
        stderr: Some(stderr),
    })
}

async fn receive_listeners(shared: &Shared, list: &[Listen]) -> Result<Vec<(Listen, Listener)>> {
    match receive(&shared.keeper).await.step("helper")? {
        Some((FromKeeper::Listening, fds)) => list
            .iter()
            .zip(fds)
            .map(|(listen, fd)| Ok((*listen, listener(listen, fd).step("listener")?)))
            .collect(),
        Some((FromKeeper::Failed(error), _)) => Err(error),
        Some((other, _)) => Err(unexpected(&other)),
        None => Err(Error::host("the helper ended early")),
    }
}

pub(crate) fn listener(listen: &Listen, fd: OwnedFd) -> io::Result<Listener> {
    match listen.protocol {
        Protocol::Tcp => Ok(Listener::Tcp(TcpListener::from_std(fd.into())?)),
        Protocol::Udp => Ok(Listener::Udp(UdpSocket::from_std(fd.into())?)),
    }
}

async fn receive_start(shared: &Shared) -> Result<(pipe::Receiver, pipe::Receiver)> {
    match receive(&shared.init).await.step("helper")? {
        Some((FromInit::Started, fds)) => {
            let mut fds = fds.into_iter();
            let mut output = || {
                let fd = fds.next().ok_or_else(|| Error::host("a program without output"))?;
                pipe::Receiver::from_owned_fd(fd).step("output")
            };
            Ok((output()?, output()?))
        }
        Some((FromInit::Failed(error), _)) => Err(error),
        Some((other, _)) => Err(unexpected(&other)),
        None => Err(Error::host("the instance was killed while it started")),
    }
}

async fn receive<M: DeserializeOwned>(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, |socket| wire::receive(socket)).await
}

async fn send<M: Serialize>(socket: &AsyncFd<OwnedFd>, message: &M, fds: &[&OwnedFd]) -> Result<()> {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    socket.async_io(Interest::WRITABLE, |socket| wire::send(socket, message, &fds)).await.step("helper")
}

impl Shared {
    async fn to_keeper(&self, message: &ToKeeper, fds: &[&OwnedFd]) -> Result<()> {
        send(&self.keeper, message, fds).await
    }

    async fn to_init(&self, message: &ToInit, fds: &[&OwnedFd]) -> Result<()> {
        send(&self.init, message, fds).await
    }

    fn group(&self) -> Result<&dyn Cgroup> {
        self.group.as_deref().ok_or_else(|| Error::host("this host has no limits for instances"))
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Family, Vec<OwnedFd>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills without waiting for anything: a socket that has no room left is one whose keeper is about to end.
    fn kill_now(&self) {
        let _ = wire::send(self.keeper.get_ref(), &ToKeeper::Kill, &[]);
        if let Some(group) = &self.group {
            // A frozen process dies when it is thawed.
            let _ = group.thaw();
        }
    }
}

/// Receives what the helpers say until the instance is gone, and then clears away what is left of it.
async fn look_after(shared: Arc<Shared>) {
    let mut status = None;
    let mut init_lives = true;
    loop {
        tokio::select! {
            message = receive::<FromKeeper>(&shared.keeper) => match message {
                Ok(Some((FromKeeper::Sockets { family }, fds))) => shared.stock(family, fds),
                Ok(Some((FromKeeper::Failed(error), _))) => {
                    tracing::warn!(instance = shared.id, %error, "a helper failed");
                    shared.stock(Family::V4, Vec::new());
                }
                Ok(Some((FromKeeper::Ended, _)) | None) | Err(_) => break,
                Ok(Some(_)) => {}
            },
            message = receive::<FromInit>(&shared.init), if init_lives => match message {
                Ok(Some((FromInit::Exited { status: ended }, _))) => status = Some(ended),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => init_lives = false,
            },
        }
    }
    // What the init said last may have come after the keeper's end was seen.
    if status.is_none()
        && let Ok(Some((FromInit::Exited { status: ended }, _))) = wire::receive(shared.init.get_ref())
    {
        status = Some(ended);
    }
    let clearing = shared.clone();
    let usage = spawn_blocking(move || clear(&clearing)).await.unwrap_or_default();
    let how = ending(status);
    let oom = usage.oom_kills > 0 && how != Ending::Code(0);
    shared.exit.send_replace(Some(Exit { how, oom }));
    shared.more.notify_waiters();
}

/// What an instance used, and its groups removed.
fn clear(shared: &Shared) -> Usage {
    let Some(group) = &shared.group else { return Usage::default() };
    let usage = group.stats().unwrap_or_default();
    // Only where a keeper was killed can anything still run.
    let _ = group.kill();
    if let Err(error) = cgroup::remove_by(group.as_ref(), Instant::now() + REMOVAL_TIME) {
        tracing::warn!(instance = shared.id, %error, "a control group was left behind");
    }
    usage
}

/// An init that says nothing was killed, and its program with it.
fn ending(status: Option<i32>) -> Ending {
    let Some(status) = status else { return Ending::Signal(libc::SIGKILL) };
    if libc::WIFSIGNALED(status) {
        Ending::Signal(libc::WTERMSIG(status))
    } else {
        Ending::Code(libc::WEXITSTATUS(status))
    }
}

impl Shared {
    fn stock(&self, family: Family, sockets: Vec<OwnedFd>) {
        self.pools().entry(family).or_default().extend(sockets);
        self.asked.store(false, Ordering::Release);
        self.more.notify_waiters();
    }

    /// Takes a socket of the inside's, and has more made before there are none left.
    async fn socket(&self, family: Family) -> io::Result<OwnedFd> {
        loop {
            let more = self.more.notified();
            let (socket, left) = {
                let mut pools = self.pools();
                let pool = pools.entry(family).or_default();
                (pool.pop(), pool.len())
            };
            if left < FEW && !self.asked.swap(true, Ordering::AcqRel) {
                self.to_keeper(&ToKeeper::Sockets { count: BATCH, family }, &[]).await?;
            }
            if let Some(socket) = socket {
                return Ok(socket);
            }
            if self.exit.borrow().is_some() {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the instance has ended"));
            }
            more.await;
        }
    }
}

impl Instance {
    /// The process id, on the host, of the instance's first process.
    pub fn pid(&self) -> i32 {
        self.shared.init_pid
    }

    /// Takes the listeners of the wiring, those of the offers before the spec's own.
    fn connect_wires(&mut self, wiring: &Wiring, sockets: Vec<OwnedFd>) -> Result<()> {
        let mut sockets = sockets.into_iter();
        let offered = wiring.offers.iter().zip(sockets.by_ref());
        let offered = offered.map(|(offer, fd)| Ok((*offer, listener(offer, fd).step("listener")?)));
        let offered = offered.collect::<Result<Vec<_>>>()?;
        self.listeners.splice(..0, offered);
        self.outward =
            sockets.next().map(|fd| TcpListener::from_std(fd.into())).transpose().step("listener")?;
        Ok(())
    }

    /// Has its keeper make another beside it.
    pub(crate) fn bear(&self) -> impl FnOnce(Option<&dyn Cgroup>) -> Result<Birth> + Send + use<> {
        let shared = self.shared.clone();
        move |group| Birth::beside(shared.keeper.get_ref(), group)
    }

    /// What its ids are outside.
    pub(crate) fn mapped(&self) -> Arc<Mapped> {
        self.shared.mapped.clone()
    }

    /// The sockets of the wiring's offers and then those that the spec asked for, in their order. Empty the second time.
    pub fn take_listeners(&mut self) -> Vec<(Listen, Listener)> {
        std::mem::take(&mut self.listeners)
    }

    /// Where connections arrive that the instance makes to elsewhere, if they are caught; see
    /// [`wiring::destination`](crate::wiring::destination). `None` the second time. Without it, they are refused.
    pub fn take_outward(&mut self) -> Option<TcpListener> {
        self.outward.take()
    }

    /// What the program writes to its standard output. `None` the second time. Read it: a full pipe stops a program.
    pub fn take_stdout(&mut self) -> Option<pipe::Receiver> {
        self.stdout.take()
    }

    /// What the program writes to its standard error. `None` the second time.
    pub fn take_stderr(&mut self) -> Option<pipe::Receiver> {
        self.stderr.take()
    }

    /// Connects to a port of the inside's 127.0.0.1.
    ///
    /// # Errors
    /// As of any connection; `ConnectionRefused` while nothing listens there and after the end.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.connect_to(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await
    }

    /// Connects to a port of the inside's `::1`, for what listens nowhere else.
    ///
    /// # Errors
    /// As [`Instance::connect`].
    pub async fn connect_v6(&self, port: u16) -> io::Result<TcpStream> {
        self.connect_to(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)).await
    }

    /// Connects to an address of the inside: one of those that the spec listens on, so that what listens on the loopback
    /// addresses alone is not reached.
    ///
    /// # Errors
    /// As [`Instance::connect`].
    pub async fn connect_to(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        // A socket stays in the namespace it was made in, whoever connects it.
        let socket = self.shared.socket(addr.into()).await?;
        TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(addr).await
    }

    /// Waits until the instance has ended and nothing of it is left.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.shared.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| *exit).unwrap_or(Exit { how: Ending::Signal(libc::SIGKILL), oom: false })
    }

    /// Sends the main process a signal, by its number.
    pub async fn signal(&self, number: i32) -> Result<()> {
        self.shared.to_init(&ToInit::Signal(number), &[]).await
    }

    /// Asks the main process to end (SIGTERM), and ends everything when it has, or when `grace` is over. Without any
    /// grace it is not asked.
    pub async fn stop(&self, grace: Duration) -> Exit {
        if !grace.is_zero() {
            let _ = self.thaw();
            let _ = self.signal(libc::SIGTERM).await;
        }
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => {
                self.shared.kill_now();
                self.wait().await
            }
        }
    }

    /// Changes limits while it runs; `None` leaves one as it is. Needs limits (control groups).
    pub fn limit(&self, limits: &Limits) -> Result<()> {
        self.group()?.limit(limits).step("limits")
    }

    /// Stops every process where it stands. Needs limits (control groups).
    pub async fn freeze(&self) -> Result<()> {
        // Version 1 has to be watched until the last process has stopped.
        let shared = self.shared.clone();
        spawn_blocking(move || shared.group()?.freeze().step("freeze")).await.step("freeze")?
    }

    /// Lets a frozen instance go on.
    pub fn thaw(&self) -> Result<()> {
        self.group()?.thaw().step("thaw")
    }

    /// What the instance has used. Needs limits (control groups).
    pub fn usage(&self) -> Result<Usage> {
        self.group()?.stats().step("usage")
    }

    /// Processor time that it has used, in microseconds, for who asks often. Needs limits (control groups).
    pub fn cpu_micros(&self) -> Result<u64> {
        self.group()?.cpu_micros().step("usage")
    }

    fn group(&self) -> Result<&dyn Cgroup> {
        self.shared.group()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.shared.exit.borrow().is_none() {
            self.shared.kill_now();
        }
    }
}
