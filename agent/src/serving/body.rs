//! Request bodies in memory: each within its bound, all of them within theirs, and both before
//! the memory is taken.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{BODIES_BYTES_MAX, BODY_BYTES_MAX, DISCARD_BYTES_MAX};
use super::refusal::Refusal;

/// The memory for all bodies.
#[derive(Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

/// A share of that memory, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

/// Complete bytes, and their share.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) _share: Share,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES_MAX)))
    }

    /// Takes room for `more` bytes, or refuses with 429.
    pub(super) fn take(&self, more: usize, share: &mut Share) -> Result<(), Refusal> {
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(permit) = self.0.clone().try_acquire_many_owned(count) else {
            return Err(Refusal::busy("their bodies fill the memory for them"));
        };
        match &mut share.0 {
            Some(held) => held.merge(permit),
            None => share.0 = Some(permit),
        }
        Ok(())
    }
}

/// Reads a body into memory, within the bound of one and the bound of all. One that comes in one
/// piece is not copied.
pub(super) async fn read(bodies: &Bodies, body: &mut Incoming) -> Result<Body, Refusal> {
    let announced = body.size_hint().lower();
    if announced > BODY_BYTES_MAX as u64 {
        return Err(Refusal::too_large(BODY_BYTES_MAX));
    }
    let mut share = Share::default();
    let mut first = Bytes::new();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |error| format!("the body broke off: {error}");
        let frame = frame.map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, broken(e)))?;
        let Ok(piece) = frame.into_data() else { continue };
        let have = first.len() + bytes.len();
        if have + piece.len() > BODY_BYTES_MAX {
            return Err(Refusal::too_large(BODY_BYTES_MAX));
        }
        bodies.take(piece.len(), &mut share)?;
        if have == 0 {
            first = piece;
            continue;
        }
        if bytes.is_empty() {
            // What it says of its length is believed as far as it has a share for.
            bytes.reserve(first.len() + piece.len());
            bytes.extend_from_slice(&first);
            first = Bytes::new();
        }
        bytes.extend_from_slice(&piece);
    }
    let bytes = if bytes.is_empty() { first } else { bytes.into() };
    Ok(Body { bytes, _share: share })
}

/// Reads and forgets, within a bound.
pub(super) async fn discard(body: &mut Incoming) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > DISCARD_BYTES_MAX {
            return;
        }
    }
}
