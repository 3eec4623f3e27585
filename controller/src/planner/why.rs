//! Why a device is where it is: a code for programs, a sentence for people.

use std::fmt;

use fleetway_protocol::hold::{Condition, Held};
use fleetway_protocol::ids::{Counter, Digest, RolloutId};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;

/// Why a device of a rollout is where it is. `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It moves now.
    Ordered,
    /// It is at it.
    InProgress {
        /// Where it is.
        phase: Phase,
        /// What it waits for.
        waiting: Option<Reason>,
    },
    /// It waits for consent or a safe point.
    Held {
        /// For what, and before what.
        held: Held,
        /// Whether the rollout waits for it no longer.
        aside: bool,
    },
    /// It was at it when it was last heard.
    SilentInProgress {
        /// Seconds since.
        quiet_s: u64,
        /// Seconds after which it counts as failed.
        timeout_s: u64,
    },
    /// It runs and passed its probation.
    Confirmed,
    /// It ran the release before the rollout came to it.
    AlreadyRuns,
    /// It never ran.
    Failed(Reason),
    /// It ran, and the device went back.
    RolledBack(Reason),
    /// It was silent for too long.
    Silent,
    /// It comes in a later phase.
    NotYourPhase {
        /// The current phase, from 1.
        current: u32,
        /// The number of phases.
        of: u32,
    },
    /// As many as allowed are in flight.
    WaitingForSlot {
        /// In flight.
        in_flight: usize,
        /// Allowed.
        max: usize,
    },
    /// It is not there.
    Offline {
        /// Seconds since it was last heard, if it was.
        quiet_s: Option<u64>,
    },
    /// The controller cannot hear its devices.
    NotListening,
    /// It is in flight for another rollout of the same model.
    HeldByOtherRollout(RolloutId),
    /// A newer rollout of the same model has moved it.
    TakenByNewerRollout(RolloutId),
    /// Its version floor is above the release.
    BelowFloor {
        /// The release's counter.
        counter: Counter,
        /// The device's floor.
        floor: Counter,
    },
    /// It has as many models as one device may.
    TooManyModels,
    /// It was removed from the fleet.
    Left,
    /// The rollout stopped itself.
    Halted,
    /// The rollout is paused.
    Paused,
    /// The rollout was aborted before the device's turn.
    Aborted,
    /// The rollout is over; the device came later.
    Over,
    /// It was told to go back, and has not said that it did.
    Reverting,
    /// It went back.
    Reverted,
    /// It ran no release of the model before the rollout: there is nothing to go back to.
    NothingBefore,
    /// What it ran before the rollout is not known.
    BeforeUnknown,
    /// What it ran before the rollout is not published any more.
    BeforeNotPublished(Digest),
    /// The release failed on it for a reason that it remembers.
    RemembersAsBad(Reason),
    /// It runs nothing that is newer than the release to go back to.
    NothingNewer,
}

impl Why {
    /// Stable upper-case name for logs, JSON and dashboards.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ordered => "ORDERED",
            Self::InProgress { .. } => "IN_PROGRESS",
            Self::Held { .. } => "HELD",
            Self::SilentInProgress { .. } => "SILENT_IN_PROGRESS",
            Self::Confirmed => "CONFIRMED",
            Self::AlreadyRuns => "ALREADY_RUNS",
            Self::Failed(_) => "FAILED",
            Self::RolledBack(_) => "ROLLED_BACK",
            Self::Silent => "SILENT",
            Self::NotYourPhase { .. } => "NOT_YOUR_PHASE",
            Self::WaitingForSlot { .. } => "WAITING_FOR_SLOT",
            Self::Offline { .. } => "OFFLINE",
            Self::NotListening => "NOT_LISTENING",
            Self::HeldByOtherRollout(_) => "HELD_BY_OTHER_ROLLOUT",
            Self::TakenByNewerRollout(_) => "TAKEN_BY_NEWER_ROLLOUT",
            Self::BelowFloor { .. } => "BELOW_FLOOR",
            Self::TooManyModels => "TOO_MANY_MODELS",
            Self::Left => "LEFT",
            Self::Halted => "HALTED",
            Self::Paused => "PAUSED",
            Self::Aborted => "ABORTED",
            Self::Over => "OVER",
            Self::Reverting => "REVERTING",
            Self::Reverted => "REVERTED",
            Self::NothingBefore => "NOTHING_BEFORE",
            Self::BeforeUnknown => "BEFORE_UNKNOWN",
            Self::BeforeNotPublished(_) => "BEFORE_NOT_PUBLISHED",
            Self::RemembersAsBad(_) => "REMEMBERS_AS_BAD",
            Self::NothingNewer => "NOTHING_NEWER",
        }
    }

    /// The device's own reason, where it gave one.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Failed(reason) | Self::RolledBack(reason) | Self::RemembersAsBad(reason) => {
                Some(*reason)
            }
            Self::InProgress { waiting, .. } => *waiting,
            Self::Held { held, .. } => held.conditions.iter().next().map(Condition::reason),
            _ => None,
        }
    }
}

/// A phase of an update in lower-case words.
pub fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "idle",
        Phase::Eligibility => "checking the release",
        Phase::Download => "downloading",
        Phase::Verification => "verifying",
        Phase::SelfTest => "self-testing",
        Phase::Activation => "activating",
        Phase::Probation => "on probation",
        Phase::Rollback => "going back",
        Phase::Removal => "removing",
        Phase::Shadow => "in the shadow",
        Phase::Held => "held",
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered => f.write_str("ordered now"),
            Self::InProgress { phase: Phase::Idle, waiting: None } => {
                f.write_str("ordered; it has not said that it began")
            }
            Self::InProgress { phase, waiting: None } => f.write_str(phase_word(*phase)),
            Self::InProgress { phase, waiting: Some(reason) } => {
                write!(f, "{}: {reason}", phase_word(*phase))
            }
            Self::Held { held, aside } => {
                write!(f, "held before the {}", held.before.name())?;
                for (at, condition) in held.conditions.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { ": " } else { "; " }, condition.reason())?;
                }
                f.write_str(if *aside { "; the rollout goes on without it meanwhile" } else { "" })
            }
            Self::SilentInProgress { quiet_s, timeout_s } => write!(
                f,
                "in progress, but not heard of for {quiet_s} s: unknown; counts as failed after {timeout_s} s"
            ),
            Self::Confirmed => f.write_str("runs it, confirmed"),
            Self::AlreadyRuns => f.write_str("ran it before"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::RolledBack(reason) => write!(f, "rolled back by itself: {reason}"),
            Self::Silent => f.write_str("silent for too long: counts as failed until it speaks"),
            Self::NotYourPhase { current, of } => {
                write!(f, "comes in a later phase; now in phase {current} of {of}")
            }
            Self::WaitingForSlot { in_flight, max } => {
                write!(f, "waits for a slot: {in_flight} in flight, {max} allowed at once")
            }
            Self::Offline { quiet_s: Some(s) } => write!(f, "offline; last heard {s} s ago"),
            Self::Offline { quiet_s: None } => {
                f.write_str("offline; not heard of since the controller started")
            }
            Self::NotListening => f.write_str("the controller is not connected to its broker"),
            Self::HeldByOtherRollout(id) => {
                write!(f, "in flight for rollout {id} of the same model; waits for its end")
            }
            Self::TakenByNewerRollout(id) => write!(f, "moved on by the newer rollout {id}"),
            Self::BelowFloor { counter, floor } => write!(
                f,
                "left out: the release's counter {counter} is below the device's floor {floor}; publish the bytes under a new counter"
            ),
            Self::TooManyModels => f.write_str(
                "it has as many models as one device may; abort the rollout or narrow its selector",
            ),
            Self::Left => f.write_str("was removed from the fleet"),
            Self::Halted => f.write_str("not offered: the rollout stopped itself"),
            Self::Paused => f.write_str("waits: the rollout is paused"),
            Self::Aborted => f.write_str("not offered: the rollout was aborted"),
            Self::Over => f.write_str("not offered: the rollout is over; start another one"),
            Self::Reverting => f.write_str("told to go back; it has not said that it did"),
            Self::Reverted => f.write_str("went back"),
            Self::NothingBefore => {
                f.write_str("ran no release of the model before: there is nothing to go back to")
            }
            Self::BeforeUnknown => f.write_str(
                "what it ran before is not known; name a release with `fleetway rollout rollback`",
            ),
            Self::BeforeNotPublished(digest) => write!(
                f,
                "what it ran before ({digest:.12}) is not published any more; publish it again"
            ),
            Self::RemembersAsBad(_) => f.write_str(
                "remembers the release as bad; publish the bytes under a new counter to try again",
            ),
            Self::NothingNewer => f.write_str("runs nothing newer: nothing to go back from"),
        }
    }
}
