//! How many commits there were, kept outside the database: what notices that sled forgot.
//!
//! Measured here: one flipped bit in the middle of `<db>/db` makes sled 0.34 drop everything
//! that was written after it, and open without a word. Nothing then reads wrong, but a
//! rollout that was aborted runs again. So every commit counts itself in the same
//! transaction, and the same number is written to this file; if the file knows of more
//! commits than the database, the database was rewound, and that is reported.
//!
//! The file is not flushed at each commit: a power cut may leave it behind the database,
//! never ahead, so it raises no false alarm. Two copies in turn, each with a checksum.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fleetway_protocol::record;

use super::StoreError;

/// Bytes between the two copies.
const COPY_BYTES: usize = 64;

/// The number of commits, on disk.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    /// The highest number found when it was opened.
    pub(super) found: u64,
    place: usize,
}

impl Watermark {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |doing| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(io("open"))?;
        let copy = |place: usize| {
            let mut bytes = [0; COPY_BYTES];
            let read = file.read_at(&mut bytes, (place * COPY_BYTES) as u64).ok()?;
            record::read::<()>(&bytes[..read])
        };
        let (newest, place) = record::newest([copy(0), copy(1)]);
        Ok(Self { found: newest.map_or(0, |(commits, ())| commits), place, file })
    }

    /// Notes a commit that is durable already. A disk that fails here costs the alarm, not
    /// the commit.
    pub(super) fn note(&mut self, commits: u64) {
        let mut bytes = [0; COPY_BYTES];
        let written = record::write(commits, &(), &mut bytes).map(<[u8]>::len);
        if written.is_ok() {
            let _ = self.file.write_all_at(&bytes, (self.place * COPY_BYTES) as u64);
            self.place = 1 - self.place;
        }
    }
}
