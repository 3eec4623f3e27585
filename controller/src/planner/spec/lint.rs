//! What is legal and unwise in a specification, and why. Nothing here is refused: an operator may
//! have a reason. What depends on the fleet is said by the plan.

use super::{Membership, OnAbort, RolloutSpec, Size};

/// Devices of a first phase that are enough to be called everybody.
const CANARY_PERCENT_MAX: u8 = 50;

/// Something that an operator should think about twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwise {
    /// Which field, as [`SpecError::field`](super::SpecError::field) names it.
    pub field: Vec<String>,
    /// What, and why.
    pub text: String,
}

/// What is unwise in a checked specification.
pub fn unwise(spec: &RolloutSpec) -> Vec<Unwise> {
    let mut found = Vec::new();
    let mut say = |field: &[&str], text: String| {
        found.push(Unwise { field: field.iter().map(|key| (*key).to_owned()).collect(), text });
    };
    phases(spec, &mut say);
    times(spec, &mut say);
    if spec.failures_max > 0 && spec.success_percent_min == 100 {
        say(
            &["failures_max"],
            format!(
                "{} failures are tolerated, but 100% must confirm: the first failure stops the rollout; lower the share",
                spec.failures_max
            ),
        );
    }
    if spec.max_unavailable == Size::Percent(100) {
        say(&["max_unavailable"], "every device may be on the move at once: a bad release meets them all before the first verdict of a phase".into());
    }
    if spec.on_abort == OnAbort::Keep {
        say(&["on_abort"], "an abort leaves the release on devices that are trying it: who aborts because it is bad must undo it by another rollout".into());
    }
    if spec.membership == Membership::Snapshot && spec.selector.asks_release() {
        say(&["membership"], "the devices are those that run that release at the start; ones that get it later by another rollout are not among them".into());
    }
    found
}

fn phases(spec: &RolloutSpec, say: &mut impl FnMut(&[&str], String)) {
    if spec.phases.len() == 1 {
        return say(&["phase"], "there is no canary: all devices are in the first phase, and a bad release is stopped by max_unavailable alone".into());
    }
    if let Size::Percent(percent) = spec.phases[0].size
        && percent > CANARY_PERCENT_MAX
    {
        say(
            &["phase", "0", "size"],
            format!(
                "a canary of {percent}% is most of the fleet: what it finds, most devices have suffered"
            ),
        );
    }
    let last = spec.phases.len() - 1;
    for (at, phase) in spec.phases.iter().enumerate() {
        let number = at.to_string();
        if at < last && phase.soak_s == 0 {
            say(
                &["phase", &number, "soak"],
                format!(
                    "phase {} has no soak time: the next one begins with its last verdict, before anything slow can show",
                    at + 1
                ),
            );
        }
        if let (Size::Count(n), Some(tolerated)) = (phase.size, phase.failures_max)
            && tolerated >= n
        {
            say(
                &["phase", &number, "failures_max"],
                format!(
                    "phase {} has {n} devices and tolerates {tolerated} failures: it cannot fail",
                    at + 1
                ),
            );
        }
        let of_phase = phase.failures_max.unwrap_or(0);
        if of_phase > spec.failures_max {
            say(
                &["phase", &number, "failures_max"],
                format!(
                    "phase {} tolerates {of_phase} failures, the rollout {}: the smaller one stops it",
                    at + 1,
                    spec.failures_max
                ),
            );
        }
    }
}

fn times(spec: &RolloutSpec, say: &mut impl FnMut(&[&str], String)) {
    let schedule = &spec.schedule;
    let soaks_s: u64 = spec.phases.iter().map(|phase| phase.soak_s).sum();
    if let (Some(from_s), Some(to_s)) = (schedule.not_before_s, schedule.not_after_s)
        && to_s - from_s <= soaks_s
    {
        say(
            &["schedule", "not_after"],
            format!(
                "the schedule is open for {} s and the soak times alone take {soaks_s} s: the last phase is never reached",
                to_s - from_s
            ),
        );
    }
    let probation_s = u64::from(spec.terms.probation_s);
    for (at, window) in schedule.windows.iter().enumerate() {
        let number = at.to_string();
        let minutes = (u32::from(window.window.to_min) + 24 * 60
            - u32::from(window.window.from_min))
            % (24 * 60);
        let open_s = if minutes == 0 { 24 * 3600 } else { u64::from(minutes) * 60 };
        if open_s < probation_s {
            say(
                &["schedule", "window", &number],
                format!(
                    "window {} is open for {open_s} s, a device's probation takes {probation_s} s: no phase ends in the window that it begins in",
                    at + 1
                ),
            );
        }
    }
    if spec.deadline_s > 0 && spec.deadline_s <= probation_s {
        say(
            &["deadline"],
            format!(
                "a device must be done {} s after its order, and its probation alone takes {probation_s} s: every device is late",
                spec.deadline_s
            ),
        );
    }
    let waits = spec.retry.as_ref().map_or(0, |retry| retry.wait_s << retry.times);
    if waits > 7 * 24 * 3600 {
        say(
            &["retry", "wait"],
            "the last try comes more than a week after the first: the phase waits for it".into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LocalWindow, PhaseSpec, Retry, RetryOn};
    use super::*;
    use crate::planner::Selector;
    use fleetway_protocol::ids::{Digest, ModelName, Version};

    /// Each change alone, and the one thing that is said about it.
    #[test]
    fn what_is_unwise_is_said_once_with_its_reason() {
        let plain = || {
            let names = (ModelName::new("digits").unwrap(), Version::new("v1").unwrap());
            RolloutSpec::new(names.0, Digest([1; 32]), names.1, Selector::all())
        };
        assert_eq!(unwise(&plain().checked().unwrap()), []);
        let check = |change: fn(&mut RolloutSpec), field: &str, says: &str| {
            let mut spec = plain();
            change(&mut spec);
            let found = unwise(&spec.checked().unwrap());
            let found: Vec<_> = found.iter().map(|u| (u.field.join("."), &u.text)).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == field && found[0].1.contains(says), "{found:?}");
        };
        check(|s| s.phases.clear(), "phase", "no canary");
        check(
            |s| (s.phases[0].size, s.phases[1].size) = (Size::Percent(60), Size::Percent(80)),
            "phase.0.size",
            "canary of 60%",
        );
        check(|s| s.phases[1].soak_s = 0, "phase.1.soak", "phase 2 has no soak");
        check(
            |s| s.phases = [100, 100].map(|p| PhaseSpec::new(Size::Percent(p), 600)).into(),
            "phase.0.size",
            "canary of 100%",
        );
        check(|s| s.failures_max = 1, "failures_max", "100% must confirm");
        check(|s| s.max_unavailable = Size::Percent(100), "max_unavailable", "on the move");
        check(|s| s.on_abort = OnAbort::Keep, "on_abort", "leaves the release");
        check(
            |s| {
                s.membership = Membership::Snapshot;
                s.selector = "release=v0".parse().unwrap();
            },
            "membership",
            "at the start",
        );
        check(
            |s| (s.schedule.not_before_s, s.schedule.not_after_s) = (Some(1000), Some(2000)),
            "schedule.not_after",
            "never reached",
        );
        check(
            |s| {
                let window = "daily 01:00-01:05".parse().unwrap();
                s.terms.probation_s = 600;
                s.schedule.windows = vec![LocalWindow { window, zone: "UTC".to_owned() }];
            },
            "schedule.window.0",
            "open for 300 s",
        );
        check(|s| (s.terms.probation_s, s.deadline_s) = (600, 600), "deadline", "is late");
        check(
            |s| s.retry = Some(Retry { times: 5, wait_s: 86_400, on: vec![RetryOn::Silent] }),
            "retry.wait",
            "a week",
        );
        check(
            |s| {
                (s.success_percent_min, s.failures_max) = (50, 1);
                s.phases[0].failures_max = Some(1);
            },
            "phase.0.failures_max",
            "cannot fail",
        );
    }
}
