//! What the planner is told, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetway_protocol::hold::Held;
use fleetway_protocol::ids::{
    Counter, DeviceId, Digest, HardwareClass, ModelName, RolloutId, Version,
};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use super::analysis::{Evidence, Looked, Looks};
use super::{RolloutSpec, Why};

/// Labels of a device.
pub type Labels = BTreeMap<String, String>;

/// Everything a plan depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Unix seconds.
    pub now_s: u64,
    /// Since when the controller could have heard its devices without a gap; `None` while
    /// it is cut off. Silence counts from here: our own outage is nobody's fault.
    pub listening_since_s: Option<u64>,
    /// The fleet, in any order.
    pub devices: Vec<DeviceFacts>,
    /// Rollouts that are not over, and those with devices still to be turned back.
    pub rollouts: Vec<RolloutFacts>,
    /// The releases that they are about.
    pub releases: Vec<ReleaseFacts>,
    /// Which of them are known to be bad on which hardware.
    pub known_bad: Vec<KnownBad>,
}

/// A release turned out bad on a class of hardware. Nobody of that class is offered it again, by
/// any rollout, until an operator lifts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBad {
    /// Which release.
    pub release: Digest,
    /// On which hardware.
    pub class: HardwareClass,
    /// The rollout that found out.
    pub rollout: RolloutId,
    /// When, Unix seconds.
    pub since_s: u64,
    /// A sentence.
    pub why: String,
    /// When an operator lifted it, Unix seconds: other rollouts may offer it again.
    pub lifted_s: Option<u64>,
}

impl KnownBad {
    /// Whether it keeps devices from a rollout: of this release, and not lifted; the rollout that
    /// found out holds to it all the same.
    pub fn bars(&self, rollout: &RolloutFacts) -> bool {
        self.release == rollout.spec.release
            && (self.lifted_s.is_none() || self.rollout == rollout.id)
    }

    /// What it is, in a sentence.
    pub fn sentence(&self) -> String {
        format!("bad on {}: {}", self.class, self.why)
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Which.
    pub id: DeviceId,
    /// Its labels. Shared, like what it runs: a plan is made on a copy, in which few devices change.
    pub labels: Arc<Labels>,
    /// What hardware it is, if it said so.
    pub hardware: Option<HardwareClass>,
    /// Whether it said that it is there and its last will did not say otherwise.
    pub online: bool,
    /// When it last said anything, `None` if not since the controller started.
    pub heard_s: Option<u64>,
    /// What it runs.
    pub models: Arc<BTreeMap<ModelName, ModelFacts>>,
}

/// One model on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Whether the device ever reported on it.
    pub reported: bool,
    /// The release that the engine has loaded.
    pub running: Option<Digest>,
    /// The version floor.
    pub floor: Counter,
    /// Where an update is.
    pub phase: Phase,
    /// What it waits for.
    pub waiting: Option<Reason>,
    /// All that it waits for, where that is consent or a safe point.
    pub held: Option<Held>,
    /// What it was last told: on whose behalf, and which release. Also if the order says
    /// nothing of the model any more.
    pub assigned: Option<(RolloutId, Digest)>,
}

/// A published release, as far as planning needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFacts {
    /// Its digest.
    pub digest: Digest,
    /// What people call it.
    pub version: Version,
    /// Its counter.
    pub counter: Counter,
    /// Bytes that a device fetches at most that has nothing of it.
    pub bytes: u64,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutFacts {
    /// Which.
    pub id: RolloutId,
    /// As asked for, checked.
    pub spec: RolloutSpec,
    /// Where it is.
    pub state: RolloutState,
    /// The devices that its selector matched at the start; `None` before that.
    pub members: Option<Arc<BTreeSet<DeviceId>>>,
    /// The devices that were offered the release.
    pub deployments: BTreeMap<DeviceId, Deployment>,
    /// When its metric gates were looked at, and what the last look found.
    pub looks: Looks,
    /// What to look at; only while [`wanted`](super::wanted) asks for it.
    pub evidence: Option<Evidence>,
}

/// Where a rollout is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutState {
    /// Under way.
    Running {
        /// The phase, from 0.
        phase: u32,
    },
    /// Held. Devices in flight go on by themselves; nobody new is offered the release.
    Paused {
        /// The phase to go on with.
        phase: u32,
        /// By whom.
        by: PausedBy,
    },
    /// Stopped by itself. What is in flight is left to the devices' own judgement.
    Halted {
        /// A sentence.
        why: String,
        /// The device that tipped it, if one did.
        device: Option<DeviceId>,
        /// Its reason, if it gave one.
        reason: Option<Reason>,
    },
    /// Stopped by an operator; devices in flight go back.
    Aborted,
    /// Every device has it.
    Succeeded,
    /// Nobody new is offered the release before somebody approves.
    WaitingForApproval {
        /// The phase to approve, from 0.
        phase: u32,
    },
}

impl RolloutState {
    /// Whether it may still move devices: running, paused, or waiting for approval.
    pub fn is_open(&self) -> bool {
        self.phase().is_some()
    }

    /// The phase that it is in or would go on with, while it may still move devices.
    pub fn phase(&self) -> Option<u32> {
        match self {
            Self::Running { phase }
            | Self::Paused { phase, .. }
            | Self::WaitingForApproval { phase } => Some(*phase),
            Self::Halted { .. } | Self::Aborted | Self::Succeeded => None,
        }
    }

    /// One lower-case word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::Aborted => "aborted",
            Self::Succeeded => "succeeded",
            Self::WaitingForApproval { .. } => "waiting_for_approval",
        }
    }
}

/// Who paused a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PausedBy {
    /// A person.
    Operator,
    /// The planner: what it needs to judge is missing. The sentence says what.
    Inconclusive(String),
}

/// One device's part in one rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The release that was offered.
    pub release: Digest,
    /// When, Unix seconds; the last time, if it was tried again.
    pub ordered_s: u64,
    /// In which phase, from 0.
    pub phase: u32,
    /// What the device ran before.
    pub previous: Previous,
    /// How it ended, `None` while it is in flight.
    pub verdict: Option<Verdict>,
    /// When the verdict was heard, Unix seconds.
    pub verdict_s: u64,
    /// The device was told to go back to `previous`.
    pub reverted: bool,
    /// Tries beyond the first.
    pub attempts: u32,
}

/// What a device ran before it was offered a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Previous {
    /// It never said. Nothing is taken from a device on a guess.
    Unknown,
    /// It said that it runs nothing.
    Nothing,
    /// This.
    Release(Digest),
}

/// How a deployment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The release runs and passed its probation.
    Confirmed,
    /// It never ran.
    Failed(Reason),
    /// It ran, and the device went back.
    RolledBack(Reason),
    /// Not a word for the rollout's device timeout. Revised if the device speaks.
    Silent,
    /// The device was removed from the fleet; it counts no more.
    Left,
    /// It spoke, and was not done by the rollout's deadline. Revised if it gets done.
    Late,
}

impl Verdict {
    /// Whether it counts against `failures_max`.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed(_) | Self::RolledBack(_) | Self::Silent | Self::Late)
    }

    /// Whether the device may still be at it, for all that is known.
    pub fn is_open(verdict: Option<Self>) -> bool {
        matches!(verdict, None | Some(Self::Silent | Self::Late))
    }
}

/// What a device is to do about one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Run the rollout's release.
    Run(Digest),
    /// Go back to this release (an aborted rollout).
    Rollback(Digest),
    /// Stop serving the model: nothing ran before (an aborted rollout). The digest is the
    /// release that goes.
    Remove(Digest),
    /// Say nothing about the model any more: what ran before is not known (an aborted
    /// rollout).
    Withdraw,
}

/// One device moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which.
    pub device: DeviceId,
    /// On whose behalf.
    pub rollout: RolloutId,
    /// Which model.
    pub model: ModelName,
    /// What it is to do.
    pub wish: Wish,
    /// In which phase of the rollout, from 0.
    pub phase: u32,
    /// What it runs now, to go back to.
    pub previous: Previous,
}

/// One rollout changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A device in flight ran out of time.
    TimedOut {
        /// Of which rollout.
        rollout: RolloutId,
        /// Which device.
        device: DeviceId,
        /// [`Verdict::Silent`] or [`Verdict::Late`].
        verdict: Verdict,
    },
    /// The rollout enters another state.
    State {
        /// Which.
        rollout: RolloutId,
        /// The new state.
        to: RolloutState,
        /// A sentence.
        why: String,
    },
    /// The rollout's metric gates were looked at.
    Looked {
        /// Of which rollout.
        rollout: RolloutId,
        /// The phase at whose end, from 0; `None`: in between.
        ended: Option<u32>,
        /// What was found.
        looked: Looked,
    },
    /// A release is bad on a class.
    Bad(KnownBad),
}

/// Where one device of one rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// Which.
    pub device: DeviceId,
    /// In which rollout.
    pub rollout: RolloutId,
    /// What it runs of that model, as far as it said.
    pub running: Option<Digest>,
    /// The phase in which it was offered the release, from 0.
    pub phase: Option<u32>,
    /// Why it is where it is.
    pub why: Why,
}

/// Whether the current phase is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It is; the rollout goes on or is done.
    Pass,
    /// Not yet: what it waits for.
    Waiting(String),
    /// It cannot be told: a device in flight is silent. Holds the phase, never passes it.
    Inconclusive(String),
    /// It is not.
    Fail(String),
}

/// One rollout in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutReport {
    /// Which.
    pub rollout: RolloutId,
    /// Devices that it is for.
    pub total: usize,
    /// Of these, the ones that came after the start: they enter in the last phase.
    pub late: usize,
    /// Of all, offered the release so far.
    pub offered: usize,
    /// Offered, without a verdict.
    pub in_flight: usize,
    /// In flight and not heard of for a while.
    pub silent: usize,
    /// Of those in flight, the ones that failed and wait to be tried again.
    pub retrying: usize,
    /// Confirmed.
    pub confirmed: usize,
    /// Failed, rolled back, or silent for too long.
    pub failed: usize,
    /// Of the devices that it was for, the ones whose hardware the release is known to be bad on.
    /// They are not in the numbers above.
    pub barred: usize,
    /// The current phase's gate.
    pub gate: Gate,
}

/// What to do now, and why not more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Devices that move.
    pub orders: Vec<Assignment>,
    /// Rollouts that change, in the order in which they do.
    pub changes: Vec<Change>,
    /// Every device of every rollout.
    pub report: Vec<DeviceReport>,
    /// Every rollout.
    pub rollouts: Vec<RolloutReport>,
}
