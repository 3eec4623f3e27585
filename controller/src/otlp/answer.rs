//! What an answer of a collector means, and when to try next: OTLP 1.8, "OTLP/HTTP Response".

use std::time::Duration;

use prost::Message as _;

use super::messages::ExportResponse;

/// Wait after the first failure; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// A collector that asks for more than this is asked again all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Of a text that a collector sends, characters that are told.
const TEXT_CHARS_MAX: usize = 200;

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it was taken.
    Taken,
    /// Some points were not; sending them again would not help.
    Partly(String),
    /// Not now; perhaps it was said for how long.
    Later(String, Option<Duration>),
    /// Not like this: the configuration is wrong on one of both sides.
    Refused(String),
}

impl Answer {
    /// Of a response. `retry_after` is that header; `now_s` is Unix time.
    pub fn of(status: u16, retry_after: Option<&str>, body: &[u8], now_s: u64) -> Self {
        match status {
            200..=299 => match ExportResponse::decode(body).ok().and_then(|r| r.partial_success) {
                Some(part) if part.rejected_data_points > 0 => {
                    let (count, why) = (part.rejected_data_points, short(&part.error_message));
                    Self::Partly(format!("{count} points were not taken: {why}"))
                }
                _ => Self::Taken,
            },
            429 | 502 | 503 | 504 => {
                let wait = retry_after.and_then(|text| wait(text, now_s));
                Self::Later(format!("HTTP {status}"), wait)
            }
            _ => Self::Refused(format!("HTTP {status}: {}", short(&String::from_utf8_lossy(body)))),
        }
    }

    /// One line for the log; nothing if all is well.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Taken => None,
            Self::Partly(why) | Self::Later(why, _) | Self::Refused(why) => Some(why),
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn wait(text: &str, now_s: u64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(at).ok()?.saturating_sub(now_s)))
}

/// What others say is shown without control characters, and not all of it.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// When to try next.
#[derive(Clone, Debug)]
pub struct Pace {
    every: Duration,
    failures: u32,
}

impl Pace {
    /// All is well: so often.
    pub fn new(every: Duration) -> Self {
        Self { every, failures: 0 }
    }

    /// How long to wait after this answer. `jitter` is from 0 to 1, drawn anew each time, so that many
    /// programs do not come back to a collector at once.
    pub fn next(&mut self, answer: &Answer, jitter: f64) -> Duration {
        let Answer::Later(_, asked) = answer else {
            self.failures = 0;
            return self.every;
        };
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        // Never sooner than half of it, never seldomer than when all is well.
        let own = doubled.min(self.every).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        // Whoever says for how long is not asked before that.
        asked.map_or(own, |asked| asked.min(RETRY_AFTER_MAX).max(own))
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::PartialSuccess;
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn answers_are_told_apart() {
        let later = |status, header: Option<&str>| match Answer::of(status, header, b"", 1_000) {
            Answer::Later(_, wait) => wait,
            other => panic!("{status}: {other:?}"),
        };
        for status in [429, 502, 503, 504] {
            assert_eq!(later(status, None), None);
        }
        assert_eq!(later(503, Some("7")), Some(S(7)));
        assert_eq!(later(429, Some("Thu, 01 Jan 1970 00:17:00 GMT")), Some(S(20)));
        assert_eq!(later(429, Some("Thu, 01 Jan 1970 00:00:01 GMT")), Some(S(0)), "it is over");
        assert_eq!(later(429, Some("soon")), None);
        assert_eq!(Answer::of(200, None, b"", 0), Answer::Taken);
        assert_eq!(Answer::of(200, None, b"no protobuf", 0), Answer::Taken);
        for status in [400, 401, 404, 413, 500, 501, 301] {
            let answer = Answer::of(status, Some("7"), b"a\x1b[31mb", 0);
            assert!(
                matches!(&answer, Answer::Refused(why) if why.ends_with("a[31mb")),
                "{answer:?}"
            );
        }
        let part = PartialSuccess { rejected_data_points: 3, error_message: "too old".into() };
        let body = ExportResponse { partial_success: Some(part) }.encode_to_vec();
        let expected = "3 points were not taken: too old";
        assert_eq!(Answer::of(200, None, &body, 0).problem(), Some(expected));
    }

    #[test]
    fn failures_double_the_wait_up_to_what_is_usual() {
        let mut pace = Pace::new(S(60));
        let later = |wait: Option<u64>| Answer::Later("x".into(), wait.map(S));
        let waits: Vec<_> = (0..8).map(|_| pace.next(&later(None), 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pace.next(&later(None), 0.0), S(30));
        assert_eq!(pace.next(&later(Some(600)), 0.0), S(600), "it said so");
        assert_eq!(
            pace.next(&later(Some(5)), 0.0),
            S(30),
            "it may say less, and is down all the same"
        );
        assert_eq!(pace.next(&later(Some(1 << 40)), 0.0), RETRY_AFTER_MAX);
        assert_eq!(pace.next(&Answer::Refused("x".into()), 0.5), S(60));
        assert_eq!(pace.next(&later(None), 1.0), S(1), "it begins anew");
        let mut quick = Pace::new(Duration::from_millis(100));
        assert_eq!(quick.next(&later(None), 1.0), Duration::from_millis(100));
    }
}
