//! What follows on a rollout, and what happened: promote, undo, retry, rollback, history.
//!
//! `?dry_run=true` on the three that start rollouts says what they would do and changes nothing.

use axum::Json;
use axum::extract::State;
use fleetway_controller::audit::Entry;
use fleetway_controller::fleet::{By, Fleet, Follow, FollowPlan};
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::Caller;
use super::devices::device_id;
use super::extract::{Answer, Body, DevicePath, IfMatch, Params, RolloutPath, Segments};
use super::failure::Failure;
use super::rollouts::{Shown, command, no_rollout, spec};
use super::types::{ExpiryView, FollowRollout, FollowView, Promote, RolloutRequest, StayView};
use super::view::{self, failed, why};
use crate::serve::Running;

/// Entries of a history, unless said otherwise.
const HISTORY_DEFAULT: usize = 200;
/// Most entries of a history: a rollout of a thousand devices leaves some three thousand.
const HISTORY_MAX: usize = 10_000;

/// `?dry_run=true`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DryRun {
    /// Only say what it would do.
    dry_run: bool,
}

/// `?last=50`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Last {
    /// So many entries, the newest; 200 unless said otherwise.
    last: Option<usize>,
}

impl Last {
    fn count(&self) -> usize {
        self.last.unwrap_or(HISTORY_DEFAULT).min(HISTORY_MAX)
    }
}

/// `POST /v1/rollouts/{id}/promote`.
pub(super) async fn promote(
    State(running): State<Running>,
    Segments(RolloutPath { id }): Segments<RolloutPath>,
    caller: Caller,
    as_seen: IfMatch,
    Body(Promote { full }): Body<Promote>,
) -> Result<Shown, Failure> {
    let promote = move |fleet: &mut Fleet, by: By<'_>, id| fleet.promote_rollout(by, id, full);
    command(&running, id, caller, as_seen, promote).await
}

/// `POST /v1/rollouts/{id}/undo`.
pub(super) async fn undo(
    State(running): State<Running>,
    Segments(RolloutPath { id }): Segments<RolloutPath>,
    Params(dry): Params<DryRun>,
    caller: Caller,
) -> Answer<FollowView> {
    act(&running, move |_| Ok(Follow::Undo(id)), dry, caller).await
}

/// `POST /v1/rollouts/{id}/retry`.
pub(super) async fn retry(
    State(running): State<Running>,
    Segments(RolloutPath { id }): Segments<RolloutPath>,
    Params(dry): Params<DryRun>,
    caller: Caller,
) -> Answer<FollowView> {
    act(&running, move |_| Ok(Follow::Retry(id)), dry, caller).await
}

/// `POST /v1/rollouts/rollback`.
pub(super) async fn rollback(
    State(running): State<Running>,
    Params(dry): Params<DryRun>,
    caller: Caller,
    Body(request): Body<RolloutRequest>,
) -> Answer<FollowView> {
    let back = move |fleet: &Fleet| Ok(Follow::Back(Box::new(spec(fleet, &request)?)));
    act(&running, back, dry, caller).await
}

async fn act(
    running: &Running,
    follow: impl FnOnce(&Fleet) -> Result<Follow, Failure> + Send + 'static,
    dry: DryRun,
    caller: Caller,
) -> Answer<FollowView> {
    let expiries = running.trust.expiries();
    running
        .core
        .ask(move |fleet, now_s| {
            let follow = follow(fleet)?;
            let plan = fleet.plan_follow(&follow, now_s).map_err(|e| failed(e.kind(), &e))?;
            let view = follow_view(fleet, &plan, &expiries, !dry.dry_run);
            if !dry.dry_run {
                let by = By { who: &caller.name, now_s };
                fleet.follow(by, &follow).map_err(|e| failed(e.kind(), &e))?;
            }
            Ok(Json(view))
        })
        .await?
}

fn follow_view(
    fleet: &Fleet,
    plan: &FollowPlan,
    expiries: &[ExpiryView],
    started: bool,
) -> FollowView {
    let rollouts = plan.rollouts.iter();
    let stays = plan.stays.iter();
    FollowView {
        started,
        rollouts: rollouts
            .map(|preview| FollowRollout {
                id: preview.rollout,
                plan: view::plan(fleet, preview, expiries.to_vec()),
            })
            .collect(),
        stays: stays.map(|(id, of)| StayView { id: id.to_string(), reason: why(of) }).collect(),
    }
}

/// `GET /v1/rollouts/{id}/history`.
pub(super) async fn rollout_history(
    State(running): State<Running>,
    Segments(RolloutPath { id }): Segments<RolloutPath>,
    Params(last): Params<Last>,
) -> Answer<Vec<Entry>> {
    running
        .core
        .ask(move |fleet, now_s| {
            fleet.rollout(id, now_s).ok_or_else(|| no_rollout(id))?;
            let entries = fleet.journal(last.count(), Some(id), None);
            entries.map(Json).map_err(|e| failed(e.kind(), &e))
        })
        .await?
}

/// `GET /v1/devices/{id}/history`. One that was removed has a history as well.
pub(super) async fn device_history(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
    Params(last): Params<Last>,
) -> Answer<Vec<Entry>> {
    let id = device_id(&path.id)?;
    running
        .core
        .ask(move |fleet, _| {
            let entries = fleet.journal(last.count(), None, Some(&id));
            let entries = entries.map_err(|e| failed(e.kind(), &e))?;
            if entries.is_empty() && !fleet.has_device(&id) {
                return Err(Failure::not_found(format!("no device {id}"))
                    .mend("see `fleetway device list`"));
            }
            Ok(Json(entries))
        })
        .await?
}
