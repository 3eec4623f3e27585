//! The list of devices: filtered by the selector language of the command line and by where they
//! stand, cut into pages on the server.

use askama::Template;
use axum::extract::{Query, State};
use fleetway_controller::fleet::{Candidate, Census, Fleet, Standing};
use fleetway_controller::planner::Selector;
use fleetway_protocol::ids::Digest;
use serde::Deserialize;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::client::escape;
use crate::api::failure::Failure;
use crate::api::types::DeviceView;
use crate::api::view::{self, failed};
use crate::serve::Running;

/// Devices on a page: a screen or two.
const ROWS: usize = 50;

/// What the list is asked for. What cannot be read is said on the page and filters nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    /// A selector.
    pub(super) q: String,
    /// `online` or `offline`.
    pub(super) link: String,
    /// The word of a standing.
    pub(super) standing: String,
    /// Digest of a release that they run.
    pub(super) runs: String,
    /// Page, from 1.
    pub(super) page: usize,
}

/// A filter that can be applied.
struct Wanted {
    selector: Selector,
    online: Option<bool>,
    standing: Option<Standing>,
    runs: Option<Digest>,
}

impl Filter {
    fn wanted(&self) -> Result<Wanted, Failure> {
        let selector = match self.q.trim() {
            "" => Selector::all(),
            text => text.parse::<Selector>().map_err(|error| failed(error.kind(), &error))?,
        };
        Ok(Wanted {
            selector,
            online: match self.link.as_str() {
                "online" => Some(true),
                "offline" => Some(false),
                _ => None,
            },
            standing: Standing::of_word(&self.standing),
            runs: self.runs.parse().ok(),
        })
    }

    /// The address of the same list, on another page.
    fn url(&self, page: usize) -> String {
        let mut parts = Vec::new();
        for (name, value) in [
            ("q", &self.q),
            ("link", &self.link),
            ("standing", &self.standing),
            ("runs", &self.runs),
        ] {
            if !value.is_empty() {
                parts.push(format!("{name}={}", escape(value)));
            }
        }
        if page > 1 {
            parts.push(format!("page={page}"));
        }
        if parts.is_empty() { "/devices".into() } else { format!("/devices?{}", parts.join("&")) }
    }

    fn is_any(&self) -> bool {
        [&self.q, &self.link, &self.standing, &self.runs].iter().any(|value| !value.is_empty())
    }
}

impl Wanted {
    fn takes(&self, device: &Candidate<'_>) -> bool {
        self.online.is_none_or(|online| online == device.online())
            && self.standing.is_none_or(|standing| standing == device.standing())
            && self.runs.is_none_or(|release| device.runs(&release))
            && self.selector.matches(device.id, device.labels())
    }
}

#[derive(Template)]
#[template(path = "devices.html")]
struct View {
    page: Page,
    filter: Filter,
    refused: Option<Failure>,
    census: Census,
    labels: Vec<String>,
    runs: Option<String>,
    devices: Vec<DeviceView>,
    found: usize,
    at: usize,
    pages: usize,
}

impl View {
    fn standings(&self) -> impl Iterator<Item = &'static str> {
        Standing::ALL.into_iter().rev().map(Standing::word)
    }
}

/// `GET /devices`.
pub(super) async fn show(
    State(running): State<Running>,
    ask: Ask,
    Query(filter): Query<Filter>,
) -> Shown {
    let page = ask.page(Tab::Devices, "Devices");
    html(&running.core.ask(move |fleet, _| view(fleet, page, filter)).await?)
}

pub(super) fn view(fleet: &Fleet, page: Page, filter: Filter) -> impl Template + use<> {
    let at = filter.page.max(1);
    let (wanted, refused) = match filter.wanted() {
        Ok(wanted) => (Some(wanted), None),
        Err(failure) => (None, Some(failure)),
    };
    let (devices, found) = match &wanted {
        Some(wanted) => fleet.find_devices(|device| wanted.takes(device), (at - 1) * ROWS, ROWS),
        None => (Vec::new(), 0),
    };
    let runs = wanted.and_then(|wanted| wanted.runs).map(|digest| {
        fleet.release(&digest).map_or_else(
            || words::short(digest.to_string()),
            |release| format!("{}@{}", release.manifest.model, release.manifest.version),
        )
    });
    View {
        page,
        refused,
        census: fleet.census(),
        labels: labels(&fleet.labels_in_use()),
        runs,
        devices: devices.into_iter().map(|device| view::device(fleet, device)).collect(),
        found,
        at,
        pages: found.div_ceil(ROWS).max(1),
        filter,
    }
}

/// Labels that are worth offering: each with its value, the first few.
fn labels(
    in_use: &std::collections::BTreeMap<String, std::collections::BTreeSet<String>>,
) -> Vec<String> {
    const OFFERED: usize = 40;
    let all = in_use.iter().flat_map(|(key, values)| {
        values.iter().take(OFFERED / 4).map(move |value| format!("{key}={value}"))
    });
    all.take(OFFERED).collect()
}
