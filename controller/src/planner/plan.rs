//! The plan itself: one step, repeated until it changes nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::Phase;

use super::check::check;
use super::cohort::{Cohort, holds, is_silent, previous_of};
use super::facts::{
    Assignment, Change, Deployment, Input, KnownBad, ModelFacts, Plan, Previous, RolloutFacts,
    RolloutState, Verdict, Wish,
};
use super::gate::next_state;
use super::look::{bad_classes, look_at};
use super::report::report;

/// What to do now, and why not more. Applying it and planning again gives nothing new.
pub fn plan(input: &Input) -> Plan {
    let mut plan = Plan::default();
    let first = step(input);
    if first.orders.is_empty() && first.changes.is_empty() {
        report(input, &mut plan);
        return plan;
    }
    let mut work = input.clone();
    let mut next = first;
    // Ends: a device is offered a release once per rollout, phases only rise, what is over
    // stays over.
    while !(next.orders.is_empty() && next.changes.is_empty()) {
        apply(&mut work, &next);
        plan.orders.append(&mut next.orders);
        plan.changes.append(&mut next.changes);
        next = step(&work);
    }
    report(&work, &mut plan);
    plan
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
            Change::Silent { rollout, device } => {
                let found = input.rollouts.iter_mut().find(|r| r.id == *rollout);
                if let Some(deployment) = found.and_then(|r| r.deployments.get_mut(device)) {
                    deployment.verdict = Some(Verdict::Silent);
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
    let mut orders: Vec<&Assignment> = plan.orders.iter().collect();
    orders.sort_by(|a, b| a.device.cmp(&b.device));
    for device in &mut input.devices {
        let from = orders.partition_point(|o| o.device < device.id);
        for order in orders[from..].iter().take_while(|o| o.device == device.id) {
            let model = device.models.entry(order.model.clone()).or_insert(ModelFacts {
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
    if let Wish::Run(release) = order.wish {
        rollout.deployments.insert(order.device.clone(), deployment_of(order, release, now_s));
    } else if let Some(deployment) = rollout.deployments.get_mut(&order.device) {
        deployment.reverted = true;
    }
}

/// The deployment that begins with an order to run `release`.
pub(crate) fn deployment_of(order: &Assignment, release: Digest, now_s: u64) -> Deployment {
    Deployment {
        release,
        ordered_s: now_s,
        phase: order.phase,
        previous: order.previous,
        verdict: None,
        verdict_s: 0,
        reverted: false,
    }
}

/// Verdicts by silence, else state changes, else the orders of the newest rollout that has
/// any.
fn step(input: &Input) -> Plan {
    let mut plan = Plan::default();
    let mut rollouts: Vec<&RolloutFacts> = input.rollouts.iter().collect();
    rollouts.sort_by_key(|r| Reverse(r.id));
    for rollout in &rollouts {
        timed_out(input, rollout, &mut plan);
    }
    // Before anybody is offered anything: who goes back changes who is still to move.
    for rollout in rollouts.iter().filter(|r| r.state == RolloutState::Aborted) {
        revert(input, rollout, &mut plan);
    }
    if !(plan.changes.is_empty() && plan.orders.is_empty()) {
        return plan;
    }
    let holds = holds(input);
    let active = rollouts.iter().filter(|r| r.state.is_open());
    let cohorts: Vec<_> = active.map(|r| (*r, Cohort::of(input, r, &holds))).collect();
    for (rollout, cohort) in &cohorts {
        plan.changes.extend(bad_classes(input, rollout));
        plan.changes.extend(look_at(input, rollout, &cohort.tally(input, rollout)));
    }
    if !plan.changes.is_empty() {
        return plan;
    }
    for (rollout, cohort) in &cohorts {
        if let Some((to, why)) = next_state(input, rollout, &cohort.tally(input, rollout)) {
            plan.changes.push(Change::State { rollout: rollout.id, to, why });
        }
    }
    if !plan.changes.is_empty() {
        return plan;
    }
    for (rollout, cohort) in &cohorts {
        if plan.orders.is_empty() {
            offer(input, rollout, cohort, &mut plan);
        }
    }
    plan
}

/// Devices in flight that were silent for too long. Not while paused: somebody may be at
/// work on them.
fn timed_out(input: &Input, rollout: &RolloutFacts, plan: &mut Plan) {
    if !matches!(rollout.state, RolloutState::Running { .. }) {
        return;
    }
    let flying = rollout.deployments.iter().filter(|(_, d)| d.verdict.is_none());
    let mut flying = flying.peekable();
    if flying.peek().is_none() {
        return;
    }
    let by_id: BTreeMap<_, _> = input.devices.iter().map(|d| (&d.id, d)).collect();
    for (device, deployment) in flying {
        let quiet_s = is_silent(input, rollout, by_id.get(device).copied(), deployment);
        if quiet_s.is_some_and(|s| s >= rollout.spec.device_timeout_s) {
            plan.changes.push(Change::Silent { rollout: rollout.id, device: device.clone() });
        }
    }
}

/// Offers the release to as many devices as phase and bound allow.
fn offer(input: &Input, rollout: &RolloutFacts, cohort: &Cohort<'_>, plan: &mut Plan) {
    let RolloutState::Running { phase } = rollout.state else { return };
    let tally = cohort.tally(input, rollout);
    let spec = &rollout.spec;
    let slots = spec.max_unavailable.bound_of(tally.total).saturating_sub(tally.moving());
    let room = spec.phase_bound(phase as usize, tally.total).saturating_sub(tally.offered);
    for device in cohort.movable().take(slots.min(room)) {
        plan.orders.push(Assignment {
            device: device.id.clone(),
            rollout: rollout.id,
            model: spec.model.clone(),
            wish: Wish::Run(spec.release),
            phase,
            previous: previous_of(device, &spec.model),
        });
    }
}

/// Turns the devices back that an aborted rollout left in flight. One that was silent for
/// too long may still wake up to its old order, so it is turned back as well.
fn revert(input: &Input, rollout: &RolloutFacts, plan: &mut Plan) {
    for device in &input.devices {
        let Some(deployment) = rollout.deployments.get(&device.id) else { continue };
        let unjudged = matches!(deployment.verdict, None | Some(Verdict::Silent));
        let model = device.models.get(&rollout.spec.model);
        let ours = model.and_then(|m| m.assigned).is_some_and(|(by, _)| by == rollout.id);
        if !unjudged || deployment.reverted || !ours {
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
