//! `kill -9` at random moments in the middle of updates: fifty of agents, fifty of the
//! controller with its broker, fifty of Mosquitto. Nothing may be lost: every device ends
//! on the release ordered last, no application misses an answer from an agent that lives,
//! and every command that was acknowledged is in force.
//!
//! Moments are random within a state that is aimed at, and the aim is random too: with
//! small models most states last for milliseconds, and uniform moments would hit two of
//! them. What was really hit is looked up afterwards, counted, printed, and each state must
//! have been hit [`HITS_MIN`] times. `FLEETWAY_SEED` repeats the choices.

mod agents;
mod brokers;
mod states;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetway_tests::harness::together::report;

/// Kills of each kind of process.
const KILLS: usize = 50;
/// How often each state must have been hit.
const HITS_MIN: usize = 3;
/// Longest wait for a rollout to come right after kills, backoff included.
const WAIT: Duration = Duration::from_secs(120);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// Pause between two questions of an application.
const ASK: Duration = Duration::from_millis(25);
/// Pieces of a model, and a line on which they take about a second.
const CHUNKS: &str = "--chunk-bytes 1024";
const BYTES_PER_S: u64 = 30_000;

/// How often each state was hit.
#[derive(Debug, Default)]
struct Histogram(BTreeMap<&'static str, usize>);

impl Histogram {
    fn hit(&mut self, state: &'static str) {
        *self.0.entry(state).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(state, hits)| *self.0.entry(state).or_default() += hits);
    }

    /// Prints it, and fails if the kills were not where they should be.
    fn check(&self, who: &str, required: &[&'static str]) -> Result<()> {
        let sum: usize = self.0.values().sum();
        report(&format!("kill -9 of {who}: {sum} kills, by the state that was hit:"));
        for (state, hits) in &self.0 {
            report(&format!("  {state:<28} {hits:>3} {}", "#".repeat(*hits)));
        }
        ensure!(sum >= KILLS, "only {sum} of {KILLS} kills of {who}");
        for state in required {
            let hits = self.0.get(state).copied().unwrap_or(0);
            ensure!(hits >= HITS_MIN, "{state} was hit {hits} times only: the aim is bad");
        }
        Ok(())
    }
}
