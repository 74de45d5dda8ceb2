//! The body of a response on its way to the client.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{
    exchange::{Exchange, Fault},
    flight::Flight,
    h2c::Answer,
};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response. Small ones are in memory; the others are drawn from the instance as the client
/// takes them.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Http1(Box<Streaming>),
    H2c(Box<Answer>),
}

/// A response that is still being received.
struct Streaming {
    exchange: Option<Exchange>,
    flight: Flight,
    /// What the response ended with, to be told when all before it is on its way.
    fault: Option<Fault>,
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Body(if bytes.is_empty() { Kind::Empty } else { Kind::Whole(bytes) })
    }

    /// What an instance answers with: at once if it is there already.
    pub(crate) fn received(mut flight: Flight, mut exchange: Exchange) -> Self {
        match exchange.take_whole() {
            Some(bytes) => {
                flight.response_bytes = bytes.len() as u64;
                flight.land(exchange.into_reusable());
                Body::whole(bytes)
            }
            None => Body::http1(exchange, flight),
        }
    }

    fn http1(exchange: Exchange, mut flight: Flight) -> Self {
        flight.detach();
        Body(Kind::Http1(Box::new(Streaming { exchange: Some(exchange), flight, fault: None })))
    }

    pub(crate) fn h2c(answer: Answer) -> Self {
        Body(Kind::H2c(Box::new(answer)))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Http1(streaming) => streaming.poll_frame(cx),
            Kind::H2c(answer) => answer.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Http1(streaming) => streaming.exchange.is_none() && streaming.fault.is_none(),
            Kind::H2c(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Http1(streaming) => {
                let left = streaming.exchange.as_ref().and_then(Exchange::remaining);
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::H2c(answer) => answer.size_hint(),
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault.into())));
        }
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let frame = ready!(exchange.poll_frame(cx));
        self.flight.request_bytes = exchange.request_bytes();
        let done = exchange.is_done();
        match frame {
            Some(Ok(frame)) => {
                self.flight.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if done {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(fault)) => {
                self.exchange = None;
                self.flight.cut(fault);
                // An error ends the client's connection at once: what came before it is to be sent first.
                self.fault = Some(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// The response has been received: its connection and its place are free.
    fn finish(&mut self) {
        let conn = self.exchange.take().and_then(Exchange::into_reusable);
        self.flight.land(conn);
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Stale | Fault::Broken => "the connection to the instance broke",
            Fault::Timeout => "the request took longer than its timeout",
            Fault::TooLarge => "the request is too large",
            Fault::Gone => "the client went away",
            Fault::Garbled => "the request is malformed",
        })
    }
}

impl std::error::Error for Fault {}
