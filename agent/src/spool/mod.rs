//! Reports that wait on disk until the link is back.
//!
//! ```text
//! <dir>/mark.{0,1}                    the series, the first number that still waits, how many were lost
//! <dir>/<first number>.seg            records, oldest first; appended to, never rewritten
//! ```
//! Every record has a number, without gaps from 1 on. Of the numbers that were given, each one
//! is delivered, lost, or waiting, at any moment and after any power cut:
//!
//! > produced = delivered + lost + waiting
//!
//! A record is durable when [`Spool::push`] returns, or at least its number is: a full disk still takes
//! the mark, which is written in place. No number is given twice; a spool whose mark is gone begins
//! another series, and what the old one held is dropped. Delivery is at least once: what was delivered
//! and not yet marked comes again after a power cut, under the same number, by which the receiver
//! knows it. When the bound is reached the oldest segment goes, and what was in it counts as lost;
//! so does a record whose bytes rotted, and one that the disk did not take.
//!
//! The mark is durable before a segment is removed, and a number below the mark never counts again:
//! a cut between the two costs nothing.

mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::Fs;
use crate::store::RecordFile;
pub use segment::RECORD_BYTES_MAX;
use segment::Segment;

/// All segments together, bytes. A day at a report a minute of eight models is 3.5 MB.
pub const BYTES_MAX: u64 = 4 << 20;
/// One segment, bytes: what is lost at once when the bound is reached, a sixteenth.
pub const SEGMENT_BYTES: u64 = BYTES_MAX / 16;
/// The mark's record, bytes.
const MARK_BYTES_MAX: usize = 64;

/// Where the spool's numbers stand. Always of the same length on disk, so that a full one takes it
/// in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[[u8; 8]; 4]", into = "[[u8; 8]; 4]")]
struct Mark {
    /// Name of this run of numbers.
    series: u64,
    /// Numbers below this one were given, though no segment says so.
    given: u64,
    /// Every number below this one is delivered or lost.
    first: u64,
    /// How many of them are lost.
    lost: u64,
}

impl From<[[u8; 8]; 4]> for Mark {
    fn from(bytes: [[u8; 8]; 4]) -> Self {
        let [series, given, first, lost] = bytes.map(u64::from_le_bytes);
        Self { series, given, first, lost }
    }
}

impl From<Mark> for [[u8; 8]; 4] {
    fn from(mark: Mark) -> Self {
        [mark.series, mark.given, mark.first, mark.lost].map(u64::to_le_bytes)
    }
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub number: u64,
    /// What was pushed.
    pub bytes: Vec<u8>,
}

/// A record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its number, which is durable.
    pub number: u64,
    /// Whether its bytes are. If not it counts as lost, unless it arrives by itself.
    pub kept: bool,
}

/// What became of the numbers given so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given.
    pub produced: u64,
    /// Told to have arrived, by [`Spool::delivered`].
    pub delivered: u64,
    /// Dropped for want of room, rotten, or not taken by the disk.
    pub lost: u64,
    /// On disk.
    pub waiting: u64,
}

/// The spool of one device. See the module page.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    bytes_max: u64,
    mark_file: RecordFile<Mark>,
    mark: Mark,
    /// Oldest first; the last one is appended to.
    segments: VecDeque<Segment>,
    next: u64,
}

impl Spool {
    /// Opens the directory, or begins it with `series`, a name that no earlier one has. At most
    /// `bytes_max` bytes of segments are kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(fs: &impl Fs, dir: &Path, bytes_max: u64, series: u64) -> io::Result<Self> {
        fs.create_dir(dir)?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent)?;
        }
        let mut mark_file = RecordFile::open(fs, dir, "mark", MARK_BYTES_MAX)?;
        let mark = match mark_file.value() {
            Some(mark) => *mark,
            None => {
                let mark = Mark { series, given: 1, first: 1, lost: 0 };
                begin(fs, dir, &mut mark_file, mark)?;
                mark
            }
        };
        let mut spool = Self {
            dir: dir.to_path_buf(),
            bytes_max,
            mark_file,
            mark,
            segments: VecDeque::new(),
            next: mark.first.max(mark.given),
        };
        let mut firsts: Vec<u64> =
            fs.list(dir)?.iter().filter_map(|name| Segment::first_of(name)).collect();
        firsts.sort_unstable();
        for (at, first) in firsts.iter().enumerate() {
            // What a segment lost at its end, by rot, is known from where the next one begins.
            let ends_before = firsts.get(at + 1).copied();
            let segment = Segment::open(fs, dir, *first, ends_before)?;
            spool.next = spool.next.max(segment.end());
            if segment.end() <= spool.mark.first {
                fs.remove(&segment.path(dir))?;
            } else {
                spool.segments.push_back(segment);
            }
        }
        Ok(spool)
    }

    /// What became of all numbers.
    pub fn counts(&self) -> Counts {
        let produced = self.next - 1;
        let gone = self.mark.first - 1;
        // Numbers from the mark on that are in no segment, or do not read any more, are lost
        // already, though the mark says so only when it comes to them.
        let waiting: u64 = self.segments.iter().map(|s| s.count(self.mark.first, u64::MAX)).sum();
        let lost_ahead = produced - gone - waiting;
        Counts {
            produced,
            delivered: gone - self.mark.lost,
            lost: self.mark.lost + lost_ahead,
            waiting,
        }
    }

    /// Name of this run of numbers.
    pub fn series(&self) -> u64 {
        self.mark.series
    }

    /// The oldest number that waits, or the next one if none does.
    pub fn first(&self) -> u64 {
        self.first_from(0).unwrap_or(self.next)
    }

    /// The oldest number that waits, from `from` on.
    pub fn first_from(&self, from: u64) -> Option<u64> {
        let from = from.max(self.mark.first);
        self.segments.iter().find_map(|segment| segment.first_from(from))
    }

    /// A record of no use to anybody: lost, until the next start finds it again.
    pub fn forget(&mut self, number: u64) {
        if let Some(segment) = self.segments.iter_mut().find(|s| s.count(number, number + 1) > 0) {
            segment.forget(number);
        }
    }

    /// The number that is given next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers for so many records that never came here: lost.
    pub fn skip(&mut self, records: u64) {
        self.next += records;
    }

    /// Takes a record, and gives its number once that is durable.
    ///
    /// # Errors
    /// The disk's, if it takes not even the number: the record is lost then, and counted, and must not
    /// be sent, for its number may be given again after a power cut.
    ///
    /// # Panics
    /// If it is longer than [`RECORD_BYTES_MAX`]: reports are bounded by their types.
    pub fn push(&mut self, fs: &impl Fs, record: &[u8]) -> io::Result<Pushed> {
        assert!(record.len() <= RECORD_BYTES_MAX, "a report of bounded parts");
        let number = self.next;
        // Given, whatever becomes of it.
        self.next += 1;
        if let Err(error) = self.append(fs, number, record) {
            self.put_mark(fs, Mark { given: self.next, ..self.mark }).map_err(|_| error)?;
            return Ok(Pushed { number, kept: false });
        }
        Ok(Pushed { number, kept: true })
    }

    fn append(&mut self, fs: &impl Fs, number: u64, record: &[u8]) -> io::Result<()> {
        self.make_room(fs, segment::framed_bytes(record))?;
        let full = |s: &Segment| s.bytes + segment::framed_bytes(record) > self.segment_bytes();
        // A segment with a gap is not gone on with: numbers in one follow each other.
        let goes_on = self.segments.back().is_some_and(|s| s.takes(number) && !full(s));
        if !goes_on {
            self.segments.push_back(Segment::begin(number));
        }
        let segment = self.segments.back_mut().expect("one was just put there");
        let appended = segment.append(fs, &self.dir, record);
        if appended.is_err() && segment.is_empty() {
            self.segments.pop_back();
        }
        appended
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.bytes_max / 4).max(segment::framed_bytes(&[]))
    }

    fn make_room(&mut self, fs: &impl Fs, bytes: u64) -> io::Result<()> {
        while self.bytes() + bytes > self.bytes_max {
            let Some(oldest) = self.segments.front() else { return Ok(()) };
            let (end, path) = (oldest.end(), oldest.path(&self.dir));
            let first = end.max(self.mark.first);
            let lost = self.mark.lost + (first - self.mark.first);
            self.put_mark(fs, Mark { first, lost, ..self.mark })?;
            self.segments.pop_front();
            fs.remove(&path)?;
        }
        Ok(())
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// The oldest records that wait from number `from` on, at most `max` of them, all of one
    /// segment. Empty when there are none.
    ///
    /// # Errors
    /// The disk's.
    pub fn waiting(&self, fs: &impl Fs, from: u64, max: usize) -> io::Result<Vec<Waiting>> {
        let from = from.max(self.mark.first);
        for segment in &self.segments {
            let found = segment.read(fs, &self.dir, from, max)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Every record up to and with `number` has arrived, but for those that are lost: `lost` of all
    /// numbers so far, if the receiver knows; else those that are not here.
    ///
    /// The mark is written when a segment is through, so that the flash is not worn by it: after a
    /// power cut the newest of the delivered ones come again.
    ///
    /// # Errors
    /// The disk's; they come again then.
    pub fn delivered(&mut self, fs: &impl Fs, number: u64, lost: Option<u64>) -> io::Result<()> {
        if number < self.mark.first.saturating_sub(1) {
            return Ok(()); // what was dropped since is not in its count
        }
        let first = (number + 1).clamp(self.mark.first, self.next);
        let there = self.segments.iter().map(|s| s.count(self.mark.first, first));
        let passed: u64 = there.sum();
        let counted = self.mark.lost + (first - self.mark.first - passed);
        let lost = lost.unwrap_or(counted).min(first - 1);
        self.mark = Mark { first, lost, ..self.mark };
        if self.segments.front().is_some_and(|s| s.end() <= first) {
            self.put_mark(fs, self.mark)?;
        }
        while let Some(done) = self.segments.front().filter(|s| s.end() <= first) {
            let path = done.path(&self.dir);
            self.segments.pop_front();
            fs.remove(&path)?;
        }
        Ok(())
    }

    fn put_mark(&mut self, fs: &impl Fs, mark: Mark) -> io::Result<()> {
        self.mark_file.put(fs, mark)?;
        self.mark = mark;
        Ok(())
    }
}

/// What is there without a mark cannot be told from another series: it goes, durably, before the
/// first number is given.
fn begin(fs: &impl Fs, dir: &Path, mark_file: &mut RecordFile<Mark>, mark: Mark) -> io::Result<()> {
    for name in fs.list(dir)?.iter().filter(|name| Segment::first_of(name).is_some()) {
        fs.remove(&dir.join(name))?;
    }
    fs.sync_dir(dir)?;
    // Both copies, so that a disk that is full later has a place for either.
    mark_file.put(fs, mark)?;
    mark_file.put(fs, mark)
}
