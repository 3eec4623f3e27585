//! The planner's input, gathered from what the fleet knows.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{Artifact, Variant};
use fleetway_protocol::report::State;

use super::{Device, Fleet, ReleaseView, Rollout};
use crate::planner::{
    Deployment, DeviceFacts, Input, ModelFacts, OnAbort, ReleaseFacts, RolloutFacts, RolloutState,
    Verdict,
};

impl Fleet {
    /// What the planner is to know about the rollouts that `wanted` picks.
    pub(super) fn input(&self, now_s: u64, wanted: impl Fn(&Rollout) -> bool) -> Input {
        let rollouts =
            self.rollouts.iter().filter(|(_, r)| wanted(r)).map(|(id, rollout)| RolloutFacts {
                id: *id,
                spec: rollout.record.spec.clone(),
                state: rollout.record.state.clone(),
                members: rollout.members.clone(),
                deployments: rollout.deployments.clone(),
                looks: rollout.record.looks.clone(),
                evidence: None,
            });
        let releases = self.releases.values().map(|release| ReleaseFacts {
            digest: release.digest,
            version: release.manifest.version.clone(),
            counter: release.manifest.counter,
            bytes: self.bytes_of(release),
        });
        Input {
            now_s,
            listening_since_s: self.listening_since_s,
            devices: self
                .devices
                .iter()
                .filter(|(_, device)| !device.is_revoked())
                .map(|(id, device)| device_facts(id, device))
                .collect(),
            rollouts: rollouts.collect(),
            releases: releases.collect(),
            known_bad: self.known_bad.values().cloned().collect(),
        }
    }
}

impl Fleet {
    /// What a device fetches that has nothing of it: artifacts, chunk lists, envelope; of the
    /// largest form, since the device chooses.
    pub(super) fn bytes_of(&self, release: &ReleaseView) -> u64 {
        let envelope_bytes = self.envelopes.get(&release.digest).map_or(0, Vec::len) as u64;
        let artifacts = |v: &Variant| {
            let of = |a: &Artifact| u64::from(a.bytes) + u64::from(a.chunk_list_bytes());
            of(&v.model) + of(&v.golden)
        };
        let largest = release.manifest.variants.iter().map(artifacts).max();
        envelope_bytes + largest.unwrap_or(0)
    }
}

/// Whether a rollout may still change or order something.
pub(super) fn is_live(rollout: &Rollout) -> bool {
    let unturned = |d: &Deployment| Verdict::is_open(d.verdict) && !d.reverted;
    let reverts = rollout.record.spec.on_abort == OnAbort::Revert;
    match &rollout.record.state {
        RolloutState::Aborted => reverts && rollout.deployments.values().any(unturned),
        state => state.is_open(),
    }
}

fn device_facts(id: &DeviceId, device: &Device) -> DeviceFacts {
    let reported = device.record.states.keys();
    let ordered = device.order.iter().flat_map(|o| o.order.models.iter().map(|m| &m.model));
    let moved = device.moved_by.keys();
    let names: BTreeSet<&ModelName> = reported.chain(ordered).chain(moved).collect();
    let models: BTreeMap<_, _> =
        names.into_iter().map(|name| (name.clone(), model_facts(device, name))).collect();
    DeviceFacts {
        id: id.clone(),
        labels: device.record.labels.clone().into(),
        hardware: device.record.hardware.clone(),
        online: device.live.online,
        heard_s: device.live.heard_s,
        models: models.into(),
    }
}

fn model_facts(device: &Device, model: &ModelName) -> ModelFacts {
    let state = device.record.states.get(model);
    let entry = device.order.as_ref().and_then(|o| o.entry(model));
    // What held an older order says nothing of the one in force.
    let is_current =
        |s: &&State| device.order.as_ref().is_none_or(|o| s.generation >= o.order.generation);
    ModelFacts {
        reported: state.is_some(),
        running: state.and_then(|s| s.running),
        floor: state.map_or(0, |s| s.floor),
        phase: state.map_or(Phase::Idle, |s| s.phase),
        waiting: state.and_then(|s| s.waiting),
        held: state.filter(is_current).and_then(|s| s.held),
        assigned: entry.map(|e| (e.rollout, e.release)).or(device.moved_by.get(model).copied()),
    }
}
