//! What is known of each device, on both sides, over the same time.

use std::collections::BTreeMap;

use fleetway_protocol::histogram::Histogram;
use fleetway_protocol::ids::{DeviceId, HardwareClass};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Both sides of a comparison. Small enough to keep, large enough to be there only when it is
/// looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Since when both sides were counted, Unix seconds.
    pub since_s: u64,
    /// Devices that were offered the release, the silent ones included.
    pub cohort: BTreeMap<DeviceId, Sample>,
    /// Devices that were not, and serve another release of the model.
    pub control: BTreeMap<DeviceId, Sample>,
    /// Who those are.
    pub control_kind: ControlKind,
}

/// Who the control cohort is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ControlKind {
    /// Devices that the rollout is for, and that were not offered it yet.
    #[default]
    NotYetOffered,
    /// Devices that the rollout is not for: too few are left of the others. They may differ from
    /// the cohort in more than the release.
    Outside,
}

/// One device over that time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What hardware it is, if it said so.
    pub class: Option<HardwareClass>,
    /// Whether it is not there, or silent. It is shown apart; what it said before counts.
    pub offline: bool,
    /// How its install ended; `None` while it is under way, and in the control cohort.
    pub install: Option<Install>,
    /// Whether its agent began anew without being told to.
    pub crashed: bool,
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// Latencies of the answers, microseconds.
    pub latency: Histogram,
    /// Sum of the confidences, in steps of
    /// [`Confidence`](fleetway_protocol::counters::Confidence).
    pub confidence_sum: u64,
    /// Answers in that sum.
    pub confidence_count: u64,
    /// Whether its answers or inputs drifted from the reference of its release; `None` if there
    /// were too few to tell, or there is no reference.
    pub drifted: Option<bool>,
    /// Answers in the shadow that agreed with those served, and all that were compared or failed.
    pub shadow: Option<(u32, u32)>,
}

/// How an install ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Install {
    /// The release runs and passed its probation.
    Confirmed,
    /// It never ran, or nothing was heard for too long.
    Failed,
    /// It ran, and the device went back.
    RolledBack,
}
