//! What the devices of an open rollout counted since it began: those that were offered its release,
//! and those that were not.
//!
//! Kept in memory: a controller that starts anew counts from then on, on both sides alike. What is
//! durable is how often was looked ([`Looks`](crate::planner::analysis::Looks)), so that no restart
//! gives back what a look has spent. Only reports that are newer than the last one count: a backlog
//! is of a time that the other side was not counted in.

use std::collections::BTreeMap;

use fleetway_protocol::counters::Counters;
use fleetway_protocol::drift::DRIFT_SAMPLES_MIN;
use fleetway_protocol::health::drifts;
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, RolloutId};

use super::{Device, Fleet, Rollout};
use crate::planner::Verdict;
use crate::planner::analysis::sample::Install;
use crate::planner::analysis::{ControlKind, Evidence, Sample};

/// What is counted for one rollout.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    since_s: u64,
    devices: BTreeMap<DeviceId, Counted>,
}

/// What one device counted under one release.
#[derive(Clone, Debug)]
struct Counted {
    release: Digest,
    /// The boot that it began in.
    epoch: u64,
    crashed: bool,
    counters: Counters,
}

/// One report, as far as it is news.
pub(super) struct News<'a> {
    pub(super) model: &'a ModelName,
    pub(super) release: Digest,
    pub(super) epoch: u64,
    /// What was counted since the report before; `None` if there was none: that one only says
    /// where counting begins.
    pub(super) counters: Option<Counters>,
}

impl Fleet {
    /// Counts a report for every open rollout of its model.
    pub(super) fn watch(&mut self, now_s: u64, id: &DeviceId, news: &News<'_>) {
        for (rollout_id, rollout) in &self.rollouts {
            let record = &rollout.record;
            let begun = !rollout.deployments.is_empty() && record.state.is_open();
            if !begun || record.spec.model != *news.model {
                continue;
            }
            let has_it = news.release == record.spec.release;
            if rollout.offered(id) != has_it {
                continue; // on its way, or it had the release before
            }
            let begin = || Watch { since_s: now_s, devices: BTreeMap::new() };
            let watch = self.watches.entry(*rollout_id).or_insert_with(begin);
            let new = || Counted {
                release: news.release,
                epoch: news.epoch,
                crashed: false,
                counters: Counters::new(),
            };
            let counted = watch.devices.entry(id.clone()).or_insert_with(new);
            if counted.release != news.release {
                *counted = new();
            }
            counted.crashed |= news.epoch > counted.epoch;
            news.counters.iter().for_each(|more| counted.counters.merge(more));
        }
    }

    /// Forgets what was counted for rollouts that are over.
    pub(super) fn forget_watches(&mut self) {
        let rollouts = &self.rollouts;
        self.watches.retain(|id, _| rollouts.get(id).is_some_and(|r| r.record.state.is_open()));
    }

    /// What there is to look at for a rollout.
    pub(super) fn evidence(&self, id: RolloutId, now_s: u64) -> Option<Evidence> {
        let rollout = self.rollouts.get(&id)?;
        let watch = self.watches.get(&id);
        let spec = &rollout.record.spec;
        let mut evidence = Evidence {
            since_s: watch.map_or(now_s, |watch| watch.since_s),
            cohort: BTreeMap::new(),
            control: BTreeMap::new(),
            control_kind: ControlKind::NotYetOffered,
        };
        let mut outside = BTreeMap::new();
        for (id, device) in self.devices.iter().filter(|(_, device)| !device.is_revoked()) {
            let counted = watch.and_then(|watch| watch.devices.get(id));
            let sample = || self.sample(now_s, rollout, id, device, counted);
            if rollout.offered(id) {
                evidence.cohort.insert(id.clone(), sample());
            } else if counted.is_some_and(|counted| counted.release != spec.release) {
                let is_for = self.selects(spec, id, device);
                let side = if is_for { &mut evidence.control } else { &mut outside };
                side.insert(id.clone(), sample());
            }
        }
        let enough = spec.gates.iter().map(|gate| gate.devices_min as usize).max().unwrap_or(0);
        if evidence.control.len() < enough && !outside.is_empty() {
            evidence.control.append(&mut outside);
            evidence.control_kind = ControlKind::Outside;
        }
        Some(evidence)
    }

    fn sample(
        &self,
        now_s: u64,
        rollout: &Rollout,
        id: &DeviceId,
        device: &Device,
        counted: Option<&Counted>,
    ) -> Sample {
        let spec = &rollout.record.spec;
        let offered = rollout.offered(id);
        let quiet = |at: u64| now_s.saturating_sub(at) > spec.offline_after_s;
        let verdict = rollout.deployments.get(id).and_then(|d| d.verdict).filter(|_| offered);
        let mut sample = Sample {
            class: device.record.hardware.clone(),
            offline: !device.live.online || device.live.heard_s.is_none_or(quiet),
            install: verdict.map(|verdict| match verdict {
                Verdict::Confirmed => Install::Confirmed,
                Verdict::RolledBack(_) => Install::RolledBack,
                _ => Install::Failed,
            }),
            ..Sample::default()
        };
        let shadow = device.record.states.get(&spec.model).and_then(|state| state.shadow);
        let shadow = shadow.filter(|shadow| offered && shadow.release == spec.release);
        sample.shadow = shadow.map(|s| (s.agreed, s.compared.saturating_add(s.failed)));
        let ours = |counted: &&Counted| (counted.release == spec.release) == offered;
        let Some(counted) = counted.filter(ours) else { return sample };
        let Counters { requests, errors, latency, confidence_sum, confidence_count, .. } =
            counted.counters.clone();
        Sample {
            crashed: counted.crashed,
            requests,
            errors,
            latency,
            confidence_sum,
            confidence_count,
            drifted: self.drifted(counted),
            ..sample
        }
    }

    /// Whether what a device counted drifted from its release's reference.
    fn drifted(&self, counted: &Counted) -> Option<bool> {
        let health = &self.releases.get(&counted.release)?.manifest.health;
        let psi_max = f64::from(health.policy.psi_milli_max) / 1000.0;
        if psi_max == 0.0 {
            return None; // the release says that drift is not looked at
        }
        let found = drifts(&health.reference, &counted.counters, psi_max);
        let told = found.filter_map(|(_, drift)| drift).filter(|d| d.samples >= DRIFT_SAMPLES_MIN);
        told.map(|drift| drift.psi > drift.bound).reduce(|a, b| a || b)
    }
}

impl Rollout {
    /// Whether a device was offered the release, and is still the one that was.
    fn offered(&self, id: &DeviceId) -> bool {
        self.deployments.get(id).is_some_and(|d| d.verdict != Some(Verdict::Left))
    }
}
