//! Rollouts: what is asked for, what would happen, what happens.

use std::num::NonZeroU32;

use fleetway_controller::planner::HaltScope;
use fleetway_controller::planner::analysis::{Metric, Mode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BudgetRequest, DeviceModelView, PhaseRequest, RateRequest, ReasonView, ReleaseRef,
    RetryRequest, ScheduleRequest,
};

/// `POST /v1/rollouts` and `POST /v1/rollouts/plan`. What is absent takes its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RolloutRequest {
    /// Which model.
    pub(crate) model: String,
    /// Which version of it.
    pub(crate) version: String,
    /// Only devices with these labels.
    pub(crate) selector: Option<String>,
    /// `dynamic`: who comes later enters in the last phase; `snapshot`: who is there at the start.
    pub(crate) membership: Option<String>,
    /// The devices of the first phase, by name.
    pub(crate) canary: Vec<String>,
    /// Phases as `3` or `25%`, counted from the beginning, or with all that is asked of them.
    pub(crate) phases: Vec<PhaseRequest>,
    /// Time that a finished phase is watched.
    pub(crate) soak_s: Option<u32>,
    /// Failed devices that are tolerated.
    pub(crate) failures_max: Option<u32>,
    /// Percentage of the offered devices that must have confirmed before the next phase.
    pub(crate) success_percent_min: Option<u8>,
    /// Devices on the move or silent at once, as `3` or `25%`.
    pub(crate) max_unavailable: Option<String>,
    /// Time after which a device that is not done counts as failed.
    pub(crate) device_timeout_s: Option<u32>,
    /// Time without a word after which a device counts as unknown.
    pub(crate) offline_after_s: Option<u32>,
    /// Time after its order within which a device must be done.
    pub(crate) deadline_s: Option<u32>,
    /// When a device that failed is tried again.
    pub(crate) retry: Option<RetryRequest>,
    /// Devices offered the release in a minute, at most.
    pub(crate) rate: Option<RateRequest>,
    /// When devices may be offered the release.
    pub(crate) schedule: ScheduleRequest,
    /// Bytes that may be fetched.
    pub(crate) budget: BudgetRequest,
    /// Whether somebody must approve before anything moves.
    pub(crate) approval: bool,
    /// Goes before rollouts of a lower one where both want a device, -1000 to 1000.
    pub(crate) priority: Option<i16>,
    /// What becomes of devices in flight when it is aborted: `revert` or `keep`.
    pub(crate) on_abort: Option<String>,
    /// Shortest probation.
    pub(crate) probation_s: Option<u32>,
    /// Real answers needed in probation.
    pub(crate) probation_answers: Option<u32>,
    /// Failed answers that are tolerated.
    pub(crate) error_permille_max: Option<u16>,
    /// 95th percentile of the latency that is tolerated; 0 is off.
    pub(crate) p95_us_max: Option<u32>,
    /// Share of the most frequent class that is tolerated; 1000 is off.
    pub(crate) collapse_permille_max: Option<u16>,
    /// How the release runs in the shadow of what serves, if it shall.
    pub(crate) shadow: Option<ShadowRequest>,
    /// What devices wait for before they fetch and activate it.
    pub(crate) hold: HoldRequest,
    /// Metric gates that are others than the defaults.
    pub(crate) gates: Vec<GateRequest>,
    /// What stops when a class of hardware turns out bad: `rollout` or `class`.
    pub(crate) halt: HaltScope,
    /// The hash of the plan that was shown: started only if it is still that.
    pub(crate) plan: Option<String>,
}

/// A metric gate. What is absent takes the metric's default.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateRequest {
    /// What is measured.
    pub(crate) metric: Metric,
    /// In this phase alone, from 1.
    #[serde(default)]
    pub(crate) phase: Option<NonZeroU32>,
    /// `dry-run`, `halt` or `require`.
    #[serde(default)]
    pub(crate) mode: Option<Mode>,
    /// Worsening that is tolerated.
    #[serde(default)]
    pub(crate) tolerated_permille: Option<u32>,
    /// Worsening that must be ruled out.
    #[serde(default)]
    pub(crate) excluded_permille: Option<u32>,
    /// Devices that must have counted something, on each side.
    #[serde(default)]
    pub(crate) devices_min: Option<u32>,
    /// Requests that must have been counted, on each side.
    #[serde(default)]
    pub(crate) answers_min: Option<u32>,
}

/// A shadow. What is absent takes its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShadowRequest {
    /// Share of the requests that are copied.
    pub(crate) share_permille: u16,
    /// Copies that must have been answered.
    pub(crate) answers_min: Option<u32>,
    /// Share of the answers that must agree.
    pub(crate) agreement_permille_min: Option<u16>,
    /// Failed answers that are tolerated.
    pub(crate) error_permille_max: Option<u16>,
    /// 95th percentile of the latency, in percent of that of what serves; 0 is off.
    pub(crate) p95_percent_max: Option<u16>,
    /// Time that the evidence may take.
    pub(crate) s_max: Option<u32>,
    /// What then: `proceed`, `wait` or `fail`.
    pub(crate) otherwise: Option<String>,
    /// What is done when inputs or outputs differ: `proceed` or `fail`.
    pub(crate) interface_differs: Option<String>,
}

/// A hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HoldRequest {
    /// Conditions for the download: `unlocked`, `idle`, `mains`, `unmetered`, `window`.
    pub(crate) download: Vec<String>,
    /// Conditions for the activation.
    pub(crate) activation: Vec<String>,
    /// Time without a request after which a device is idle.
    pub(crate) idle_s: Option<u32>,
    /// When, in UTC: `mon-fri 02:00-05:00`.
    pub(crate) window: Option<String>,
    /// Time after which it goes all the same.
    pub(crate) s_max: Option<u32>,
    /// Time after which the rollout goes on without a device that is held.
    pub(crate) aside_s: Option<u32>,
}

/// What a rollout would do: `POST /v1/rollouts/plan`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PlanView {
    /// The release.
    pub(crate) model: String,
    /// The release.
    pub(crate) release: ReleaseRef,
    /// Why it was imported although its golden vectors did not match, if so.
    pub(crate) golden_mismatch_accepted: Option<String>,
    /// Its phases.
    pub(crate) phases: Vec<PhaseView>,
    /// Each device of the selection.
    pub(crate) devices: Vec<PlannedDevice>,
    /// Bytes that a device fetches that has nothing of it.
    pub(crate) bytes_per_device: u64,
    /// Bytes that all of them fetch.
    pub(crate) bytes_total: u64,
    /// Time that it takes if nothing goes wrong; none: more than 90 days, or never.
    pub(crate) takes_s: Option<u64>,
    /// What that is the sum of.
    pub(crate) takes_how: String,
    /// Ids of the keys that signed the release.
    pub(crate) signers: Vec<String>,
    /// What may expire before it is done.
    pub(crate) expiries: Vec<ExpiryView>,
    /// What a start may be held to.
    pub(crate) hash: String,
    /// Anything else worth a thought before the start.
    pub(crate) notes: Vec<String>,
}

/// Metadata of the release authority, and until when it is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ExpiryView {
    /// `root`, `targets`, `snapshot`, `timestamp`, a team, or `orders`.
    pub(crate) what: String,
    /// Unix seconds.
    pub(crate) expires_s: u64,
}

/// A device in a plan.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PlannedDevice {
    /// Its id.
    pub(crate) id: String,
    /// Number of its phase, from 1.
    pub(crate) phase: Option<u32>,
    /// Whether it would be ordered to move at the start.
    pub(crate) moves: bool,
    /// Bytes that it fetches.
    pub(crate) bytes: u64,
    /// Why it would not move at once.
    pub(crate) reason: Option<ReasonView>,
}

/// `POST /v1/rollouts/{id}/promote`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Promote {
    /// To the last phase, not to the next.
    pub(crate) full: bool,
}

/// What undoing a rollout, trying it again or going back does: `POST /v1/rollouts/{id}/undo`,
/// `.../retry`, `/v1/rollouts/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FollowView {
    /// Whether it was done, or only asked.
    pub(crate) started: bool,
    /// The rollouts that it takes.
    pub(crate) rollouts: Vec<FollowRollout>,
    /// The devices that stay as they are.
    pub(crate) stays: Vec<StayView>,
}

/// One of the rollouts that it takes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FollowRollout {
    /// Its number.
    pub(crate) id: u64,
    /// What it does.
    pub(crate) plan: PlanView,
}

/// A device that stays as it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct StayView {
    /// Its id.
    pub(crate) id: String,
    /// Why.
    pub(crate) reason: ReasonView,
}

/// One phase of a rollout.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PhaseView {
    /// From 1.
    pub(crate) number: u32,
    /// As it was given: `3`, `25%`.
    pub(crate) share: String,
    /// Devices that have been offered the release once it is full.
    pub(crate) devices: u32,
    /// Time that it is watched before the next begins.
    pub(crate) soak_s: u64,
}

/// `GET /v1/rollouts` is a list of these.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RolloutSummary {
    /// Its number.
    pub(crate) id: u64,
    /// Which model.
    pub(crate) model: String,
    /// Which release.
    pub(crate) release: ReleaseRef,
    /// `running`, `paused`, `waiting_for_approval`, `halted`, `aborted` or `succeeded`.
    pub(crate) state: String,
    /// Whether it will not change any more without an operator.
    pub(crate) over: bool,
    /// Whether it ended well.
    pub(crate) succeeded: bool,
    /// Why it is in that state.
    pub(crate) reason: Option<ReasonView>,
    /// The phase that it is in, from 1.
    pub(crate) phase: u32,
    /// Number of phases.
    pub(crate) phases: u32,
    /// Whether the current phase is good: `pass`, `waiting`, `inconclusive` or `fail`.
    pub(crate) gate: String,
    /// What the gate waits for, or why it is shut.
    pub(crate) gate_text: Option<String>,
    /// How many devices are where.
    pub(crate) counts: RolloutCounts,
    /// By whom it was started.
    pub(crate) started_by: String,
    /// When it was started, Unix seconds.
    pub(crate) started_s: u64,
}

/// How many devices are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RolloutCounts {
    /// All of the rollout.
    pub(crate) total: u32,
    /// Not ordered to move yet.
    pub(crate) waiting: u32,
    /// On the move.
    pub(crate) moving: u32,
    /// On the move and not heard of for a while.
    pub(crate) silent: u32,
    /// Confirmed.
    pub(crate) confirmed: u32,
    /// Failed or rolled back.
    pub(crate) failed: u32,
}

/// `GET /v1/rollouts/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RolloutView {
    /// The short form.
    #[serde(flatten)]
    pub(crate) summary: RolloutSummary,
    /// Which devices it is for.
    pub(crate) selector: Option<String>,
    /// Why the release was imported although its golden vectors did not match, if so.
    pub(crate) golden_mismatch_accepted: Option<String>,
    /// The last look at its metric gates.
    pub(crate) gates: Option<fleetway_controller::planner::analysis::Looked>,
    /// Devices whose hardware the release is known to be bad on.
    pub(crate) barred: u32,
    /// Its phases.
    pub(crate) phase_list: Vec<PhaseView>,
    /// Its devices.
    pub(crate) devices: Vec<RolloutDevice>,
}

/// A device in a rollout.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RolloutDevice {
    /// Its id.
    pub(crate) id: String,
    /// Whether it is there.
    pub(crate) online: bool,
    /// Number of its phase in the rollout, from 1.
    pub(crate) rollout_phase: Option<u32>,
    /// `waiting`, `moving`, `confirmed`, `failed`, `reverted` or `left_out`.
    pub(crate) state: String,
    /// Why it is where it is.
    pub(crate) reason: ReasonView,
    /// The device's own reason, where it gave one.
    pub(crate) cause: Option<ReasonView>,
    /// What it reports about the model.
    pub(crate) model: Option<DeviceModelView>,
}
