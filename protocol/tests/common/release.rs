//! Releases whose number says what they are and how they behave, and orders for them, so that
//! a failing run can be read.

use fleetway_protocol::hold::{Condition, Conditions, Facts, Hold};
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, ModelOrder, Terms};
use fleetway_protocol::shadow::ShadowPolicy;
use fleetway_protocol::slot::ReleaseFacts;

/// A release: its number is its counter and every byte of its digest.
pub(crate) type Release = u8;

/// How a release behaves; the number says it, so that a failing run can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    GoldenFails,
    Unhealthy,
    /// The device dies of it whenever it serves on trial.
    Crashes,
    WillNotLoad,
    NeverVerifies,
    Untrusted,
    /// In the shadow it answers otherwise than what serves.
    Disagrees,
}

pub(crate) fn nature(release: Release) -> Nature {
    match release {
        4 => Nature::GoldenFails,
        5 => Nature::Unhealthy,
        6 => Nature::Crashes,
        7 => Nature::WillNotLoad,
        8 => Nature::NeverVerifies,
        9 => Nature::Untrusted,
        14 => Nature::Disagrees,
        _ => Nature::Good,
    }
}

/// A release whose policy tolerates no crash.
pub(crate) const FRAGILE: Release = 15;

pub(crate) fn digest(release: Release) -> Digest {
    Digest([release; 32])
}

/// One step back stays possible, as by default; the ones with a shadow or a hold, and
/// the fragile one, stand beside the others and put none of them below the floor.
pub(crate) fn facts(release: Release) -> ReleaseFacts {
    ReleaseFacts {
        digest: digest(release),
        counter: u64::from(release),
        min_release: match release {
            11..=15 => 1,
            release => u64::from(release.saturating_sub(1)),
        },
        variant: VariantKind::Qnn,
        crashes_max: if release == FRAGILE { 0 } else { TRIAL_TRIES_MAX - 1 },
    }
}

/// Releases 11 to 14 are ordered with a hold, a shadow, or both.
pub(crate) fn terms(release: Release) -> Terms {
    let shadow = matches!(release, 12..=14).then(ShadowPolicy::default);
    let held = matches!(release, 11 | 13);
    Terms { shadow, hold: if held { HOLD } else { Hold::default() }, ..Terms::default() }
}

/// Mains power for the download; no lock, and mains power still, for the activation.
pub(crate) const HOLD: Hold = Hold {
    download: Conditions::NONE.with(Condition::Mains),
    activation: Conditions::NONE.with(Condition::Unlocked).with(Condition::Mains),
    idle_s: 0,
    window: fleetway_protocol::hold::Window { days: 0, from_min: 0, to_min: 0 },
    s_max: 0,
};

/// Nothing keeps an update back.
pub(crate) const GOOD: Facts = Facts {
    unix_s: 1_800_000_000,
    time_known: true,
    locked: false,
    idle_s: 60,
    mains: true,
    unmetered: true,
};

pub(crate) fn order(action: Action, release: Release, rollout: u64) -> ModelOrder {
    ModelOrder {
        model: ModelName::new("digits").expect("name"),
        release: digest(release),
        action,
        rollout,
        terms: terms(release),
    }
}

pub(crate) fn run(release: Release, rollout: u64) -> ModelOrder {
    order(Action::Run, release, rollout)
}
