//! When the watchdog is told that we live. Pure: time and counters are arguments.
//!
//! The proof of the event loop is that it asks; the proof of the link's tasks is that their
//! counter rose. A ping that is due and has no proof waits for one.

/// Pings per time that the manager allows: one may be late without a restart.
const PINGS_PER_TIMEOUT: u64 = 3;

/// Says when a ping is due.
#[derive(Debug)]
pub(super) struct Watchdog {
    every_ms: u64,
    next_ms: u64,
    link_turns: Option<u64>,
}

impl Watchdog {
    pub(super) fn new(every_ms: u64) -> Self {
        Self { every_ms, next_ms: 0, link_turns: None }
    }

    /// The loop turned; whether to ping now.
    pub(super) fn turned(&mut self, now_ms: u64, link_turns: u64) -> bool {
        if now_ms < self.next_ms || self.link_turns == Some(link_turns) {
            return false;
        }
        self.next_ms = now_ms + self.every_ms;
        self.link_turns = Some(link_turns);
        true
    }
}

/// Milliseconds between two pings, if the manager wants any from this process. `usec` and `pid`
/// are `WATCHDOG_USEC` and `WATCHDOG_PID`.
pub(super) fn interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<u64> {
    let timeout_us: u64 = usec?.parse().ok().filter(|us| *us > 0)?;
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    Some((timeout_us / 1000 / PINGS_PER_TIMEOUT).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_need_time_and_both_loops() {
        let mut watchdog = Watchdog::new(1_000);
        assert!(watchdog.turned(0, 7));
        assert!(!watchdog.turned(999, 8), "not due");
        assert!(watchdog.turned(1_000, 8));
        // The link hangs: the loop may turn as often as it likes.
        assert!((1_001..60_000).step_by(7).all(|now_ms| !watchdog.turned(now_ms, 8)));
        assert!(watchdog.turned(60_000, 9), "it was only slow");
        assert!(!watchdog.turned(60_500, 10));
    }

    #[test]
    fn the_environment_says_how_often_and_who() {
        assert_eq!(interval(Some("30000000"), None, 5), Some(10_000));
        assert_eq!(interval(Some("30000000"), Some("5"), 5), Some(10_000));
        assert_eq!(interval(Some("30000000"), Some("6"), 5), None);
        assert_eq!(interval(Some("100"), None, 5), Some(1));
        for nothing in [None, Some(""), Some("0"), Some("soon")] {
            assert_eq!(interval(nothing, None, 5), None);
        }
    }
}
