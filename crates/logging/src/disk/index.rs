//! What is where in a segment: its streams, and for each block what to expect in it.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use prost::Message;

use super::{read_checked, segment_path, write_checked};
use crate::record::{Head, Kind};

/// A block is full with so many bytes.
const BLOCK: u32 = 64 << 10;

/// A segment in short: all of a full one that stays in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How long it is.
    pub(crate) bytes: u64,
    /// The earliest and the latest moment of any entry.
    pub(crate) times: (i64, i64),
}

impl Default for Summary {
    fn default() -> Self {
        Summary { bytes: 0, times: NO_TIMES }
    }
}

/// The range that any moment widens.
const NO_TIMES: (i64, i64) = (i64::MAX, i64::MIN);

impl Summary {
    /// Takes in one more record.
    pub(super) fn note(&mut self, head: &Head, length: usize) {
        self.bytes += length as u64;
        if head.kind == Kind::Entry {
            widen(&mut self.times, head.time);
        }
    }
}

fn widen((min, max): &mut (i64, i64), time: i64) {
    *min = time.min(*min);
    *max = time.max(*max);
}

/// The index of a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// By their numbers.
    pub(crate) streams: Vec<Stream>,
    /// In the order of the file.
    pub(crate) blocks: Vec<Block>,
}

/// Entries that share their log, their resource and perhaps labels.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The encoded fields they share.
    pub(crate) shared: Arc<[u8]>,
    /// The latest moment of any of them.
    pub(crate) newest: i64,
    /// When the last of them arrived.
    pub(crate) received: i64,
}

/// Neighbouring records.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Block {
    /// Where they begin.
    #[prost(fixed64, tag = "1")]
    pub(crate) offset: u64,
    /// How many bytes they are.
    #[prost(fixed32, tag = "2")]
    pub(crate) length: u32,
    #[prost(sfixed64, tag = "3")]
    min: i64,
    #[prost(sfixed64, tag = "4")]
    max: i64,
    /// Their severities, a bit for each hundred.
    #[prost(uint32, tag = "5")]
    pub(crate) severities: u32,
    /// The streams they belong to, in order.
    #[prost(uint32, repeated, tag = "6")]
    pub(crate) streams: Vec<u32>,
}

impl Block {
    /// The earliest and the latest moment of any entry.
    pub(crate) fn times(&self) -> (i64, i64) {
        (self.min, self.max)
    }
}

impl Index {
    /// Takes in one more record.
    pub(super) fn note(&mut self, offset: u64, head: &Head, length: usize, body: &[u8]) {
        let block = self.block(offset);
        block.length += length as u32;
        if head.kind == Kind::Stream {
            self.streams.push(Stream { shared: body.into(), newest: i64::MIN, received: i64::MIN });
            return;
        }
        block.min = head.time.min(block.min);
        block.max = head.time.max(block.max);
        block.severities |= 1 << (head.severity / 100).min(15);
        if let Err(at) = block.streams.binary_search(&head.stream.into()) {
            block.streams.insert(at, head.stream.into());
        }
        if let Some(stream) = self.streams.get_mut(usize::from(head.stream)) {
            stream.newest = head.time.max(stream.newest);
            stream.received = head.received.max(stream.received);
        }
    }

    /// The block that a record at this offset belongs to.
    fn block(&mut self, offset: u64) -> &mut Block {
        if self.blocks.last().is_none_or(|block| block.length >= BLOCK) {
            let (min, max) = NO_TIMES;
            self.blocks.push(Block { offset, min, max, ..Block::default() });
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }
}

/// An index as it lies on disk. The numbers of fixed size come first, so that a summary can be read alone.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StoredStream>,
    #[prost(message, repeated, tag = "2")]
    blocks: Vec<Block>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredStream {
    #[prost(bytes = "vec", tag = "1")]
    shared: Vec<u8>,
    #[prost(sfixed64, tag = "2")]
    newest: i64,
    #[prost(sfixed64, tag = "3")]
    received: i64,
}

/// What an index begins with, behind the checksum of the file: version, checksum of this, segment's length,
/// range of moments.
const PREFIX: usize = 32;
const VERSION: u32 = 1;

/// Writes the index of a full segment.
pub(super) fn store(dir: &Path, id: u64, summary: &Summary, index: &Index) -> io::Result<()> {
    let stored = Stored {
        streams: index
            .streams
            .iter()
            .map(|Stream { shared, newest, received }| StoredStream {
                shared: shared.to_vec(),
                newest: *newest,
                received: *received,
            })
            .collect(),
        blocks: index.blocks.clone(),
    };
    let mut bytes = prefix(summary).to_vec();
    stored.encode(&mut bytes).map_err(io::Error::other)?;
    write_checked(dir, &format!("{id:016x}.idx"), &bytes)
}

fn prefix(summary: &Summary) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    prefix[..4].copy_from_slice(&VERSION.to_le_bytes());
    prefix[8..16].copy_from_slice(&summary.bytes.to_le_bytes());
    prefix[16..24].copy_from_slice(&summary.times.0.to_le_bytes());
    prefix[24..].copy_from_slice(&summary.times.1.to_le_bytes());
    let sum = crc32c::crc32c(&prefix);
    prefix[4..8].copy_from_slice(&sum.to_le_bytes());
    prefix
}

/// The summary of a segment; `None` when it has no index, or one that does not belong to it.
pub(super) fn summary(dir: &Path, id: u64) -> io::Result<Option<Summary>> {
    let path = segment_path(dir, id);
    let file = match File::open(path.with_extension("idx")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = [0; PREFIX];
    if file.read_exact_at(&mut bytes, 4).is_err() {
        return Ok(None);
    }
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |chunk| i64::from_le_bytes(*chunk));
    let found = Summary { bytes: number(8) as u64, times: (number(16), number(24)) };
    let fits = prefix(&found) == bytes && std::fs::metadata(path)?.len() == found.bytes;
    Ok(fits.then_some(found))
}

/// The index of the segment at this path; `None` when it is damaged.
pub(super) fn load(segment: &Path) -> io::Result<Option<Index>> {
    let bytes = read_checked(&segment.with_extension("idx"))?;
    let stored = bytes.as_deref().and_then(|bytes| bytes.get(PREFIX..));
    Ok(stored.and_then(|bytes| Stored::decode(bytes).ok()).map(|Stored { streams, blocks }| Index {
        streams: streams
            .into_iter()
            .map(|StoredStream { shared, newest, received }| Stream {
                shared: shared.into(),
                newest,
                received,
            })
            .collect(),
        blocks,
    }))
}
