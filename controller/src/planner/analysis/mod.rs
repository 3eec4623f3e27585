//! What the model does on the devices that were offered it, held against devices that were not:
//! metric gates. Pure: [`Evidence`] in, [`Looked`] out.
//!
//! A gate fails only when the devices are surely worse than tolerated, passes only when they are
//! surely not worse than what must be ruled out, and is inconclusive between the two; "surely" is a
//! confidence bound, never a bare average. Devices are the clusters: requests of one device are not
//! independent. Gates are looked at at times that do not depend on what they would say, each look
//! spends its own part of one allowance of false halts (`spending`), and so looking again costs
//! nothing in honesty. docs/decisions/0028 says why it is so, and what the figures are.
//!
//! Read in this order: [`spec`] (what is asked), [`sample`] (what is known of a device), `measure`
//! (one metric of one group), `clusters` and `stats` (the formulas with their papers), [`result`]
//! (what comes out), `spending` (when, and how much each look may err).

mod clusters;
mod measure;
pub mod result;
pub mod sample;
pub mod spec;
mod spending;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::{DeviceId, HardwareClass};

use measure::measure;
pub use result::{Bounded, Estimate, GateResult, GateVerdict, Looked, Shown, Unit};
pub use sample::{ControlKind, Evidence, Sample};
pub use spec::{GateSpec, Metric, Mode};
pub use spending::{Looks, allowance, is_due};

/// Classes that are judged by themselves; the others are judged together with all. Each takes its
/// part of the allowance, so that many would leave none of them anything to decide with.
pub const CLASSES_MAX: usize = 8;

/// The devices that one judgement is about.
pub(super) type Group<'a> = Vec<&'a Sample>;

/// Looks at every gate: for each class that has enough devices on both sides, then for all devices
/// together without the classes that failed. Classes that the rollout has left out are on neither
/// side: what is left would differ in more than the release. `number` is the look's, from 1.
pub fn look(
    gates: &[GateSpec],
    evidence: &Evidence,
    left_out: &BTreeSet<&HardwareClass>,
    number: u32,
    now_s: u64,
) -> Looked {
    let classes: Vec<_> =
        classes(evidence).into_iter().filter(|class| !left_out.contains(class)).collect();
    let deciding = gates.iter().filter(|gate| gate.mode != Mode::DryRun).count().max(1);
    let alpha = allowance(number) / (deciding * (classes.len() + 1)) as f64;
    let mut results = Vec::new();
    let mut bad = left_out.clone();
    for class in &classes {
        let of = |sample: &&Sample| sample.class.as_ref() == Some(class);
        let found = judge(gates, evidence, of, Some(class), alpha);
        if found.iter().any(GateResult::halts) {
            bad.insert(class);
        }
        results.extend(found);
    }
    let rest = |sample: &&Sample| !sample.class.as_ref().is_some_and(|class| bad.contains(class));
    results.extend(judge(gates, evidence, rest, None, alpha));
    let Evidence { control_kind, since_s, .. } = *evidence;
    Looked { number, at_s: now_s, since_s, control_kind, results }
}

fn judge(
    gates: &[GateSpec],
    evidence: &Evidence,
    of: impl Fn(&&Sample) -> bool,
    class: Option<&HardwareClass>,
    alpha: f64,
) -> Vec<GateResult> {
    let group = |side: &BTreeMap<DeviceId, Sample>| side.values().filter(&of).count();
    if group(&evidence.cohort) == 0 && class.is_none() && !evidence.cohort.is_empty() {
        return Vec::new(); // every class failed by itself
    }
    let cohort: Group<'_> = evidence.cohort.values().filter(&of).collect();
    let control: Group<'_> = evidence.control.values().filter(&of).collect();
    let measured = |gate: &GateSpec| {
        let mut result = measure(gate, &cohort, &control, alpha);
        result.class = class.cloned();
        result
    };
    gates.iter().map(measured).collect()
}

/// The classes that are judged by themselves: there are at least two in the cohort, and each has
/// devices on both sides. The largest first, were there too many.
fn classes(evidence: &Evidence) -> Vec<HardwareClass> {
    let count = |side: &BTreeMap<DeviceId, Sample>| {
        let mut devices: BTreeMap<HardwareClass, usize> = BTreeMap::new();
        for class in side.values().filter_map(|sample| sample.class.as_ref()) {
            *devices.entry(class.clone()).or_default() += 1;
        }
        devices
    };
    let (cohort, control) = (count(&evidence.cohort), count(&evidence.control));
    let mut both: Vec<_> = cohort.into_iter().filter(|(c, _)| control.contains_key(c)).collect();
    both.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    both.truncate(CLASSES_MAX);
    let mut classes: Vec<_> = both.into_iter().map(|(class, _)| class).collect();
    classes.sort();
    classes
}
