//! One metric of one group of devices.

use fleetway_protocol::histogram::Histogram;

use super::clusters::{Cluster, Side, effective, mean};
use super::result::Shown;
use super::sample::Install;
use super::stats::{Interval, difference, normal, wilson};
use super::{Bounded, Estimate, GateResult, GateSpec, GateVerdict, Group, Metric, Sample, Unit};

/// Millionths in one.
const WHOLE: f64 = 1e6;
/// The latency percentile, per thousand.
const P95: u32 = 950;

/// What the two sides say of one gate, with bounds that each err with probability `alpha`.
pub(super) fn measure(
    gate: &GateSpec,
    cohort: &Group<'_>,
    control: &Group<'_>,
    alpha: f64,
) -> GateResult {
    let metric = gate.metric;
    let sides = [cohort, control].map(|group| Values::of(metric, group));
    let sides = if metric.has_control() { &sides[..] } else { &sides[..1] };
    let found = intervals(metric, sides, alpha);
    let estimates: Vec<_> = [cohort, control]
        .iter()
        .zip(sides)
        .zip(&found)
        .map(|((group, values), interval)| estimate(metric, group, values, *interval))
        .collect();
    let worse = worsening(metric, &found);
    let missing = missing(gate, &estimates);
    let (tolerated, excluded) = (i64::from(gate.tolerated), i64::from(gate.excluded));
    let verdict = match (&missing, worse) {
        (None, Some(worse)) if worse.low > tolerated => GateVerdict::Fail,
        (None, Some(worse)) if worse.high <= excluded => GateVerdict::Pass,
        _ => GateVerdict::Inconclusive,
    };
    let mut result = GateResult {
        metric,
        mode: gate.mode,
        class: None,
        unit: metric.unit(),
        cohort: estimates.first().copied().unwrap_or_default(),
        control: estimates.get(1).copied(),
        worse,
        tolerated: gate.tolerated,
        excluded: gate.excluded,
        verdict,
        sentence: String::new(),
    };
    result.sentence = missing.unwrap_or_else(|| sentence(&result));
    result
}

/// One side's clusters, and its latencies where those are what counts.
struct Values {
    clusters: Vec<Cluster>,
    side: Option<Side>,
    latency: Histogram,
}

impl Values {
    fn of(metric: Metric, group: &Group<'_>) -> Self {
        let mut latency = Histogram::new();
        if metric == Metric::P95Latency {
            group.iter().for_each(|sample| latency.merge(&sample.latency));
        }
        let p95_us = latency.quantile_us(P95).unwrap_or(u64::MAX);
        let clusters: Vec<_> = group.iter().map(|sample| cluster(metric, sample, p95_us)).collect();
        Self { side: Side::of(&clusters), clusters, latency }
    }

    fn counted(&self) -> u32 {
        self.clusters.iter().filter(|cluster| cluster.of > 0.0).count() as u32
    }
}

/// What one device counts for: `hits` of `of`.
fn cluster(metric: Metric, sample: &Sample, p95_us: u64) -> Cluster {
    let of = |hits: u64, of: u64| Cluster { hits: hits.min(of) as f64, of: of as f64 };
    let one = |hit: Option<bool>| of(u64::from(hit == Some(true)), u64::from(hit.is_some()));
    match metric {
        Metric::InstallSuccess => one(sample.install.map(|i| i == Install::Confirmed)),
        Metric::Rollbacks => one(sample.install.map(|i| i == Install::RolledBack)),
        Metric::Crashes => one((!sample.offline || sample.requests > 0).then_some(sample.crashed)),
        Metric::Drift => one(sample.drifted),
        Metric::ErrorRate => of(sample.errors, sample.requests),
        Metric::Confidence => Cluster {
            hits: sample.confidence_sum as f64 / f64::from(u16::MAX),
            of: sample.confidence_count as f64,
        },
        Metric::ShadowAgreement => {
            let (agreed, compared) = sample.shadow.unwrap_or_default();
            of(agreed.into(), compared.into())
        }
        // Slower than the side's own percentile: how much devices differ in that share says how
        // much the percentile is worth.
        Metric::P95Latency => of(sample.latency.above(p95_us), sample.latency.count()),
    }
}

fn intervals(metric: Metric, sides: &[Values], alpha: f64) -> Vec<Option<Interval>> {
    let known: Vec<Side> = sides.iter().filter_map(|values| values.side).collect();
    let of = |values: &Values| {
        let side = values.side?;
        match metric {
            Metric::Confidence => Some(mean(&side, &known, alpha)),
            Metric::P95Latency => {
                percentile(&values.latency, effective(&side, &known, alpha), alpha)
            }
            _ => Some(wilson(side.share, effective(&side, &known, alpha), normal(alpha))),
        }
    };
    sides.iter().map(of).collect()
}

/// The bounds of a percentile: the percentiles at the bounds of the share that lies above it
/// (Woodruff, 1952, J. Am. Stat. Assoc. 47:635), of `n` independent answers.
fn percentile(latency: &Histogram, n: f64, alpha: f64) -> Option<Interval> {
    let slower = wilson(1.0 - f64::from(P95) / 1000.0, n, normal(alpha));
    let at = |permille: f64| Some(latency.quantile_us(permille as u32)? as f64);
    let low = at(((1.0 - slower.high) * 1000.0).floor())?;
    let high = at(((1.0 - slower.low) * 1000.0).ceil())?;
    Some(Interval { value: at(P95.into())?, low, high })
}

/// How much worse the cohort is, millionths.
fn worsening(metric: Metric, found: &[Option<Interval>]) -> Option<Bounded> {
    let cohort = found.first().copied().flatten()?;
    let control = match found.get(1) {
        Some(control) => (*control)?,
        // What everybody would wish for, known exactly.
        None => {
            let wish = f64::from(u8::from(metric.more_is_better()));
            Interval { value: wish, low: wish, high: wish }
        }
    };
    let worse = match metric {
        Metric::P95Latency => {
            let ln = |i: Interval| i.map(|us| libm::log(us.max(1.0)));
            difference(ln(cohort), ln(control)).map(|ratio| libm::exp(ratio) - 1.0)
        }
        _ if metric.more_is_better() => difference(control, cohort),
        _ => difference(cohort, control),
    };
    Some(bounded(worse, WHOLE))
}

fn bounded(interval: Interval, scale: f64) -> Bounded {
    let Interval { value, low, high } = interval.map(|v| v * scale);
    // The casts saturate.
    Bounded { value: value.round() as i64, low: low.round() as i64, high: high.round() as i64 }
}

fn estimate(
    metric: Metric,
    group: &Group<'_>,
    values: &Values,
    interval: Option<Interval>,
) -> Estimate {
    let scale = match metric.unit() {
        Unit::Microseconds => 1.0,
        Unit::Millionths => WHOLE,
    };
    Estimate {
        devices: group.len() as u32,
        counted: values.counted(),
        offline: group.iter().filter(|sample| sample.offline).count() as u32,
        samples: values.side.map_or(0, |side| side.of as u64),
        value: interval.map(|interval| bounded(interval, scale)),
    }
}

/// What is missing for a judgement, in a sentence.
fn missing(gate: &GateSpec, sides: &[Estimate]) -> Option<String> {
    let metric = gate.metric;
    let counts_requests = matches!(
        metric,
        Metric::ErrorRate | Metric::P95Latency | Metric::Confidence | Metric::ShadowAgreement
    );
    let answers_min = if counts_requests { u64::from(gate.answers_min) } else { 0 };
    for (side, name) in sides.iter().zip(["the cohort", "the control cohort"]) {
        let Estimate { devices, counted, offline, samples, .. } = *side;
        let min = gate.devices_min;
        if counted < min {
            let away =
                if offline > 0 { format!(", {offline} of them offline") } else { String::new() };
            return Some(format!(
                "{}: {counted} of {devices} devices of {name} have told enough{away}; {min} are needed",
                metric.name()
            ));
        }
        if samples < answers_min {
            return Some(format!(
                "{}: {samples} requests counted in {name}; {answers_min} are needed",
                metric.name()
            ));
        }
    }
    None
}

fn sentence(result: &GateResult) -> String {
    let GateResult { metric, unit, cohort, control, worse, tolerated, excluded, verdict, .. } =
        result;
    let show = |side: &Estimate| match side.value {
        Some(value) => format!("{} on {} devices", Shown(value, *unit), side.counted),
        None => "nothing".to_owned(),
    };
    let against = control.as_ref().map_or(String::new(), |c| format!(" against {}", show(c)));
    let worse = worse.map_or(String::new(), |worse| Shown(worse, Unit::Millionths).to_string());
    let percent = |millionths: u32| f64::from(millionths) / 10_000.0;
    let follows = match verdict {
        GateVerdict::Fail => format!("surely more than the {:.1} % tolerated", percent(*tolerated)),
        GateVerdict::Pass => format!("surely not more than {:.1} %", percent(*excluded)),
        GateVerdict::Inconclusive => {
            format!(
                "too uncertain to rule out {:.1} %; more devices or requests are needed",
                percent(*excluded)
            )
        }
    };
    format!("{}: {}{against}: worse by {worse}, {follows}", metric.name(), show(cohort))
}
