//! Models: what may run, who signed it, how large it is, where it runs; and how far what it sees
//! has drifted from what it was made for.

use askama::Template;
use axum::extract::State;
use fleetway_controller::fleet::Fleet;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::types::ReleaseView;
use crate::api::view;
use crate::serve::Running;

/// A release, and how many devices run it.
struct Row {
    release: ReleaseView,
    runs: usize,
}

impl Row {
    fn bytes(&self) -> u64 {
        let parts = self.release.variants.iter();
        parts.map(|v| u64::from(v.artifact.bytes) + u64::from(v.golden.bytes)).sum()
    }
}

#[derive(Template)]
#[template(path = "models.html")]
struct Models {
    page: Page,
    models: Vec<(String, Vec<Row>)>,
}

#[derive(Template)]
#[template(path = "drift.html")]
struct Drift {
    page: Page,
    rows: Vec<Row>,
}

/// The releases, the newest first.
fn rows(fleet: &Fleet) -> Vec<Row> {
    let census = fleet.census();
    let releases = fleet.releases();
    let row = |release: &fleetway_controller::fleet::ReleaseView| Row {
        runs: census
            .runs
            .get(&release.manifest.model)
            .and_then(|runs| runs.get(&release.digest))
            .copied()
            .unwrap_or(0),
        release: view::published(fleet, release),
    };
    releases.iter().rev().map(row).collect()
}

/// `GET /models`.
pub(super) async fn show(State(running): State<Running>, ask: Ask) -> Shown {
    let rows = running.core.ask(|fleet, _| rows(fleet)).await?;
    let mut models: Vec<(String, Vec<Row>)> = Vec::new();
    for row in rows {
        match models.last_mut() {
            Some((model, of_model)) if *model == row.release.model => of_model.push(row),
            _ => models.push((row.release.model.clone(), vec![row])),
        }
    }
    models.reverse();
    html(&Models { page: ask.page(Tab::Models, "Models"), models })
}

/// `GET /drift`.
pub(super) async fn drift(State(running): State<Running>, ask: Ask) -> Shown {
    let mut rows = running.core.ask(|fleet, _| rows(fleet)).await?;
    rows.retain(|row| row.release.in_use.is_some());
    html(&Drift { page: ask.page(Tab::Drift, "Drift"), rows })
}
