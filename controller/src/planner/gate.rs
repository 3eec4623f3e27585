//! The gate of a phase: pass, fail, wait, or unknown; and the state that follows.

use fleetway_protocol::ids::DeviceId;

use super::Why;
use super::allowance::allowance;
use super::cohort::{Round, Tally};
use super::facts::{Deployment, Gate, PausedBy, RolloutFacts, RolloutState, Verdict};
use super::look::{at_end, failed};
use super::spec::Opening;

/// The rollout's next state and why, if it is not the one it is in.
pub(super) fn next_state(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    tally: &Tally,
) -> Option<(RolloutState, String)> {
    let phase = match rollout.state {
        RolloutState::Running { phase } => phase,
        RolloutState::Paused { .. } | RolloutState::WaitingForApproval { .. } => {
            return too_many_failed(rollout, tally).map(|why| (halted(rollout, why.clone()), why));
        }
        _ => return None,
    };
    if round.release(&rollout.spec.release).is_none() {
        let why =
            format!("release {:.12} is not known any more; publish it again", rollout.spec.release);
        let by = PausedBy::Inconclusive(why.clone());
        return Some((RolloutState::Paused { phase, by }, why));
    }
    match judge(round, rollout, tally, phase) {
        Gate::Pass if phase as usize + 1 >= rollout.spec.phases.len() => {
            let why = format!("{} of {} devices confirmed", tally.confirmed, tally.offered);
            Some((RolloutState::Succeeded, why))
        }
        Gate::Pass => {
            let why = format!(
                "phase {} is good: {} of {} devices confirmed",
                phase + 1,
                tally.confirmed,
                tally.offered
            );
            let phase = phase + 1;
            let to = if rollout.spec.wants_approval(phase as usize) {
                RolloutState::WaitingForApproval { phase }
            } else {
                RolloutState::Running { phase }
            };
            Some((to, why))
        }
        Gate::Fail(why) => Some((halted(rollout, why.clone()), why)),
        Gate::Waiting(_) | Gate::Inconclusive(_) => {
            let why = out_of_time(round, rollout, tally)?;
            Some((halted(rollout, why.clone()), why))
        }
    }
}

/// Why a rollout ends whose time is over: what is in flight may still land, nobody follows.
fn out_of_time(round: &Round<'_>, rollout: &RolloutFacts, tally: &Tally) -> Option<String> {
    let Opening::Over(at_s) = rollout.spec.schedule.at(round.input.now_s) else { return None };
    (tally.in_flight == tally.retrying).then(|| {
        format!(
            "its time ended {}: {} of {} devices confirmed, the others were not offered it",
            super::why::time(at_s),
            tally.confirmed,
            tally.total
        )
    })
}

/// The state of a rollout that stops itself; it names the last device that failed.
fn halted(rollout: &RolloutFacts, why: String) -> RolloutState {
    let last = last_failure(rollout);
    let reason = last.and_then(|(_, d)| match d.verdict {
        Some(Verdict::Failed(reason) | Verdict::RolledBack(reason)) => Some(reason),
        _ => None,
    });
    RolloutState::Halted { why, device: last.map(|(device, _)| device.clone()), reason }
}

fn last_failure(rollout: &RolloutFacts) -> Option<(&DeviceId, &Deployment)> {
    let failed = |d: &Deployment| d.verdict.is_some_and(Verdict::is_failure);
    let failures = rollout.deployments.iter().filter(|(_, d)| failed(d));
    failures.max_by_key(|(device, d)| (d.verdict_s, *device))
}

fn too_many_failed(rollout: &RolloutFacts, tally: &Tally) -> Option<String> {
    let tolerated = rollout.spec.failures_max as usize;
    let of_phase = || {
        rollout.spec.phases.iter().zip(tally.failed_in).enumerate().find_map(
            |(at, (spec, failed))| {
                let tolerated = spec.failures_max? as usize;
                (failed > tolerated)
                    .then(|| format!("{failed} of phase {} failed, {tolerated} tolerated", at + 1))
            },
        )
    };
    let what = if tally.failed > tolerated {
        format!("{} failed, {tolerated} tolerated", tally.failed)
    } else {
        of_phase()?
    };
    let last = last_failure(rollout).map_or(String::new(), |(device, deployment)| {
        let why = match deployment.verdict {
            Some(Verdict::Failed(reason)) => Why::Failed(reason),
            Some(Verdict::RolledBack(reason)) => Why::RolledBack(reason),
            Some(Verdict::Late) => Why::Late,
            _ => Why::Silent,
        };
        format!("; last {device}: {why}")
    });
    Some(what + &last)
}

/// Share of a phase's devices that may be set aside, in percent: a phase that is judged by fewer
/// than half of its devices says little about the release.
const ASIDE_PERCENT_MAX: usize = 50;

/// Whether the current phase is good: by the numbers of devices, and by what the model does there.
pub(super) fn judge(round: &Round<'_>, rollout: &RolloutFacts, tally: &Tally, phase: u32) -> Gate {
    if let Some(why) = failed(round.input, rollout) {
        return Gate::Fail(why);
    }
    if tally.total == 0 && tally.barred > 0 {
        return Gate::Fail(format!(
            "the release is known to be bad on the hardware of all {} devices",
            tally.barred
        ));
    }
    match counted(round, rollout, tally, phase) {
        Gate::Pass => at_end(round.input, rollout, phase),
        other => other,
    }
}

/// Whether the current phase is good by the numbers of devices.
pub(super) fn counted(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    tally: &Tally,
    phase: u32,
) -> Gate {
    if let Some(why) = too_many_failed(rollout, tally) {
        return Gate::Fail(why);
    }
    let (input, spec) = (round.input, &rollout.spec);
    let Tally { offered, in_flight, aside, silent, confirmed, verdict_s, .. } = *tally;
    let bound = tally.bound(rollout, phase as usize);
    let size = bound.max(offered);
    let percent = spec.success_of(phase as usize);
    // What a later phase will ask and cannot get any more is lost now: nobody else is offered a
    // release that is about to be halted. With one share for all phases this is the current one.
    let lost = offered - confirmed - in_flight;
    for at in phase as usize..spec.phases.len() {
        let (size, percent) = (tally.bound(rollout, at).max(offered), spec.success_of(at));
        if size - lost < (size * percent).div_ceil(100) {
            return Gate::Fail(format!(
                "{confirmed} of {size} devices confirmed and {} failed; {percent}% must confirm",
                tally.failed
            ));
        }
    }
    if input.listening_since_s.is_none() {
        return Gate::Waiting("the controller is not connected to its broker".to_owned());
    }
    let is_last = phase as usize + 1 >= spec.phases.len();
    // The devices set aside are not waited for, and count for nothing either way: the others must
    // confirm as they would among themselves. The last phase has nobody to go on to, so it waits.
    let few_aside = aside * 100 <= size * ASIDE_PERCENT_MAX;
    let waited = if few_aside { size - aside } else { size };
    let needed = (waited * percent).div_ceil(100);
    let good = offered >= bound && confirmed >= needed && (in_flight == 0 || !is_last);
    let (soak_s, reporters_min) =
        spec.phases.get(phase as usize).map_or((0, 0), |p| (p.soak_s, p.reporters_min as usize));
    // No more than there are: a phase of which devices left ends all the same.
    let reporters = reporters_min.min(size);
    let left_s = verdict_s.saturating_add(soak_s).saturating_sub(input.now_s);
    match () {
        () if phase == 0 && !spec.canary.is_empty() && size == 0 && !is_last => {
            Gate::Inconclusive("none of the canaries that it names is left".to_owned())
        }
        () if good && tally.reported() < reporters => Gate::Waiting(format!(
            "{} of the {reporters} devices have reported that must",
            tally.reported()
        )),
        () if good && size > 0 && left_s > 0 => Gate::Waiting(format!("soaks for {left_s} s more")),
        () if good => Gate::Pass,
        () if silent > 0 => Gate::Inconclusive(format!(
            "{silent} of {in_flight} devices in flight are silent: unknown is not healthy"
        )),
        () if aside > 0 && !few_aside => Gate::Waiting(format!(
            "{aside} of {size} devices are held, too many to judge by the others; {confirmed} confirmed"
        )),
        () if aside > 0 => Gate::Waiting(format!(
            "{in_flight} in flight, {aside} of them held and set aside, {confirmed} confirmed"
        )),
        () if tally.retrying > 0 => Gate::Waiting(format!(
            "{in_flight} in flight, {} of them to be tried again, {confirmed} confirmed",
            tally.retrying
        )),
        () if in_flight > 0 => {
            Gate::Waiting(format!("{in_flight} in flight, {confirmed} confirmed"))
        }
        () => {
            let left = bound.saturating_sub(offered);
            let why = match allowance(round, rollout, tally, phase as usize) {
                brake if brake.orders == 0 => format!(": {}", brake.why),
                _ => String::new(),
            };
            Gate::Waiting(format!("{left} of {bound} devices cannot be offered it yet{why}"))
        }
    }
}
