//! Base-2 exponential histogram of latencies, as in OpenTelemetry's data model: scale 3,
//! eight buckets per doubling, bucket `i` holds what lies above `2^((i-1)/8)` and up to
//! `2^(i/8)` microseconds, so that it is OpenTelemetry's bucket `i - 1` at scale 3.
//!
//! A quantile is given as its bucket's upper bound: never below the true value, and at most
//! `2^(1/8) - 1` (9.1 %) above it, up to 2^27 us. `tests/metrics.rs` holds that down against
//! hdrhistogram. Two histograms merge by adding their counts, on a device, in the controller,
//! over time. The bucket of a value is found in integers alone.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Buckets per doubling, as a power of two.
const SCALE: u32 = 3;
/// Octaves covered: 1 us to 2^27 us (134 s). Slower answers count in the last bucket.
const OCTAVES: usize = 27;
/// Number of buckets: the first holds 0 and 1 us.
pub const BUCKETS: usize = (OCTAVES << SCALE) + 1;
/// `2^(k/8)` with 63 bits after the point, rounded down.
const EIGHTHS: [u64; 1 << SCALE] = [
    0x8000_0000_0000_0000,
    0x8b95_c1e3_ea8b_d6e6,
    0x9837_f051_8db8_a96f,
    0xa5fe_d6a9_b151_38ea,
    0xb504_f333_f9de_6484,
    0xc567_2a11_5506_dadd,
    0xd744_fcca_d69d_6af4,
    0xeac0_c6e7_dd24_392e,
];

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

    /// The smallest `i` with `us <= 2^(i/8)`.
    fn bucket(us: u64) -> usize {
        let us = us.max(1);
        let octave = us.ilog2();
        let mantissa = us << (u64::BITS - 1 - octave);
        let above = EIGHTHS.iter().filter(|eighth| mantissa > **eighth).count();
        (((octave as usize) << SCALE) + above).min(BUCKETS - 1)
    }

    /// The largest whole number of microseconds in bucket `index`.
    pub fn bound_us(index: usize) -> u64 {
        let (octave, eighth) = ((index >> SCALE) as u32, index & ((1 << SCALE) - 1));
        EIGHTHS[eighth] >> (u64::BITS - 1).saturating_sub(octave)
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

    /// Takes the counts of `other`, an earlier reading of the same histogram, away.
    pub fn take_away(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_sub(*theirs);
        }
    }

    /// Counts by bucket, up to the last one in use.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(*c)).sum()
    }

    /// Number of values in buckets above the one that `us` lies in.
    pub fn above(&self, us: u64) -> u64 {
        self.counts.iter().skip(Self::bucket(us) + 1).map(|c| u64::from(*c)).sum()
    }

    /// The latency in microseconds that `permille` of the values do not exceed: an upper bound,
    /// see the module page; `None` if nothing was counted.
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
        fn a_quantile_bounds_the_true_value_from_above(
            mut values in prop::collection::vec(0u64..100_000_000, 1..300), permille in 1u32..=1000
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|v| histogram.record(*v));
            values.sort_unstable();
            let rank = (values.len() * permille as usize).div_ceil(1000).max(1);
            let exact = values[rank - 1].max(1) as f64;
            let got = histogram.quantile_us(permille).expect("not empty") as f64;
            prop_assert!(histogram.above(got as u64) as usize <= values.len() - rank);
            prop_assert!(got >= exact && got <= exact * 1.0906, "{got} for {exact}");
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
        for us in (1u64..10_000).chain([1 << 26, (1 << 27) - 1, 1 << 27]) {
            let at = Histogram::bucket(us);
            assert!(us <= Histogram::bound_us(at), "{us}");
            assert!(at == 0 || us > Histogram::bound_us(at - 1), "{us} in {at}");
        }
        // Powers of two are bounds themselves, as in OpenTelemetry.
        assert_eq!([1, 2, 1024].map(Histogram::bucket), [0, 8, 80]);
        assert_eq!(Histogram::bound_us(80), 1024);
        let mut slow = Histogram::new();
        slow.record(u64::MAX);
        assert_eq!((slow.count(), slow.quantile_us(500)), (1, Some(1 << 27)));
    }
}
