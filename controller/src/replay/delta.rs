//! An input of the planner as what changed since the one before. Most ticks nothing did but the
//! time, and a report of one device costs its line and not the fleet's.

use fleetway_protocol::ids::{DeviceId, RolloutId};
use serde::{Deserialize, Serialize};

use crate::planner::{Deployment, DeviceFacts, Input, KnownBad, ReleaseFacts, RolloutFacts};

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Op {
    Listening(Option<u64>),
    /// A device that only was heard again.
    Heard(DeviceId, Option<u64>),
    Device(DeviceFacts),
    DeviceGone(DeviceId),
    /// A rollout; its deployments stay as they are.
    Rollout(Box<RolloutFacts>),
    RolloutGone(RolloutId),
    Deployment(RolloutId, DeviceId, Deployment),
    DeploymentGone(RolloutId, DeviceId),
    Releases(Vec<ReleaseFacts>),
    KnownBad(Vec<KnownBad>),
}

/// What changed from `before` to `after`, both with devices and rollouts in rising order.
pub(super) fn diff(before: &Input, after: &Input) -> Vec<Op> {
    let mut ops = Vec::new();
    if before.listening_since_s != after.listening_since_s {
        ops.push(Op::Listening(after.listening_since_s));
    }
    merge(
        &before.devices,
        &after.devices,
        |d| &d.id,
        |pair| match pair {
            (Some(old), Some(new)) if old != new => ops.push(device(old, new)),
            (None, Some(new)) => ops.push(Op::Device(new.clone())),
            (Some(old), None) => ops.push(Op::DeviceGone(old.id.clone())),
            _ => {}
        },
    );
    merge(
        &before.rollouts,
        &after.rollouts,
        |r| &r.id,
        |pair| match pair {
            (old, Some(new)) => rollout(old, new, &mut ops),
            (Some(old), None) => ops.push(Op::RolloutGone(old.id)),
            (None, None) => {}
        },
    );
    if before.releases != after.releases {
        ops.push(Op::Releases(after.releases.clone()));
    }
    if before.known_bad != after.known_bad {
        ops.push(Op::KnownBad(after.known_bad.clone()));
    }
    ops
}

fn device(old: &DeviceFacts, new: &DeviceFacts) -> Op {
    let heard = DeviceFacts { heard_s: new.heard_s, ..old.clone() };
    match heard == *new {
        true => Op::Heard(new.id.clone(), new.heard_s),
        false => Op::Device(new.clone()),
    }
}

fn rollout(old: Option<&RolloutFacts>, new: &RolloutFacts, ops: &mut Vec<Op>) {
    let bare = |r: &RolloutFacts| RolloutFacts { deployments: Default::default(), ..r.clone() };
    if old.map(bare) != Some(bare(new)) {
        ops.push(Op::Rollout(Box::new(bare(new))));
    }
    let before: Vec<_> = old.iter().flat_map(|r| &r.deployments).collect();
    let after: Vec<_> = new.deployments.iter().collect();
    merge(
        &before,
        &after,
        |d| d.0,
        |pair| match pair {
            (Some((_, old)), Some((_, new))) if old == new => {}
            (_, Some((id, deployment))) => {
                ops.push(Op::Deployment(new.id, (*id).clone(), (*deployment).clone()));
            }
            (Some((id, _)), None) => ops.push(Op::DeploymentGone(new.id, (*id).clone())),
            (None, None) => {}
        },
    );
}

/// Both lists side by side, by key.
fn merge<'a, T, K: Ord + ?Sized + 'a>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&'a T) -> &'a K,
    mut each: impl FnMut((Option<&'a T>, Option<&'a T>)),
) {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => key(old).cmp(key(new)),
        };
        each(match order {
            std::cmp::Ordering::Less => (before.next(), None),
            std::cmp::Ordering::Equal => (before.next(), after.next()),
            std::cmp::Ordering::Greater => (None, after.next()),
        });
    }
}

/// Carries changes out; `None` if one is about something that is not there.
pub(super) fn patch(input: &mut Input, now_s: u64, ops: &[Op]) -> Option<()> {
    input.now_s = now_s;
    for op in ops {
        match op {
            Op::Listening(since_s) => input.listening_since_s = *since_s,
            Op::Heard(id, heard_s) => {
                let at = input.devices.binary_search_by(|d| d.id.cmp(id)).ok()?;
                input.devices[at].heard_s = *heard_s;
            }
            Op::Device(device) => match input.devices.binary_search_by(|d| d.id.cmp(&device.id)) {
                Ok(at) => input.devices[at] = device.clone(),
                Err(at) => input.devices.insert(at, device.clone()),
            },
            Op::DeviceGone(id) => {
                let at = input.devices.binary_search_by(|d| d.id.cmp(id)).ok()?;
                input.devices.remove(at);
            }
            Op::Rollout(rollout) => match input.rollouts.iter().position(|r| r.id >= rollout.id) {
                Some(at) if input.rollouts[at].id == rollout.id => {
                    let deployments = std::mem::take(&mut input.rollouts[at].deployments);
                    input.rollouts[at] = RolloutFacts { deployments, ..(**rollout).clone() };
                }
                Some(at) => input.rollouts.insert(at, (**rollout).clone()),
                None => input.rollouts.push((**rollout).clone()),
            },
            Op::RolloutGone(id) => {
                let at = input.rollouts.iter().position(|r| r.id == *id)?;
                input.rollouts.remove(at);
            }
            Op::Deployment(rollout, id, deployment) => {
                let rollout = input.rollouts.iter_mut().find(|r| r.id == *rollout)?;
                rollout.deployments.insert(id.clone(), deployment.clone());
            }
            Op::DeploymentGone(rollout, id) => {
                let rollout = input.rollouts.iter_mut().find(|r| r.id == *rollout)?;
                rollout.deployments.remove(id)?;
            }
            Op::Releases(releases) => input.releases.clone_from(releases),
            Op::KnownBad(bad) => input.known_bad.clone_from(bad),
        }
    }
    Some(())
}
