//! The gates: one measurement each, its bound, and how many answers it takes to be believed.

use heapless::Vec;

use super::{Evidence, Health, HealthPolicy, Subject, WHOLE_PERMILLE};
use crate::counters::Counters;
use crate::drift::{DRIFT_SAMPLES_MIN, Drift, Reference};
use crate::limits::WATCHED_MAX;
use crate::reason::Reason;

/// Errors, two of latency, collapse, confidence, classes, and one per watched number.
const GATES_MAX: usize = 6 + WATCHED_MAX;

/// One measurement, to be held against its bound.
pub(super) struct Gate {
    pub(super) reason: Reason,
    pub(super) evidence: Evidence,
    /// Answers without which it says nothing.
    pub(super) needed: u32,
    /// Whether a release is confirmed only when it has said something.
    pub(super) required: bool,
}

impl Gate {
    /// One that needs no answers.
    pub(super) fn always(reason: Reason, evidence: Evidence) -> Self {
        Self { reason, evidence, needed: 0, required: false }
    }
}

/// Every gate that is on, by what was seen.
pub(super) fn gates(
    seen: &Counters,
    health: &Health,
    policy: &HealthPolicy,
    p95_before_us: Option<u64>,
) -> Vec<Gate, GATES_MAX> {
    let fixed = [
        errors(seen, policy),
        latency(seen, policy),
        latency_beside(seen, policy, p95_before_us),
        collapse(seen, health, policy),
        confidence(seen, health, policy),
    ];
    let mut all: Vec<Gate, GATES_MAX> = fixed.into_iter().flatten().collect();
    if policy.psi_milli_max > 0 {
        let psi_max = f64::from(policy.psi_milli_max) / 1000.0;
        // As many places as there can be.
        all.extend(drifts(&health.reference, seen, psi_max).map(|found| drift(found, policy)));
    }
    all
}

fn errors(seen: &Counters, policy: &HealthPolicy) -> Option<Gate> {
    let bound = policy.error_permille_max;
    let measured = permille(seen.errors, seen.requests);
    (bound < WHOLE_PERMILLE).then(|| Gate {
        reason: Reason::HealthErrors,
        evidence: whole(measured, bound.into(), seen.requests),
        needed: policy.samples_min,
        required: true,
    })
}

fn latency(seen: &Counters, policy: &HealthPolicy) -> Option<Gate> {
    (policy.p95_us_max > 0).then(|| Gate {
        reason: Reason::HealthLatency,
        evidence: whole(p95_us(seen), policy.p95_us_max, seen.latency.count()),
        needed: policy.samples_min,
        required: true,
    })
}

fn latency_beside(seen: &Counters, policy: &HealthPolicy, before_us: Option<u64>) -> Option<Gate> {
    let percent = u64::from(policy.p95_percent_max);
    let bound = u32::try_from(before_us? * percent / 100).unwrap_or(u32::MAX);
    let evidence = whole(p95_us(seen), bound, seen.latency.count());
    (percent > 0).then_some(Gate {
        reason: Reason::HealthLatency,
        evidence: Evidence { of: Subject::Before, ..evidence },
        needed: policy.samples_min,
        required: true,
    })
}

fn collapse(seen: &Counters, health: &Health, policy: &HealthPolicy) -> Option<Gate> {
    let bound = policy.collapse_permille_max;
    let classified = seen.classes.iter().map(|count| u64::from(*count)).sum();
    let top = seen.classes.iter().copied().max().unwrap_or(0);
    (bound < WHOLE_PERMILLE).then(|| Gate {
        reason: Reason::HealthCollapse,
        evidence: whole(permille(top.into(), classified), bound.into(), classified),
        needed: policy.samples_min,
        // A model without classes never gives any.
        required: health.scores.is_some(),
    })
}

fn confidence(seen: &Counters, health: &Health, policy: &HealthPolicy) -> Option<Gate> {
    let bound = policy.confidence_permille_max;
    let expected = health.reference.confidence.filter(|_| bound < WHOLE_PERMILLE)?;
    let mean = seen.confidence().unwrap_or(expected);
    let off = u32::from(mean.0.abs_diff(expected.0)) * u32::from(WHOLE_PERMILLE);
    Some(Gate {
        reason: Reason::HealthConfidence,
        evidence: whole(off / u32::from(u16::MAX), bound.into(), seen.confidence_count),
        needed: policy.samples_min.max(DRIFT_SAMPLES_MIN),
        required: true,
    })
}

/// How far what was seen is from the reference: the classes, then each watched number. `None`
/// where nothing was seen yet.
pub fn drifts(
    reference: &Reference,
    seen: &Counters,
    psi_max: f64,
) -> impl Iterator<Item = (Subject, Option<Drift>)> {
    // As long as the longer of the two: a class that one side never saw has a count of 0.
    let len = reference.classes.len().max(seen.classes.len());
    let expected =
        (0..len).map(|at| reference.classes.get(at).map_or(0, |count| u32::from(*count)));
    let actual = (0..len).map(|at| seen.classes.get(at).copied().unwrap_or(0));
    let classes = (!reference.classes.is_empty())
        .then(|| (Subject::Classes, Drift::of(expected, actual, psi_max)));
    let numbers = reference.watched.iter().enumerate().map(move |(at, watched)| {
        let actual = seen.watched.get(at).copied().unwrap_or_default();
        let expected = watched.counts.iter().map(|count| u32::from(*count));
        (Subject::Watched(watched.what), Drift::of(expected, actual.into_iter(), psi_max))
    });
    classes.into_iter().chain(numbers)
}

fn drift((of, found): (Subject, Option<Drift>), policy: &HealthPolicy) -> Gate {
    // The cast saturates.
    let milli = |psi: f64| (psi * 1000.0) as u32;
    let (measured, bound, samples) =
        found.map_or((0, 0, 0), |d| (milli(d.psi), milli(d.bound), d.samples));
    Gate {
        reason: Reason::HealthDrift,
        evidence: Evidence { of, measured, bound, samples },
        needed: policy.samples_min.max(DRIFT_SAMPLES_MIN),
        required: true,
    }
}

fn whole(measured: u32, bound: u32, samples: u64) -> Evidence {
    let samples = u32::try_from(samples).unwrap_or(u32::MAX);
    Evidence { of: Subject::Whole, measured, bound, samples }
}

fn permille(part: u64, of: u64) -> u32 {
    u32::try_from(part.saturating_mul(1000).checked_div(of).unwrap_or(0)).unwrap_or(u32::MAX)
}

fn p95_us(seen: &Counters) -> u32 {
    u32::try_from(seen.latency.quantile_us(950).unwrap_or(0)).unwrap_or(u32::MAX)
}
