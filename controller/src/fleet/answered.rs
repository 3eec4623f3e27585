//! Answers of each release, added up as they are reported since the controller started: they only
//! rise, so a monitoring system can take rates of them. What a device counts begins anew when it
//! loads a release; here the difference to its last report is added.

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
    /// A device reported `now`, and `before` of the same load of the release, if it did.
    pub(super) fn add(
        &mut self,
        model: &ModelName,
        release: Digest,
        before: Option<&Counters>,
        now: &Counters,
    ) {
        let key = (model.clone(), release);
        if !self.0.contains_key(&key) && self.0.len() >= RELEASES_MAX {
            return;
        }
        // Fewer than before: it was loaded anew, and all of it is new.
        let before = before.filter(|b| b.requests <= now.requests && b.errors <= now.errors);
        let answered = self.0.entry(key).or_default();
        answered.requests += now.requests - before.map_or(0, |b| b.requests);
        answered.errors += now.errors - before.map_or(0, |b| b.errors);
        let counted = before.map_or(&[][..], |b| b.latency.counts());
        for (at, count) in now.latency.counts().iter().enumerate() {
            let known = counted.get(at).copied().unwrap_or(0);
            answered.latency[at] += u64::from(count.saturating_sub(known));
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
    fn only_what_is_new_is_added_and_a_new_load_begins_at_nothing() {
        let model: ModelName = "digits".parse().unwrap();
        let release = Digest([1; 32]);
        let mut counters = Counters::new();
        let mut all = AllAnswered::default();
        counters.record(&Answer::ok(100, None));
        all.add(&model, release, None, &counters);
        let before = counters.clone();
        counters.record(&Answer::ok(100, None));
        counters.record(&Answer::failed(900));
        all.add(&model, release, Some(&before), &counters);
        all.add(&model, release, Some(&counters), &counters);
        let (.., answered) = all.all().next().unwrap();
        let (requests, errors) = (answered.requests, answered.errors);
        let counted: u64 = answered.latency.iter().sum();
        assert_eq!((requests, errors, counted), (3, 1, counters.latency.count()));
        let mut anew = Counters::new();
        anew.record(&Answer::ok(100, None));
        all.add(&model, release, Some(&counters), &anew);
        assert_eq!(all.all().next().unwrap().2.requests, 4);
    }
}
