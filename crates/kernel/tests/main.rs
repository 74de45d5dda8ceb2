//! The kernel's promises, from outside.
//!
//! - `conformance`: what every engine does, against `dyn Store`; another engine runs the same functions.
//! - `model`: random transactions beside a map in memory.
//! - `durability`: processes killed while they write, locks, formats, groups.
//! - `mirrors`: mirrors and collections over a real store.
//! - `operations`: long-running operations, restarts included.

// A failed expectation is how a test fails.
#![allow(clippy::unwrap_used)]

mod conformance;
mod durability;
mod mirrors;
mod model;
mod operations;

use std::{path::Path, sync::Arc};

use kernel::store::{Embedded, Store, embedded::Options};
use tempfile::TempDir;

/// A new directory, in memory where that is possible: waiting for a disk proves nothing here. It may be on a
/// small file system.
fn new_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store in a new directory, which goes away with the first value.
fn new_store() -> (TempDir, Arc<dyn Store>) {
    let dir = new_dir();
    let store = open(dir.path());
    (dir, store)
}

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::default() }
}

fn open(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open_with(dir, options()).unwrap())
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
