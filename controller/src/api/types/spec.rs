//! The parts of a rollout's specification: phases, pace, times. Times are seconds, sizes bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A phase: its size alone, or all that is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PhaseRequest {
    /// `3` or `25%`, counted from the beginning.
    Size(String),
    /// More than that.
    Full(PhaseDetail),
}

/// What is asked of one phase. What is absent is as the rollout says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PhaseDetail {
    /// `3` or `25%`, counted from the beginning.
    pub(crate) size: Option<String>,
    /// Time that it is watched before the next begins.
    pub(crate) soak_s: Option<u32>,
    /// Devices of which a verdict must have been heard before the next begins.
    pub(crate) reporters_min: Option<u32>,
    /// Percentage of the offered devices that must have confirmed.
    pub(crate) success_percent_min: Option<u8>,
    /// Failed devices of this phase that are tolerated.
    pub(crate) failures_max: Option<u32>,
    /// Devices on the move or silent at once, as `3` or `25%`.
    pub(crate) max_unavailable: Option<String>,
    /// Whether somebody must approve before it begins.
    pub(crate) approval: bool,
}

/// Devices offered the release in a minute, at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RateRequest {
    /// At the beginning.
    pub(crate) per_minute: u32,
    /// What it is multiplied by, again and again; absent: it stays.
    pub(crate) factor: Option<f64>,
    /// Each time that so many further devices confirmed.
    pub(crate) every: Option<u32>,
    /// Where it stops growing.
    pub(crate) per_minute_max: Option<u32>,
}

/// When a device that failed is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetryRequest {
    /// Tries beyond the first.
    pub(crate) times: u32,
    /// Time before the first of them; each further one waits twice as long.
    pub(crate) wait_s: u64,
    /// After which failures: `silent`, `late`, `trust`, `device`.
    pub(crate) on: Vec<String>,
}

/// When devices may be offered the release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScheduleRequest {
    /// Not before, Unix seconds.
    pub(crate) not_before_s: Option<u64>,
    /// Not at or after, Unix seconds.
    pub(crate) not_after_s: Option<u64>,
    /// In one of these; none: at any time.
    pub(crate) windows: Vec<WindowRequest>,
}

/// A maintenance window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WindowRequest {
    /// Days and times by the clocks of the place: `mon-fri 22:00-04:00`.
    pub(crate) times: String,
    /// Time zone by its IANA name: `Europe/Berlin`.
    pub(crate) zone: String,
}

/// Bytes that may be fetched on behalf of the rollout; 0 is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BudgetRequest {
    /// In any day.
    pub(crate) per_day_bytes: u64,
    /// In all.
    pub(crate) total_bytes: u64,
}
