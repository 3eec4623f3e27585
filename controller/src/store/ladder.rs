//! How the database is opened when it may be rotten: rung by rung, never further than
//! needed.
//!
//! A rung is taken only for what looks like rot. A full disk, a missing permission or a slow
//! disk is an error that leaves everything where it is: moving a healthy store aside would
//! be the greater loss.

use std::fs::{self, File};
use std::io::ErrorKind as IoKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ::sled::{Db, Tree};

use super::sled::{COUNTER_TREE_NAME, database, io, panic_text};
use super::{Kind, StoreError};

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
    /// Rotten in the middle: sled dropped what was written after that. What is there is whole,
    /// but old. Tell [`crate::fleet::Fleet::recover_rewound`].
    Rewound {
        /// Commits that are gone.
        lost_commits: u64,
    },
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

/// Why one attempt to open failed.
enum Failure {
    /// What is on the disk is rotten, as far as one can tell.
    Rot(String),
    /// Anything else; the files are not to blame.
    Other(StoreError),
}

/// From rung to rung until it opens.
pub(super) fn climb(
    data: &Path,
    dir: &Path,
    opened: Opened,
) -> Result<(Opened, Db, Vec<Tree>), StoreError> {
    let why = match attempt(dir) {
        Ok((db, trees)) => return Ok((opened, db, trees)),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Rot(why)) => why,
    };
    if let Some(snapshots) = set_snapshots_aside(dir)? {
        match attempt(dir) {
            Ok((db, trees)) => {
                return Ok((Opened::WithoutSnapshots { snapshots, why }, db, trees));
            }
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Rot(_)) => {}
        }
    }
    let kept = move_aside(data, dir)?;
    match attempt(dir) {
        Ok((db, trees)) => Ok((Opened::Rebuilt { kept, why }, db, trees)),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Rot(detail)) => Err(StoreError::Database { doing: "start empty", detail }),
    }
}

/// Makes what sled created durable (it never flushes its configuration or a directory), and
/// gives our own descriptor on its log.
pub(super) fn make_durable(dir: &Path, db: &Db) -> Result<File, StoreError> {
    db.flush().map_err(|e| database("flush", &e))?;
    let parent = dir.parent().unwrap_or(dir).to_owned();
    for path in [dir.join("conf"), dir.join("db"), dir.join("blobs"), dir.to_owned(), parent] {
        match File::open(&path).and_then(|f| f.sync_all()) {
            Err(e) if e.kind() != IoKind::NotFound => return Err(io("flush", &path)(e)),
            _ => {}
        }
    }
    let path = dir.join("db");
    File::open(&path).map_err(io("open", &path))
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
    for name in Kind::ALL.map(Kind::name).into_iter().chain([COUNTER_TREE_NAME]) {
        let tree = db.open_tree(name).map_err(classify)?;
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
