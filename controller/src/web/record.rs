//! The audit log as far as the store keeps it, the newest first. `fleetway audit` reads all of it.

use askama::Template;
use axum::extract::{Query, State};
use fleetway_controller::audit::chain::read_line;
use fleetway_controller::audit::{Bounds, Entry};
use fleetway_controller::fleet::Fleet;
use serde::Deserialize;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::serve::Running;

/// Lines on a page.
const ROWS: u64 = 100;

#[derive(Template)]
#[template(path = "audit.html")]
struct View {
    page: Page,
    bounds: Bounds,
    lines: Vec<Entry>,
    older: Option<u64>,
    newest: bool,
}

/// Where the page begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct From {
    before: Option<u64>,
}

/// The newest lines of what came of commands; the commands themselves are one more line each.
pub(super) fn newest(fleet: &Fleet, lines: u64) -> Vec<Entry> {
    let mut all = before(fleet, fleet.audit().head.seq.saturating_add(1), lines * 2);
    all.retain(|line| line.what != "command");
    all.truncate(lines as usize);
    all
}

/// Lines below `seq`, the newest first. What cannot be read ends the list: `audit verify` judges.
fn before(fleet: &Fleet, seq: u64, lines: u64) -> Vec<Entry> {
    let all = (seq.saturating_sub(lines).max(1)..seq).rev();
    let read = all.map_while(|seq| {
        let (line, _) = fleet.audit_line(seq).ok().flatten()?;
        Some(read_line(line.as_bytes()).ok()?.0)
    });
    read.collect()
}

/// `GET /audit`.
pub(super) async fn show(
    State(running): State<Running>,
    ask: Ask,
    Query(from): Query<From>,
) -> Shown {
    let page = ask.page(Tab::Audit, "Audit log");
    let asked = running.core.ask(move |fleet, _| {
        let bounds = fleet.audit();
        let end = bounds.head.seq.saturating_add(1);
        let lines = before(fleet, from.before.unwrap_or(end).min(end), ROWS);
        let older = lines.last().map(|line| line.seq).filter(|seq| *seq > 1);
        View { page, bounds, older, newest: from.before.is_none(), lines }
    });
    html(&asked.await?)
}
