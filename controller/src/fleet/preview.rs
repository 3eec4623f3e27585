//! What a plan shows beyond its phases: bytes, time, who signed, and a hash to hold it to.
//!
//! The hash is of what was decided, not of what passes: a device that goes offline is in it only
//! where another one takes its place in a phase. It has one part for each thing that may change, so that a
//! refusal says what did without anybody having kept the plan.

use std::collections::BTreeMap;

use fleetway_protocol::ids::{DeviceId, Digest};

use super::commands::signers;
use super::{Fleet, PhasePreview};
use crate::planner::{Estimate, RolloutSpec, Verdict, Why, estimate};

/// Hexadecimal digits of each part: four thousand million plans before two are taken for one.
const PART_DIGITS: usize = 8;
/// Deployments of a model that are enough to say how long one takes.
const MEASURED_MIN: usize = 3;

/// What a plan is held to, part by part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanHash([String; 4]);

/// What each part is about, in the words of a refusal.
const PARTS: [&str; 4] = [
    "the specification",
    "the release",
    "which devices move, or in which phase",
    "which devices are left out, or why",
];

impl PlanHash {
    pub(super) fn of(
        spec: &RolloutSpec,
        bytes_per_device: u64,
        phases: &[PhasePreview],
        left_out: &[(DeviceId, Why)],
    ) -> Self {
        let part = |text: String| {
            let digest = Digest::of(text.as_bytes()).to_string();
            digest[..PART_DIGITS].to_owned()
        };
        let phase = |phase: &PhasePreview| {
            let mut ids: Vec<_> = phase.devices.iter().map(DeviceId::as_str).collect();
            ids.sort_unstable();
            ids.join(" ")
        };
        let phases: Vec<String> = phases.iter().map(phase).collect();
        let mut out: Vec<_> =
            left_out.iter().map(|(id, why)| format!("{id} {}", why.code())).collect();
        out.sort();
        // Everything a specification has takes part, also what is added to it later.
        Self([
            part(format!("{spec:?}")),
            part(format!("{} {bytes_per_device}", spec.release)),
            part(phases.join("\n")),
            part(out.join("\n")),
        ])
    }

    /// What is not as `shown` says, in words; `None` if nothing is.
    pub fn differs(&self, shown: &str) -> Option<String> {
        let digits = PART_DIGITS * self.0.len();
        if shown.len() != digits || !shown.is_ascii() {
            return Some(format!("{shown:?} is no plan: a plan has {digits} digits"));
        }
        let at = |n: usize| &shown[n * PART_DIGITS..(n + 1) * PART_DIGITS];
        let changed = PARTS.iter().enumerate().filter(|(n, _)| self.0[*n] != at(*n));
        let changed: Vec<_> = changed.map(|(_, what)| *what).collect();
        (!changed.is_empty()).then(|| changed.join("; "))
    }
}

impl std::fmt::Display for PlanHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| f.write_str(part))
    }
}

impl Fleet {
    /// Bytes that single devices fetch less than all, because they have some of the chunks.
    pub(super) fn bytes_known(
        &self,
        spec: &RolloutSpec,
        phases: &[PhasePreview],
        bytes_per_device: u64,
    ) -> BTreeMap<DeviceId, u64> {
        let left = |id: &DeviceId| {
            let state = self.devices.get(id)?.record.states.get(&spec.model)?;
            let progress = state.progress;
            let begun = state.target == Some(spec.release) && progress.have > 0;
            let total = u64::from(progress.total);
            let missing = total.checked_sub(progress.have.into()).filter(|_| begun)?;
            Some(bytes_per_device.saturating_mul(missing) / total.max(1))
        };
        let devices = phases.iter().flat_map(|phase| &phase.devices);
        devices.filter_map(|id| Some((id.clone(), left(id)?))).collect()
    }

    /// Ids of the keys that signed a published release.
    pub(super) fn signers(&self, release: &Digest) -> Vec<String> {
        let ids = self.envelopes.get(release).and_then(|envelope| signers(envelope));
        ids.map(|ids| ids.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    }

    /// How long it would take: by what devices took for this model before, else by its probation.
    pub(super) fn estimate(
        &self,
        spec: &RolloutSpec,
        phases: &[PhasePreview],
        bytes: u64,
        now_s: u64,
    ) -> Estimate {
        let of_model = self.rollouts.values().filter(|r| r.record.spec.model == spec.model);
        let confirmed = of_model
            .flat_map(|r| r.deployments.values())
            .filter(|d| d.verdict == Some(Verdict::Confirmed));
        let mut took_s: Vec<u64> =
            confirmed.map(|d| d.verdict_s.saturating_sub(d.ordered_s)).collect();
        took_s.sort_unstable();
        let device = match took_s.get(took_s.len() / 2) {
            Some(median_s) if took_s.len() >= MEASURED_MIN => {
                (*median_s, "the median of this model's devices so far")
            }
            _ => (spec.terms.probation_s.into(), "its probation; the transfer is not known yet"),
        };
        let sizes: Vec<usize> = phases.iter().map(|phase| phase.devices.len()).collect();
        estimate(spec, &sizes, device, bytes, now_s)
    }
}
