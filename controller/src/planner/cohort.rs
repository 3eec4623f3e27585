//! Where each device of a rollout stands, in the order in which devices are offered the
//! release.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{DeviceId, ModelName, RolloutId};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::machine::Phase;

use super::look::known_bad;
use super::{Deployment, DeviceFacts, Input, ModelFacts, Previous, RolloutFacts, Verdict, Why};

/// A device's place in the order of a rollout: a stable hash, so that the same devices are
/// not the canaries of every rollout.
fn bucket(rollout: RolloutId, device: &DeviceId) -> u64 {
    // FNV-1a, then a mixing step: fixed for ever, unlike the standard library's hasher.
    let bytes = rollout.to_le_bytes().into_iter().chain(device.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// One device as seen by one rollout.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) id: &'a DeviceId,
    /// `None` for one that left the fleet.
    pub(super) device: Option<&'a DeviceFacts>,
    pub(super) standing: Standing<'a>,
}

/// Where a device stands.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It was offered the release.
    Offered(&'a Deployment),
    /// It may be offered the release now.
    Movable,
    /// It is one of the rollout's devices, but cannot move now.
    Later(Why),
    /// It is none of the rollout's devices.
    Out(Why),
}

/// A rollout's devices in the order in which they are offered the release.
pub(super) struct Cohort<'a> {
    pub(super) members: Vec<Member<'a>>,
}

/// How a rollout's devices are doing, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) total: usize,
    pub(super) offered: usize,
    pub(super) in_flight: usize,
    /// Of those in flight, the ones that are set aside: see [`is_aside`].
    pub(super) aside: usize,
    pub(super) silent: usize,
    pub(super) confirmed: usize,
    pub(super) failed: usize,
    /// Not in any of the other numbers: the release is known to be bad on their hardware.
    pub(super) barred: usize,
    /// When the last verdict was heard.
    pub(super) verdict_s: u64,
}

impl Tally {
    /// Devices that take a place in `max_unavailable`.
    pub(super) fn moving(&self) -> usize {
        self.in_flight - self.aside
    }
}

/// Which open rollout has a device of a model in flight.
pub(super) type Holds<'a> = BTreeMap<(&'a DeviceId, &'a ModelName), RolloutId>;

/// Everything that is in flight for a rollout that is not over. A halted or aborted one
/// holds nothing: the way on must stay open.
pub(super) fn holds(input: &Input) -> Holds<'_> {
    let mut holds = Holds::new();
    for rollout in input.rollouts.iter().filter(|r| r.state.is_open()) {
        for (device, _) in rollout.deployments.iter().filter(|(_, d)| d.verdict.is_none()) {
            let holder = holds.entry((device, &rollout.spec.model)).or_insert(rollout.id);
            *holder = rollout.id.max(*holder);
        }
    }
    holds
}

impl<'a> Cohort<'a> {
    pub(super) fn of(input: &'a Input, rollout: &'a RolloutFacts, holds: &Holds<'_>) -> Self {
        let mut members: BTreeMap<&DeviceId, Member<'_>> = BTreeMap::new();
        for device in &input.devices {
            // One that left and came back is a new device.
            let deployment = rollout.deployments.get(&device.id);
            let standing = match deployment.filter(|d| d.verdict != Some(Verdict::Left)) {
                Some(deployment) => Standing::Offered(deployment),
                None if !rollout.spec.selector.matches(&device.id, &device.labels) => continue,
                None => standing_of(input, rollout, device, holds),
            };
            members.insert(&device.id, Member { id: &device.id, device: Some(device), standing });
        }
        for (id, deployment) in &rollout.deployments {
            members.entry(id).or_insert(Member {
                id,
                device: None,
                standing: Standing::Offered(deployment),
            });
        }
        let mut members: Vec<_> = members.into_values().collect();
        members.sort_by_cached_key(|m| (bucket(rollout.id, m.id), m.id));
        Self { members }
    }

    pub(super) fn tally(&self, input: &Input, rollout: &RolloutFacts) -> Tally {
        let mut tally = Tally::default();
        for member in &self.members {
            match &member.standing {
                Standing::Out(Why::KnownBad { .. }) => tally.barred += 1,
                Standing::Out(_) => {}
                Standing::Offered(_) if is_barred(input, rollout, member.device) => {
                    tally.barred += 1;
                }
                Standing::Movable | Standing::Later(_) => tally.total += 1,
                Standing::Offered(Deployment { verdict: Some(Verdict::Left), .. }) => {}
                Standing::Offered(deployment) => {
                    tally.total += 1;
                    tally.offered += 1;
                    match deployment.verdict {
                        None => {
                            tally.in_flight += 1;
                            let silent = is_silent(input, rollout, member.device, deployment);
                            tally.silent += usize::from(silent.is_some());
                            let aside = is_aside(input, rollout, member.device, deployment);
                            tally.aside += usize::from(aside);
                        }
                        Some(Verdict::Confirmed) => tally.confirmed += 1,
                        Some(_) => tally.failed += 1,
                    }
                    if deployment.verdict.is_some() {
                        tally.verdict_s = tally.verdict_s.max(deployment.verdict_s);
                    }
                }
            }
        }
        tally
    }

    /// Devices that may be offered the release now, in order.
    pub(super) fn movable(&self) -> impl Iterator<Item = &'a DeviceFacts> + '_ {
        self.members.iter().filter_map(|m| match m.standing {
            Standing::Movable => m.device,
            _ => None,
        })
    }
}

fn standing_of<'a>(
    input: &Input,
    rollout: &RolloutFacts,
    device: &'a DeviceFacts,
    holds: &Holds<'_>,
) -> Standing<'a> {
    let model = device.models.get(&rollout.spec.model);
    if let Some(why) = left_out(input, rollout, model) {
        return Standing::Out(why);
    }
    if let Some(bad) = known_bad(input, rollout, device.hardware.as_ref()) {
        let (class, rollout, why) = (bad.class.clone(), bad.rollout, bad.why.clone());
        return Standing::Out(Why::KnownBad { class, rollout, why });
    }
    let assigned = device.models.values().filter(|m| m.assigned.is_some()).count();
    if model.is_none_or(|m| m.assigned.is_none()) && assigned >= MODELS_PER_DEVICE_MAX {
        return Standing::Later(Why::TooManyModels);
    }
    match holds.get(&(&device.id, &rollout.spec.model)) {
        Some(other) if *other != rollout.id => {
            return Standing::Later(Why::HeldByOtherRollout(*other));
        }
        _ => {}
    }
    let Some(listening_since_s) = input.listening_since_s else {
        return Standing::Later(Why::NotListening);
    };
    let quiet_s = device.heard_s.map(|at| input.now_s.saturating_sub(at.max(listening_since_s)));
    let away = !device.online || quiet_s.is_none_or(|s| s > rollout.spec.offline_after_s);
    if away {
        let quiet_s = device.heard_s.map(|at| input.now_s.saturating_sub(at));
        return Standing::Later(Why::Offline { quiet_s });
    }
    Standing::Movable
}

/// Why a device that matches is none of the rollout's, if so. Nothing in here may depend on
/// what passes by itself: who is out is not waited for.
fn left_out(input: &Input, rollout: &RolloutFacts, model: Option<&ModelFacts>) -> Option<Why> {
    let model = model?;
    if let Some((newer, _)) = model.assigned
        && newer > rollout.id
    {
        return Some(Why::TakenByNewerRollout(newer));
    }
    let settled = model.phase == Phase::Idle && model.running == Some(rollout.spec.release);
    if settled && model.assigned.is_none_or(|(_, release)| release == rollout.spec.release) {
        return Some(Why::AlreadyRuns);
    }
    let counter = input.releases.iter().find(|r| r.digest == rollout.spec.release)?.counter;
    (counter < model.floor).then_some(Why::BelowFloor { counter, floor: model.floor })
}

/// Whether the release is known to be bad on a device's hardware: it is left to its own judgement,
/// and says nothing of the release on other hardware.
pub(super) fn is_barred(
    input: &Input,
    rollout: &RolloutFacts,
    device: Option<&DeviceFacts>,
) -> bool {
    known_bad(input, rollout, device.and_then(|d| d.hardware.as_ref())).is_some()
}

/// Seconds without a word of a device in flight, if they are too many.
pub(super) fn is_silent(
    input: &Input,
    rollout: &RolloutFacts,
    device: Option<&DeviceFacts>,
    deployment: &Deployment,
) -> Option<u64> {
    let listening_since_s = input.listening_since_s?;
    let heard_s = device.and_then(|d| d.heard_s).unwrap_or(0);
    let from_s = heard_s.max(deployment.ordered_s).max(listening_since_s);
    let quiet_s = input.now_s.saturating_sub(from_s);
    (quiet_s > rollout.spec.offline_after_s).then_some(quiet_s)
}

/// Whether a device in flight has been held for so long that the rollout does not wait for it any
/// more. It serves what it served before and says so: one that is silent is not known to be held.
///
/// The time is counted by the device's word and by our own clock, whichever is shorter: a device
/// whose clock is behind is not set aside the moment it is ordered.
pub(super) fn is_aside(
    input: &Input,
    rollout: &RolloutFacts,
    device: Option<&DeviceFacts>,
    deployment: &Deployment,
) -> bool {
    let model = device.and_then(|d| d.models.get(&rollout.spec.model));
    let held = model.filter(|m| m.phase == Phase::Held).and_then(|m| m.held);
    let Some(held) = held.filter(|held| held.since_s > 0) else { return false };
    let ours = model.and_then(|m| m.assigned).is_some_and(|(by, _)| by == rollout.id);
    let from_s = held.since_s.max(deployment.ordered_s);
    ours && is_silent(input, rollout, device, deployment).is_none()
        && input.listening_since_s.is_some()
        && input.now_s.saturating_sub(from_s) >= rollout.spec.hold_aside_s
}

/// What a device runs of a model, to go back to. What is on trial is nothing to go back to.
pub(super) fn previous_of(device: &DeviceFacts, model: &ModelName) -> Previous {
    match device.models.get(model) {
        Some(m) if matches!(m.phase, Phase::Activation | Phase::Probation | Phase::Rollback) => {
            Previous::Unknown
        }
        Some(ModelFacts { running: Some(running), .. }) => Previous::Release(*running),
        Some(ModelFacts { reported: true, running: None, .. }) => Previous::Nothing,
        _ => Previous::Unknown,
    }
}
