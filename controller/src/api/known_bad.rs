//! Releases that turned out bad on a class of hardware: shown, and lifted.

use axum::Json;
use axum::extract::State;
use fleetway_controller::fleet::{By, Fleet};
use fleetway_controller::planner::KnownBad;
use fleetway_protocol::ids::{HardwareClass, IdError};

use super::caller::Caller;
use super::extract::{Answer, Body};
use super::failure::Failure;
use super::server::find_release;
use super::types::{KnownBadLift, KnownBadView};
use super::view::{failed, release_ref};
use crate::serve::Running;

/// `GET /v1/known-bad`.
pub(super) async fn list(State(running): State<Running>) -> Answer<Vec<KnownBadView>> {
    let all = |fleet: &mut Fleet, _| fleet.known_bad().iter().map(|b| view(fleet, b)).collect();
    Ok(Json(running.core.ask(all).await?))
}

/// `POST /v1/known-bad/lift`.
pub(super) async fn lift(
    State(running): State<Running>,
    caller: Caller,
    Body(KnownBadLift { model, version, class, reason }): Body<KnownBadLift>,
) -> Answer<KnownBadView> {
    let class: HardwareClass = class.parse().map_err(|error: IdError| {
        Failure::usage(format!("the hardware class {class:?} {error}"))
    })?;
    running
        .core
        .ask(move |fleet, now_s| {
            let release = find_release(fleet, &model, &version)?.digest;
            let by = By { who: &caller.name, now_s };
            let lifted = fleet.lift_known_bad(by, release, &class, &reason);
            let lifted = lifted.map_err(|error| failed(error.kind(), &error))?;
            Ok(Json(view(fleet, &lifted)))
        })
        .await?
}

fn view(fleet: &Fleet, bad: &KnownBad) -> KnownBadView {
    let model = fleet.release(&bad.release).map(|release| release.manifest.model.to_string());
    KnownBadView {
        model,
        release: release_ref(fleet, bad.release),
        hardware: bad.class.to_string(),
        rollout: bad.rollout,
        since_s: bad.since_s,
        why: bad.why.clone(),
        lifted_s: bad.lifted_s,
    }
}
