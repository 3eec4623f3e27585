//! The store on disk: sled, and what it takes to trust it.
//!
//! Measured (`research/reliability.md` section 2): sled survives every `kill -9`, but its
//! `flush()` reaches no platter. So a commit is one transaction over all trees, `flush()`,
//! then `fdatasync` of our own descriptor on `<db>/db`, and the files and directories of a
//! new database are flushed once. Rotten media make it fail at open or panic on read; hence
//! the ladder at open (which reads everything once), and a `catch_unwind` around every call.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ::sled::transaction::{ConflictableTransactionError, TransactionError, Transactional as _};
use ::sled::{Db, Tree};

use super::ladder::{Opened, climb, make_durable};
use super::watermark::Watermark;
use super::{Batch, DirLock, Entry, Kind, Op, Store, StoreError, StoreEvent, frame, unframe};

/// The tree after those of the kinds, and its one key: the number of commits.
const COUNTER_TREE: usize = Kind::ALL.len();
pub(super) const COUNTER_TREE_NAME: &str = "commits";
const COUNTER_KEY: &[u8] = b"commits";

/// The store in `<data>/store`.
pub struct SledStore {
    // Declared first: the database closes before the lock is let go.
    trees: Vec<Tree>,
    db: Db,
    file: File,
    dir: PathBuf,
    events: Mutex<Vec<StoreEvent>>,
    /// Commits so far; held while one is under way.
    commits: Mutex<(u64, Watermark)>,
    _lock: DirLock,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

impl SledStore {
    /// Opens the store of a data directory, making or repairing it if need be, and says
    /// which it was. One controller at a time.
    ///
    /// # Errors
    /// [`StoreError`]; what is on the disk was left as it is then.
    pub fn open(data: &Path) -> Result<(Self, Opened), StoreError> {
        let lock = DirLock::acquire(data)?;
        let dir = data.join("store");
        let opened = if dir.join("db").exists() { Opened::Clean } else { Opened::New };
        let (opened, db, trees) = climb(data, &dir, opened)?;
        let path = data.join("store.commits");
        if matches!(opened, Opened::Rebuilt { .. }) && path.exists() {
            std::fs::remove_file(&path).map_err(io("remove", &path))?;
        }
        let watermark = Watermark::open(&path)?;
        let counted = trees[COUNTER_TREE].get(COUNTER_KEY).map_err(|e| database("read", &e))?;
        let counted = counted.and_then(|v| Some(u64::from_be_bytes(v.as_ref().try_into().ok()?)));
        let commits = counted.unwrap_or(0);
        let lost_commits = watermark.found.saturating_sub(commits);
        let opened = if lost_commits > 0 { Opened::Rewound { lost_commits } } else { opened };
        let file = make_durable(&dir, &db)?;
        // The next commit shall be above everything that ever was.
        let commits = Mutex::new((commits.max(watermark.found), watermark));
        let events = Mutex::default();
        Ok((Self { trees, db, file, dir, events, commits, _lock: lock }, opened))
    }

    pub(super) fn tree(&self, kind: Kind) -> &Tree {
        &self.trees[kind as usize]
    }

    fn read(&self, kind: Kind, key: &[u8], framed: &[u8]) -> Option<Vec<u8>> {
        let value = unframe(kind, key, framed);
        if value.is_none() {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push(StoreEvent::Rotten { kind, key: key.to_vec() });
        }
        value
    }

    fn transact(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let number = commits.0 + 1;
        let trees: &[Tree] = &self.trees;
        let result = trees.transaction(|trees| {
            for op in batch.ops() {
                match op {
                    Op::Put(kind, key, value) => {
                        let framed = frame(*kind, key, value);
                        trees[*kind as usize].insert(key.as_slice(), framed)?;
                    }
                    Op::Remove(kind, key) => {
                        trees[*kind as usize].remove(key.as_slice())?;
                    }
                }
            }
            trees[COUNTER_TREE].insert(COUNTER_KEY, &number.to_be_bytes())?;
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        match result {
            Ok(()) => {}
            Err(TransactionError::Storage(e)) => return Err(database("commit", &e)),
            // Nothing in the closure aborts.
            Err(TransactionError::Abort(())) => {
                let detail = "aborted".to_owned();
                return Err(StoreError::Database { doing: "commit", detail });
            }
        }
        self.db.flush().map_err(|e| database("flush", &e))?;
        self.file.sync_data().map_err(io("flush", &self.dir.join("db")))?;
        commits.0 = number;
        commits.1.note(number);
        Ok(())
    }
}

impl Store for SledStore {
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let framed =
            guarded("read", || self.tree(kind).get(key).map_err(|e| database("read", &e)))?;
        Ok(framed.and_then(|framed| self.read(kind, key, &framed)))
    }

    fn list(&self, kind: Kind) -> Result<Vec<Entry>, StoreError> {
        guarded("read", || {
            let mut entries = Vec::new();
            for entry in self.tree(kind) {
                let (key, framed) = entry.map_err(|e| database("read", &e))?;
                if let Some(value) = self.read(kind, &key, &framed) {
                    entries.push((key.to_vec(), value));
                }
            }
            Ok(entries)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        guarded("commit", || self.transact(batch))
    }

    fn take_events(&self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn database(doing: &'static str, error: &::sled::Error) -> StoreError {
    StoreError::Database { doing, detail: error.to_string() }
}

/// sled panics on some rot instead of saying so.
fn guarded<T>(
    doing: &'static str,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(StoreError::Database { doing, detail: panic_text(panic.as_ref()) })
    })
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}
