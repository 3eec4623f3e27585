//! The routes. Each one asks the core one question and puts the answer into the API's words.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use fleetway_controller::audit::Bounds;
use fleetway_controller::fleet::{By, Fleet};
use fleetway_controller::planner::Selector;
use fleetway_protocol::ids::{DeviceId, IdError, ModelName};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::caller::{self, Caller};
use super::failure::{Envelope, Failure};
use super::types::{
    DeviceAdd, DeviceAdded, DeviceCounts, DeviceView, LabelEdits, ReleaseView, StatusView,
    TrustPublished,
};
use super::view::{self, failed};
use super::{follow, identities, releases, rollouts, tokens};
use crate::serve::Running;

/// Deadline of a request. Below the client's, so that the client hears why.
const REQUEST: Duration = Duration::from_secs(10);
/// Deadline of an upload.
const UPLOAD: Duration = Duration::from_secs(110);

/// What a route answers.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// All routes. A listener adds the [`caller::Door`] that it is.
pub(crate) fn router(running: Running) -> Router {
    let api = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/devices", get(devices).post(add_device))
        .route("/v1/devices/{id}", get(device))
        .route("/v1/devices/{id}/history", get(follow::device_history))
        .route("/v1/devices/{id}/labels", post(label_device))
        .route("/v1/devices/{id}/enroll", post(identities::enroll))
        .route("/v1/devices/{id}/revoke", post(identities::revoke))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}/{version}", get(model))
        .route(
            "/v1/blobs/{digest}",
            // The writer has the bound: artifacts are larger than axum's default.
            put(releases::put_blob).layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/releases", post(releases::publish))
        .route("/v1/trust/publish", post(publish_trust))
        .route("/v1/rollouts", get(rollouts::list).post(rollouts::start))
        .route("/v1/rollouts/plan", post(rollouts::plan))
        .route("/v1/rollouts/{id}", get(rollouts::show))
        .route("/v1/rollouts/rollback", post(follow::rollback))
        .route("/v1/rollouts/{id}/history", get(follow::rollout_history))
        .route("/v1/rollouts/{id}/promote", post(follow::promote))
        .route("/v1/rollouts/{id}/undo", post(follow::undo))
        .route("/v1/rollouts/{id}/retry", post(follow::retry))
        .route("/v1/rollouts/{id}/{verb}", post(rollouts::steer))
        .route("/v1/audit", get(audit))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}/revoke", post(tokens::revoke))
        .route("/v1/session", get(tokens::who).post(tokens::open).delete(tokens::close))
        .fallback(unknown)
        .layer(middleware::from_fn(deadline))
        .layer(middleware::from_fn(caller::allow))
        .layer(middleware::from_fn_with_state(running.clone(), audited));
    // The web page's handlers show the login to whoever is nobody, and have the same fence against
    // other sites.
    api.merge(crate::web::router())
        .layer(middleware::from_fn_with_state(running.clone(), caller::identify))
        .with_state(running)
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(Envelope { error: self })).into_response()
    }
}

/// `POST /v1/trust/publish`: what is staged goes into force.
async fn publish_trust(State(running): State<Running>, caller: Caller) -> Answer<TrustPublished> {
    running.publish_trust(caller.name).await.map(Json)
}

async fn unknown(request: Request) -> Failure {
    Failure::not_found(format!("the API has no {} {}", request.method(), request.uri().path()))
        .mend("use the same version of fleetway for the command line and `serve`")
}

async fn deadline(request: Request, next: Next) -> Response {
    let limit = if request.method() == Method::PUT { UPLOAD } else { REQUEST };
    timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        Failure::unreachable(format!("not done within {} s", limit.as_secs()))
            .mend("see the controller's log and its disk; it may still be done")
            .into_response()
    })
}

/// What would be, asked by a POST.
const QUESTION: &str = "/v1/rollouts/plan";

/// Whether nothing is changed by it, although it is a POST.
fn is_question(path: &str, query: Option<&str>) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let follows =
        path.starts_with("/v1/rollouts/") && ["undo", "retry", "rollback"].contains(&last);
    path == QUESTION || follows && query == Some("dry_run=true")
}

/// The one place through which every command goes, done or refused: who asked for what, and what
/// came of it. What the command changed has entries of its own, written with the change.
async fn audited(State(running): State<Running>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.method().is_safe() || is_question(path, request.uri().query()) {
        return next.run(request).await;
    }
    let asked = format!("{} {path}", request.method());
    // What a stranger tries is counted elsewhere: nobody may fill the record from outside.
    let Ok(Caller { name: who, .. }) = Caller::of(request.extensions()) else {
        return next.run(request).await;
    };
    let response = next.run(request).await;
    let text = format!("{asked}: {}", response.status());
    let noted = running.core.ask(move |fleet, now_s| {
        fleet
            .note(By { who: &who, now_s }, "command", None, &text)
            .map_err(|e| failed(e.kind(), &e))
    });
    match noted.await.and_then(|noted| noted) {
        Ok(()) => response,
        // What was done is in the journal with the change itself, if it changed anything.
        Err(failure) => {
            tracing::error!("a command is not in the audit log: {}", failure.message);
            response
        }
    }
}

/// `GET /v1/audit`: where the log begins and ends.
async fn audit(State(running): State<Running>) -> Answer<Bounds> {
    Ok(Json(running.core.ask(|fleet, _| fleet.audit()).await?))
}

/// The JSON body of a request.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::usage(format!("the request is not what is expected here: {error}"))
            .mend("use the same version of fleetway for the command line and `serve`")
    })
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Failure> {
    text.parse().map_err(|error: IdError| Failure::usage(format!("the device id {text:?} {error}")))
}

/// Which devices; all, unless said otherwise.
pub(super) fn selector(text: Option<&str>) -> Result<Selector, Failure> {
    match text {
        None => Ok(Selector::all()),
        Some(text) => text.parse::<Selector>().map_err(|error| failed(error.kind(), &error)),
    }
}

async fn status(State(running): State<Running>) -> Answer<StatusView> {
    status_view(&running).await.map(Json)
}

/// How the controller does.
pub(crate) async fn status_view(running: &Running) -> Result<StatusView, Failure> {
    let (devices, rollouts, ignored, orders_resent) = running
        .core
        .ask(|fleet, now_s| {
            let devices = fleet.devices();
            let online = devices.iter().filter(|device| device.online).count() as u64;
            let counts = DeviceCounts { total: devices.len() as u64, online };
            let open = fleet.rollouts(now_s).into_iter().filter(|r| r.state.is_open());
            let open: Vec<_> = open.map(|r| view::rollout_summary(fleet, &r)).collect();
            (counts, open, fleet.ignored(), fleet.resent())
        })
        .await?;
    Ok(StatusView {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started_s: running.started_s,
        data: running.layout.root().display().to_string(),
        broker: running.broker(),
        link: running.link(),
        blobs: running.blobs_view(),
        devices,
        rollouts,
        bad_messages: running.bad_messages(),
        reports_refused: running.reports_refused(&ignored),
        orders_resent,
    })
}

async fn devices(
    State(running): State<Running>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer<Vec<DeviceView>> {
    let text = query.get("selector").cloned();
    let selector = selector(text.as_deref())?;
    running
        .core
        .ask(move |fleet, _| {
            let all = fleet.devices();
            let total = all.len();
            let chosen: Vec<_> = all
                .into_iter()
                .filter(|device| selector.matches(&device.id, &device.labels))
                .map(|device| view::device(fleet, device))
                .collect();
            if chosen.is_empty() && text.is_some() && total > 0 {
                return Err(matches_nothing(fleet, selector.as_str(), total));
            }
            Ok(Json(chosen))
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

async fn add_device(
    State(running): State<Running>,
    caller: Caller,
    bytes: Bytes,
) -> Answer<DeviceAdded> {
    let add: DeviceAdd = body(&bytes)?;
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

async fn device(State(running): State<Running>, Path(id): Path<String>) -> Answer<DeviceView> {
    let id = device_id(&id)?;
    running
        .core
        .ask(move |fleet, _| match fleet.device(&id) {
            Some(device) => Ok(Json(view::device(fleet, device))),
            None => {
                Err(Failure::not_found(format!("no device {id}"))
                    .mend("see `fleetway device list`"))
            }
        })
        .await?
}

async fn label_device(
    State(running): State<Running>,
    Path(id): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Answer<DeviceView> {
    let id = device_id(&id)?;
    let edits: LabelEdits = body(&bytes)?;
    running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            fleet
                .label_device(by, &id, &edits.set, &edits.unset)
                .map_err(|e| failed(e.kind(), &e))?;
            let device =
                fleet.device(&id).ok_or_else(|| Failure::not_found(format!("no device {id}")))?;
            Ok(Json(view::device(fleet, device)))
        })
        .await?
}

async fn models(State(running): State<Running>) -> Answer<Vec<ReleaseView>> {
    running
        .core
        .ask(|fleet, _| {
            let releases = fleet.releases();
            Ok(Json(releases.iter().map(|release| view::published(fleet, release)).collect()))
        })
        .await?
}

async fn model(
    State(running): State<Running>,
    Path((model, version)): Path<(String, String)>,
) -> Answer<ReleaseView> {
    running
        .core
        .ask(move |fleet, _| {
            let release = find_release(fleet, &model, &version)?;
            Ok(Json(view::published(fleet, &release)))
        })
        .await?
}

/// A published release, by name.
pub(super) fn find_release(
    fleet: &Fleet,
    model: &str,
    version: &str,
) -> Result<fleetway_controller::fleet::ReleaseView, Failure> {
    let name: ModelName = model
        .parse()
        .map_err(|error: IdError| Failure::usage(format!("the model name {model:?} {error}")))?;
    if let Some(release) = fleet.find_release(&name, version) {
        return Ok(release.clone());
    }
    let versions: Vec<_> = fleet
        .releases()
        .into_iter()
        .filter(|release| release.manifest.model == name)
        .map(|release| release.manifest.version.to_string())
        .collect();
    let mend = if versions.is_empty() {
        format!("publish one first: `fleetway model publish {model}@{version}`")
    } else {
        format!("published are {}; or publish it first", versions.join(", "))
    };
    Err(Failure::not_found(format!("no release {model}@{version} is published")).mend(mend))
}
