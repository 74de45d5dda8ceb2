//! What the ingress needs of instances: to start one, to reach it, to stop it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use kernel::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::RevisionId;

/// Starts and stops instances of revisions.
pub trait Instances: Send + Sync + 'static {
    /// Starts an instance. Resolves once it is ready for requests (its startup probe has passed).
    ///
    /// # Errors
    /// When it could not be started or did not become ready in time. The ingress backs off by itself.
    fn start(&self, revision: &RevisionId) -> BoxFuture<'static, Result<Arc<dyn Instance>, StartError>>;
    /// Stops an instance that no longer has requests. Resolves once it is gone. Also called for one that has
    /// ended by itself, so that what belongs to it can be cleared away.
    fn stop(&self, instance: Arc<dyn Instance>) -> BoxFuture<'static, ()>;
}

/// Why an instance did not start: a sentence for the log.
#[derive(Clone, Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A running instance.
pub trait Instance: Send + Sync + 'static {
    /// Its id, unique among all instances.
    fn id(&self) -> &str;
    /// A new connection to its port.
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>>;
    /// Lets it run again, before a request is handed over. Called under a lock: it must return within
    /// microseconds. Only called when CPU is given [during requests](crate::Cpu::DuringRequests).
    fn thaw(&self) {}
    /// Takes the CPU away while it has no requests. As quick as [`thaw`](Instance::thaw).
    fn freeze(&self) {}
    /// To be told that it had requests for so long without a pause, until now, and how many came. Called under a lock when
    /// the last of them has ended, and by [`Ingress::tell_work`](crate::Ingress::tell_work): as quick as
    /// [`thaw`](Instance::thaw).
    fn worked(&self, _: Duration, _requests: u32) {}
    /// Whether it is to get new requests; one that is not goes on with those it has. Called under a lock: as quick as
    /// [`thaw`](Instance::thaw). Whoever changes the answer then says so by
    /// [`Ingress::readiness_changed`](crate::Ingress::readiness_changed).
    fn takes_requests(&self) -> bool {
        true
    }
    /// The CPU time it has used so far, when that is known: the autoscaler then looks at it as well.
    fn cpu_time(&self) -> Option<Duration> {
        None
    }
}

/// A connection to an instance.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, usually inside the instance's network namespace.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        // Small writes must not wait for acknowledgements; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        Stream::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Stream::Unix(stream)
    }
}

impl Stream {
    /// Whether an idle connection is still silent and open. Costs a system call only when something happened.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let ready = match self {
            Stream::Tcp(stream) => stream.poll_read_ready(&mut nobody),
            Stream::Unix(stream) => stream.poll_read_ready(&mut nobody),
        };
        if ready.is_pending() {
            return true;
        }
        let mut byte = [0];
        let read = match self {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
