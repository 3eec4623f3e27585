//! How fast a rollout goes: devices per minute, bytes, and when a device is tried again.
//!
//! All of it is arithmetic over facts. There is no randomness: a device's share of a wait is a
//! stable hash of its name, so that a thousand devices that failed together do not come back
//! together, and the same journal still gives the same plan.

use fleetway_protocol::ids::{DeviceId, RolloutId};
use fleetway_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use super::super::cohort::bucket;
use super::super::facts::{Deployment, Verdict};

/// Seconds over which a rate is counted.
pub const RATE_WINDOW_S: u64 = 60;
/// Seconds over which a daily byte budget is counted: the last day, whichever hour it is.
pub const BUDGET_WINDOW_S: u64 = 24 * 3600;
/// Tries beyond the first. A device that failed six times needs a person.
pub const RETRIES_MAX: u32 = 5;
/// Seconds before the first further try, at most. Each further one waits twice as long.
pub const RETRY_WAIT_S_MAX: u64 = 7 * 24 * 3600;
/// A factor of one, in thousandths.
const ONE_PERMILLE: u32 = 1000;

/// Devices offered the release in a minute, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At the beginning.
    pub per_minute: u32,
    /// How it grows, if it does.
    pub ramp: Option<Ramp>,
}

/// A rate that grows with what was confirmed, never with time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// The rate is multiplied by this, in thousandths, from 1001.
    pub factor_permille: u32,
    /// Each time that so many further devices confirmed.
    pub every: u32,
    /// And stays there, per minute.
    pub per_minute_max: u32,
}

impl Rate {
    /// Devices per minute once `confirmed` devices confirmed. Rounded down.
    pub fn at(self, confirmed: usize) -> usize {
        let Some(ramp) = self.ramp else { return self.per_minute as usize };
        let (max, factor) = (u64::from(ramp.per_minute_max), u64::from(ramp.factor_permille));
        let one = u64::from(ONE_PERMILLE);
        let mut rate_milli = u64::from(self.per_minute) * one;
        for _ in 0..confirmed / (ramp.every.max(1) as usize) {
            if rate_milli >= max * one {
                break;
            }
            // At least one thousandth more: it ends.
            rate_milli = (rate_milli.saturating_mul(factor) / one).max(rate_milli + 1);
        }
        (rate_milli / one).min(max) as usize
    }

    pub(super) fn is_sane(self) -> bool {
        let grows = |ramp: Ramp| {
            ramp.factor_permille > ONE_PERMILLE
                && ramp.every > 0
                && ramp.per_minute_max >= self.per_minute
        };
        self.per_minute > 0 && self.ramp.is_none_or(grows)
    }
}

/// Bytes that may be fetched on behalf of a rollout. 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// In any day.
    pub per_day_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

impl Budget {
    /// Devices that may still be offered a release of `bytes`, `None` without a bound. What was
    /// offered counts in full, whatever became of it: bytes that were fetched are spent.
    pub(in super::super) fn room<'a>(
        self,
        bytes: u64,
        now_s: u64,
        deployments: impl Iterator<Item = &'a Deployment>,
    ) -> Option<usize> {
        if self == Self::default() || bytes == 0 {
            return None;
        }
        let (mut day, mut total) = (0, 0);
        for deployment in deployments {
            let tries = u64::from(deployment.attempts) + 1;
            total += tries;
            if now_s < deployment.ordered_s.saturating_add(BUDGET_WINDOW_S) {
                day += tries;
            }
        }
        let left = |budget: u64, used: u64| match budget {
            0 => u64::MAX,
            budget => (budget / bytes).saturating_sub(used),
        };
        let left = left(self.per_day_bytes, day).min(left(self.total_bytes, total));
        (left < u64::MAX).then(|| usize::try_from(left).unwrap_or(usize::MAX))
    }
}

/// What a device may have done wrong to be tried again. A verdict on the release itself is not
/// among them: the device has poisoned it, and would refuse the same bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryOn {
    /// It was silent for too long.
    Silent,
    /// It spoke, and was not done in time.
    Late,
    /// It had no metadata, keys or order that it could trust: old, missing or refused.
    Trust,
    /// The device itself could not: no room, no sandbox, storage that rots.
    Device,
}

impl RetryOn {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::Late, Self::Trust, Self::Device];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Trust => "trust",
            Self::Device => "device",
        }
    }

    /// Of which kind a verdict is, if it is of any.
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Silent => Some(Self::Silent),
            Verdict::Late => Some(Self::Late),
            Verdict::Failed(
                Reason::Untrusted
                | Reason::Expired
                | Reason::NotReleased
                | Reason::MetadataExpired
                | Reason::MetadataMissing,
            ) => Some(Self::Trust),
            Verdict::Failed(
                Reason::SandboxTooWeak
                | Reason::Corrupt
                | Reason::Network
                | Reason::DiskFull
                | Reason::DiskError
                | Reason::Environment,
            ) => Some(Self::Device),
            _ => None,
        }
    }
}

/// When a device that failed is offered the release again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries beyond the first, from 1.
    pub times: u32,
    /// Seconds before the first of them; each further one waits twice as long. On top of that
    /// comes up to as much again, by a stable hash of the device.
    pub wait_s: u64,
    /// After which kinds of failure.
    pub on: Vec<RetryOn>,
}

impl Retry {
    /// When the next try is due, Unix seconds; `None` if there is none.
    pub(in super::super) fn due_s(
        &self,
        rollout: RolloutId,
        device: &DeviceId,
        deployment: &Deployment,
    ) -> Option<u64> {
        let kind = RetryOn::of(deployment.verdict?)?;
        if deployment.attempts >= self.times || deployment.reverted || !self.on.contains(&kind) {
            return None;
        }
        let wait_s = self.wait_s << deployment.attempts.min(RETRIES_MAX);
        // Another share at each try.
        let share = bucket(rollout ^ (u64::from(deployment.attempts) << 32), device);
        Some(deployment.verdict_s.saturating_add(wait_s + share % wait_s.max(1)))
    }

    pub(super) fn is_sane(&self) -> bool {
        (1..=RETRIES_MAX).contains(&self.times)
            && (1..=RETRY_WAIT_S_MAX).contains(&self.wait_s)
            && !self.on.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_grows_with_what_confirmed_and_stops() {
        let ramp = Ramp { factor_permille: 1500, every: 10, per_minute_max: 40 };
        let rate = Rate { per_minute: 10, ramp: Some(ramp) };
        let at = |confirmed| rate.at(confirmed);
        assert_eq!([0, 9, 10, 20, 30, 39, 40, 1_000_000].map(at), [10, 10, 15, 22, 33, 33, 40, 40]);
        assert_eq!(Rate { per_minute: 7, ramp: None }.at(1_000_000), 7);
    }
}
