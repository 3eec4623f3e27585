//! Rollouts: from a request to a specification, and the operator's hand on it.

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use fleetway_controller::fleet::{By, Fleet};
use fleetway_controller::planner::{PhaseSpec, RolloutSpec, Size};
use fleetway_protocol::ids::RolloutId;

use super::caller::Caller;
use super::failure::Failure;
use super::server::{Answer, body, find_release, selector};
use super::types::{PlanView, RolloutRequest, RolloutSummary, RolloutView};
use super::view::{self, failed};
use super::wishes;
use crate::serve::Running;

/// Time that a finished phase is watched, unless said otherwise.
const SOAK_S: u64 = 600;

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
    running.core.ask(move |fleet, now_s| preview(fleet, &request, now_s).map(Json)).await?
}

/// What a rollout would do.
pub(crate) fn preview(
    fleet: &Fleet,
    request: &RolloutRequest,
    now_s: u64,
) -> Result<PlanView, Failure> {
    let spec = spec(fleet, request)?;
    let preview = fleet.plan_rollout(&spec, now_s).map_err(|e| failed(e.kind(), &e))?;
    Ok(view::plan(fleet, &preview))
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
            let id = fleet.start_rollout(by, &spec).map_err(|e| failed(e.kind(), &e))?;
            shown(fleet, id, now_s)
        })
        .await?
}

pub(super) fn shown(fleet: &Fleet, id: RolloutId, now_s: u64) -> Answer<RolloutView> {
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
    let id = rollout_id(&id)?;
    running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            let steered = match verb.as_str() {
                "pause" => fleet.pause_rollout(by, id),
                "resume" => fleet.resume_rollout(by, id),
                "abort" => fleet.abort_rollout(by, id),
                _ => return Err(Failure::not_found(format!("a rollout cannot {verb:?}"))),
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
