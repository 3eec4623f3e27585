//! The store on disk: sled, and what it takes to trust it.
//!
//! Measured (`research/reliability.md` section 2): sled survives every `kill -9`, but its
//! `flush()` reaches no platter. So a commit is one transaction over all trees, `flush()`,
//! then `fdatasync` of our own descriptor on `<db>/db`, and the files and directories of a
//! new database are flushed once. Rotten media make it fail at open or panic on read; hence
//! the ladder at open (which reads everything once), and a `catch_unwind` around every call.
//!
//! A rung is taken only for what looks like rot. A full disk, a missing permission or a slow
//! disk is an error that leaves everything where it is: moving a healthy store aside would
//! be the greater loss.

use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::sled::transaction::{ConflictableTransactionError, TransactionError, Transactional as _};
use ::sled::{Db, Tree};

use super::{Batch, DirLock, Entry, Kind, Op, Store, StoreError, StoreEvent, frame, unframe};

/// Seconds for opening and reading everything once: 50 MB from a poor SD card take ten.
const OPEN_S_MAX: u64 = 60;
/// Bytes of sled's page cache. Mostly ignored by sled, hence small.
const CACHE_BYTES: u64 = 8 << 20;

/// How a store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    New,
    /// As it was left.
    Clean,
    /// Only without its snapshot files, which are kept in `snapshots`; nothing is lost.
    WithoutSnapshots {
        /// Where they are.
        snapshots: PathBuf,
        /// Why it did not open with them.
        why: String,
    },
    /// Not at all: it was moved to `kept`, and an empty one took its place.
    Rebuilt {
        /// Where the broken one is.
        kept: PathBuf,
        /// Why it did not open.
        why: String,
    },
}

/// The store in `<data>/store`.
pub struct SledStore {
    // Declared first: the database closes before the lock is let go.
    trees: Vec<Tree>,
    db: Db,
    file: File,
    dir: PathBuf,
    events: Mutex<Vec<StoreEvent>>,
    _lock: DirLock,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Why one attempt to open failed.
enum Failure {
    /// What is on the disk is rotten, as far as one can tell.
    Rot(String),
    /// Anything else; the files are not to blame.
    Other(StoreError),
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
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
        let why = match attempt(&dir) {
            Ok((db, trees)) => return Ok((Self::finish(lock, dir, db, trees)?, opened)),
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Rot(why)) => why,
        };
        if let Some(snapshots) = set_snapshots_aside(&dir)? {
            match attempt(&dir) {
                Ok((db, trees)) => {
                    let opened = Opened::WithoutSnapshots { snapshots, why };
                    return Ok((Self::finish(lock, dir, db, trees)?, opened));
                }
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Rot(_)) => {}
            }
        }
        let kept = move_aside(data, &dir)?;
        match attempt(&dir) {
            Ok((db, trees)) => {
                Ok((Self::finish(lock, dir, db, trees)?, Opened::Rebuilt { kept, why }))
            }
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Rot(detail)) => Err(StoreError::Database { doing: "start empty", detail }),
        }
    }

    /// Makes what sled created durable: it never flushes its configuration or a directory.
    fn finish(lock: DirLock, dir: PathBuf, db: Db, trees: Vec<Tree>) -> Result<Self, StoreError> {
        db.flush().map_err(|e| database("flush", &e))?;
        let parent = dir.parent().unwrap_or(&dir).to_owned();
        for path in [dir.join("conf"), dir.join("db"), dir.join("blobs"), dir.clone(), parent] {
            match File::open(&path).and_then(|f| f.sync_all()) {
                Err(e) if e.kind() != IoKind::NotFound => return Err(io("flush", &path)(e)),
                _ => {}
            }
        }
        let path = dir.join("db");
        let file = File::open(&path).map_err(io("open", &path))?;
        Ok(Self { trees, db, file, dir, events: Mutex::default(), _lock: lock })
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
        self.file.sync_data().map_err(io("flush", &self.dir.join("db")))
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

fn database(doing: &'static str, error: &::sled::Error) -> StoreError {
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

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}

/// Opens the database and reads everything once, in a thread that may hang or panic.
fn attempt(dir: &Path) -> Result<(Db, Vec<Tree>), Failure> {
    let (send, receive) = channel();
    let path = dir.to_owned();
    let work = move || {
        let opened = catch_unwind(AssertUnwindSafe(|| open_and_read(&path)));
        let opened = opened.unwrap_or_else(|p| Err(Failure::Rot(panic_text(p.as_ref()))));
        // Nobody waits any more if the time was up.
        let _ = send.send(opened);
    };
    let spawned = std::thread::Builder::new().name("store-open".to_owned()).spawn(work);
    spawned.map_err(|source| Failure::Other(io("start a thread to open", dir)(source)))?;
    match receive.recv_timeout(Duration::from_secs(OPEN_S_MAX)) {
        Ok(opened) => opened,
        Err(RecvTimeoutError::Timeout) => {
            Err(Failure::Other(StoreError::Timeout { dir: dir.to_owned(), after_s: OPEN_S_MAX }))
        }
        Err(RecvTimeoutError::Disconnected) => Err(Failure::Rot("its thread died".to_owned())),
    }
}

fn open_and_read(dir: &Path) -> Result<(Db, Vec<Tree>), Failure> {
    let classify = |error: ::sled::Error| match error {
        ::sled::Error::Io(source) => match source.kind() {
            // What sled makes of a file that is not what it wrote.
            IoKind::InvalidData | IoKind::InvalidInput | IoKind::UnexpectedEof => {
                Failure::Rot(source.to_string())
            }
            IoKind::Other if !source.to_string().contains("lock") => {
                Failure::Rot(source.to_string())
            }
            _ => Failure::Other(io("open", dir)(source)),
        },
        other => Failure::Rot(other.to_string()),
    };
    let config = ::sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    let db = config.open().map_err(classify)?;
    let mut trees = Vec::new();
    for kind in Kind::ALL {
        let tree = db.open_tree(kind.name()).map_err(classify)?;
        for entry in &tree {
            entry.map_err(classify)?;
        }
        trees.push(tree);
    }
    Ok((db, trees))
}

/// Moves `snap.*` into `snapshots.bad`; `None` if there is none.
fn set_snapshots_aside(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let kept = dir.join("snapshots.bad");
    let mut found = false;
    for entry in fs::read_dir(dir).map_err(io("read", dir))? {
        let path = entry.map_err(io("read", dir))?.path();
        let Some(name) = path.file_name().filter(|n| n.to_string_lossy().starts_with("snap."))
        else {
            continue;
        };
        fs::create_dir_all(&kept).map_err(io("create", &kept))?;
        fs::rename(&path, kept.join(name)).map_err(io("move", &path))?;
        found = true;
    }
    Ok(found.then_some(kept))
}

/// Moves the broken store to `store.bad.<n>` and removes the one that was kept before.
fn move_aside(data: &Path, dir: &Path) -> Result<PathBuf, StoreError> {
    let number = |name: &str| name.strip_prefix("store.bad.")?.parse::<u64>().ok();
    let mut older = Vec::new();
    for entry in fs::read_dir(data).map_err(io("read", data))? {
        let entry = entry.map_err(io("read", data))?;
        older.extend(number(&entry.file_name().to_string_lossy()));
    }
    let n = older.iter().max().map_or(1, |n| n + 1);
    let kept = data.join(format!("store.bad.{n}"));
    fs::rename(dir, &kept).map_err(io("move", dir))?;
    for n in older {
        let path = data.join(format!("store.bad.{n}"));
        fs::remove_dir_all(&path).map_err(io("remove", &path))?;
    }
    Ok(kept)
}
