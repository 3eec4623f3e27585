//! The routes. Each one asks the core one question and puts the answer into the API's words.

use std::sync::Arc;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with, put_with};
use aide::openapi::OpenApi;
use aide::transform::TransformOperation;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use fleetway_controller::fleet::{By, Fleet, ReleaseView as Release};
use fleetway_protocol::ids::{IdError, ModelName};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

use super::caller::{self, Caller};
use super::extract::{Answer, Page, PageParams, Params, Segments, limit};
use super::failure::Failure;
use super::types::{DeviceCounts, ReleaseView, StatusView, TrustPublished};
use super::view::{self, failed};
use super::{
    audit, devices, events, follow, idempotency, identities, known_bad, metrics, openapi, releases,
    rollouts, tokens,
};
use crate::serve::Running;

/// Deadline of a request. Below the client's, so that the client hears why.
const REQUEST: Duration = Duration::from_secs(10);
/// Deadline of an upload.
const UPLOAD: Duration = Duration::from_secs(110);

/// All routes. A listener adds the [`caller::Door`] that it is.
pub(crate) fn router(running: Running) -> Router {
    let (routes, document) = described();
    let document: Arc<str> = openapi::text(&document).into();
    let api = routes
        .route("/v1/openapi.json", get(move || async move { openapi_json(&document) }))
        .route("/v1/events", get(events::stream))
        .route("/metrics", get(metrics::all))
        .route("/metrics/devices", get(metrics::devices))
        .fallback(unknown)
        .layer(middleware::from_fn(deadline))
        .layer(middleware::from_fn_with_state(running.clone(), idempotency::once))
        .layer(middleware::from_fn(caller::allow))
        .layer(middleware::from_fn_with_state(running.clone(), audited))
        .layer(middleware::map_response(unstored));
    // The web page's handlers show the login to whoever is nobody, and have the same fence against
    // other sites.
    api.merge(crate::web::router())
        .layer(middleware::from_fn_with_state(running.clone(), caller::identify))
        .with_state(running)
}

/// The OpenAPI document.
#[cfg(test)]
pub(super) fn document() -> OpenApi {
    described().1
}

/// What is in the document: all but the document and the stream of events, which is no JSON.
fn described() -> (Router<Running>, OpenApi) {
    let routes = ApiRouter::new()
        .api_route("/v1/status", get_with(status, op("status", "How the controller is")))
        .api_route(
            "/v1/devices",
            get_with(devices::list, op("list_devices", "Devices, by id"))
                .post_with(devices::add, op("add_device", "Add a device")),
        )
        .api_route("/v1/devices/{id}", get_with(devices::show, op("show_device", "One device")))
        .api_route(
            "/v1/devices/{id}/labels",
            post_with(devices::label, op("label_device", "Set and take away labels")),
        )
        .api_route(
            "/v1/devices/{id}/enroll",
            post_with(identities::enroll, op("enroll_device", "Let a device in, once")),
        )
        .api_route(
            "/v1/devices/{id}/adopt",
            post_with(identities::adopt, op("adopt_device", "Take in what hangs on a gateway")),
        )
        .api_route(
            "/v1/devices/{id}/revoke",
            post_with(identities::revoke, op("revoke_device", "Take a device out for good")),
        )
        .api_route("/v1/models", get_with(models, op("list_releases", "Published releases")))
        .api_route(
            "/v1/models/{model}/{version}",
            get_with(model, op("show_release", "One published release")),
        )
        .api_route(
            "/v1/blobs/{digest}",
            // The writer has the bound: artifacts are larger than axum's default.
            put_with(releases::put_blob, |operation| {
                op("put_blob", "Send an artifact's bytes")(operation).input::<Bytes>()
            })
            .layer(DefaultBodyLimit::disable()),
        )
        .api_route(
            "/v1/releases",
            post_with(releases::publish, op("publish_release", "Publish a signed release")),
        )
        .api_route(
            "/v1/trust/publish",
            post_with(publish_trust, op("publish_trust", "Put into force what is staged")),
        )
        .api_route(
            "/v1/rollouts",
            get_with(rollouts::list, op("list_rollouts", "Rollouts, oldest first"))
                .post_with(rollouts::start, op("start_rollout", "Start a rollout")),
        )
        .api_route(
            "/v1/rollouts/plan",
            post_with(rollouts::plan, op("plan_rollout", "What a rollout would do")),
        )
        .api_route("/v1/rollouts/{id}", get_with(rollouts::show, op("show_rollout", "One rollout")))
        .api_route(
            "/v1/rollouts/rollback",
            post_with(follow::rollback, op("roll_back", "A named release again, fleet-wide")),
        )
        .api_route(
            "/v1/rollouts/{id}/history",
            get_with(follow::rollout_history, op("rollout_history", "What became of a rollout")),
        )
        .api_route(
            "/v1/rollouts/{id}/promote",
            post_with(follow::promote, op("promote_rollout", "Go on to the next phase now")),
        )
        .api_route(
            "/v1/rollouts/{id}/undo",
            post_with(follow::undo, op("undo_rollout", "Bring back what ran before")),
        )
        .api_route(
            "/v1/rollouts/{id}/retry",
            post_with(follow::retry, op("retry_rollout", "Try again where it failed")),
        )
        .api_route(
            "/v1/rollouts/{id}/approve",
            post_with(rollouts::approve, op("approve_rollout", "Let a phase that waits begin")),
        )
        .api_route(
            "/v1/known-bad",
            get_with(known_bad::list, op("list_known_bad", "Releases bad on a hardware class")),
        )
        .api_route(
            "/v1/known-bad/lift",
            post_with(known_bad::lift, op("lift_known_bad", "Offer a release to a class again")),
        )
        .api_route(
            "/v1/devices/{id}/history",
            get_with(follow::device_history, op("device_history", "What became of a device")),
        )
        .api_route(
            "/v1/rollouts/{id}/{verb}",
            post_with(rollouts::steer, op("steer_rollout", "Pause, resume or abort a rollout")),
        )
        .api_route("/v1/audit", get_with(audit::bounds, op("audit", "Where the audit log ends")))
        .api_route(
            "/v1/audit/entries",
            get_with(audit::entries, op("audit_entries", "The audit log, newest first")),
        )
        .api_route(
            "/v1/tokens",
            get_with(tokens::list, op("list_tokens", "Tokens, without their secrets"))
                .post_with(tokens::create, op("create_token", "Make a token; it is shown once")),
        )
        .api_route(
            "/v1/tokens/{name}/revoke",
            post_with(tokens::revoke, op("revoke_token", "Take a token back")),
        )
        .api_route(
            "/v1/session",
            get_with(tokens::who, op("whoami", "Who asks, and as what"))
                .post_with(tokens::open, op("open_session", "Open a browser's session"))
                .delete_with(tokens::close, op("close_session", "End a browser's session")),
        );
    let mut document = openapi::begin();
    let routes = routes.finish_api_with(&mut document, |mut api| {
        openapi::finish(api.inner_mut());
        api
    });
    (routes, document)
}

/// An operation's name and what it does.
fn op(
    id: &'static str,
    summary: &'static str,
) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| operation.id(id).summary(summary)
}

fn openapi_json(document: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}

/// Nothing here is for a cache: it is old at once, and not for everybody.
async fn unstored(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
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

async fn models(
    State(running): State<Running>,
    Params(asked): Params<PageParams>,
) -> Answer<Page<ReleaseView>> {
    let (limit, cursor) = (limit(asked.limit)?, asked.cursor);
    let cursor = cursor.map(|text| {
        let (model, counter) = text.rsplit_once(':')?;
        Some((model.to_owned(), counter.parse::<u64>().ok()?))
    });
    let cursor = match cursor {
        Some(None) => return Err(Failure::usage("a cursor of this list is MODEL:COUNTER")),
        cursor => cursor.flatten(),
    };
    running
        .core
        .ask(move |fleet, _| {
            let key =
                |release: &Release| (release.manifest.model.to_string(), release.manifest.counter);
            let is_after = |release: &Release| cursor.as_ref().is_none_or(|c| key(release) > *c);
            let name = |release: &Release| {
                let (model, counter) = key(release);
                format!("{model}:{counter}")
            };
            let Page { items, next } = Page::of(fleet.releases(), name, is_after, limit);
            let items = items.iter().map(|release| view::published(fleet, release)).collect();
            Ok(Json(Page { items, next }))
        })
        .await?
}

/// A release, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
struct ReleasePath {
    /// The model's name.
    model: String,
    /// The release's version, or at least eight digits of its digest.
    version: String,
}

async fn model(
    State(running): State<Running>,
    Segments(ReleasePath { model, version }): Segments<ReleasePath>,
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
pub(super) fn find_release(fleet: &Fleet, model: &str, version: &str) -> Result<Release, Failure> {
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
