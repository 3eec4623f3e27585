//! Where everybody stands, and why.

use std::collections::BTreeSet;

use fleetway_protocol::ids::{DeviceId, RolloutId};
use fleetway_protocol::machine::Phase;

use super::Why;
use super::cohort::{Cohort, Member, Standing, Tally, holds, is_aside, is_silent};
use super::facts::{
    Deployment, DeviceReport, Gate, Input, PausedBy, Plan, Previous, RolloutFacts, RolloutReport,
    RolloutState, Verdict,
};
use super::gate::judge;

/// Where everybody stands now, without deciding anything.
pub fn survey(input: &Input) -> Plan {
    let mut plan = Plan::default();
    report(input, &mut plan);
    plan
}

/// Where everybody stands, once the plan is carried out.
pub(super) fn report(input: &Input, plan: &mut Plan) {
    let holds = holds(input);
    let mut rollouts: Vec<&RolloutFacts> = input.rollouts.iter().collect();
    rollouts.sort_by_key(|r| r.id);
    let ordered: BTreeSet<_> = plan.orders.iter().map(|o| (o.rollout, &o.device)).collect();
    for rollout in rollouts {
        let cohort = Cohort::of(input, rollout, &holds);
        let tally = cohort.tally(input, rollout);
        for member in &cohort.members {
            let now = ordered.contains(&(rollout.id, member.id));
            plan.report.push(device_report(input, rollout, &tally, member, now));
        }
        plan.rollouts.push(rollout_report(input, rollout, &tally));
    }
}

fn rollout_report(input: &Input, rollout: &RolloutFacts, tally: &Tally) -> RolloutReport {
    let gate = match &rollout.state {
        RolloutState::Running { phase } => judge(input, rollout, tally, *phase),
        RolloutState::Paused { by: PausedBy::Operator, .. } => {
            Gate::Waiting("paused by an operator".to_owned())
        }
        RolloutState::Paused { by: PausedBy::Inconclusive(why), .. } => {
            Gate::Inconclusive(why.clone())
        }
        RolloutState::Halted { why, .. } => Gate::Fail(why.clone()),
        RolloutState::Aborted => Gate::Fail("aborted by an operator".to_owned()),
        RolloutState::Succeeded => Gate::Pass,
    };
    let Tally { total, offered, in_flight, silent, confirmed, failed, barred, .. } = *tally;
    RolloutReport {
        rollout: rollout.id,
        total,
        offered,
        in_flight,
        silent,
        confirmed,
        failed,
        barred,
        gate,
    }
}

fn device_report(
    input: &Input,
    rollout: &RolloutFacts,
    tally: &Tally,
    member: &Member<'_>,
    now: bool,
) -> DeviceReport {
    let model = member.device.and_then(|d| d.models.get(&rollout.spec.model));
    let why = match &member.standing {
        Standing::Offered(deployment) => why_offered(input, rollout, member, deployment, now),
        Standing::Out(why) => why.clone(),
        Standing::Later(_) | Standing::Movable => why_not_offered(rollout, tally, &member.standing),
    };
    DeviceReport {
        device: member.id.clone(),
        rollout: rollout.id,
        running: model.and_then(|m| m.running),
        phase: match &member.standing {
            Standing::Offered(deployment) => Some(deployment.phase),
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

fn why_not_offered(rollout: &RolloutFacts, tally: &Tally, standing: &Standing<'_>) -> Why {
    let phase = match rollout.state {
        RolloutState::Running { phase } => phase,
        RolloutState::Paused { .. } => return Why::Paused,
        RolloutState::Halted { .. } => return Why::Halted,
        RolloutState::Aborted => return Why::Aborted,
        RolloutState::Succeeded => return Why::Over,
    };
    if let Standing::Later(why) = standing {
        return why.clone();
    }
    let spec = &rollout.spec;
    if tally.offered >= spec.phase_bound(phase as usize, tally.total) {
        return Why::NotYourPhase { current: phase + 1, of: spec.phases.len() as u32 };
    }
    let max = spec.max_unavailable.bound_of(tally.total);
    Why::WaitingForSlot { in_flight: tally.moving(), max }
}

/// The order of a rollout's devices and where they stand, as a preview shows it.
pub(crate) fn preview(input: &Input, id: RolloutId) -> Preview {
    let mut preview = Preview::default();
    let Some(rollout) = input.rollouts.iter().find(|r| r.id == id) else { return preview };
    let cohort = Cohort::of(input, rollout, &holds(input));
    for member in cohort.members {
        match member.standing {
            Standing::Movable => preview.movable.push(member.id.clone()),
            Standing::Later(why) => preview.later.push((member.id.clone(), why)),
            Standing::Out(why) => preview.out.push((member.id.clone(), why)),
            Standing::Offered(_) => {}
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
