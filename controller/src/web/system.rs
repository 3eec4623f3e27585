//! Keys and expiries, and how the controller itself does.

use askama::Template;
use axum::extract::State;
use fleetway_controller::trust::files::TrustDir;
use tokio::task::block_in_place;

use super::page::{Ask, Page, Shown, Tab, html};
use super::{assets, words};
use crate::api::failure::Failure;
use crate::api::types::StatusView;
use crate::cli::trust_status::{self, Expires, Status, WARN_DAYS};
use crate::serve::Running;

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys {
    page: Page,
    trust: Option<Status>,
}

#[derive(Template)]
#[template(path = "system.html")]
struct System {
    page: Page,
    status: StatusView,
}

impl Keys {
    /// A sign for what does not last long and does not renew itself.
    fn soon(&self, file: &Expires) -> words::Markup {
        match file.expires_s.checked_sub(self.page.now_s) {
            None => words::state("expired"),
            Some(left_s) if !file.by_itself && left_s < WARN_DAYS * 24 * 3600 => {
                words::state("soon")
            }
            Some(_) => words::Markup::default(),
        }
    }
}

/// What the release authority's files say, if there are any.
pub(super) fn trust(running: &Running) -> Result<Option<Status>, Failure> {
    block_in_place(|| {
        let dir = TrustDir::new(running.layout.root());
        if !dir.exists() {
            return Ok(None);
        }
        let repo = dir.load().map_err(crate::cli::trust::refused)?;
        trust_status::status(&repo, &running.layout).map(Some)
    })
}

/// `GET /keys`.
pub(super) async fn keys(State(running): State<Running>, ask: Ask) -> Shown {
    html(&Keys { page: ask.page(Tab::Keys, "Keys and expiries"), trust: trust(&running)? })
}

/// `GET /system`.
pub(super) async fn show(State(running): State<Running>, ask: Ask) -> Shown {
    let status = crate::api::server::status_view(&running).await?;
    html(&System { page: ask.page(Tab::System, "System"), status })
}
