//! The end of the log, which one thread writes.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::{Arc, PoisonError},
};

use super::{Body, Disk, Segment, Summary, index, scan, segment_path, sync_dir};
use crate::{
    engine::Options,
    record::{self, Head, Kind, Moment, Pending},
};

/// As many streams as a segment can number.
const MAX_STREAMS: usize = u16::MAX as usize;
/// Gathered records are written when they are so many bytes.
const GROUP: usize = 1 << 20;

/// How long a segment is when it is full: a small part of the cap, and few enough bytes to be read at a start.
pub(super) fn segment_bytes(options: &Options) -> u64 {
    (options.cap_bytes / 64).clamp(64 << 10, 8 << 20)
}

/// Appends entries. What was [put](Log::put) is readable once [written](Log::write), survives a crash of this
/// process from then on, and one of the machine once [synced](Log::sync).
pub(crate) struct Log {
    disk: Arc<Disk>,
    cap: u64,
    segment_bytes: u64,
    next: u64,
    tail: Option<Tail>,
    /// Records that wait to be written, and what they are.
    buffer: Vec<u8>,
    notes: Vec<(Head, usize)>,
}

/// The segment being written.
struct Tail {
    segment: Arc<Segment>,
    file: File,
    length: u64,
    streams: HashMap<Arc<[u8]>, u16>,
    /// The stream of the last entry: often the next one's too.
    last: Option<(Arc<[u8]>, u16)>,
    dirty: bool,
}

impl Log {
    /// Goes on with the last segment, if it is not full.
    pub(super) fn open(disk: Arc<Disk>, last: Option<u64>, next: u64, options: &Options) -> io::Result<Self> {
        let segment_bytes = segment_bytes(options);
        let (buffer, notes) = (Vec::new(), Vec::new());
        let mut log = Log { disk, cap: options.cap_bytes, segment_bytes, next, tail: None, buffer, notes };
        if let Some(id) = last {
            log.tail = Some(log.resume(id)?);
        }
        Ok(log)
    }

    fn resume(&self, id: u64) -> io::Result<Tail> {
        let file = OpenOptions::new().read(true).write(true).open(segment_path(&self.disk.dir, id))?;
        let (summary, index) = match index::summary(&self.disk.dir, id)? {
            Some(summary) => (summary, index::load(&segment_path(&self.disk.dir, id))?),
            None => (Summary::default(), None),
        };
        let (summary, index) = match index {
            Some(index) => (summary, index),
            None => scan(&file)?,
        };
        // Whatever stands behind was never acknowledged.
        file.set_len(summary.bytes)?;
        let streams = index.streams.iter().zip(0..).map(|(stream, number)| (stream.shared.clone(), number));
        let streams = streams.collect();
        let segment = Arc::new(Segment::live(&self.disk.dir, id, summary, index));
        self.disk.change(|segments| segments.push(segment.clone()));
        Ok(Tail { segment, file, length: summary.bytes, streams, last: None, dirty: true })
    }

    /// Adds an entry to those that wait.
    ///
    /// # Errors
    /// What the file system refuses; then nothing waits any more.
    pub(crate) fn put(&mut self, entry: &Pending) -> io::Result<()> {
        let Pending { severity, time, received, .. } = *entry;
        self.put_encoded(&entry.shared, Moment { severity, time, received }, &entry.own)
    }

    /// The same, of an entry's encoded fields: those that it shares with its stream, and its own.
    ///
    /// # Errors
    /// As [`Log::put`].
    pub(crate) fn put_encoded(&mut self, shared: &Arc<[u8]>, moment: Moment, own: &[u8]) -> io::Result<()> {
        let number = match self.stream(shared)? {
            Some(number) => number,
            None => {
                self.seal()?;
                self.stream(shared)?.unwrap_or_default()
            }
        };
        let Moment { severity, time, received } = moment;
        self.append(Head { kind: Kind::Entry, severity, stream: number, time, received }, own);
        if self.buffer.len() >= GROUP { self.write() } else { Ok(()) }
    }

    fn append(&mut self, head: Head, body: &[u8]) {
        let before = self.buffer.len();
        record::append(&mut self.buffer, &head, body);
        self.notes.push((head, self.buffer.len() - before));
    }

    /// The number of a stream in the segment being written; `None` when that is full.
    fn stream(&mut self, shared: &Arc<[u8]>) -> io::Result<Option<u16>> {
        if self.tail.is_none() {
            self.tail = Some(self.begin()?);
        }
        let Some(tail) = &mut self.tail else { return Ok(None) };
        if tail.length + self.buffer.len() as u64 >= self.segment_bytes || tail.streams.len() >= MAX_STREAMS {
            return Ok(None);
        }
        if let Some((_, number)) = tail.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, shared)) {
            return Ok(Some(*number));
        }
        let known = tail.streams.get(shared).copied();
        let number = known.unwrap_or(tail.streams.len() as u16);
        tail.last = Some((shared.clone(), number));
        if known.is_none() {
            tail.streams.insert(shared.clone(), number);
            let head = Head { kind: Kind::Stream, severity: 0, stream: number, time: 0, received: 0 };
            self.append(head, shared);
        }
        Ok(Some(number))
    }

    fn begin(&mut self) -> io::Result<Tail> {
        self.make_room()?;
        let (dir, id) = (&self.disk.dir, self.next);
        let mut open = OpenOptions::new();
        let file = open.write(true).create(true).truncate(true).mode(0o600).open(segment_path(dir, id))?;
        sync_dir(dir)?;
        self.next += 1;
        let segment = Arc::new(Segment::live(dir, id, Summary::default(), index::Index::default()));
        self.disk.change(|segments| segments.push(segment.clone()));
        Ok(Tail { segment, file, length: 0, streams: HashMap::new(), last: None, dirty: false })
    }

    /// Removes the oldest segments until one more fits under the cap.
    fn make_room(&self) -> io::Result<()> {
        while self.disk.bytes() + self.segment_bytes > self.cap {
            let Some(oldest) = self.disk.segments().first().cloned() else { break };
            self.disk.change(|segments| segments.retain(|segment| segment.id != oldest.id));
            fs::remove_file(&oldest.path)?;
            match fs::remove_file(oldest.path.with_extension("idx")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// What the file system refuses; then what waited is forgotten.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let written = tail.file.write_all_at(&self.buffer, tail.length);
        match &written {
            Ok(()) => tail.publish(&self.buffer, &self.notes),
            // Half a group may be there: it lies behind the end, and is written over or cut off.
            Err(_) => tail.forget_unwritten(),
        }
        self.notes.clear();
        self.buffer.clear();
        // A burst is not paid for when it is over.
        self.buffer.shrink_to(64 << 10);
        self.notes.shrink_to(1 << 10);
        written
    }

    /// Makes what was written last, whatever happens to the machine.
    ///
    /// # Errors
    /// What the file system refuses; then a new segment is begun, for what a failed sync leaves is not known.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let Some(tail) = self.tail.as_mut().filter(|tail| tail.dirty) else { return Ok(()) };
        tail.dirty = false;
        let synced = tail.file.sync_data();
        if synced.is_err() {
            self.tail = None;
        }
        synced
    }

    /// Whether something was written and is not yet synced.
    pub(crate) fn is_dirty(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.dirty)
    }

    /// Leaves an index of the segment being written, so that its records need not be read when it is opened. As
    /// soon as the segment is longer than its index says, the index counts for nothing.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let Body::Live(live) = &tail.segment.body else { return Ok(()) };
        let (summary, index) = &*live.read().unwrap_or_else(PoisonError::into_inner);
        index::store(&self.disk.dir, tail.segment.id, summary, index)
    }

    /// Finishes the segment being written, and leaves the next one to be begun when it is needed.
    fn seal(&mut self) -> io::Result<()> {
        self.write()?;
        self.sync()?;
        let Some(tail) = self.tail.take() else { return Ok(()) };
        let Body::Live(live) = &tail.segment.body else { return Ok(()) };
        let id = tail.segment.id;
        let sealed = {
            let (summary, index) = &*live.read().unwrap_or_else(PoisonError::into_inner);
            index::store(&self.disk.dir, id, summary, index)?;
            Arc::new(Segment::sealed(&self.disk.dir, id, *summary))
        };
        self.disk.change(|segments| {
            segments
                .iter_mut()
                .filter(|segment| segment.id == id)
                .for_each(|segment| *segment = sealed.clone());
        });
        Ok(())
    }
}

impl Tail {
    /// Lets readers see what was written.
    fn publish(&mut self, buffer: &[u8], notes: &[(Head, usize)]) {
        let Body::Live(live) = &self.segment.body else { return };
        let (summary, index) = &mut *live.write().unwrap_or_else(PoisonError::into_inner);
        let mut rest = buffer;
        for (head, length) in notes {
            let (bytes, after) = rest.split_at(*length);
            index.note(summary.bytes, head, *length, &bytes[record::HEAD..]);
            summary.note(head, *length);
            rest = after;
        }
        self.length = summary.bytes;
        self.dirty = true;
    }

    /// Takes back the streams that were to be written.
    fn forget_unwritten(&mut self) {
        let Body::Live(live) = &self.segment.body else { return };
        let known = live.read().unwrap_or_else(PoisonError::into_inner).1.streams.len();
        self.streams.retain(|_, number| usize::from(*number) < known);
        self.last = None;
    }
}
