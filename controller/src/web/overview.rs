//! The first screen: is my fleet well, what is moving, what is stuck and why.

use askama::Template;
use axum::extract::State;
use fleetway_controller::audit::Entry;
use fleetway_controller::fleet::{Census, Fleet, Standing};

use super::alerts::{self, Alert};
use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::types::{LinkView, ReleaseView, RolloutSummary};
use crate::api::view;
use crate::cli::trust_status::Status;
use crate::serve::Running;

/// Lines of the audit log that are shown.
const LINES: u64 = 8;

#[derive(Template)]
#[template(path = "overview.html")]
struct View {
    page: Page,
    verdict: &'static str,
    alerts: Vec<Alert>,
    census: Census,
    standings: Vec<(&'static str, usize)>,
    models: Vec<Mix>,
    rollouts: Vec<RolloutSummary>,
    published: usize,
    lines: Vec<Entry>,
}

/// Which releases of a model run, on how many devices.
struct Mix {
    model: String,
    all: usize,
    releases: Vec<(String, String, usize)>,
}

/// `GET /`.
pub(super) async fn show(State(running): State<Running>, ask: Ask) -> Shown {
    let trust = super::system::trust(&running)?;
    let (link, bad) = (running.link(), running.bad_messages().values().sum());
    let page = ask.page(Tab::Overview, "Overview");
    let asked =
        running.core.ask(move |fleet, now_s| view(fleet, now_s, page, &link, bad, trust.as_ref()));
    html(&asked.await?)
}

pub(super) fn view(
    fleet: &Fleet,
    now_s: u64,
    page: Page,
    link: &LinkView,
    bad_messages: u64,
    trust: Option<&Status>,
) -> impl Template + use<> {
    let census = fleet.census();
    let rollouts: Vec<_> =
        fleet.rollouts(now_s).iter().rev().map(|r| view::rollout_summary(fleet, r)).collect();
    let releases: Vec<_> =
        fleet.releases().iter().map(|release| view::published(fleet, release)).collect();
    let alerts = alerts::alerts(&alerts::Facts {
        now_s,
        link,
        bad_messages,
        census: &census,
        rollouts: &rollouts,
        releases: &releases,
        trust,
    });
    View {
        verdict: alerts::verdict(&alerts, &census),
        alerts,
        standings: standings(&census),
        models: mix(&census, &releases),
        rollouts: rollouts.into_iter().filter(|rollout| !rollout.over).collect(),
        published: releases.len(),
        lines: super::record::newest(fleet, LINES),
        census,
        page,
    }
}

fn standings(census: &Census) -> Vec<(&'static str, usize)> {
    let of = |standing: &Standing| census.standing.get(standing).copied().unwrap_or(0);
    let all = Standing::ALL.iter().rev().map(|standing| (standing.word(), of(standing)));
    all.filter(|(_, devices)| *devices > 0).collect()
}

/// Which release runs where, the newest first.
fn mix(census: &Census, releases: &[ReleaseView]) -> Vec<Mix> {
    let version = |digest: &str| releases.iter().find(|release| release.digest == digest);
    let of_model = |(model, runs): (
        &fleetway_protocol::ids::ModelName,
        &std::collections::BTreeMap<_, usize>,
    )| {
        let mut all: Vec<_> = runs
            .iter()
            .map(|(digest, devices): (&fleetway_protocol::ids::Digest, _)| {
                let digest = digest.to_string();
                let known = version(&digest);
                let name = known.map_or_else(|| words::short(&digest), |r| r.version.clone());
                (known.map_or(0, |r| r.counter), (name, digest, *devices))
            })
            .collect();
        all.sort_by_key(|(counter, _)| std::cmp::Reverse(*counter));
        let releases: Vec<_> = all.into_iter().map(|(_, release)| release).collect();
        let all = releases.iter().map(|(.., devices)| devices).sum();
        Mix { model: model.to_string(), all, releases }
    };
    census.runs.iter().map(of_model).collect()
}
