//! What a release did since it was loaded, in the counts of the protocol's statistics extension.
//!
//! For whoever tunes an application on the device; the judge of a release reads
//! [`recorder`](super::recorder). One short lock for each request.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use super::live::Loaded;
use super::lock;
use crate::clock::Clock;

/// How often, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timed {
    /// Times.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

impl Timed {
    fn add(&mut self, ns: u64) {
        self.count = self.count.wrapping_add(1);
        self.ns = self.ns.wrapping_add(ns);
    }
}

/// Where the time of one request went, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    pub(super) queue_ns: u64,
    pub(super) input_ns: u64,
    pub(super) infer_ns: u64,
    pub(super) output_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    last_ms: u64,
    rows: u64,
    runs: u64,
    success: Timed,
    fail: Timed,
    queue: Timed,
    input: Timed,
    infer: Timed,
    output: Timed,
    /// Time in the engine by rows of a run.
    by_rows: BTreeMap<u64, Timed>,
}

/// The counts of one release.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Counts>);

impl Stats {
    /// A request with so many rows was answered.
    pub(super) fn answered(&self, rows: usize, spent: Spent) {
        let last_ms = Clock::system_unix_ms();
        let mut counts = lock(&self.0);
        let Spent { queue_ns, input_ns, infer_ns, output_ns } = spent;
        counts.last_ms = last_ms;
        counts.rows = counts.rows.wrapping_add(rows as u64);
        counts.success.add(queue_ns + input_ns + infer_ns + output_ns);
        counts.queue.add(queue_ns);
        counts.input.add(input_ns);
        counts.infer.add(infer_ns);
        counts.output.add(output_ns);
    }

    /// A request was not answered.
    pub(super) fn failed(&self, ns: u64) {
        lock(&self.0).fail.add(ns);
    }

    /// The engine ran on so many rows. Engines bound them, so the table stays small.
    pub(super) fn ran(&self, rows: usize, ns: u64) {
        let mut counts = lock(&self.0);
        counts.runs = counts.runs.wrapping_add(1);
        counts.by_rows.entry(rows as u64).or_default().add(ns);
    }
}

/// `GET /v2/models/{m}/stats` for one release.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStats {
    pub(super) name: String,
    pub(super) version: String,
    /// Unix milliseconds.
    pub(super) last_inference: u64,
    pub(super) inference_count: u64,
    pub(super) execution_count: u64,
    pub(super) inference_stats: InferenceStats,
    pub(super) batch_stats: Vec<BatchStats>,
}

/// Where the time went, over all requests.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct InferenceStats {
    pub(super) success: Timed,
    pub(super) fail: Timed,
    pub(super) queue: Timed,
    pub(super) compute_input: Timed,
    pub(super) compute_infer: Timed,
    pub(super) compute_output: Timed,
    cache_hit: Timed,
    cache_miss: Timed,
}

/// Runs of one number of rows. Reading and writing are done request by request, and counted there.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BatchStats {
    pub(super) batch_size: u64,
    compute_input: Timed,
    pub(super) compute_infer: Timed,
    compute_output: Timed,
}

impl ModelStats {
    /// The counts of this moment.
    pub fn of(loaded: &Loaded) -> Self {
        let counts = lock(&loaded.stats().0).clone();
        let none = Timed::default();
        let batch = |(&batch_size, &compute_infer): (&u64, &Timed)| BatchStats {
            batch_size,
            compute_input: none,
            compute_infer,
            compute_output: none,
        };
        Self {
            name: loaded.model.as_str().to_owned(),
            version: loaded.version.clone(),
            last_inference: counts.last_ms,
            inference_count: counts.rows,
            execution_count: counts.runs,
            inference_stats: InferenceStats {
                success: counts.success,
                fail: counts.fail,
                queue: counts.queue,
                compute_input: counts.input,
                compute_infer: counts.infer,
                compute_output: counts.output,
                cache_hit: none,
                cache_miss: none,
            },
            batch_stats: counts.by_rows.iter().map(batch).collect(),
        }
    }
}
