//! Devices as the API shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EvidenceView, HostView, ReasonView, ReleaseRef, TelemetryView};

/// `POST /v1/devices`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceAdd {
    /// Its id.
    pub(crate) id: String,
    /// Labels to begin with.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Digest of the key in the certificate that was made for it.
    #[serde(default)]
    pub(crate) key: Option<DeviceKeyAdd>,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceAdded {
    /// Its id.
    pub(crate) id: String,
    /// Orders of this generation and below are old for it.
    pub(crate) generation: u64,
}

/// The key of a device whose certificate was made by `device add`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceKeyAdd {
    /// The public key as a P-256 point.
    pub(crate) point: Vec<u8>,
    /// When the certificate ends, Unix seconds.
    pub(crate) certificate_ends_s: u64,
}

/// `POST /v1/devices/{id}/enroll`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceEnroll {
    /// Labels to begin with.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// `POST /v1/devices/{id}/adopt`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceAdopt {
    /// The device that it hangs on.
    pub(crate) via: String,
    /// What hardware it is.
    pub(crate) hardware: String,
    /// The public half of the Ed25519 key that it signs its reports with: 64 hexadecimal digits.
    pub(crate) key: String,
    /// Labels to begin with.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// Its answer: how the device joins.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct JoinView {
    /// The device.
    pub(crate) id: String,
    /// The join string: a secret.
    pub(crate) join: String,
    /// Until when, Unix seconds.
    pub(crate) expires_s: u64,
    /// The broker that it will connect to.
    pub(crate) broker: String,
    /// Where it gets its certificate.
    pub(crate) enroll: String,
    /// Digest of the TUF root that it will pin, if the fleet has one.
    pub(crate) root: Option<String>,
}

/// `POST /v1/devices/{id}/labels`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelEdits {
    /// To set.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
    /// To take away.
    #[serde(default)]
    pub(crate) unset: Vec<String>,
}

/// `GET /v1/devices/{id}`; `GET /v1/devices` is a list of these.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceView {
    /// Its id.
    pub(crate) id: String,
    /// Whether it is there.
    pub(crate) online: bool,
    /// Where it stands: `serving`, `moving`, `held`, `went_back`, `refusing`, `empty` or `revoked`.
    #[serde(default)]
    pub(crate) standing: String,
    /// When it was last heard, Unix seconds.
    pub(crate) last_seen_s: Option<u64>,
    /// Version of its agent.
    pub(crate) agent: Option<String>,
    /// How well its self-tests are fenced in, if it said so since the controller started.
    #[serde(default)]
    pub(crate) sandbox: Option<SandboxView>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Generation of its last order.
    pub(crate) generation: u64,
    /// Whether it took that order.
    pub(crate) taken: bool,
    /// Why it refused its last order, if it did.
    pub(crate) refused: Option<ReasonView>,
    /// Its models.
    pub(crate) models: Vec<DeviceModelView>,
    /// How its machine does.
    pub(crate) host: Option<HostView>,
    /// What became of its telemetry reports.
    #[serde(default)]
    pub(crate) reports: ReportsView,
    /// `added`, `invited`, `enrolled` or `revoked`.
    pub(crate) identity: String,
    /// When its newest certificate ends, Unix seconds.
    pub(crate) certificate_ends_s: Option<u64>,
    /// The device that it hangs on, if it has no connection of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<String>,
}

/// What became of a device's telemetry reports, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReportsView {
    /// Made, as far as was heard.
    pub(crate) produced: u64,
    /// Came.
    pub(crate) delivered: u64,
    /// Will never come.
    pub(crate) lost: u64,
}

/// How well a device's self-tests are fenced in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SandboxView {
    /// `full`, `partial` or `none`.
    pub(crate) state: String,
    /// Fences that do not stand.
    pub(crate) missing: Vec<String>,
    /// Whether the device tries new models all the same.
    pub(crate) met: bool,
}

/// One model on a device.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DeviceModelView {
    /// Which model.
    pub(crate) model: String,
    /// The release that it is told to run.
    pub(crate) desired: Option<ReleaseRef>,
    /// The release that its engine has loaded.
    pub(crate) running: Option<ReleaseRef>,
    /// The release that it works on.
    pub(crate) target: Option<ReleaseRef>,
    /// Where the update is.
    pub(crate) phase: String,
    /// Chunks on disk.
    pub(crate) have: u32,
    /// Chunks in all.
    pub(crate) total: u32,
    /// What the current step waits for.
    pub(crate) waiting: Option<ReasonView>,
    /// All that a held update waits for.
    pub(crate) held: Option<HeldView>,
    /// The candidate in the shadow, or how the last one did there.
    pub(crate) shadow: Option<ShadowView>,
    /// How the last order ended.
    pub(crate) last: Option<EndingView>,
    /// Releases below this counter are refused.
    pub(crate) floor: u64,
    /// Releases remembered as bad.
    pub(crate) poisoned: u32,
    /// How the model does.
    pub(crate) telemetry: Option<TelemetryView>,
}

/// An update that is held.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HeldView {
    /// `download` or `activation`.
    pub(crate) before: String,
    /// `unlocked`, `idle`, `mains`, `unmetered`, `window`: those that are not so yet.
    pub(crate) conditions: Vec<String>,
    /// The same in sentences.
    pub(crate) reasons: Vec<ReasonView>,
    /// Since when, Unix seconds.
    pub(crate) since_s: Option<u64>,
}

/// A candidate in the shadow of what serves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ShadowView {
    /// The candidate.
    pub(crate) release: ReleaseRef,
    /// Copies of requests that both answered.
    pub(crate) compared: u32,
    /// Of these, the ones that agree.
    pub(crate) agreed: u32,
    /// Copies that the candidate gave no answer to.
    pub(crate) failed: u32,
    /// Copies that were not made because the candidate did not keep up.
    pub(crate) dropped: u32,
    /// Largest absolute difference of any element.
    pub(crate) diff_max: f64,
    /// Median of the candidate's latency, microseconds.
    pub(crate) p50_us: u32,
    /// 95th percentile of the candidate's latency, microseconds.
    pub(crate) p95_us: u32,
    /// The same of what serves, over the same requests.
    pub(crate) serving_p95_us: u32,
    /// How it ended, if it has.
    pub(crate) ended: Option<ReasonView>,
}

/// How an order ended on a device.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EndingView {
    /// The release ordered.
    pub(crate) release: ReleaseRef,
    /// On behalf of which rollout.
    pub(crate) rollout: u64,
    /// `confirmed`, `failed`, `rolled_back` or `removed`.
    pub(crate) result: String,
    /// Why it failed.
    pub(crate) reason: Option<ReasonView>,
    /// What the verdict was measured on.
    pub(crate) evidence: Option<EvidenceView>,
}
