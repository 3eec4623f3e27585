//! Where each device of a rollout stands, in the order in which devices are offered the
//! release.

use std::collections::HashMap;
use std::iter::Peekable;

use fleetway_protocol::ids::{DeviceId, Digest, ModelName, RolloutId};
use fleetway_protocol::limits::MODELS_PER_DEVICE_MAX;
use fleetway_protocol::machine::Phase;

use super::facts::{
    Deployment, DeviceFacts, Input, ModelFacts, Previous, ReleaseFacts, RolloutFacts, Verdict,
};
use super::look::known_bad;
use super::spec::Membership;
pub(super) use super::tally::Tally;
use super::{Target, Why};

/// What a selector sees where a device runs a release that is not known here: no version can be
/// written like that.
pub(crate) const UNKNOWN_RELEASE: &str = "?";

/// A device's place in the order of a rollout: a stable hash, so that the same devices are
/// not the canaries of every rollout.
pub(super) fn bucket(rollout: RolloutId, device: &DeviceId) -> u64 {
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
    /// It is one of the canaries that the rollout names.
    pub(super) canary: bool,
    /// It came after the start: it enters in the last phase.
    pub(super) late: bool,
}

/// Where a device stands.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It was offered the release.
    Offered(&'a Deployment),
    /// It was, failed, and is to be tried again.
    Retrying(&'a Deployment, Again),
    /// It may be offered the release now.
    Movable,
    /// It is one of the rollout's devices, but cannot move now.
    Later(Why),
    /// It is none of the rollout's devices.
    Out(Why),
}

impl Standing<'_> {
    /// Whether the device would be one of the rollout's, if nothing were known against it there.
    pub(super) fn is_ours(&self) -> bool {
        !matches!(self, Self::Out(why) if !matches!(why, Why::KnownBad { .. }))
    }
}

/// When a device is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Again {
    /// Unix seconds.
    pub(super) due_s: u64,
    /// It is due and the device is there.
    pub(super) now: bool,
}

/// A rollout's devices in the order in which they are offered the release.
pub(super) struct Cohort<'a> {
    pub(super) members: Vec<Member<'a>>,
    pub(super) tally: Tally,
}

/// What is the same for all rollouts of one plan.
pub(super) struct Round<'a> {
    pub(super) input: &'a Input,
    pub(super) devices: HashMap<&'a DeviceId, &'a DeviceFacts>,
    releases: HashMap<Digest, &'a ReleaseFacts>,
    /// Which open rollout has a device of a model in flight.
    holds: HashMap<(&'a DeviceId, &'a ModelName), RolloutId>,
    /// The highest priority for which a device is in flight, and the rollout that has it. Empty
    /// while all rollouts are of one priority.
    first: HashMap<&'a DeviceId, (i16, RolloutId)>,
}

impl<'a> Round<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        let mut round = Self {
            input,
            devices: input.devices.iter().map(|d| (&d.id, d)).collect(),
            releases: input.releases.iter().map(|r| (r.digest, r)).collect(),
            holds: HashMap::new(),
            first: HashMap::new(),
        };
        // A halted or aborted one holds nothing: the way on must stay open.
        let open = || input.rollouts.iter().filter(|r| r.state.is_open());
        let mut priorities = open().map(|r| r.spec.priority);
        let first = priorities.next();
        let ranked = priorities.any(|priority| Some(priority) != first);
        for rollout in open() {
            let (id, priority) = (rollout.id, rollout.spec.priority);
            for (device, _) in rollout.deployments.iter().filter(|(_, d)| d.verdict.is_none()) {
                let holder = round.holds.entry((device, &rollout.spec.model)).or_insert(id);
                *holder = id.max(*holder);
                if ranked {
                    let first = round.first.entry(device).or_insert((priority, id));
                    *first = (priority, id).max(*first);
                }
            }
        }
        round
    }

    /// A release by its digest.
    pub(super) fn release(&self, digest: &Digest) -> Option<&'a ReleaseFacts> {
        self.releases.get(digest).copied()
    }

    /// Whether a device that was not offered the release is one of the rollout's.
    fn selects(&self, rollout: &RolloutFacts, device: &DeviceFacts) -> bool {
        let spec = &rollout.spec;
        let release = if spec.selector.asks_release() {
            let running = device.models.get(&spec.model).and_then(|m| m.running);
            running.map(|r| self.release(&r).map_or(UNKNOWN_RELEASE, |r| r.version.as_str()))
        } else {
            None
        };
        let hardware = device.hardware.as_ref().map(|h| h.as_str());
        let target = Target { id: &device.id, labels: &device.labels, hardware, release };
        spec.selector.matches(&target)
    }
}

impl<'a> Cohort<'a> {
    pub(super) fn of(round: &Round<'a>, rollout: &'a RolloutFacts) -> Self {
        let mut members = Vec::with_capacity(round.input.devices.len());
        let mut known = 0;
        let by_id = &rollout.deployments;
        let mut deployments = Joined::of(by_id.iter(), |id| by_id.get(id));
        let mut members_then = rollout.members.as_deref().map(|all| {
            Joined::of(all.iter().map(|id| (id, ())), |id| all.contains(id).then_some(()))
        });
        for device in &round.input.devices {
            let before = deployments.get(&device.id);
            known += usize::from(before.is_some());
            // One that left and came back is a new device.
            let deployment = before.filter(|d| d.verdict != Some(Verdict::Left));
            let there = members_then.as_mut().is_none_or(|all| all.get(&device.id).is_some());
            let standing = match (deployment, rollout.spec.membership) {
                (Some(deployment), _) => standing_offered(round, rollout, device, deployment),
                (None, Membership::Snapshot) if rollout.members.is_some() && there => {
                    standing_of(round, rollout, device)
                }
                (None, _) if !round.selects(rollout, device) => match before {
                    Some(left) => Standing::Offered(left),
                    None => continue,
                },
                (None, Membership::Snapshot) if !there => Standing::Out(Why::CameLater),
                (None, _) => standing_of(round, rollout, device),
            };
            let canary = rollout.spec.canary.binary_search(&device.id).is_ok();
            members.push(Member {
                id: &device.id,
                device: Some(device),
                standing,
                canary,
                late: !there,
            });
        }
        if known < rollout.deployments.len() {
            let gone = rollout.deployments.iter().filter(|(id, _)| !round.devices.contains_key(id));
            members.extend(gone.map(|(id, deployment)| Member {
                id,
                device: None,
                standing: Standing::Offered(deployment),
                canary: rollout.spec.canary.binary_search(id).is_ok(),
                late: rollout.members.as_ref().is_some_and(|m| !m.contains(id)),
            }));
        }
        members.sort_by_cached_key(|m| (m.late, !m.canary, bucket(rollout.id, m.id), m.id));
        let mut tally = Tally::default();
        members.iter().for_each(|member| tally.count(round.input, rollout, member));
        Self { members, tally }
    }

    /// Devices that may be offered the release now in a phase (from 0), in order.
    pub(super) fn movable<'b>(
        &'b self,
        rollout: &'b RolloutFacts,
        phase: usize,
    ) -> impl Iterator<Item = &'a DeviceFacts> + 'b {
        let spec = &rollout.spec;
        let is_last = phase + 1 >= spec.phases.len();
        let by_name = phase == 0 && !spec.canary.is_empty();
        let turn =
            move |m: &&Member<'_>| if by_name { m.canary || is_last } else { !m.late || is_last };
        self.members.iter().filter(turn).filter_map(|m| match m.standing {
            Standing::Movable => m.device,
            _ => None,
        })
    }

    /// Devices that are to be tried again now, in order.
    pub(super) fn again(&self) -> impl Iterator<Item = (&'a DeviceFacts, &'a Deployment)> + '_ {
        self.members.iter().filter_map(|m| match m.standing {
            Standing::Retrying(deployment, Again { now: true, .. }) => {
                m.device.map(|device| (device, deployment))
            }
            _ => None,
        })
    }
}

/// A sorted collection that is asked for ids which mostly rise: it walks along, and searches only for
/// one that does not.
struct Joined<'a, V, I: Iterator<Item = (&'a DeviceId, V)>, F: Fn(&DeviceId) -> Option<V>> {
    rest: Peekable<I>,
    search: F,
    last: Option<&'a DeviceId>,
}

impl<'a, V, I, F> Joined<'a, V, I, F>
where
    I: Iterator<Item = (&'a DeviceId, V)>,
    F: Fn(&DeviceId) -> Option<V>,
{
    fn of(sorted: I, search: F) -> Self {
        Self { rest: sorted.peekable(), search, last: None }
    }

    fn get(&mut self, id: &'a DeviceId) -> Option<V> {
        if self.last.is_some_and(|last| last >= id) {
            return (self.search)(id);
        }
        self.last = Some(id);
        while self.rest.next_if(|(key, _)| *key < id).is_some() {}
        self.rest.next_if(|(key, _)| *key == id).map(|(_, value)| value)
    }
}

/// Where a device stands that was offered the release.
fn standing_offered<'a>(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    device: &DeviceFacts,
    deployment: &'a Deployment,
) -> Standing<'a> {
    let input = round.input;
    let retry = rollout.spec.retry.as_ref().filter(|_| rollout.state.is_open());
    let due_s = retry.and_then(|retry| retry.due_s(rollout.id, &device.id, deployment));
    // A newer rollout has the device: this one is done with it.
    let model = device.models.get(&rollout.spec.model);
    let taken = model.and_then(|m| m.assigned).is_some_and(|(by, _)| by > rollout.id);
    // Nor is one tried again whose hardware the release is known to be bad on.
    let barred = is_barred(input, rollout, Some(device));
    match due_s.filter(|_| !taken && !barred) {
        // One that does not come back in time has failed: unknown is not healthy.
        Some(due_s) if input.now_s <= due_s.saturating_add(rollout.spec.device_timeout_s) => {
            let now = input.now_s >= due_s && waits_for(round, rollout, device).is_none();
            Standing::Retrying(deployment, Again { due_s, now })
        }
        _ => Standing::Offered(deployment),
    }
}

fn standing_of<'a>(
    round: &Round<'_>,
    rollout: &RolloutFacts,
    device: &DeviceFacts,
) -> Standing<'a> {
    let model = device.models.get(&rollout.spec.model);
    if let Some(why) = left_out(round, rollout, model) {
        return Standing::Out(why);
    }
    if let Some(bad) = known_bad(round.input, rollout, device.hardware.as_ref()) {
        let (class, rollout, why) = (bad.class.clone(), bad.rollout, bad.why.clone());
        return Standing::Out(Why::KnownBad { class, rollout, why });
    }
    let assigned = device.models.values().filter(|m| m.assigned.is_some()).count();
    if model.is_none_or(|m| m.assigned.is_none()) && assigned >= MODELS_PER_DEVICE_MAX {
        return Standing::Later(Why::TooManyModels);
    }
    waits_for(round, rollout, device).map_or(Standing::Movable, Standing::Later)
}

/// What a device must wait for before it can be offered anything, if it must.
fn waits_for(round: &Round<'_>, rollout: &RolloutFacts, device: &DeviceFacts) -> Option<Why> {
    let input = round.input;
    match round.holds.get(&(&device.id, &rollout.spec.model)) {
        Some(other) if *other != rollout.id => return Some(Why::HeldByOtherRollout(*other)),
        _ => {}
    }
    if let Some((_, other)) =
        round.first.get(&device.id).filter(|(priority, _)| *priority > rollout.spec.priority)
    {
        return Some(Why::GivesWay(*other));
    }
    let Some(listening_since_s) = input.listening_since_s else { return Some(Why::NotListening) };
    let quiet_s = device.heard_s.map(|at| input.now_s.saturating_sub(at.max(listening_since_s)));
    let away = !device.online || quiet_s.is_none_or(|s| s > rollout.spec.offline_after_s);
    let quiet_s = || device.heard_s.map(|at| input.now_s.saturating_sub(at));
    away.then(|| Why::Offline { quiet_s: quiet_s() })
}

/// Why a device that matches is none of the rollout's, if so. Nothing in here may depend on
/// what passes by itself: who is out is not waited for.
fn left_out(round: &Round<'_>, rollout: &RolloutFacts, model: Option<&ModelFacts>) -> Option<Why> {
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
    let counter = round.release(&rollout.spec.release)?.counter;
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
