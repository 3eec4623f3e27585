//! What the shell shows: plain values, copied out of the fleet.

use std::collections::BTreeMap;

use fleetway_protocol::counters::Counters;
use fleetway_protocol::hold::Held;
use fleetway_protocol::ids::{
    Counter, DeviceId, Digest, Generation, HardwareClass, ModelName, RolloutId, Version,
};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::Manifest;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::report::{Host, Progress};
use fleetway_protocol::sandbox::Sandbox;
use fleetway_protocol::shadow::ShadowReport;
use fleetway_protocol::slot::Outcome;

use super::{PlanHash, ReportTotals, Standing};
use crate::pki::DeviceKey;
use crate::planner::analysis::Looked;
use crate::planner::{
    DeviceReport, Estimate, Labels, RolloutReport, RolloutSpec, RolloutState, Target, Why,
};

/// One device.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    /// Which.
    pub id: DeviceId,
    /// Its labels.
    pub labels: Labels,
    /// What hardware it is, if it said so.
    pub hardware: Option<HardwareClass>,
    /// When it was added, Unix seconds.
    pub added_s: u64,
    /// Whether it is there, as far as it or its last will said.
    pub online: bool,
    /// When it was last heard, `None` if not since the controller started.
    pub heard_s: Option<u64>,
    /// Version of its agent.
    pub agent: Option<Version>,
    /// How well its self-tests are fenced in, if it said so since the controller started.
    pub sandbox: Option<Sandbox>,
    /// Generation of the order in force, 0 if it has none.
    pub generation: Generation,
    /// Whether the device took that order.
    pub taken: bool,
    /// Why the device refused it, if it did.
    pub refused: Option<Reason>,
    /// How its machine does, as it last said.
    pub host: Option<Host>,
    /// Its models.
    pub models: BTreeMap<ModelName, ModelView>,
    /// What became of its telemetry reports.
    pub reports: ReportTotals,
    /// Who it is to us.
    pub identity: IdentityView,
    /// Where it stands.
    pub standing: Standing,
}

impl DeviceView {
    /// The device, as far as a selector may ask. Outside a rollout there is no one model whose
    /// release it could be.
    pub fn target(&self) -> Target<'_> {
        let hardware = self.hardware.as_ref().map(|h| h.as_str());
        Target { id: &self.id, labels: &self.labels, hardware, release: None }
    }
}

/// What makes a device without a connection of its own one of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The device that it hangs on.
    pub via: DeviceId,
    /// What hardware it is.
    pub hardware: HardwareClass,
    /// What it signs its reports with.
    pub key: DeviceKey,
}

/// Who a device is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityView {
    /// Which.
    pub device: DeviceId,
    /// The enrolled public key, if it enrolled.
    pub key: Option<DeviceKey>,
    /// Until when an unused token lets it in, Unix seconds.
    pub token_until_s: Option<u64>,
    /// When its newest certificate ends, Unix seconds; 0 if it has none of ours.
    pub certificate_ends_s: u64,
    /// When it was revoked.
    pub revoked_s: Option<u64>,
    /// The device that speaks for it, if it has no connection of its own.
    pub via: Option<DeviceId>,
}

/// One model on one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelView {
    /// What the order in force asks for.
    pub desired: Option<Digest>,
    /// On whose behalf.
    pub rollout: Option<RolloutId>,
    /// The last reported state.
    pub state: Option<ModelState>,
    /// The last telemetry.
    pub telemetry: Option<TelemetryView>,
}

/// A reported state, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelState {
    /// The release that the engine has loaded.
    pub running: Option<Digest>,
    /// Where an update is.
    pub phase: Phase,
    /// The release it works on.
    pub target: Option<Digest>,
    /// How far the download is.
    pub progress: Progress,
    /// What it waits for.
    pub waiting: Option<Reason>,
    /// All that a held update waits for.
    pub held: Option<Held>,
    /// The candidate in the shadow, or how the last one did there.
    pub shadow: Option<ShadowReport>,
    /// How the last order ended.
    pub last: Option<Outcome>,
    /// The version floor.
    pub floor: Counter,
    /// Releases remembered as bad.
    pub poisoned: u8,
    /// Generation of the order that it is about.
    pub generation: Generation,
}

/// The last telemetry of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryView {
    /// When it was heard, Unix seconds.
    pub heard_s: u64,
    /// The release that gave the answers.
    pub release: Digest,
    /// What it answered.
    pub counters: Counters,
    /// Resident memory of the agent, bytes.
    pub rss_bytes: Option<u64>,
    /// Telemetry reports of this device that are lost, as far as it knows.
    pub dropped: u64,
}

/// One published release.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseView {
    /// Digest of the exact manifest bytes.
    pub digest: Digest,
    /// What the release authority signed.
    pub manifest: Manifest,
    /// When it was published, Unix seconds.
    pub published_s: u64,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutView {
    /// Which.
    pub id: RolloutId,
    /// As asked for.
    pub spec: RolloutSpec,
    /// Where it is.
    pub state: RolloutState,
    /// When it was started, Unix seconds.
    pub started_s: u64,
    /// By whom.
    pub started_by: String,
    /// The last look at its metric gates.
    pub looked: Option<Looked>,
    /// In numbers.
    pub report: RolloutReport,
    /// One line per device; empty in lists of rollouts.
    pub devices: Vec<DeviceReport>,
}

/// What a rollout would do, exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanPreview {
    /// The number it gets if it is the next to be started. The order of devices hangs on
    /// it, so another rollout started in between changes it.
    pub rollout: RolloutId,
    /// As asked for, with the last phase added.
    pub spec: RolloutSpec,
    /// The release's counter.
    pub counter: Counter,
    /// The devices by phase, in the order in which they are offered the release.
    pub phases: Vec<PhasePreview>,
    /// Of these, the ones that cannot move now, and why. They are offered the release once
    /// they can.
    pub later: Vec<(DeviceId, Why)>,
    /// Devices that match the selector and are left out, and why.
    pub left_out: Vec<(DeviceId, Why)>,
    /// Bytes that a device fetches that has nothing of it, golden vectors included.
    pub bytes_per_device: u64,
    /// The devices that are known to have some of it, and what they still fetch.
    pub bytes_known: BTreeMap<DeviceId, u64>,
    /// How long it takes if nothing goes wrong.
    pub takes: Estimate,
    /// Ids of the keys that signed the release.
    pub signers: Vec<String>,
    /// What a start may be held to.
    pub hash: PlanHash,
    /// Why the importer took the release although its golden vectors did not match.
    pub golden_mismatch: Option<String>,
    /// Anything else worth a thought before the start.
    pub notes: Vec<String>,
}

impl PlanPreview {
    /// Bytes that one of its devices fetches.
    pub fn bytes_of(&self, device: &DeviceId) -> u64 {
        self.bytes_known.get(device).copied().unwrap_or(self.bytes_per_device)
    }

    /// Bytes that all of its devices fetch.
    pub fn bytes_total(&self) -> u64 {
        self.phases.iter().flat_map(|phase| &phase.devices).map(|id| self.bytes_of(id)).sum()
    }
}

/// One phase of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhasePreview {
    /// Devices that are added in this phase.
    pub devices: Vec<DeviceId>,
    /// Devices offered the release once it is full.
    pub up_to: usize,
    /// Seconds to wait after its last verdict.
    pub soak_s: u64,
}

/// What was ignored, since the controller started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Reports of devices that are not in the fleet.
    pub unknown_device: u64,
    /// Reports that were not newer than one already heard.
    pub old: u64,
    /// Reports that another key signed than the one that is enrolled by now.
    pub other_key: u64,
    /// Answers to another order than the one in force.
    pub other_order: u64,
    /// Reports on more models than a device may have.
    pub too_many_models: u64,
    /// Reports of devices that were revoked.
    pub revoked: u64,
}

/// What the shell is to do. Each may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Offer a release's manifest, chunk lists and chunks on the broker (retained).
    Seed(Digest),
    /// Take them from the broker. Devices can still ask for them (`want`).
    Unseed(Digest),
    /// Sign `payload` as it is (context `Order`) and publish it, retained, to the device.
    SendOrder {
        /// To whom.
        device: DeviceId,
        /// The exact bytes to sign.
        payload: Vec<u8>,
        /// Their generation, for the log.
        generation: Generation,
    },
    /// The device left the fleet, or was revoked: clear its retained order.
    ClearOrder(DeviceId),
    /// Who a device is has changed: end the sessions that this does not allow any more.
    Identity(IdentityView),
}
