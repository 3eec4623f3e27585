//! What an operator asks for: a release, for these devices, in these steps.

use std::collections::BTreeMap;

use fleetway_protocol::hold::Condition;
use fleetway_protocol::ids::{Digest, ModelName, Version};
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::Terms;
use serde::{Deserialize, Serialize};

use super::Selector;
use super::analysis::GateSpec;
use crate::ErrorKind;

/// Phases of one rollout. More than this is a schedule, not a rollout.
pub const PHASES_MAX: usize = 16;
/// Seconds without a word after which a device counts as unknown: two missed heartbeats
/// of a minute, and the broker's own 1.5 keep-alives.
pub const OFFLINE_AFTER_S_DEFAULT: u64 = 180;
/// Seconds without a word after which a device in flight counts as failed. A day: most
/// devices that lose power get it back.
pub const DEVICE_TIMEOUT_S_DEFAULT: u64 = 24 * 3600;

/// Seconds after which a rollout stops waiting for a device that is held. An hour: the longest
/// lock, so that an application that is at work is waited for, and a window that opens at night
/// is not.
pub const HOLD_ASIDE_S_DEFAULT: u64 = 3600;

/// A number of devices, absolute or as a share of the rollout's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded up for phases and down for bounds; at least one.
    Percent(u8),
}

impl Size {
    /// The size of a phase among `total` devices.
    pub fn phase_of(self, total: usize) -> usize {
        match self {
            Self::Count(n) => (n as usize).min(total),
            Self::Percent(p) => (total * usize::from(p)).div_ceil(100).min(total),
        }
    }

    /// A bound among `total` devices: at least one, or nothing would ever move.
    pub fn bound_of(self, total: usize) -> usize {
        match self {
            Self::Count(n) => (n as usize).max(1),
            Self::Percent(p) => (total * usize::from(p) / 100).max(1),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = SpecError;
    /// `5` or `5%`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refused = || SpecError::Size(text.to_owned());
        let size = match text.strip_suffix('%') {
            Some(percent) => Self::Percent(percent.parse().map_err(|_| refused())?),
            None => Self::Count(text.parse().map_err(|_| refused())?),
        };
        if size.is_sane() { Ok(size) } else { Err(refused()) }
    }
}

impl Size {
    fn is_sane(self) -> bool {
        match self {
            Self::Count(n) => n > 0,
            Self::Percent(p) => (1..=100).contains(&p),
        }
    }
}

/// One step of a rollout. Sizes are cumulative: a phase of 10 after one of 2 adds 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSpec {
    /// How many devices have been offered the release once the phase is full.
    pub size: Size,
    /// Seconds to wait after the phase's last verdict before the next one begins.
    pub soak_s: u64,
}

/// A rollout as asked for. The last phase is always everybody: it is added if it is not
/// there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// Of which model.
    pub model: ModelName,
    /// Which release.
    pub release: Digest,
    /// What people call that release; for showing.
    pub version: Version,
    /// Which form of it.
    pub variant: VariantKind,
    /// For which devices.
    pub selector: Selector,
    /// In which steps. A canary is the first phase. Empty: everybody at once.
    pub phases: Vec<PhaseSpec>,
    /// Share of the offered devices that must have confirmed before the next phase.
    pub success_percent_min: u8,
    /// Failed or rolled back devices that are tolerated; one more halts the rollout.
    pub failures_max: u32,
    /// Devices that may be in flight at once, not counting those set aside.
    pub max_unavailable: Size,
    /// Seconds without a word after which a device counts as unknown.
    pub offline_after_s: u64,
    /// Seconds without a word after which a device in flight counts as failed.
    pub device_timeout_s: u64,
    /// What the devices ask of the release beyond its manifest.
    pub terms: Terms,
    /// Seconds after which a device that is held is set aside: it takes no place in
    /// `max_unavailable` any more, and its phase does not wait for it.
    pub hold_aside_s: u64,
    /// What the model must do on its devices, beside those that were not offered it.
    pub gates: Vec<GateSpec>,
    /// The same for single phases (from 0), in place of those.
    pub gates_in: BTreeMap<u32, Vec<GateSpec>>,
    /// What stops when a class of hardware turns out bad.
    pub halt: HaltScope,
}

/// What stops when a release turns out bad on a class of hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HaltScope {
    /// All of the rollout.
    #[default]
    Rollout,
    /// That class; the others go on.
    Class,
}

impl RolloutSpec {
    /// A rollout of a release to `selector` with the defaults: a canary of one device
    /// that soaks for ten minutes, then 10 %, then everybody; the first failure halts.
    pub fn new(model: ModelName, release: Digest, version: Version, selector: Selector) -> Self {
        let phases = vec![
            PhaseSpec { size: Size::Count(1), soak_s: 600 },
            PhaseSpec { size: Size::Percent(10), soak_s: 600 },
        ];
        Self {
            model,
            release,
            version,
            variant: VariantKind::Onnx,
            selector,
            phases,
            success_percent_min: 100,
            failures_max: 0,
            max_unavailable: Size::Percent(10),
            offline_after_s: OFFLINE_AFTER_S_DEFAULT,
            device_timeout_s: DEVICE_TIMEOUT_S_DEFAULT,
            terms: Terms::default(),
            hold_aside_s: HOLD_ASIDE_S_DEFAULT,
            gates: GateSpec::defaults(),
            gates_in: BTreeMap::new(),
            halt: HaltScope::default(),
        }
    }

    /// Checks the bounds and adds the last phase if it is missing.
    ///
    /// # Errors
    /// [`SpecError`] names what makes no sense.
    pub fn checked(mut self) -> Result<Self, SpecError> {
        if let Some(phase) = self.phases.iter().position(|p| !p.size.is_sane()) {
            return Err(SpecError::Phase { phase: phase + 1 });
        }
        if !self.max_unavailable.is_sane() {
            return Err(SpecError::MaxUnavailable);
        }
        if !(1..=100).contains(&self.success_percent_min) {
            return Err(SpecError::Success(self.success_percent_min));
        }
        if self.offline_after_s == 0 || self.device_timeout_s < self.offline_after_s {
            return Err(SpecError::Timeouts {
                offline_after_s: self.offline_after_s,
                device_timeout_s: self.device_timeout_s,
            });
        }
        check_terms(&self.terms)?;
        for gate in self.gates.iter().chain(self.gates_in.values().flatten()) {
            gate.checked().map_err(SpecError::Gate)?;
        }
        if self.hold_aside_s == 0 {
            return Err(SpecError::Aside);
        }
        for (at, pair) in self.phases.windows(2).enumerate() {
            let shrinks = match (pair[0].size, pair[1].size) {
                (Size::Count(a), Size::Count(b)) => b < a,
                (Size::Percent(a), Size::Percent(b)) => b < a,
                _ => false,
            };
            if shrinks {
                return Err(SpecError::Shrinks { phase: at + 2 });
            }
        }
        if self.phases.last().is_none_or(|p| p.size != Size::Percent(100)) {
            self.phases.push(PhaseSpec { size: Size::Percent(100), soak_s: 0 });
        }
        match self.phases.len() {
            n if n > PHASES_MAX => Err(SpecError::Phases(n)),
            _ => Ok(self),
        }
    }

    /// The gates of phase `phase` (from 0).
    pub fn gates_of(&self, phase: u32) -> &[GateSpec] {
        self.gates_in.get(&phase).unwrap_or(&self.gates)
    }

    /// Devices that may have been offered the release in phase `phase` (from 0), of `total`.
    /// Never below the phase before: 50% and then 2 devices depends on how many there are.
    pub fn phase_bound(&self, phase: usize, total: usize) -> usize {
        if phase + 1 >= self.phases.len() {
            return total;
        }
        let sizes = self.phases[..=phase].iter().map(|p| p.size.phase_of(total));
        sizes.max().unwrap_or(total)
    }
}

/// Shadow and hold: numbers that no device could keep to.
fn check_terms(terms: &Terms) -> Result<(), SpecError> {
    if let Some(shadow) = &terms.shadow {
        let shares = (1..=1000).contains(&shadow.share_permille)
            && shadow.agreement_permille_min <= 1000
            && shadow.error_permille_max <= 1000;
        if !shares || shadow.answers_min == 0 || shadow.s_max == 0 {
            return Err(SpecError::Shadow);
        }
    }
    let hold = &terms.hold;
    let in_window = hold.download.or(hold.activation).has(Condition::Window);
    if in_window && !hold.window.is_sane() { Err(SpecError::Window) } else { Ok(()) }
}

/// Why a specification makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A gate's numbers make no sense.
    #[error("{0}")]
    Gate(String),
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
}

impl SpecError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetway_protocol::hold::{Conditions, Window};
    use fleetway_protocol::shadow::ShadowPolicy;

    #[test]
    fn a_shadow_or_hold_that_no_device_could_keep_to_is_refused() {
        let check = |change: fn(&mut Terms), expected: Option<SpecError>| {
            let names = (ModelName::new("digits").unwrap(), Version::new("v1").unwrap());
            let mut spec = RolloutSpec::new(names.0, Digest([1; 32]), names.1, Selector::all());
            change(&mut spec.terms);
            assert_eq!(spec.checked().err(), expected);
        };
        check(|p| p.shadow = Some(ShadowPolicy::default()), None);
        let changes: [fn(&mut ShadowPolicy); 6] = [
            |p| p.share_permille = 0,
            |p| p.share_permille = 1001,
            |p| p.agreement_permille_min = 1001,
            |p| p.error_permille_max = 1001,
            |p| p.answers_min = 0,
            |p| p.s_max = 0,
        ];
        for change in changes {
            let mut shadow = ShadowPolicy::default();
            change(&mut shadow);
            let terms = Terms { shadow: Some(shadow), ..Terms::default() };
            assert_eq!(check_terms(&terms), Err(SpecError::Shadow), "{shadow:?}");
        }
        check(
            |p| p.hold.download = Conditions::NONE.with(Condition::Window),
            Some(SpecError::Window),
        );
        check(
            |p| {
                p.hold.activation = Conditions::NONE.with(Condition::Window);
                p.hold.window = Window { days: 1, from_min: 60, to_min: 120 };
            },
            None,
        );
    }
}
