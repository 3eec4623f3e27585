//! One rollout: its phases, its gate, every device that does not move with the reason why.

use askama::Template;
use axum::extract::{Path, Query, State};
use fleetway_controller::audit::Entry;
use fleetway_controller::fleet::Fleet;
use fleetway_protocol::ids::RolloutId;
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
    Ok(view(page, view::rollout(fleet, &rollout), lines, filter))
}

fn view(page: Page, mut rollout: RolloutView, lines: Vec<Entry>, filter: Filter) -> View {
    let mut devices = std::mem::take(&mut rollout.devices);
    devices.sort_by_key(|device| STATES.iter().position(|state| *state == device.state));
    let count = |state: &&str| devices.iter().filter(|device| device.state == **state).count();
    let states = STATES.iter().map(|state| (*state, count(state))).filter(|(_, n)| *n > 0);
    let states = states.collect();
    let groups = groups(&devices);
    devices.retain(|device| filter.state.is_empty() || device.state == filter.state);
    let (found, at) = (devices.len(), filter.page.max(1));
    View {
        page,
        groups,
        gates: gates::rows(&rollout),
        states,
        chosen: filter.state,
        at,
        pages: found.div_ceil(ROWS).max(1),
        devices: devices.into_iter().skip((at - 1) * ROWS).take(ROWS).collect(),
        rollout,
        lines,
    }
}

/// Everything that is not done, by reason: where a device gave its own, by that.
fn groups(devices: &[RolloutDevice]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for device in devices.iter().filter(|device| device.state != "confirmed") {
        let why = device.cause.as_ref().unwrap_or(&device.reason);
        let known = groups.iter_mut().find(|g| g.state == device.state && g.code == why.code);
        let group = match known {
            Some(group) => group,
            None => {
                groups.push(Group {
                    state: device.state.clone(),
                    code: why.code.clone(),
                    text: why.text.clone(),
                    devices: 0,
                    named: Vec::new(),
                });
                let last = groups.len() - 1;
                &mut groups[last]
            }
        };
        group.devices += 1;
        if group.named.len() < NAMED {
            group.named.push(device.id.clone());
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
    use super::*;
    use crate::api::types::ReasonView;

    #[test]
    fn failures_are_grouped_by_the_devices_own_reason() {
        let device = |id: &str, state: &str, code: &str, cause: Option<&str>| RolloutDevice {
            id: id.into(),
            online: true,
            rollout_phase: Some(1),
            state: state.into(),
            reason: ReasonView { code: code.into(), text: format!("{id} {code}") },
            cause: cause.map(|code| ReasonView { code: code.into(), text: code.to_lowercase() }),
            model: None,
        };
        let devices = [
            device("a", "failed", "ROLLED_BACK", Some("HEALTH_COLLAPSE")),
            device("b", "failed", "FAILED", Some("HEALTH_COLLAPSE")),
            device("c", "failed", "FAILED", Some("GOLDEN")),
            device("d", "waiting", "OFFLINE", None),
            device("e", "confirmed", "CONFIRMED", None),
        ];
        let found: Vec<_> = groups(&devices)
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
