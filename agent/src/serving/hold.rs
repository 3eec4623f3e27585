//! `POST` and `DELETE /fleetway/v1/hold`: an application takes a lock on a model and releases it.
//!
//! ```text
//! POST   {"model": "digits", "by": "till", "ttl_s": 60}   200, and how long it lasts
//! DELETE {"model": "digits", "by": "till"}                200, or 404 where there was none
//! ```

use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::live::Live;
use super::locks::Locks;
use super::refusal::Refusal;
use crate::clock::Clock;

/// Body of either request: two names and a number.
pub(super) const HOLD_BODY_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    model: String,
    by: String,
    ttl_s: Option<u32>,
}

/// Where locks are, and the clock that ends them.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) locks: Arc<Locks>,
    pub(super) clock: Clock,
}

impl Desk {
    /// Answers one request; `live` finds a model, or says which there are.
    pub(super) fn answer(
        &self,
        method: &Method,
        body: &[u8],
        live: impl FnOnce(&str) -> Result<Arc<Live>, Refusal>,
    ) -> Result<Value, Refusal> {
        let wrong = |error: &dyn std::error::Error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("a hold is JSON: {error}"))
        };
        let Hold { model, by, ttl_s } =
            serde_json::from_slice(body).map_err(|error| wrong(&error))?;
        // A lock on a model that nobody has would be a misspelt one that holds nothing.
        let live = live(&model)?;
        let (model, now_ms) = (live.model(), self.clock.monotonic_ms());
        if method == Method::DELETE {
            if self.locks.release(now_ms, model, &by) {
                return Ok(json!({ "released": true }));
            }
            let text = format!("{by:?} holds no lock on model {:?}", model.as_str());
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        }
        let refused = |error: &dyn std::error::Error| {
            Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
        };
        let ttl_s = ttl_s.unwrap_or(0);
        self.locks.take(now_ms, model, &by, ttl_s).map_err(|error| refused(&error))?;
        Ok(json!({ "model": model.as_str(), "by": by, "ttl_s": ttl_s }))
    }
}
