//! The list of rollouts, the newest first.

use askama::Template;
use axum::extract::State;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::types::RolloutSummary;
use crate::api::view;
use crate::serve::Running;

#[derive(Template)]
#[template(path = "rollouts.html")]
struct View {
    page: Page,
    rollouts: Vec<RolloutSummary>,
    published: usize,
}

/// `GET /rollouts`.
pub(super) async fn show(State(running): State<Running>, ask: Ask) -> Shown {
    let page = ask.page(Tab::Rollouts, "Rollouts");
    let asked = running.core.ask(move |fleet, now_s| {
        let all = fleet.rollouts(now_s);
        let rollouts = all.iter().rev().map(|r| view::rollout_summary(fleet, r)).collect();
        View { page, rollouts, published: fleet.releases().len() }
    });
    html(&asked.await?)
}
