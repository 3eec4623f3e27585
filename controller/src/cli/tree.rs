//! A rollout as a tree: its phases, the devices in each, and why the others wait. What `rollout
//! watch`, `rollout status` and `top` show.
//!
//! Devices that need a look have a line each: failed, moving, gone back. The others are numbers,
//! and those not offered the release are gathered by reason, so that ten thousand devices fit a
//! screen.

use std::collections::BTreeMap;

use super::output::{count, millis};
use super::show::{phase_text, release_text};
use crate::api::types::{PhaseView, RolloutDevice, RolloutView};

/// Devices that stand for all of one reason.
const EXAMPLES: usize = 3;

/// The tree's lines; a phase shows at most `devices_max` devices.
pub(super) fn lines(view: &RolloutView, devices_max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let others = not_offered(view);
    let last = view.phase_list.len().saturating_sub(1);
    for (at, phase) in view.phase_list.iter().enumerate() {
        let is_last = at == last && others.is_empty();
        let of_phase: Vec<_> =
            view.devices.iter().filter(|d| d.rollout_phase == Some(phase.number)).collect();
        let (branch, rest) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{branch}{}", phase_line(view, phase, &of_phase)));
        if let Some(gate) = gate_line(view, phase) {
            lines.push(format!("{rest}   {gate}"));
        }
        let devices = device_lines(&of_phase, devices_max);
        lines.extend(devices.into_iter().map(|line| format!("{rest}   {line}")));
    }
    if !others.is_empty() {
        lines.push("└─ not offered it".into());
        lines.extend(others.into_iter().map(|line| format!("      {line}")));
    }
    lines
}

fn phase_line(view: &RolloutView, phase: &PhaseView, devices: &[&RolloutDevice]) -> String {
    let summary = &view.summary;
    let mark = match (phase.number.cmp(&summary.phase), summary.state.as_str()) {
        _ if summary.succeeded => "✔",
        (std::cmp::Ordering::Less, _) => "✔",
        (std::cmp::Ordering::Greater, _) => "·",
        (_, "running") => "▶",
        (_, "paused") => "‖",
        _ => "✘",
    };
    let number = |state: &str| devices.iter().filter(|d| d.state == state).count();
    let counts = ["confirmed", "moving", "failed", "reverted"].map(|s| (number(s), s));
    let counts: Vec<_> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, s)| format!("{n} {s}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    format!(
        "{mark} phase {} ({}, up to {}){counts}",
        phase.number,
        phase.share,
        count(u64::from(phase.devices), "device"),
    )
}

/// What the gate says stands in its phase.
fn gate_line(view: &RolloutView, phase: &PhaseView) -> Option<String> {
    let summary = &view.summary;
    let here = phase.number == summary.phase && !summary.over;
    let text = summary.gate_text.as_ref().filter(|_| here)?;
    Some(format!("gate {}: {text}", summary.gate))
}

fn device_lines(devices: &[&RolloutDevice], devices_max: usize) -> Vec<String> {
    let of = |state: &str| {
        let state = state.to_owned();
        devices.iter().filter(move |d| d.state == state)
    };
    let told: Vec<_> = ["failed", "moving", "reverted"].into_iter().flat_map(of).collect();
    let width = told.iter().take(devices_max).map(|d| d.id.len()).max().unwrap_or(0);
    let mut lines: Vec<_> =
        told.iter().take(devices_max).map(|device| device_line(device, width)).collect();
    if let Some(more) = told.len().checked_sub(devices_max).filter(|more| *more > 0) {
        lines.push(format!("and {more} more; `-o wide` has them all"));
    }
    lines
}

fn device_line(device: &RolloutDevice, width: usize) -> String {
    let model = device.model.as_ref();
    let runs = release_text(model.and_then(|model| model.running.as_ref()));
    let update = model.map(phase_text).filter(|phase| phase != "idle" && device.state == "moving");
    let update = update.map_or_else(String::new, |phase| format!(", {phase}"));
    let on_trial = model.filter(|m| m.phase == "probation").and_then(|m| m.telemetry.as_ref());
    let answers = on_trial.map_or_else(String::new, |t| {
        let (answers, p95) = (&t.answers, millis(t.answers.p95_us));
        format!(", {} answers, {} errors, p95 {p95}", answers.requests, answers.errors)
    });
    let offline = if device.online { "" } else { " (offline)" };
    let (id, state, why) = (&device.id, &device.state, &device.reason.text);
    format!("{id:width$}  {state}{offline}, runs {runs}{update}{answers}: {why}")
}

/// Devices without a phase, by reason.
fn not_offered(view: &RolloutView) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&RolloutDevice>> = BTreeMap::new();
    for device in view.devices.iter().filter(|d| d.rollout_phase.is_none()) {
        reasons.entry(&device.reason.code).or_default().push(device);
    }
    let mut reasons: Vec<_> = reasons.into_values().collect();
    reasons.sort_by_key(|devices| std::cmp::Reverse(devices.len()));
    let line = |devices: Vec<&RolloutDevice>| {
        let names: Vec<_> = devices.iter().take(EXAMPLES).map(|d| d.id.as_str()).collect();
        let more = devices.len().saturating_sub(EXAMPLES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let reason = &devices[0].reason;
        format!("{} {}: {} ({}{more})", devices.len(), reason.code, reason.text, names.join(", "))
    };
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::types::{ReasonView, ReleaseRef, RolloutCounts, RolloutSummary};

    fn device(id: usize, phase: Option<u32>, state: &str, code: &str, text: &str) -> RolloutDevice {
        RolloutDevice {
            id: format!("cam-{id}"),
            online: code != "OFFLINE",
            rollout_phase: phase,
            state: state.into(),
            reason: ReasonView { code: code.into(), text: text.into() },
            cause: None,
            model: None,
        }
    }

    /// A rollout in its second phase.
    pub(in crate::cli) fn view() -> RolloutView {
        let phase = |number, share: &str, devices| PhaseView {
            number,
            share: share.into(),
            devices,
            soak_s: 0,
        };
        let mut devices = vec![
            device(1, Some(1), "confirmed", "CONFIRMED", "runs it, confirmed"),
            device(2, Some(2), "moving", "IN_PROGRESS", "downloading"),
            device(3, Some(2), "failed", "FAILED", "failed: no room on the disk"),
            device(4, None, "waiting", "OFFLINE", "offline; last heard 9 s ago"),
        ];
        let later = "comes in a later phase; now in phase 2 of 3";
        devices.extend((5..10).map(|id| device(id, None, "waiting", "NOT_YOUR_PHASE", later)));
        RolloutView {
            summary: RolloutSummary {
                id: 3,
                model: "digits".into(),
                release: ReleaseRef { digest: "ab".repeat(32), version: Some("v2".into()) },
                state: "running".into(),
                over: false,
                succeeded: false,
                reason: None,
                phase: 2,
                phases: 3,
                gate: "waiting".into(),
                gate_text: Some("1 in flight, 1 confirmed".into()),
                counts: RolloutCounts {
                    total: 9,
                    waiting: 6,
                    moving: 1,
                    silent: 0,
                    confirmed: 1,
                    failed: 1,
                },
                started_by: "me".into(),
                started_s: 0,
            },
            selector: None,
            golden_mismatch_accepted: Some("trust me".into()),
            phase_list: vec![phase(1, "1", 1), phase(2, "25%", 3), phase(3, "100%", 9)],
            devices,
        }
    }

    #[test]
    fn every_device_is_told_one_by_one_or_by_its_reason() {
        let text = lines(&view(), 9).join("\n");
        let expected = "\
├─ ✔ phase 1 (1, up to 1 device): 1 confirmed
├─ ▶ phase 2 (25%, up to 3 devices): 1 moving, 1 failed
│     gate waiting: 1 in flight, 1 confirmed
│     cam-3  failed, runs -: failed: no room on the disk
│     cam-2  moving, runs -: downloading
├─ · phase 3 (100%, up to 9 devices)
└─ not offered it
      5 NOT_YOUR_PHASE: comes in a later phase; now in phase 2 of 3 (cam-5, cam-6, cam-7 and 2 more)
      1 OFFLINE: offline; last heard 9 s ago (cam-4)";
        assert_eq!(text, expected);
        let short = lines(&view(), 1).join("\n");
        assert!(short.contains("and 1 more") && !short.contains("cam-2 "), "{short}");
    }
}
