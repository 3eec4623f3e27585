//! What the controller remembers, behind one small trait.
//!
//! A [`Batch`] is all or nothing, and durable when [`Store::commit`] returns: an operator
//! hears "done" only after that. Values are framed with a version byte and a CRC32C over
//! kind, key and value, so that a rotten value, or one under the wrong key, is noticed: it
//! counts as missing and is reported through [`Store::take_events`].
//!
//! [`SledStore`] is the real one, [`MemStore`] the one of tests and the simulated world.
//! No group commit: one operator and one tick a second do not need it.

mod ladder;
mod lock;
mod mem;
mod sled;
#[cfg(test)]
mod tests;
mod watermark;

use std::path::PathBuf;

use fleetway_protocol::record::crc32c;

use crate::ErrorKind;

pub use ladder::Opened;
pub use lock::DirLock;
pub use mem::MemStore;
pub use sled::SledStore;

/// Which collection a value belongs to. The name is the tree's name on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Counters of the fleet as a whole.
    Meta = 0,
    /// Devices: labels, last reported state.
    Device = 1,
    /// Published releases: the signed envelopes.
    Release = 2,
    /// Rollouts: specification and state.
    Rollout = 3,
    /// One device's part in one rollout.
    Deployment = 4,
    /// The order in force for each device: the exact payload.
    Order = 5,
    /// Who did what, when and why.
    Journal = 6,
    /// Join tokens and issued certificates; the shell's.
    Enrollment = 7,
    /// Which of a device's telemetry reports came.
    Telemetry = 8,
    /// Tokens of the API.
    Access = 9,
    /// The devices that a rollout was started for.
    Member = 10,
    /// Which releases turned out bad on which hardware.
    KnownBad = 11,
    /// Commands that are done once, however often they are sent.
    Once = 12,
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Device,
        Self::Release,
        Self::Rollout,
        Self::Deployment,
        Self::Order,
        Self::Journal,
        Self::Enrollment,
        Self::Telemetry,
        Self::Access,
        Self::Member,
        Self::KnownBad,
        Self::Once,
    ];

    /// Its name, on disk and in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Device => "device",
            Self::Release => "release",
            Self::Rollout => "rollout",
            Self::Deployment => "deployment",
            Self::Order => "order",
            Self::Journal => "journal",
            Self::Enrollment => "enrollment",
            Self::Telemetry => "telemetry",
            Self::KnownBad => "known-bad",
            Self::Access => "access",
            Self::Member => "member",
            Self::Once => "once",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a value.
    Put(Kind, Vec<u8>, Vec<u8>),
    /// Remove a value, if it is there.
    Remove(Kind, Vec<u8>),
}

/// Changes that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value.
    pub fn put(&mut self, kind: Kind, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.ops.push(Op::Put(kind, key.into(), value.into()));
    }

    /// Removes a value.
    pub fn remove(&mut self, kind: Kind, key: impl Into<Vec<u8>>) {
        self.ops.push(Op::Remove(kind, key.into()));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The changes, in order; a later one for the same key wins.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Something the store noticed and mended by itself, for the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A value that is not what was written; it counts as missing.
    Rotten {
        /// Of this kind.
        kind: Kind,
        /// Under this key.
        key: Vec<u8>,
    },
}

impl std::fmt::Display for StoreEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Rotten { kind, key } = self;
        let name = kind.name();
        let key = key.escape_ascii();
        write!(f, "the stored {name} {key} is rotten and counts as missing; check the disk")
    }
}

/// Durable key-value collections with atomic batches.
pub trait Store: Send + Sync {
    /// A value, `None` if there is none or it is rotten.
    ///
    /// # Errors
    /// [`StoreError`] if the disk or the database fails.
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All values of a kind in the order of their keys; rotten ones are left out.
    ///
    /// # Errors
    /// [`StoreError`] if the disk or the database fails.
    fn list(&self, kind: Kind) -> Result<Vec<Entry>, StoreError>;

    /// Makes a batch durable, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch may be counted on then.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// What was noticed since the last call.
    fn take_events(&self) -> Vec<StoreEvent> {
        Vec::new()
    }
}

/// Why the store cannot do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another controller has the directory.
    #[error(
        "{} is in use by another controller (process {pid}); stop that one, or use another data directory",
        dir.display()
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// What the lock file says; `?` if it says nothing.
        pid: String,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}; check the disk and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database did not open in time. Not moved aside: a slow disk is not a broken one.
    #[error(
        "the store in {} did not open within {after_s} s; see whether the disk hangs, then start again",
        dir.display()
    )]
    Timeout {
        /// The store's directory.
        dir: PathBuf,
        /// Seconds waited.
        after_s: u64,
    },
    /// The database refused or died.
    #[error(
        "the store failed to {doing} ({detail}); restart the controller, it will repair what it can"
    )]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What it says.
        detail: String,
    },
}

impl StoreError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } => ErrorKind::Conflict,
            Self::Io { .. } | Self::Timeout { .. } | Self::Database { .. } => {
                ErrorKind::Unavailable
            }
        }
    }
}

/// Version of the frame around every value.
const FRAME_VERSION: u8 = 1;
/// Bytes in front of a framed value: version 1, CRC32C 4.
const FRAME_BYTES: usize = 5;

fn checksum(kind: Kind, key: &[u8], value: &[u8]) -> u32 {
    let mut covered = Vec::with_capacity(6 + key.len() + value.len());
    covered.extend_from_slice(&[FRAME_VERSION, kind as u8]);
    covered.extend_from_slice(&(key.len() as u32).to_le_bytes());
    covered.extend_from_slice(key);
    covered.extend_from_slice(value);
    crc32c(&covered)
}

/// The value as it is stored.
fn frame(kind: Kind, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_BYTES + value.len());
    framed.push(FRAME_VERSION);
    framed.extend_from_slice(&checksum(kind, key, value).to_le_bytes());
    framed.extend_from_slice(value);
    framed
}

/// The value that was stored, `None` if these bytes are not what was written there.
fn unframe(kind: Kind, key: &[u8], framed: &[u8]) -> Option<Vec<u8>> {
    let (head, value) = framed.split_at_checked(FRAME_BYTES)?;
    let crc = u32::from_le_bytes(head[1..].try_into().ok()?);
    let whole = head[0] == FRAME_VERSION && crc == checksum(kind, key, value);
    whole.then(|| value.to_vec())
}
