//! The time, as something that can be handed in.
//!
//! Products never read the system's clock themselves, so that expiry, scaling and retention can be tested at
//! any speed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where the time comes from. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Clock(None)
    }

    /// A clock that stands still until it is [advanced](Clock::advance), for tests.
    pub fn manual(start: SystemTime) -> Self {
        Clock(Some(Arc::new(AtomicU64::new(nanos(start)))))
    }

    /// Moves a manual clock on. The system's clock takes no notice.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
        }
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(manual) => UNIX_EPOCH + Duration::from_nanos(manual.load(Ordering::SeqCst)),
        }
    }

    /// The time now as Google's APIs carry it.
    pub fn timestamp(&self) -> prost_types::Timestamp {
        self.now().into()
    }

    /// Whole seconds since 1970.
    pub fn unix(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
