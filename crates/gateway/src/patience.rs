//! Whether a client that says no more still waits for its answer.
//!
//! One that has closed its half of a connection because it has said all (`nc -N`), and one that has gone altogether, look
//! the same: reading comes to an end. An API call is over soon, so one that has no body is answered whatever its client is. A
//! request at a site may take an hour and hold an instance, so there the end counts as gone, as it does at every reverse
//! proxy, and the request is given up.
//!
//! So the end of reading is hidden from hyper while a call is [held](Patience::hold), and shown when it no longer is.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection and its calls know of each other. All of it happens in one task.
#[derive(Clone, Default)]
pub(crate) struct Patience(Arc<State>);

#[derive(Default)]
struct State {
    held: AtomicBool,
    /// Whom to tell when the end, which was met while a call was held, may be seen.
    ended: Mutex<Option<Waker>>,
}

/// A call whose answer is made even if its client says no more.
pub(crate) struct Held(Patience);

impl Patience {
    /// Hides the end of reading until [`release`](Patience::release), or until what this gives is dropped. Not where a
    /// body is still to be read: there the end may mean that it is cut short.
    pub(crate) fn hold(&self, request: &Request<Incoming>) -> Held {
        self.0.held.store(request.body().is_end_stream(), Relaxed);
        Held(self.clone())
    }

    /// From now on the end of reading is shown again.
    pub(crate) fn release(&self) {
        if self.0.held.swap(false, Relaxed)
            && let Some(waker) = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waker.wake();
        }
    }

    /// Whether the end is not to be seen yet; then the waker is kept.
    fn hides(&self, waker: &Waker) -> bool {
        let held = self.0.held.load(Relaxed);
        if held {
            *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        }
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A stream whose end is seen when it may be.
pub(crate) struct Patient<I> {
    inner: I,
    patience: Patience,
}

impl<I> Patient<I> {
    pub(crate) fn new(inner: I, patience: Patience) -> Self {
        Patient { inner, patience }
    }

    pub(crate) fn into_inner(self) -> I {
        self.inner
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining() > 0);
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let ended = room && buf.filled().len() == before;
        if ended && self.patience.hides(cx.waker()) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A body whose call is held until all of it is on its way.
pub(crate) struct Kept<B> {
    body: B,
    _held: Held,
}

impl<B> Kept<B> {
    pub(crate) fn new(body: B, held: Held) -> Self {
        Kept { body, _held: held }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Kept<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
