//! The one place of the controller's core that reads the clock. Everything else takes
//! time as an argument, so that a test can replay it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds, 0 for a clock before 1970.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Monotonic time since the first call, in milliseconds.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now_ms() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
