//! An answer that is none: what the client is told, whichever way it asked.

use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};

use super::live::{Live, Loaded};
use super::oip::{Origin, RequestError};

/// Status, sentence, and what a client may make of it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    /// The release that failed, if one was asked.
    pub(super) origin: Option<Origin>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None, origin: None }
    }

    /// 429: more at once than there is room for.
    pub(super) fn busy(why: &str) -> Self {
        let text = format!("too many requests at once: {why}; ask again later");
        let header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        Self { header, ..Self::new(StatusCode::TOO_MANY_REQUESTS, text) }
    }

    /// 413.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let text = format!("the body has more than {bytes_max} bytes; send less at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// 405.
    pub(super) fn method(method: &hyper::Method, allowed: &str) -> Self {
        let text = format!("{method} is not for this resource; use {allowed}");
        let header = HeaderValue::from_str(allowed).ok().map(|allowed| (ALLOW, allowed));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    /// 403: models do not change by API.
    pub(super) fn managed() -> Self {
        let text = "models change only through signed orders: `fleetway rollout start`";
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 403: over TCP anybody on the device comes, and no lock may come from just anybody.
    pub(super) fn not_guarded() -> Self {
        let text = "locks are taken over the agent's unix socket, whose permissions say by whom";
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 503: the model is known and nothing of it is loaded.
    pub(super) fn not_loaded(live: &Live) -> Self {
        let text = format!(
            "nothing is loaded for model {:?}; `fleetway-agent status` on the device says why",
            live.model().as_str()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// 503: for a short while.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping")
    }

    /// 500: ours, or an engine's.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// The same, said by a release.
    pub(super) fn said_by(mut self, loaded: &Loaded) -> Self {
        self.origin = Some(Origin::of(loaded));
        self
    }

    /// The same refusal in gRPC's numbers.
    pub(super) fn grpc_status(&self) -> u8 {
        match self.status {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => 4,
            StatusCode::NOT_FOUND => 5,
            StatusCode::FORBIDDEN => 7,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => 12,
            StatusCode::NOT_IMPLEMENTED => 12,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            _ => 13,
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}
