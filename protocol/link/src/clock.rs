//! The only place in this crate that reads a clock. Everything else gets the time as an argument.

use tokio::time::Instant;

/// The monotonic time.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
