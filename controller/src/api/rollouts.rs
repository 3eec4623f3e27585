//! Rollouts: from a request to a specification, and the operator's hand on it.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LOCATION;
use axum::response::{IntoResponse, Response};
use fleetway_controller::fleet::{By, Fleet, RolloutError, RolloutView as Rollout};
use fleetway_controller::planner::RolloutSpec;
use fleetway_protocol::ids::RolloutId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::Caller;
use super::extract::{
    Answer, Body, IfMatch, Page, PageParams, Params, RolloutPath, Segments, Tag, Tagged, limit,
};
use super::failure::Failure;
use super::server::find_release;
use super::spec::spec_of;
use super::types::{ExpiryView, PlanView, RolloutRequest, RolloutSummary, RolloutView};
use super::view::{self, failed};
use crate::serve::Running;

/// Where a rollout can be read: this, and its number.
const PLACE: &str = "/v1/rollouts/";

pub(super) fn no_rollout(id: RolloutId) -> Failure {
    Failure::not_found(format!("no rollout {id}")).mend("see `fleetway rollout list`")
}

/// What operators decide about a rollout: what was asked for, and the state that it is in.
pub(super) fn tag(rollout: &Rollout) -> Tag {
    Tag::of(&(&rollout.spec, &rollout.state, rollout.started_s))
}

/// A rollout as it is now, where it can be read again, and its state.
pub(super) struct Shown(u64, Tagged<RolloutView>);

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        let Self(id, tagged) = self;
        let mut response = tagged.into_response();
        if let Ok(location) = HeaderValue::from_str(&format!("{PLACE}{id}")) {
            response.headers_mut().insert(CONTENT_LOCATION, location);
        }
        response
    }
}

impl OperationOutput for Shown {
    type Inner = RolloutView;

    fn operation_response(ctx: &mut GenContext, operation: &mut Operation) -> Option<Described> {
        Tagged::<RolloutView>::operation_response(ctx, operation)
    }

    fn inferred_responses(
        ctx: &mut GenContext,
        operation: &mut Operation,
    ) -> Vec<(Option<u16>, Described)> {
        Tagged::<RolloutView>::inferred_responses(ctx, operation)
    }
}

pub(super) fn shown(fleet: &Fleet, id: RolloutId, now_s: u64) -> Result<Shown, Failure> {
    let rollout = fleet.rollout(id, now_s).ok_or_else(|| no_rollout(id))?;
    Ok(Shown(id, Tagged(tag(&rollout), view::rollout(fleet, &rollout))))
}

pub(super) async fn plan(
    State(running): State<Running>,
    Body(request): Body<RolloutRequest>,
) -> Answer<PlanView> {
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
    Body(request): Body<RolloutRequest>,
) -> Result<Shown, Failure> {
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

pub(super) async fn list(
    State(running): State<Running>,
    Params(asked): Params<PageParams>,
) -> Answer<Page<RolloutSummary>> {
    let limit = limit(asked.limit)?;
    let cursor = asked.cursor.map(|text| text.parse::<u64>()).transpose();
    let cursor = cursor.map_err(|_| Failure::usage("a cursor of this list is a number"))?;
    running
        .core
        .ask(move |fleet, now_s| {
            let is_after = |rollout: &Rollout| cursor.is_none_or(|after| rollout.id > after);
            let all = fleet.rollouts(now_s);
            let Page { items, next } = Page::of(all, |r| r.id.to_string(), is_after, limit);
            let items = items.iter().map(|r| view::rollout_summary(fleet, r)).collect();
            Ok(Json(Page { items, next }))
        })
        .await?
}

pub(super) async fn show(
    State(running): State<Running>,
    Segments(path): Segments<RolloutPath>,
) -> Result<Shown, Failure> {
    running.core.ask(move |fleet, now_s| shown(fleet, path.id, now_s)).await?
}

/// Whether the rollout is still as whoever commands saw it.
pub(super) fn check(
    fleet: &Fleet,
    id: RolloutId,
    now_s: u64,
    as_seen: &IfMatch,
) -> Result<(), Failure> {
    match fleet.rollout(id, now_s) {
        Some(rollout) => as_seen.check(&tag(&rollout)),
        None => Ok(()), // The command itself says so.
    }
}

/// The rollout at its own place, for an answer that was too large to be kept.
pub(super) async fn at(running: &Running, location: &str) -> Result<Shown, Failure> {
    let id = location.strip_prefix(PLACE).and_then(|id| id.parse().ok());
    let id =
        id.ok_or_else(|| Failure::error(format!("{location:?} is no rollout's place: a bug")))?;
    running.core.ask(move |fleet, now_s| shown(fleet, id, now_s)).await?
}

/// What can be done with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SteerVerb {
    /// Start nothing new.
    Pause,
    /// Go on.
    Resume,
    /// End it for good.
    Abort,
}

/// A rollout and what to do with it, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SteerPath {
    /// The rollout's number.
    id: u64,
    /// What to do.
    verb: SteerVerb,
}

pub(super) async fn steer(
    State(running): State<Running>,
    Segments(SteerPath { id, verb }): Segments<SteerPath>,
    caller: Caller,
    as_seen: IfMatch,
) -> Result<Shown, Failure> {
    let steer = match verb {
        SteerVerb::Pause => Fleet::pause_rollout,
        SteerVerb::Resume => Fleet::resume_rollout,
        SteerVerb::Abort => Fleet::abort_rollout,
    };
    command(&running, id, caller, as_seen, steer).await
}

/// A verb of its own: who starts a rollout need not be who approves it.
pub(super) async fn approve(
    State(running): State<Running>,
    Segments(RolloutPath { id }): Segments<RolloutPath>,
    caller: Caller,
    as_seen: IfMatch,
) -> Result<Shown, Failure> {
    command(&running, id, caller, as_seen, Fleet::approve_rollout).await
}

/// Does something to a rollout that is still as it was seen, and shows it.
pub(super) async fn command(
    running: &Running,
    id: RolloutId,
    caller: Caller,
    as_seen: IfMatch,
    act: impl FnOnce(&mut Fleet, By<'_>, RolloutId) -> Result<(), RolloutError> + Send + 'static,
) -> Result<Shown, Failure> {
    running
        .core
        .ask(move |fleet, now_s| {
            check(fleet, id, now_s, &as_seen)?;
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
