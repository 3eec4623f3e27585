//! The plan itself: one step, repeated until it changes nothing.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::machine::Phase;

use super::allowance::allowance;
use super::check::check;
use super::cohort::{Cohort, Round, is_aside, is_silent, previous_of};
use super::facts::{
    Assignment, Change, Deployment, DeviceFacts, Input, KnownBad, ModelFacts, Plan, Previous,
    RolloutFacts, RolloutState, Verdict, Wish,
};
use super::gate::next_state;
use super::look::{bad_classes, look_at};
use super::report::report;
use super::spec::OnAbort;

/// What to do now, and why not more. Applying it and planning again gives nothing new.
pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan::default();
    let mut work = Cow::Borrowed(input);
    // Ends: a device is offered a release a bounded number of times per rollout, phases only
    // rise, what is over stays over.
    loop {
        let round = Round::new(&work);
        let (mut next, cohorts) = step(&round);
        if next.orders.is_empty() && next.changes.is_empty() {
            report(&round, cohorts, &mut plan);
            return plan;
        }
        apply(work.to_mut(), &next);
        plan.orders.append(&mut next.orders);
        plan.changes.append(&mut next.changes);
    }
}

/// [`plan`], held to [`check`].
///
/// # Panics
/// If the plan is not sane: a bug, and no device shall hear of it.
pub fn plan_and_check(input: &Input) -> Plan {
    let plan = plan(input);
    let sane = check(input, &plan);
    assert!(sane.is_ok(), "the planner made a plan that is not sane: {sane:?}");
    plan
}

/// What the facts are once the plan is carried out.
pub fn apply(input: &mut Input, plan: &Plan) {
    for change in &plan.changes {
        match change {
            Change::TimedOut { rollout, device, verdict } => {
                let found = input.rollouts.iter_mut().find(|r| r.id == *rollout);
                if let Some(deployment) = found.and_then(|r| r.deployments.get_mut(device)) {
                    deployment.verdict = Some(*verdict);
                    deployment.verdict_s = input.now_s;
                }
            }
            Change::State { rollout, to, .. } => {
                if let Some(found) = input.rollouts.iter_mut().find(|r| r.id == *rollout) {
                    found.state = to.clone();
                }
            }
            Change::Looked { rollout, ended, looked } => {
                if let Some(found) = input.rollouts.iter_mut().find(|r| r.id == *rollout) {
                    found.looks.phase = ended.or(found.looks.phase);
                    found.looks.last = Some(looked.clone());
                }
            }
            Change::Bad(bad) => {
                let same = |b: &KnownBad| b.release == bad.release && b.class == bad.class;
                input.known_bad.retain(|b| !same(b));
                input.known_bad.push(bad.clone());
            }
        }
    }
    let mut orders: HashMap<&DeviceId, Vec<&Assignment>> = HashMap::new();
    for order in &plan.orders {
        orders.entry(&order.device).or_default().push(order);
    }
    for device in &mut input.devices {
        for order in orders.get(&device.id).into_iter().flatten() {
            let models = Arc::make_mut(&mut device.models);
            let model = models.entry(order.model.clone()).or_insert(ModelFacts {
                reported: false,
                running: None,
                floor: 0,
                phase: Phase::Idle,
                waiting: None,
                held: None,
                assigned: None,
            });
            match order.wish {
                Wish::Run(digest) | Wish::Rollback(digest) | Wish::Remove(digest) => {
                    model.assigned = Some((order.rollout, digest));
                }
                // It stays with the rollout that had it last.
                Wish::Withdraw => {}
            }
        }
    }
    for order in &plan.orders {
        if let Some(rollout) = input.rollouts.iter_mut().find(|r| r.id == order.rollout) {
            note_order(rollout, order, input.now_s);
        }
    }
}

fn note_order(rollout: &mut RolloutFacts, order: &Assignment, now_s: u64) {
    let before = rollout.deployments.get(&order.device);
    let after = deployment_after(order, before, now_s);
    rollout.deployments.extend(after.map(|deployment| (order.device.clone(), deployment)));
}

/// A device's deployment once an order is out: begun, begun again, or turned back.
pub(crate) fn deployment_after(
    order: &Assignment,
    before: Option<&Deployment>,
    now_s: u64,
) -> Option<Deployment> {
    let Wish::Run(release) = order.wish else {
        return before.map(|deployment| Deployment { reverted: true, ..deployment.clone() });
    };
    let begun = Deployment {
        release,
        ordered_s: now_s,
        phase: order.phase,
        previous: order.previous,
        verdict: None,
        verdict_s: 0,
        reverted: false,
        attempts: 0,
    };
    // One that left and came back is a new device.
    Some(match before.filter(|d| d.verdict != Some(Verdict::Left)) {
        Some(before) => Deployment { attempts: before.attempts.saturating_add(1), ..begun },
        None => begun,
    })
}

/// Open rollouts with their devices.
pub(super) type Cohorts<'a> = Vec<(&'a RolloutFacts, Cohort<'a>)>;

/// Verdicts by time, else state changes, else the orders of the rollout that goes first: the one
/// of the highest priority, of these the newest. If there is none of these, the cohorts are those of
/// every open rollout.
fn step<'a>(round: &Round<'a>) -> (Plan, Cohorts<'a>) {
    let (input, mut plan) = (round.input, Plan::default());
    let mut rollouts: Vec<&RolloutFacts> = input.rollouts.iter().collect();
    rollouts.sort_by_key(|r| Reverse((r.spec.priority, r.id)));
    for rollout in &rollouts {
        timed_out(round, rollout, &mut plan);
    }
    // Before anybody is offered anything: who goes back changes who is still to move.
    for rollout in rollouts.iter().filter(|r| r.state == RolloutState::Aborted) {
        revert(input, rollout, &mut plan);
    }
    if !(plan.changes.is_empty() && plan.orders.is_empty()) {
        return (plan, Vec::new());
    }
    let active = rollouts.iter().filter(|r| r.state.is_open());
    let cohorts: Cohorts<'_> = active.map(|r| (*r, Cohort::of(round, r))).collect();
    for (rollout, cohort) in &cohorts {
        plan.changes.extend(bad_classes(input, rollout));
        plan.changes.extend(look_at(round, rollout, &cohort.tally));
    }
    if !plan.changes.is_empty() {
        return (plan, cohorts);
    }
    for (rollout, cohort) in &cohorts {
        if let Some((to, why)) = next_state(round, rollout, &cohort.tally) {
            plan.changes.push(Change::State { rollout: rollout.id, to, why });
        }
    }
    if !plan.changes.is_empty() {
        return (plan, cohorts);
    }
    for (rollout, cohort) in &cohorts {
        if plan.orders.is_empty() {
            offer(round, rollout, cohort, &mut plan);
        }
    }
    (plan, cohorts)
}

/// Devices in flight that were silent for too long, or are not done by the deadline. Not while
/// paused: somebody may be at work on them.
fn timed_out(round: &Round<'_>, rollout: &RolloutFacts, plan: &mut Plan) {
    let running = matches!(
        rollout.state,
        RolloutState::Running { .. } | RolloutState::WaitingForApproval { .. }
    );
    if !running {
        return;
    }
    let (input, spec) = (round.input, &rollout.spec);
    for (id, deployment) in rollout.deployments.iter().filter(|(_, d)| d.verdict.is_none()) {
        let device = round.devices.get(id).copied();
        let quiet_s = is_silent(input, rollout, device, deployment);
        let took_s = input.now_s.saturating_sub(deployment.ordered_s);
        let verdict = match quiet_s {
            Some(quiet_s) if quiet_s >= spec.device_timeout_s => Verdict::Silent,
            _ if spec.deadline_s == 0 || took_s < spec.deadline_s => continue,
            _ if is_aside(input, rollout, device, deployment) => continue,
            // Our own outage is nobody's fault.
            _ if input.listening_since_s.is_none() => continue,
            _ => Verdict::Late,
        };
        plan.changes.push(Change::TimedOut { rollout: rollout.id, device: id.clone(), verdict });
    }
}

/// Offers the release to as many devices as phase, bounds and pace allow; those that are tried
/// again go first.
fn offer(round: &Round<'_>, rollout: &RolloutFacts, cohort: &Cohort<'_>, plan: &mut Plan) {
    let RolloutState::Running { phase } = rollout.state else { return };
    let spec = &rollout.spec;
    let allowed = allowance(round, rollout, &cohort.tally, phase as usize);
    let order = |device: &DeviceFacts, phase, previous| Assignment {
        device: device.id.clone(),
        rollout: rollout.id,
        model: spec.model.clone(),
        wish: Wish::Run(spec.release),
        phase,
        previous,
    };
    for (device, before) in cohort.again().take(allowed.orders) {
        plan.orders.push(order(device, before.phase, before.previous));
    }
    let left = allowed.orders - plan.orders.len();
    for device in cohort.movable(rollout, phase as usize).take(allowed.new.min(left)) {
        plan.orders.push(order(device, phase, previous_of(device, &spec.model)));
    }
}

/// Turns the devices back that an aborted rollout left in flight, unless they are to keep what
/// they have. One that ran out of time may still wake up to its old order, so it is turned back
/// as well.
fn revert(input: &Input, rollout: &RolloutFacts, plan: &mut Plan) {
    if rollout.spec.on_abort == OnAbort::Keep {
        return;
    }
    for device in &input.devices {
        let Some(deployment) = rollout.deployments.get(&device.id) else { continue };
        let model = device.models.get(&rollout.spec.model);
        let ours = model.and_then(|m| m.assigned).is_some_and(|(by, _)| by == rollout.id);
        if !Verdict::is_open(deployment.verdict) || deployment.reverted || !ours {
            continue;
        }
        let wish = match deployment.previous {
            Previous::Release(digest) => Wish::Rollback(digest),
            Previous::Nothing => Wish::Remove(deployment.release),
            Previous::Unknown => Wish::Withdraw,
        };
        plan.orders.push(Assignment {
            device: device.id.clone(),
            rollout: rollout.id,
            model: rollout.spec.model.clone(),
            wish,
            phase: deployment.phase,
            previous: deployment.previous,
        });
    }
    plan.orders.sort_by(|a, b| (a.rollout, &a.device).cmp(&(b.rollout, &b.device)));
}
