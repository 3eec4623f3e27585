//! `fleetway rollout watch`: a page that is drawn anew on a terminal, lines that are
//! appended elsewhere. Watching changes nothing: Ctrl-C leaves the rollout running.

use std::collections::BTreeMap;

use super::Context;
use super::model::mismatch;
use super::output::{facts, table, talk, time};
use super::rollout::{Follower, line, outcome};
use super::show::{phase_text, release_text, telemetry_cells};
use crate::api::failure::Failure;
use crate::api::types::{RolloutDevice, RolloutView};

/// Clears the terminal and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(id: u64, context: &Context) -> Result<(), Failure> {
    let mut follower = Follower::new(context.client(), id);
    let watching = async {
        let mut view = follower.look().await?;
        let mut printer = Printer::new(context);
        loop {
            printer.print(&view)?;
            if view.summary.over {
                return outcome(&view.summary);
            }
            view = follower.look_again().await?;
        }
    };
    tokio::select! {
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => {
            talk(format!("\nrollout {id} goes on; watch it again with `fleetway rollout watch {id}`"));
            Ok(())
        }
    }
}

/// Prints what changed since the last look.
struct Printer<'a> {
    context: &'a Context,
    last: String,
    devices: BTreeMap<String, String>,
}

impl<'a> Printer<'a> {
    fn new(context: &'a Context) -> Self {
        Self { context, last: String::new(), devices: BTreeMap::new() }
    }

    fn print(&mut self, view: &RolloutView) -> Result<(), Failure> {
        let output = self.context.output;
        if output.is_json() {
            let text = serde_json::to_string(view)
                .map_err(|error| Failure::from_error("cannot write the answer", &error))?;
            return self.changed(text, |text| output.line(text));
        }
        if output.is_terminal() {
            return self.changed(page(view), |text| output.line(&format!("{CLEAR}{text}")));
        }
        self.changed(line(&view.summary), |text| output.line(text))?;
        for device in &view.devices {
            let text = device_line(device);
            if self.devices.get(&device.id) != Some(&text) {
                output.line(&format!("  {text}"))?;
                self.devices.insert(device.id.clone(), text);
            }
        }
        Ok(())
    }

    fn changed(
        &mut self,
        text: String,
        print: impl FnOnce(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if text == self.last {
            return Ok(());
        }
        print(&text)?;
        self.last = text;
        Ok(())
    }
}

/// What is worth a line when it changes: not the figures, which change all the time.
fn device_line(device: &RolloutDevice) -> String {
    let running = release_text(device.model.as_ref().and_then(|model| model.running.as_ref()));
    let at = device.model.as_ref().map_or_else(|| "-".into(), phase_text);
    let phase = if device.state == "moving" { format!(" {at}") } else { String::new() };
    let quiet =
        matches!(device.reason.code.as_str(), "IN_PROGRESS" | "OFFLINE" | "SILENT_IN_PROGRESS");
    let why = if quiet { device.reason.code.clone() } else { device.reason.text.clone() };
    format!("{} {}{phase}, runs {running}: {why}", device.id, device.state)
}

/// The whole rollout on one page.
pub(super) fn page(view: &RolloutView) -> String {
    let summary = &view.summary;
    let phases: Vec<_> = view
        .phase_list
        .iter()
        .map(|phase| {
            let here = if phase.number == summary.phase && !summary.over { "*" } else { "" };
            format!("{here}{} ({})", phase.share, phase.devices)
        })
        .collect();
    let counts = &summary.counts;
    let mut lines = vec![
        ("rollout", format!("{} of {}@{}", summary.id, summary.model, summary.release.text())),
        (
            "state",
            match &summary.reason {
                Some(why) => format!("{}: {}", summary.state, why.text),
                None => summary.state.clone(),
            },
        ),
        ("started", format!("{} by {}", time(summary.started_s), summary.started_by)),
        ("phases", phases.join("  ")),
        (
            "devices",
            format!(
                "{} confirmed, {} moving ({} silent), {} failed, {} waiting, of {}",
                counts.confirmed,
                counts.moving,
                counts.silent,
                counts.failed,
                counts.waiting,
                counts.total
            ),
        ),
    ];
    if let Some(gate) = summary.gate_text.as_ref().filter(|_| !summary.over) {
        lines.push(("gate", gate.clone()));
    }
    if view.golden_mismatch_accepted.is_some() {
        lines.push(("WARNING", mismatch(view.golden_mismatch_accepted.as_deref())));
    }
    let header = [
        "device",
        "phase",
        "state",
        "runs",
        "update",
        "requests",
        "errors",
        "p50",
        "p95",
        "top class",
        "why",
    ];
    format!("{}\n\n{}", facts(&lines), table(header, view.devices.iter().map(device_row)))
}

fn device_row(device: &RolloutDevice) -> [String; 11] {
    let model = device.model.as_ref();
    let [requests, errors, p50, p95, top] =
        telemetry_cells(model.and_then(|model| model.telemetry.as_ref()));
    let state =
        if device.online { device.state.clone() } else { format!("{} (offline)", device.state) };
    [
        device.id.clone(),
        super::output::or_dash(device.rollout_phase),
        state,
        release_text(model.and_then(|model| model.running.as_ref())),
        model.map_or_else(|| "-".into(), phase_text),
        requests,
        errors,
        p50,
        p95,
        top,
        device.reason.text.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ReasonView, ReleaseRef, RolloutCounts, RolloutSummary};

    fn view() -> RolloutView {
        let reason =
            ReasonView { code: "OFFLINE".into(), text: "offline; last heard 9 s ago".into() };
        let device = RolloutDevice {
            id: "cam-1".into(),
            online: false,
            rollout_phase: None,
            state: "waiting".into(),
            reason,
            cause: None,
            model: None,
        };
        RolloutView {
            summary: RolloutSummary {
                id: 3,
                model: "digits".into(),
                release: ReleaseRef { digest: "ab".repeat(32), version: Some("v2".into()) },
                state: "running".into(),
                over: false,
                succeeded: false,
                reason: None,
                phase: 1,
                phases: 2,
                gate: "waiting".into(),
                gate_text: Some("1 device in flight".into()),
                counts: RolloutCounts {
                    total: 2,
                    waiting: 1,
                    moving: 1,
                    ..RolloutCounts::default()
                },
                started_by: "me".into(),
                started_s: 0,
            },
            gates: None,
            barred: 0,
            selector: None,
            golden_mismatch_accepted: Some("trust me".into()),
            phase_list: Vec::new(),
            devices: vec![device],
        }
    }

    #[test]
    fn the_page_says_why_a_device_does_not_move() {
        let text = page(&view());
        for said in ["3 of digits@v2", "offline; last heard", "1 device in flight", "trust me"] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
    }

    #[test]
    fn lines_do_not_change_with_the_seconds() {
        let mut later = view().devices.remove(0);
        later.reason.text = "offline; last heard 10 s ago".into();
        assert_eq!(device_line(&view().devices[0]), device_line(&later));
    }
}
