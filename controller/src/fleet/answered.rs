//! Answers of each release, added up as they are reported since the controller started: they only
//! rise, so a monitoring system can take rates of them.

use std::collections::BTreeMap;

use fleetway_protocol::counters::Counters;
use fleetway_protocol::histogram::{BUCKETS, Histogram};
use fleetway_protocol::ids::{Digest, ModelName};

/// Releases that are counted apart: those that run somewhere, with room.
const RELEASES_MAX: usize = 256;

/// Answers of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// Latencies by the buckets of [`Histogram`].
    pub latency: Box<[u64; BUCKETS]>,
}

impl Default for Answered {
    fn default() -> Self {
        Self { requests: 0, errors: 0, latency: Box::new([0; BUCKETS]) }
    }
}

/// All releases.
#[derive(Clone, Debug, Default)]
pub(super) struct AllAnswered(BTreeMap<(ModelName, Digest), Answered>);

impl AllAnswered {
    /// A device counted so much since its last report.
    pub(super) fn add(&mut self, model: &ModelName, release: Digest, counted: &Counters) {
        let key = (model.clone(), release);
        if !self.0.contains_key(&key) && self.0.len() >= RELEASES_MAX {
            return;
        }
        let answered = self.0.entry(key).or_default();
        answered.requests += counted.requests;
        answered.errors += counted.errors;
        for (all, count) in answered.latency.iter_mut().zip(counted.latency.counts()) {
            *all += u64::from(*count);
        }
    }

    /// Each release with its answers.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ModelName, &Digest, &Answered)> {
        self.0.iter().map(|((model, release), answered)| (model, release, answered))
    }
}

impl Answered {
    /// Sum of the latencies in microseconds, each taken as its bucket's upper bound: at most 9.1 %
    /// above the true sum.
    pub fn latency_sum_us(&self) -> u64 {
        let sum = |(at, count): (usize, &u64)| count.saturating_mul(Histogram::bound_us(at));
        self.latency.iter().enumerate().map(sum).sum()
    }
}

#[cfg(test)]
mod tests {
    use fleetway_protocol::counters::Answer;

    use super::*;

    #[test]
    fn what_was_counted_adds_up_for_each_release_and_not_without_bound() {
        let model: ModelName = "digits".parse().unwrap();
        let mut counted = Counters::new();
        counted.record(&Answer::ok(100, None));
        counted.record(&Answer::failed(900));
        let mut all = AllAnswered::default();
        all.add(&model, Digest([1; 32]), &counted);
        all.add(&model, Digest([1; 32]), &counted);
        let (.., answered) = all.all().next().unwrap();
        let latencies: u64 = answered.latency.iter().sum();
        assert_eq!(
            (answered.requests, answered.errors, latencies),
            (4, 2, 2 * counted.latency.count())
        );
        for release in 0..=RELEASES_MAX {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&release.to_le_bytes());
            all.add(&model, Digest(digest), &counted);
        }
        assert_eq!(all.all().count(), RELEASES_MAX);
    }
}
