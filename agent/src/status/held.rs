//! What an update waits for, and how a candidate does in the shadow, as a person reads it.

use fleetway_protocol::hold;
use fleetway_protocol::shadow::ShadowReport;
use serde::{Deserialize, Serialize};

use super::render::{age, short};
use super::{Model, Why};
use crate::serving::locks;

/// A lock that an application holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// On which model.
    pub model: String,
    /// Who holds it.
    pub by: String,
    /// Seconds until it ends by itself.
    pub left_s: u64,
}

impl From<locks::Lock> for Lock {
    fn from(lock: locks::Lock) -> Self {
        Self { model: lock.model.to_string(), by: lock.by, left_s: lock.left_s }
    }
}

/// An update that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `download` or `activation`.
    pub before: String,
    /// Each thing that it waits for.
    pub waits_for: Vec<Why>,
    /// When it first waited, Unix seconds.
    pub since_s: Option<u64>,
}

impl Held {
    pub(super) fn of(held: &hold::Held) -> Self {
        Self {
            before: held.before.name().to_owned(),
            waits_for: held.conditions.iter().map(|c| c.reason().into()).collect(),
            since_s: Some(held.since_s).filter(|since_s| *since_s > 0),
        }
    }
}

/// A candidate in the shadow of what serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Digest of the candidate.
    pub release: String,
    /// Copies of requests that both answered.
    pub compared: u32,
    /// Of these, the ones that agree.
    pub agreed: u32,
    /// Copies that the candidate gave no answer to.
    pub failed: u32,
    /// Copies that were not made because the candidate did not keep up.
    pub dropped: u32,
    /// Largest absolute difference of any element, millionths.
    pub diff_millionths_max: u32,
    /// Median of the candidate's latency, microseconds.
    pub p50_us: u32,
    /// 95th percentile of the candidate's latency, microseconds.
    pub p95_us: u32,
    /// The same of what serves, over the same requests.
    pub serving_p95_us: u32,
    /// Whether it is over.
    pub ended: bool,
    /// Why it did not pass, if so.
    pub why: Option<Why>,
}

impl Shadow {
    pub(super) fn of(report: &ShadowReport) -> Self {
        Self {
            release: report.release.to_string(),
            compared: report.compared,
            agreed: report.agreed,
            failed: report.failed,
            dropped: report.dropped,
            diff_millionths_max: report.diff_millionths_max,
            p50_us: report.p50_us,
            p95_us: report.p95_us,
            serving_p95_us: report.serving_p95_us,
            ended: report.ended.is_some(),
            why: report.ended.and_then(Result::err).map(Why::from),
        }
    }
}

/// What a person reads of both, a line each.
pub(super) fn lines(model: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(held) = &model.held {
        let waits: Vec<_> = held.waits_for.iter().map(|why| why.sentence.as_str()).collect();
        lines.push(format!("held before the {}: {}", held.before, waits.join("; ")));
    }
    if let Some(shadow) = &model.shadow {
        let verdict = match (&shadow.why, shadow.ended) {
            (Some(why), _) => why.sentence.as_str(),
            (None, true) => "passed",
            (None, false) => "goes on",
        };
        lines.push(format!(
            "shadow of release {}: {} of {} agree, {} failed, {} not copied, \
             95 % within {} us beside {} us; {verdict}",
            short(&shadow.release),
            shadow.agreed,
            shadow.compared,
            shadow.failed,
            shadow.dropped,
            shadow.p95_us,
            shadow.serving_p95_us,
        ));
    }
    lines
}

/// `digits by till, ends in 40 s`.
pub(super) fn lock_line(lock: &Lock) -> String {
    format!("{} by {}, ends in {}", lock.model, lock.by, age(lock.left_s))
}
