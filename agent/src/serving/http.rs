//! The device's HTTP server: Open Inference Protocol v2 and the agent's own status.
//!
//! ```text
//! GET  /v2                                             this server
//! GET  /v2/health/live  /v2/health/ready
//! GET  /v2/models/{m}[/versions/{v}][/ready]           interface, and which release runs
//! GET  /v2/models/{m}[/versions/{v}]/config|stats      and /v2/models/stats for all
//! POST /v2/models/{m}[/versions/{v}]/infer             JSON, or JSON and binary tensors
//! GET  /v2/repository/index   (POST too)               all models
//! POST /v2/repository/models/{m}/load|unload           403: only signed orders do that
//! POST /fleetway/v1/hold       (DELETE)               a lock: no swap now; unix socket only
//! GET  /fleetway/v1/status                             for `fleetway-agent status`
//! ```
//! Every error is `{"error": "..."}` with what to do instead. Answers of a model name the release
//! and the slot that gave them, in the text and as header fields.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::body;
use super::coding::Coding;
use super::hold::{Desk, HOLD_BODY_BYTES_MAX};
use super::infer::{Gate, Job, current, infer};
use super::limits::Limits;
use super::live::{Live, Loaded, Models};
use super::locks::Locks;
use super::oip::config::ModelConfig;
use super::oip::{IndexEntry, ModelMetadata, Origin, ServerMetadata};
use super::refusal::Refusal;
use super::rest::{JSON_BYTES, Rest};
use super::routes::{Route, Target, find};
use super::stats::ModelStats;
use crate::clock::Clock;
use crate::status::Status;

/// Digest of the manifest of the release that answered.
pub(super) const RELEASE: HeaderName = HeaderName::from_static("fleetway-release");
/// The slot that it is in.
pub(super) const SLOT: HeaderName = HeaderName::from_static("fleetway-slot");

/// Gives the status of this moment.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// What the servers answer from.
pub struct Api {
    models: Arc<Models>,
    status: StatusSource,
    desk: Desk,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: Limits,
}

impl Api {
    /// Serves `models`, at most `concurrent_max` inferences at once.
    pub fn new(models: Arc<Models>, status: StatusSource, concurrent_max: usize) -> Self {
        let gate = Arc::new(Gate::new(concurrent_max.max(1)));
        let desk = Desk { locks: Arc::default(), clock: Clock::new(0) };
        Self { models, status, desk, gate, limits: Limits::default() }
    }

    /// The same with locks that somebody else looks at too, by that clock.
    pub fn with_locks(mut self, locks: Arc<Locks>, clock: Clock) -> Self {
        self.desk = Desk { locks, clock };
        self
    }

    /// The same with other times.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn live(&self, model: &str) -> Result<Arc<Live>, Refusal> {
        self.models.get(model).ok_or_else(|| {
            let names: Vec<_> =
                self.models.list().iter().map(|live| live.model().to_string()).collect();
            let known = if names.is_empty() { "none yet".into() } else { names.join(", ") };
            let model: String = model.chars().take(64).collect();
            let text = format!("no model {model:?} on this device; there is: {known}");
            Refusal::new(StatusCode::NOT_FOUND, text)
        })
    }

    /// What answers for a model, in the version that is asked for.
    pub(super) fn loaded(
        &self,
        model: &str,
        version: Option<&str>,
    ) -> Result<(Arc<Live>, Arc<Loaded>), Refusal> {
        let live = self.live(model)?;
        let loaded = current(&live, version)?;
        Ok((live, loaded))
    }

    pub(super) fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.list();
        models.iter().map(|l| IndexEntry::of(l.model().as_str(), l.current().as_deref())).collect()
    }

    /// Whether any model can be asked.
    pub(super) fn is_ready(&self) -> bool {
        self.models.list().iter().any(|live| live.current().is_some())
    }

    /// The counts of all that is loaded.
    pub(super) fn all_stats(&self) -> Vec<ModelStats> {
        let models = self.models.list();
        models.iter().filter_map(|live| Some(ModelStats::of(&*live.current()?))).collect()
    }
}

pub(super) type Reply = Response<Full<Bytes>>;

/// Answers a request, whatever it is; `guarded` is one whose socket says who may come.
pub(super) async fn handle(
    api: Arc<Api>,
    guarded: bool,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let (head, mut body) = request.into_parts();
    let body_by = Instant::now() + api.limits.body;
    let answered = match find(head.uri.path(), &head.method) {
        Ok(Route::Infer(target)) => {
            answer_infer(&api, target, &head.headers, &mut body, body_by).await
        }
        Ok(Route::Hold) if !guarded => Err(Refusal::not_guarded()),
        Ok(Route::Hold) => answer_hold(&api, &head.method, &mut body, body_by).await,
        Ok(route) => answer(&api, route).and_then(|reply| packed(reply, &head.headers)),
        Err(refused) => Err(refused),
    };
    // What is left of a body: unread, it would cost the connection, and on TCP the answer too.
    if !body.is_end_stream() {
        let _ = tokio::time::timeout_at(body_by, body::discard(&mut body)).await;
    }
    Ok(answered.unwrap_or_else(refuse))
}

fn answer(api: &Api, route: Route<'_>) -> Result<Vec<u8>, Refusal> {
    let loaded = |target: &Target<'_>| api.loaded(target.model, target.version.as_deref());
    match route {
        Route::Server => to_json(&ServerMetadata::new()),
        Route::Live => to_json(&json!({ "live": true })),
        Route::Ready if api.is_ready() => to_json(&json!({ "ready": true })),
        Route::Ready => {
            let text = "no model is loaded; `fleetway-agent status` on the device says why";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Route::Model(target) => to_json(&ModelMetadata::of(&loaded(&target)?.1)),
        Route::ModelReady(target) => {
            loaded(&target)?;
            to_json(&json!({ "name": target.model, "ready": true }))
        }
        Route::Config(target) => {
            let (live, loaded) = loaded(&target)?;
            to_json(&ModelConfig::of(&loaded, live.settings()))
        }
        Route::Stats(target) => {
            to_json(&json!({ "model_stats": [ModelStats::of(&loaded(&target)?.1)] }))
        }
        Route::AllStats => to_json(&json!({ "model_stats": api.all_stats() })),
        Route::Index => to_json(&api.index()),
        Route::Managed | Route::Infer(_) | Route::Hold => Err(Refusal::managed()),
        Route::Status => to_json(&(api.status)()),
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| Refusal::failed(error.to_string()))
}

/// A text for who may want it folded.
fn packed(text: Vec<u8>, headers: &HeaderMap) -> Result<Reply, Refusal> {
    let coding = Coding::wanted(headers);
    let body = coding.pack(text).map_err(|error| Refusal::failed(error.to_string()))?;
    let mut reply = reply(StatusCode::OK, body);
    if let Some(coding) = coding.header() {
        reply.headers_mut().insert(CONTENT_ENCODING, coding);
    }
    Ok(reply)
}

async fn answer_infer(
    api: &Api,
    target: Target<'_>,
    headers: &HeaderMap,
    body: &mut Incoming,
    body_by: Instant,
) -> Result<Reply, Refusal> {
    let live = api.live(target.model)?;
    let dialect = Rest::of(headers)?;
    let read = body::read(&api.gate.bodies, body);
    let body = tokio::time::timeout_at(body_by, read).await.unwrap_or_else(|_| {
        let text = format!("the body did not come within {} s", api.limits.body.as_secs());
        Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text))
    })?;
    let job = Job { live, version: target.version, dialect: dialect.with(body) };
    let answer = infer(&api.gate, api.limits, job).await?;
    let mut reply = reply(StatusCode::OK, answer.body);
    let headers = reply.headers_mut();
    if let Some(json_bytes) = answer.json_bytes {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(JSON_BYTES, json_bytes.into());
    }
    if let Some(coding) = answer.coding.header() {
        headers.insert(CONTENT_ENCODING, coding);
    }
    put_origin(headers, &answer.origin);
    Ok(reply)
}

async fn answer_hold(
    api: &Api,
    method: &Method,
    body: &mut Incoming,
    body_by: Instant,
) -> Result<Reply, Refusal> {
    let read = Limited::new(body, HOLD_BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout_at(body_by, read).await;
    let Ok(Ok(body)) = body else {
        let text = format!("a hold is JSON of at most {HOLD_BODY_BYTES_MAX} bytes, in time");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    };
    let answer = api.desk.answer(method, &body.to_bytes(), |model| api.live(model))?;
    to_json(&answer).map(|json| reply(StatusCode::OK, json))
}

/// Names who answered.
pub(super) fn put_origin(headers: &mut HeaderMap, origin: &Origin) {
    if let Ok(release) = HeaderValue::from_str(&origin.release) {
        headers.insert(RELEASE, release);
    }
    headers.insert(SLOT, HeaderValue::from_static(origin.slot));
}

fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn refuse(refusal: Refusal) -> Reply {
    let body = json!({ "error": refusal.text }).to_string();
    let mut reply = reply(refusal.status, body);
    let headers = reply.headers_mut();
    if let Some((name, value)) = refusal.header {
        headers.insert(name, value);
    }
    if let Some(origin) = &refusal.origin {
        put_origin(headers, origin);
    }
    reply
}
