//! `fleetway rollout watch`: a page that is drawn anew on a terminal, lines that are
//! appended elsewhere. Watching changes nothing: Ctrl-C leaves the rollout running.

use std::collections::BTreeMap;

use super::Context;
use super::model::mismatch;
use super::output::{facts, table, talk, time};
use super::rollout::{Follower, line, outcome};
use super::show::{phase_text, release_text, telemetry_cells};
use super::tree;
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
        if output.is_data() {
            let text = serde_json::to_string(view)
                .map_err(|error| Failure::from_error("cannot write the answer", &error))?;
            return self.changed(text, |text| output.line(text));
        }
        if output.is_terminal() {
            let text = page(view, output.is_wide());
            return self.changed(text, |text| output.line(&format!("{CLEAR}{text}")));
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

/// Devices of one phase with a line each; a screen of them.
const DEVICES_MAX: usize = 25;

/// The whole rollout on one page; `wide` adds a table of all its devices.
pub(super) fn page(view: &RolloutView, wide: bool) -> String {
    let text = format!("{}\n{}", header(view), tree::lines(view, DEVICES_MAX).join("\n"));
    if !wide {
        return text;
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
    format!("{text}\n\n{}", table(header, view.devices.iter().map(device_row)))
}

/// What a rollout is and how it is.
fn header(view: &RolloutView) -> String {
    let summary = &view.summary;
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
    if view.golden_mismatch_accepted.is_some() {
        lines.push(("WARNING", mismatch(view.golden_mismatch_accepted.as_deref())));
    }
    facts(&lines)
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
    use crate::cli::tree::tests::view;

    #[test]
    fn the_page_says_why_a_device_does_not_move() {
        let text = page(&view(), true);
        for said in ["3 of digits@v2", "offline; last heard", "1 in flight", "trust me", "P95"] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
    }

    #[test]
    fn lines_do_not_change_with_the_seconds() {
        let now = view().devices.remove(3);
        let mut later = now.clone();
        later.reason.text = "offline; last heard 10 s ago".into();
        assert_eq!(device_line(&now), device_line(&later));
    }
}
