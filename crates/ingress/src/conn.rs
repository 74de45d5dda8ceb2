//! HTTP/1 connections to an instance, and those that are idle.

use std::{
    io::{
        ErrorKind,
        ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, NotFound},
    },
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::time::Sleep;

use crate::{Instance, Stream};

/// How many idle connections are kept for an instance: what its concurrency can at most use at once.
const MAX_IDLE: usize = 1000;
/// For how long one is kept idle.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long a connection may have been idle to be trusted with a request that must not be sent twice. Servers
/// close idle connections after some seconds, and one may do so in the very moment the request is sent.
const FRESH: Duration = Duration::from_secs(1);
/// What an attempt to connect to an instance that has ended comes to.
const GONE: [ErrorKind; 5] = [BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, NotFound];
/// How much of a buffer a connection keeps while idle.
const KEPT_BUFFER: usize = 16 << 10;

/// A connection with its buffers, which are kept from request to request.
pub(crate) struct Conn {
    pub(crate) stream: Stream,
    /// What has been read and not yet handed on.
    pub(crate) input: BytesMut,
    /// What is to be written, from `sent` on.
    pub(crate) output: Vec<u8>,
    pub(crate) sent: usize,
    /// Fires no later than the current request's deadline. Set again lazily: most requests never touch it.
    pub(crate) alarm: Option<Pin<Box<Sleep>>>,
    pub(crate) history: History,
    since: Instant,
}

/// Why there is no connection to an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unconnected {
    /// Nobody listens there any more.
    Gone,
    /// We could not (no descriptors left, for instance): that is not the instance's fault.
    Failed,
    Late,
}

/// Whether a connection has carried a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    New,
    Used,
}

impl Conn {
    /// A new connection to an instance.
    pub(crate) async fn open(instance: &dyn Instance, deadline: Instant) -> Result<Box<Self>, Unconnected> {
        match tokio::time::timeout_at(deadline.into(), instance.connect()).await {
            Ok(Ok(stream)) => Ok(Box::new(Conn::new(stream))),
            Err(_) => Err(Unconnected::Late),
            Ok(Err(error)) => {
                tracing::warn!(instance = instance.id(), %error, "an instance cannot be reached");
                let gone = GONE.contains(&error.kind());
                Err(if gone { Unconnected::Gone } else { Unconnected::Failed })
            }
        }
    }

    fn new(stream: Stream) -> Self {
        Conn {
            stream,
            input: BytesMut::new(),
            output: Vec::with_capacity(1024),
            sent: 0,
            alarm: None,
            history: History::New,
            since: Instant::now(),
        }
    }

    /// Empties the buffers for the next request.
    fn reset(&mut self, now: Instant) {
        self.history = History::Used;
        self.since = now;
        self.output.clear();
        self.sent = 0;
        if self.output.capacity() > KEPT_BUFFER {
            self.output = Vec::with_capacity(1024);
        }
        if self.input.capacity() > KEPT_BUFFER {
            self.input = BytesMut::new();
        }
    }
}

/// Whether a request may be sent a second time when it is not known what became of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeatable {
    Yes,
    No,
}

/// Boxed, so that connections move in and out as pointers and not as kilobytes.
type Idle = Vec<Box<Conn>>;

/// The idle connections of an instance; the one used last is used next.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Idle>);

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection that is still open.
    pub(crate) fn take(&self, repeatable: Repeatable) -> Option<Box<Conn>> {
        loop {
            let conn = self.lock().pop()?;
            if repeatable == Repeatable::No && conn.since.elapsed() > FRESH {
                // All that are left are older still, but good for others.
                self.lock().push(conn);
                return None;
            }
            if conn.stream.is_quiet() {
                return Some(conn);
            }
        }
    }

    pub(crate) fn put(&self, mut conn: Box<Conn>, now: Instant) {
        conn.reset(now);
        let mut idle = self.lock();
        if idle.len() < MAX_IDLE {
            idle.push(conn);
        }
    }

    /// Closes what is too old or was closed by the instance.
    pub(crate) fn prune(&self) {
        self.lock().retain(|conn| conn.since.elapsed() < MAX_AGE && conn.stream.is_quiet());
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
