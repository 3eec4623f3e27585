//! How a model did on a device over time, for charts: a handful of points from the start of the
//! controller until now. When they are full, neighbours become one and each point covers twice the
//! time, so the whole span stays and its memory does not grow. Not durable: what must last is what
//! dashboards are given ([`crate::mirror`]).

use fleetway_protocol::counters::{Confidence, Counters};
use fleetway_protocol::ids::{DeviceId, ModelName};
use fleetway_protocol::report::{Stamp, Telemetry};

use super::{Fleet, TelemetryView};

/// Points of one model on one device: as many as a small chart can show. 64 of 40 bytes for each of
/// 10,000 devices are 25 MB.
pub const POINTS_MAX: usize = 64;

/// What a model did in one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When the last report of it came, Unix seconds.
    pub at_s: u64,
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// The highest of its reports' 95th percentiles of the latency, microseconds.
    pub p95_us: Option<u32>,
    /// The lowest of its reports' mean confidences.
    pub confidence: Option<Confidence>,
}

/// The points, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    points: Vec<Point>,
    /// Reports that make one point, a power of two; 0 before the first.
    stride: u32,
    /// Reports in the last point.
    filled: u32,
}

impl History {
    /// Adds what was counted since the report before.
    pub(super) fn push(&mut self, at_s: u64, counted: &Counters) {
        let p95_us =
            counted.latency.quantile_us(950).map(|us| u32::try_from(us).unwrap_or(u32::MAX));
        let point = Point {
            at_s,
            requests: counted.requests,
            errors: counted.errors,
            p95_us,
            confidence: counted.confidence(),
        };
        self.stride = self.stride.max(1);
        match self.points.last_mut() {
            Some(last) if self.filled < self.stride => *last = last.and(&point),
            _ => {
                if self.points.len() == POINTS_MAX {
                    self.points = self
                        .points
                        .chunks(2)
                        .map(|pair| pair[0].and(&pair[pair.len() - 1]))
                        .collect();
                    self.stride *= 2;
                }
                self.points.push(point);
                self.filled = 0;
            }
        }
        self.filled += 1;
    }
}

impl Point {
    /// Both in one; `later` may be the same.
    fn and(&self, later: &Self) -> Self {
        let lower = |a: Option<Confidence>, b: Option<Confidence>| match (a, b) {
            (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        Self {
            at_s: later.at_s,
            requests: self.requests + later.requests,
            errors: self.errors + later.errors,
            p95_us: self.p95_us.max(later.p95_us),
            confidence: lower(self.confidence, later.confidence),
        }
    }
}

/// What a report adds to the one before it; `None` if it is the first, or of another load of the
/// engine, whose counters began anew.
pub(super) fn added(before: Option<&(Stamp, TelemetryView)>, now: &Telemetry) -> Option<Counters> {
    let (stamp, before) = before?;
    let goes_on = stamp.epoch == now.stamp.epoch
        && before.release == now.release
        && before.counters.requests <= now.counters.requests;
    goes_on.then(|| now.counters.since(&before.counters))
}

impl Fleet {
    /// How a model did on a device since the controller started, the oldest first.
    pub fn history(&self, device: &DeviceId, model: &ModelName) -> &[Point] {
        let history = self.devices.get(device).and_then(|d| d.live.history.get(model));
        history.map_or(&[], |history| &history.points)
    }
}

#[cfg(test)]
mod tests {
    use fleetway_protocol::counters::Answer;

    use super::*;

    fn counted(requests: u32, latency_us: u32) -> Counters {
        let mut counters = Counters::new();
        for _ in 0..requests {
            counters.record(&Answer::ok(latency_us, None));
        }
        counters
    }

    #[test]
    fn the_whole_span_stays_and_nothing_is_lost() {
        let mut history = History::default();
        for at_s in 0..1_000 {
            history.push(at_s, &counted(2, if at_s == 500 { 9_000 } else { 100 }));
            let points = &history.points;
            assert!(points.len() <= POINTS_MAX);
            assert_eq!(points.iter().map(|p| p.requests).sum::<u64>(), 2 * (at_s + 1));
            assert_eq!(points.last().map(|p| p.at_s), Some(at_s));
            assert!(points.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
        }
        // A spike survives being merged.
        let highest = history.points.iter().max_by_key(|p| p.p95_us).unwrap();
        assert!(highest.p95_us >= Some(9_000) && highest.at_s.abs_diff(500) <= 32, "{highest:?}");
        assert!(history.points.len() >= POINTS_MAX / 2);
    }
}
