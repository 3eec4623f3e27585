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
pub struct Recorder(Mutex<Record>);

struct Record {
    now: Option<Telemetry>,
    before: Option<Telemetry>,
    queue: VecDeque<(Digest, Answer)>,
    dropped: u64,
    loads: u32,
}

impl Default for Recorder {
    /// With room for the whole queue, so that counting an answer allocates nothing.
    fn default() -> Self {
        let queue = VecDeque::with_capacity(ANSWERS_QUEUED_MAX);
        Self(Mutex::new(Record { now: None, before: None, queue, dropped: 0, loads: 0 }))
    }
}

impl Recorder {
    /// Counts an answer of `release`. One that ends after its release was swapped out counts for
    /// that release.
    pub(super) fn record(&self, release: &Digest, answer: Answer) {
        let mut record = lock(&self.0);
        let Record { now, before, queue, dropped, .. } = &mut *record;
        let telemetry = [now, before].into_iter().flatten().find(|t| t.release == *release);
        match telemetry {
            Some(telemetry) => telemetry.counters.record(&answer),
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
        record.loads += u32::from(release.is_some());
        let load = record.loads;
        record.now = release.map(|release| Telemetry { load, ..Telemetry::new(release) });
        record.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use fleetway_engine::{DType, Tensor, TensorSpec, Watcher};
    use fleetway_protocol::counters::Scores;
    use fleetway_protocol::drift::{Watch, Watched};
    use fleetway_protocol::health::Health;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn answer(latency_us: u32) -> Answer {
        Answer::ok(latency_us, Some(3))
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
        assert_eq!(recorder.snapshot().unwrap().counters.requests, 1);
        assert_eq!(recorder.before().unwrap().counters.requests, 2);
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
        assert_eq!(recorder.snapshot().unwrap().counters.requests, ANSWERS_QUEUED_MAX as u64 + 5);
    }

    /// What a request pays for being counted: printed, and held far below what a run takes.
    #[test]
    fn counting_an_answer_takes_microseconds() {
        const ANSWERS: u32 = 50;
        const ROUNDS: u32 = 50;
        let mut health = Health { scores: Some(Scores::Logits), ..Health::default() };
        let numbers = [Watch::Mean { input: 0 }, Watch::Spread { input: 0 }, Watch::Confidence];
        let samples: Vec<f32> = (0..300).map(|n| n as f32 / 300.0).collect();
        health.reference.watched =
            numbers.iter().filter_map(|what| Watched::from_sorted(*what, &samples)).collect();
        let watcher = Watcher::new(&health);
        let outputs = [Tensor::from_f32(&[1, 10], vec![0.5; 10]).unwrap()];
        for shape in [vec![1, 1, 8, 8], vec![1, 3, 224, 224]] {
            let inputs = [Tensor::from_f32(&shape, vec![0.5; shape.iter().product()]).unwrap()];
            let specs = [TensorSpec { name: "x".into(), dtype: DType::F32, shape: shape.clone() }];
            let recorder = Recorder::default();
            recorder.reset(Some(A));
            // The quickest of some rounds: the others measure what else the machine does.
            let round = |_| {
                let watch = Clock::stopwatch();
                for _ in 0..ANSWERS {
                    recorder.record(&A, watcher.answer(900, &specs, &inputs, &outputs));
                }
                f64::from(watch.elapsed_us()) / f64::from(ANSWERS)
            };
            let each_us = (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min);
            println!("input {shape:?}: {each_us:.2} us to look at an answer and count it");
            assert!(each_us < 100.0, "{each_us}");
            assert_eq!(recorder.snapshot().unwrap().counters.watched.len(), 3);
        }
    }
}
