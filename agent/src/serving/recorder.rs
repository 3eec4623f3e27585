//! What a model answered: counters for telemetry, and the single answers for the judge of a
//! probation.
//!
//! Recording never waits for whoever reads: both sides hold the lock for a copy in memory, the
//! queue is bounded, and what falls off it is counted.

use std::collections::VecDeque;
use std::sync::Mutex;

use fleetway_protocol::health::Answer;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::report::Telemetry;

use super::limits::ANSWERS_QUEUED_MAX;
use super::lock;

/// The record of one model on this device.
#[derive(Default)]
pub struct Recorder(Mutex<Record>);

#[derive(Default)]
struct Record {
    now: Option<Telemetry>,
    before: Option<Telemetry>,
    queue: VecDeque<(Digest, Answer)>,
    dropped: u64,
}

impl Recorder {
    /// Counts an answer of `release`. One that ends after its release was swapped out counts for
    /// that release.
    pub(super) fn record(&self, release: &Digest, answer: Answer) {
        let mut record = lock(&self.0);
        let Record { now, before, queue, dropped } = &mut *record;
        let telemetry = [now, before].into_iter().flatten().find(|t| t.release == *release);
        match telemetry {
            Some(telemetry) => telemetry.record(answer),
            None => return *dropped += 1,
        }
        if queue.len() >= ANSWERS_QUEUED_MAX {
            // The judge looks at the newest answers.
            queue.pop_front();
            *dropped += 1;
        }
        queue.push_back((*release, answer));
    }

    /// Takes up to `max` answers, oldest first, each with the release that gave it.
    pub fn drain(&self, max: usize) -> Vec<(Digest, Answer)> {
        let mut record = lock(&self.0);
        let taken = record.queue.len().min(max);
        record.queue.drain(..taken).collect()
    }

    /// Counters since the engine loaded its release; `None` while nothing is loaded.
    pub fn snapshot(&self) -> Option<Telemetry> {
        lock(&self.0).now.clone()
    }

    /// Last counters of the release before: between two reports a swap would lose them.
    pub fn before(&self) -> Option<Telemetry> {
        lock(&self.0).before.clone()
    }

    /// Answers that nobody fetched in time, and that nobody will.
    pub fn dropped(&self) -> u64 {
        lock(&self.0).dropped
    }

    /// From now on `release` answers, from zero.
    pub(super) fn reset(&self, release: Option<Digest>) {
        let mut record = lock(&self.0);
        if let Some(telemetry) = record.now.take() {
            record.before = Some(telemetry);
        }
        record.now = release.map(Telemetry::new);
        record.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn answer(latency_us: u32) -> Answer {
        Answer { latency_us, ok: true, class: Some(3) }
    }

    #[test]
    fn late_answers_count_for_the_release_that_gave_them() {
        let recorder = Recorder::default();
        assert_eq!(recorder.snapshot(), None);
        recorder.reset(Some(A));
        recorder.record(&A, answer(1));
        recorder.reset(Some(B));
        recorder.record(&A, answer(2));
        recorder.record(&B, answer(3));
        assert_eq!(recorder.snapshot().unwrap().requests, 1);
        assert_eq!(recorder.before().unwrap().requests, 2);
        assert_eq!(recorder.drain(9), [(A, answer(2)), (B, answer(3))]);
        recorder.reset(None);
        assert_eq!(recorder.snapshot(), None);
        recorder.record(&A, answer(4));
        assert_eq!((recorder.dropped(), recorder.drain(9)), (1, vec![]));
    }

    #[test]
    fn a_reader_that_stays_away_costs_old_answers_and_they_are_counted() {
        let recorder = Recorder::default();
        recorder.reset(Some(A));
        for n in 0..ANSWERS_QUEUED_MAX as u32 + 5 {
            recorder.record(&A, answer(n));
        }
        assert_eq!(recorder.dropped(), 5);
        assert_eq!(recorder.drain(1), [(A, answer(5))]);
        assert_eq!(recorder.drain(usize::MAX).len(), ANSWERS_QUEUED_MAX - 1);
        assert_eq!(recorder.snapshot().unwrap().requests, ANSWERS_QUEUED_MAX as u64 + 5);
    }
}
