//! A command that is sent twice is done once.
//!
//! With an `Idempotency-Key` a POST is noted durably before it is done, and its answer after: the
//! same request again gets the first answer, another request under the same key is refused. If the
//! controller died in between, nobody knows whether it was done, and the repetition is told so
//! rather than done again. Notes are kept for a day, for each caller apart.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LOCATION, CONTENT_TYPE, ETAG};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use fleetway_controller::fleet::{Begun, Fleet, Kept};
use fleetway_protocol::ids::Digest;

use super::caller::Caller;
use super::failure::{Failure, Kind};
use super::openapi::IDEMPOTENCY_KEY;
use super::rollouts;
use super::view::failed;
use crate::serve::Running;

/// Longest key, bytes.
const KEY_BYTES_MAX: usize = 255;
/// Largest body of a request with a key: axum's own bound.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest answer that is kept. Of a larger one only where it can be read is.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Says that an answer is a repetition.
const REPLAYED: &str = "idempotency-replayed";

/// The place that every request with a key passes.
pub(super) async fn once(State(running): State<Running>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY).cloned() else {
        return next.run(request).await;
    };
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match keyed(&running, &key, request, next).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn keyed(
    running: &Running,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let text = format!("an `Idempotency-Key` has 1 to {KEY_BYTES_MAX} bytes");
        return Err(Failure::usage(text));
    }
    // A route that nobody may ask makes no note.
    let caller = Caller::of(request.extensions())?;
    let key = digest(&[b"key", caller.name.as_bytes(), key.as_bytes()]);
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await;
    let body = body.map_err(|error| Failure::usage(format!("the body: {error}")))?;
    let asked = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let fingerprint = digest(&[asked.as_bytes(), &body]);

    let begin = move |fleet: &mut Fleet, now_s| {
        fleet.begin_once(now_s, key, fingerprint).map_err(|error| failed(error.kind(), &error))
    };
    match running.core.ask(begin).await?? {
        Begun::New => {}
        Begun::Before(kept) => return replay(running, kept).await,
        Begun::OtherRequest => {
            let text = "another request was sent under this `Idempotency-Key`";
            return Err(Failure::new(Kind::KeyReused, text).mend("use a new key for a new request"));
        }
        Begun::Unknown => {
            let text = "the same request was sent under this key, and nobody knows yet whether it was done";
            return Err(Failure::conflict(text)
                .mend("look whether it was done; if it is not under way any more, use a new key"));
        }
    }
    let request = Request::from_parts(parts, Body::from(body));
    let is_secret = shows_a_secret(&request);
    let (mut kept, response) = take(next.run(request).await).await;
    if let Some(Some(kept)) = kept.as_mut().filter(|_| is_secret && response.status().is_success())
    {
        *kept = without_secret();
    }
    let note = move |fleet: &mut Fleet, now_s| fleet.end_once(now_s, key, fingerprint, kept);
    if let Err(error) = running.core.ask(note).await? {
        // It was done; a repetition will be told that nobody knows.
        tracing::error!("an answer was not kept for its repetition: {error}");
    }
    Ok(response)
}

/// What is kept of an answer. `None`: nothing was done, it may be asked again. An answer that came
/// too late says nothing about what was done, and stays unknown.
async fn take(response: Response) -> (Option<Option<Kept>>, Response) {
    let status = response.status();
    match status {
        StatusCode::SERVICE_UNAVAILABLE => return (None, response),
        _ if status.is_server_error() => return (Some(None), response),
        _ => {}
    }
    let location = text(&response, CONTENT_LOCATION);
    let tag = text(&response, ETAG);
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let fits = body.len() <= ANSWER_BYTES_MAX || location.is_none();
    let kept = Kept {
        status: status.as_u16(),
        tag,
        location,
        body: if fits { body.to_vec() } else { Vec::new() },
    };
    (Some(Some(kept)), Response::from_parts(parts, Body::from(body)))
}

/// Whether the answer shows a secret, which must not lie in the store.
fn shows_a_secret(request: &Request) -> bool {
    let path = request.uri().path();
    path == "/v1/tokens" || path.ends_with("/enroll")
}

/// What is kept in the place of an answer with a secret.
fn without_secret() -> Kept {
    let text = "it was done, and its answer showed a secret, which is not kept";
    let failure = Failure::conflict(text).mend("take back what was made, and make another");
    let body = failure.json().into_bytes();
    Kept { status: failure.code.http_status(), tag: None, location: None, body }
}

/// A header of an answer.
fn text(response: &Response, name: HeaderName) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

async fn replay(running: &Running, kept: Kept) -> Result<Response, Failure> {
    let mut response = match (&kept.location, kept.body.is_empty()) {
        // Too large to be kept: what it is now.
        (Some(location), true) => rollouts::at(running, location).await?.into_response(),
        _ => {
            let mut response = Response::new(Body::from(Bytes::from(kept.body)));
            *response.status_mut() = StatusCode::from_u16(kept.status).unwrap_or_default();
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            for (name, value) in [(ETAG, kept.tag), (CONTENT_LOCATION, kept.location)] {
                if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                    response.headers_mut().insert(name, value);
                }
            }
            response
        }
    };
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Of several texts, none of which can pass into the next.
fn digest(texts: &[&[u8]]) -> Digest {
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(&(text.len() as u64).to_le_bytes());
        all.extend_from_slice(text);
    }
    Digest::of(&all)
}
