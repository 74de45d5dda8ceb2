//! Counters of a revision, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const BUCKETS: usize = 20;

/// The upper bounds of the latency histogram's buckets, in microseconds: powers of two from 128 µs to 33.5 s.
/// One more bucket holds what took longer.
pub const LATENCY_BOUNDS: [u64; BUCKETS - 1] = {
    let mut bounds = [0; BUCKETS - 1];
    let mut i = 0;
    while i < BUCKETS - 1 {
        bounds[i] = 128 << i;
        i += 1;
    }
    bounds
};

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) cold_starts: AtomicU64,
    /// By the first digit of the status; the first place is for everything else.
    statuses: [AtomicU64; 6],
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    latencies: [AtomicU64; BUCKETS],
    latency_sum: AtomicU64,
}

impl Counters {
    /// A request has ended.
    pub(crate) fn ended(&self, status: u16, latency: Duration, request_bytes: u64, response_bytes: u64) {
        let class = usize::from(status / 100);
        self.statuses[if class < 6 { class } else { 0 }].fetch_add(1, Relaxed);
        self.request_bytes.fetch_add(request_bytes, Relaxed);
        self.response_bytes.fetch_add(response_bytes, Relaxed);
        let micros = latency.as_micros() as u64;
        self.latencies[bucket(micros)].fetch_add(1, Relaxed);
        self.latency_sum.fetch_add(micros, Relaxed);
    }
}

/// The first bucket whose bound is not below the latency.
fn bucket(micros: u64) -> usize {
    let above = micros.saturating_sub(1) >> 7;
    (64 - above.leading_zeros() as usize).min(BUCKETS - 1)
}

/// The counters of a revision at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Requests that have ended, by the first digit of their status (`[2]` is 2xx).
    pub requests: [u64; 6],
    /// Requests that an instance is working on.
    pub running: u32,
    /// Requests that wait for an instance.
    pub waiting: u32,
    /// Instances that take requests.
    pub instances: u32,
    /// Instances that are being started.
    pub starting: u32,
    /// Instances started so far.
    pub cold_starts: u64,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// How many requests ended within each of [`LATENCY_BOUNDS`] (not cumulative), and beyond.
    pub latencies: [u64; BUCKETS],
    /// The sum of all latencies.
    pub latency_sum: Duration,
}

impl Snapshot {
    pub(crate) fn of(counters: &Counters, state: &crate::revision::State) -> Self {
        Snapshot {
            requests: std::array::from_fn(|i| counters.statuses[i].load(Relaxed)),
            running: state.running,
            waiting: state.waiters.len() as u32,
            instances: state.serving.len() as u32,
            starting: state.starting,
            cold_starts: counters.cold_starts.load(Relaxed),
            request_bytes: counters.request_bytes.load(Relaxed),
            response_bytes: counters.response_bytes.load(Relaxed),
            latencies: std::array::from_fn(|i| counters.latencies[i].load(Relaxed)),
            latency_sum: Duration::from_micros(counters.latency_sum.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_holds_it() {
        for (place, bound) in LATENCY_BOUNDS.iter().enumerate() {
            assert_eq!((bucket(*bound), bucket(*bound + 1)), (place, place + 1));
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
