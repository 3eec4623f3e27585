//! When the certificate is renewed next, and by what. Pure: time and chance are arguments.

use fleetway_link::Validity;

/// Longest wait between two attempts, seconds.
const RETRY_S_MAX: u64 = 3_600;
/// First wait after a failure, seconds, where the certificate's life allows it.
const RETRY_S_FIRST: u64 = 60;
/// A fleet that was enrolled in one day is renewed over this part of the life.
const SPREAD: u64 = 20;

/// By what a device proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its certificate, which still holds.
    Certificate,
    /// Its enrolled key: the certificate has ended, or the controller thinks so.
    Key,
}

/// How it went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Failures since the last success.
    pub failures: u32,
    /// When the last one was, Unix seconds.
    pub last_s: u64,
    /// It was refused for a reason that waiting does not mend.
    pub hopeless: bool,
}

/// When to try next (Unix seconds) and by what. `jitter` is uniform in 0..1 and stays the
/// same until the next try, so that asking twice gives one answer.
pub fn next(validity: Validity, tries: Tries, now_s: u64, jitter: f64) -> (u64, Proof) {
    let life_s = validity.to_s.saturating_sub(validity.from_s);
    let part = |s: u64| (s as f64 * jitter.clamp(0.0, 1.0)) as u64;
    let at_s = match tries.failures {
        0 => validity.from_s + life_s / 3 * 2 + part(life_s / SPREAD),
        failures => {
            let most_s = (life_s / SPREAD).clamp(1, RETRY_S_MAX);
            let first_s = (life_s / 1000).clamp(1, RETRY_S_FIRST);
            let doubled_s = first_s.saturating_mul(1 << (failures - 1).min(16));
            let wait_s = if tries.hopeless { most_s } else { doubled_s.min(most_s) };
            tries.last_s.saturating_add(wait_s - part(wait_s / 2))
        }
    };
    // The other way every second time: the two clocks may differ about whether it ended.
    let ended = at_s.max(now_s) >= validity.to_s;
    let proof = if ended != (tries.failures % 2 == 1) { Proof::Key } else { Proof::Certificate };
    (at_s, proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn check(
        life_s: u64,
        failures: u32,
        hopeless: bool,
        now_s: u64,
        jitter: f64,
        expected: (u64, Proof),
    ) {
        let validity = Validity { from_s: 1_000_000, to_s: 1_000_000 + life_s };
        let tries = Tries { failures, last_s: now_s, hopeless };
        let got = next(validity, tries, now_s, jitter);
        assert_eq!(got, expected, "{life_s} s, {failures} failures, now {now_s}, jitter {jitter}");
    }

    #[test]
    fn the_table() {
        use Proof::{Certificate, Key};
        let start = 1_000_000;
        // Two thirds of the life, spread over a twentieth.
        check(30 * DAY, 0, false, start, 0.0, (start + 20 * DAY, Certificate));
        check(30 * DAY, 0, false, start, 1.0, (start + 20 * DAY + 36 * 3600, Certificate));
        check(21, 0, false, start, 0.0, (start + 14, Certificate));
        // Due long ago: the time lies in the past, the proof is what still holds now.
        check(30 * DAY, 0, false, start + 29 * DAY, 0.0, (start + 20 * DAY, Certificate));
        check(30 * DAY, 0, false, start + 30 * DAY, 0.0, (start + 20 * DAY, Key));
        check(30 * DAY, 0, false, start + 900 * DAY, 0.5, (start + 20 * DAY + 18 * 3600, Key));
        // Failures: waits double to an hour, and the proofs take turns.
        let now = start + 20 * DAY;
        for (failures, wait_s, proof) in [
            (1, 60, Key),
            (2, 120, Certificate),
            (3, 240, Key),
            (7, 3600, Key),
            (90, 3600, Certificate),
        ] {
            check(30 * DAY, failures, false, now, 0.0, (now + wait_s, proof));
            check(30 * DAY, failures, false, now, 1.0, (now + wait_s / 2, proof));
        }
        check(30 * DAY, 2, false, start + 31 * DAY, 0.0, (start + 31 * DAY + 120, Key));
        // What only a person can mend is not asked for every minute.
        check(30 * DAY, 1, true, now, 0.0, (now + 3600, Key));
        // A short life is retried within it.
        check(20, 1, false, start + 14, 0.0, (start + 15, Key));
        check(20, 9, false, start + 14, 1.0, (start + 15, Key));
        // Nonsense does not overflow.
        check(0, 0, false, u64::MAX, 1.0, (start, Key));
        check(30 * DAY, u32::MAX, false, u64::MAX, 0.0, (u64::MAX, Certificate));
    }
}
