//! Why a specification makes no sense, and which of its fields is to blame.

use super::{CANARIES_MAX, PHASES_MAX, PRIORITY_MAX, RETRIES_MAX, RETRY_WAIT_S_MAX, WINDOWS_MAX};
use crate::ErrorKind;

/// Why a specification makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A gate's numbers make no sense.
    #[error("{0}")]
    Gate(String),
    /// A gate of a phase that there is not.
    #[error("a gate is for phase {phase} of {of}; number phases from 1, the last one is everybody")]
    GatePhase {
        /// From 1.
        phase: usize,
        /// Phases, with the last one that comes by itself.
        of: usize,
    },
    /// Not a size.
    #[error("{0:?} is no size; write a number of devices (5) or a share (5%), at least 1")]
    Size(String),
    /// A phase of nobody or of more than everybody.
    #[error("phase {phase} has no sensible size; use at least 1 device, or 1% to 100%")]
    Phase {
        /// From 1.
        phase: usize,
    },
    /// A phase that is smaller than the one before.
    #[error("phase {phase} is smaller than the one before; sizes count everybody so far")]
    Shrinks {
        /// From 1.
        phase: usize,
    },
    /// Too many phases.
    #[error("{0} phases, at most {PHASES_MAX} are allowed")]
    Phases(usize),
    /// Too many canaries by name.
    #[error("{0} canaries by name, at most {CANARIES_MAX} are allowed; use a number or a share")]
    Canaries(usize),
    /// More reports are wanted than the phase has devices.
    #[error(
        "phase {phase} wants reports of {reporters} devices and has {size}; it would never end"
    )]
    Reporters {
        /// From 1.
        phase: usize,
        /// As given.
        reporters: u32,
        /// Devices once it is full.
        size: usize,
    },
    /// A bound of nobody.
    #[error("max-unavailable makes no sense; use at least 1 device, or 1% to 100%")]
    MaxUnavailable,
    /// A share outside 1 to 100.
    #[error("success-percent-min is {0}; use 1 to 100")]
    Success(u8),
    /// A shadow of nothing, or one that cannot pass.
    #[error(
        "the shadow makes no sense; use a share above 0% and up to 100%, at least 1 answer, at least 1 s"
    )]
    Shadow,
    /// Devices would be set aside before anybody knows whether they are held.
    #[error("hold-aside is 0 s; use at least 1 s")]
    Aside,
    /// A window that never opens.
    #[error("a hold for a window needs one; give --hold-window, such as `daily 02:00-05:00`")]
    Window,
    /// Times that contradict each other.
    #[error(
        "offline-after {offline_after_s} s and device-timeout {device_timeout_s} s; use at least 1 s, and no timeout before a device counts as offline"
    )]
    Timeouts {
        /// As given.
        offline_after_s: u64,
        /// As given.
        device_timeout_s: u64,
    },
    /// A rate of nobody, or one that shrinks.
    #[error(
        "the rate makes no sense; use at least 1 device a minute, a factor above 1, at least 1 device between two steps, and a maximum that is not below the beginning"
    )]
    Rate,
    /// A retry that is none, or that never ends.
    #[error(
        "the retry makes no sense; use 1 to {RETRIES_MAX} tries, a wait of 1 s to {RETRY_WAIT_S_MAX} s, and name a kind of failure"
    )]
    Retry,
    /// A schedule that ends before it begins.
    #[error("the schedule ends before it begins; give a not-after that is later than not-before")]
    Schedule,
    /// Too many windows.
    #[error("{0} windows, at most {WINDOWS_MAX} are allowed")]
    Windows(usize),
    /// Numbers that no day has.
    #[error("window {0} makes no sense; write days and times, such as `mon-fri 22:00-04:00`")]
    LocalWindow(usize),
    /// A time zone that the database does not know.
    #[error(
        "window {window}: there is no time zone {zone:?}; write a name of the IANA database, such as Europe/Berlin or UTC"
    )]
    Zone {
        /// From 1.
        window: usize,
        /// As given.
        zone: String,
    },
    /// A priority that no rollout may have.
    #[error("the priority is {0}; use -{PRIORITY_MAX} to {PRIORITY_MAX}")]
    Priority(i16),
}

impl SpecError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    /// Which field of a specification is to blame, as a file names it: keys, and numbers of
    /// entries in a list from 0.
    pub fn field(&self) -> Vec<String> {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let phase = |at: usize, field: &str| {
            vec!["phase".to_owned(), (at - 1).to_string(), field.to_owned()]
        };
        match self {
            Self::Phase { phase: at } | Self::Shrinks { phase: at } => phase(*at, "size"),
            Self::Reporters { phase: at, .. } => phase(*at, "reporters_min"),
            Self::Gate(_) | Self::GatePhase { .. } => path(&["gate"]),
            Self::Size(_) | Self::Phases(_) => path(&["phase"]),
            Self::Canaries(_) => phase(1, "devices"),
            Self::MaxUnavailable => path(&["max_unavailable"]),
            Self::Success(_) => path(&["success_min"]),
            Self::Shadow => path(&["shadow"]),
            Self::Aside => path(&["hold", "aside"]),
            Self::Window => path(&["hold", "window"]),
            Self::Timeouts { .. } => path(&["device_timeout"]),
            Self::Rate => path(&["rate"]),
            Self::Retry => path(&["retry"]),
            Self::Schedule => path(&["schedule", "not_after"]),
            Self::Windows(_) => path(&["schedule", "window"]),
            Self::LocalWindow(at) | Self::Zone { window: at, .. } => {
                vec!["schedule".to_owned(), "window".to_owned(), (at - 1).to_string()]
            }
            Self::Priority(_) => path(&["priority"]),
        }
    }
}
