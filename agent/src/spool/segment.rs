//! One file of the spool: records one behind the other, each with its own checksum.
//!
//! ```text
//! length u16 | number u64 | crc32c u32 | bytes         little endian, the checksum over the rest
//! ```
//! A record whose bytes rotted is passed over: the next one that reads is found by its number and
//! checksum. Nothing is ever appended behind bytes that do not read.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use fleetway_protocol::limits::REPORT_BYTES_MAX;
use fleetway_protocol::record::crc32c;

use super::{SEGMENT_BYTES, Waiting};
use crate::fs::Fs;

/// One record, bytes: a report with its topic.
pub const RECORD_BYTES_MAX: usize = REPORT_BYTES_MAX + 256;
/// Bytes in front of a record's own.
const HEADER_BYTES: usize = 14;
/// A segment's file: its bound, and the record that was begun below it.
const FILE_BYTES_MAX: u64 = SEGMENT_BYTES + (RECORD_BYTES_MAX + HEADER_BYTES) as u64;

/// Bytes that a record takes on disk.
pub(super) fn framed_bytes(record: &[u8]) -> u64 {
    (HEADER_BYTES + record.len()) as u64
}

/// What is known of a segment: the numbers from `first` to before `end`, but for the missing.
#[derive(Debug)]
pub(super) struct Segment {
    first: u64,
    end: u64,
    /// Given, and not readable.
    missing: BTreeSet<u64>,
    /// Length of the file.
    pub(super) bytes: u64,
    /// All of it reads, and no other segment follows: it may be appended to.
    open: bool,
    /// Its name is durable.
    named: bool,
}

impl Segment {
    /// An empty one; its file is made with its first record.
    pub(super) fn begin(first: u64) -> Self {
        let missing = BTreeSet::new();
        Self { first, end: first, missing, bytes: 0, open: true, named: false }
    }

    /// The first number, from the name of the file.
    pub(super) fn first_of(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
        digits.parse().ok().filter(|first| *first > 0)
    }

    /// Reads the segment that begins with `first`; the one behind it begins with `ends_before`.
    pub(super) fn open(
        fs: &impl Fs,
        dir: &Path,
        first: u64,
        ends_before: Option<u64>,
    ) -> io::Result<Self> {
        let mut segment = Self { named: true, ..Self::begin(first) };
        let content = segment.content(fs, dir)?;
        let mut records = Records { rest: &content, number: first };
        let found: BTreeSet<u64> = records.by_ref().map(|(number, _)| number).collect();
        // Bytes behind the last record are of one that was cut off, or rotted: its number was given.
        let torn = u64::from(!records.rest.is_empty());
        let last = found.last().map_or(first, |last| last + 1);
        segment.end = ends_before.unwrap_or(last + torn);
        segment.missing = (first..segment.end).filter(|number| !found.contains(number)).collect();
        segment.bytes = content.len() as u64;
        segment.open = segment.missing.is_empty() && ends_before.is_none();
        Ok(segment)
    }

    /// A file longer than any of ours holds nothing that could be believed.
    fn content(&self, fs: &impl Fs, dir: &Path) -> io::Result<Vec<u8>> {
        match fs.read(&self.path(dir), FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Vec::new()),
            content => content,
        }
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:020}.seg", self.first))
    }

    /// The first number behind it.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == self.first
    }

    /// Whether `number` may be appended.
    pub(super) fn takes(&self, number: u64) -> bool {
        self.open && self.end == number
    }

    /// The lowest number that is there from number `from` on.
    pub(super) fn first_from(&self, from: u64) -> Option<u64> {
        (self.first.max(from)..self.end).find(|number| !self.missing.contains(number))
    }

    /// From now on this number is not there; it is one that is.
    pub(super) fn forget(&mut self, number: u64) {
        self.missing.insert(number);
        self.open = false;
    }

    /// How many records are there from number `from` on, below `to`.
    pub(super) fn count(&self, from: u64, to: u64) -> u64 {
        let (from, to) = (self.first.max(from), self.end.min(to));
        if from >= to {
            return 0;
        }
        to - from - self.missing.range(from..to).count() as u64
    }

    /// Appends the next record, durably.
    pub(super) fn append(&mut self, fs: &impl Fs, dir: &Path, record: &[u8]) -> io::Result<()> {
        let path = self.path(dir);
        let frame = frame(self.end, record);
        // Whatever part of it the disk keeps, nothing goes behind that.
        self.open = false;
        fs.write_at(&path, self.bytes, &frame)?;
        fs.sync(&path)?;
        if !self.named {
            fs.sync_dir(dir)?;
            self.named = true;
        }
        self.open = true;
        self.bytes += frame.len() as u64;
        self.end += 1;
        Ok(())
    }

    /// At most `max` records from number `from` on.
    pub(super) fn read(
        &self,
        fs: &impl Fs,
        dir: &Path,
        from: u64,
        max: usize,
    ) -> io::Result<Vec<Waiting>> {
        if self.count(from, u64::MAX) == 0 {
            return Ok(Vec::new());
        }
        let content = self.content(fs, dir)?;
        let records = Records { rest: &content, number: self.first };
        let of_ours = |number: u64| number >= from && number < self.end;
        Ok(records
            .filter(|(number, _)| of_ours(*number))
            .take(max)
            .map(|(number, bytes)| Waiting { number, bytes: bytes.to_vec() })
            .collect())
    }
}

fn frame(number: u64, record: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + record.len());
    frame.extend_from_slice(&(record.len() as u16).to_le_bytes());
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(record);
    let crc = checksum(&frame);
    frame[10..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Over the whole frame, its own four bytes as zeros.
fn checksum(frame: &[u8]) -> u32 {
    let mut bytes = frame.to_vec();
    bytes[10..HEADER_BYTES].fill(0);
    crc32c(&bytes)
}

/// The records of a segment's bytes that read. What is left of `rest` in the end does not.
struct Records<'a> {
    rest: &'a [u8],
    /// The next number, or, behind bytes that do not read, the least that it can be.
    number: u64,
}

impl<'a> Records<'a> {
    /// The record at the beginning of `bytes`, if one with this number or a later one is there.
    fn at(&self, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let len = usize::from(u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?));
        let number = u64::from_le_bytes(bytes.get(2..10)?.try_into().ok()?);
        let crc = u32::from_le_bytes(bytes.get(10..HEADER_BYTES)?.try_into().ok()?);
        let frame = bytes.get(..HEADER_BYTES + len)?;
        let sane = number >= self.number && number - self.number < FILE_BYTES_MAX;
        (sane && crc == checksum(frame)).then_some((number, frame))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        for skip in 0..self.rest.len() {
            if let Some((number, frame)) = self.at(&self.rest[skip..]) {
                self.rest = &self.rest[skip + frame.len()..];
                self.number = number + 1;
                return Some((number, &frame[HEADER_BYTES..]));
            }
        }
        None
    }
}
