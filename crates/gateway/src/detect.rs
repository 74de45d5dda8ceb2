//! What a connection speaks, told from its first bytes.
//!
//! Three protocols share the port: TLS, HTTP/2 with prior knowledge (what gRPC clients speak without TLS) and
//! HTTP/1. When the bytes could be several, more are read; when they can be none, the connection is closed
//! without an answer, for there is no protocol to answer in. HTTP/1 is the last guess: anything that begins like
//! a method is left to its parser, which answers 400 itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read at once while detecting: a whole ClientHello or request head, mostly.
const FIRST_READ: usize = 4096;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A TLS handshake record.
    Tls,
    /// HTTP/2's preface.
    Http2,
    /// HTTP/1, as far as can be told.
    Http1,
}

/// What can be said of some first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is this.
    Is(Protocol),
    /// It may be several things still.
    More,
    /// It is nothing that is spoken here.
    Nothing,
}

/// Judges the first bytes of a connection.
pub(crate) fn judge(bytes: &[u8]) -> Verdict {
    match bytes {
        [] | [0x16] => Verdict::More,
        [0x16, 0x03, ..] => Verdict::Is(Protocol::Tls),
        _ if bytes.starts_with(PREFACE) => Verdict::Is(Protocol::Http2),
        _ if PREFACE.starts_with(bytes) => Verdict::More,
        // An empty line may stand before a request (RFC 9112, 2.2).
        [b'\r' | b'\n', ..] => Verdict::Is(Protocol::Http1),
        [first, ..] if is_token(*first) => Verdict::Is(Protocol::Http1),
        _ => Verdict::Nothing,
    }
}

/// Whether a byte may stand in a method (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads until the protocol is known; what was read is given back to whoever reads next.
///
/// # Errors
/// `InvalidData` for bytes that are no protocol spoken here, `UnexpectedEof` when the connection ends first,
/// and what reading gives.
pub(crate) async fn sniff<I: AsyncRead + Unpin>(io: &mut Rewound<I>) -> io::Result<Protocol> {
    let mut seen = BytesMut::from(&io.first[..]);
    loop {
        match judge(&seen) {
            Verdict::Is(protocol) => {
                io.first = seen.freeze();
                return Ok(protocol);
            }
            Verdict::Nothing => return Err(io::ErrorKind::InvalidData.into()),
            Verdict::More => {}
        }
        seen.reserve(FIRST_READ);
        if io.inner.read_buf(&mut seen).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A stream some of whose bytes were read already and are given again.
pub(crate) struct Rewound<I> {
    first: Bytes,
    inner: I,
}

impl<I> Rewound<I> {
    pub(crate) fn new(first: Bytes, inner: I) -> Self {
        Rewound { first, inner }
    }

    /// The bytes that are still to be read again, and the stream behind them.
    pub(crate) fn into_parts(self) -> (Bytes, I) {
        (self.first, self.inner)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewound<I> {
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
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_protocol_is_told_from_its_first_bytes() {
        assert_eq!(judge(&[0x16, 0x03, 0x01, 0x02]), Verdict::Is(Protocol::Tls));
        assert_eq!(judge(PREFACE), Verdict::Is(Protocol::Http2));
        assert_eq!(judge(b"GET / HTTP/1.1"), Verdict::Is(Protocol::Http1));
        assert_eq!(judge(b"CONNECT a:443 HTTP/1.1"), Verdict::Is(Protocol::Http1));
        assert_eq!(judge(b"PROPFIND /"), Verdict::Is(Protocol::Http1));
        assert_eq!(judge(b"P"), Verdict::More);
        assert_eq!(judge(b"\r\nGET"), Verdict::Is(Protocol::Http1));
    }

    #[test]
    fn what_is_no_protocol_is_nothing() {
        for bytes in [&[0u8][..], &[0x16, 0x01], &[0x80, 0x2e], b" GET", &[0xff; 9], b"\x05\x01\x00"] {
            assert_eq!(judge(bytes), Verdict::Nothing, "{bytes:?}");
        }
    }

    proptest! {
        /// However the bytes arrive, the verdict is the one on the whole, and it comes within the preface's length.
        #[test]
        fn a_verdict_once_given_never_changes(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 1..64),
                (0..=PREFACE.len(), proptest::collection::vec(any::<u8>(), 0..30))
                    .prop_map(|(kept, tail)| [&PREFACE[..kept], &tail[..]].concat()),
            ]
        ) {
            let whole = judge(&bytes);
            for length in 0..bytes.len() {
                let early = judge(&bytes[..length]);
                prop_assert!(early == Verdict::More || early == whole);
            }
            prop_assert!(bytes.len() < PREFACE.len() || whole != Verdict::More);
        }
    }

    #[tokio::test]
    async fn what_was_read_is_given_again() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        let mut io = Rewound::new(Bytes::new(), server);
        assert_eq!(sniff(&mut io).await.unwrap(), Protocol::Http1);
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"GET / HTTP/1.1\r\n\r\n");
    }
}
