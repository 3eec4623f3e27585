//! Base-2 exponential histogram of latencies, as in OpenTelemetry's data model.
//!
//! Eight buckets per doubling; a quantile is given as its bucket's upper bound, which is at
//! most an eighth (12.5 %) above the true value.
//! Two histograms merge by adding their counts, on a device, in the controller, over time.
//! The bucket of a value is found in integers alone: the highest set bit gives the octave,
//! the next three bits pick the eighth linearly (an HdrHistogram-style approximation of the
//! exponential bucket; its bounds are exact in [`Histogram::bound_us`]).

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Buckets per doubling, as a power of two.
const SCALE: u32 = 3;
/// Octaves covered: 1 us to 2^27 us (134 s). Slower answers count in the last bucket.
const OCTAVES: usize = 27;
/// Number of buckets.
pub const BUCKETS: usize = OCTAVES << SCALE;

/// Counts of latencies in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Counts up to the last bucket in use; the rest are zero and not stored.
    counts: Vec<u32, BUCKETS>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty one.
    pub const fn new() -> Self {
        Self { counts: Vec::new() }
    }

    fn bucket(us: u64) -> usize {
        let us = us.max(1);
        let octave = us.ilog2();
        // The three bits below the highest one; small octaves have fewer.
        let eighth =
            if octave >= SCALE { us >> (octave - SCALE) & 7 } else { us << (SCALE - octave) & 7 };
        (((octave as usize) << SCALE) + eighth as usize).min(BUCKETS - 1)
    }

    /// The upper bound of bucket `index` in microseconds (exclusive).
    pub fn bound_us(index: usize) -> u64 {
        let (octave, eighth) = (index >> SCALE, index as u64 & 7);
        ((8 + eighth + 1) << octave).div_ceil(8)
    }

    /// Counts one latency, in microseconds.
    pub fn record(&mut self, us: u64) {
        let at = Self::bucket(us);
        if self.counts.len() <= at {
            // `at` is below BUCKETS, so there is room.
            let _ = self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(1);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            let _ = self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(*c)).sum()
    }

    /// The latency in microseconds that `permille` of the values do not exceed (an upper
    /// bound, at most 12.5 % above the true value for values of 8 us and more); `None` if
    /// nothing was counted.
    pub fn quantile_us(&self, permille: u32) -> Option<u64> {
        let total = self.count();
        let rank = (total * u64::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(Self::bound_us(at));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_bounds_the_true_value_from_above_by_an_eighth(
            mut values in prop::collection::vec(8u64..100_000_000, 1..300), permille in 1u32..=1000
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|v| histogram.record(*v));
            values.sort_unstable();
            let rank = (values.len() * permille as usize).div_ceil(1000).max(1);
            let exact = values[rank - 1] as f64;
            let got = histogram.quantile_us(permille).expect("not empty") as f64;
            prop_assert!(got > exact && got <= exact * 1.126 + 1.0, "{got} for {exact}");
        }

        #[test]
        fn merging_is_counting_both(a in prop::collection::vec(1u64..1_000_000, 0..50),
                                    b in prop::collection::vec(1u64..1_000_000, 0..50)) {
            let fill = |values: &[u64]| {
                let mut h = Histogram::new();
                values.iter().for_each(|v| h.record(*v));
                h
            };
            let mut merged = fill(&a);
            merged.merge(&fill(&b));
            let both: std::vec::Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(merged, fill(&both));
        }
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for us in (1u64..10_000).chain([1 << 26, (1 << 27) - 1]) {
            let at = Histogram::bucket(us);
            assert!(us < Histogram::bound_us(at), "{us}");
            assert!(at == 0 || us >= Histogram::bound_us(at - 1), "{us} in {at}");
        }
        let mut slow = Histogram::new();
        slow.record(u64::MAX);
        assert_eq!(slow.count(), 1);
    }
}
