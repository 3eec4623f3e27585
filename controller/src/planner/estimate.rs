//! How long a rollout would take if nothing went wrong. A sum, not a promise: it says what it
//! adds up and what it leaves out.

use super::spec::pace::BUDGET_WINDOW_S;
use super::spec::{Opening, RolloutSpec};

/// Seconds ahead that are looked at: what takes longer is told as that.
const AHEAD_S_MAX: u64 = 90 * 24 * 3600;
const MINUTE_S: u64 = 60;

/// How long a rollout would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Seconds from now until the last device is done; `None` if it would not be within 90 days,
    /// or the byte budget ends before.
    pub total_s: Option<u64>,
    /// What was added up, in a sentence.
    pub how: String,
}

/// Sums up phases of so many devices each, if a device takes `device_s` seconds and costs
/// `bytes`. `source` says where `device_s` is from.
pub fn estimate(
    spec: &RolloutSpec,
    phases: &[usize],
    (device_s, source): (u64, &str),
    bytes: u64,
    now_s: u64,
) -> Estimate {
    let total = phases.iter().sum::<usize>();
    let mut how = format!("{device_s} s per device ({source})");
    let mut add = |word: &str| how = format!("{how}, {word}");
    add("what may be in flight at once");
    let soaks_s: u64 = spec.phases.iter().take(phases.len()).map(|p| p.soak_s).sum();
    if soaks_s > 0 {
        add("soak times");
    }
    if spec.rate.is_some() {
        add("the rate");
    }
    if spec.schedule != Default::default() {
        add("the schedule");
    }
    if spec.budget.per_day_bytes > 0 {
        add("the budget of a day");
    }
    how.push_str("; without failures, approvals, and devices that are away or held");
    if spec.budget.total_bytes > 0 && (total as u64).saturating_mul(bytes) > spec.budget.total_bytes
    {
        how.push_str("; the byte budget ends before the last device");
        return Estimate { total_s: None, how };
    }
    let mut at_s = now_s;
    let mut done = 0;
    for (phase, added) in phases.iter().enumerate() {
        let work_s = phase_s(spec, phase, total, done, *added, device_s, bytes);
        let Some(end_s) = work(spec, at_s, work_s, now_s.saturating_add(AHEAD_S_MAX)) else {
            return Estimate { total_s: None, how };
        };
        done += added;
        let soak_s = spec.phases.get(phase).map_or(0, |p| p.soak_s);
        at_s = end_s.saturating_add(if *added > 0 { soak_s } else { 0 });
    }
    Estimate { total_s: Some(at_s - now_s), how }
}

/// Seconds of open time that a phase of `added` devices takes.
fn phase_s(
    spec: &RolloutSpec,
    phase: usize,
    total: usize,
    done: usize,
    added: usize,
    device_s: u64,
    bytes: u64,
) -> u64 {
    if added == 0 {
        return 0;
    }
    let at_once = spec.unavailable_bound(phase, total);
    let by_slots_s = (added.div_ceil(at_once) as u64).saturating_mul(device_s);
    let by_rate_s = spec.rate.map_or(0, |rate| {
        let (mut minutes, mut left, mut confirmed) = (0, added, done);
        while left > 0 {
            let now = rate.at(confirmed).clamp(1, left);
            (left, confirmed, minutes) = (left - now, confirmed + now, minutes + 1);
        }
        (minutes - 1) * MINUTE_S + device_s
    });
    let by_day = match spec.budget.per_day_bytes.checked_div(bytes) {
        Some(devices @ 1..) if spec.budget.per_day_bytes > 0 => {
            ((done + added) as u64).div_ceil(devices) - (done as u64).div_ceil(devices).max(1)
        }
        _ => 0,
    };
    by_slots_s.max(by_rate_s) + by_day.saturating_mul(BUDGET_WINDOW_S)
}

/// When `work_s` seconds of open time are over that begin at `from_s`, if before `until_s`.
fn work(spec: &RolloutSpec, from_s: u64, work_s: u64, until_s: u64) -> Option<u64> {
    let (mut at_s, mut left_s) = (from_s, work_s);
    if spec.schedule.windows.is_empty() {
        let from_s = from_s.max(spec.schedule.not_before_s.unwrap_or(0));
        let end_s = from_s.saturating_add(work_s);
        let in_time = spec.schedule.not_after_s.is_none_or(|not_after_s| end_s <= not_after_s);
        return (in_time && end_s <= until_s).then_some(end_s);
    }
    while left_s > 0 {
        match spec.schedule.at(at_s) {
            Opening::Open => {
                let step_s = left_s.min(MINUTE_S - at_s % MINUTE_S);
                (left_s, at_s) = (left_s - step_s, at_s + step_s);
            }
            Opening::NotBefore(at) | Opening::OutsideWindow(Some(at)) => at_s = at,
            Opening::OutsideWindow(None) | Opening::Over(_) => return None,
        }
        if at_s > until_s {
            return None;
        }
    }
    Some(at_s)
}

#[cfg(test)]
mod tests {
    use super::super::spec::LocalWindow;
    use super::super::{Budget, PhaseSpec, Rate, Selector, Size};
    use super::*;
    use fleetway_protocol::ids::{Digest, ModelName, Version};

    /// Phases of 1, 9 and 90 devices that take 100 s each, two minutes past midnight on a Monday.
    #[test]
    fn the_sum_is_what_a_person_would_add_up() {
        let check = |change: fn(&mut RolloutSpec), expected: Option<u64>| {
            let names = (ModelName::new("digits").unwrap(), Version::new("v1").unwrap());
            let mut spec = RolloutSpec::new(names.0, Digest([1; 32]), names.1, Selector::all());
            spec.phases = [(1, 50), (10, 60)]
                .map(|(n, soak_s)| PhaseSpec::new(Size::Count(n), soak_s))
                .into();
            spec.max_unavailable = Size::Count(9);
            change(&mut spec);
            let spec = spec.checked().unwrap();
            let now_s = 4 * 24 * 3600 + 120;
            let sum = estimate(&spec, &[1, 9, 90], (100, "measured"), 10, now_s);
            assert_eq!(sum.total_s, expected, "{}", sum.how);
        };
        check(|_| {}, Some(100 + 50 + 100 + 60 + 1000));
        check(|s| s.max_unavailable = Size::Count(1), Some(100 + 50 + 900 + 60 + 9000));
        check(
            |s| s.rate = Some(Rate { per_minute: 3, ramp: None }),
            Some(100 + 50 + (2 * 60 + 100) + 60 + (29 * 60 + 100)),
        );
        let daily = 24 * 3600;
        check(
            |s| s.budget = Budget { per_day_bytes: 500, total_bytes: 0 },
            Some(100 + 50 + 100 + 60 + 1000 + daily),
        );
        check(|s| s.budget = Budget { per_day_bytes: 0, total_bytes: 999 }, None);
        check(|s| s.schedule.not_before_s = Some(4 * 24 * 3600 + 600), Some(480 + 1310));
        check(|s| s.schedule.not_after_s = Some(4 * 24 * 3600 + 600), None);
        // Open for ten minutes a day: the canary, its soak, and phase two fit, of the last phase
        // 170 s; 600 s are done on the second day, the rest on the third.
        check(
            |s| {
                let window = "daily 00:00-00:10".parse().unwrap();
                s.schedule.windows = vec![LocalWindow { window, zone: "UTC".to_owned() }];
            },
            Some(2 * 24 * 3600 + 230 - 120),
        );
    }
}
