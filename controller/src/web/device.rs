//! One device: what it runs, what it works on, how it does, what happened to it.

use askama::Template;
use axum::extract::{Path, State};
use fleetway_controller::audit::Entry;
use fleetway_protocol::ids::{DeviceId, IdError};

use super::page::{Ask, Page, Shown, Tab, Wrong, html};
use super::{assets, words};
use crate::api::failure::Failure;
use crate::api::types::DeviceView;
use crate::api::view::{self, failed};
use crate::serve::Running;

/// Entries of its timeline.
const LINES: usize = 40;

#[derive(Template)]
#[template(path = "device.html")]
struct View {
    page: Page,
    device: DeviceView,
    lines: Vec<Entry>,
}

/// `GET /devices/{id}`.
pub(super) async fn show(
    State(running): State<Running>,
    ask: Ask,
    Path(id): Path<String>,
) -> Shown {
    let id: DeviceId = id.parse().map_err(|error: IdError| {
        Wrong(
            Failure::usage(format!("the device id {id:?} {error}")).mend("see the list of devices"),
        )
    })?;
    let page = ask.page(Tab::Devices, id.to_string());
    let asked = running.core.ask(move |fleet, _| {
        let Some(device) = fleet.device(&id) else {
            return Err(Failure::not_found(format!("no device {id}"))
                .mend(format!("add it: `fleetway device enroll {id}`")));
        };
        let mut lines = fleet.journal(LINES, None, Some(&id)).map_err(|e| failed(e.kind(), &e))?;
        lines.reverse();
        Ok(View { page, device: view::device(fleet, device), lines })
    });
    html(&asked.await??)
}
