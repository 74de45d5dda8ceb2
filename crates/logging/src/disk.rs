//! Entries on disk: segments that only grow, each with an index once it is full.
//!
//! A segment is a file of records (see [`record`]). Its index, a second file written when it is full, says of
//! each block of some 64 KiB which moments, severities and streams are in it, so that a search reads only the
//! blocks it must; of a segment that has none (after a crash) it is made anew from the
//! records. Of full segments, only a few numbers stay in memory. What a crash tore is cut off when the
//! directory is opened. The oldest segments go when the cap is reached.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use prost::Message;

use crate::{engine::Options, record};

mod index;
mod log;

use index::Summary;
pub(crate) use index::{Block, Index};
pub(crate) use log::Log;

/// The directory of entries, as readers see it.
pub(crate) struct Disk {
    dir: PathBuf,
    segments: RwLock<Vec<Arc<Segment>>>,
    deleted: RwLock<Arc<BTreeMap<String, i64>>>,
}

/// A file of records.
pub(crate) struct Segment {
    /// Counts up: newer segments have higher ones.
    id: u64,
    path: PathBuf,
    body: Body,
}

enum Body {
    /// It is being written.
    Live(RwLock<(Summary, Index)>),
    /// It is full, and its index is a file.
    Sealed(Summary),
}

/// Which logs were deleted when, as it lies on disk.
#[derive(Clone, PartialEq, prost::Message)]
struct Deleted {
    #[prost(btree_map = "string, int64", tag = "1")]
    logs: BTreeMap<String, i64>,
}

/// The name of the file that holds [`Deleted`].
const DELETED: &str = "deleted";

impl Disk {
    /// Opens a directory, making it if it is not there, and the log at its end.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn open(dir: &Path, options: &Options) -> io::Result<(Arc<Disk>, Log)> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let ids = segment_ids(dir)?;
        let mut segments = Vec::with_capacity(ids.len());
        let mut last = None;
        for (at, id) in ids.iter().enumerate() {
            let newest = at + 1 == ids.len();
            match index::summary(dir, *id)? {
                Some(summary) if newest && summary.bytes < log::segment_bytes(options) => last = Some(*id),
                Some(summary) => segments.push(Arc::new(Segment::sealed(dir, *id, summary))),
                None if newest => last = Some(*id),
                None => segments.push(Arc::new(rebuild(dir, *id)?)),
            }
        }
        let deleted = read_checked(&dir.join(DELETED))?.and_then(|bytes| Deleted::decode(&*bytes).ok());
        let disk = Arc::new(Disk {
            dir: dir.to_owned(),
            segments: RwLock::new(segments),
            deleted: RwLock::new(Arc::new(deleted.unwrap_or_default().logs)),
        });
        let log = Log::open(disk.clone(), last, ids.last().map_or(1, |id| id + 1), options)?;
        Ok((disk, log))
    }

    /// The segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        change(&mut self.segments.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The bytes that the segments take.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.summary().bytes).sum()
    }

    /// When logs were deleted, by name: entries up to then are not shown.
    pub(crate) fn deleted(&self) -> Arc<BTreeMap<String, i64>> {
        self.deleted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Deletes what a log has up to a moment.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn delete(&self, log: &str, until: i64) -> io::Result<()> {
        let mut logs = (*self.deleted()).clone();
        logs.insert(log.to_owned(), until);
        let bytes = Deleted { logs: logs.clone() }.encode_to_vec();
        write_checked(&self.dir, DELETED, &bytes)?;
        *self.deleted.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(logs);
        Ok(())
    }
}

impl Segment {
    fn sealed(dir: &Path, id: u64, summary: Summary) -> Self {
        Segment { id, path: segment_path(dir, id), body: Body::Sealed(summary) }
    }

    fn live(dir: &Path, id: u64, summary: Summary, index: Index) -> Self {
        Segment { id, path: segment_path(dir, id), body: Body::Live(RwLock::new((summary, index))) }
    }

    /// What is in it, in short.
    pub(crate) fn summary(&self) -> Summary {
        match &self.body {
            Body::Live(live) => live.read().unwrap_or_else(PoisonError::into_inner).0,
            Body::Sealed(summary) => *summary,
        }
    }

    /// Its index and its records, to be read; `None` when it has gone meanwhile.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(crate) fn read(&self) -> io::Result<Option<(Index, File)>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let index = match &self.body {
            Body::Live(live) => live.read().unwrap_or_else(PoisonError::into_inner).1.clone(),
            Body::Sealed(_) => match index::load(&self.path)? {
                Some(index) => index,
                // Damaged since it was opened: the records say it all.
                None => scan(&file)?.1,
            },
        };
        Ok(Some((index, file)))
    }
}

/// Makes the index of a segment that was left without one, though it is not the last.
fn rebuild(dir: &Path, id: u64) -> io::Result<Segment> {
    let (summary, index) = scan(&File::open(segment_path(dir, id))?)?;
    index::store(dir, id, &summary, &index)?;
    Ok(Segment::sealed(dir, id, summary))
}

/// Reads a segment's records up to the first that is torn or damaged.
fn scan(file: &File) -> io::Result<(Summary, Index)> {
    const CHUNK: usize = 256 << 10;
    let (mut summary, mut index) = (Summary::default(), Index::default());
    let mut buffer = Vec::new();
    let mut wanted = CHUNK;
    loop {
        let read = read_up_to(file, summary.bytes, wanted, &mut buffer)?;
        let mut rest = &buffer[..read];
        while let Some(found) = record::first(rest).filter(record::Found::intact) {
            let at = summary.bytes;
            summary.note(&found.head, found.bytes.len());
            index.note(at, &found.head, found.bytes.len(), found.body);
            rest = &rest[found.bytes.len()..];
        }
        let stuck = rest.len() == read;
        if read < wanted && rest.is_empty() || stuck && (read < wanted || wanted == record::LONGEST) {
            return Ok((summary, index));
        }
        wanted = if stuck { record::LONGEST } else { CHUNK };
    }
}

/// Reads as much as there is, and at most so much, into the front of a buffer.
fn read_up_to(file: &File, offset: u64, most: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.resize(most, 0);
    let mut read = 0;
    while read < most {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The segments in a directory, the oldest first. Sweeps out what was not finished.
fn segment_ids(dir: &Path) -> io::Result<Vec<u64>> {
    let (mut segments, mut indexes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let id = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok());
        match (path.extension().and_then(|extension| extension.to_str()), id) {
            (Some("seg"), Some(id)) => segments.push(id),
            (Some("idx"), Some(id)) => indexes.push((id, path)),
            (Some("new"), _) => fs::remove_file(path)?,
            _ => {}
        }
    }
    segments.sort_unstable();
    for (_, orphan) in indexes.iter().filter(|(id, _)| segments.binary_search(id).is_err()) {
        fs::remove_file(orphan)?;
    }
    Ok(segments)
}

fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.seg"))
}

/// Puts a file with a checksum in the place of another, so that always one of the two is there in full.
fn write_checked(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&crc32c::crc32c(bytes).to_le_bytes())?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, dir.join(name))?;
    sync_dir(dir)
}

/// Reads such a file; `None` when it is not there or is damaged.
fn read_checked(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let checked = bytes.split_first_chunk::<4>();
    Ok(checked
        .filter(|(sum, rest)| u32::from_le_bytes(**sum) == crc32c::crc32c(rest))
        .map(|(_, rest)| rest.to_vec()))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
