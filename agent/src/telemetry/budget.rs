//! How many bytes of telemetry may leave in a day: a bucket that fills evenly.
//!
//! It holds a 24th of the day's budget, and what fills it is the rest: so no 24 hours, whenever they
//! begin, see more than the budget, and the link is not silent from the morning on. A start of the
//! agent brings [`START_BYTES`], because how full the bucket was is not kept: each restart can cost
//! that much on top.

/// What a fresh bucket holds, bytes: some rounds of reports, so that a device that has just started
/// is seen.
const START_BYTES: u64 = 64 << 10;
/// What filling in leaves for reports of now, bytes: a round of eight models at their largest.
const RESERVE_BYTES: u64 = 32 << 10;
const DAY_MS: u128 = 24 * 3600 * 1000;
/// The part of a day's budget that the bucket holds.
const PARTS: u64 = 24;

/// Which telemetry wants to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A report of now.
    Live,
    /// One that waited.
    Backfill,
}

/// The budget of one device.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// Bytes in any 24 hours; 0 for no bound.
    bytes_per_day: u64,
    /// What the bucket holds, in bytes times [`DAY_MS`], so that no part of a byte is lost.
    held: u128,
    at_ms: u64,
}

impl Budget {
    pub(super) fn new(bytes_per_day: u64, now_ms: u64) -> Self {
        let start = START_BYTES.min(bytes_per_day / PARTS);
        Self { bytes_per_day, held: u128::from(start) * DAY_MS, at_ms: now_ms }
    }

    fn bucket_bytes(&self) -> u64 {
        self.bytes_per_day / PARTS
    }

    /// Takes so many bytes out of the bucket, if they are in it.
    pub(super) fn take(&mut self, now_ms: u64, bytes: u64, lane: Lane) -> bool {
        if self.bytes_per_day == 0 {
            return true;
        }
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let filled = u128::from(passed_ms) * u128::from(self.bytes_per_day - self.bucket_bytes());
        self.held = (self.held + filled).min(u128::from(self.bucket_bytes()) * DAY_MS);
        let reserve = match lane {
            Lane::Live => 0,
            Lane::Backfill => RESERVE_BYTES.min(self.bucket_bytes() / 2),
        };
        let wanted = u128::from(bytes) * DAY_MS;
        let enough = self.held >= wanted + u128::from(reserve) * DAY_MS;
        if enough {
            self.held -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn no_day_sees_more_than_its_budget_and_it_is_used() {
        let per_day = 5_000_000;
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut budget, mut left) = (Budget::new(per_day, 0), Vec::new());
        let mut now_ms = 0;
        while now_ms < 72 * HOUR_MS {
            // Now in bursts, now not at all.
            now_ms += if rng.u8(..) == 0 { rng.u64(..6 * HOUR_MS) } else { rng.u64(..30_000) };
            let bytes = rng.u64(100..4_000);
            if budget.take(now_ms, bytes, Lane::Live) {
                left.push((now_ms, bytes));
            }
        }
        let mut most = 0;
        for (at, (from_ms, _)) in left.iter().enumerate() {
            let day = left[at..].iter().take_while(|(ms, _)| *ms <= from_ms + 24 * HOUR_MS);
            most = most.max(day.map(|(_, bytes)| bytes).sum::<u64>());
        }
        assert!(most <= per_day && most > per_day / 2, "{most} of {per_day}");
    }

    #[test]
    fn filling_in_leaves_something_for_now() {
        let mut budget = Budget::new(24 << 20, 0);
        while budget.take(0, 1_000, Lane::Backfill) {}
        let live = (0..).take_while(|_| budget.take(0, 1_000, Lane::Live)).count();
        assert!(live >= 32, "{live}");
        assert!(Budget::new(0, 0).take(0, u64::MAX, Lane::Backfill), "0 is no bound");
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut budget = Budget::new(240_000, HOUR_MS);
        while budget.take(HOUR_MS, 100, Lane::Live) {}
        assert!(!budget.take(0, 100, Lane::Live) && !budget.take(HOUR_MS, 100, Lane::Live));
    }
}
