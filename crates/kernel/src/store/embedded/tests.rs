//! What happens when the disk fails under the engine.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{StorageBackend, backends::FileBackend};

use super::*;
use crate::Code;

/// Whether the disk is full at the moment. One test uses it.
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// A file on a disk that is full now and then: what was written once can be written again, as on ext4 and XFS,
/// but nothing new.
#[derive(Debug)]
struct Failing {
    file: FileBackend,
    written: &'static Mutex<BTreeSet<u64>>,
}

/// The blocks that have been written.
static WRITTEN: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

impl Failing {
    fn make_room(&self, offset: u64, length: usize) -> io::Result<()> {
        let mut written = self.written.lock().unwrap();
        let blocks = offset / 4096..=(offset + length as u64 - 1) / 4096;
        if IS_FULL.load(Ordering::SeqCst) && !blocks.clone().all(|block| written.contains(&block)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        written.extend(blocks);
        Ok(())
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.make_room(offset, data.len())?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn open_failing(directory: &Directory, builder: &Builder) -> Result<Database> {
    let file = FileBackend::new(directory.store_file()?).map_err(|e| broken(directory, e))?;
    builder.create_with_backend(Failing { file, written: &WRITTEN }).map_err(|e| broken(directory, e))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open_on(dir.path(), Options::default(), open_failing).unwrap();
    let put = async |value: &str| store.txn(Txn::new().put("a", value.to_owned())).await;
    let value = async || store.get("a").await.unwrap().unwrap().value;
    let mut watch = store.watch("", 0).await.unwrap();
    assert_eq!(put("before").await.unwrap(), Outcome::Committed(1));

    IS_FULL.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refusal = put(&"lost".repeat(50_000)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
        assert_eq!(value().await, "before");
    }

    IS_FULL.store(false, Ordering::SeqCst);
    assert_eq!(put("after").await.unwrap(), Outcome::Committed(2));
    assert_eq!(value().await, "after");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(crate::store::Watched::Events(events)) = watch.next().await {
            seen.extend(events.into_iter().map(|event| (event.revision, event.value.unwrap())));
        }
    }
    assert_eq!(seen, [(1, "before".into()), (2, "after".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_refuses_everything_and_needs_no_repair() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    store.txn(Txn::new().put("a", "1")).await.unwrap();
    store.close();
    for _ in 0..2 {
        let refusal = store.txn(Txn::new().put("a", "2")).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
    }
    assert!(store.get("a").await.is_err());
    let repairs = std::sync::Arc::new(AtomicBool::new(false));
    let seen = repairs.clone();
    let mut builder = Database::builder();
    builder.set_repair_callback(move |_| seen.store(true, Ordering::SeqCst));
    drop(builder.open(dir.path().join("store.redb")).unwrap());
    assert!(!repairs.load(Ordering::SeqCst));
    drop(store);
    assert_eq!(Embedded::open(dir.path()).unwrap().get("a").await.unwrap().unwrap().value, "1");
}
