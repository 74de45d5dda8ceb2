//! Connections: accepted, told apart, served, and drained.
//!
//! A listener is handed in as a plain socket, so that whoever owns the process decides where it comes from: bound,
//! inherited from systemd, or made inside a workload's network namespace. Every connection is one task. Each has a
//! time to say what it speaks, to finish a handshake and to send a request's head, and there is a most of them;
//! beyond it new ones wait in the kernel's backlog instead of being accepted and refused.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kernel::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::{
    answer::answer,
    detect::{Protocol, Rewound, sniff},
    gateway::Shared,
    h2, neighbour,
    patience::{Kept, Patience, Patient},
    site::Site,
};

/// How much a client may take, and for how long. The defaults suit one machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Until the first bytes tell the protocol, and then until a TLS handshake is done.
    pub hello: Duration,
    /// Until a request's head is complete, counted from when the connection waits for it; so this is also how
    /// long an idle HTTP/1 connection is kept.
    pub head: Duration,
    /// Bytes in a request's head, its line and headers.
    pub head_bytes: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes in the body of one API request. Google's own limit is 10 MB for most APIs.
    pub body: usize,
    /// Until a connection to another host is made for the forward proxy.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            hello: Duration::from_secs(10),
            head: Duration::from_secs(60),
            head_bytes: 64 << 10,
            streams: 1000,
            body: 10 << 20,
            connect: Duration::from_secs(10),
        }
    }
}

/// Which way a connection comes in.
#[derive(Clone)]
pub enum Door {
    /// From the machine itself. Programs on it may use the forward proxy, and without credentials on the plain
    /// port they may stand for the owner.
    Machine,
    /// From inside a workload, through a listener in its network namespace: loopback there means nothing here,
    /// so nobody is the owner and nothing is forwarded.
    Workload(Instance),
    /// To one site only, whatever host a request names: a port of the machine that is a service's own. No API and
    /// no proxy is behind it.
    Published(Arc<dyn Site>),
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Machine => f.write_str("Machine"),
            Door::Workload(instance) => f.debug_tuple("Workload").field(instance).finish(),
            Door::Published(_) => f.write_str("Published"),
        }
    }
}

/// The instance that a request came from. Requests that came in through a workload's door carry it among their
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance(pub Arc<str>);

/// A socket to listen on, and what stands behind it.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    door: Door,
}

impl Listener {
    /// A listener for the machine itself.
    pub fn machine(socket: StdListener) -> Self {
        Listener { socket, door: Door::Machine }
    }

    /// A listener inside a workload.
    pub fn workload(socket: StdListener, instance: Instance) -> Self {
        Listener { socket, door: Door::Workload(instance) }
    }

    /// A listener for one site.
    pub fn published(socket: StdListener, site: Arc<dyn Site>) -> Self {
        Listener { socket, door: Door::Published(site) }
    }
}

/// A listener that is open. Dropping this closes it; connections that were accepted go on.
#[derive(Debug)]
pub struct Opened {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Opened {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// What was begun is finished; nothing new is begun.
    Draining,
    /// Connections end where they are.
    Stopped,
}

/// Tells a task how far the end has come. While one exists, the gateway is not closed.
#[derive(Clone)]
pub(crate) struct Ending(watch::Receiver<Phase>);

impl Ending {
    /// Waits until the end has come this far.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // An error means that the gateway itself is gone, and that is the end.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}

/// What all connections share: how many there are, and how far the end has come.
pub(crate) struct Connections {
    room: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Connections { room: Arc::new(Semaphore::new(most)), phase: watch::Sender::new(Phase::Serving) }
    }

    /// Finishes what was begun, for at most this long, then stops the rest.
    pub(crate) async fn close(&self, deadline: Duration) {
        self.phase.send_replace(Phase::Draining);
        if timeout(deadline, self.phase.closed()).await.is_err() {
            self.phase.send_replace(Phase::Stopped);
            self.phase.closed().await;
        }
    }
}

/// One connection, as its requests see it.
pub(crate) struct Conn {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: SocketAddr,
    /// Our own end, where the kernel tells.
    here: Option<SocketAddr>,
    user: OnceCell<Option<u32>>,
    pub(crate) door: Door,
    pub(crate) tls: bool,
    /// Whether it was opened through the forward proxy, and so may not ask for another.
    pub(crate) proxied: bool,
    pub(crate) ending: Ending,
    pub(crate) patience: Patience,
    /// Its place among all connections.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
}

impl Conn {
    /// The same connection after it changed: TLS begun, or the forward proxy passed.
    pub(crate) fn changed(&self, tls: bool, proxied: bool) -> Conn {
        Conn {
            shared: self.shared.clone(),
            peer: self.peer,
            here: self.here,
            user: self.user.clone(),
            door: self.door.clone(),
            tls,
            proxied,
            ending: self.ending.clone(),
            patience: Patience::default(),
            place: self.place.clone(),
        }
    }

    /// The user whose program is at the other end, on this machine; asked of the kernel once.
    pub(crate) async fn user(&self) -> Option<u32> {
        *self.user.get_or_init(async || neighbour::user(self.peer, self.here?).await).await
    }

    /// Whether the other end is a program on this machine, and outside of workloads.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.door, Door::Machine) && self.peer.ip().to_canonical().is_loopback()
    }
}

/// A stream of bytes that a connection may run on.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A stream whose kind is not worth code of its own.
pub(crate) type AnyIo = Box<dyn Io>;

/// Begins to accept connections. Must be called inside a runtime.
pub(crate) fn open(shared: Arc<Shared>, listener: Listener) -> io::Result<Opened> {
    listener.socket.set_nonblocking(true)?;
    let address = listener.socket.local_addr()?;
    let socket = TcpListener::from_std(listener.socket)?;
    if matches!(listener.door, Door::Machine) {
        shared.remember_own(address);
    }
    let accepting = tokio::spawn(accept(shared, socket, listener.door));
    Ok(Opened { address, accepting })
}

async fn accept(shared: Arc<Shared>, socket: TcpListener, door: Door) {
    let mut ending = Ending(shared.connections.phase.subscribe());
    loop {
        let next = async {
            let place = shared.connections.room.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((socket.accept().await?, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = ending.reached(Phase::Draining) => return,
        };
        match accepted {
            Ok(((stream, peer), place)) => begin(&shared, stream, peer, &door, place),
            Err(error) => {
                // Out of descriptors, mostly: others must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn begin(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    door: &Door,
    place: OwnedSemaphorePermit,
) {
    // An answer is never held back for more bytes to come; a socket without the option is merely slower.
    let _ = stream.set_nodelay(true);
    let conn = Conn {
        shared: shared.clone(),
        peer,
        here: stream.local_addr().ok(),
        user: OnceCell::new(),
        door: door.clone(),
        tls: false,
        proxied: false,
        ending: Ending(shared.connections.phase.subscribe()),
        patience: Patience::default(),
        place: Arc::new(place),
    };
    tokio::spawn(enter(conn, Rewound::new(Bytes::new(), stream)));
}

/// Serves a connection from its first byte: detects what it speaks, and speaks that to the end.
pub(crate) async fn enter<I: Io>(conn: Conn, mut io: Rewound<I>) {
    let mut ending = conn.ending.clone();
    let peer = conn.peer;
    let serve = async {
        match timeout(conn.shared.limits.hello, sniff(&mut io)).await {
            Ok(Ok(Protocol::Tls)) => secure(conn, io).await,
            Ok(Ok(Protocol::Http1)) => http1(conn, io).await,
            Ok(Ok(Protocol::Http2)) => h2::serve(conn, io).await,
            Ok(Err(error)) => tracing::trace!(%peer, %error, "closed before it spoke a protocol"),
            Err(_) => tracing::trace!(%peer, "closed: it did not say what it speaks"),
        }
    };
    tokio::select! {
        () = serve => {}
        () = ending.reached(Phase::Stopped) => {}
    }
}

/// As [`enter`], for a stream that comes from within a connection.
pub(crate) fn enter_again<I: Io>(conn: Conn, io: Rewound<I>) -> BoxFuture<'static, ()> {
    Box::pin(enter(conn, io))
}

async fn secure<I: Io>(conn: Conn, io: Rewound<I>) {
    let Some(tls) = conn.shared.tls.as_ref().filter(|_| !conn.tls) else { return };
    match timeout(conn.shared.limits.hello, tls.acceptor().accept(io)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let io = Rewound::new(Bytes::new(), Box::new(stream) as AnyIo);
            let conn = conn.changed(true, conn.proxied);
            if http2 { h2::serve(conn, io).await } else { Box::pin(enter_secured(conn, io)).await }
        }
        Ok(Err(error)) => tracing::debug!(peer = %conn.peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = %conn.peer, "TLS handshake took too long"),
    }
}

/// Without ALPN a client may speak HTTP/2 all the same.
async fn enter_secured(conn: Conn, mut io: Rewound<AnyIo>) {
    match timeout(conn.shared.limits.hello, sniff(&mut io)).await {
        Ok(Ok(Protocol::Http1)) => http1(conn, io).await,
        Ok(Ok(Protocol::Http2)) => h2::serve(conn, io).await,
        _ => tracing::trace!(peer = %conn.peer, "closed: it did not speak HTTP"),
    }
}

async fn http1<I: Io>(conn: Conn, io: Rewound<I>) {
    let limits = &conn.shared.limits;
    // Never with `pipeline_flush`: it has hyper buffer a response without limit for a client that does not read.
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head).max_header_size(limits.head_bytes);
    let ending = conn.ending.clone();
    let conn = Arc::new(conn);
    let io = TokioIo::new(Patient::new(io, conn.patience.clone()));
    let service = service_fn(move |request| {
        let held = conn.patience.hold(&request);
        let answer = answer(conn.clone(), request);
        async move { answer.await.map(|response| response.map(|body| Kept::new(body, held))) }
    });
    let serving = pin!(builder.serve_connection(io, service).with_upgrades());
    drive(serving, ending, http1::UpgradeableConnection::graceful_shutdown).await;
}

/// Runs a connection to its end, or, once draining begins, to the end of what it has begun.
pub(crate) async fn drive<C>(mut serving: Pin<&mut C>, mut ending: Ending, finish: fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = ending.reached(Phase::Draining) => {
            finish(serving.as_mut());
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended early");
    }
}
