//! The audit log as the API shows it: where it begins and ends, and its newest entries.

use axum::Json;
use axum::extract::State;
use fleetway_controller::audit::{Bounds, Entry};
use fleetway_protocol::ids::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::devices::device_id;
use super::extract::{Answer, Page, Params, limit};
use super::failure::Failure;
use super::types::AuditView;
use super::view::failed;
use crate::serve::Running;

/// Entries that are looked at for one page: all that the store keeps would be a second.
const LOOKED_AT_MAX: u64 = 5_000;

/// Which entries.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct EntriesParams {
    /// Only about this rollout.
    #[serde(default)]
    rollout: Option<u64>,
    /// Only about this device.
    #[serde(default)]
    device: Option<String>,
    /// Most items of the page, 1 to 1000.
    #[serde(default)]
    limit: Option<u32>,
    /// Where the page begins: `next` of the one before.
    #[serde(default)]
    cursor: Option<String>,
}

/// `GET /v1/audit`.
pub(super) async fn bounds(State(running): State<Running>) -> Answer<AuditView> {
    let Bounds { floor, head } = running.core.ask(|fleet, _| fleet.audit()).await?;
    Ok(Json(AuditView { floor: floor.to_string(), head: head.to_string() }))
}

/// `GET /v1/audit/entries`: the newest first. A page may have fewer items than asked for and go on.
pub(super) async fn entries(
    State(running): State<Running>,
    Params(asked): Params<EntriesParams>,
) -> Answer<Page<Entry>> {
    let limit = limit(asked.limit)?;
    let device: Option<DeviceId> = asked.device.as_deref().map(device_id).transpose()?;
    let rollout = asked.rollout;
    let cursor = asked.cursor.map(|text| text.parse::<u64>()).transpose();
    let cursor = cursor.map_err(|_| Failure::usage("a cursor of this list is a number"))?;
    running
        .core
        .ask(move |fleet, _| {
            let Bounds { floor, head } = fleet.audit();
            let from = cursor.unwrap_or(u64::MAX).min(head.seq.saturating_add(1));
            let last = from.saturating_sub(LOOKED_AT_MAX).max(floor.seq.saturating_add(1));
            let mut page = Page { items: Vec::new(), next: None };
            for seq in (last..from).rev() {
                let entry = fleet.audit_entry(seq).map_err(|e| failed(e.kind(), &e))?;
                let is_about = |entry: &Entry| {
                    rollout.is_none_or(|id| entry.rollout == Some(id))
                        && device.as_ref().is_none_or(|id| entry.device.as_ref() == Some(id))
                };
                page.items.extend(entry.filter(is_about));
                if page.items.len() == limit || seq == last {
                    // Before the oldest line that is kept there is nothing.
                    page.next = (seq > floor.seq.saturating_add(1)).then(|| seq.to_string());
                    break;
                }
            }
            Ok(Json(page))
        })
        .await?
}
