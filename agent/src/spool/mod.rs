//! Reports that wait on disk until the link is back.
//!
//! ```text
//! <dir>/mark.{0,1}                    first number that still waits, and how many were lost
//! <dir>/<first number>.seg            records, oldest first; appended to, never rewritten
//! ```
//! Every record has a number, without gaps from 1 on. Of the numbers that were given, each one
//! is delivered, lost, or waiting, at any moment and after any power cut:
//!
//! > produced = delivered + lost + waiting
//!
//! A record is durable when [`Spool::push`] returns. Delivery is at least once: what was delivered
//! and not yet marked comes again after a power cut, under the same number, by which the receiver
//! knows it. When the bound is reached the oldest segment goes, and what was in it counts as lost;
//! so does a record whose bytes rotted, and one that the disk did not take.
//!
//! The mark is durable before a segment is removed, and a number below the mark never counts again:
//! a cut between the two costs nothing.

mod segment;

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

/// Where the spool's numbers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Every number below this one is delivered or lost.
    first: u64,
    /// How many of them are lost.
    lost: u64,
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub number: u64,
    /// What was pushed.
    pub bytes: Vec<u8>,
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
    /// Opens the directory, or begins it. At most `bytes_max` bytes of segments are kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(fs: &impl Fs, dir: &Path, bytes_max: u64) -> io::Result<Self> {
        fs.create_dir(dir)?;
        if let Some(parent) = dir.parent() {
            fs.sync_dir(parent)?;
        }
        let mark_file = RecordFile::open(fs, dir, "mark", MARK_BYTES_MAX)?;
        let mark = mark_file.value().copied().unwrap_or(Mark { first: 1, lost: 0 });
        let mut spool = Self {
            dir: dir.to_path_buf(),
            bytes_max,
            mark_file,
            mark,
            segments: VecDeque::new(),
            next: mark.first,
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

    /// Takes a record, and gives its number once it is durable.
    ///
    /// # Errors
    /// The disk's: the record is lost then, and counted.
    ///
    /// # Panics
    /// If it is longer than [`RECORD_BYTES_MAX`]: reports are bounded by their types.
    pub fn push(&mut self, fs: &impl Fs, record: &[u8]) -> io::Result<u64> {
        assert!(record.len() <= RECORD_BYTES_MAX, "a report of bounded parts");
        let number = self.next;
        // Given, whatever becomes of it.
        self.next += 1;
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
        appended.map(|()| number)
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
            self.put_mark(fs, Mark { first, lost })?;
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

    /// Every record up to and with `number` has arrived.
    ///
    /// The mark is written when a segment is through, so that the flash is not worn by it: after a
    /// power cut the newest of the delivered ones come again.
    ///
    /// # Errors
    /// The disk's; they come again then.
    pub fn delivered(&mut self, fs: &impl Fs, number: u64) -> io::Result<()> {
        let first = (number + 1).clamp(self.mark.first, self.next);
        let there = self.segments.iter().map(|s| s.count(self.mark.first, first));
        let passed: u64 = there.sum();
        let lost = self.mark.lost + (first - self.mark.first - passed);
        self.mark = Mark { first, lost };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;

    fn spool(dir: &Path, bytes_max: u64) -> Spool {
        Spool::open(&RealFs, &dir.join("spool"), bytes_max).unwrap()
    }

    fn holds(spool: &Spool) -> Counts {
        let counts = spool.counts();
        assert_eq!(counts.produced, counts.delivered + counts.lost + counts.waiting, "{counts:?}");
        counts
    }

    fn all(spool: &Spool) -> Vec<u64> {
        let (mut from, mut numbers) = (0, Vec::new());
        loop {
            let some = spool.waiting(&RealFs, from, 7).unwrap();
            let Some(last) = some.last() else { return numbers };
            from = last.number + 1;
            for record in &some {
                assert_eq!(record.bytes, format!("report {}", record.number).into_bytes());
                numbers.push(record.number);
            }
        }
    }

    fn push(spool: &mut Spool, n: u64) {
        for _ in 0..n {
            let text = format!("report {}", spool.next);
            spool.push(&RealFs, text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_waits_comes_back_in_order_after_a_restart_and_goes_when_it_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = spool(dir.path(), 1 << 20);
        push(&mut first, 100);
        first.delivered(&RealFs, 30).unwrap();
        assert_eq!(all(&first), (31..=100).collect::<Vec<_>>());
        let counts = Counts { produced: 100, delivered: 30, lost: 0, waiting: 70 };
        assert_eq!(holds(&first), counts);
        // Not marked yet: they come again, under their numbers.
        let mut again = spool(dir.path(), 1 << 20);
        assert_eq!(all(&again), (1..=100).collect::<Vec<_>>());
        push(&mut again, 10);
        again.delivered(&RealFs, 110).unwrap();
        assert_eq!((all(&again), again.bytes()), (vec![], 0));
        let mut last = spool(dir.path(), 1 << 20);
        assert_eq!(holds(&last), Counts { produced: 110, delivered: 110, lost: 0, waiting: 0 });
        push(&mut last, 1);
        assert_eq!(all(&last), [111]);
    }

    #[test]
    fn the_oldest_go_first_within_the_bound_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = spool(dir.path(), 1024);
        for _ in 0..500 {
            push(&mut spool, 1);
            assert!(spool.bytes() <= 1024, "{}", spool.bytes());
            holds(&spool);
        }
        let counts = holds(&spool);
        assert!(counts.waiting >= 20 && counts.lost == 500 - counts.waiting, "{counts:?}");
        assert_eq!(all(&spool).last(), Some(&500));
        let again = Spool::open(&RealFs, &dir.path().join("spool"), 1024).unwrap();
        assert_eq!((holds(&again), all(&again)), (counts, all(&spool)));
    }

    #[test]
    fn rot_costs_what_it_touched_and_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut fresh = spool(dir.path(), 4096);
        push(&mut fresh, 120);
        let files = || -> Vec<PathBuf> {
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let before: Vec<_> =
            files().into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect();
        let segments: Vec<_> = files().into_iter().filter(|p| p.extension().is_some()).collect();
        assert!(segments.len() >= 3, "{segments:?}");
        for segment in &segments {
            let bytes = std::fs::read(segment).unwrap();
            for at in (0..bytes.len()).step_by(7) {
                let mut rotten = bytes.clone();
                rotten[at] ^= 0x10;
                std::fs::write(segment, &rotten).unwrap();
                let mut spool = spool(dir.path(), 4096);
                let counts = Counts { produced: 120, delivered: 0, lost: 1, waiting: 119 };
                assert_eq!(holds(&spool), counts, "{at} in {segment:?}");
                assert_eq!(all(&spool).len(), 119);
                // It goes on behind whatever does not read, in a segment of its own or not.
                push(&mut spool, 1);
                assert_eq!(all(&spool).last(), Some(&121));
                spool.delivered(&RealFs, 60).unwrap();
                holds(&spool);
                for path in files() {
                    std::fs::remove_file(path).unwrap();
                }
                for (path, bytes) in &before {
                    std::fs::write(path, bytes).unwrap();
                }
            }
        }
    }
}
