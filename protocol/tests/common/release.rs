//! Releases whose number says what they are and how they behave, and orders for them, so that
//! a failing run can be read.

use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::order::{Action, ModelOrder, Terms};
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
}

pub(crate) fn nature(release: Release) -> Nature {
    match release {
        4 => Nature::GoldenFails,
        5 => Nature::Unhealthy,
        6 => Nature::Crashes,
        7 => Nature::WillNotLoad,
        8 => Nature::NeverVerifies,
        9 => Nature::Untrusted,
        _ => Nature::Good,
    }
}

/// A release whose policy tolerates no crash.
pub(crate) const FRAGILE: Release = 13;

pub(crate) fn digest(release: Release) -> Digest {
    Digest([release; 32])
}

/// One step back stays possible, as by default.
pub(crate) fn facts(release: Release) -> ReleaseFacts {
    ReleaseFacts {
        digest: digest(release),
        counter: u64::from(release),
        min_release: u64::from(release.saturating_sub(1)),
        variant: VariantKind::Qnn,
        crashes_max: if release == FRAGILE { 0 } else { TRIAL_TRIES_MAX - 1 },
    }
}

pub(crate) fn order(action: Action, release: Release, rollout: u64) -> ModelOrder {
    ModelOrder {
        model: ModelName::new("digits").expect("name"),
        release: digest(release),
        variant: VariantKind::Qnn,
        action,
        rollout,
        terms: Terms::default(),
    }
}

pub(crate) fn run(release: Release, rollout: u64) -> ModelOrder {
    order(Action::Run, release, rollout)
}
