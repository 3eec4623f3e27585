//! What an operator asks for: a release, for these devices, in these steps.
//!
//! How fast is in [`pace`], when in [`calendar`], what makes no sense in [`errors`],
//! what is legal and unwise in [`lint`].

pub mod calendar;
pub mod errors;
pub mod lint;
pub mod pace;
mod size;

use std::collections::BTreeMap;

use fleetway_protocol::hold::Condition;
use fleetway_protocol::ids::{DeviceId, Digest, ModelName, Version};
use fleetway_protocol::order::Terms;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selector;
use super::analysis::GateSpec;
pub use calendar::{LocalWindow, Opening, Schedule, WINDOWS_MAX};
pub use errors::SpecError;
pub use lint::{Unwise, unwise};
pub use pace::{Budget, RETRIES_MAX, RETRY_WAIT_S_MAX, Ramp, Rate, Retry, RetryOn};
pub use size::Size;

/// Phases of one rollout. More than this is a schedule, not a rollout.
pub const PHASES_MAX: usize = 16;
/// Canaries that are named. Who knows more of them by heart wants a label.
pub const CANARIES_MAX: usize = 256;
/// The highest priority, and below zero the lowest.
pub const PRIORITY_MAX: i16 = 1000;
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

/// One step of a rollout. Sizes are cumulative: a phase of 10 after one of 2 adds 8. What is
/// absent is as the rollout says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSpec {
    /// How many devices have been offered the release once the phase is full.
    pub size: Size,
    /// Seconds to wait after the phase's last verdict before the next one begins.
    pub soak_s: u64,
    /// Devices of which a verdict must have been heard before the next one begins.
    pub reporters_min: u32,
    /// Share of the offered devices that must have confirmed before the next phase.
    pub success_percent_min: Option<u8>,
    /// Failed devices among those of this phase that are tolerated, also later; one more halts
    /// the rollout.
    pub failures_max: Option<u32>,
    /// Devices that may be in flight at once during it.
    pub max_unavailable: Option<Size>,
    /// Whether somebody must approve before it begins.
    pub approval: bool,
}

impl PhaseSpec {
    /// A phase that asks for nothing beyond what its rollout asks for.
    pub fn new(size: Size, soak_s: u64) -> Self {
        Self {
            size,
            soak_s,
            reporters_min: 0,
            success_percent_min: None,
            failures_max: None,
            max_unavailable: None,
            approval: false,
        }
    }
}

/// Who belongs to a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// Whoever the selector matches now. Who comes later enters in the last phase.
    #[default]
    Dynamic,
    /// Whoever it matched at the start, whatever becomes of their labels.
    Snapshot,
}

/// What becomes of the devices in flight when a rollout is aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnAbort {
    /// They go back to what they ran before.
    #[default]
    Revert,
    /// They go on by their own judgement, and keep the release if it passes.
    Keep,
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
    /// For which devices.
    pub selector: Selector,
    /// Who belongs to it.
    pub membership: Membership,
    /// The devices of the first phase by name; empty: as its size says.
    pub canary: Vec<DeviceId>,
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
    /// Seconds after an order within which a device must be done; 0: no such time. One that is
    /// held and set aside may take longer.
    pub deadline_s: u64,
    /// How often a device that failed is tried again.
    pub retry: Option<Retry>,
    /// Devices offered the release in a minute, at most.
    pub rate: Option<Rate>,
    /// When devices may be offered it.
    pub schedule: Schedule,
    /// Bytes that may be fetched.
    pub budget: Budget,
    /// Whether somebody must approve before anything moves.
    pub approval: bool,
    /// Goes before rollouts of a lower one where both want a device.
    pub priority: i16,
    /// What becomes of devices in flight when it is aborted.
    pub on_abort: OnAbort,
}

/// What stops when a release turns out bad on a class of hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        let phases =
            vec![PhaseSpec::new(Size::Count(1), 600), PhaseSpec::new(Size::Percent(10), 600)];
        Self {
            model,
            release,
            version,
            selector,
            membership: Membership::default(),
            canary: Vec::new(),
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
            deadline_s: 0,
            retry: None,
            rate: None,
            schedule: Schedule::default(),
            budget: Budget::default(),
            approval: false,
            priority: 0,
            on_abort: OnAbort::default(),
        }
    }

    /// Checks the bounds, makes the first phase as large as the list of canaries, and adds the
    /// last phase if it is missing.
    ///
    /// # Errors
    /// [`SpecError`] names what makes no sense.
    pub fn checked(mut self) -> Result<Self, SpecError> {
        self.settle_canary()?;
        self.check_phases()?;
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
        if self.rate.is_some_and(|rate| !rate.is_sane()) {
            return Err(SpecError::Rate);
        }
        if self.retry.as_ref().is_some_and(|retry| !retry.is_sane()) {
            return Err(SpecError::Retry);
        }
        check_schedule(&self.schedule)?;
        if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&self.priority) {
            return Err(SpecError::Priority(self.priority));
        }
        if self.phases.last().is_none_or(|p| p.size != Size::Percent(100)) {
            self.phases.push(PhaseSpec::new(Size::Percent(100), 0));
        }
        let of = self.phases.len();
        match self.gates_in.last_key_value().map(|(phase, _)| *phase as usize + 1) {
            _ if of > PHASES_MAX => Err(SpecError::Phases(of)),
            Some(phase) if phase > of => Err(SpecError::GatePhase { phase, of }),
            _ => Ok(self),
        }
    }

    /// The gates of phase `phase` (from 0).
    pub fn gates_of(&self, phase: u32) -> &[GateSpec] {
        self.gates_in.get(&phase).unwrap_or(&self.gates)
    }

    /// Named canaries are the first phase, all of them and nobody else.
    fn settle_canary(&mut self) -> Result<(), SpecError> {
        self.canary.sort();
        self.canary.dedup();
        if self.canary.len() > CANARIES_MAX {
            return Err(SpecError::Canaries(self.canary.len()));
        }
        let size = Size::Count(self.canary.len() as u32);
        match self.phases.first_mut() {
            _ if self.canary.is_empty() => {}
            Some(first) => first.size = size,
            None => self.phases.push(PhaseSpec::new(size, 0)),
        }
        Ok(())
    }

    fn check_phases(&self) -> Result<(), SpecError> {
        for (at, phase) in self.phases.iter().enumerate() {
            if !phase.size.is_sane() {
                return Err(SpecError::Phase { phase: at + 1 });
            }
            if phase.max_unavailable.is_some_and(|size| !size.is_sane()) {
                return Err(SpecError::MaxUnavailable);
            }
            if let Some(share) = phase.success_percent_min.filter(|p| !(1..=100).contains(p)) {
                return Err(SpecError::Success(share));
            }
            if let Size::Count(size) = phase.size
                && phase.reporters_min > size
            {
                let (reporters, size) = (phase.reporters_min, size as usize);
                return Err(SpecError::Reporters { phase: at + 1, reporters, size });
            }
        }
        let shrinks = |pair: &[PhaseSpec]| match (pair[0].size, pair[1].size) {
            (Size::Count(a), Size::Count(b)) => b < a,
            (Size::Percent(a), Size::Percent(b)) => b < a,
            _ => false,
        };
        match self.phases.windows(2).position(shrinks) {
            Some(at) => Err(SpecError::Shrinks { phase: at + 2 }),
            None => Ok(()),
        }
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

    /// Devices that may be in flight at once in phase `phase` (from 0), of `total`.
    pub fn unavailable_bound(&self, phase: usize, total: usize) -> usize {
        let of_phase = self.phases.get(phase).and_then(|p| p.max_unavailable);
        of_phase.unwrap_or(self.max_unavailable).bound_of(total)
    }

    /// Share of the offered devices that must have confirmed in phase `phase` (from 0), percent.
    pub fn success_of(&self, phase: usize) -> usize {
        let of_phase = self.phases.get(phase).and_then(|p| p.success_percent_min);
        of_phase.unwrap_or(self.success_percent_min).into()
    }

    /// Whether somebody must approve before phase `phase` (from 0) begins.
    pub fn wants_approval(&self, phase: usize) -> bool {
        phase == 0 && self.approval || self.phases.get(phase).is_some_and(|p| p.approval)
    }
}

fn check_schedule(schedule: &Schedule) -> Result<(), SpecError> {
    if let (Some(from_s), Some(to_s)) = (schedule.not_before_s, schedule.not_after_s)
        && to_s <= from_s
    {
        return Err(SpecError::Schedule);
    }
    if schedule.windows.len() > WINDOWS_MAX {
        return Err(SpecError::Windows(schedule.windows.len()));
    }
    for (at, window) in schedule.windows.iter().enumerate() {
        if !window.window.is_sane() {
            return Err(SpecError::LocalWindow(at + 1));
        }
        if !calendar::is_zone(&window.zone) {
            return Err(SpecError::Zone { window: at + 1, zone: window.zone.clone() });
        }
    }
    Ok(())
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
