//! One request and its response on an HTTP/1 connection to an instance.
//!
//! Both directions move whenever the task that serves the client polls: the request's body goes out while the
//! response comes in, a frame at a time, so a slow side slows the other and nothing piles up. Dropping an
//! exchange before its end closes the connection, which is how an instance learns that the client has gone.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::{
    Stream,
    chunked::{Decoder, Piece},
    conn::{Conn, History},
    forward::Sends,
    headers,
    response::{self, Framing, Head, Reuse},
};

/// How much is read at once at first, and of a long body.
const READ: usize = 8 << 10;
const READ_LONG: usize = 64 << 10;

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A connection that had been idle turned out to be closed, before any byte of a response.
    Stale,
    /// The connection broke, or what came over it is not HTTP.
    Broken,
    /// The request's time is over.
    Timeout,
    /// The request is larger than HTTP/1 requests may be.
    TooLarge,
    /// The client went away before its request had ended.
    Gone,
    /// The request's body is not in the form it claims to have.
    Garbled,
}

/// The request's body on its way out.
struct Upload {
    body: Option<Incoming>,
    sends: Sends,
    /// How many more bytes are allowed.
    allowance: u64,
    bytes: u64,
    /// What is being written after the connection's output: data, then the end of the chunk.
    data: Bytes,
    tail: &'static [u8],
}

enum Download {
    Head,
    Length(u64),
    Chunks(Decoder),
    Close,
    Done,
}

pub(crate) struct Exchange {
    conn: Box<Conn>,
    upload: Upload,
    uploaded: Uploaded,
    download: Download,
    /// What has been read and not yet decoded.
    pending: Bytes,
    reuse: Reuse,
    deadline: Instant,
}

/// How far the request has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uploaded {
    No,
    Yes,
    /// The instance takes no more of it; it may still answer.
    Failed,
}

impl Exchange {
    /// An exchange of the request whose head is in the connection's output.
    pub(crate) fn new(
        conn: Box<Conn>,
        body: Option<Incoming>,
        sends: Sends,
        limit: u64,
        deadline: Instant,
    ) -> Self {
        let upload = Upload { body, sends, allowance: limit, bytes: 0, data: Bytes::new(), tail: b"" };
        Exchange {
            conn,
            upload,
            uploaded: Uploaded::No,
            download: Download::Head,
            pending: Bytes::new(),
            reuse: Reuse::No,
            deadline,
        }
    }

    /// How many bytes of the request's body have been sent.
    pub(crate) fn request_bytes(&self) -> u64 {
        self.upload.bytes
    }

    /// Whether the whole response has been received.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.download, Download::Done)
    }

    /// How much of the response's body is still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.download {
            Download::Length(left) => Some(left),
            Download::Done => Some(0),
            _ => None,
        }
    }

    /// The connection, if it can carry another request.
    pub(crate) fn into_reusable(self) -> Option<Box<Conn>> {
        let clean = self.pending.is_empty() && self.conn.input.is_empty();
        let reusable = self.is_done() && self.reuse == Reuse::Yes && self.uploaded == Uploaded::Yes && clean;
        reusable.then_some(self.conn)
    }

    /// The request's head, to be sent again.
    pub(crate) fn into_head(self) -> Vec<u8> {
        self.conn.output
    }

    /// The connection after a switch of protocols, with what has been read already.
    pub(crate) fn into_stream(self) -> (Stream, Bytes) {
        (self.conn.stream, self.pending)
    }

    /// Sends the request and waits for the head of the response, whose headers go into `map`.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        map: &mut HeaderMap,
        asked: &Method,
    ) -> Poll<Result<Head, Fault>> {
        loop {
            self.advance_upload(cx)?;
            match ready!(self.poll_read(cx))? {
                0 => return Poll::Ready(Err(self.ended_early())),
                _ => {
                    let bytes = self.conn.input.split().freeze();
                    match self.parse(bytes, map, asked) {
                        Ok(Some(head)) => return Poll::Ready(Ok(head)),
                        Ok(None) => {}
                        Err(_) => return Poll::Ready(Err(Fault::Broken)),
                    }
                }
            }
        }
    }

    /// The connection ended without a response.
    fn ended_early(&self) -> Fault {
        let nothing = self.conn.input.is_empty();
        if nothing && self.conn.history == History::Used { Fault::Stale } else { Fault::Broken }
    }

    /// Looks for a head in what has been read; interim responses are passed over.
    fn parse(
        &mut self,
        mut bytes: Bytes,
        map: &mut HeaderMap,
        asked: &Method,
    ) -> Result<Option<Head>, response::Malformed> {
        loop {
            let Some(head) = response::parse(&bytes, map, asked)? else {
                self.conn.input = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                return Ok(None);
            };
            bytes.advance(head.length);
            let switched = head.framing == Framing::Switched;
            if head.status.is_informational() && !switched {
                if bytes.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            if switched && self.upload.sends != Sends::WebSocket {
                return Err(response::Malformed);
            }
            self.pending = bytes;
            self.reuse = head.reuse;
            self.download = match head.framing {
                Framing::Length(0) | Framing::Switched => Download::Done,
                Framing::Length(length) => Download::Length(length),
                Framing::Chunked => Download::Chunks(Decoder::new()),
                Framing::Close => Download::Close,
            };
            return Ok(Some(head));
        }
    }

    /// The whole body, if it came together with the head.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match self.download {
            Download::Done => Some(Bytes::new()),
            Download::Length(left) if self.pending.len() as u64 >= left => {
                self.download = Download::Done;
                Some(self.pending.split_to(left as usize))
            }
            _ => None,
        }
    }

    /// The next part of the response's body.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            if self.is_done() {
                return Poll::Ready(None);
            }
            self.advance_upload(cx)?;
            match self.decode() {
                // A stream that never pauses never looks at the alarm.
                Ok(Some(_)) if Instant::now() >= self.deadline => {
                    return Poll::Ready(Some(Err(Fault::Timeout)));
                }
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(self.ended());
            }
            self.pending = self.conn.input.split().freeze();
        }
    }

    fn ended(&mut self) -> Option<Result<Frame<Bytes>, Fault>> {
        match self.download {
            Download::Close => {
                self.download = Download::Done;
                None
            }
            _ => Some(Err(Fault::Broken)),
        }
    }

    fn decode(&mut self) -> Result<Option<Frame<Bytes>>, Fault> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        match &mut self.download {
            Download::Close => Ok(Some(Frame::data(std::mem::take(&mut self.pending)))),
            Download::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.pending.len());
                *left -= take as u64;
                if *left == 0 {
                    self.download = Download::Done;
                }
                Ok(Some(Frame::data(self.pending.split_to(take))))
            }
            Download::Chunks(decoder) => match decoder.decode(&mut self.pending) {
                Ok(Some(Piece::Data(data))) => Ok(Some(Frame::data(data))),
                Ok(Some(Piece::End(trailers))) => {
                    self.download = Download::Done;
                    Ok(trailers.map(kept))
                }
                Ok(None) => Ok(None),
                Err(_) => Err(Fault::Broken),
            },
            Download::Head | Download::Done => Ok(None),
        }
    }

    /// Reads into the connection's input; how many bytes, 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        let conn = &mut *self.conn;
        let want = match self.download {
            Download::Length(left) if left > READ as u64 => READ_LONG.min(left as usize),
            _ => READ,
        };
        if conn.input.capacity() - conn.input.len() < want / 4 {
            conn.input.reserve(want);
        }
        match pin!(conn.stream.read_buf(&mut conn.input)).poll(cx) {
            Poll::Ready(Ok(length)) => Poll::Ready(Ok(length)),
            Poll::Ready(Err(error)) => Poll::Ready(self.read_failed(&error)),
            Poll::Pending => {
                ready!(self.poll_alarm(cx));
                Poll::Ready(Err(Fault::Timeout))
            }
        }
    }

    /// A reset is an end, as far as a response that was to end with the connection is not concerned.
    fn read_failed(&self, error: &io::Error) -> Result<usize, Fault> {
        let reset = error.kind() == io::ErrorKind::ConnectionReset;
        match self.download {
            Download::Head if reset => Err(self.ended_early()),
            _ => Err(Fault::Broken),
        }
    }

    /// Ready when the deadline has passed.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.into();
        let alarm = self.conn.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier request.
            alarm.as_mut().reset(deadline);
        }
    }

    /// Sends as much of the request as can be sent now.
    fn advance_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.uploaded != Uploaded::No {
            return Ok(());
        }
        match self.upload.poll(&mut self.conn, cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.uploaded = Uploaded::Yes,
            Poll::Ready(Err(UploadError::Fault(fault))) => return Err(fault),
            Poll::Ready(Err(UploadError::Refused)) => {
                // It may have answered before it closed: the response decides.
                self.uploaded = Uploaded::Failed;
                self.upload.body = None;
            }
        }
        Ok(())
    }
}

fn kept(mut trailers: HeaderMap) -> Frame<Bytes> {
    headers::keep_trailers(&mut trailers);
    Frame::trailers(trailers)
}

/// What a failed request body says about its client.
pub(crate) fn client_fault(error: &hyper::Error) -> Fault {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    let garbled = cause.is_some_and(|cause| {
        matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    });
    if garbled { Fault::Garbled } else { Fault::Gone }
}

enum UploadError {
    Fault(Fault),
    /// The instance does not read any more.
    Refused,
}

impl Upload {
    /// Ready when all is sent. The first part of a body travels with the head in one write.
    fn poll(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            let starved =
                self.data.is_empty() && self.stage(conn, cx).map_err(UploadError::Fault)?.is_pending();
            ready!(self.poll_flush(conn, cx))?;
            if self.body.is_none() {
                return Poll::Ready(Ok(()));
            }
            if starved {
                return Poll::Pending;
            }
        }
    }

    /// Makes the next frame of the body ready to be written.
    fn stage(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Ok(Poll::Pending) };
        let last = body.is_end_stream();
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.stage_data(conn, data)?,
                Err(frame) => self.stage_trailers(conn, frame.into_trailers().ok()),
            },
            Some(Err(error)) => return Err(client_fault(&error)),
            None => self.stage_trailers(conn, None),
        }
        if last && self.body.is_some() {
            self.finish();
        }
        Ok(Poll::Ready(()))
    }

    fn stage_data(&mut self, conn: &mut Conn, data: Bytes) -> Result<(), Fault> {
        let length = data.len() as u64;
        self.allowance = self.allowance.checked_sub(length).ok_or(Fault::TooLarge)?;
        self.bytes += length;
        if self.sends == Sends::Chunks && length > 0 {
            conn.output.extend_from_slice(format!("{length:x}\r\n").as_bytes());
            self.tail = b"\r\n";
        }
        self.data = data;
        Ok(())
    }

    /// The body has ended with the data that is being written.
    fn finish(&mut self) {
        self.body = None;
        if self.sends == Sends::Chunks {
            self.tail = if self.tail.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
        }
    }

    fn stage_trailers(&mut self, conn: &mut Conn, trailers: Option<HeaderMap>) {
        self.body = None;
        if self.sends != Sends::Chunks {
            return;
        }
        conn.output.extend_from_slice(b"0\r\n");
        let kept = trailers.iter().flatten().filter(|(name, _)| headers::may_trail(name));
        for (name, value) in kept {
            conn.output.extend_from_slice(name.as_str().as_bytes());
            conn.output.extend_from_slice(b": ");
            conn.output.extend_from_slice(value.as_bytes());
            conn.output.extend_from_slice(b"\r\n");
        }
        conn.output.extend_from_slice(b"\r\n");
    }

    fn poll_flush(&mut self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            let head = &conn.output[conn.sent..];
            let (head_length, data_length) = (head.len(), self.data.len());
            let total = head_length + data_length + self.tail.len();
            if total == 0 {
                return Poll::Ready(Ok(()));
            }
            let stream = Pin::new(&mut conn.stream);
            let written = if head_length == total {
                ready!(stream.poll_write(cx, head))
            } else {
                let parts = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(stream.poll_write_vectored(cx, &parts))
            };
            let Ok(written) = written else { return Poll::Ready(Err(UploadError::Refused)) };
            conn.sent += written.min(head_length);
            let written = written.saturating_sub(head_length);
            self.data.advance(written.min(data_length));
            self.tail = &self.tail[written.saturating_sub(data_length)..];
            self.recycle(conn);
        }
    }

    /// A head that may have to be sent again on another connection stays; what follows it does not.
    fn recycle(&self, conn: &mut Conn) {
        if self.body.is_some() && conn.sent == conn.output.len() {
            conn.output.clear();
            conn.sent = 0;
        }
    }
}
