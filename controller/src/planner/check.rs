//! Whether a plan is sane, told from the input and the plan alone, without looking at how
//! plans are made. The controller asserts it before a plan becomes an order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fleetway_protocol::ids::{DeviceId, ModelName, RolloutId};

use super::Target;
use super::cohort::{UNKNOWN_RELEASE, is_aside, is_barred};
use super::facts::{
    Assignment, Change, DeviceFacts, Input, KnownBad, Plan, RolloutFacts, RolloutState, Verdict,
    Wish,
};
use super::plan::apply;
use super::spec::pace::RATE_WINDOW_S;
use super::spec::{Membership, OnAbort, Opening, RetryOn};

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Insane {
    /// An order for a device or a rollout that is not there.
    #[error("an order names device {0} or rollout {1}, which are not there")]
    Unknown(DeviceId, RolloutId),
    /// Two orders for one model of one device.
    #[error("two orders for {1} on {0}")]
    Twice(DeviceId, ModelName),
    /// A rollout that does not run offers its release, or one that is not aborted turns back.
    #[error("rollout {0} is not in a state for the order to {1}")]
    State(RolloutId, DeviceId),
    /// A device that is not the rollout's, or was offered the release before.
    #[error("rollout {0} has no business with {1}")]
    NotSelected(RolloutId, DeviceId),
    /// Another release than the rollout's.
    #[error("rollout {0} orders a foreign release on {1}")]
    Release(RolloutId, DeviceId),
    /// A device that is not there now.
    #[error("{0} is offered a release while it is not there")]
    Offline(DeviceId),
    /// A device that is in flight for another rollout, or that a newer one has moved.
    #[error("{0} belongs to rollout {1} now")]
    Held(DeviceId, RolloutId),
    /// A device whose hardware the release is known to be bad on.
    #[error("{0} is offered a release that is known to be bad on its hardware")]
    KnownBad(DeviceId),
    /// More in flight than allowed.
    #[error("rollout {rollout}: {in_flight} in flight, {max} allowed")]
    InFlight {
        /// Which.
        rollout: RolloutId,
        /// Once the plan is carried out.
        in_flight: usize,
        /// The bound.
        max: usize,
    },
    /// More offered than the phase allows.
    #[error("rollout {rollout}: {offered} offered, {max} allowed in its phase")]
    Phase {
        /// Which.
        rollout: RolloutId,
        /// Once the plan is carried out.
        offered: usize,
        /// The bound.
        max: usize,
    },
    /// Orders while the schedule is shut.
    #[error("rollout {0} offers its release outside its schedule")]
    Shut(RolloutId),
    /// More offered in a minute than allowed.
    #[error("rollout {rollout}: {offered} offered in a minute, {max} allowed")]
    Rate {
        /// Which.
        rollout: RolloutId,
        /// In the last minute, once the plan is carried out.
        offered: usize,
        /// The bound.
        max: usize,
    },
    /// A state that does not follow on the one before.
    #[error("rollout {0} goes from {1} to {2}")]
    Transition(RolloutId, String, String),
    /// A device without a reason.
    #[error("nothing says why {1} is where it is in rollout {0}")]
    NoReason(RolloutId, DeviceId),
}

/// Whether `plan` is sane for `input`.
///
/// # Errors
/// [`Insane`] names the first rule that is broken.
pub fn check(input: &Input, plan: &Plan) -> Result<(), Insane> {
    // Without its devices: of them a plan changes only what they were told, which no rule reads.
    let mut after = Input {
        rollouts: input.rollouts.clone(),
        releases: input.releases.clone(),
        known_bad: input.known_bad.clone(),
        devices: Vec::new(),
        ..*input
    };
    apply(&mut after, plan);
    check_changes(input, plan)?;
    let devices: HashMap<_, _> = input.devices.iter().map(|d| (&d.id, d)).collect();
    let mut seen: HashMap<_, &Assignment> = HashMap::with_capacity(plan.orders.len());
    for order in &plan.orders {
        let unknown = || Insane::Unknown(order.device.clone(), order.rollout);
        let device = devices.get(&order.device).ok_or_else(unknown)?;
        let rollout = find(input, order.rollout).ok_or_else(unknown)?;
        let state = &find(&after, order.rollout).ok_or_else(unknown)?.state;
        // Going back may be followed by a newer rollout's release, nothing else by anything.
        let moves_on = |before: &Assignment| {
            order.rollout > before.rollout
                && matches!((before.wish, order.wish), (w, Wish::Run(_)) if !matches!(w, Wish::Run(_)))
        };
        if seen.insert((&order.device, &order.model), order).is_some_and(|b| !moves_on(b)) {
            return Err(Insane::Twice(order.device.clone(), order.model.clone()));
        }
        match order.wish {
            Wish::Run(_) => check_offer(input, &after, rollout, state, device, order)?,
            _ if *state == RolloutState::Aborted && rollout.spec.on_abort == OnAbort::Revert => {}
            _ => return Err(Insane::State(order.rollout, order.device.clone())),
        }
    }
    for rollout in &after.rollouts {
        check_bounds(input, &after, plan, rollout)?;
    }
    check_reasons(input, &after, plan)
}

fn find(input: &Input, id: RolloutId) -> Option<&RolloutFacts> {
    input.rollouts.iter().find(|r| r.id == id)
}

fn check_offer(
    input: &Input,
    after: &Input,
    rollout: &RolloutFacts,
    state: &RolloutState,
    device: &DeviceFacts,
    order: &Assignment,
) -> Result<(), Insane> {
    let id = || device.id.clone();
    // An offer may fill a phase whose gate is open already, and the next one may want approval.
    let runs = match state {
        RolloutState::Running { .. } => true,
        RolloutState::WaitingForApproval { phase } => order.phase < *phase,
        _ => false,
    };
    if !runs {
        return Err(Insane::State(rollout.id, id()));
    }
    let before = rollout.deployments.get(&device.id).and_then(|d| d.verdict);
    let offered = rollout.deployments.contains_key(&device.id) && before != Some(Verdict::Left);
    let again = offered && may_try_again(rollout, device);
    if !(again || is_member(input, rollout, device) && !offered) {
        return Err(Insane::NotSelected(rollout.id, id()));
    }
    if order.wish != Wish::Run(rollout.spec.release) || order.model != rollout.spec.model {
        return Err(Insane::Release(rollout.id, id()));
    }
    let is_bad = |bad: &KnownBad| bad.bars(rollout) && Some(&bad.class) == device.hardware.as_ref();
    if after.known_bad.iter().any(is_bad) {
        return Err(Insane::KnownBad(id()));
    }
    let quiet_s = device.heard_s.map(|at| input.now_s.saturating_sub(at));
    let heard = |s| s <= rollout.spec.offline_after_s || input.listening_since_s > device.heard_s;
    if !device.online || input.listening_since_s.is_none() || !quiet_s.is_some_and(heard) {
        return Err(Insane::Offline(id()));
    }
    let newer = device.models.get(&order.model).and_then(|m| m.assigned).map(|(by, _)| by);
    if let Some(newer) = newer.filter(|by| *by > rollout.id) {
        return Err(Insane::Held(id(), newer));
    }
    // After the plan: a rollout that ends in this very plan lets go of its devices.
    let holder = after.rollouts.iter().find(|other| {
        other.id != rollout.id
            && other.spec.model == rollout.spec.model
            && other.state.is_open()
            && other.deployments.get(&device.id).is_some_and(|d| d.verdict.is_none())
    });
    holder.map_or(Ok(()), |other| Err(Insane::Held(id(), other.id)))
}

/// Whether a device that failed may be tried once more.
fn may_try_again(rollout: &RolloutFacts, device: &DeviceFacts) -> bool {
    let (Some(retry), Some(before)) = (&rollout.spec.retry, rollout.deployments.get(&device.id))
    else {
        return false;
    };
    let kind = before.verdict.and_then(RetryOn::of);
    before.attempts < retry.times && kind.is_some_and(|kind| retry.on.contains(&kind))
}

/// Whether a device is the rollout's: by its list, or by what it is and runs.
fn is_member(input: &Input, rollout: &RolloutFacts, device: &DeviceFacts) -> bool {
    match (rollout.spec.membership, &rollout.members) {
        (Membership::Snapshot, Some(members)) => members.contains(&device.id),
        _ => is_selected(input, rollout, device),
    }
}

fn is_selected(input: &Input, rollout: &RolloutFacts, device: &DeviceFacts) -> bool {
    let running = device.models.get(&rollout.spec.model).and_then(|m| m.running);
    let version = |digest| {
        let release = input.releases.iter().find(|r| r.digest == digest);
        release.map_or(UNKNOWN_RELEASE, |r| r.version.as_str())
    };
    rollout.spec.selector.matches(&Target {
        id: &device.id,
        labels: &device.labels,
        hardware: device.hardware.as_ref().map(|h| h.as_str()),
        release: running.map(version),
    })
}

fn check_bounds(
    before: &Input,
    after: &Input,
    plan: &Plan,
    rollout: &RolloutFacts,
) -> Result<(), Insane> {
    let ordered = |o: &Assignment| o.rollout == rollout.id && matches!(o.wish, Wish::Run(_));
    if !plan.orders.iter().any(ordered) {
        // Bounds shrink when devices leave; that alone is nobody's fault.
        return Ok(());
    }
    let RolloutState::Running { phase } = rollout.state else { return Ok(()) };
    let told = plan.rollouts.iter().find(|r| r.rollout == rollout.id);
    let (total, late) = told.map_or((0, 0), |r| (r.total, r.late));
    debug_assert!(total <= before.devices.len() + rollout.deployments.len());
    // What is known to be bad on its hardware is left to itself, and bounds nobody else.
    let barred: BTreeSet<_> = before
        .devices
        .iter()
        .filter(|d| is_barred(after, rollout, Some(d)))
        .map(|d| &d.id)
        .collect();
    let counted = rollout.deployments.iter().filter(|(id, _)| !barred.contains(id));
    let counted = counted.map(|(_, d)| d).filter(|d| d.verdict != Some(Verdict::Left));
    let offered = counted.clone().count();
    let in_flight = counted.filter(|d| d.verdict.is_none()).count();
    let in_flight = in_flight - aside(&before.devices, after, rollout);
    // A plan may fill a phase and leave it: what it ordered was within that phase's bound.
    let begun = match before.rollouts.iter().find(|r| r.id == rollout.id).map(|r| &r.state) {
        Some(RolloutState::Running { phase: begun }) => (*begun).min(phase),
        _ => phase,
    };
    let bounds = (begun..=phase).map(|at| rollout.spec.unavailable_bound(at as usize, total));
    let max = bounds.max().unwrap_or(0);
    if in_flight > max {
        return Err(Insane::InFlight { rollout: rollout.id, in_flight, max });
    }
    let new = plan.orders.iter().filter(|o| ordered(o));
    let new = new.filter(|o| rollout.deployments.get(&o.device).is_some_and(|d| d.attempts == 0));
    let is_last = phase as usize + 1 >= rollout.spec.phases.len();
    let of = if is_last { total } else { total - late };
    let max = rollout.spec.phase_bound(phase as usize, of);
    if new.count() > 0 && offered > max.max(rollout.spec.canary.len()) {
        return Err(Insane::Phase { rollout: rollout.id, offered, max });
    }
    check_pace(after, rollout)
}

/// Schedule and rate of a rollout that orders something.
fn check_pace(after: &Input, rollout: &RolloutFacts) -> Result<(), Insane> {
    if rollout.spec.schedule.at(after.now_s) != Opening::Open {
        return Err(Insane::Shut(rollout.id));
    }
    let Some(rate) = rollout.spec.rate else { return Ok(()) };
    let deployments = rollout.deployments.values();
    let confirmed = deployments.clone().filter(|d| d.verdict == Some(Verdict::Confirmed)).count();
    let recent = deployments.filter(|d| after.now_s < d.ordered_s.saturating_add(RATE_WINDOW_S));
    let (offered, max) = (recent.count(), rate.at(confirmed));
    if offered > max {
        return Err(Insane::Rate { rollout: rollout.id, offered, max });
    }
    Ok(())
}

/// Devices that were offered the release, are held, and not waited for.
fn aside(devices: &[DeviceFacts], after: &Input, rollout: &RolloutFacts) -> usize {
    let set_aside = |device: &&DeviceFacts| {
        let open = rollout.deployments.get(&device.id).filter(|d| d.verdict.is_none());
        let open = open.filter(|_| !is_barred(after, rollout, Some(*device)));
        open.is_some_and(|deployment| is_aside(after, rollout, Some(*device), deployment))
    };
    devices.iter().filter(set_aside).count()
}

fn check_changes(input: &Input, plan: &Plan) -> Result<(), Insane> {
    let mut states: BTreeMap<RolloutId, RolloutState> =
        input.rollouts.iter().map(|r| (r.id, r.state.clone())).collect();
    for change in &plan.changes {
        let Change::State { rollout, to, .. } = change else { continue };
        let Some(from) = states.get_mut(rollout) else {
            return Err(Insane::Transition(*rollout, "nothing".to_owned(), to.word().to_owned()));
        };
        let follows = match (&*from, to) {
            (
                RolloutState::Running { phase: a },
                RolloutState::Running { phase: b } | RolloutState::WaitingForApproval { phase: b },
            ) => *b == a + 1,
            (RolloutState::Running { .. }, RolloutState::Aborted) => false,
            (RolloutState::Running { .. }, _) => true,
            (
                RolloutState::Paused { .. } | RolloutState::WaitingForApproval { .. },
                RolloutState::Halted { .. },
            ) => true,
            _ => false,
        };
        if !follows {
            let (from, to) = (from.word().to_owned(), to.word().to_owned());
            return Err(Insane::Transition(*rollout, from, to));
        }
        *from = to.clone();
    }
    Ok(())
}

fn check_reasons(before: &Input, after: &Input, plan: &Plan) -> Result<(), Insane> {
    let told: HashSet<_> = plan.report.iter().map(|r| (r.rollout, &r.device)).collect();
    for rollout in &after.rollouts {
        let selected =
            before.devices.iter().filter(|d| is_selected(after, rollout, d)).map(|d| &d.id);
        for device in selected.chain(rollout.deployments.keys()) {
            if !told.contains(&(rollout.id, device)) {
                return Err(Insane::NoReason(rollout.id, device.clone()));
            }
        }
    }
    Ok(())
}
