//! HTTP/2 without TLS to an instance: for gRPC with streams in both directions, end to end.
//!
//! One connection carries up to [`STREAMS`] requests of an instance at a time; more are opened as needed.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Sleep;

use crate::{
    Instance,
    body::BoxError,
    exchange::{Fault, client_fault},
    flight::Flight,
    headers,
};

/// How many requests share a connection: what servers commonly allow.
const STREAMS: usize = 100;

/// The HTTP/2 connections to an instance.
#[derive(Default)]
pub(crate) struct Link(Mutex<Vec<Line>>);

/// A connection, and how many requests use it.
#[derive(Clone)]
struct Line {
    sender: http2::SendRequest<Upload>,
    users: Arc<()>,
}

/// A request's use of a connection.
pub(crate) type User = Arc<()>;

impl Link {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<Line> {
        let mut lines = self.lock();
        lines.retain(|line| !line.sender.is_closed());
        lines.iter().find(|line| Arc::strong_count(&line.users) <= STREAMS).cloned()
    }

    async fn line(&self, instance: &dyn Instance) -> Result<Line, BoxError> {
        if let Some(line) = self.open() {
            return Ok(line);
        }
        let io = TokioIo::new(instance.connect().await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let (sender, connection) = builder.max_send_buf_size(64 << 10).handshake(io).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an instance ended");
            }
        });
        let line = Line { sender, users: Arc::default() };
        self.lock().push(line.clone());
        Ok(line)
    }

    /// Sends a request and waits for the head of its response. What certainly was not sent is sent once more
    /// on another connection.
    pub(crate) async fn send(
        &self,
        instance: &dyn Instance,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, User), Failed> {
        for _ in 0..2 {
            let Ok(mut line) = self.line(instance).await else {
                return Err(Failed::Unreachable(Box::new(request)));
            };
            if line.sender.ready().await.is_err() {
                continue;
            }
            match line.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, line.users)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failed::Broken),
                },
            }
        }
        Err(Failed::Broken)
    }
}

/// Why there was no response.
pub(crate) enum Failed {
    /// No connection: nothing was sent.
    Unreachable(Box<Request<Upload>>),
    Broken,
}

/// How far a request's body has got.
#[derive(Default)]
pub(crate) struct Progress {
    bytes: AtomicU64,
    fault: OnceLock<Fault>,
}

impl Progress {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Why there was no response, where the request's body is not to blame.
    pub(crate) fn fault(&self) -> Fault {
        self.fault.get().copied().unwrap_or(Fault::Broken)
    }

    fn fails(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err((*self.fault.get_or_init(|| fault)).into())))
    }
}

/// A request's body on its way out.
pub(crate) struct Upload {
    body: Incoming,
    progress: Arc<Progress>,
    allowance: u64,
}

impl Upload {
    pub(crate) fn new(body: Incoming, progress: Arc<Progress>, allowance: u64) -> Self {
        Upload { body, progress, allowance }
    }

    pub(crate) fn into_inner(self) -> Incoming {
        self.body
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return self.progress.fails(client_fault(&error)),
            None => return Poll::Ready(None),
        };
        if let Some(trailers) = frame.trailers_mut() {
            headers::keep_trailers(trailers);
        }
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let total = self.progress.bytes.fetch_add(length, Relaxed) + length;
        if total > self.allowance {
            return self.progress.fails(Fault::TooLarge);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response that is being received.
pub(crate) struct Answer {
    body: Incoming,
    flight: Option<Flight>,
    progress: Arc<Progress>,
    alarm: Pin<Box<Sleep>>,
    /// Keeps the connection's count of users right.
    _user: User,
}

impl Answer {
    pub(crate) fn new(
        (body, user): (Incoming, User),
        mut flight: Flight,
        progress: Arc<Progress>,
        timeout: Duration,
    ) -> Self {
        flight.detach();
        let deadline: Instant = flight.started + timeout;
        let alarm = Box::pin(tokio::time::sleep_until(deadline.into()));
        Answer { body, flight: Some(flight), progress, alarm, _user: user }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(flight) = &mut self.flight else { return Poll::Ready(None) };
        // The clock is asked as well, for a stream that never pauses never looks at the alarm.
        let late = || tokio::time::Instant::now() >= self.alarm.deadline();
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(_))) if late() => return self.time_out(),
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.alarm.as_mut().poll(cx));
                return self.time_out();
            }
        };
        flight.request_bytes = self.progress.bytes();
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::keep_trailers(trailers);
                }
                flight.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.body.is_end_stream() {
                    self.flight = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                flight.cut(self.progress.fault());
                self.flight = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.flight = None;
                Poll::Ready(None)
            }
        }
    }

    fn time_out(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(mut flight) = self.flight.take() {
            flight.cut(Fault::Timeout);
        }
        Poll::Ready(Some(Err(Fault::Timeout.into())))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.request_bytes = self.progress.bytes();
        }
    }
}
