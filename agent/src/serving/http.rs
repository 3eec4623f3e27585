//! Routes of the device's HTTP server: Open Inference Protocol v2 and the agent's own status.
//!
//! ```text
//! GET  /v2                                             this server
//! GET  /v2/health/live  /v2/health/ready
//! GET  /v2/models/{m}[/versions/{v}][/ready]           interface, and which release runs
//! POST /v2/models/{m}[/versions/{v}]/infer
//! GET  /v2/repository/index   (POST too)               all models
//! POST /v2/repository/models/{m}/load|unload           403: only signed orders do that
//! GET  /fleetway/v1/status                             for `fleetway-agent status`
//! ```
//! Every error is `{"error": "..."}` with what to do instead.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::infer::{Body, Gate, Job, Refusal, check_version, infer, not_loaded};
use super::limits::{BODY_BYTES_MAX, DISCARD_BYTES_MAX, Limits};
use super::live::{Live, Models};
use super::oip::{IndexEntry, ModelMetadata, ServerMetadata};
use crate::status::Status;

/// Gives the status of this moment.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// What the server answers from.
pub struct Api {
    models: Arc<Models>,
    status: StatusSource,
    gate: Gate,
    pub(super) limits: Limits,
}

impl Api {
    /// Serves `models`, at most `concurrent_max` inferences at once.
    pub fn new(models: Arc<Models>, status: StatusSource, concurrent_max: usize) -> Self {
        let gate = Gate::new(concurrent_max.max(1));
        Self { models, status, gate, limits: Limits::default() }
    }

    /// The same with other times.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    fn live(&self, model: &str) -> Result<Arc<Live>, Refusal> {
        self.models.get(model).ok_or_else(|| {
            let names: Vec<_> =
                self.models.list().iter().map(|live| live.model().to_string()).collect();
            let known = if names.is_empty() { "none yet".into() } else { names.join(", ") };
            let model: String = model.chars().take(64).collect();
            let text = format!("no model {model:?} on this device; there is: {known}");
            Refusal::new(StatusCode::NOT_FOUND, text)
        })
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    Server,
    Live,
    Ready,
    Model(Target<'p>),
    ModelReady(Target<'p>),
    Infer(Target<'p>),
    Index,
    Managed,
    Status,
}

#[derive(Debug, PartialEq, Eq)]
struct Target<'p> {
    model: &'p str,
    version: Option<String>,
}

/// The route of a path, and the methods that it takes.
fn route(path: &str) -> Option<(Route<'_>, &'static [Method])> {
    const GET: &[Method] = &[Method::GET, Method::HEAD];
    const POST: &[Method] = &[Method::POST];
    const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    // The longest route has six levels; what is longer matches none.
    let levels: Vec<&str> = path.split('/').take(8).collect();
    let (target, rest) = match levels.as_slice() {
        ["v2"] => return Some((Route::Server, GET)),
        ["v2", "health", "live"] => return Some((Route::Live, GET)),
        ["v2", "health", "ready"] => return Some((Route::Ready, GET)),
        ["v2", "repository", "index"] => return Some((Route::Index, BOTH)),
        ["v2", "repository", "models", _, "load" | "unload"] => {
            return Some((Route::Managed, POST));
        }
        ["fleetway", "v1", "status"] => return Some((Route::Status, GET)),
        ["v2", "models", model, "versions", version, rest @ ..] => {
            (Target { model, version: Some(decode_percent(version)?) }, rest)
        }
        ["v2", "models", model, rest @ ..] => (Target { model, version: None }, rest),
        _ => return None,
    };
    match rest {
        [] => Some((Route::Model(target), GET)),
        ["ready"] => Some((Route::ModelReady(target), GET)),
        ["infer"] => Some((Route::Infer(target), POST)),
        _ => None,
    }
}

/// Versions may hold characters that clients escape (`+`). Model names hold none.
fn decode_percent(level: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(level.len());
    let mut rest = level.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
                rest = tail;
            }
            (b'%', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

type Reply = Response<Full<Bytes>>;

/// Answers a request, whatever it is.
pub(super) async fn handle(api: Arc<Api>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, mut body) = request.into_parts();
    let body_by = Instant::now() + api.limits.body;
    let answered = match find(head.uri.path(), &head.method) {
        Ok(Route::Infer(target)) => {
            answer_infer(&api, target, &head.headers, &mut body, body_by).await
        }
        Ok(route) => answer(&api, route),
        Err(refused) => Err(refused),
    };
    // What is left of a body: unread, it would cost the connection, and on TCP the answer too.
    if !body.is_end_stream() {
        let _ = tokio::time::timeout_at(body_by, discard(&mut body)).await;
    }
    Ok(answered.unwrap_or_else(refuse))
}

/// The route of a request, if there is one for it.
fn find<'p>(path: &'p str, method: &Method) -> Result<Route<'p>, Refusal> {
    let (route, methods) = route(path).ok_or_else(|| {
        let text = "no such resource; GET /v2 and the Open Inference Protocol say what there is";
        Refusal::new(StatusCode::NOT_FOUND, text)
    })?;
    if methods.contains(method) {
        return Ok(route);
    }
    let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let text = format!("{method} is not for this resource; use {allowed}");
    let header = HeaderValue::from_str(&allowed).ok().map(|allowed| (ALLOW, allowed));
    Err(Refusal { header, ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text) })
}

fn answer(api: &Api, route: Route<'_>) -> Result<Reply, Refusal> {
    let current = |target: Target<'_>| {
        let live = api.live(target.model)?;
        let loaded = live.current().ok_or_else(|| not_loaded(&live))?;
        check_version(&loaded, target.version.as_deref()).map(|()| loaded)
    };
    match route {
        Route::Server => Ok(json_reply(&ServerMetadata::new())),
        Route::Live => Ok(json_reply(&json!({ "live": true }))),
        Route::Ready if index(api).iter().any(IndexEntry::is_ready) => {
            Ok(json_reply(&json!({ "ready": true })))
        }
        Route::Ready => {
            let text = "no model is loaded; `fleetway-agent status` on the device says why";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text))
        }
        Route::Model(target) => Ok(json_reply(&ModelMetadata::of(&*current(target)?))),
        Route::ModelReady(target) => {
            let name = target.model.to_owned();
            current(target)?;
            Ok(json_reply(&json!({ "name": name, "ready": true })))
        }
        Route::Index => Ok(json_reply(&index(api))),
        Route::Managed | Route::Infer(_) => {
            let text = "models change only through signed orders: `fleetway rollout start`";
            Err(Refusal::new(StatusCode::FORBIDDEN, text))
        }
        Route::Status => Ok(json_reply(&(api.status)())),
    }
}

fn index(api: &Api) -> Vec<IndexEntry> {
    let models = api.models.list();
    models.iter().map(|l| IndexEntry::of(l.model().as_str(), l.current().as_deref())).collect()
}

async fn answer_infer(
    api: &Api,
    target: Target<'_>,
    headers: &HeaderMap,
    body: &mut Incoming,
    body_by: Instant,
) -> Result<Reply, Refusal> {
    let live = api.live(target.model)?;
    if headers.contains_key(CONTENT_ENCODING) {
        let text = "compressed bodies are not supported; send plain JSON";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if headers.contains_key("inference-header-content-length") {
        let text = "binary tensors are not supported; send numbers as JSON in \"data\"";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    let body = match tokio::time::timeout_at(body_by, read_body(&api.gate, body)).await {
        Ok(body) => body?,
        Err(_) => {
            let text = format!("the body did not come within {} s", api.limits.body.as_secs());
            return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    let job = Job { live, version: target.version, body };
    infer(&api.gate, api.limits, job).await.map(|json| reply(StatusCode::OK, json))
}

/// Reads a body into memory, within the bound of one and the bound of all.
async fn read_body(gate: &Gate, body: &mut Incoming) -> Result<Body, Refusal> {
    let mut bytes = Vec::new();
    let mut share: Option<tokio::sync::OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let broken = |error| format!("the body broke off: {error}");
        let frame = frame.map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, broken(e)))?;
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > BODY_BYTES_MAX {
            let text = format!("the body has more than {BODY_BYTES_MAX} bytes; send less at once");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let Ok(more) = gate.bodies.clone().try_acquire_many_owned(count) else {
            return Err(Refusal::busy("their bodies fill the memory for them"));
        };
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Body { bytes: bytes.into(), _share: share })
}

/// Reads and forgets, within a bound.
async fn discard(body: &mut Incoming) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > DISCARD_BYTES_MAX {
            return;
        }
    }
}

fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn json_reply(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => reply(StatusCode::OK, body),
        Err(error) => refuse(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn refuse(refusal: Refusal) -> Reply {
    let body = json!({ "error": refusal.text }).to_string();
    let mut reply = reply(refusal.status, body);
    if let Some((name, value)) = refusal.header {
        reply.headers_mut().insert(name, value);
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_routes() {
        let target =
            |version: Option<&str>| Target { model: "m", version: version.map(str::to_owned) };
        for (path, expected) in [
            ("/v2", Some(Route::Server)),
            ("/v2/", Some(Route::Server)),
            ("/v2/health/live", Some(Route::Live)),
            ("/v2/health/ready", Some(Route::Ready)),
            ("/v2/models/m", Some(Route::Model(target(None)))),
            ("/v2/models/m/versions/1.0%2Bb", Some(Route::Model(target(Some("1.0+b"))))),
            ("/v2/models/m/ready", Some(Route::ModelReady(target(None)))),
            ("/v2/models/m/versions/v1/ready", Some(Route::ModelReady(target(Some("v1"))))),
            ("/v2/models/m/infer", Some(Route::Infer(target(None)))),
            ("/v2/models/m/versions/v1/infer", Some(Route::Infer(target(Some("v1"))))),
            ("/v2/repository/index", Some(Route::Index)),
            ("/v2/repository/models/m/load", Some(Route::Managed)),
            ("/v2/repository/models/m/unload", Some(Route::Managed)),
            ("/fleetway/v1/status", Some(Route::Status)),
            ("/v2/models/m/versions/%zz/infer", None),
            ("/v2/models/m/versions/%f", None),
            ("/v2/models/m/versions/%ff", None),
            ("/v2/models/m/infer/x/y/z/a/b/c", None),
            ("/", None),
            ("*", None),
            ("/v3", None),
        ] {
            assert_eq!(route(path).map(|(route, _)| route), expected, "{path}");
        }
    }
}
