//! A rollout to be: a form, and what the rollout would do, planned by the same code that plans it
//! for the command line. Asking changes nothing, so the form is a GET and its address can be kept.

use askama::Template;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::failure::Failure;
use crate::api::rollouts::preview;
use crate::api::types::{PhaseRequest, PlanView, RolloutRequest};
use crate::serve::Running;

/// Devices of each group that are named; the command line names all.
const NAMED: usize = 12;

#[derive(Template)]
#[template(path = "new.html")]
struct View {
    page: Page,
    wish: Wish,
    releases: Vec<String>,
    refused: Option<Failure>,
    plan: Option<Shape>,
}

/// What is asked for, as it was typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    /// `model@version`.
    release: String,
    selector: String,
    /// Sizes with blanks or commas between them.
    phases: String,
    soak_min: String,
    failures_max: String,
    success_percent_min: String,
    max_unavailable: String,
}

/// A plan, as it is shown.
struct Shape {
    plan: PlanView,
    groups: Vec<Group>,
    moves: usize,
    /// The request that starts it.
    body: String,
    command: String,
}

/// Devices with the same place in the plan.
struct Group {
    name: String,
    why: String,
    devices: usize,
    named: Vec<String>,
}

impl Wish {
    /// Only what was typed is sent: everything else has its default where it is decided.
    fn request(&self) -> Result<RolloutRequest, Failure> {
        let (model, version) = self.release.split_once('@').ok_or_else(|| {
            Failure::usage("no release was chosen").mend("choose what is to be rolled out")
        })?;
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(RolloutRequest {
            model: model.to_owned(),
            version: version.to_owned(),
            selector: given(&self.selector),
            phases: self.sizes().map(|size| PhaseRequest::Size(size.to_owned())).collect(),
            soak_s: figure("the time that a phase is watched", &self.soak_min)?
                .map(|minutes: u32| minutes.saturating_mul(60)),
            failures_max: figure("the failures that are tolerated", &self.failures_max)?,
            success_percent_min: figure("the share that must confirm", &self.success_percent_min)?,
            max_unavailable: given(&self.max_unavailable),
            ..RolloutRequest::default()
        })
    }

    fn sizes(&self) -> impl Iterator<Item = &str> {
        self.phases.split([' ', ',']).filter(|size| !size.is_empty())
    }

    /// The same for the command line.
    fn command(&self) -> String {
        let mut words = vec!["fleetway rollout start".to_owned(), self.release.clone()];
        let mut add = |flag: &str, value: &str, unit: &str| {
            if !value.trim().is_empty() {
                words.push(format!("--{flag} '{}{unit}'", value.trim()));
            }
        };
        add("selector", &self.selector, "");
        self.sizes().for_each(|size| add("phase", size, ""));
        add("soak", &self.soak_min, "m");
        add("failures-max", &self.failures_max, "");
        add("success", &self.success_percent_min, "%");
        add("max-unavailable", &self.max_unavailable, "");
        words.join(" ")
    }
}

fn figure<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>, Failure> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Failure::usage(format!("{what}: {text:?} is no number that fits")).mend("use digits")
        }),
    }
}

/// `GET /rollouts/new`.
pub(super) async fn show(
    State(running): State<Running>,
    ask: Ask,
    Query(wish): Query<Wish>,
) -> Shown {
    let page = ask.page(Tab::Rollouts, "New rollout");
    let expiries = running.trust.expiries();
    let asked = running.core.ask(move |fleet, now_s| {
        let releases = fleet.releases();
        let releases = releases
            .iter()
            .rev()
            .map(|release| format!("{}@{}", release.manifest.model, release.manifest.version))
            .collect();
        let planned = (!wish.release.is_empty()).then(|| {
            let mut request = wish.request()?;
            let plan = preview(fleet, &request, expiries, now_s)?;
            // What is started is what was shown, or nothing.
            request.plan = Some(plan.hash.clone());
            let body = serde_json::to_string(&request)
                .map_err(|error| Failure::from_error("cannot write the request", &error))?;
            Ok(shape(plan, body, wish.command()))
        });
        let (plan, refused) = match planned {
            None => (None, None),
            Some(Ok(plan)) => (Some(plan), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        View { page, wish, releases, refused, plan }
    });
    html(&asked.await?)
}

fn shape(plan: PlanView, body: String, command: String) -> Shape {
    let mut groups: Vec<Group> = Vec::new();
    for device in &plan.devices {
        let name = match device.phase {
            Some(phase) => format!("Phase {phase}"),
            None => "Left out".to_owned(),
        };
        let why = device.reason.as_ref().map_or("", |reason| reason.text.as_str());
        let known = groups.iter().position(|group| group.name == name && group.why == why);
        let at = known.unwrap_or_else(|| {
            groups.push(Group { name, why: why.to_owned(), devices: 0, named: Vec::new() });
            groups.len() - 1
        });
        groups[at].devices += 1;
        if groups[at].named.len() < NAMED {
            groups[at].named.push(device.id.clone());
        }
    }
    groups.sort_by_key(|group| group.name == "Left out");
    let moves = plan.devices.iter().filter(|device| device.phase.is_some()).count();
    Shape { plan, groups, moves, body, command }
}
