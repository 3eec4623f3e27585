//! One device: what it runs, what it works on, how it does, what happened to it.

use askama::Template;
use axum::extract::{Path, State};
use fleetway_controller::audit::Entry;
use fleetway_controller::fleet::Point;
use fleetway_protocol::ids::{DeviceId, IdError};

use super::page::{Ask, Page, Shown, Tab, Wrong, html};
use super::{assets, words};
use crate::api::failure::Failure;
use crate::api::types::{DeviceModelView, DeviceView};
use crate::api::view::{self, failed};
use crate::serve::Running;

/// Entries of its timeline.
const LINES: usize = 40;

#[derive(Template)]
#[template(path = "device.html")]
struct View {
    page: Page,
    device: DeviceView,
    /// Its models, and how each did.
    models: Vec<(DeviceModelView, Vec<Point>)>,
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
    let mut page = ask.page(Tab::Devices, id.to_string());
    page.charts = true;
    let asked = running.core.ask(move |fleet, _| {
        let Some(device) = fleet.device(&id) else {
            return Err(Failure::not_found(format!("no device {id}"))
                .mend(format!("add it: `fleetway device enroll {id}`")));
        };
        let mut lines = fleet.journal(LINES, None, Some(&id)).map_err(|e| failed(e.kind(), &e))?;
        lines.reverse();
        let names: Vec<_> = device.models.keys().cloned().collect();
        let mut device = view::device(fleet, device);
        let models = std::mem::take(&mut device.models).into_iter().zip(names);
        let models =
            models.map(|(model, name)| (model, fleet.history(&id, &name).to_vec())).collect();
        Ok(View { page, device, models, lines })
    });
    html(&asked.await??)
}
