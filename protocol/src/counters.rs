//! What a model answered, as counters: the one shape in which answers are counted on the hot
//! path, judged in a probation, reported, and summed over devices and time.
//!
//! Integers only, and every one of them a plain sum: merging is addition, in any order, and two
//! halves are the same as the whole to the last bit.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::drift::BINS;
use crate::histogram::Histogram;
use crate::limits::{CLASSES_MAX, WATCHED_MAX};

/// How sure an answer is, from 0 to 1 in 65535 steps: the largest share among its classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Confidence(pub u16);

/// What the scores of a classifier are. Found out at import, over all known answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scores {
    /// Shares of the whole: the largest is the confidence.
    Probabilities,
    /// Anything else that is larger for likelier classes: softmax makes shares of it.
    Logits,
}

impl Confidence {
    /// From a share; outside 0 to 1, and no number, is the nearest end.
    pub fn of_share(share: f32) -> Self {
        // The cast saturates, and makes 0 of what is no number.
        Self((share * f32::from(u16::MAX) + 0.5) as u16)
    }

    /// The confidence of an answer with `len` scores, of which `top` is the largest.
    pub fn of_scores(kind: Scores, len: usize, top: usize, score: impl Fn(usize) -> f32) -> Self {
        let largest = score(top);
        match kind {
            Scores::Probabilities => Self::of_share(largest),
            Scores::Logits => {
                let sum: f32 = (0..len).map(|at| libm::expf(score(at) - largest)).sum();
                Self::of_share(1.0 / sum)
            }
        }
    }

    /// As a number from 0 to 1.
    pub fn share(self) -> f32 {
        f32::from(self.0) / f32::from(u16::MAX)
    }
}

/// One answer of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long it took, microseconds.
    pub latency_us: u32,
    /// Whether it was an answer at all.
    pub ok: bool,
    /// Index of the largest output, if the model has classes.
    pub class: Option<u16>,
    /// How sure it is, if that can be said.
    pub confidence: Option<Confidence>,
    /// Bin of each number that the release's reference watches, in its order.
    pub bins: [Option<u8>; WATCHED_MAX],
}

impl Answer {
    /// A right and proper answer.
    pub fn ok(latency_us: u32, class: Option<u16>) -> Self {
        Self { latency_us, ok: true, class, confidence: None, bins: [None; WATCHED_MAX] }
    }

    /// A request that came to nothing.
    pub fn failed(latency_us: u32) -> Self {
        Self { ok: false, ..Self::ok(latency_us, None) }
    }
}

/// Answers, counted. See the module page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// Latencies of the answers.
    pub latency: Histogram,
    /// Answers by class; the last counter takes every class from its index on.
    pub classes: Vec<u32, CLASSES_MAX>,
    /// Answers by bin, for each number that the release's reference watches.
    pub watched: Vec<[u32; BINS], WATCHED_MAX>,
    /// Sum of the confidences, in steps of [`Confidence`].
    pub confidence_sum: u64,
    /// Answers in that sum.
    pub confidence_count: u64,
}

impl Counters {
    /// All at zero.
    pub const fn new() -> Self {
        Self {
            requests: 0,
            errors: 0,
            latency: Histogram::new(),
            classes: Vec::new(),
            watched: Vec::new(),
            confidence_sum: 0,
            confidence_count: 0,
        }
    }

    /// Counts an answer.
    pub fn record(&mut self, answer: &Answer) {
        self.requests = self.requests.saturating_add(1);
        if !answer.ok {
            self.errors = self.errors.saturating_add(1);
            return;
        }
        self.latency.record(u64::from(answer.latency_us));
        if let Some(class) = answer.class {
            count(&mut self.classes, usize::from(class).min(CLASSES_MAX - 1), 1);
        }
        if let Some(confidence) = answer.confidence {
            self.confidence_sum = self.confidence_sum.saturating_add(confidence.0.into());
            self.confidence_count = self.confidence_count.saturating_add(1);
        }
        for (at, bin) in answer.bins.iter().enumerate() {
            let Some(bin) = bin else { continue };
            if self.watched.len() <= at {
                let _ = self.watched.resize(at + 1, [0; BINS]);
            }
            let cell = &mut self.watched[at][usize::from(*bin).min(BINS - 1)];
            *cell = cell.saturating_add(1);
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.latency.merge(&other.latency);
        for (class, more) in other.classes.iter().enumerate() {
            count(&mut self.classes, class, *more);
        }
        if self.watched.len() < other.watched.len() {
            let _ = self.watched.resize(other.watched.len(), [0; BINS]);
        }
        for (mine, theirs) in self.watched.iter_mut().zip(&other.watched) {
            for (bin, more) in mine.iter_mut().zip(theirs) {
                *bin = bin.saturating_add(*more);
            }
        }
        self.confidence_sum = self.confidence_sum.saturating_add(other.confidence_sum);
        self.confidence_count = self.confidence_count.saturating_add(other.confidence_count);
    }

    /// What was counted since `before`, an earlier reading of the same counters.
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.requests = self.requests.saturating_sub(before.requests);
        since.errors = self.errors.saturating_sub(before.errors);
        since.latency.take_away(&before.latency);
        for (mine, theirs) in since.classes.iter_mut().zip(&before.classes) {
            *mine = mine.saturating_sub(*theirs);
        }
        for (mine, theirs) in since.watched.iter_mut().zip(&before.watched) {
            for (bin, less) in mine.iter_mut().zip(theirs) {
                *bin = bin.saturating_sub(*less);
            }
        }
        since.confidence_sum = self.confidence_sum.saturating_sub(before.confidence_sum);
        since.confidence_count = self.confidence_count.saturating_sub(before.confidence_count);
        since
    }

    /// Mean confidence, `None` if no answer had one.
    pub fn confidence(&self) -> Option<Confidence> {
        let mean = self.confidence_sum.checked_div(self.confidence_count)?;
        Some(Confidence(u16::try_from(mean).unwrap_or(u16::MAX)))
    }
}

/// Adds to a counter that may not be there yet; `at` is below [`CLASSES_MAX`].
fn count(classes: &mut Vec<u32, CLASSES_MAX>, at: usize, more: u32) {
    if classes.len() <= at {
        let _ = classes.resize(at + 1, 0);
    }
    classes[at] = classes[at].saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers() -> impl Strategy<Value = std::vec::Vec<Answer>> {
        let bin = || prop::option::of(0u8..BINS as u8);
        let answer =
            (any::<(bool, u32)>(), any::<Option<u16>>(), any::<Option<u16>>(), bin(), bin())
                .prop_map(|((ok, latency_us), class, confidence, first, last)| {
                    let mut bins = [None; WATCHED_MAX];
                    (bins[0], bins[WATCHED_MAX - 1]) = (first, last);
                    let confidence = confidence.map(Confidence);
                    Answer { latency_us, ok, class, confidence, bins }
                });
        prop::collection::vec(answer, 0..40)
    }

    fn counted(answers: &[Answer]) -> Counters {
        let mut counters = Counters::new();
        answers.iter().for_each(|answer| counters.record(answer));
        counters
    }

    proptest! {
        /// Merging is counting both, whichever comes first, and however they are grouped.
        #[test]
        fn merging_is_addition(a in answers(), b in answers(), c in answers()) {
            let merged = |parts: &[&Counters]| {
                let mut sum = Counters::new();
                parts.iter().for_each(|part| sum.merge(part));
                sum
            };
            let all: std::vec::Vec<_> = [&a[..], &b, &c].concat();
            let (a, b, c) = (counted(&a), counted(&b), counted(&c));
            let whole = counted(&all);
            prop_assert_eq!(&merged(&[&a, &b, &c]), &whole);
            prop_assert_eq!(&merged(&[&c, &a, &b]), &whole);
            prop_assert_eq!(&merged(&[&a, &merged(&[&c, &b])]), &whole);
            // And taking away gives back what was added, to the last bit.
            let rest = whole.since(&a);
            prop_assert_eq!(merged(&[&a, &rest]), whole.clone());
            prop_assert_eq!(whole.since(&rest).requests, a.requests);
            prop_assert_eq!(whole.since(&rest).latency.count(), a.latency.count());
        }
    }

    #[test]
    fn confidence_of_scores() {
        let of = |kind, scores: &[f32]| {
            let top = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            Confidence::of_scores(kind, scores.len(), top.expect("some"), |at| scores[at]).share()
        };
        assert!((of(Scores::Probabilities, &[0.25, 0.75]) - 0.75).abs() < 1e-4);
        // Softmax of 0 and ln(3).
        assert!((of(Scores::Logits, &[0.0, 3f32.ln()]) - 0.75).abs() < 1e-4);
        // Large scores do not overflow.
        assert!((of(Scores::Logits, &[1e30, -1e30]) - 1.0).abs() < 1e-4);
        assert_eq!(Confidence::of_share(f32::NAN), Confidence(0));
        assert_eq!(Confidence::of_share(7.0), Confidence(u16::MAX));
    }
}
