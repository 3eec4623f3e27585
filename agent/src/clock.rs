//! The only place of the agent that reads clocks; decisions take time as an argument.
//!
//! Two times: monotonic milliseconds since the process started, for waiting and measuring, and
//! Unix seconds, for judging whether something signed is still good. Many edge boxes have no
//! battery behind their clock and start in 1970, so Unix time is `max(system, signed floor)`: a
//! verified order says when it was signed, and it cannot be earlier than that any more. The floor
//! goes on with the monotonic clock, so that time passes on such a box too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The clocks of one process. Clones share the floor.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// Unix milliseconds at `started`, at the earliest.
    start_floor_ms: Arc<AtomicU64>,
}

impl Clock {
    /// Starts the monotonic clock; `floor_s` is the signed floor that an earlier run kept.
    #[allow(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub fn new(floor_s: u64) -> Self {
        let start_floor_ms = Arc::new(AtomicU64::new(floor_s.saturating_mul(1000)));
        Self { started: Instant::now(), start_floor_ms }
    }

    /// Milliseconds since the start; never goes back.
    pub fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Unix seconds: what the system says, but never before what was signed.
    #[allow(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub fn unix_s(&self) -> u64 {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        system.as_secs().max(self.floor_s())
    }

    /// Whether the system clock is behind what was signed: a fact for the status.
    #[allow(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub fn is_behind(&self) -> bool {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        system.as_secs() < self.floor_s()
    }

    /// The earliest that it can be now, in Unix seconds. Keep it for [`Clock::new`].
    pub fn floor_s(&self) -> u64 {
        let start_ms = self.start_floor_ms.load(Ordering::Relaxed);
        start_ms.saturating_add(self.monotonic_ms()) / 1000
    }

    /// It is `issued_s` or later: a verified order says so. Call it for nothing less.
    pub fn raise_floor(&self, issued_s: u64) {
        let start_ms = issued_s.saturating_mul(1000).saturating_sub(self.monotonic_ms());
        self.start_floor_ms.fetch_max(start_ms, Ordering::Relaxed);
    }

    /// Unix milliseconds as the system has them, for showing when something was; no decision.
    #[allow(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub(crate) fn system_unix_ms() -> u64 {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(system.as_millis()).unwrap_or(u64::MAX)
    }

    /// For measuring one thing.
    #[allow(clippy::disallowed_methods, reason = "this is clock.rs")]
    pub(crate) fn stopwatch() -> Stopwatch {
        Stopwatch(Instant::now())
    }
}

/// TLS judges certificates by the same time as everything else.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.unix_s())))
    }
}

/// Time since it was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Microseconds, 71 minutes at most: as long as an answer can say.
    pub(crate) fn elapsed_us(self) -> u32 {
        u32::try_from(self.0.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    /// Nanoseconds.
    pub(crate) fn elapsed_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2100-01-01, later than any clock this runs on.
    const LATER_S: u64 = 4_102_444_800;

    #[test]
    fn the_floor_only_rises_and_goes_on_with_time() {
        let clock = Clock::new(0);
        assert!(!clock.is_behind() && clock.unix_s() > 1_700_000_000);
        clock.raise_floor(LATER_S);
        assert!(clock.is_behind() && clock.unix_s() - LATER_S <= 1);
        clock.raise_floor(5);
        assert!(clock.unix_s() >= LATER_S - 1);
        std::thread::sleep(Duration::from_millis(1_100));
        assert!(clock.unix_s() > LATER_S);
    }

    #[test]
    fn clones_share_the_floor_and_tls_sees_it() {
        let clock = Clock::new(LATER_S);
        let tls: Arc<dyn TimeProvider> = Arc::new(clock.clone());
        clock.raise_floor(LATER_S + 1000);
        assert!(tls.current_time().unwrap().as_secs() >= LATER_S + 999);
    }

    #[test]
    fn no_signed_time_overflows() {
        let clock = Clock::new(u64::MAX);
        clock.raise_floor(u64::MAX);
        assert!(clock.unix_s() >= u64::MAX / 1000 - 1);
    }
}
