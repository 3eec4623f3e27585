//! Rollouts: from a request to a specification, and the operator's hand on it.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as Described};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LOCATION;
use axum::response::{IntoResponse, Response};
use fleetway_controller::fleet::{By, Fleet, RolloutView as Rollout};
use fleetway_controller::planner::{PhaseSpec, RolloutSpec, Size};
use fleetway_protocol::ids::RolloutId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::Caller;
use super::devices::selector;
use super::extract::{
    Answer, Body, IfMatch, Page, PageParams, Params, RolloutPath, Segments, Tag, Tagged, limit,
};
use super::failure::Failure;
use super::server::find_release;
use super::types::{PlanView, RolloutRequest, RolloutSummary, RolloutView};
use super::view::{self, failed};
use super::wishes;
use crate::serve::Running;

/// Where a rollout can be read: this, and its number.
const PLACE: &str = "/v1/rollouts/";
/// Time that a finished phase is watched, unless said otherwise.
const SOAK_S: u64 = 600;

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
    running
        .core
        .ask(move |fleet, now_s| {
            let spec = spec(fleet, &request)?;
            let preview = fleet.plan_rollout(&spec, now_s).map_err(|e| failed(e.kind(), &e))?;
            Ok(Json(view::plan(fleet, &preview)))
        })
        .await?
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
            let id = fleet.start_rollout(by, &spec).map_err(|e| failed(e.kind(), &e))?;
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
    running
        .core
        .ask(move |fleet, now_s| {
            check(fleet, id, now_s, &as_seen)?;
            let by = By { who: &caller.name, now_s };
            let steered = match verb {
                SteerVerb::Pause => fleet.pause_rollout(by, id),
                SteerVerb::Resume => fleet.resume_rollout(by, id),
                SteerVerb::Abort => fleet.abort_rollout(by, id),
            };
            steered.map_err(|e| failed(e.kind(), &e))?;
            shown(fleet, id, now_s)
        })
        .await?
}

pub(super) fn spec(fleet: &Fleet, request: &RolloutRequest) -> Result<RolloutSpec, Failure> {
    let release = find_release(fleet, &request.model, &request.version)?;
    let size = |text: &String| text.parse::<Size>().map_err(|e| failed(e.kind(), &e));
    let manifest = &release.manifest;
    let mut spec = RolloutSpec::new(
        manifest.model.clone(),
        release.digest,
        manifest.version.clone(),
        selector(request.selector.as_deref())?,
    );
    let soak_s = request.soak_s.map(u64::from);
    if request.phases.is_empty() {
        spec.phases.iter_mut().for_each(|phase| phase.soak_s = soak_s.unwrap_or(phase.soak_s));
    } else {
        let soak_s = soak_s.unwrap_or(SOAK_S);
        let phase = |text| size(text).map(|size| PhaseSpec { size, soak_s });
        spec.phases = request.phases.iter().map(phase).collect::<Result<_, _>>()?;
    }
    if let Some(text) = &request.max_unavailable {
        spec.max_unavailable = size(text)?;
    }
    set(&mut spec.failures_max, request.failures_max);
    set(&mut spec.success_percent_min, request.success_percent_min);
    set(&mut spec.device_timeout_s, request.device_timeout_s);
    set(&mut spec.hold_aside_s, request.hold.aside_s);
    // A short timeout means that silence is told from absence sooner as well.
    spec.offline_after_s = spec.offline_after_s.min(spec.device_timeout_s);
    let terms = &mut spec.terms;
    set(&mut terms.probation_s, request.probation_s);
    set(&mut terms.probation_answers, request.probation_answers);
    set(&mut terms.error_permille_max, request.error_permille_max);
    set(&mut terms.p95_us_max, request.p95_us_max);
    set(&mut terms.collapse_permille_max, request.collapse_permille_max);
    terms.shadow = request.shadow.as_ref().map(wishes::shadow).transpose()?;
    terms.hold = wishes::hold(&request.hold)?;
    Ok(spec)
}

fn set<T, U: From<T>>(field: &mut U, value: Option<T>) {
    if let Some(value) = value {
        *field = value.into();
    }
}
