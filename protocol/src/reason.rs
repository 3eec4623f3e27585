//! Reasons: numbered where they cross the wire, one sentence for a person each.
//!
//! The number is the position in the enum (postcard writes that); entries are only ever
//! added at the end. `codes_are_pinned` below holds them down.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Why something was refused, undone, or has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// The self-test's answers differ from the golden vectors.
    Golden,
    /// The validator or the engine would not take the model.
    LoadFailed,
    /// The self-test's process died.
    SelfTestCrashed,
    /// The self-test did not end by its deadline.
    SelfTestTimeout,
    /// The self-test asked for more memory than it may have.
    SelfTestMemory,
    /// Too many failed answers in probation.
    HealthErrors,
    /// Answers too slow in probation.
    HealthLatency,
    /// Answers collapsed to one class in probation.
    HealthCollapse,
    /// The device ended three times without warning in this release's trial.
    Interrupted,
    /// The stored bytes do not match what was signed, however often they were fetched.
    Verification,
    /// The release's counter is below the device's floor.
    BelowFloor,
    /// The device remembers this release as bad.
    Poisoned,
    /// The release comes in no form that the device runs.
    NoVariant,
    /// A rollback names a release that is not on the device.
    NotOnDevice,
    /// The manifest's signature does not hold, or it is for another model.
    Untrusted,
    /// No bytes arrive. Waits and goes on by itself.
    Network,
    /// No room on the disk. Waits and goes on by itself.
    DiskFull,
    /// The disk failed otherwise. Waits and tries again.
    DiskError,
    /// The self-test could not be started (no memory, no process). Waits and tries again.
    Environment,
    /// A newer order took its place before it was done.
    Superseded,
    /// The engine would not load in the agent although the self-test passed.
    ActivationFailed,
    /// The slot's bytes no longer match what was signed: storage rot, found at boot.
    Corrupt,
    /// The order was signed for a time that has passed.
    Expired,
    /// The device already acted on a newer order.
    Stale,
    /// The release authority does not list the release, or lists another under its name.
    NotReleased,
    /// The release authority's metadata is past its time.
    MetadataExpired,
    /// The release authority's metadata or keyset has not arrived, or does not verify.
    MetadataMissing,
    /// In the self-test the model reached for a file, a program or the network.
    SelfTestForbidden,
    /// The device cannot fence the self-test in as its policy requires; the model was not tried.
    SandboxTooWeak,
    /// The release is for other hardware.
    WrongHardware,
    /// What came in or went out in probation is not what the release was made for.
    HealthDrift,
    /// The confidence of the answers in probation is not that of the reference.
    HealthConfidence,
    /// The process held too much memory in probation, or grew too much.
    HealthMemory,
    /// Too little evidence in probation, and the release's policy says to go back.
    HealthInconclusive,
    /// A run in probation did not come back by its deadline, and goes on.
    HealthHang,
    /// The device's own check said no in probation.
    HealthVeto,
    /// An application holds a lock on the model. Goes on when it is released or ends.
    HeldByApplication,
    /// Applications ask. Goes on when they have been quiet for a while.
    HeldUntilIdle,
    /// The device is not on mains power. Goes on when it is.
    HeldForMains,
    /// The link is paid by the byte. Goes on when it is not.
    HeldForUnmetered,
    /// It is not the time for it. Goes on when it is.
    HeldForWindow,
    /// In the shadow its answers were others than those of what serves.
    ShadowDisagrees,
    /// In the shadow it was too slow beside what serves.
    ShadowSlow,
    /// In the shadow it failed, crashed or hung.
    ShadowErrors,
    /// There were too few requests to judge it in the shadow.
    ShadowInconclusive,
    /// It takes or gives other tensors than what serves: nothing to compare.
    ShadowInterface,
}

impl Reason {
    /// Whether it says something about the release itself, so that the release is
    /// poisoned at once. Network, disk and the environment never do.
    pub fn is_verdict(self) -> bool {
        matches!(
            self,
            Self::Golden
                | Self::LoadFailed
                | Self::SelfTestCrashed
                | Self::SelfTestTimeout
                | Self::SelfTestMemory
                | Self::SelfTestForbidden
                | Self::HealthErrors
                | Self::HealthLatency
                | Self::HealthCollapse
                | Self::HealthDrift
                | Self::HealthConfidence
                | Self::HealthMemory
                | Self::HealthInconclusive
                | Self::HealthHang
                | Self::HealthVeto
                | Self::Interrupted
                | Self::Verification
                | Self::ActivationFailed
                | Self::ShadowDisagrees
                | Self::ShadowSlow
                | Self::ShadowErrors
        )
    }

    /// Whether it passes by itself: the step waits and is tried again, and nobody is blamed.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Network | Self::DiskFull | Self::DiskError | Self::Environment)
    }

    /// Stable upper-case name for logs, JSON and dashboards.
    pub fn code(self) -> &'static str {
        match self {
            Self::Golden => "GOLDEN",
            Self::LoadFailed => "LOAD_FAILED",
            Self::SelfTestCrashed => "SELF_TEST_CRASHED",
            Self::SelfTestTimeout => "SELF_TEST_TIMEOUT",
            Self::SelfTestMemory => "SELF_TEST_MEMORY",
            Self::HealthErrors => "HEALTH_ERRORS",
            Self::HealthLatency => "HEALTH_LATENCY",
            Self::HealthCollapse => "HEALTH_COLLAPSE",
            Self::Interrupted => "INTERRUPTED",
            Self::Verification => "VERIFICATION",
            Self::BelowFloor => "BELOW_FLOOR",
            Self::Poisoned => "POISONED",
            Self::NoVariant => "NO_VARIANT",
            Self::NotOnDevice => "NOT_ON_DEVICE",
            Self::Untrusted => "UNTRUSTED",
            Self::Network => "NETWORK",
            Self::DiskFull => "DISK_FULL",
            Self::DiskError => "DISK_ERROR",
            Self::Environment => "ENVIRONMENT",
            Self::Superseded => "SUPERSEDED",
            Self::ActivationFailed => "ACTIVATION_FAILED",
            Self::Corrupt => "CORRUPT",
            Self::Expired => "EXPIRED",
            Self::Stale => "STALE",
            Self::NotReleased => "NOT_RELEASED",
            Self::MetadataExpired => "METADATA_EXPIRED",
            Self::MetadataMissing => "METADATA_MISSING",
            Self::SelfTestForbidden => "SELF_TEST_FORBIDDEN",
            Self::SandboxTooWeak => "SANDBOX_TOO_WEAK",
            Self::WrongHardware => "WRONG_HARDWARE",
            Self::HealthDrift => "HEALTH_DRIFT",
            Self::HealthConfidence => "HEALTH_CONFIDENCE",
            Self::HealthMemory => "HEALTH_MEMORY",
            Self::HealthInconclusive => "HEALTH_INCONCLUSIVE",
            Self::HealthHang => "HEALTH_HANG",
            Self::HealthVeto => "HEALTH_VETO",
            Self::HeldByApplication => "HELD_BY_APPLICATION",
            Self::HeldUntilIdle => "HELD_UNTIL_IDLE",
            Self::HeldForMains => "HELD_FOR_MAINS",
            Self::HeldForUnmetered => "HELD_FOR_UNMETERED",
            Self::HeldForWindow => "HELD_FOR_WINDOW",
            Self::ShadowDisagrees => "SHADOW_DISAGREES",
            Self::ShadowSlow => "SHADOW_SLOW",
            Self::ShadowErrors => "SHADOW_ERRORS",
            Self::ShadowInconclusive => "SHADOW_INCONCLUSIVE",
            Self::ShadowInterface => "SHADOW_INTERFACE",
        }
    }
}

impl fmt::Display for Reason {
    /// One sentence, what happened and what can be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Golden => "its answers differ from the golden vectors; import a corrected release",
            Self::LoadFailed => "the engine does not take the model; check it with `fleetway model import`",
            Self::SelfTestCrashed => "the self-test crashed on it; import a corrected release",
            Self::SelfTestTimeout => "the self-test did not end by its deadline; a faster model or a longer deadline is needed",
            Self::SelfTestMemory => "the self-test ran out of its memory; a smaller model or a larger bound is needed",
            Self::HealthErrors => "too many answers failed in probation",
            Self::HealthLatency => "answers were too slow in probation",
            Self::HealthCollapse => "answers collapsed to one class in probation",
            Self::Interrupted => "the device ended three times without warning while trying it",
            Self::Verification => "the stored bytes do not match what was signed, however often they are fetched",
            Self::BelowFloor => "it is older than the device's version floor; publish the bytes under a new counter",
            Self::Poisoned => "the device remembers it as bad; publish the bytes under a new counter to try again",
            Self::NoVariant => "it comes in no form that this device runs",
            Self::NotOnDevice => "the release to go back to is not on the device; use run, not rollback",
            Self::Untrusted => "its manifest is not signed by this fleet's release authority, or is for another model",
            Self::Network => "no bytes arrive; goes on by itself when the link is back",
            Self::DiskFull => "no room on the disk; goes on by itself when there is",
            Self::DiskError => "the disk failed; trying again",
            Self::Environment => "the self-test could not be started; trying again",
            Self::Superseded => "a newer order took its place",
            Self::ActivationFailed => "the engine did not load although the self-test passed",
            Self::Corrupt => "the stored bytes rotted; they are fetched again",
            Self::Expired => "the order is past its time; the controller must renew it",
            Self::Stale => "the device already acted on a newer order",
            Self::NotReleased => "the release authority does not list it; publish it with `fleetway trust publish`",
            Self::MetadataExpired => "the release authority's metadata is past its time; sign it again with `fleetway trust sign`",
            Self::MetadataMissing => "the release authority's metadata has not arrived; `fleetway trust publish` sends it again",
            Self::SelfTestForbidden => "in the self-test it reached for a file, a program or the network; find out who made it",
            Self::SandboxTooWeak => "this device cannot fence the self-test in as `[sandbox] require` in its agent.toml asks; use a newer kernel, or require less",
            Self::WrongHardware => "it is for other hardware than `hardware` in this device's agent.toml says",
            Self::HealthDrift => "what it met or answered in probation is not what it was made for; check the inputs' scale and source",
            Self::HealthConfidence => "its confidence in probation is not what it was at import",
            Self::HealthMemory => "the process held too much memory in probation",
            Self::HealthInconclusive => "too few answers in probation to judge it, and its policy says to go back then",
            Self::HealthHang => "a request in probation was never answered, and its run still went on",
            Self::HealthVeto => "the check that this device's agent.toml names said no in probation",
            Self::HeldByApplication => "an application holds a lock on the model; goes on when it is released",
            Self::HeldUntilIdle => "applications ask; goes on when they have been quiet for a while",
            Self::HeldForMains => "not on mains power; goes on when the device is",
            Self::HeldForUnmetered => "the link is metered; goes on when it is not",
            Self::HeldForWindow => "outside its time window, or the device does not know the time; goes on in the window",
            Self::ShadowDisagrees => "in the shadow its answers differ from those of what serves; if they shall, publish it under a new counter and roll out without a shadow",
            Self::ShadowSlow => "in the shadow it was too slow beside what serves",
            Self::ShadowErrors => "in the shadow it failed, crashed or hung; import a corrected release",
            Self::ShadowInconclusive => "too few requests to judge it in the shadow; ask for fewer answers, a larger share or more time",
            Self::ShadowInterface => "it takes or gives other tensors than what serves, so that a shadow has nothing to compare; roll out without one",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pinned() {
        let number = |reason: Reason| {
            let mut buf = [0; 4];
            postcard::to_slice(&reason, &mut buf).map(|b| b[0])
        };
        assert_eq!(number(Reason::Golden), Ok(0));
        assert_eq!(number(Reason::HealthCollapse), Ok(7));
        assert_eq!(number(Reason::Interrupted), Ok(8));
        assert_eq!(number(Reason::Network), Ok(15));
        assert_eq!(number(Reason::Superseded), Ok(19));
        assert_eq!(number(Reason::Stale), Ok(23));
        assert_eq!(number(Reason::MetadataMissing), Ok(26));
        assert_eq!(number(Reason::SelfTestForbidden), Ok(27));
        assert_eq!(number(Reason::SandboxTooWeak), Ok(28));
        assert_eq!(number(Reason::WrongHardware), Ok(29));
        assert_eq!(number(Reason::HealthDrift), Ok(30));
        assert_eq!(number(Reason::HealthConfidence), Ok(31));
        assert_eq!(number(Reason::HealthMemory), Ok(32));
        assert_eq!(number(Reason::HealthInconclusive), Ok(33));
        assert_eq!(number(Reason::HealthHang), Ok(34));
        assert_eq!(number(Reason::HealthVeto), Ok(35));
        assert_eq!(number(Reason::HeldByApplication), Ok(36));
        assert_eq!(number(Reason::HeldForWindow), Ok(40));
        assert_eq!(number(Reason::ShadowDisagrees), Ok(41));
        assert_eq!(number(Reason::ShadowInterface), Ok(45));
    }
}
