//! What was measured, in the API's words, and what healthy means, in a person's.

use fleetway_controller::fleet::{Fleet, ReportTotals, TelemetryView as Telemetry};
use fleetway_protocol::counters::{Confidence, Counters, Scores};
use fleetway_protocol::drift::{DRIFT_SAMPLES_MIN, Drift};
use fleetway_protocol::health::{
    Evidence, Health, HealthPolicy, Inconclusive, WHOLE_PERMILLE, drifts,
};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::Host;

use super::types::{
    AnswersView, DriftView, EvidenceView, HostView, InUseView, ReportsView, TelemetryView, TopClass,
};

/// The last telemetry of a model on a device.
pub(super) fn telemetry(fleet: &Fleet, telemetry: &Telemetry) -> TelemetryView {
    TelemetryView {
        release: super::view::release_ref(fleet, telemetry.release),
        answers: answers(&telemetry.counters, health(fleet, &telemetry.release)),
        rss_bytes: telemetry.rss_bytes,
        dropped: telemetry.dropped,
    }
}

/// A release in use, if any device reported it since the controller started.
pub(super) fn in_use(fleet: &Fleet, release: &Digest) -> Option<InUseView> {
    let (devices, counters) = fleet.counted(release);
    let answers = answers(&counters, health(fleet, release));
    (devices > 0).then_some(InUseView { devices, answers })
}

fn health<'a>(fleet: &'a Fleet, release: &Digest) -> Option<&'a Health> {
    fleet.release(release).map(|release| &release.manifest.health)
}

fn answers(counters: &Counters, health: Option<&Health>) -> AnswersView {
    AnswersView {
        requests: counters.requests,
        errors: counters.errors,
        p50_us: counters.latency.quantile_us(500),
        p95_us: counters.latency.quantile_us(950),
        top_class: top_class(&counters.classes),
        classes: counters.classes.to_vec(),
        confidence: counters.confidence().map(Confidence::share),
        drift: health.map(|health| drift(counters, health)).unwrap_or_default(),
    }
}

fn drift(counters: &Counters, health: &Health) -> Vec<DriftView> {
    let psi_max = f64::from(health.policy.psi_milli_max) / 1000.0;
    let view = |(of, found): (fleetway_protocol::health::Subject, Option<Drift>)| {
        let Drift { psi, bound, samples } = found?;
        let alarm = psi_max > 0.0 && samples >= DRIFT_SAMPLES_MIN && psi > bound;
        Some(DriftView { of: of.to_string(), psi, bound, samples, alarm })
    };
    drifts(&health.reference, counters, psi_max).filter_map(view).collect()
}

fn top_class(classes: &[u32]) -> Option<TopClass> {
    let all: u64 = classes.iter().map(|count| u64::from(*count)).sum();
    let (class, count) = classes.iter().enumerate().rev().max_by_key(|(_, count)| **count)?;
    let permille = (u64::from(*count) * 1000).checked_div(all)?;
    Some(TopClass { class: class as u32, permille: permille as u32 })
}

/// How a device's machine does.
pub(super) fn host(host: &Host) -> HostView {
    HostView {
        uptime_s: host.uptime_s,
        cpu_pct: host.cpu_permille.map(|permille| f32::from(permille) / 10.0),
        memory_bytes: host.memory_bytes,
        memory_available_bytes: host.memory_available_bytes,
        temp_c: host.temperature_milli_c.map(|milli_c| milli_c as f32 / 1000.0),
        disk_bytes: host.disk_bytes,
        disk_free_bytes: host.disk_free_bytes,
    }
}

/// What became of a device's telemetry reports.
pub(super) fn reports(totals: ReportTotals) -> ReportsView {
    let ReportTotals { produced, delivered, lost } = totals;
    ReportsView { produced, delivered, lost }
}

/// What a verdict was measured on.
pub(super) fn evidence(reason: Reason, evidence: Evidence) -> EvidenceView {
    let Evidence { of, measured, bound, samples } = evidence;
    let text = evidence.sentence(reason).to_string();
    EvidenceView { text, of: of.to_string(), measured, bound, samples }
}

/// What healthy means for a release, one sentence each.
pub(super) fn policy_words(health: &Health) -> Vec<String> {
    let HealthPolicy {
        samples_min,
        window_s,
        probation_s_min,
        inconclusive,
        error_permille_max,
        p95_us_max,
        p95_percent_max,
        collapse_permille_max,
        psi_milli_max,
        confidence_permille_max,
        memory_mib_max,
        memory_growth_mib_max,
        crashes_max,
    } = health.policy;
    let percent = |permille: u16| f32::from(permille) / 10.0;
    let mut words = vec![format!(
        "judged by the answers of the last {}, once there are {samples_min}",
        span(window_s)
    )];
    let mut say = |on: bool, text: String| words.extend(on.then_some(text));
    say(probation_s_min > 0, format!("on trial for at least {}", span(probation_s_min)));
    say(
        error_permille_max < WHOLE_PERMILLE,
        format!("at most {} % of the answers fail", percent(error_permille_max)),
    );
    let ms = f64::from(p95_us_max) / 1000.0;
    say(p95_us_max > 0, format!("95 % of the answers within {ms} ms"));
    say(
        p95_percent_max > 0,
        format!("95 % of the answers within {p95_percent_max} % of the time of the release before"),
    );
    say(
        collapse_permille_max < WHOLE_PERMILLE,
        format!("no class has more than {} % of the answers", percent(collapse_permille_max)),
    );
    let reference = &health.reference;
    let watched: Vec<String> = reference
        .watched
        .iter()
        .map(|watched| watched.what.to_string())
        .chain((!reference.classes.is_empty()).then(|| "the classes".to_owned()))
        .collect();
    let psi = f64::from(psi_milli_max) / 1000.0;
    say(
        psi_milli_max > 0 && !watched.is_empty(),
        format!("no drift above PSI {psi} on {DRIFT_SAMPLES_MIN} answers: {}", watched.join(", ")),
    );
    if let Some(mean) = reference.confidence {
        let off = f32::from(confidence_permille_max) / 1000.0;
        say(
            confidence_permille_max < WHOLE_PERMILLE,
            format!("mean confidence within {off} of {:.3}", mean.share()),
        );
    }
    say(memory_mib_max > 0, format!("the process holds at most {memory_mib_max} MiB"));
    say(
        memory_growth_mib_max > 0,
        format!("the process grows by at most {memory_growth_mib_max} MiB"),
    );
    say(true, format!("{crashes_max} crashes are tolerated"));
    say(
        true,
        match inconclusive {
            Inconclusive::Wait => "too little evidence: waits".to_owned(),
            Inconclusive::Confirm { after_s } => {
                format!("too little evidence: confirms after {}", span(after_s))
            }
            Inconclusive::RollBack { after_s } => {
                format!("too little evidence: goes back after {}", span(after_s))
            }
        },
    );
    words
}

/// What the scores are taken for.
pub(super) fn scores_word(scores: Option<Scores>) -> Option<&'static str> {
    scores.map(|scores| match scores {
        Scores::Probabilities => "probabilities",
        Scores::Logits => "logits",
    })
}

/// Seconds in the largest unit that divides them.
fn span(seconds: u32) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(size, _)| seconds > 0 && seconds.is_multiple_of(*size));
    unit.map_or_else(|| format!("{seconds}s"), |(size, name)| format!("{}{name}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_in_words() {
        let words = policy_words(&Health::default()).join("\n");
        let expected = "judged by the answers of the last 1h, once there are 20\n\
            at most 2 % of the answers fail\n\
            no class has more than 95 % of the answers\n\
            the process grows by at most 256 MiB\n\
            2 crashes are tolerated\n\
            too little evidence: waits";
        assert_eq!(words, expected);
    }

    #[test]
    fn the_most_frequent_class() {
        assert_eq!(top_class(&[1, 6, 3]), Some(TopClass { class: 1, permille: 600 }));
        assert_eq!(top_class(&[2, 2]), Some(TopClass { class: 0, permille: 500 }));
        assert_eq!((top_class(&[]), top_class(&[0, 0])), (None, None));
    }

    #[test]
    fn spans() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
