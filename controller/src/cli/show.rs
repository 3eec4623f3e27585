//! Devices and models as text.

use std::collections::BTreeMap;

use super::output::{ago, bytes, count, facts, millis, or_dash, percent, table};
use crate::api::types::{
    AnswersView, DeviceModelView, DeviceView, HostView, ReleaseRef, ReportsView, SandboxView,
    ShadowView, TelemetryView,
};

/// `site=lab floor=2`.
pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let all: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if all.is_empty() { "-".into() } else { all.join(" ") }
}

/// Short name of a release, `-` for none.
pub(super) fn release_text(release: Option<&ReleaseRef>) -> String {
    or_dash(release.map(ReleaseRef::text))
}

/// Where an update is: `download 12/40`, `probation`.
pub(super) fn phase_text(model: &DeviceModelView) -> String {
    match model.phase.as_str() {
        "download" if model.total > 0 => format!("download {}/{}", model.have, model.total),
        phase => phase.to_owned(),
    }
}

/// The columns of telemetry: requests, errors, p50, p95, top class.
pub(super) fn telemetry_cells(telemetry: Option<&TelemetryView>) -> [String; 5] {
    let Some(telemetry) = telemetry else { return std::array::from_fn(|_| "-".into()) };
    let top =
        telemetry.answers.top_class.map(|top| format!("{} ({})", top.class, percent(top.permille)));
    [
        telemetry.answers.requests.to_string(),
        telemetry.answers.errors.to_string(),
        millis(telemetry.answers.p50_us),
        millis(telemetry.answers.p95_us),
        or_dash(top),
    ]
}

/// The list of devices.
pub(super) fn devices_text(devices: &[DeviceView], now_s: u64) -> String {
    table(
        ["id", "state", "seen", "sandbox", "runs", "labels"],
        devices.iter().map(|device| {
            let runs: Vec<_> = device
                .models
                .iter()
                .map(|model| format!("{}@{}", model.model, release_text(model.running.as_ref())))
                .collect();
            [
                device.id.clone(),
                state_text(device).into(),
                seen(device.last_seen_s, now_s),
                or_dash(device.sandbox.as_ref().map(|sandbox| &sandbox.state)),
                if runs.is_empty() { "-".into() } else { runs.join(" ") },
                labels_text(&device.labels),
            ]
        }),
    )
}

/// The same with agent, order and identity.
pub(super) fn devices_wide(devices: &[DeviceView], now_s: u64) -> String {
    table(
        [
            "id", "state", "seen", "agent", "order", "identity", "sandbox", "runs", "update",
            "labels",
        ],
        devices.iter().map(|device| {
            let models = |text: &dyn Fn(&DeviceModelView) -> String| {
                let all: Vec<_> = device.models.iter().map(text).collect();
                if all.is_empty() { "-".into() } else { all.join(" ") }
            };
            let order = match (device.generation, device.taken) {
                (0, _) => "-".to_owned(),
                (generation, true) => generation.to_string(),
                (generation, false) => format!("{generation} (not taken)"),
            };
            [
                device.id.clone(),
                state_text(device).into(),
                seen(device.last_seen_s, now_s),
                or_dash(device.agent.as_ref()),
                order,
                identity_text(device, now_s),
                or_dash(device.sandbox.as_ref().map(|sandbox| &sandbox.state)),
                models(&|m| format!("{}@{}", m.model, release_text(m.running.as_ref()))),
                models(&phase_text),
                labels_text(&device.labels),
            ]
        }),
    )
}

fn state_text(device: &DeviceView) -> &'static str {
    match (device.identity.as_str(), device.online) {
        ("revoked", _) => "revoked",
        (_, true) => "online",
        (_, false) => "offline",
    }
}

fn seen(last_seen_s: Option<u64>, now_s: u64) -> String {
    match last_seen_s {
        Some(seen_s) => format!("{} ago", ago(now_s.saturating_sub(seen_s))),
        None => "not yet".into(),
    }
}

/// One device with all its models.
pub(super) fn device_text(device: &DeviceView, now_s: u64) -> String {
    let order = match (&device.refused, device.taken) {
        _ if device.generation == 0 => "none".into(),
        (Some(why), _) => format!("generation {} refused: {}", device.generation, why.text),
        (None, true) => format!("generation {}, taken", device.generation),
        (None, false) => format!("generation {}, not taken yet", device.generation),
    };
    let mut lines = vec![
        ("device", device.id.clone()),
        ("state", if device.online { "online" } else { "offline" }.into()),
        ("seen", seen(device.last_seen_s, now_s)),
        ("agent", or_dash(device.agent.as_ref())),
        ("sandbox", or_dash(device.sandbox.as_ref().map(sandbox_text))),
        ("labels", labels_text(&device.labels)),
        ("order", order),
        ("identity", identity_text(device, now_s)),
    ];
    lines.extend(device.host.iter().flat_map(host_lines));
    lines.extend(reports_line(device.reports));
    let mut text = facts(&lines);
    for model in &device.models {
        text.push_str("\n\n");
        text.push_str(&model_text(model, now_s));
    }
    text
}

/// `partial: no seccomp; new models are tried all the same`.
fn sandbox_text(sandbox: &SandboxView) -> String {
    if sandbox.missing.is_empty() {
        return sandbox.state.clone();
    }
    let policy =
        if sandbox.met { "new models are tried all the same" } else { "no new model is tried" };
    format!("{}: no {}; {policy}", sandbox.state, sandbox.missing.join(", no "))
}

fn identity_text(device: &DeviceView, now_s: u64) -> String {
    match device.certificate_ends_s {
        Some(ends_s) if ends_s > now_s => {
            format!("{}, certificate good for {}", device.identity, ago(ends_s - now_s))
        }
        Some(ends_s) => {
            format!("{}, certificate ended {} ago", device.identity, ago(now_s - ends_s))
        }
        None => match &device.via {
            Some(via) => format!("{}, hangs on {via}", device.identity),
            None => device.identity.clone(),
        },
    }
}

fn model_text(model: &DeviceModelView, now_s: u64) -> String {
    let mut lines = vec![
        ("model", model.model.clone()),
        ("  runs", release_text(model.running.as_ref())),
        ("  ordered", release_text(model.desired.as_ref())),
        ("  phase", phase_text(model)),
        ("  floor", model.floor.to_string()),
    ];
    if let Some(target) = model.target.as_ref().filter(|_| model.phase != "idle") {
        lines.push(("  works on", target.text()));
    }
    if let Some(waiting) = &model.waiting {
        lines.push(("  waits", waiting.text.clone()));
    }
    if let Some(held) = &model.held {
        let since = held
            .since_s
            .map_or_else(String::new, |s| format!(", since {} ago", ago(now_s.saturating_sub(s))));
        let what = held.conditions.join(", ");
        lines.push(("  held", format!("before the {} for: {what}{since}", held.before)));
    }
    if let Some(shadow) = &model.shadow {
        lines.push(("  shadow", shadow_text(shadow)));
    }
    if let Some(last) = &model.last {
        let why = last.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.text));
        let measured =
            last.evidence.as_ref().map_or_else(String::new, |found| format!(" ({})", found.text));
        let result = last.result.replace('_', " ");
        lines.push((
            "  last",
            format!("{} {result} (rollout {}){why}{measured}", last.release.text(), last.rollout),
        ));
    }
    if model.poisoned > 0 {
        lines.push((
            "  bad",
            format!("{} remembered as bad", count(u64::from(model.poisoned), "release")),
        ));
    }
    if let Some(telemetry) = &model.telemetry {
        let [requests, errors, p50, p95, top] = telemetry_cells(Some(telemetry));
        lines.push((
            "  answers",
            format!("{requests} requests, {errors} errors, by {}", telemetry.release.text()),
        ));
        lines.push(("  latency", format!("p50 {p50}, p95 {p95}")));
        lines.push(("  top class", top));
        lines.push(("  classes", classes_text(&telemetry.answers.classes)));
        lines.extend(measured_lines(&telemetry.answers));
        lines.extend(telemetry.rss_bytes.map(|rss| ("  memory", bytes(rss))));
    }
    facts(&lines)
}

/// Confidence and drift.
pub(super) fn measured_lines(answers: &AnswersView) -> Vec<(&'static str, String)> {
    let confidence = answers.confidence.map(|mean| ("  confidence", format!("{mean:.3}")));
    let drift = answers.drift.iter().map(|found| {
        let is = if found.alarm { ", above" } else { ", bound" };
        let (of, psi, samples, bound) = (&found.of, found.psi, found.samples, found.bound);
        ("  drift", format!("PSI of {of} is {psi:.3} on {samples} answers{is} {bound:.3}"))
    });
    confidence.into_iter().chain(drift).collect()
}

fn host_lines(host: &HostView) -> Vec<(&'static str, String)> {
    let of = |free: Option<u64>, all: Option<u64>| {
        Some(format!("{} free of {}", bytes(free?), bytes(all?)))
    };
    let lines = [
        ("uptime", host.uptime_s.map(ago)),
        ("cpu", host.cpu_pct.map(|percent| format!("{percent:.1} %"))),
        ("memory", of(host.memory_available_bytes, host.memory_bytes)),
        ("disk", of(host.disk_free_bytes, host.disk_bytes)),
        ("temperature", host.temp_c.map(|celsius| format!("{celsius:.1} C"))),
    ];
    lines.into_iter().filter_map(|(name, said)| Some((name, said?))).collect()
}

fn reports_line(reports: ReportsView) -> Option<(&'static str, String)> {
    let ReportsView { produced, delivered, lost } = reports;
    let waiting = produced.saturating_sub(delivered.saturating_add(lost));
    let text = format!("{produced} made, {delivered} came, {lost} lost, {waiting} wait");
    (produced > 0).then_some(("telemetry", text))
}

/// `v2: 300 compared, 99.7% agree, 1 failed, 2 not copied; p95 1.5 ms beside 1.4 ms; passed`.
fn shadow_text(shadow: &ShadowView) -> String {
    let agree = (u64::from(shadow.agreed) * 1000)
        .checked_div(shadow.compared.into())
        .map_or_else(String::new, |permille| format!(", {} agree", percent(permille as u32)));
    let latency = match shadow.compared {
        0 => String::new(),
        _ => format!(
            "; p95 {} beside {}",
            millis(Some(shadow.p95_us.into())),
            millis(Some(shadow.serving_p95_us.into()))
        ),
    };
    format!(
        "{}: {} compared{agree}, {} failed, {} not copied{latency}; {}",
        shadow.release.text(),
        shadow.compared,
        shadow.failed,
        shadow.dropped,
        shadow.ended.as_ref().map_or("goes on", |ended| ended.text.as_str()),
    )
}

fn classes_text(classes: &[u32]) -> String {
    let counted = classes.iter().enumerate().filter(|(_, count)| **count > 0);
    let all: Vec<_> = counted.map(|(class, count)| format!("{class}:{count}")).collect();
    if all.is_empty() { "-".into() } else { all.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{DriftView, HeldView, TopClass};

    #[test]
    fn a_device_shows_its_telemetry() {
        let release = ReleaseRef { digest: "ab".repeat(32), version: Some("v2".into()) };
        let telemetry = TelemetryView {
            release: release.clone(),
            answers: AnswersView {
                requests: 120,
                errors: 1,
                p50_us: Some(900),
                p95_us: Some(2_400),
                classes: vec![0, 100, 19],
                top_class: Some(TopClass { class: 1, permille: 840 }),
                confidence: Some(0.914),
                drift: vec![DriftView {
                    of: "the mean of input 0".into(),
                    psi: 0.3124,
                    bound: 0.1,
                    samples: 700,
                    alarm: true,
                }],
            },
            rss_bytes: Some(20 * 1024 * 1024),
            dropped: 0,
        };
        let model = DeviceModelView {
            model: "digits".into(),
            desired: Some(release.clone()),
            running: Some(release.clone()),
            target: None,
            phase: "download".into(),
            have: 3,
            total: 9,
            waiting: None,
            held: Some(HeldView {
                before: "activation".into(),
                conditions: vec!["unlocked".into(), "mains".into()],
                reasons: vec![],
                since_s: None,
            }),
            shadow: Some(ShadowView {
                release: release.clone(),
                compared: 300,
                agreed: 294,
                failed: 1,
                dropped: 2,
                diff_max: 0.25,
                p50_us: 900,
                p95_us: 1_500,
                serving_p95_us: 1_400,
                ended: None,
            }),
            last: None,
            floor: 1,
            poisoned: 0,
            telemetry: Some(telemetry),
        };
        let text = model_text(&model, 0);
        for said in [
            "download 3/9",
            "120 requests, 1 errors",
            "p50 0.9 ms, p95 2.4 ms",
            "1 (84%)",
            "1:100 2:19",
            "before the activation for: unlocked, mains",
            "v2: 300 compared, 98% agree, 1 failed, 2 not copied; p95 1.5 ms beside 1.4 ms; goes on",
            "20.0 MiB",
            "0.914",
            "PSI of the mean of input 0 is 0.312 on 700 answers, above 0.100",
        ] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
    }
}
