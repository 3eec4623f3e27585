//! Drift: whether what a model meets, and what it answers, still looks like its reference.
//!
//! The reference travels in the signed manifest: for each watched number the edges of ten bins
//! and how many reference samples fell into each, and the reference samples by class. A device
//! only counts, so that counts of many devices and times add up exactly, and anybody can compute
//! the same value again. The measure is the population stability index,
//! `PSI = sum((a - e) * ln(a / e))` over the shares `a` seen and `e` expected, a share below
//! [`SHARE_MIN`] counting as that.
//!
//! Without any drift the PSI of `n` answers against `m` reference samples is not 0: its expected
//! value is `(B - 1) * (1/n + 1/m)` with `B` bins (it is a chi-square statistic scaled by that).
//! So [`Drift::of`] raises the bound to [`NOISE_FACTOR`] times that, and nobody judges below
//! [`DRIFT_SAMPLES_MIN`] answers. What that means in false alarms and in found shifts is measured
//! in `tests/drift.rs`.
//!
//! **What is watched.** One number per tensor and answer, cheap enough for a microcontroller:
//! its mean (exposure, gain, units: an input scaled wrongly), its spread (contrast, noise, a
//! stuck sensor), a single element (the columns of a table), and the confidence of the answer.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Malformed, Reader};
use crate::counters::Confidence;
use crate::limits::{CLASSES_MAX, WATCHED_MAX};
use crate::list::List;

/// Bins of a watched number. Ten quantile bins are the field's habit; more need more answers.
pub const BINS: usize = 10;
/// Answers below which drift is not judged: with ten bins and no drift, 200 answers still pass
/// a PSI of 0.1 by chance in 2 of 100 windows, 500 in none of 4,000 (and see `tests/drift.rs`).
pub const DRIFT_SAMPLES_MIN: u32 = 500;
/// Samples below which a reference is none: with fewer, its own noise passes the bound.
pub const REFERENCE_SAMPLES_MIN: u32 = 300;
/// The bound is at least this many times the expected value without drift.
pub const NOISE_FACTOR: f64 = 3.0;
/// Smallest share of a bin that counts: an empty bin must not make the logarithm infinite.
pub const SHARE_MIN: f64 = 1e-4;
/// Elements of one tensor that a mean or a spread looks at, evenly spread over it, the same ones
/// at import and in use: some microseconds, most of them waiting for memory.
pub const ELEMENTS_MAX: usize = 1024;

/// A number that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watch {
    /// Mean over the elements of an input.
    Mean {
        /// Position of the input.
        input: u8,
    },
    /// Standard deviation over the elements of an input.
    Spread {
        /// Position of the input.
        input: u8,
    },
    /// One element of an input.
    Element {
        /// Position of the input.
        input: u8,
        /// Position of the element, row-major.
        at: u32,
    },
    /// The [`Confidence`] of the answer, 0 to 1.
    Confidence,
}

/// A watched number and how it is distributed in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Which number.
    pub what: Watch,
    /// Bin `i` holds what is above `edges[i - 1]` and up to `edges[i]`; rising.
    pub edges: [f32; BINS - 1],
    /// Reference samples by bin.
    pub counts: [u16; BINS],
}

/// What a release looks like when it is well. Empty where the importer gave no reference set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reference {
    /// The watched numbers.
    pub watched: Vec<Watched, WATCHED_MAX>,
    /// Reference samples by class; the last counter takes every class from its index on.
    pub classes: Vec<u16, CLASSES_MAX>,
    /// Mean confidence of the reference's answers.
    pub confidence: Option<Confidence>,
}

/// A [`Reference`] where it was read.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceView<'a> {
    /// As [`Reference::watched`].
    pub watched: List<'a, Watched>,
    /// As [`Reference::classes`].
    pub classes: List<'a, u16>,
    /// As [`Reference::confidence`].
    pub confidence: Option<Confidence>,
}

impl<'a> Decode<'a> for ReferenceView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            watched: List::read(reader, WATCHED_MAX, |_| true)?,
            classes: List::read(reader, CLASSES_MAX, |_| true)?,
            confidence: reader.take()?,
        })
    }
}

impl From<ReferenceView<'_>> for Reference {
    fn from(view: ReferenceView<'_>) -> Self {
        Self {
            watched: view.watched.iter().collect(),
            classes: view.classes.iter().collect(),
            confidence: view.confidence,
        }
    }
}

impl Watched {
    /// A number in quantile bins of its reference samples, which are in rising order. `None` if
    /// they are too few or too many, not all of them numbers, or all the same: then there is
    /// nothing to watch.
    pub fn from_sorted(what: Watch, samples: &[f32]) -> Option<Self> {
        let [first, .., last] = samples else { return None };
        let enough = (REFERENCE_SAMPLES_MIN as usize..=u16::MAX.into()).contains(&samples.len());
        let rise = samples.is_sorted() && first.is_finite() && last.is_finite();
        if !enough || !rise || first == last {
            return None;
        }
        let edges = core::array::from_fn(|at| samples[(at + 1) * samples.len() / BINS - 1]);
        let mut watched = Self { what, edges, counts: [0; BINS] };
        for sample in samples {
            watched.counts[usize::from(watched.bin(*sample))] += 1;
        }
        Some(watched)
    }

    /// The bin of `value`. No number counts as above all others: it is not what was expected.
    pub fn bin(&self, value: f32) -> u8 {
        if value.is_nan() {
            return BINS as u8 - 1;
        }
        self.edges.iter().filter(|edge| value > **edge).count() as u8
    }
}

/// Mean of `len` numbers, of which at most [`ELEMENTS_MAX`] are looked at.
pub fn mean(len: usize, element: &dyn Fn(usize) -> f32) -> f32 {
    moments(len, element).0
}

/// Standard deviation, likewise.
pub fn spread(len: usize, element: &dyn Fn(usize) -> f32) -> f32 {
    libm::sqrtf(moments(len, element).1)
}

/// Mean and variance in one pass, around the first element so that a large offset does not
/// drown the variance in single precision.
fn moments(len: usize, element: &dyn Fn(usize) -> f32) -> (f32, f32) {
    if len == 0 {
        return (f32::NAN, f32::NAN);
    }
    let step = len.div_ceil(ELEMENTS_MAX);
    let origin = element(0);
    let (mut count, mut sum, mut squares) = (0.0f32, 0.0f32, 0.0f32);
    for at in (0..len).step_by(step) {
        let value = element(at) - origin;
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    let mean = sum / count;
    (origin + mean, (squares / count - mean * mean).max(0.0))
}

/// How far counts are from their reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The population stability index.
    pub psi: f64,
    /// What it may be: the policy's bound, or [`NOISE_FACTOR`] times what chance alone gives.
    pub bound: f64,
    /// Answers counted.
    pub samples: u32,
}

impl Drift {
    /// Drift of the counts `seen` from `reference`, which has as many bins; `psi_max` is the
    /// policy's bound. `None` when one of the two holds nothing.
    pub fn of(
        reference: impl Iterator<Item = u32> + Clone,
        seen: impl Iterator<Item = u32> + Clone,
        psi_max: f64,
    ) -> Option<Self> {
        let total = |counts: &mut dyn Iterator<Item = u32>| -> u64 { counts.map(u64::from).sum() };
        let (m, n) = (total(&mut reference.clone()), total(&mut seen.clone()));
        if m == 0 || n == 0 {
            return None;
        }
        let share = |count: u32, of: u64| (f64::from(count) / of as f64).max(SHARE_MIN);
        let (mut psi, mut bins) = (0.0, 0u32);
        // What neither side ever saw is no bin.
        for (expected, actual) in reference.zip(seen).filter(|(e, a)| *e > 0 || *a > 0) {
            let (e, a) = (share(expected, m), share(actual, n));
            psi += (a - e) * libm::log(a / e);
            bins += 1;
        }
        let by_chance = f64::from(bins.saturating_sub(1)) * (1.0 / n as f64 + 1.0 / m as f64);
        let samples = u32::try_from(n).unwrap_or(u32::MAX);
        Some(Self { psi, bound: psi_max.max(NOISE_FACTOR * by_chance), samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(edges: [f32; BINS - 1]) -> Watched {
        Watched { what: Watch::Confidence, edges, counts: [50; BINS] }
    }

    #[test]
    fn bins_hold_what_is_up_to_their_edge() {
        let nine = watched([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        for (value, bin) in [
            (f32::NEG_INFINITY, 0),
            (1.0, 0),
            (1.1, 1),
            (9.0, 8),
            (9.1, 9),
            (f32::INFINITY, 9),
            (f32::NAN, 9),
        ] {
            assert_eq!(nine.bin(value), bin, "{value}");
        }
        // Ties leave bins in between empty.
        assert_eq!(watched([0.0; BINS - 1]).bin(0.0), 0);
        assert_eq!(watched([0.0; BINS - 1]).bin(0.1), 9);
    }

    #[test]
    fn summaries() {
        let ramp = |at: usize| at as f32 + 1000.0;
        assert_eq!(mean(5, &ramp), 1002.0);
        assert!((spread(5, &ramp) - 2f32.sqrt()).abs() < 1e-5);
        assert!(mean(0, &ramp).is_nan() && spread(1, &ramp) == 0.0);
        // A large tensor is sampled, evenly.
        let looked = core::cell::Cell::new(0);
        let half = mean(100_000, &|at| {
            looked.set(looked.get() + 1);
            if at < 50_000 { 0.0 } else { 1.0 }
        });
        assert!((half - 0.5).abs() < 0.001 && looked.get() <= ELEMENTS_MAX + 1, "{half}");
    }

    #[test]
    fn nothing_seen_is_no_drift_and_the_same_is_none() {
        let reference = [50u32; BINS];
        let of = |seen: [u32; BINS]| Drift::of(reference.into_iter(), seen.into_iter(), 0.1);
        assert_eq!(of([0; BINS]), None);
        let same = of([100; BINS]).expect("counted");
        assert_eq!((same.psi, same.samples), (0.0, 1000));
        let all_in_one = of([0, 0, 0, 0, 0, 0, 0, 0, 0, 1000]).expect("counted");
        // 0.9 * ln(10) and nine times 0.0999 * ln(1000).
        assert!((all_in_one.psi - (0.9 * 10f64.ln() + 9.0 * 0.0999 * 1000f64.ln())).abs() < 1e-9);
    }
}
