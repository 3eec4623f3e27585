//! One rollout: its phases, its gate, every device that does not move with the reason why.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use fleetway_controller::audit::Entry;
use fleetway_controller::fleet::{Fleet, RolloutView as Rollout};
use fleetway_controller::planner::DeviceReport;
use fleetway_protocol::ids::RolloutId;
use fleetway_protocol::reason::Reason;
use serde::Deserialize;

use super::page::{Ask, Page, Shown, Tab, Wrong, html};
use super::{assets, gates, words};
use crate::api::failure::Failure;
use crate::api::types::{RolloutDevice, RolloutView};
use crate::api::view::{self, failed};
use crate::serve::Running;

/// Devices on a page.
const ROWS: usize = 50;
/// Entries of its history.
const LINES: usize = 20;
/// Devices that are named beside a reason.
const NAMED: usize = 4;
/// In which order states stand: what needs a look first.
const STATES: [&str; 6] = ["failed", "reverted", "moving", "waiting", "left_out", "confirmed"];

#[derive(Template)]
#[template(path = "rollout.html")]
struct View {
    page: Page,
    rollout: RolloutView,
    groups: Vec<Group>,
    gates: Vec<gates::Row>,
    chosen: String,
    states: Vec<(&'static str, usize)>,
    devices: Vec<RolloutDevice>,
    at: usize,
    pages: usize,
    lines: Vec<Entry>,
}

/// Devices that are where they are for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    state: String,
    code: String,
    text: String,
    devices: usize,
    named: Vec<String>,
}

/// Which of its devices are listed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    state: String,
    page: usize,
}

/// `GET /rollouts/{id}`.
pub(super) async fn show(
    State(running): State<Running>,
    ask: Ask,
    Path(id): Path<String>,
    Query(filter): Query<Filter>,
) -> Shown {
    let id: RolloutId = id.parse().map_err(|_| {
        Wrong(Failure::usage(format!("{id:?} is no rollout")).mend("see the list of rollouts"))
    })?;
    let page = ask.page(Tab::Rollouts, format!("Rollout {id}"));
    html(&running.core.ask(move |fleet, now_s| shown(fleet, now_s, id, page, filter)).await??)
}

pub(super) fn shown(
    fleet: &Fleet,
    now_s: u64,
    id: RolloutId,
    page: Page,
    filter: Filter,
) -> Result<impl Template + use<>, Failure> {
    let Some(rollout) = fleet.rollout(id, now_s) else {
        return Err(Failure::not_found(format!("no rollout {id}")).mend("see the list of rollouts"));
    };
    let mut lines = fleet.journal(LINES, Some(id), None).map_err(|e| failed(e.kind(), &e))?;
    lines.reverse();
    Ok(view(page, fleet, &rollout, lines, filter))
}

/// Of all its devices only those of this page are put into words.
fn view(page: Page, fleet: &Fleet, rollout: &Rollout, lines: Vec<Entry>, filter: Filter) -> View {
    let of = rollout.devices.iter().map(|report| (view::device_state(&report.why), report));
    let mut devices: Vec<Placed<'_>> = of.collect();
    devices.sort_by_key(|(state, _)| STATES.iter().position(|known| known == state));
    let count = |state: &&str| devices.iter().filter(|(of, _)| of == state).count();
    let states = STATES.iter().map(|state| (*state, count(state))).filter(|(_, n)| *n > 0);
    let states = states.collect();
    let groups = groups(&devices);
    devices.retain(|(state, _)| filter.state.is_empty() || *state == filter.state);
    let (found, at) = (devices.len(), filter.page.max(1));
    let shown = devices.into_iter().skip((at - 1) * ROWS).take(ROWS);
    let model = &rollout.spec.model;
    let devices = shown.map(|(_, report)| view::rollout_device(fleet, model, report)).collect();
    let rollout = view::rollout_alone(fleet, rollout);
    View {
        page,
        groups,
        gates: gates::rows(&rollout),
        states,
        chosen: filter.state,
        at,
        pages: found.div_ceil(ROWS).max(1),
        devices,
        rollout,
        lines,
    }
}

/// A device with the word for where it is.
type Placed<'a> = (&'static str, &'a DeviceReport);

/// Everything that is not done, by reason: where a device gave its own, by that.
fn groups(devices: &[Placed<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut at: HashMap<(&str, &str), usize> = HashMap::new();
    for (state, report) in devices.iter().filter(|(state, _)| *state != "confirmed") {
        let own = report.why.reason();
        let code = own.map_or_else(|| report.why.code(), Reason::code);
        let at = *at.entry((state, code)).or_insert_with(|| {
            let text = own.map_or_else(|| report.why.to_string(), |own| own.to_string());
            let (state, code) = ((*state).to_owned(), code.to_owned());
            groups.push(Group { state, code, text, devices: 0, named: Vec::new() });
            groups.len() - 1
        });
        let group = &mut groups[at];
        group.devices += 1;
        if group.named.len() < NAMED {
            group.named.push(report.device.to_string());
        }
    }
    groups
}

/// What can be done to a rollout.
struct Verb {
    verb: &'static str,
    label: &'static str,
    class: &'static str,
    /// What is asked before, where it cannot be taken back.
    ask: &'static str,
}

/// What makes sense in a state. Whether it is possible and allowed, the API says.
fn verbs(state: &str, failed: u32) -> Vec<Verb> {
    let verb = |verb, label, class, ask| Verb { verb, label, class, ask };
    let abort = verb(
        "abort",
        "Abort",
        "danger",
        "Abort this rollout? Devices that are on their way go back; it cannot be resumed.",
    );
    let promote =
        verb("promote", "Promote", "", "Begin the next phase now, without waiting for this one?");
    let approve = verb(
        "approve",
        "Approve",
        "main",
        "Approve this phase? Its devices are offered the release.",
    );
    let undo = verb(
        "undo",
        "Undo",
        "",
        "Bring its devices back to what each ran before, as a rollout of its own?",
    );
    let retry = verb("retry", "Retry", "", "Offer the release again to the devices that failed?");
    match state {
        "running" => vec![verb("pause", "Pause", "", ""), promote, abort],
        "paused" => vec![verb("resume", "Resume", "main", ""), promote, abort],
        "waiting_for_approval" => vec![approve, abort],
        "halted" | "succeeded" if failed > 0 => vec![retry, undo],
        "halted" | "succeeded" => vec![undo],
        _ => Vec::new(),
    }
}

impl View {
    fn verbs(&self) -> Vec<Verb> {
        let summary = &self.rollout.summary;
        let mut verbs = verbs(&summary.state, summary.counts.failed);
        verbs.retain(|verb| match verb.verb {
            "approve" => self.page.may("POST", "/v1/rollouts/{id}/approve"),
            _ => self.page.may("POST", "/v1/rollouts/{id}/{verb}"),
        });
        verbs
    }

    /// How a phase is drawn: behind us, here (and how), or still to come.
    fn step(&self, number: &u32) -> &'static str {
        let summary = &self.rollout.summary;
        match (number.cmp(&summary.phase), summary.state.as_str()) {
            (std::cmp::Ordering::Less, _) | (_, "succeeded") => "done",
            (std::cmp::Ordering::Greater, _) => "",
            (_, "halted" | "aborted") => "shut",
            (_, "paused") => "held",
            _ => "here",
        }
    }

    fn url(&self, state: &str, page: usize) -> String {
        let id = self.rollout.summary.id;
        match (state, page) {
            ("", 0 | 1) => format!("/rollouts/{id}"),
            ("", page) => format!("/rollouts/{id}?page={page}"),
            (state, 0 | 1) => format!("/rollouts/{id}?state={state}"),
            (state, page) => format!("/rollouts/{id}?state={state}&page={page}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use fleetway_controller::planner::Why;
    use fleetway_protocol::ids::DeviceId;

    use super::*;

    #[test]
    fn a_phase_that_waits_is_approved_and_not_walked_past() {
        let of = |state| verbs(state, 0).iter().map(|verb| verb.verb).collect::<Vec<_>>();
        assert_eq!(of("waiting_for_approval"), ["approve", "abort"]);
        assert_eq!(of("running"), ["pause", "promote", "abort"]);
        assert_eq!(of("paused"), ["resume", "promote", "abort"]);
        assert!(of("aborted").is_empty());
    }

    #[test]
    fn failures_are_grouped_by_the_devices_own_reason() {
        let report = |id: &str, why| DeviceReport {
            device: DeviceId::new(id).unwrap(),
            rollout: 1,
            running: None,
            phase: Some(0),
            why,
        };
        let reports = [
            report("a", Why::RolledBack(Reason::HealthCollapse)),
            report("b", Why::Failed(Reason::HealthCollapse)),
            report("c", Why::Failed(Reason::Golden)),
            report("d", Why::Offline { quiet_s: None }),
            report("e", Why::Confirmed),
        ];
        let placed: Vec<_> = reports.iter().map(|r| (view::device_state(&r.why), r)).collect();
        let found: Vec<_> = groups(&placed)
            .into_iter()
            .map(|g| (g.state, g.code, g.devices, g.named.join(" ")))
            .collect();
        let expected = [
            ("failed", "HEALTH_COLLAPSE", 2, "a b"),
            ("failed", "GOLDEN", 1, "c"),
            ("waiting", "OFFLINE", 1, "d"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(state, code, n, named)| (state.to_owned(), code.to_owned(), n, named.to_owned()))
            .collect();
        assert_eq!(found, expected);
    }
}
