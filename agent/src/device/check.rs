//! The device's own check: a program of the box that looks at a release on trial from outside (is
//! the gate still opening?) and has a word before it is confirmed.
//!
//! It is asked when the health policy has nothing against the release any more. Its no is a
//! verdict. Its yes lets the release stay; where the device's configuration says so, it also stands
//! in for answers that are missing, for boxes that are rarely asked. A check that gives no answer
//! (it cannot be started, runs out of time, crashes) is nobody's verdict: it is asked again, and
//! the release stays on trial.
//!
//! Which program that is says the device's configuration alone. Nothing that comes over the wire
//! can name one.

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::machine::{Event, Token};
use fleetway_protocol::reason::Reason;

use super::{Device, Now};
use crate::fs::Fs;

/// First pause after a check that gave no answer, milliseconds; it doubles.
const PAUSE_MS: u64 = 5_000;
/// Longest pause, milliseconds: what a person who mended the check is ready to wait.
const PAUSE_MS_MAX: u64 = 300_000;

/// What a check may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckRule {
    /// Whether its yes stands in for answers that are missing.
    pub may_confirm: bool,
}

/// Ask the device's own check; answer with [`Device::handle_check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckJob {
    /// Which model.
    pub model: ModelName,
    /// For the answer.
    pub token: Token,
    /// The release on trial.
    pub release: Digest,
}

/// What a check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckAnswer {
    /// The release may stay.
    Yes,
    /// It must go.
    No,
    /// It does not know, or could not be asked.
    NotYet,
}

/// Where a probation is with its check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    /// Not asked.
    #[default]
    Never,
    /// Asked, no answer yet; the pause after the last time that it gave none.
    Running { pause_ms: u64 },
    /// To be asked again at `at_ms`, after this pause.
    Again { at_ms: u64, pause_ms: u64 },
    /// It said yes.
    Yes,
}

impl Asked {
    pub(super) fn is_yes(self) -> bool {
        self == Self::Yes
    }

    pub(super) fn is_due(self, now: Now) -> bool {
        match self {
            Self::Never => true,
            Self::Again { at_ms, .. } => now.ms >= at_ms,
            Self::Running { .. } | Self::Yes => false,
        }
    }

    /// It is being asked.
    pub(super) fn running(self) -> Self {
        match self {
            Self::Again { pause_ms, .. } => Self::Running { pause_ms },
            _ => Self::Running { pause_ms: 0 },
        }
    }

    /// It gave no answer.
    fn later(self, now: Now) -> Self {
        let pause_ms = match self {
            Self::Running { pause_ms } if pause_ms > 0 => pause_ms * 2,
            _ => PAUSE_MS,
        };
        let pause_ms = pause_ms.min(PAUSE_MS_MAX);
        Self::Again { at_ms: now.ms + pause_ms, pause_ms }
    }
}

impl<F: Fs> Device<F> {
    /// The check answered. An answer for a trial that is over changes nothing.
    pub fn handle_check(&mut self, now: Now, job: &CheckJob, answer: CheckAnswer) {
        let Some(model) = self.models.iter_mut().find(|m| m.name == job.model) else { return };
        let Some(probation) = model.probation.as_mut().filter(|p| p.token == job.token) else {
            return;
        };
        match answer {
            CheckAnswer::Yes => probation.asked = Asked::Yes,
            CheckAnswer::NotYet => probation.asked = probation.asked.later(now),
            CheckAnswer::No => {
                let verdict = Err(Reason::HealthVeto.into());
                model.machine.handle(now.ms, Event::Health(job.token, verdict));
            }
        }
        self.drive(now);
    }
}
