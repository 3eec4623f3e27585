//! What healthy means for one model: the bounds that travel in its signed manifest.
//!
//! The release authority sets them, with the model; an order can only add to them
//! ([`crate::order::Terms`]), so that whoever has the director's key cannot make a device keep
//! a release that its author would call bad.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Malformed, Reader};
use crate::counters::Scores;
use crate::drift::{BINS, REFERENCE_SAMPLES_MIN, Reference, ReferenceView};
use crate::limits::TRIAL_TRIES_MAX;
use crate::order::Terms;

/// Thousandths in a whole.
pub const WHOLE_PERMILLE: u16 = 1000;
/// The lowest PSI bound, in thousandths: the field's "stable" ends there, and chance begins.
pub const PSI_MILLI_MIN: u16 = 100;

/// What a release's manifest says of its health.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    /// The bounds.
    pub policy: HealthPolicy,
    /// What its scores are, if its first output is one vector of them.
    pub scores: Option<Scores>,
    /// What it looks like when it is well.
    pub reference: Reference,
}

/// [`Health`] where it was read.
#[derive(Clone, Copy, Debug)]
pub struct HealthView<'a> {
    /// As [`Health::policy`].
    pub policy: HealthPolicy,
    /// As [`Health::scores`].
    pub scores: Option<Scores>,
    /// As [`Health::reference`].
    pub reference: ReferenceView<'a>,
}

impl<'a> Decode<'a> for HealthView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { policy: reader.take()?, scores: reader.take()?, reference: reader.take()? })
    }
}

impl From<HealthView<'_>> for Health {
    fn from(view: HealthView<'_>) -> Self {
        Self { policy: view.policy, scores: view.scores, reference: view.reference.into() }
    }
}

/// When a release in its probation is healthy. A bound says beside it how it is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// Answers below which nothing is judged: one slow answer is no trend. At least 1.
    pub samples_min: u32,
    /// Answers older than this do not count, seconds. At least 1.
    pub window_s: u32,
    /// Shortest probation, whatever an order says, seconds.
    pub probation_s_min: u32,
    /// What too little evidence means.
    pub inconclusive: Inconclusive,
    /// Failed answers per thousand that are tolerated. 1000: off.
    pub error_permille_max: u16,
    /// 95th percentile of the latency that is tolerated, microseconds. 0: off.
    pub p95_us_max: u32,
    /// The same as a percentage of what the release before had on this device; where nothing is
    /// known of that, it is not judged. 0: off.
    pub p95_percent_max: u16,
    /// Share of the most frequent class per thousand that is tolerated. 1000: off.
    pub collapse_permille_max: u16,
    /// Population stability index against the reference that is tolerated, in thousandths. 0: off.
    pub psi_milli_max: u16,
    /// Difference of the mean confidence from the reference's that is tolerated, in
    /// thousandths. 1000: off.
    pub confidence_permille_max: u16,
    /// Resident memory of the process that is tolerated, MiB. 0: off.
    pub memory_mib_max: u32,
    /// Memory that may be added in the probation, MiB. 0: off.
    pub memory_growth_mib_max: u32,
    /// Ungraceful ends in the trial that are tolerated; one more poisons.
    pub crashes_max: u8,
}

/// What it means that a probation's time is over and its evidence is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inconclusive {
    /// Goes on waiting, for ever if need be: unknown is never healthy.
    Wait,
    /// The release is kept after so many seconds, for a model that is hardly ever asked.
    Confirm {
        /// Since the probation began, seconds.
        after_s: u32,
    },
    /// The device goes back after so many seconds.
    RollBack {
        /// Since the probation began, seconds.
        after_s: u32,
    },
}

impl Default for HealthPolicy {
    /// 2 % errors, no class above 95 %; a PSI of 0.1 and 0.15 in confidence where there is a
    /// reference; 256 MiB of growth; the third crash poisons; evidence is waited for.
    fn default() -> Self {
        Self {
            samples_min: 20,
            window_s: 3600,
            probation_s_min: 0,
            inconclusive: Inconclusive::Wait,
            error_permille_max: 20,
            p95_us_max: 0,
            p95_percent_max: 0,
            collapse_permille_max: 950,
            psi_milli_max: PSI_MILLI_MIN,
            confidence_permille_max: 150,
            memory_mib_max: 0,
            memory_growth_mib_max: 256,
            crashes_max: TRIAL_TRIES_MAX - 1,
        }
    }
}

impl HealthPolicy {
    /// The policy with what an order adds: of two bounds the tighter one.
    #[must_use]
    pub fn tightened(self, terms: &Terms) -> Self {
        let or_off = |a: u32, b: u32| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
        Self {
            error_permille_max: self.error_permille_max.min(terms.error_permille_max),
            p95_us_max: or_off(self.p95_us_max, terms.p95_us_max),
            collapse_permille_max: self.collapse_permille_max.min(terms.collapse_permille_max),
            probation_s_min: self.probation_s_min.max(terms.probation_s),
            ..self
        }
    }
}

/// A policy or a reference that breaks a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// A number outside what it may be.
    #[error("`{what}` is {got}; allowed are {min} to {max}")]
    Range {
        /// Name of the field.
        what: &'static str,
        /// As given.
        got: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// A PSI bound below what chance alone reaches.
    #[error("`psi_milli_max` is {0}; use 0 for off, or at least {PSI_MILLI_MIN}")]
    Psi(u16),
    /// Bins that do not rise, or are no numbers.
    #[error("the edges of watched number {0} do not rise")]
    Edges(usize),
    /// Too few reference samples, or more than counters hold.
    #[error(
        "the reference has {0} samples where {REFERENCE_SAMPLES_MIN} to {max} are needed",
        max = u16::MAX
    )]
    Samples(u32),
}

impl HealthView<'_> {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`HealthError`] names the bound that is broken.
    #[inline(never)]
    pub(crate) fn check(&self) -> Result<(), HealthError> {
        self.policy.check()?;
        for (at, watched) in self.reference.watched.iter().enumerate() {
            let [first, .., last] = watched.edges;
            let rise = watched.edges.is_sorted();
            if !(rise && first.is_finite() && last.is_finite()) {
                return Err(HealthError::Edges(at));
            }
            const { assert!(BINS > 2) };
            check_samples(watched.counts.iter().copied())?;
        }
        if self.reference.classes.is_empty() {
            return Ok(());
        }
        check_samples(self.reference.classes.iter())
    }
}

fn check_samples(counts: impl Iterator<Item = u16>) -> Result<(), HealthError> {
    let sum: u32 = counts.map(u32::from).sum();
    let is_sane = (REFERENCE_SAMPLES_MIN..=u16::MAX.into()).contains(&sum);
    if is_sane { Ok(()) } else { Err(HealthError::Samples(sum)) }
}

impl HealthPolicy {
    fn check(&self) -> Result<(), HealthError> {
        let whole = u32::from(WHOLE_PERMILLE);
        let crashes = u32::from(TRIAL_TRIES_MAX - 1);
        for (what, got, min, max) in [
            ("samples_min", self.samples_min, 1, u32::MAX),
            ("window_s", self.window_s, 1, u32::MAX),
            ("error_permille_max", self.error_permille_max.into(), 0, whole),
            ("collapse_permille_max", self.collapse_permille_max.into(), 0, whole),
            ("confidence_permille_max", self.confidence_permille_max.into(), 0, whole),
            ("crashes_max", self.crashes_max.into(), 0, crashes),
        ] {
            if !(min..=max).contains(&got) {
                return Err(HealthError::Range { what, got, min, max });
            }
        }
        match self.psi_milli_max {
            0 | PSI_MILLI_MIN.. => Ok(()),
            low => Err(HealthError::Psi(low)),
        }
    }
}
