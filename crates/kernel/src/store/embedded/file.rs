//! The file under redb, which makes nobody wait for a disk while it is opened.
//!
//! Opening writes a mark into the file's head, that somebody may be writing, and syncs it before anything else is
//! written. Until then a sync has nothing to protect. So one that is asked for while the file is opened is owed, and
//! paid before the next byte is written: the order in which the disk learns of things is the same, and a program that
//! only reads starts up to 3 ms earlier. Syncs of an open file are made when they are asked for.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// A file with a sync that may be owed.
#[derive(Debug)]
pub(super) struct File<F = FileBackend> {
    file: F,
    /// Whether what was written has to be synced before more is.
    is_owed: AtomicBool,
    is_opening: Arc<AtomicBool>,
}

/// Held while the file is opened: when it is dropped, syncs are made at once again.
pub(super) struct Opening(Arc<AtomicBool>);

impl<F: StorageBackend> File<F> {
    /// A file that is about to be opened.
    pub(super) fn new(file: F) -> (Self, Opening) {
        let is_opening = Arc::new(AtomicBool::new(true));
        (File { file, is_owed: AtomicBool::new(false), is_opening: is_opening.clone() }, Opening(is_opening))
    }

    fn pay(&self) -> io::Result<()> {
        if self.is_owed.load(SeqCst) {
            self.file.sync_data()?;
            self.is_owed.store(false, SeqCst);
        }
        Ok(())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

impl<F: StorageBackend> StorageBackend for File<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pay()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_opening.load(SeqCst) {
            self.is_owed.store(true, SeqCst);
            return Ok(());
        }
        self.file.sync_data()?;
        self.is_owed.store(false, SeqCst);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pay()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes what it is asked to do.
    #[derive(Debug, Default)]
    struct Disk(Arc<Mutex<Vec<&'static str>>>);

    impl Disk {
        fn note(&self, what: &'static str) -> io::Result<()> {
            self.0.lock().unwrap().push(what);
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            self.note("read")
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            self.note("set_len")
        }
        fn sync_data(&self) -> io::Result<()> {
            self.note("sync")
        }
        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            self.note("write")
        }
    }

    #[test]
    fn what_an_opening_owes_is_synced_before_anything_else_is_written() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let (file, opening) = File::new(Disk(done.clone()));
        file.write(0, b"mark").unwrap();
        file.sync_data().unwrap();
        file.write(0, b"mark").unwrap();
        file.sync_data().unwrap();
        drop(opening);
        file.read(0, &mut []).unwrap();
        assert_eq!(*done.lock().unwrap(), ["write", "sync", "write", "read"]);
        done.lock().unwrap().clear();
        file.write(9, b"page").unwrap();
        file.write(9, b"page").unwrap();
        file.sync_data().unwrap();
        file.set_len(20).unwrap();
        assert_eq!(*done.lock().unwrap(), ["sync", "write", "write", "sync", "set_len"]);
    }
}
