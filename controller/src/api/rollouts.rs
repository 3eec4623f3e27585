//! Rollouts: from a request to a specification, and the operator's hand on it.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use fleetway_controller::fleet::{By, Fleet, RolloutError};
use fleetway_controller::planner::RolloutSpec;
use fleetway_protocol::ids::RolloutId;

use super::caller::Caller;
use super::failure::Failure;
use super::server::{Answer, body, find_release};
use super::spec::spec_of;
use super::types::{ExpiryView, PlanView, RolloutRequest, RolloutSummary, RolloutView};
use super::view::{self, failed};
use crate::serve::Running;

pub(super) fn rollout_id(text: &str) -> Result<RolloutId, Failure> {
    text.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is no rollout")).mend("see `fleetway rollout list`")
    })
}

pub(super) fn no_rollout(id: RolloutId) -> Failure {
    Failure::not_found(format!("no rollout {id}")).mend("see `fleetway rollout list`")
}

pub(super) async fn plan(State(running): State<Running>, bytes: Bytes) -> Answer<PlanView> {
    let request: RolloutRequest = body(&bytes)?;
    let expiries = running.trust.expiries();
    running
        .core
        .ask(move |fleet, now_s| preview(fleet, &request, expiries, now_s).map(Json))
        .await?
}

/// What a rollout would do.
pub(crate) fn preview(
    fleet: &Fleet,
    request: &RolloutRequest,
    expiries: Vec<ExpiryView>,
    now_s: u64,
) -> Result<PlanView, Failure> {
    let spec = spec(fleet, request)?;
    let preview = fleet.plan_rollout(&spec, now_s).map_err(|e| failed(e.kind(), &e))?;
    Ok(view::plan(fleet, &preview, expiries))
}

pub(super) async fn start(
    State(running): State<Running>,
    caller: Caller,
    bytes: Bytes,
) -> Answer<RolloutView> {
    let request: RolloutRequest = body(&bytes)?;
    running
        .core
        .ask(move |fleet, now_s| {
            let spec = spec(fleet, &request)?;
            let by = By { who: &caller.name, now_s };
            let id = fleet
                .start_planned(by, &spec, request.plan.as_deref())
                .map_err(|e| failed(e.kind(), &e))?;
            shown(fleet, id, now_s)
        })
        .await?
}

fn shown(fleet: &Fleet, id: RolloutId, now_s: u64) -> Answer<RolloutView> {
    let rollout = fleet.rollout(id, now_s).ok_or_else(|| no_rollout(id))?;
    Ok(Json(view::rollout(fleet, &rollout)))
}

pub(super) async fn list(State(running): State<Running>) -> Answer<Vec<RolloutSummary>> {
    running
        .core
        .ask(|fleet, now_s| {
            let all = fleet.rollouts(now_s);
            Ok(Json(all.iter().map(|rollout| view::rollout_summary(fleet, rollout)).collect()))
        })
        .await?
}

pub(super) async fn show(
    State(running): State<Running>,
    Path(id): Path<String>,
) -> Answer<RolloutView> {
    let id = rollout_id(&id)?;
    running.core.ask(move |fleet, now_s| shown(fleet, id, now_s)).await?
}

pub(super) async fn steer(
    State(running): State<Running>,
    Path((id, verb)): Path<(String, String)>,
    caller: Caller,
) -> Answer<RolloutView> {
    let steer = match verb.as_str() {
        "pause" => Fleet::pause_rollout,
        "resume" => Fleet::resume_rollout,
        "abort" => Fleet::abort_rollout,
        _ => return Err(Failure::not_found(format!("a rollout cannot {verb:?}"))),
    };
    command(&running, &id, caller, steer).await
}

/// A verb of its own: who starts a rollout need not be who approves it.
pub(super) async fn approve(
    State(running): State<Running>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer<RolloutView> {
    command(&running, &id, caller, Fleet::approve_rollout).await
}

/// Does something to a rollout, and shows it.
pub(super) async fn command(
    running: &Running,
    id: &str,
    caller: Caller,
    act: impl FnOnce(&mut Fleet, By<'_>, RolloutId) -> Result<(), RolloutError> + Send + 'static,
) -> Answer<RolloutView> {
    let id = rollout_id(id)?;
    running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            act(fleet, by, id).map_err(|e| failed(e.kind(), &e))?;
            shown(fleet, id, now_s)
        })
        .await?
}

pub(super) fn spec(fleet: &Fleet, request: &RolloutRequest) -> Result<RolloutSpec, Failure> {
    let release = find_release(fleet, &request.model, &request.version)?;
    let manifest = &release.manifest;
    spec_of(request, manifest.model.clone(), release.digest, manifest.version.clone())
}
