//! What `-o json` prints, as far as we look at it. Written anew here and not shared with
//! the controller: these fields are an interface, and a renamed one must break a test.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Why something was refused, undone or waits.
#[derive(Clone, Debug, Deserialize)]
pub struct Reason {
    /// Stable, upper case.
    pub code: String,
    /// One sentence.
    pub text: String,
}

/// A release beside other things.
#[derive(Clone, Debug, Deserialize)]
pub struct Release {
    /// Digest of its manifest.
    pub digest: String,
    /// What people call it.
    pub version: Option<String>,
}

/// `fleetway status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The controller's process.
    pub pid: u32,
    /// The broker.
    pub broker: Broker,
    /// The controller's own connection.
    pub link: Link,
    /// Model bytes on their way to the broker.
    pub blobs: Blobs,
    /// Devices.
    pub devices: DeviceCounts,
    /// Reports that were refused, by check.
    pub reports_refused: BTreeMap<String, u64>,
    /// Orders sent again because the device, which is there, did not answer.
    pub orders_resent: u64,
}

/// The broker.
#[derive(Clone, Debug, Deserialize)]
pub struct Broker {
    /// `embedded` or `external`.
    pub kind: String,
    /// Where.
    pub url: String,
}

/// A connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
}

/// Model bytes on their way to the broker.
#[derive(Clone, Debug, Deserialize)]
pub struct Blobs {
    /// Pieces that the broker still has to be given.
    pub pieces_waiting: u64,
    /// Pieces sent to single devices that asked.
    pub wants_answered: u64,
}

/// Numbers of devices.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceCounts {
    /// Known.
    pub total: usize,
    /// Online.
    pub online: usize,
}

/// `fleetway device show`.
#[derive(Clone, Debug, Deserialize)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Who it is to the fleet.
    pub identity: String,
    /// Whether it is there.
    pub online: bool,
    /// When it was last heard, Unix seconds.
    pub last_seen_s: Option<u64>,
    /// How its self-tests are fenced in.
    pub sandbox: Option<Sandbox>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Why it refused its last order.
    pub refused: Option<Reason>,
    /// How its machine does.
    pub host: Option<Host>,
    /// What became of its telemetry reports.
    pub reports: Reports,
    /// Its models.
    pub models: Vec<DeviceModel>,
}

/// What became of a device's telemetry reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Reports {
    /// Made.
    pub produced: u64,
    /// Came.
    pub delivered: u64,
    /// Will never come.
    pub lost: u64,
    /// Still on the device; only the device says so.
    #[serde(default)]
    pub waiting: u64,
}

/// How a device's self-tests are fenced in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Sandbox {
    /// `full`, `partial` or `none`.
    pub state: String,
    /// Fences that do not stand.
    pub missing: Vec<String>,
    /// Whether new models are tried all the same.
    pub met: bool,
}

impl Device {
    /// What it says about the only model in our tests.
    pub fn digits(&self) -> Option<&DeviceModel> {
        self.models.iter().find(|m| m.model == "digits")
    }

    /// The version that its engine has loaded.
    pub fn runs(&self) -> Option<&str> {
        self.digits()?.running.as_ref()?.version.as_deref()
    }
}

/// One model on a device.
#[derive(Clone, Debug, Deserialize)]
pub struct DeviceModel {
    /// Which model.
    pub model: String,
    /// The release that its engine has loaded.
    pub running: Option<Release>,
    /// The release that it works on.
    pub target: Option<Release>,
    /// Where the update is.
    pub phase: String,
    /// Chunks on disk.
    pub have: u32,
    /// Chunks in all.
    pub total: u32,
    /// What it waits for.
    pub waiting: Option<Reason>,
    /// All that a held update waits for.
    pub held: Option<Held>,
    /// The candidate in the shadow, or how the last one did.
    pub shadow: Option<Shadow>,
    /// How the last order ended.
    pub last: Option<Ending>,
    /// Releases remembered as bad.
    pub poisoned: u32,
    /// How the model does.
    pub telemetry: Option<Telemetry>,
}

/// An update that is held.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    /// `download` or `activation`.
    pub before: String,
    /// What it waits for.
    pub conditions: Vec<String>,
    /// Since when, Unix seconds.
    pub since_s: Option<u64>,
}

/// A candidate in the shadow.
#[derive(Clone, Debug, Deserialize)]
pub struct Shadow {
    /// The candidate.
    pub release: Release,
    /// Copies that both answered.
    pub compared: u32,
    /// Of these, the ones that agree.
    pub agreed: u32,
    /// Copies that it gave no answer to.
    pub failed: u32,
    /// Copies that were not made.
    pub dropped: u32,
    /// Largest difference of any element.
    pub diff_max: f64,
    /// Median of its latency.
    pub p50_us: u32,
    /// 95th percentile of its latency.
    pub p95_us: u32,
    /// The same of what serves.
    pub serving_p95_us: u32,
    /// How it ended.
    pub ended: Option<Reason>,
}

/// How an order ended on a device.
#[derive(Clone, Debug, Deserialize)]
pub struct Ending {
    /// The release ordered.
    pub release: Release,
    /// On behalf of which rollout.
    pub rollout: u64,
    /// `confirmed`, `failed`, `rolled_back` or `removed`.
    pub result: String,
    /// Why.
    pub reason: Option<Reason>,
    /// In numbers.
    pub evidence: Option<Evidence>,
}

/// How a model does.
#[derive(Clone, Debug, Deserialize)]
pub struct Telemetry {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// Median latency.
    pub p50_us: Option<u64>,
    /// 95th percentile.
    pub p95_us: Option<u64>,
    /// Answers by class.
    pub classes: Vec<u32>,
    /// Memory of the agent.
    pub rss_bytes: Option<u64>,
    /// How far it is from its reference.
    pub drift: Vec<Drift>,
}

/// Distance of one distribution from its reference.
#[derive(Clone, Debug, Deserialize)]
pub struct Drift {
    /// Of what.
    pub of: String,
    /// Population stability index.
    pub psi: f64,
    /// Whether it is too far.
    pub alarm: bool,
}

/// What a verdict was measured on.
#[derive(Clone, Debug, Deserialize)]
pub struct Evidence {
    /// As one sentence.
    pub text: String,
    /// What it was.
    pub measured: u32,
    /// What it may be.
    pub bound: u32,
    /// Answers that it was measured on.
    pub samples: u32,
}

/// How a device's machine does.
#[derive(Clone, Debug, Deserialize)]
pub struct Host {
    /// Seconds since its system started.
    pub uptime_s: Option<u64>,
    /// Its memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Free on its disk, bytes.
    pub disk_free_bytes: Option<u64>,
}

/// `fleetway model show`.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    /// What people call it.
    pub version: String,
    /// Its counter.
    pub counter: u64,
    /// `draft`, `signed` or `published`.
    pub state: String,
    /// Why it was taken all the same.
    pub golden_mismatch_accepted: Option<String>,
    /// Its forms.
    pub variants: Vec<Variant>,
}

/// One form of a release.
#[derive(Clone, Debug, Deserialize)]
pub struct Variant {
    /// `onnx`, `qnn` or `mixed`.
    pub kind: String,
    /// The model file.
    pub artifact: Artifact,
}

/// Some bytes.
#[derive(Clone, Debug, Deserialize)]
pub struct Artifact {
    /// How many.
    pub bytes: u64,
    /// Pieces that travel.
    pub chunks: u32,
}

/// `fleetway rollout start`, `status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: u64,
    /// `running`, `paused`, `halted`, `aborted` or `succeeded`.
    pub state: String,
    /// Whether it will not change any more by itself.
    pub over: bool,
    /// Whether it ended well.
    pub succeeded: bool,
    /// Why it is in that state.
    pub reason: Option<Reason>,
    /// How many devices are where.
    pub counts: RolloutCounts,
    /// Its devices; empty in lists.
    #[serde(default)]
    pub devices: Vec<RolloutDevice>,
}

/// How many devices are where.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RolloutCounts {
    /// All.
    pub total: usize,
    /// Not ordered to move yet.
    pub waiting: usize,
    /// On the move.
    pub moving: usize,
    /// Confirmed.
    pub confirmed: usize,
    /// Failed or rolled back.
    pub failed: usize,
}

/// A device in a rollout.
#[derive(Clone, Debug, Deserialize)]
pub struct RolloutDevice {
    /// Its id.
    pub id: String,
    /// Whether it is there.
    pub online: bool,
    /// Number of its phase, from 1.
    pub rollout_phase: Option<u32>,
    /// `waiting`, `moving`, `confirmed` or `failed`.
    pub state: String,
    /// Why it does not move, or failed.
    pub reason: Option<Reason>,
    /// What it reports.
    pub model: Option<DeviceModel>,
}

/// `run.json` in the controller's data directory.
#[derive(Clone, Debug, Deserialize)]
pub struct RunFile {
    /// Its process.
    pub pid: u32,
    /// The broker's URL.
    pub broker: String,
    /// The API on the network, if it is there.
    #[serde(default)]
    pub api_url: Option<String>,
}
