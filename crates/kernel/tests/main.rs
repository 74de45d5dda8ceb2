//! The kernel's promises, from outside.
//!
//! - `conformance`: what every engine does, against `dyn Store`; another engine runs the same functions.
//! - `model`: random transactions beside a map in memory.
//! - `durability`: processes killed while they write, locks, formats, groups.
//! - `mirrors`: mirrors and collections over a real store.
//! - `operations`: long-running operations, restarts included.

mod conformance;
mod durability;
mod mirrors;
mod model;
mod operations;

use std::{path::Path, sync::Arc};

use kernel::store::{Embedded, Store};

/// A store in a new directory, which goes away with the first value.
fn new_store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    (dir, store)
}

fn open(dir: &Path) -> Arc<dyn Store> {
    Arc::new(Embedded::open(dir).unwrap())
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
