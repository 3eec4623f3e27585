//! How models and machines do, and what healthy means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ReleaseRef;

/// How a model does on a device since its engine loaded the release.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TelemetryView {
    /// The release that gave the answers.
    pub(crate) release: ReleaseRef,
    /// What they were.
    #[serde(flatten)]
    pub(crate) answers: AnswersView,
    /// Resident memory of the agent, bytes, if the device knows.
    pub(crate) rss_bytes: Option<u64>,
    /// Reports that the device could not keep until they were sent.
    pub(crate) dropped: u64,
}

/// Answers, counted: of one device, or of all that run a release.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AnswersView {
    /// Requests, failed ones included.
    pub(crate) requests: u64,
    /// Failed requests.
    pub(crate) errors: u64,
    /// Median of the latency, microseconds.
    pub(crate) p50_us: Option<u64>,
    /// 95th percentile of the latency, microseconds.
    pub(crate) p95_us: Option<u64>,
    /// Answers by class.
    pub(crate) classes: Vec<u32>,
    /// The most frequent class.
    pub(crate) top_class: Option<TopClass>,
    /// Mean confidence, 0 to 1.
    pub(crate) confidence: Option<f32>,
    /// How far they are from the release's reference.
    pub(crate) drift: Vec<DriftView>,
}

/// The most frequent class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TopClass {
    /// Its index.
    pub(crate) class: u32,
    /// Its share of the answers, per thousand.
    pub(crate) permille: u32,
}

/// Distance of one distribution from its reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DriftView {
    /// Of what: `the classes`, `the mean of input 0`.
    pub(crate) of: String,
    /// Population stability index.
    pub(crate) psi: f64,
    /// What it may be on so many answers.
    pub(crate) bound: f64,
    /// Answers counted.
    pub(crate) samples: u32,
    /// Whether there are enough answers to judge by, and the index is above its bound.
    pub(crate) alarm: bool,
}

/// A release in use: the answers of every device that last reported it, added up.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct InUseView {
    /// Devices.
    pub(crate) devices: usize,
    /// What they answered.
    #[serde(flatten)]
    pub(crate) answers: AnswersView,
}

/// How a device's machine does. What it does not say is absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HostView {
    /// Seconds since its system started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uptime_s: Option<u64>,
    /// Load of its processors, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_pct: Option<f32>,
    /// Its memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
    /// Memory that programs could still have, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_available_bytes: Option<u64>,
    /// Its hottest sensor, degrees Celsius.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temp_c: Option<f32>,
    /// The disk with the agent's data, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_bytes: Option<u64>,
    /// Free there, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_free_bytes: Option<u64>,
}

/// What a verdict was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EvidenceView {
    /// As one sentence.
    pub(crate) text: String,
    /// Of what.
    pub(crate) of: String,
    /// What it was; the unit follows from the reason.
    pub(crate) measured: u32,
    /// What it may be.
    pub(crate) bound: u32,
    /// Answers that it was measured on.
    pub(crate) samples: u32,
}
