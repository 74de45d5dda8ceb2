//! The request log: what is kept of a request, and its way to the log without anybody waiting.
//!
//! Records are gathered in one growing text and a list, and handed over together every 50 ms, so a record
//! costs no allocation and no wake-up. When the log is slower than the requests, records are dropped and
//! counted.

use std::{
    net::IpAddr,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use kernel::BoxFuture;
use tokio::sync::Notify;

use crate::{
    forward::Scheme,
    revision::{Live, Revision},
    routes::Route,
    trace::{Sampled, Trace},
};

/// Where records of requests go.
pub trait RequestLog: Send + Sync + 'static {
    /// Takes a batch over. While this has not finished, further records are gathered, up to
    /// [`log_capacity`](crate::Config::log_capacity).
    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, ()>;
}

/// One request, with what Cloud Run's request log says of it.
#[derive(Clone, Debug)]
pub struct RequestRecord<'a> {
    /// When it arrived.
    pub time: SystemTime,
    /// How long it took until the end of its response.
    pub latency: Duration,
    /// Its method.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// Of the client: `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The status of the answer; 499 when the client left before there was one.
    pub status: u16,
    /// How long its body was, in bytes.
    pub request_size: u64,
    /// How long the response's body was, in bytes.
    pub response_size: u64,
    /// `User-Agent`, empty when there was none.
    pub user_agent: &'a str,
    /// `Referer`, empty when there was none.
    pub referer: &'a str,
    /// The client's address.
    pub remote_ip: IpAddr,
    /// The id of its trace, 32 hexadecimal digits.
    pub trace: &'a str,
    /// Its span.
    pub span: u64,
    /// Whether its trace is kept.
    pub sampled: bool,
    /// The service's project.
    pub project: &'a str,
    /// The service's region.
    pub region: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// The revision's short name.
    pub revision: &'a str,
    /// The instance that answered, empty when none did.
    pub instance: &'a str,
    /// Whether it waited for an instance to start.
    pub cold_start: bool,
    /// What went wrong, in Cloud Run's words; empty when nothing did.
    pub message: &'static str,
}

/// Records that are handed over together.
#[derive(Default)]
pub struct Batch {
    text: String,
    entries: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) route: Arc<Route>,
    pub(crate) revision: Arc<Revision>,
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) time: SystemTime,
    pub(crate) latency: Duration,
    pub(crate) method: http::Method,
    pub(crate) version: http::Version,
    pub(crate) status: u16,
    pub(crate) request_size: u64,
    pub(crate) response_size: u64,
    pub(crate) remote_ip: IpAddr,
    pub(crate) trace: Trace,
    pub(crate) cold_start: bool,
    pub(crate) message: &'static str,
    pub(crate) texts: Texts,
}

/// Where the texts of an entry end: URL, user agent, referrer, one after the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Texts {
    start: usize,
    ends: [usize; 3],
}

impl Texts {
    fn range(&self, which: usize) -> Range<usize> {
        let start = if which == 0 { self.start } else { self.ends[which - 1] };
        start..self.ends[which]
    }
}

/// The texts of a request that a record keeps.
pub(crate) struct Words<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) user_agent: &'a [u8],
    pub(crate) referer: &'a [u8],
}

impl Batch {
    /// The records, in the order in which requests ended.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RequestRecord<'_>> {
        self.entries.iter().map(|entry| self.record(entry))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn record<'a>(&'a self, entry: &'a Entry) -> RequestRecord<'a> {
        let service = &entry.route.service;
        let text = |which| self.text.get(entry.texts.range(which)).unwrap_or_default();
        RequestRecord {
            time: entry.time,
            latency: entry.latency,
            method: entry.method.as_str(),
            url: text(0),
            protocol: if entry.version == http::Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            status: entry.status,
            request_size: entry.request_size,
            response_size: entry.response_size,
            user_agent: text(1),
            referer: text(2),
            remote_ip: entry.remote_ip,
            trace: entry.trace.id(),
            span: entry.trace.span,
            sampled: entry.trace.sampled == Sampled::Yes,
            project: &service.project,
            region: &service.region,
            service: &service.name,
            revision: entry.revision.id.short(),
            instance: entry.live.as_ref().map_or("", |live| live.instance.id()),
            cold_start: entry.cold_start,
            message: entry.message,
        }
    }

    fn push(&mut self, words: &Words<'_>, mut entry: Entry) {
        entry.texts.start = self.text.len();
        self.text.push_str(words.scheme.as_str());
        self.text.push_str("://");
        self.text.push_str(words.host);
        self.text.push_str(words.path);
        entry.texts.ends[0] = self.text.len();
        self.push_lossy(words.user_agent);
        entry.texts.ends[1] = self.text.len();
        self.push_lossy(words.referer);
        entry.texts.ends[2] = self.text.len();
        self.entries.push(entry);
    }

    fn push_lossy(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text.push_str(text),
            Err(_) => self.text.push_str(&String::from_utf8_lossy(bytes)),
        }
    }

    fn clear(&mut self) {
        // After a peak, memory is given back.
        if self.entries.capacity() > 4096 {
            *self = Batch::default();
        }
        self.text.clear();
        self.entries.clear();
    }
}

/// Records on their way to the log.
pub(crate) struct Journal {
    filling: Mutex<Batch>,
    filled: Notify,
    capacity: usize,
    dropped: AtomicU64,
}

impl Journal {
    /// A journal, and the task that carries its records to the log for as long as it is used.
    pub(crate) fn start(log: Arc<dyn RequestLog>, capacity: usize, delay: Duration) -> Arc<Self> {
        let filling = Mutex::new(Batch::default());
        let journal =
            Arc::new(Journal { filling, filled: Notify::new(), capacity, dropped: AtomicU64::new(0) });
        tokio::spawn(carry(journal.clone(), log, delay));
        journal
    }

    pub(crate) fn push(&self, words: &Words<'_>, entry: Entry) {
        let mut batch = self.lock();
        if batch.len() >= self.capacity {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        batch.push(words, entry);
        let first = batch.len() == 1;
        drop(batch);
        if first {
            self.filled.notify_one();
        }
    }

    /// How many records were dropped because the log was too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry(journal: Arc<Journal>, log: Arc<dyn RequestLog>, delay: Duration) {
    let mut spare = Batch::default();
    loop {
        journal.filled.notified().await;
        tokio::time::sleep(delay).await;
        std::mem::swap(&mut *journal.lock(), &mut spare);
        if spare.is_empty() {
            // Only we hold the journal: the ingress has gone.
            if Arc::strong_count(&journal) == 1 {
                return;
            }
            continue;
        }
        log.write(&spare).await;
        spare.clear();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.0.filled.notify_one();
    }
}

/// Held by the ingress: when it goes, the journal's task looks once more and ends.
pub(crate) struct Flusher(pub(crate) Arc<Journal>);
