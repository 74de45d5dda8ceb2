//! Searches: which segments, which blocks of them, and then record by record.
//!
//! A filter is narrowed to each stream of a segment, so that what it asks of the log and the resource is decided
//! once and not for each entry. The best entries so far are kept, and what cannot be better is not read: the
//! first page of the newest entries reads little, however much there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::Arc,
};

use apis::google::logging::v2::LogEntry;

use crate::{
    disk::{Block, Disk, Index, Segment},
    filter::{Filter, Known, View},
    record::{self, Found, Kind},
    wire::{Fields, Wire, text},
};

/// No more bytes of entries are put into one page, after the first: gRPC's usual limit for an answer is 4 MiB.
const PAGE_BYTES: usize = 3 << 20;

/// Which entries come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

/// What stands where in a listing. Entries of one project, moment and id are the same entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) time: i64,
    pub(crate) insert_id: String,
    pub(crate) project: String,
}

/// What is sought.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    /// The projects' ids.
    pub(crate) projects: Vec<String>,
    pub(crate) order: Order,
    /// Where the page before ended.
    pub(crate) after: Option<Position>,
    /// The most entries.
    pub(crate) size: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<LogEntry>,
    /// Where the page ends, if there is more.
    pub(crate) next: Option<Position>,
}

/// The names of the logs that have entries and begin like this, in order.
pub(crate) fn logs(disk: &Disk, prefix: &str) -> io::Result<Vec<String>> {
    let deleted = disk.deleted();
    let mut logs = BTreeSet::new();
    for segment in disk.segments() {
        let Some((index, _)) = segment.read()? else { continue };
        for stream in index.streams {
            let log = log_name(&stream.shared);
            let until = deleted.get(log).copied().unwrap_or(i64::MIN);
            if log.starts_with(prefix) && stream.newest > until && stream.received > until {
                logs.insert(log.to_owned());
            }
        }
    }
    Ok(logs.into_iter().collect())
}

/// The entries that a query asks for.
pub(crate) fn entries(disk: &Disk, query: &Query) -> io::Result<Page> {
    let mut segments = disk.segments();
    segments.sort_by_cached_key(|segment| query.order.key(segment.summary().times));
    let mut search = Search { query, deleted: disk.deleted(), best: BTreeMap::new(), buffer: Vec::new() };
    for segment in &segments {
        if search.wants(segment.summary().times) {
            search.segment(segment)?;
        }
    }
    search.page()
}

impl Order {
    /// Sorts ranges of moments so that those that may hold the first entries come first.
    fn key(self, (min, max): (i64, i64)) -> i64 {
        match self {
            Order::OldestFirst => min,
            // As `-max`, without the one value that has no negative.
            Order::NewestFirst => !max,
        }
    }
}

struct Search<'q> {
    query: &'q Query,
    deleted: Arc<BTreeMap<String, i64>>,
    /// The first entries so far: one more than a page, so that the end is known.
    best: BTreeMap<Position, Place>,
    buffer: Vec<u8>,
}

/// Where an entry was found.
struct Place {
    file: Arc<File>,
    offset: u64,
    length: usize,
    shared: Arc<[u8]>,
}

/// What is asked of the entries of one stream.
struct Plan<'i> {
    filter: Filter,
    shared: &'i Arc<[u8]>,
    project: &'i str,
    /// Up to when they were deleted.
    deleted: i64,
}

impl Search<'_> {
    /// Whether entries within this range may be on the page.
    fn wants(&self, (min, max): (i64, i64)) -> bool {
        let full = self.best.len() > self.query.size;
        let last = self.last().filter(|_| full).map(|last| last.time);
        let after = self.query.after.as_ref().map(|after| after.time);
        match self.query.order {
            Order::OldestFirst => {
                after.is_none_or(|after| max >= after) && last.is_none_or(|last| min <= last)
            }
            Order::NewestFirst => {
                after.is_none_or(|after| min <= after) && last.is_none_or(|last| max >= last)
            }
        }
    }

    /// The last of the best so far.
    fn last(&self) -> Option<&Position> {
        let last = match self.query.order {
            Order::OldestFirst => self.best.last_key_value(),
            Order::NewestFirst => self.best.first_key_value(),
        };
        last.map(|(position, _)| position)
    }

    fn segment(&mut self, segment: &Segment) -> io::Result<()> {
        let Some((index, file)) = segment.read()? else { return Ok(()) };
        let plans = self.plans(&index, segment.summary().times);
        if plans.iter().all(Option::is_none) {
            return Ok(());
        }
        let file = Arc::new(file);
        let mut blocks: Vec<&Block> = index.blocks.iter().collect();
        blocks.sort_by_key(|block| self.query.order.key(block.times()));
        for block in blocks {
            if self.wants(block.times()) && possible(block, &plans) {
                self.block(block, &plans, &file)?;
            }
        }
        Ok(())
    }

    /// What is asked of each stream; `None` where none of its entries can pass.
    fn plans<'i>(&self, index: &'i Index, times: (i64, i64)) -> Vec<Option<Plan<'i>>> {
        let plan = |shared: &'i Arc<[u8]>| {
            let log = log_name(shared);
            let project = log.strip_prefix("projects/")?.split('/').next()?;
            if !self.query.projects.iter().any(|wanted| wanted == project) {
                return None;
            }
            let known = Known { times, severities: u16::MAX, shared: Some(shared) };
            let filter = self.query.filter.narrow(&known);
            let deleted = self.deleted.get(log).copied().unwrap_or(i64::MIN);
            (!filter.is_never()).then_some(Plan { filter, shared, project, deleted })
        };
        index.streams.iter().map(|stream| plan(&stream.shared)).collect()
    }

    fn block(&mut self, block: &Block, plans: &[Option<Plan<'_>>], file: &Arc<File>) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(block.length as usize, 0);
        file.read_exact_at(&mut buffer, block.offset)?;
        let mut rest = &buffer[..];
        while let Some(found) = record::first(rest) {
            let offset = block.offset + (buffer.len() - rest.len()) as u64;
            rest = &rest[found.bytes.len()..];
            let plan = plans.get(usize::from(found.head.stream)).and_then(Option::as_ref);
            if let Some(plan) = plan.filter(|_| found.head.kind == Kind::Entry) {
                self.record(&found, plan, file, offset);
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn record(&mut self, found: &Found<'_>, plan: &Plan<'_>, file: &Arc<File>, offset: u64) {
        let head = found.head;
        let gone = head.time <= plan.deleted || head.received <= plan.deleted;
        let view = view(found, plan.shared);
        if gone || !self.wants((head.time, head.time)) || !plan.filter.matches(&view) || !found.intact() {
            return;
        }
        let position = Position {
            time: head.time,
            insert_id: insert_id(found.body).to_owned(),
            project: plan.project.to_owned(),
        };
        let reached = self.query.after.as_ref().is_none_or(|after| match self.query.order {
            Order::OldestFirst => position > *after,
            Order::NewestFirst => position < *after,
        });
        if reached {
            let shared = plan.shared.clone();
            let place = Place { file: file.clone(), offset, length: found.bytes.len(), shared };
            self.best.entry(position).or_insert(place);
        }
        if self.best.len() > self.query.size + 1 {
            let _ = match self.query.order {
                Order::OldestFirst => self.best.pop_last(),
                Order::NewestFirst => self.best.pop_first(),
            };
        }
    }

    /// Reads what was found.
    fn page(self) -> io::Result<Page> {
        let Search { query, best, mut buffer, .. } = self;
        let mut found: Vec<(Position, Place)> = best.into_iter().collect();
        if query.order == Order::NewestFirst {
            found.reverse();
        }
        let (mut page, mut last, mut bytes) = (Page::default(), None, 0);
        for (position, place) in found {
            bytes += place.length + place.shared.len();
            if page.entries.len() == query.size || last.is_some() && bytes > PAGE_BYTES {
                page.next = last;
                break;
            }
            buffer.resize(place.length, 0);
            place.file.read_exact_at(&mut buffer, place.offset)?;
            let entry = record::first(&buffer).and_then(|found| record::join(&view(&found, &place.shared)));
            page.entries.extend(entry);
            last = Some(position);
        }
        Ok(page)
    }
}

fn possible(block: &Block, plans: &[Option<Plan<'_>>]) -> bool {
    let streams = block.streams.iter().filter_map(|stream| plans.get(*stream as usize)?.as_ref());
    let severities = block.severities as u16;
    streams.into_iter().any(|plan| {
        let known = Known { times: block.times(), severities, shared: Some(plan.shared) };
        block.times().1 > plan.deleted && plan.filter.possible(&known)
    })
}

fn view<'a>(found: &Found<'a>, shared: &'a [u8]) -> View<'a> {
    let head = found.head;
    View { time: head.time, received: head.received, severity: head.severity, shared, own: found.body }
}

/// The name of the log in the shared fields of a stream.
fn log_name(shared: &[u8]) -> &str {
    let mut names = Fields(shared).filter_map(|field| match field {
        (12, Wire::Bytes(name)) => Some(text(name)),
        _ => None,
    });
    names.next().unwrap_or_default()
}

/// The id in the own fields of an entry.
fn insert_id(own: &[u8]) -> &str {
    let mut ids = Fields(own).filter_map(|field| match field {
        (4, Wire::Bytes(id)) => Some(text(id)),
        _ => None,
    });
    ids.next().unwrap_or_default()
}
