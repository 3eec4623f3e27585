//! Every reason at every step of an upgrade: a fault that passes is waited for and blames
//! nobody, a verdict ends the upgrade and is remembered, and the old release serves on. A
//! new reason belongs into the lists here.

use fleetway_protocol::limits::{STEP_RETRY_MS, STEP_RETRY_MS_MAX, VERIFY_RETRIES_MAX};
use fleetway_protocol::machine::{Event, Phase};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Place, SlotId, SlotState};

use crate::common::Device;
use crate::common::release::{digest, facts, run};
use crate::common::text::{command_text, summary};
use crate::script::{act, v1};

/// Every reason there is.
pub(crate) const REASONS: [Reason; 44] = [
    Reason::Golden,
    Reason::LoadFailed,
    Reason::SelfTestCrashed,
    Reason::SelfTestTimeout,
    Reason::SelfTestMemory,
    Reason::HealthErrors,
    Reason::HealthLatency,
    Reason::HealthCollapse,
    Reason::Interrupted,
    Reason::Verification,
    Reason::BelowFloor,
    Reason::Poisoned,
    Reason::NoVariant,
    Reason::NotOnDevice,
    Reason::Untrusted,
    Reason::Network,
    Reason::DiskFull,
    Reason::DiskError,
    Reason::Environment,
    Reason::Superseded,
    Reason::ActivationFailed,
    Reason::Corrupt,
    Reason::Expired,
    Reason::Stale,
    Reason::NotReleased,
    Reason::MetadataExpired,
    Reason::MetadataMissing,
    Reason::SelfTestForbidden,
    Reason::SandboxTooWeak,
    Reason::WrongHardware,
    Reason::HealthDrift,
    Reason::HealthConfidence,
    Reason::HealthMemory,
    Reason::HealthInconclusive,
    Reason::HeldByApplication,
    Reason::HeldUntilIdle,
    Reason::HeldForMains,
    Reason::HeldForUnmetered,
    Reason::HeldForWindow,
    Reason::ShadowDisagrees,
    Reason::ShadowSlow,
    Reason::ShadowErrors,
    Reason::ShadowInconclusive,
    Reason::ShadowInterface,
];

/// Those that say something about the release: design, P5.
const VERDICTS: [Reason; 19] = [
    Reason::Golden,
    Reason::LoadFailed,
    Reason::SelfTestCrashed,
    Reason::SelfTestTimeout,
    Reason::SelfTestMemory,
    Reason::SelfTestForbidden,
    Reason::HealthErrors,
    Reason::HealthLatency,
    Reason::HealthCollapse,
    Reason::HealthDrift,
    Reason::HealthConfidence,
    Reason::HealthMemory,
    Reason::HealthInconclusive,
    Reason::Interrupted,
    Reason::Verification,
    Reason::ActivationFailed,
    Reason::ShadowDisagrees,
    Reason::ShadowSlow,
    Reason::ShadowErrors,
];

/// Those that pass by themselves.
const PASSING: [Reason; 4] =
    [Reason::Network, Reason::DiskFull, Reason::DiskError, Reason::Environment];

/// A step of an upgrade, to release 2 or through the shadow to 12, by the command that it waits
/// for.
const STEPS: [&str; 12] = [
    "admit",
    "persist",
    "erase b",
    "persist",
    "fetch b",
    "verify b",
    "persist",
    "test b",
    "persist",
    "activate b",
    "healthy",
    "persist",
];

const SHADOW_STEPS: [&str; 13] = [
    "admit",
    "persist",
    "erase b",
    "persist",
    "fetch b",
    "verify b",
    "persist",
    "test b",
    "shadow b",
    "persist",
    "activate b",
    "healthy",
    "persist",
];

/// An upgrade: its steps, and the release that it is to.
#[derive(Clone, Copy)]
struct Upgrade(&'static [&'static str], u8);

const UPGRADES: [Upgrade; 2] = [Upgrade(&STEPS, 2), Upgrade(&SHADOW_STEPS, 12)];

/// The device at step `at` of the upgrade.
fn at_step(Upgrade(steps, release): Upgrade, at: usize) -> Device {
    let mut device = v1();
    device.give(run(release, 10));
    for step in &steps[..at] {
        match *step {
            "healthy" => act(&mut device, "healthy"),
            _ => act(&mut device, "ok"),
        }
    }
    let now = device.pending.map(command_text);
    assert_eq!(now.as_deref().unwrap_or("healthy"), steps[at]);
    device.issued.clear();
    device
}

/// How an upgrade ends whose step `at` fails with `reason`, always; `None`: it waits.
fn expected(step: &str, reason: Reason) -> Option<Ending> {
    let passes = PASSING.contains(&reason);
    match step {
        "persist" | "erase b" => None,
        "healthy" => Some(Ending::RolledBack(reason)),
        _ if passes => None,
        "activate b" if reason == Reason::Corrupt => Some(Ending::RolledBack(reason)),
        "activate b" => Some(Ending::RolledBack(Reason::ActivationFailed)),
        _ => Some(Ending::Failed(reason)),
    }
}

/// What is remembered of the release then.
fn expected_poison(step: &str, ending: Ending) -> Option<Reason> {
    let (Ending::Failed(reason) | Ending::RolledBack(reason)) = ending else { return None };
    // Admission says nothing about the bytes.
    (step != "admit" && VERDICTS.contains(&reason)).then_some(reason)
}

#[test]
fn every_reason_at_every_step() {
    for upgrade in UPGRADES {
        for (at, step) in upgrade.0.iter().enumerate() {
            for reason in REASONS {
                let mut device = at_step(upgrade, at);
                let label = format!("release {}, step {at} ({step}), {reason:?}", upgrade.1);
                match expected(step, reason) {
                    None => waits_and_goes_on(&mut device, upgrade.1, reason, &label),
                    Some(ending) => fails(&mut device, (step, upgrade.1), reason, ending, &label),
                }
            }
        }
    }
}

/// The same command again, ever later, until it works; nobody is blamed.
fn waits_and_goes_on(device: &mut Device, release: u8, reason: Reason, label: &str) {
    let command = device.pending.map(command_text);
    let mut pause_ms = STEP_RETRY_MS;
    for _ in 0..8 {
        device.answer(Err(reason));
        assert_eq!(device.machine.waiting(), Some(reason), "{label}");
        assert_eq!(device.pending, None, "{label}");
        let at_ms = device.machine.poll_timeout();
        assert_eq!(at_ms, Some(device.now_ms + pause_ms), "{label}");
        act(device, "early");
        assert_eq!(device.pending, None, "{label}: too early");
        act(device, "tick");
        assert_eq!(device.pending.map(command_text), command, "{label}");
        pause_ms = (2 * pause_ms).min(STEP_RETRY_MS_MAX);
    }
    device.answer(Ok(()));
    assert_eq!(device.machine.waiting(), None, "{label}");
    device.settle(&mut |_| None).unwrap_or_else(|e| panic!("{label}: {e}"));
    assert_eq!(
        summary(&device.durable),
        format!(
            "a=1:confirmed b={release}:confirmed* floor={} last={release}:Confirmed@10",
            facts(release).min_release
        ),
        "{label}"
    );
}

fn fails(
    device: &mut Device,
    (step, release): (&str, u8),
    reason: Reason,
    ending: Ending,
    label: &str,
) {
    let command = device.pending.map(command_text);
    let mut tries = 0;
    for _ in 0..60 {
        if device.machine.probation().is_some() && command.is_none() {
            tries += 1;
            let (token, ..) = device.machine.probation().expect("a probation");
            device.send(Event::Health(token, Err(reason.into())));
        } else if device.pending.is_some() && device.pending.map(command_text) == command {
            tries += 1;
            device.answer(Err(reason));
        } else if !device.step() {
            break;
        }
        assert_eq!(device.broken, None, "{label}");
    }
    let refetches = matches!(step, "fetch b" | "verify b");
    let allowed = 1 + if refetches { u32::from(VERIFY_RETRIES_MAX) } else { 0 };
    assert_eq!(tries, allowed, "{label}");
    let table = &device.durable;
    assert_eq!(
        table.last.map(|l| (l.release, l.result)),
        Some((digest(release), ending)),
        "{label}"
    );
    assert_eq!(table.poisoned(&digest(release)), expected_poison(step, ending), "{label}");
    assert_eq!(device.engine, Some((Place::Slot(SlotId::A), 1)), "{label}");
    assert_eq!(device.machine.phase(), Phase::Idle, "{label}");
    assert_eq!((table.version_floor, table.serving), (0, Some(SlotId::A)), "{label}");
    if step != "admit" {
        let (Ending::Failed(why) | Ending::RolledBack(why)) = ending else { panic!("{label}") };
        assert_eq!(table.slot(SlotId::B).state, SlotState::Bad(why), "{label}");
    }
}

#[test]
fn the_reasons_are_sorted() {
    for reason in REASONS {
        assert_eq!(reason.is_verdict(), VERDICTS.contains(&reason), "{reason:?}");
        assert_eq!(reason.is_transient(), PASSING.contains(&reason), "{reason:?}");
    }
}
