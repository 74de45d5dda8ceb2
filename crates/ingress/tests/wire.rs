//! HTTP/2 by hand: frames are written and read one by one, so that they may be wrong.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::harness::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: of `SETTINGS` and `PING` the first is an acknowledgement.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame as it goes over the wire, whatever is in it.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as a block: literals without compression (RFC 7541, 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length in the form of 5.1, with a prefix of seven bits.
fn length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push((length % 128) as u8 | 128);
        length /= 128;
    }
    block.push(length as u8);
}

/// The fields of a plain request.
pub(crate) fn get(path: &str) -> Vec<u8> {
    fields("GET", path, &[])
}

/// The fields of a request with further ones.
pub(crate) fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let line = [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)];
    block(&[&line[..], more].concat())
}

/// The head of a request that has no body.
pub(crate) fn head(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// The head of a request whose body is to follow.
pub(crate) fn open(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block)
}

/// What the other side made of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An answer with this status.
    Answer(u16),
    /// The stream was ended for this reason.
    Reset(u32),
    /// The connection was ended for this reason.
    Goaway(u32),
    /// The connection ended without a word.
    Closed,
}

/// The errors of RFC 9113, 7.
pub(crate) const PROTOCOL: u32 = 1;
pub(crate) const FLOW_CONTROL: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE: u32 = 6;
pub(crate) const REFUSED: u32 = 7;
pub(crate) const COMPRESSION: u32 = 9;
pub(crate) const CALM: u32 = 11;

pub(crate) struct Wire {
    pub(crate) reader: OwnedReadHalf,
    pub(crate) writer: OwnedWriteHalf,
}

impl Wire {
    /// A connection with its preface said (RFC 9113, 3.4).
    pub(crate) async fn open(world: &World) -> Wire {
        let (reader, writer) = TcpStream::connect(world.address).await.unwrap().into_split();
        let mut wire = Wire { reader, writer };
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send(&frame(SETTINGS, 0, 0, b"")).await;
        wire
    }

    /// Sends bytes; the other side may have had enough already.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }

    /// The next frame: its kind, flags, stream and payload; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        next(&mut self.reader).await
    }

    /// Sends bytes over and over until the other side has had enough; what becomes of a stream meanwhile.
    pub(crate) async fn flood(mut self, stream: u32, bytes: Vec<u8>) -> Verdict {
        let mut writer = self.writer;
        let sending = tokio::spawn(async move { while writer.write_all(&bytes).await.is_ok() {} });
        let verdict = verdict(&mut self.reader, stream).await;
        sending.abort();
        verdict
    }

    /// What becomes of a stream, or of the connection.
    pub(crate) async fn verdict(&mut self, stream: u32) -> Verdict {
        verdict(&mut self.reader, stream).await
    }

    /// Whether the connection ends, and nothing but its end is still to come.
    pub(crate) async fn ends(&mut self) {
        while let Some((kind, _, stream, _)) = self.next().await {
            assert_ne!((kind, stream != 0), (HEADERS, true), "an answer after the end");
        }
    }
}

async fn next(reader: &mut OwnedReadHalf) -> Option<(u8, u8, u32, Vec<u8>)> {
    let reading = async {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await.ok()?;
        Some((head[3], head[4], number(&head[5..9]), payload))
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the other side says nothing")
}

async fn verdict(reader: &mut OwnedReadHalf, stream: u32) -> Verdict {
    while let Some((kind, _, of, payload)) = next(reader).await {
        match kind {
            GOAWAY => return Verdict::Goaway(number(&payload[4..8])),
            RST_STREAM if of == stream => return Verdict::Reset(number(&payload)),
            HEADERS if of == stream => return Verdict::Answer(status(&payload)),
            _ => {}
        }
    }
    Verdict::Closed
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) & 0x7fff_ffff
}

/// The status at the beginning of a block: one of the table of RFC 7541, A, or three digits in Huffman's code.
fn status(block: &[u8]) -> u16 {
    match block {
        [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        [0x48, 0x83, 0x69, 0x90, 0xff, ..] => 431,
        [0x48, 0x83, 0x68, 0x59, 0xff, ..] => 413,
        _ => panic!("another status: {block:x?}"),
    }
}
