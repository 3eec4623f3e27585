//! Devices: listed, shown, added, labelled.

use axum::Json;
use axum::extract::State;
use fleetway_controller::fleet::{By, DeviceView as Device, Fleet};
use fleetway_controller::planner::Selector;
use fleetway_protocol::ids::{DeviceId, IdError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::{
    Answer, Body, DevicePath, IfMatch, Page, Params, Segments, Tag, Tagged, limit,
};
use super::failure::Failure;
use super::identities;
use super::types::{DeviceAdd, DeviceAdded, DeviceView, LabelEdits};
use super::view::{self, failed};
use crate::serve::Running;

/// Which devices, and which page of them.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct DevicesParams {
    /// Only devices with these labels: `site=lab,gpu`.
    #[serde(default)]
    selector: Option<String>,
    /// Most items of the page, 1 to 1000.
    #[serde(default)]
    limit: Option<u32>,
    /// Where the page begins: `next` of the one before.
    #[serde(default)]
    cursor: Option<String>,
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Failure> {
    text.parse().map_err(|error: IdError| Failure::usage(format!("the device id {text:?} {error}")))
}

fn no_device(id: &DeviceId) -> Failure {
    Failure::not_found(format!("no device {id}")).mend("see `fleetway device list`")
}

/// Which devices; all, unless said otherwise.
pub(super) fn selector(text: Option<&str>) -> Result<Selector, Failure> {
    match text {
        None => Ok(Selector::all()),
        Some(text) => text.parse::<Selector>().map_err(|error| failed(error.kind(), &error)),
    }
}

/// What operators decide about a device.
pub(super) fn tag(device: &Device) -> Tag {
    let identity = &device.identity;
    let key = identity.key.as_ref().map(fleetway_controller::pki::DeviceKey::digest);
    Tag::of(&(&device.labels, key, identity.token_until_s, identity.revoked_s))
}

fn shown(fleet: &Fleet, id: &DeviceId) -> Result<Tagged<DeviceView>, Failure> {
    let device = fleet.device(id).ok_or_else(|| no_device(id))?;
    Ok(Tagged(tag(&device), view::device(fleet, device)))
}

/// Whether the device is still as whoever commands saw it.
pub(super) fn check(fleet: &Fleet, id: &DeviceId, as_seen: &IfMatch) -> Result<(), Failure> {
    match fleet.device(id) {
        Some(device) => as_seen.check(&tag(&device)),
        None => Ok(()), // The command itself says so.
    }
}

pub(super) async fn list(
    State(running): State<Running>,
    Params(asked): Params<DevicesParams>,
) -> Answer<Page<DeviceView>> {
    let text = asked.selector;
    let selector = selector(text.as_deref())?;
    let (limit, cursor) = (limit(asked.limit)?, asked.cursor);
    running
        .core
        .ask(move |fleet, _| {
            let all = fleet.devices();
            let total = all.len();
            let mut chosen = all.into_iter().filter(|d| selector.matches(&d.target())).peekable();
            if chosen.peek().is_none() && text.is_some() && total > 0 {
                return Err(matches_nothing(fleet, selector.as_str(), total));
            }
            let is_after = |d: &Device| cursor.as_deref().is_none_or(|after| d.id.as_str() > after);
            let Page { items, next } = Page::of(chosen, |d| d.id.to_string(), is_after, limit);
            let items = items.into_iter().map(|device| view::device(fleet, device)).collect();
            Ok(Json(Page { items, next }))
        })
        .await?
}

fn matches_nothing(fleet: &Fleet, selector: &str, total: usize) -> Failure {
    let labels: Vec<_> = fleet
        .labels_in_use()
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |value| format!("{key}={value}")))
        .collect();
    let in_use = if labels.is_empty() { "none".into() } else { labels.join(" ") };
    Failure::not_found(format!("the selector `{selector}` matches none of {total} devices"))
        .mend(format!("labels in use: {in_use}"))
}

pub(super) async fn add(
    State(running): State<Running>,
    caller: Caller,
    Body(add): Body<DeviceAdd>,
) -> Answer<DeviceAdded> {
    let id = device_id(&add.id)?;
    running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            fleet.add_device(by, &id, &add.labels).map_err(|e| failed(e.kind(), &e))?;
            let floor = identities::register(fleet, by, &id, add.key.as_ref())?;
            Ok(Json(DeviceAdded { id: id.to_string(), generation: floor.generation }))
        })
        .await?
}

pub(super) async fn show(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
) -> Result<Tagged<DeviceView>, Failure> {
    let id = device_id(&path.id)?;
    running.core.ask(move |fleet, _| shown(fleet, &id)).await?
}

pub(super) async fn label(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
    caller: Caller,
    as_seen: IfMatch,
    Body(edits): Body<LabelEdits>,
) -> Result<Tagged<DeviceView>, Failure> {
    let id = device_id(&path.id)?;
    running
        .core
        .ask(move |fleet, now_s| {
            check(fleet, &id, &as_seen)?;
            let by = By { who: &caller.name, now_s };
            fleet
                .label_device(by, &id, &edits.set, &edits.unset)
                .map_err(|e| failed(e.kind(), &e))?;
            shown(fleet, &id)
        })
        .await?
}
