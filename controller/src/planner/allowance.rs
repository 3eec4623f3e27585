//! How many devices a running rollout may offer its release to now, and what keeps the next one
//! waiting. Whoever offers and whoever explains asks here, so that they agree.

use super::Why;
use super::cohort::{Round, Tally};
use super::facts::RolloutFacts;
use super::spec::Opening;
use super::spec::pace::RATE_WINDOW_S;

/// What may move now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Orders, to whomever.
    pub(super) orders: usize,
    /// Of these, to devices that were never offered the release.
    pub(super) new: usize,
    /// What keeps the next device waiting.
    pub(super) why: Why,
}

/// What a rollout in `phase` (from 0) may do now.
pub(super) fn allowance(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    tally: &Tally,
    phase: usize,
) -> Allowance {
    let (spec, now_s) = (&rollout.spec, round.input.now_s);
    let closed = |why| Allowance { orders: 0, new: 0, why };
    match spec.schedule.at(now_s) {
        Opening::Open => {}
        Opening::NotBefore(at_s) => return closed(Why::NotBefore { at_s }),
        Opening::OutsideWindow(opens_s) => return closed(Why::OutsideWindow { opens_s }),
        Opening::Over(at_s) => return closed(Why::ScheduleOver { at_s }),
    }
    let max = spec.unavailable_bound(phase, tally.total);
    let mut orders = max.saturating_sub(tally.moving());
    let mut why = Why::WaitingForSlot { in_flight: tally.moving(), max };
    let mut narrow = |to: usize, because: Why| {
        if to < orders {
            (orders, why) = (to, because);
        }
    };
    if let Some(rate) = spec.rate {
        // What is in the future by a clock that was set back counts as well.
        let recent = |ordered_s: u64| now_s < ordered_s.saturating_add(RATE_WINDOW_S);
        let used = rollout.deployments.values().filter(|d| recent(d.ordered_s)).count();
        let per_minute = rate.at(tally.confirmed);
        narrow(per_minute.saturating_sub(used), Why::RateLimited { per_minute });
    }
    let bytes = bytes_of(round, rollout);
    if let Some(room) = spec.budget.room(bytes, now_s, rollout.deployments.values()) {
        narrow(room, Why::OverBudget { bytes });
    }
    let room = tally.bound(rollout, phase).saturating_sub(tally.offered);
    if room < orders || room == 0 {
        let (current, of) = (phase as u32 + 1, spec.phases.len() as u32);
        why = Why::NotYourPhase { current, of };
    }
    Allowance { orders, new: room.min(orders), why }
}

/// What a device that has nothing of the release fetches; 0 while the release is not known.
pub(super) fn bytes_of(round: &Round<'_>, rollout: &RolloutFacts) -> u64 {
    round.release(&rollout.spec.release).map_or(0, |release| release.bytes)
}
