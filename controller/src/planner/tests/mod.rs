//! Tables of what a person would expect of a plan; `random` holds down what must hold of
//! every plan.

mod gates;
mod held;
mod obeyed;
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::reason::Reason;

use super::*;

const NOW_S: u64 = 1_000_000;

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn model(n: u8) -> ModelName {
    ModelName::new(["digits", "faces"][usize::from(n % 2)]).unwrap()
}

fn id(n: usize) -> DeviceId {
    DeviceId::new(&format!("cam-{n:02}")).unwrap()
}

fn device(n: usize) -> DeviceFacts {
    let labels = [("site", ["a", "b"][n % 2]), ("cam", "yes")];
    DeviceFacts {
        id: id(n),
        labels: Labels::from(labels.map(|(k, v)| (k.to_owned(), v.to_owned()))).into(),
        online: true,
        hardware: HardwareClass::new(["pi4", "orin"][n % 2]).ok(),
        heard_s: Some(NOW_S),
        models: Arc::default(),
    }
}

fn facts(running: Option<u8>, assigned: Option<(u64, u8)>) -> ModelFacts {
    ModelFacts {
        reported: true,
        running: running.map(digest),
        floor: 0,
        phase: Phase::Idle,
        waiting: None,
        held: None,
        assigned: assigned.map(|(by, release)| (by, digest(release))),
    }
}

fn spec(release: u8, phases: &[(Size, u64)]) -> RolloutSpec {
    RolloutSpec {
        phases: phases.iter().map(|(size, soak_s)| PhaseSpec::new(*size, *soak_s)).collect(),
        max_unavailable: Size::Percent(100),
        // They have tables of their own, in `gates`.
        gates: Vec::new(),
        ..RolloutSpec::new(model(0), digest(release), Version::new("v").unwrap(), Selector::all())
    }
    .checked()
    .unwrap()
}

fn input(devices: usize, rollouts: Vec<(u64, RolloutSpec)>) -> Input {
    Input {
        now_s: NOW_S,
        listening_since_s: Some(0),
        devices: (0..devices).map(device).collect(),
        rollouts: rollouts
            .into_iter()
            .map(|(id, spec)| RolloutFacts {
                id,
                spec,
                state: RolloutState::Running { phase: 0 },
                members: None,
                deployments: BTreeMap::new(),
                looks: Default::default(),
                evidence: None,
            })
            .collect(),
        releases: (0..4)
            .map(|n| ReleaseFacts {
                digest: digest(n),
                version: Version::new(&format!("v{n}")).unwrap(),
                counter: u64::from(n) + 1,
                bytes: 1000,
            })
            .collect(),
        known_bad: Vec::new(),
    }
}

/// Plans, checks, and carries out.
fn go(input: &mut Input) -> Plan {
    let plan = plan_and_check(input);
    apply(input, &plan);
    plan
}

fn judge(input: &mut Input, verdict: Verdict) {
    let now_s = input.now_s;
    for deployment in input.rollouts.iter_mut().flat_map(|r| r.deployments.values_mut()) {
        if deployment.verdict.is_none() {
            deployment.verdict = Some(verdict);
            deployment.verdict_s = now_s;
        }
    }
}

fn why(plan: &Plan, device: usize) -> &'static str {
    plan.report.iter().find(|r| r.device == id(device)).unwrap().why.code()
}

fn later(input: &mut Input, seconds: u64) {
    input.now_s += seconds;
    for device in input.devices.iter_mut().filter(|d| d.online) {
        device.heard_s = Some(input.now_s);
    }
}

#[test]
fn phases_fill_soak_and_follow_each_other() {
    let phases = [(Size::Count(1), 60), (Size::Percent(50), 0)];
    let mut world = input(10, vec![(1, spec(1, &phases))]);
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 1);
    assert_eq!(plan.report.iter().filter(|r| r.why.code() == "NOT_YOUR_PHASE").count(), 9);
    assert!(go(&mut world).orders.is_empty());
    judge(&mut world, Verdict::Confirmed);
    assert!(go(&mut world).orders.is_empty(), "it soaks");
    later(&mut world, 59);
    assert!(go(&mut world).orders.is_empty(), "it soaks");
    later(&mut world, 1);
    assert_eq!(go(&mut world).orders.len(), 4);
    judge(&mut world, Verdict::Confirmed);
    assert_eq!(go(&mut world).orders.len(), 5);
    assert_eq!(world.rollouts[0].state, RolloutState::Running { phase: 2 });
    judge(&mut world, Verdict::Confirmed);
    go(&mut world);
    assert_eq!(world.rollouts[0].state, RolloutState::Succeeded);
}

#[test]
fn the_first_failure_halts_and_nobody_follows() {
    let mut world = input(10, vec![(1, spec(1, &[(Size::Count(2), 0)]))]);
    go(&mut world);
    judge(&mut world, Verdict::RolledBack(Reason::HealthCollapse));
    let plan = go(&mut world);
    assert_eq!(plan.orders, []);
    let RolloutState::Halted { why, device, reason } = &world.rollouts[0].state else {
        panic!("{:?}", world.rollouts[0].state)
    };
    assert!(why.contains("collapsed to one class"), "{why}");
    assert!(device.is_some());
    assert_eq!(*reason, Some(Reason::HealthCollapse));
    let codes: Vec<_> = plan.report.iter().map(|r| r.why.code()).collect();
    assert_eq!(codes.iter().filter(|c| **c == "ROLLED_BACK").count(), 2);
    assert_eq!(codes.iter().filter(|c| **c == "HALTED").count(), 8);
    later(&mut world, 1_000_000);
    assert_eq!(go(&mut world).orders, []);
}

#[test]
fn tolerated_failures_and_shares() {
    let check = |failures_max, percent, failed: usize, expected: &str| {
        let mut spec = spec(1, &[]);
        (spec.failures_max, spec.success_percent_min) = (failures_max, percent);
        let mut world = input(10, vec![(1, spec)]);
        go(&mut world);
        for deployment in world.rollouts[0].deployments.values_mut().take(failed) {
            deployment.verdict = Some(Verdict::Failed(Reason::Golden));
        }
        judge(&mut world, Verdict::Confirmed);
        go(&mut world);
        assert_eq!(world.rollouts[0].state.word(), expected, "{failures_max} {percent} {failed}");
    };
    check(0, 100, 0, "succeeded");
    check(0, 100, 1, "halted");
    check(3, 70, 3, "succeeded");
    check(3, 80, 3, "halted");
    check(2, 50, 3, "halted");
    check(10, 100, 1, "halted");
}

#[test]
fn silence_is_unknown_then_a_failure_and_our_own_outage_is_neither() {
    let mut world = input(3, vec![(1, spec(1, &[]))]);
    go(&mut world);
    let one = world.rollouts[0].deployments.keys().next().cloned().unwrap();
    for (device, deployment) in &mut world.rollouts[0].deployments {
        if *device != one {
            deployment.verdict = Some(Verdict::Confirmed);
        }
    }
    world.devices.iter_mut().find(|d| d.id == one).unwrap().online = false;
    later(&mut world, spec::OFFLINE_AFTER_S_DEFAULT + 1);
    let plan = go(&mut world);
    assert!(matches!(plan.rollouts[0].gate, Gate::Inconclusive(_)), "{:?}", plan.rollouts[0]);
    assert!(plan.report.iter().any(|r| r.why.code() == "SILENT_IN_PROGRESS" && r.device == one));
    // Our own outage: nobody is blamed for it.
    let outage = Input { listening_since_s: None, now_s: world.now_s + (1 << 30), ..world.clone() };
    assert!(plan_and_check(&outage).changes.is_empty());
    let after = Input { listening_since_s: Some(outage.now_s), ..outage };
    assert!(plan_and_check(&after).changes.is_empty());
    later(&mut world, spec::DEVICE_TIMEOUT_S_DEFAULT);
    let plan = go(&mut world);
    let verdict = Verdict::Silent;
    assert_eq!(plan.changes[0], Change::TimedOut { rollout: 1, device: one.clone(), verdict });
    assert_eq!(world.rollouts[0].state.word(), "halted");
}

#[test]
fn offline_devices_are_waited_for_and_not_ordered() {
    let mut world = input(3, vec![(1, spec(1, &[]))]);
    world.devices[1].online = false;
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 2);
    assert_eq!(why(&plan, 1), "OFFLINE");
    judge(&mut world, Verdict::Confirmed);
    go(&mut world);
    assert_eq!(world.rollouts[0].state.word(), "running");
    world.devices[1].online = true;
    assert_eq!(go(&mut world).orders.len(), 1);
}

#[test]
fn aborting_turns_back_what_is_in_flight() {
    let mut world = input(4, vec![(1, spec(1, &[]))]);
    Arc::make_mut(&mut world.devices[0].models).insert(model(0), facts(Some(0), None));
    Arc::make_mut(&mut world.devices[1].models).insert(model(0), facts(None, None));
    Arc::make_mut(&mut world.devices[3].models).insert(model(0), facts(Some(0), None));
    go(&mut world);
    let deployments = &mut world.rollouts[0].deployments;
    deployments.get_mut(&id(3)).unwrap().verdict = Some(Verdict::Confirmed);
    world.rollouts[0].state = RolloutState::Aborted;
    let plan = go(&mut world);
    let wishes: Vec<_> = plan.orders.iter().map(|o| (o.device.clone(), o.wish)).collect();
    let expected = [
        (id(0), Wish::Rollback(digest(0))),
        (id(1), Wish::Remove(digest(1))),
        (id(2), Wish::Withdraw),
    ];
    assert_eq!(wishes, expected);
    assert_eq!(go(&mut world).orders, []);
    assert_eq!(why(&go(&mut world), 0), "REVERTED");
    assert_eq!(why(&go(&mut world), 3), "CONFIRMED");
}

#[test]
fn two_rollouts_of_one_model_never_meet_on_a_device() {
    let mut world = input(4, vec![(1, spec(1, &[(Size::Count(2), 0)]))]);
    go(&mut world);
    let first: Vec<_> = world.rollouts[0].deployments.keys().cloned().collect();
    world.rollouts.push(input(0, vec![(2, spec(2, &[]))]).rollouts.remove(0));
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 2, "{plan:?}");
    assert!(plan.orders.iter().all(|o| o.rollout == 2 && !first.contains(&o.device)));
    let of = |rollout, device: &DeviceId| {
        plan.report.iter().find(|r| r.rollout == rollout && r.device == *device).unwrap().why.code()
    };
    assert_eq!(of(2, &first[0]), "HELD_BY_OTHER_ROLLOUT");
    assert_eq!(of(1, &plan.orders[0].device), "TAKEN_BY_NEWER_ROLLOUT");
    judge(&mut world, Verdict::Confirmed);
    let plan = go(&mut world);
    assert_eq!(plan.orders.len(), 2, "the first rollout let them go");
    assert_eq!(world.rollouts[0].state.word(), "succeeded");
}

#[test]
fn who_cannot_or_need_not_take_it_is_left_out_with_the_reason() {
    let mut world = input(4, vec![(1, spec(1, &[]))]);
    Arc::make_mut(&mut world.devices[0].models).insert(model(0), facts(Some(1), None));
    Arc::make_mut(&mut world.devices[1].models)
        .insert(model(0), ModelFacts { floor: 3, ..facts(Some(3), None) });
    for n in 0..8 {
        let name = ModelName::new(&format!("m{n}")).unwrap();
        Arc::make_mut(&mut world.devices[2].models).insert(name, facts(Some(0), Some((0, 0))));
    }
    let plan = go(&mut world);
    let codes: Vec<_> = (0..4).map(|n| why(&plan, n)).collect();
    assert_eq!(codes, ["ALREADY_RUNS", "BELOW_FLOOR", "TOO_MANY_MODELS", "ORDERED"]);
    assert_eq!(plan.rollouts[0].total, 2);
}

#[test]
fn a_release_that_is_not_known_any_more_pauses() {
    let mut world = input(2, vec![(1, spec(1, &[]))]);
    world.releases.clear();
    let plan = go(&mut world);
    assert!(matches!(
        world.rollouts[0].state,
        RolloutState::Paused { by: PausedBy::Inconclusive(_), .. }
    ));
    assert!(matches!(plan.rollouts[0].gate, Gate::Inconclusive(_)));
}

#[test]
fn specifications_are_checked() {
    assert_eq!("5%".parse(), Ok(Size::Percent(5)));
    assert_eq!("12".parse(), Ok(Size::Count(12)));
    for text in ["", "0", "0%", "101%", "-1", "x", "5 %"] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
    let good = || spec(1, &[]);
    let check = |change: fn(&mut RolloutSpec), expected: &str| {
        let mut spec = good();
        change(&mut spec);
        let error = spec.checked().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|s| s.success_percent_min = 0, "use 1 to 100");
    check(|s| s.max_unavailable = Size::Count(0), "max-unavailable");
    check(|s| s.device_timeout_s = 1, "device-timeout 1 s");
    check(|s| s.phases.insert(0, PhaseSpec::new(Size::Count(0), 0)), "phase 1");
    check(
        |s| s.phases = [50, 10].map(|p| PhaseSpec::new(Size::Percent(p), 0)).into(),
        "phase 2 is smaller",
    );
    assert_eq!(good().phases.len(), 1);
}
