//! The journal's files: `<data>/decisions/<number of the first decision>.log`.
//!
//! A record is its length, a checksum of the length, its bytes, and a checksum of those: a length
//! that rotted is found out as one, and only an end that is cut off counts as torn. Files are written
//! without fsync: they explain, and nothing is decided by them; after a power cut the last seconds
//! may be missing, and a replay says so. Each run of the controller begins a file of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use fleetway_protocol::record::crc32c;

use super::delta::diff;
use super::{Frame, ReplayError, decision};
use crate::planner::{Input, Plan};

/// Bytes after which a new file is begun.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files kept; with them 128 MiB, weeks of a small fleet and about a day of ten thousand devices
/// that report once a minute while a rollout is open.
const FILES_MAX: usize = 16;
/// What every file begins with; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"FWPLANS\x01";
/// Bytes in front of a record: its length, and a checksum of that.
const HEAD_BYTES: usize = 8;
/// Bytes behind it: a checksum of the record.
const TAIL_BYTES: usize = 4;

/// The journal's directory in a data directory.
pub fn dir(data: &Path) -> PathBuf {
    data.join("decisions")
}

/// All files of a directory, oldest first.
///
/// # Errors
/// If it does not read; one that is not there is empty.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if number_of(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

/// The journal of a running controller.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: Option<File>,
    pub(super) bytes: u64,
    /// Of the next decision.
    number: u64,
    lost: u64,
    /// The input before; what changed since is written.
    before: Input,
}

impl Journal {
    /// A journal that goes on after the files of a data directory. Makes no file yet.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn open(data: &Path) -> io::Result<Self> {
        let dir = dir(data);
        fs::create_dir_all(&dir)?;
        // Numbers go on above every one that can be in the last file: a record has more than a byte.
        let last = files(&dir)?.pop();
        let after = |path: PathBuf| {
            let bytes = fs::metadata(&path).map_or(FILE_BYTES_MAX, |file| file.len());
            number_of(&path).unwrap_or(0).saturating_add(bytes)
        };
        let number = last.map_or(1, after);
        Ok(Self { dir, file: None, bytes: 0, number, lost: 0, before: Input::default() })
    }

    /// Writes a decision. One that cannot be written is counted, and the next one that can be says
    /// so.
    ///
    /// # Errors
    /// Why it cannot; nothing is to be done but to say so.
    pub fn note(&mut self, input: Input, plan: &Plan) -> io::Result<()> {
        let number = self.number;
        self.number += 1;
        let written = self.write(number, &input, decision(plan));
        match written {
            Ok(()) => (self.lost, self.before) = (0, input),
            // The next one begins a file, with a whole input.
            Err(_) => (self.lost, self.file) = (self.lost + 1, None),
        }
        written
    }

    fn write(&mut self, number: u64, input: &Input, decision: Vec<u8>) -> io::Result<()> {
        if self.file.is_none() || self.bytes >= FILE_BYTES_MAX {
            self.begin_file(number)?;
        }
        let ops = diff(&self.before, input);
        let frame = Frame { number, lost: self.lost, now_s: input.now_s, ops, decision };
        let record = record(&frame)?;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&record)?;
        self.bytes += record.len() as u64;
        Ok(())
    }

    fn begin_file(&mut self, number: u64) -> io::Result<()> {
        (self.file, self.before) = (None, Input::default());
        let mut older = files(&self.dir)?;
        while older.len() >= FILES_MAX {
            fs::remove_file(older.remove(0))?;
        }
        let path = self.dir.join(format!("{number:020}.log"));
        let mut file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)?;
        file.write_all(&MAGIC)?;
        (self.file, self.bytes) = (Some(file), MAGIC.len() as u64);
        Ok(())
    }
}

fn record(frame: &Frame) -> io::Result<Vec<u8>> {
    let payload = postcard::to_allocvec(frame).map_err(io::Error::other)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut record = Vec::with_capacity(HEAD_BYTES + payload.len() + TAIL_BYTES);
    record.extend_from_slice(&length);
    record.extend_from_slice(&crc32c(&length).to_le_bytes());
    record.extend_from_slice(&payload);
    record.extend_from_slice(&crc32c(&payload).to_le_bytes());
    Ok(record)
}

/// One record of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Whole {
        at: usize,
        payload: &'a [u8],
    },
    /// The end is cut off.
    Torn {
        bytes: usize,
    },
    /// Its bytes are not what was written. Nothing is read after it.
    Damaged {
        at: usize,
        why: &'static str,
    },
}

/// The records of a file, in order.
///
/// # Errors
/// If it is none of ours.
pub(super) fn read<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<impl Iterator<Item = Record<'a>>, ReplayError> {
    if !bytes.starts_with(&MAGIC) {
        return Err(ReplayError::Foreign { path: path.to_owned() });
    }
    let mut at = MAGIC.len();
    Ok(std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let from = at;
        let (record, taken) = next(from, rest);
        at += taken;
        Some(record)
    }))
}

fn next(at: usize, rest: &[u8]) -> (Record<'_>, usize) {
    let torn = (Record::Torn { bytes: rest.len() }, rest.len());
    let Some((head, body)) = rest.split_first_chunk::<HEAD_BYTES>() else { return torn };
    let (length, crc) = head.split_at(HEAD_BYTES / 2);
    if crc32c(length).to_le_bytes() != crc {
        return (Record::Damaged { at, why: "its length" }, rest.len());
    }
    let length = length.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let Some((payload, tail)) = body.split_at_checked(length) else { return torn };
    let Some((crc, _)) = tail.split_first_chunk::<TAIL_BYTES>() else { return torn };
    if crc32c(payload).to_le_bytes() != *crc {
        return (Record::Damaged { at, why: "its checksum" }, rest.len());
    }
    (Record::Whole { at, payload }, HEAD_BYTES + length + TAIL_BYTES)
}
