//! When gates are looked at, and how much each look may err.
//!
//! Looking at the same growing evidence every second until it fails would halt almost every good
//! rollout in the end. So one allowance of false halts per rollout is spent over its looks (Lan and
//! DeMets, 1983, Biometrika 70:659, in its plainest form: look `k` may err with
//! `ALLOWANCE / (k * (k + 1))`, which adds up to the allowance however many looks there are). By
//! Boole's inequality that holds whatever the looks have in common, which a sequential test
//! (mSPRT, confidence sequences) buys with a martingale that counters of the same few devices are
//! not. Looks come at times that grow by half, and once at each phase's end: some twenty in a day.

use serde::{Deserialize, Serialize};

use super::Looked;

/// Probability that a rollout that is no worse is ever halted by its gates.
pub(super) const ALLOWANCE: f64 = 0.05;
/// Seconds from the rollout's start to the first look, and between two looks at least.
const FIRST_S: u64 = 60;

/// What was looked at so far. Durable with the rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// The phase at whose end was looked last, from 0.
    pub phase: Option<u32>,
    /// The newest look.
    pub last: Option<Looked>,
}

impl Looks {
    /// The next look's number, from 1.
    pub fn next(&self) -> u32 {
        self.last.as_ref().map_or(0, |last| last.number).saturating_add(1)
    }
}

/// Probability with which look `number` (from 1) may fail a rollout that is no worse.
pub fn allowance(number: u32) -> f64 {
    let number = f64::from(number.max(1));
    ALLOWANCE / (number * (number + 1.0))
}

/// Whether a look is due at `now_s` by time alone, of a rollout whose first device was ordered at
/// `since_s`: half as long again after the one before. Unix seconds.
pub fn is_due(looks: &Looks, since_s: u64, now_s: u64) -> bool {
    let age_s = |at_s: u64| at_s.saturating_sub(since_s);
    let next_s = match &looks.last {
        None => FIRST_S,
        Some(last) => (age_s(last.at_s) + age_s(last.at_s) / 2).max(age_s(last.at_s) + FIRST_S),
    };
    age_s(now_s) >= next_s
}
