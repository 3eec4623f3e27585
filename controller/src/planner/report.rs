//! Where everybody stands, and why.

use std::collections::{BTreeMap, HashSet};

use fleetway_protocol::ids::{DeviceId, RolloutId};
use fleetway_protocol::machine::Phase;

use super::Why;
use super::allowance::allowance;
use super::cohort::{Again, Cohort, Member, Round, Standing, Tally, is_aside, is_silent};
use super::facts::{
    Deployment, DeviceReport, Gate, Input, PausedBy, Plan, Previous, RolloutFacts, RolloutReport,
    RolloutState, Verdict,
};
use super::gate::judge;
use super::plan::Cohorts;

/// Where everybody stands now, without deciding anything.
pub fn survey(input: &Input) -> Plan {
    let mut plan = Plan::default();
    report(&Round::new(input), Vec::new(), &mut plan);
    plan
}

/// Where everybody stands, once the plan is carried out; `cohorts` are those that are known already.
pub(super) fn report(round: &Round<'_>, cohorts: Cohorts<'_>, plan: &mut Plan) {
    let input = round.input;
    let mut cohorts: BTreeMap<_, _> =
        cohorts.into_iter().map(|(r, cohort)| (r.id, cohort)).collect();
    let mut rollouts: Vec<&RolloutFacts> = input.rollouts.iter().collect();
    rollouts.sort_by_key(|r| r.id);
    let ordered: HashSet<_> = plan.orders.iter().map(|o| (o.rollout, &o.device)).collect();
    for rollout in rollouts {
        let known = cohorts.remove(&rollout.id);
        let cohort = known.unwrap_or_else(|| Cohort::of(round, rollout));
        let waits = why_not_offered(round, rollout, &cohort.tally);
        plan.report.reserve(cohort.members.len());
        for member in &cohort.members {
            let now = ordered.contains(&(rollout.id, member.id));
            plan.report.push(device_report(input, rollout, &waits, member, now));
        }
        plan.rollouts.push(rollout_report(round, rollout, &cohort.tally));
    }
}

fn rollout_report(round: &Round<'_>, rollout: &RolloutFacts, tally: &Tally) -> RolloutReport {
    let gate = match &rollout.state {
        RolloutState::Running { phase } => judge(round, rollout, tally, *phase),
        RolloutState::Paused { by: PausedBy::Operator, .. } => {
            Gate::Waiting("paused by an operator".to_owned())
        }
        RolloutState::Paused { by: PausedBy::Inconclusive(why), .. } => {
            Gate::Inconclusive(why.clone())
        }
        RolloutState::Halted { why, .. } => Gate::Fail(why.clone()),
        RolloutState::Aborted => Gate::Fail("aborted by an operator".to_owned()),
        RolloutState::Succeeded => Gate::Pass,
        RolloutState::WaitingForApproval { phase } => {
            Gate::Waiting(format!("phase {} waits until somebody approves it", phase + 1))
        }
    };
    let Tally { total, late, offered, in_flight, silent, retrying, .. } = *tally;
    let Tally { confirmed, failed, barred, .. } = *tally;
    RolloutReport {
        rollout: rollout.id,
        total,
        late,
        offered,
        in_flight,
        silent,
        retrying,
        confirmed,
        failed,
        barred,
        gate,
    }
}

fn device_report(
    input: &Input,
    rollout: &RolloutFacts,
    waits: &Waits,
    member: &Member<'_>,
    now: bool,
) -> DeviceReport {
    let model = member.device.and_then(|d| d.models.get(&rollout.spec.model));
    let why = match &member.standing {
        Standing::Offered(deployment) => why_offered(input, rollout, member, deployment, now),
        Standing::Out(why) => why.clone(),
        Standing::Retrying(deployment, again) => why_retrying(rollout, deployment, *again),
        // What the device waits for says more than what its rollout waits for, while it runs.
        Standing::Later(why) if waits.running => why.clone(),
        Standing::Later(_) | Standing::Movable if member.late => waits.late.clone(),
        Standing::Later(_) | Standing::Movable => waits.on_time.clone(),
    };
    DeviceReport {
        device: member.id.clone(),
        rollout: rollout.id,
        running: model.and_then(|m| m.running),
        phase: match &member.standing {
            Standing::Offered(deployment) | Standing::Retrying(deployment, _) => {
                Some(deployment.phase)
            }
            _ => None,
        },
        why,
    }
}

fn why_offered(
    input: &Input,
    rollout: &RolloutFacts,
    member: &Member<'_>,
    deployment: &Deployment,
    now: bool,
) -> Why {
    let model = member.device.and_then(|d| d.models.get(&rollout.spec.model));
    if deployment.reverted {
        let runs = model.and_then(|m| m.running);
        let back = match deployment.previous {
            Previous::Release(digest) => runs == Some(digest),
            Previous::Nothing => runs.is_none(),
            Previous::Unknown => true,
        };
        return if back && !now { Why::Reverted } else { Why::Reverting };
    }
    match deployment.verdict {
        Some(Verdict::Confirmed) => Why::Confirmed,
        Some(Verdict::Failed(reason)) => Why::Failed(reason),
        Some(Verdict::RolledBack(reason)) => Why::RolledBack(reason),
        Some(Verdict::Silent) => Why::Silent,
        Some(Verdict::Left) => Why::Left,
        Some(Verdict::Late) => Why::Late,
        None if now => Why::Ordered,
        None => match is_silent(input, rollout, member.device, deployment) {
            Some(quiet_s) => {
                Why::SilentInProgress { quiet_s, timeout_s: rollout.spec.device_timeout_s }
            }
            None => match model.filter(|m| m.phase == Phase::Held).and_then(|m| m.held) {
                Some(held) => {
                    Why::Held { held, aside: is_aside(input, rollout, member.device, deployment) }
                }
                None => Why::InProgress {
                    phase: model.map_or(Phase::Idle, |m| m.phase),
                    waiting: model.and_then(|m| m.waiting),
                },
            },
        },
    }
}

fn why_retrying(rollout: &RolloutFacts, deployment: &Deployment, again: Again) -> Why {
    Why::Retrying {
        due_s: again.due_s,
        attempt: deployment.attempts + 2,
        of: rollout.spec.retry.as_ref().map_or(0, |retry| retry.times) + 1,
        reason: match deployment.verdict {
            Some(Verdict::Failed(reason)) => Some(reason),
            _ => None,
        },
    }
}

/// Why the devices of a rollout wait that could move.
struct Waits {
    running: bool,
    on_time: Why,
    /// Those that came after the start.
    late: Why,
}

fn why_not_offered(round: &Round<'_>, rollout: &RolloutFacts, tally: &Tally) -> Waits {
    let same = |why: Why| Waits { running: false, on_time: why.clone(), late: why };
    let phase = match rollout.state {
        RolloutState::Running { phase } => phase,
        RolloutState::Paused { .. } => return same(Why::Paused),
        RolloutState::Halted { .. } => return same(Why::Halted),
        RolloutState::Aborted => return same(Why::Aborted),
        RolloutState::Succeeded => return same(Why::Over),
        RolloutState::WaitingForApproval { .. } => return same(Why::WaitingForApproval),
    };
    let of = rollout.spec.phases.len() as u32;
    let on_time = allowance(round, rollout, tally, phase as usize).why;
    let late =
        if phase + 1 < of { Why::NotYourPhase { current: phase + 1, of } } else { on_time.clone() };
    Waits { running: true, on_time, late }
}

/// The order of a rollout's devices and where they stand, as a preview shows it.
pub(crate) fn preview(input: &Input, id: RolloutId) -> Preview {
    let mut preview = Preview::default();
    let Some(rollout) = input.rollouts.iter().find(|r| r.id == id) else { return preview };
    let cohort = Cohort::of(&Round::new(input), rollout);
    for member in cohort.members {
        match member.standing {
            Standing::Movable => preview.movable.push(member.id.clone()),
            Standing::Later(why) => preview.later.push((member.id.clone(), why)),
            Standing::Out(why) => preview.out.push((member.id.clone(), why)),
            Standing::Offered(_) | Standing::Retrying(..) => {}
        }
    }
    preview
}

/// What [`preview`] finds.
#[derive(Default)]
pub(crate) struct Preview {
    /// In the order in which they are offered the release.
    pub(crate) movable: Vec<DeviceId>,
    /// Part of the rollout, not movable now.
    pub(crate) later: Vec<(DeviceId, Why)>,
    /// Not part of it.
    pub(crate) out: Vec<(DeviceId, Why)>,
}
