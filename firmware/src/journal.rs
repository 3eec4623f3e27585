//! The journal: what the device remembers, appended to one of two blocks of flash.
//!
//! A commit is **one** append of one record with a checksum ([`fleetway_protocol::record`]); all
//! else that is written to the flash means nothing until a record says so. Of all records that
//! read back, in either block, the one with the highest number counts.
//!
//! ```text
//! half 0   [7][7][8][8]~torn~[9][9].......      the newest record is here: append here
//! half 1   [5][5][6][6]                         older; erased when half 0 is full
//! ```
//! If the power is cut
//! - while a record is programmed: it has no checksum. The one before counts, the torn one stays
//!   where it is, and the next goes behind the last cell that is not blank. No cell is programmed
//!   twice on purpose;
//! - while the other half is erased: it holds older records only. Whatever is left of them loses
//!   against the newest one, and it is erased again before anything is written to it;
//! - in between: nothing has happened.
//!
//! Cells that were cut in may read well now and badly later. So a record that is read at boot is
//! never relied on: the boot itself appends a new one before anything is done ([`crate::device`]).
//! And every record is written twice, so that a cell that rots takes nothing away.

use fleetway_protocol::record;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hardware::Flash;
use crate::store::{Region, Store, StoreError};

/// Largest record with its frame, bytes; two of them fit the smallest block.
pub const RECORD_BYTES_MAX: usize = 2048;
/// Records begin at multiples of this, bytes: a multiple of every unit of programming that we
/// know of, and few enough places to look at.
const ALIGN: u32 = 64;
/// Copies of each record.
const COPIES: u32 = 2;

/// Where the next record goes.
#[derive(Clone, Copy, Debug)]
pub struct Journal {
    /// The half with the newest record: never erased.
    newest: usize,
    /// The half that is appended to: the same one, or the other after cells there failed.
    half: usize,
    /// Offset in that half.
    next: u32,
    seq: u64,
}

impl Journal {
    /// The newest record, and where the next one goes.
    pub fn open<F: Flash, T: DeserializeOwned>(store: &Store<F>) -> (Self, Option<T>) {
        let mut found = newest::<F, T>(store, None);
        // No number that was ever seen is used again.
        let seq = found.map_or(0, |found| found.seq);
        while let Some(Found { half, at, .. }) = found {
            let records = store.read(store.layout().journal[half]);
            if let Some((_, value)) = records.get(at..).and_then(record::read) {
                let next = behind_last(records);
                return (Self { newest: half, half, next, seq }, Some(value));
            }
            // It read well a moment ago: cells that were cut in.
            found = newest::<F, T>(store, found);
        }
        // Full, as far as anybody knows: the first append erases before it writes.
        let next = store.layout().journal[1].len;
        (Self { newest: 1, half: 1, next, seq }, None)
    }

    /// Makes `value` durable: it, or what was there before, is what [`Journal::open`] finds.
    ///
    /// # Errors
    /// [`StoreError`] if no copy reads back. Which of the two counts is not known then.
    #[inline(never)]
    pub fn append<F: Flash, T: Serialize>(
        &mut self,
        store: &mut Store<F>,
        value: &T,
    ) -> Result<(), StoreError> {
        // A number is never used again: what failed may yet be there.
        self.seq += 1;
        let mut buf = [0xff; RECORD_BYTES_MAX];
        let bytes = record::write(self.seq, value, &mut buf).map_err(|_| StoreError::Room)?;
        let step = (bytes.len() as u32).next_multiple_of(ALIGN);
        for _ in 0..2 {
            if self.region(store).len - self.next < COPIES * step {
                self.turn_over(store)?;
            }
            let mut good = 0;
            for _ in 0..COPIES {
                let at = self.region(store).at + self.next;
                self.next += step;
                good += u32::from(store.program(at, bytes).is_ok());
            }
            if good > 0 {
                self.newest = self.half;
                return Ok(());
            }
            // Cells that will not take it: begin the other half, or this one anew.
            self.next = self.region(store).len;
        }
        Err(StoreError::ReadBack)
    }

    /// Goes on in the half that holds nothing that counts.
    fn turn_over<F: Flash>(&mut self, store: &mut Store<F>) -> Result<(), StoreError> {
        let other = 1 - self.newest;
        let half = store.layout().journal[other];
        store.erase(half)?;
        // A bit that stayed looks like a record's at the next boot: the half would be full with one record
        // in it, and the boot would erase the other half to write its own, relying on that one. Once
        // more; if it stays again, the cell is worn out, and the records around it are still good.
        if store.read(half).iter().any(|byte| *byte != 0xff) {
            store.erase(half)?;
        }
        (self.half, self.next) = (other, 0);
        Ok(())
    }

    fn region<F: Flash>(&self, store: &Store<F>) -> Region {
        store.layout().journal[self.half]
    }
}

/// Where a record is, in the order of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    seq: u64,
    half: usize,
    at: usize,
}

/// The record with the highest number, of those before `before`. Torn ones are passed over.
fn newest<F: Flash, T: DeserializeOwned>(store: &Store<F>, before: Option<Found>) -> Option<Found> {
    let halves = store.layout().journal.map(|half| store.read(half));
    let places =
        |half: usize| (0..halves[half].len()).step_by(ALIGN as usize).map(move |at| (half, at));
    let found = places(0).chain(places(1)).filter_map(|(half, at)| {
        Some(Found { seq: number::<T>(halves[half].get(at..)?)?, half, at })
    });
    found.filter(|found| before.is_none_or(|before| *found < before)).max()
}

/// The number of a record that reads; what is in it is as large as a device's memory of everything.
#[inline(never)]
fn number<T: DeserializeOwned>(bytes: &[u8]) -> Option<u64> {
    record::read::<T>(bytes).map(|(seq, _)| seq)
}

/// Behind the last cell that is not blank.
fn behind_last(half: &[u8]) -> u32 {
    let used = half.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    (used as u32).next_multiple_of(ALIGN)
}
