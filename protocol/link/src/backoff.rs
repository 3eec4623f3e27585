//! How long to wait before the next attempt: exponential, with jitter, so that a fleet that lost its broker in one
//! moment does not come back in one.

use std::time::Duration;

/// Shortest and longest wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffLimits {
    /// No wait is shorter.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self { min: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// A connection that lasted this long was a good one: the next wait is short again. Shorter ones (two devices with one
/// id that throw each other out, a message the broker hangs up on) keep the waits growing.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The waits of one link.
#[derive(Debug)]
pub(crate) struct Backoff {
    limits: BackoffLimits,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(limits: BackoffLimits) -> Self {
        Self { limits, failures: 0 }
    }

    /// A connection ended after `lasted`.
    pub(crate) fn connection_lasted(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
    }

    /// The next wait; `jitter` is uniform in 0..1.
    pub(crate) fn next_wait(&mut self, jitter: f64) -> Duration {
        let BackoffLimits { min, max } = self.limits;
        self.failures = self.failures.saturating_add(1).min(16);
        let ceiling = min.saturating_mul(1 << self.failures).min(max);
        min.min(max) + ceiling.saturating_sub(min).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_reset_after_a_stable_connection() {
        let mut backoff = Backoff::new(BackoffLimits::default());
        let longest: Vec<_> = (0..8).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(longest, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert_eq!(backoff.next_wait(0.0).as_millis(), 500, "never shorter than the minimum");

        backoff.connection_lasted(STABLE_AFTER - Duration::from_millis(1));
        assert_eq!(backoff.next_wait(1.0).as_secs(), 30, "a short connection is no success");
        backoff.connection_lasted(STABLE_AFTER);
        assert_eq!(backoff.next_wait(1.0).as_secs(), 1);
    }

    #[test]
    fn limits_in_the_wrong_order_do_no_harm() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(BackoffLimits { min: second * 5, max: second });
        assert_eq!(backoff.next_wait(1.0), second);
    }
}
